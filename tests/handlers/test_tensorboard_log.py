# SPDX-License-Identifier: Apache-2.0
"""Tests of the event files, read back as TensorBoard does."""

from __future__ import annotations

import io
import math

import numpy as np
import pytest
import torch
from ignite.engine import Engine, Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from monai.transforms import AsDiscreted, NormalizeIntensity
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from monai_sam2unet.evaluation.overlay import CLASS_COLOURS
from monai_sam2unet.handlers import TensorBoardLog, draw_overlay
from monai_sam2unet.handlers.tensorboard_log import IMAGENET_MEAN, IMAGENET_STD

CPU = torch.device("cpu")
PIXELS = np.random.default_rng(0).integers(0, 256, (5, 3, 12, 16)).astype(np.float32)
LABELS = np.zeros((5, 1, 12, 16), np.float32)
LABELS[:, :, 3:9, 4:12] = 1


def train(folder, epochs=3, interval=1, done=0, **options):
    """Train on five images and validate on them; gives what was logged, the losses, and the network.

    So many epochs are ``done``: the training is resumed after them.
    """
    normalise = NormalizeIntensity(IMAGENET_MEAN, IMAGENET_STD, channel_wise=True)
    items = [{"image": normalise(i.copy()), "label": torch.tensor(m)} for i, m in zip(PIXELS, LABELS, strict=True)]
    network = nn.Conv2d(3, 1, 1)
    network.load_state_dict({"weight": torch.eye(3)[:1, :, None, None], "bias": torch.zeros(1)})
    optimizer = torch.optim.SGD(network.parameters(), lr=1e-6)
    validator = SupervisedEvaluator(
        CPU, DataLoader(Dataset(items), batch_size=2), network, postprocessing=AsDiscreted("pred", threshold=0.0)
    )
    validator.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(val_mean_dice=torch.tensor(e.state.epoch / 10))
    )
    trainer = SupervisedTrainer(
        device=CPU,
        max_epochs=epochs,
        train_data_loader=DataLoader(Dataset(items), batch_size=3),
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        train_handlers=[
            ValidationHandler(interval, validator),
            TensorBoardLog(folder, validator, **options),
            LrScheduleHandler(torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.5), print_lr=False),
        ],
    )
    losses = []
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda e: losses.append(float(e.state.output[0]["loss"])))

    @trainer.on(Events.STARTED)
    def resume(engine):
        engine.state.epoch, engine.state.iteration = done, done * engine.state.epoch_length

    trainer.run()
    events = EventAccumulator(str(folder), {"scalars": 0, "images": 0})
    events.Reload()
    return events, losses, network


def scalars(events, tag):
    return [(event.step, pytest.approx(event.value)) for event in events.Scalars(tag)]


def test_curves(tmp_path):
    events, losses, _ = train(tmp_path / "new" / "runs")
    assert set(events.Tags()["scalars"]) == {"train/loss", "train/learning_rate", "validation/val_mean_dice"}
    assert len(losses) == 6
    assert scalars(events, "train/loss") == list(enumerate(losses, start=1))
    assert scalars(events, "train/learning_rate") == [(1, 1e-6), (2, 5e-7), (3, 2.5e-7)]
    assert scalars(events, "validation/val_mean_dice") == [(1, 0.1), (2, 0.2), (3, 0.3)]


def test_validation_is_logged_where_it_was_done(tmp_path):
    events, _, _ = train(tmp_path, epochs=5, interval=2)
    assert scalars(events, "validation/val_mean_dice") == [(2, 0.2), (4, 0.4)]
    assert [event.step for event in events.Images("validation/0")] == [2, 4]


def test_a_resumed_training_goes_on_with_the_curves(tmp_path):
    _, before, _ = train(tmp_path, epochs=3)
    events, after, _ = train(tmp_path, epochs=4, done=2)
    assert len(after) == 4
    # The third epoch, which was done again, is there once.
    assert scalars(events, "train/loss") == list(enumerate([*before[:4], *after], start=1))
    assert [step for step, _ in scalars(events, "train/learning_rate")][-2:] == [3, 4]
    assert [event.step for event in events.Images("validation/0")][-2:] == [3, 4]


@pytest.mark.parametrize(("options", "count"), [({}, 4), ({"max_images": 3}, 3), ({"max_images": 9}, 5)])
def test_number_of_images(tmp_path, options, count):
    events, _, _ = train(tmp_path, epochs=2, **options)
    assert events.Tags()["images"] == [f"validation/{number}" for number in range(count)]
    assert [event.step for event in events.Images("validation/0")] == [1, 2]


def test_no_images(tmp_path):
    assert train(tmp_path, epochs=1, max_images=0)[0].Tags()["images"] == []


def test_images_are_overlays_of_the_images_as_they_were(tmp_path):
    events, _, network = train(tmp_path, epochs=1)
    shape = (-1, 1, 1)
    for number in range(4):
        (event,) = events.Images(f"validation/{number}")
        found = np.asarray(Image.open(io.BytesIO(event.encoded_image_string)))
        normalised = (PIXELS[number] - np.reshape(IMAGENET_MEAN, shape)) / np.reshape(IMAGENET_STD, shape)
        with torch.no_grad():
            prediction = network(torch.tensor(normalised).float()[None])[0, 0] > 0
        assert 0.1 < prediction.float().mean() < 0.9
        pixels = PIXELS[number].astype(np.uint8).transpose(1, 2, 0)
        np.testing.assert_array_equal(found, draw_overlay(pixels, prediction.numpy(), LABELS[number, 0]))


def test_the_validator_alone_logs_nothing(tmp_path):
    validator = SupervisedEvaluator(
        CPU, DataLoader(Dataset([{"image": torch.zeros(3, 4, 4), "label": torch.zeros(1, 4, 4)}])), nn.Conv2d(3, 1, 1)
    )
    network = nn.Conv2d(3, 1, 1)
    SupervisedTrainer(
        device=CPU,
        max_epochs=1,
        train_data_loader=[],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=1.0),
        loss_function=nn.MSELoss(),
        epoch_length=1,
        train_handlers=[TensorBoardLog(tmp_path / "runs", validator)],
    )
    validator.run()
    assert not (tmp_path / "runs").exists()


def test_classes_are_drawn_and_the_background_is_not(tmp_path):
    classes = np.zeros((12, 16), np.uint8)
    classes[2:6, 2:8], classes[7:10, 8:14] = 1, 2
    one_hot = torch.from_numpy(np.stack([classes == k for k in range(3)])).float()
    item = {"image": torch.zeros(3, 12, 16), "label": one_hot, "pred": one_hot}
    validator = Engine(lambda *_: [item])
    trainer = Engine(lambda *_: [{"loss": 0.0}])
    trainer.optimizer = torch.optim.SGD([torch.zeros(1)], lr=0.1)
    validator.add_event_handler(
        Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(val_dice_liver=0.5, val_dice_spleen=math.nan)
    )
    trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: validator.run([0]))
    TensorBoardLog(tmp_path, validator).attach(trainer)
    trainer.run([0])
    events = EventAccumulator(str(tmp_path), {"images": 0})
    events.Reload()
    drawn = np.asarray(Image.open(io.BytesIO(events.Images("validation/0")[0].encoded_image_string)))
    pixels = np.broadcast_to(np.round(IMAGENET_MEAN).astype(np.uint8), (12, 16, 3))
    assert {tag for tag in events.Tags()["scalars"] if "val" in tag} == {"validation/val_dice_liver"}
    assert (drawn == draw_overlay(pixels, classes, classes, colours=CLASS_COLOURS)).all()

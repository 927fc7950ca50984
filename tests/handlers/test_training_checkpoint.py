# SPDX-License-Identifier: Apache-2.0
"""Tests of writing checkpoints and resuming from them, in real trainings of a tiny network."""

from __future__ import annotations

import logging
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, ValidationHandler
from torch import nn

from monai_sam2unet.bundle import cosine_schedule
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import CheckpointError, ConfigError
from monai_sam2unet.handlers import TrainingCheckpoint, WeightAverage, save_atomically
from monai_sam2unet.networks.light_checkpoint import LIGHT_FORMAT

CPU = torch.device("cpu")


class Network(nn.Module):
    """A frozen encoder and a trained head."""

    def __init__(self, encoder_seed=0):
        super().__init__()
        torch.manual_seed(encoder_seed)
        self.encoder = nn.Conv2d(1, 2, 1).requires_grad_(False)
        torch.manual_seed(1)
        self.head = nn.Conv2d(2, 1, 1)

    def forward(self, x):
        return self.head(self.encoder(x))


class Training:
    """Trainer, validator with scripted metrics and checkpoint, as a bundle puts them together."""

    def __init__(
        self, folder, metrics, *, epochs=None, interval=1, network=None, learning_rate=0.1, planned=5, **options
    ):
        items = [{"image": torch.full((1, 2, 2), n / 4), "label": torch.full((1, 2, 2), 9.0)} for n in range(4)]
        loader = DataLoader(Dataset(items), batch_size=2)
        self.network = network or Network()
        self.optimizer = torch.optim.AdamW([p for p in self.network.parameters() if p.requires_grad], learning_rate)
        self.scheduler = cosine_schedule(self.optimizer, planned)
        self.validator = SupervisedEvaluator(CPU, loader, self.network)
        self.validator.add_event_handler(
            Events.EPOCH_COMPLETED, lambda e: e.state.metrics.update(val_mean_dice=metrics[e.state.epoch - 1])
        )
        self.checkpoint = TrainingCheckpoint(
            folder, self.network, self.optimizer, self.scheduler, self.validator, **options
        )
        handlers = [
            ValidationHandler(interval, self.validator),
            LrScheduleHandler(self.scheduler, print_lr=False),
            self.checkpoint,
        ]
        self.trainer = SupervisedTrainer(
            device=CPU,
            max_epochs=epochs or len(metrics),
            train_data_loader=loader,
            network=self.network,
            optimizer=self.optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=handlers,
        )

    def run(self):
        self.trainer.run()
        return self


def load(path):
    return torch.load(path, weights_only=True)


def assert_same(found, expected):
    """Equality of nested states; tensors bit by bit."""
    if isinstance(expected, dict):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            assert_same(found[key], value)
    elif isinstance(expected, torch.Tensor):
        assert torch.equal(found, expected)
    else:
        assert found == expected


# ---- writing


def test_best_weights_are_kept_on_improvement_only(tmp_path):
    training = Training(tmp_path, [0.2, 0.5, 0.4, math.nan, 0.5, 0.6])
    heads, kept = {}, {}

    def note(engine):
        heads[engine.state.epoch] = training.network.head.weight.detach().clone()
        kept[engine.state.epoch] = load(tmp_path / "model.pt")["head.weight"]

    training.trainer.add_event_handler(Events.EPOCH_COMPLETED, note)
    training.run()
    best = {epoch: next(e for e, head in heads.items() if torch.equal(head, kept[epoch])) for epoch in kept}
    assert best == {1: 1, 2: 2, 3: 2, 4: 2, 5: 2, 6: 6}
    last = load(tmp_path / "last.pt")
    assert (last["epoch"], last["best_epoch"], last["best_metric"]) == (6, 6, 0.6)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "model.pt"]


def test_the_first_weights_are_kept_even_without_a_metric(tmp_path):
    Training(tmp_path, [math.nan, math.nan]).run()
    assert load(tmp_path / "last.pt")["best_epoch"] == 1
    Training(tmp_path, [math.nan, 0.0]).run()
    assert load(tmp_path / "last.pt")["best_epoch"] == 2


def test_a_metric_of_an_earlier_epoch_does_not_count(tmp_path):
    training = Training(tmp_path, [0.0, 0.3, 0.9, 0.2, 0.9], interval=2).run()
    assert (training.checkpoint.best_epoch, training.checkpoint.best_metric) == (2, 0.3)
    assert_same(load(tmp_path / "last.pt")["network"], dict(training.network.state_dict()))
    assert load(tmp_path / "last.pt")["epoch"] == 5


def test_without_any_validation_the_last_weights_are_kept(tmp_path, caplog):
    training = Training(tmp_path, [0.5], interval=2).run()
    assert load(tmp_path / "last.pt")["best_epoch"] == 0
    assert_same(load(tmp_path / "model.pt"), dict(training.network.state_dict()))
    assert "No epoch was validated" in caplog.text


def test_a_metric_that_does_not_exist_is_an_error(tmp_path):
    training = Training(tmp_path, [0.5])
    training.checkpoint.metric = "val_mean_dise"
    with pytest.raises(ConfigError, match="val_mean_dise"):
        training.run()


def test_full_weights_fit_the_network(tmp_path):
    training = Training(tmp_path, [0.5]).run()
    assert_same(load(tmp_path / "model.pt"), dict(training.network.state_dict()))


def test_light_files_hold_what_was_trained(tmp_path):
    training = Training(tmp_path, [0.5], light=True).run()
    content = load(tmp_path / "model.pt")
    assert content["format"] == LIGHT_FORMAT
    assert set(content["state_dict"]) == {"head.weight", "head.bias"}
    assert torch.equal(content["state_dict"]["head.weight"], training.network.head.weight)
    assert_same(load(tmp_path / "last.pt")["network"], content)


def test_replacing_an_earlier_training_is_told(tmp_path, caplog):
    with caplog.at_level(logging.WARNING, "monai_sam2unet"):
        Training(tmp_path, [0.5]).run()
        assert not caplog.records
        Training(tmp_path, [0.5]).run()
    assert "model.pt of an earlier training will be replaced" in caplog.text


FULL_DISK = """
import resource, sys
from pathlib import Path
import torch
from monai_sam2unet.errors import CheckpointError
from monai_sam2unet.handlers import save_atomically

path = Path(sys.argv[1])
save_atomically({"weights": torch.ones(8)}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000))
for size in (30_000, 3_000_000):
    try:
        save_atomically({"weights": torch.zeros(size)}, path)
    except CheckpointError as error:
        print(error)
"""


def test_a_full_disk_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.pt"
    command = [sys.executable, "-W", "ignore", "-c", FULL_DISK, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    messages = done.stdout.splitlines()
    assert len(messages) == 2
    for message in messages:
        assert f"The checkpoint {path} could not be written: [Errno 27] File too large" in message
        assert "What was there before is unchanged" in message
    assert torch.equal(load(path)["weights"], torch.ones(8))
    assert [p.name for p in tmp_path.iterdir()] == ["model.pt"]


def test_a_missing_folder_is_told(tmp_path):
    with pytest.raises(CheckpointError, match=r"could not be written: .*No such file.*or give another place\.$"):
        save_atomically({}, tmp_path / "nowhere" / "model.pt")
    with pytest.raises(CheckpointError, match=r"What was there before is unchanged\. Use --other\.$"):
        save_atomically({}, tmp_path / "nowhere" / "model.pt", advice="Use --other.")


# ---- resuming


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("metrics", [[0.2, 0.6, 0.5, 0.4], [0.2, 0.3, 0.5, 0.4]])
def test_a_resumed_training_ends_as_one_without_a_break(tmp_path, light, metrics):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    whole.mkdir()
    broken.mkdir()
    expected = Training(whole, metrics, light=light).run()
    Training(broken, metrics, epochs=2, light=light).run()
    resumed = Training(broken, metrics, light=light, resume=True)
    epochs = []
    resumed.trainer.add_event_handler(Events.EPOCH_STARTED, lambda e: epochs.append((e.state.epoch, e.state.iteration)))
    resumed.run()
    assert epochs == [(3, 4), (4, 6)]
    assert resumed.trainer.state.iteration == expected.trainer.state.iteration == 8
    for name in ("last.pt", "model.pt"):
        assert_same(load(broken / name), load(whole / name))
    assert_same(dict(resumed.network.state_dict()), dict(expected.network.state_dict()))


def test_resuming_a_finished_training_changes_nothing(tmp_path):
    Training(tmp_path, [0.5, 0.4]).run()
    before = (tmp_path / "last.pt").read_bytes()
    again = Training(tmp_path, [0.5, 0.4], resume=True).run()
    assert again.trainer.state.epoch == 2
    assert (tmp_path / "last.pt").read_bytes() == before


def test_nothing_to_resume_from(tmp_path):
    with pytest.raises(CheckpointError, match=r"There is no .*last.pt to resume from. Leave out `--resume`"):
        Training(tmp_path, [0.5], resume=True).run()


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


SPOIL = {
    "truncated": truncated,
    "empty": lambda path: path.write_bytes(b""),
    "text": lambda path: path.write_text("junk"),
    "a list": lambda path: torch.save([1, 2], path),
    "incomplete": lambda path: torch.save({"epoch": 1}, path),
    "another network": lambda path: torch.save({**load(path), "network": {"other.weight": torch.ones(1)}}, path),
    "no optimiser": lambda path: torch.save({**load(path), "optimizer": None}, path),
}


@pytest.mark.parametrize("spoil", SPOIL.values(), ids=SPOIL)
def test_a_spoilt_file_is_told(tmp_path, spoil):
    Training(tmp_path, [0.5]).run()
    spoil(tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last.pt cannot be resumed from(.|\n)*same network"):
        Training(tmp_path, [0.5, 0.6], resume=True).run()


@pytest.mark.parametrize("light", [False, True])
def test_light_and_full_files_are_not_mixed_up(tmp_path, light):
    Training(tmp_path, [0.5], light=light).run()
    with pytest.raises(CheckpointError, match=r"cannot be resumed from(.|\n)*light_checkpoints`"):
        Training(tmp_path, [0.5, 0.6], light=not light, resume=True).run()


def test_a_light_file_needs_the_same_frozen_weights(tmp_path):
    Training(tmp_path, [0.5], light=True).run()
    with pytest.raises(CheckpointError, match=r"other frozen encoder weights; give the same `--weights`") as error:
        Training(tmp_path, [0.5, 0.6], network=Network(encoder_seed=5), light=True, resume=True).run()
    assert str(error.value).startswith(f"{tmp_path / 'last.pt'} was trained on")


@pytest.mark.parametrize("learning_rate", [0.1, 0.02])
def test_a_resumed_training_follows_its_own_schedule(tmp_path, learning_rate):
    """Whatever the broken-off training planned, and however far down its learning rate had come."""
    Training(tmp_path, [0.5, 0.5], planned=2).run()
    resumed = Training(tmp_path, [0.5] * 6, planned=6, learning_rate=learning_rate, resume=True)
    rates = {}
    resumed.trainer.add_event_handler(
        Events.ITERATION_STARTED, lambda e: rates.update({e.state.epoch: resumed.optimizer.param_groups[0]["lr"]})
    )
    resumed.run()
    expected = {e: 1e-7 + (learning_rate - 1e-7) * (1 + math.cos(math.pi * (e - 1) / 6)) / 2 for e in range(3, 7)}
    assert rates == pytest.approx(expected)


# ---- with an average of the weights


@pytest.mark.parametrize("light", [False, True])
def test_the_average_is_kept_as_the_best_and_resumed(tmp_path, light):
    metrics = [0.1, 0.2, 0.3, 0.4]

    def averaged(folder, **options):
        network = Network()
        average = WeightAverage(network, 0.8)
        return Training(folder, metrics, network=network, average=average, light=light, **options)

    for name in ("whole", "parts"):
        (tmp_path / name).mkdir()
    whole = averaged(tmp_path / "whole").run()
    averaged(tmp_path / "parts", epochs=2).run()
    parts = averaged(tmp_path / "parts", resume=True).run()
    for file in ("model.pt", "last.pt"):
        assert_same(load(tmp_path / "parts" / file), load(tmp_path / "whole" / file))
    best = load(tmp_path / "whole" / "model.pt")
    best = best["state_dict"] if light else best
    assert torch.equal(best["head.weight"], whole.checkpoint.average.network.head.weight)
    assert not torch.equal(best["head.weight"], whole.network.head.weight)
    assert parts.checkpoint.average.steps == 8


def test_an_average_needs_one_to_resume_from(tmp_path):
    Training(tmp_path, [0.1]).run()
    network = Network()
    training = Training(tmp_path, [0.1, 0.2], network=network, average=WeightAverage(network, 0.8), resume=True)
    with pytest.raises(CheckpointError, match="--ema_decay"):
        training.run()


# ---- the cases beside it

CASES = TrainingCases({"ab": "images/1.png"}, {"cd": "images/2.png"}, 0, 5)
OTHERS = TrainingCases({"cd": "images/2.png"}, {"ab": "images/1.png"}, 1, 5)


def test_the_cases_lie_beside_the_weights(tmp_path):
    Training(tmp_path, [0.5, 0.6], cases=CASES).run()
    assert TrainingCases.of_checkpoint(tmp_path / "model.pt") == CASES
    assert sorted(p.name for p in tmp_path.iterdir()) == ["last.pt", "model.cases.json", "model.pt"]
    Training(tmp_path, [0.5], cases=OTHERS).run()
    assert TrainingCases.of_checkpoint(tmp_path / "model.pt") == OTHERS
    Training(tmp_path, [0.5]).run()  # one that does not tell
    assert TrainingCases.of_checkpoint(tmp_path / "model.pt") is None


def test_weights_without_a_validation_have_their_cases(tmp_path):
    Training(tmp_path, [0.5], interval=2, cases=CASES).run()
    assert TrainingCases.of_checkpoint(tmp_path / "model.pt") == CASES


def test_a_kill_never_leaves_the_cases_of_another_training(tmp_path, monkeypatch):
    Training(tmp_path, [0.5], cases=CASES).run()

    def refuse(*args, **options):
        raise CheckpointError("killed")

    monkeypatch.setattr("monai_sam2unet.handlers.atomic_file.save_atomically", refuse)
    with pytest.raises(CheckpointError, match="killed"):
        Training(tmp_path, [0.5], cases=OTHERS).run()
    assert not (tmp_path / "model.cases.json").exists()


def test_other_processes_than_the_first_write_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("ignite.distributed.get_rank", lambda: 1)
    Training(tmp_path, [0.5], cases=CASES).run()
    assert list(tmp_path.iterdir()) == []


def test_resuming_on_the_same_cases(tmp_path):
    Training(tmp_path, [0.5, 0.6], epochs=1, cases=CASES).run()
    Training(tmp_path, [0.5, 0.6], cases=CASES, resume=True).run()
    assert TrainingCases.of_checkpoint(tmp_path / "model.pt") == CASES


def test_what_the_weights_came_from_stays_unknown_in_a_resumed_training(tmp_path):
    Training(tmp_path, [0.5, 0.6], epochs=1, cases=replace(CASES, unknown=("start.pt",))).run()
    Training(tmp_path, [0.5, 0.6], cases=CASES, resume=True).run()
    found = TrainingCases.of_checkpoint(tmp_path / "model.pt")
    assert found is not None
    assert found.unknown == ("start.pt",)


def test_resuming_with_another_size_is_told(tmp_path, caplog):
    small, large = (replace(CASES, settings={"spatial_size": [size, size]}) for size in (64, 96))
    Training(tmp_path, [0.5, 0.6, 0.7], epochs=1, cases=small).run()
    Training(tmp_path, [0.5, 0.6, 0.7], epochs=2, cases=small, resume=True).run()
    assert "trained with" not in caplog.text
    Training(tmp_path, [0.5, 0.6, 0.7], epochs=3, cases=large, resume=True).run()
    assert (
        'trained with {"spatial_size": [64, 64]}, and goes on with {"spatial_size": [96, 96]}: model.pt' in caplog.text
    )
    assert TrainingCases.of_checkpoint(tmp_path / "model.pt") == large


def test_resuming_on_other_cases_is_refused(tmp_path):
    Training(tmp_path, [0.5, 0.6], epochs=1, cases=CASES).run()
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(CheckpointError, match=r"on other cases(.|\n)*--ckpt_dir") as error:
        Training(tmp_path, [0.5, 0.6], cases=OTHERS, resume=True).run()
    assert "fold: 0 of 5 then, 1 of 5 now" in str(error.value)
    assert "images/1.png: trained on then, chosen by (validation) now" in str(error.value)
    assert (tmp_path / "last.pt").read_bytes() == before
    assert TrainingCases.of_checkpoint(tmp_path / "model.pt") == CASES


def test_resuming_an_older_training_is_told(tmp_path, caplog):
    Training(tmp_path, [0.5, 0.6], epochs=1).run()
    Training(tmp_path, [0.5, 0.6], cases=CASES, resume=True).run()
    assert "does not say what was trained on" in caplog.text


VALIDATES_ON_TWO_PROCESSES = """
import os
import sys
import torch
from ignite.engine import Events
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import ValidationHandler
from torch import distributed, nn
from monai_sam2unet.bundle import cosine_schedule, distribute
from monai_sam2unet.handlers import TrainingCheckpoint, WeightAverage

rank, rendezvous, folder, decay = int(sys.argv[1]), *sys.argv[2:4], float(sys.argv[4])
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
torch.manual_seed(0)
net = nn.Sequential(nn.BatchNorm2d(1), nn.Conv2d(1, 1, 1))
average = WeightAverage(net, decay)
optimizer = torch.optim.SGD(net.parameters(), 0.1)
device = torch.device("cpu")
data = [{"image": torch.randn(2, 1, 4, 4) + 5 * rank + n, "label": torch.zeros(2, 1, 4, 4)} for n in range(3)]
validator = SupervisedEvaluator(device, data, average.network, decollate=False)
seen = []

@validator.on(Events.EPOCH_COMPLETED)
def note(engine):
    engine.state.metrics["val_mean_dice"] = float(engine.state.epoch)
    seen.append({name: value.clone() for name, value in engine.network.state_dict().items()})

checkpoint = TrainingCheckpoint(
    folder, net, optimizer, cosine_schedule(optimizer, 2), validator, average=average
)
SupervisedTrainer(
    device=device, max_epochs=2, train_data_loader=data, network=distribute(net, device), optimizer=optimizer,
    loss_function=nn.MSELoss(), decollate=False, train_handlers=[ValidationHandler(1, validator), checkpoint],
).run()
torch.save(seen, f"{folder}/seen.{rank}")
distributed.barrier()
os._exit(0)  # an ordinary end now and then aborts, on threads of torch's that are still running
"""


@pytest.mark.slow
@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_all_processes_validate_what_the_first_one_saves(on_two_processes, tmp_path, decay):
    on_two_processes(VALIDATES_ON_TWO_PROCESSES, tmp_path, decay)
    first, second = (load(tmp_path / f"seen.{rank}") for rank in range(2))
    assert len(first) == 2
    for mine, others in zip(first, second, strict=True):
        assert_same(others, mine)
    assert_same(load(tmp_path / "model.pt"), first[-1])

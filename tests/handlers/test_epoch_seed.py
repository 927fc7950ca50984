# SPDX-License-Identifier: Apache-2.0
"""Tests that an epoch's random numbers depend on seed and epoch alone, in a real training."""

from __future__ import annotations

import random

import ignite.distributed as idist
import numpy as np
import pytest
import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from monai.transforms import Compose, RandScaleIntensityd
from torch import nn

from monai_sam2unet.handlers import EpochSeed


def draws(seed=0, begin=0, epochs=3, num_workers=0):
    """The random numbers of each epoch of a training that starts after epoch ``begin``."""
    items = [{"image": torch.full((1, 2, 2), float(n)), "label": torch.zeros(1, 2, 2)} for n in range(1, 7)]
    transform = Compose([RandScaleIntensityd("image", factors=0.4, prob=1.0)])
    loader = DataLoader(Dataset(items, transform), batch_size=2, shuffle=True, num_workers=num_workers)
    network = nn.Conv2d(1, 1, 1)
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=epochs,
        train_data_loader=loader,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=nn.MSELoss(),
        train_handlers=[EpochSeed(seed)],
        decollate=False,
    )
    found = {}

    def note(engine):
        images = engine.state.batch["image"][:, 0, 0, 0].tolist()
        numbers = [random.random(), float(np.random.rand()), float(torch.rand(()))]
        found.setdefault(engine.state.epoch, []).extend(images + numbers)

    trainer.add_event_handler(Events.STARTED, lambda e: setattr(e.state, "epoch", begin))
    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run()
    return found


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_resumed_training_draws_the_same_numbers(num_workers):
    whole = draws(num_workers=num_workers)
    assert list(whole) == [1, 2, 3]
    torch.rand(5), np.random.rand(5), random.random()
    assert draws(begin=1, num_workers=num_workers) == {epoch: whole[epoch] for epoch in (2, 3)}


def test_each_number_differs_between_epochs_and_seeds():
    first, second = draws(epochs=2).values()
    (other,) = draws(seed=1, epochs=1).values()
    assert not set(first) & set(second)
    assert not set(first) & set(other)


def test_each_process_draws_its_own(monkeypatch):
    (first,) = draws(epochs=1).values()
    monkeypatch.setattr(idist, "get_rank", lambda: 1)
    (second,) = draws(epochs=1).values()
    assert not set(first) & set(second)

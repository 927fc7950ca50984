# SPDX-License-Identifier: Apache-2.0
"""Tests of what is trained and of the learning rate over the epochs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_sam2unet.bundle import cosine_schedule, trained_parameters
from monai_sam2unet.errors import ConfigError


def optimiser(rate=1e-3):
    return torch.optim.AdamW(nn.Linear(1, 1).parameters(), lr=rate)


def rates(optimizer, schedule, epochs):
    """The learning rate of each epoch, and the one after the last."""
    found = []
    for _ in range(epochs):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return [*found, optimizer.param_groups[0]["lr"]]


def cosine(rate, end, epochs):
    return [end + (rate - end) * (1 + math.cos(math.pi * epoch / epochs)) / 2 for epoch in range(epochs + 1)]


@pytest.mark.parametrize("rate", [1e-3, 0.5])
@pytest.mark.parametrize("end", [1e-7, 1e-4, 0.0])
@pytest.mark.parametrize("epochs", [1, 2, 7, 20])
def test_cosine_without_warm_up(rate, end, epochs):
    optimizer = optimiser(rate)
    found = rates(optimizer, cosine_schedule(optimizer, epochs, end_learning_rate=end), epochs)
    assert found == pytest.approx(cosine(rate, end, epochs), abs=1e-15)


@pytest.mark.parametrize(("epochs", "warmup"), [(20, 1), (20, 5), (6, 5), (2, 1)])
def test_warm_up_rises_in_a_line_from_a_tenth(epochs, warmup):
    optimizer = optimiser()
    found = rates(optimizer, cosine_schedule(optimizer, epochs, warmup, 1e-6), epochs)
    line = [1e-3 * (0.1 + 0.9 * epoch / warmup) for epoch in range(warmup)]
    assert found == pytest.approx(line + cosine(1e-3, 1e-6, epochs - warmup), abs=1e-15)


@pytest.mark.parametrize(("epochs", "warmup"), [(1, 1), (3, 3), (2, 10)])
def test_short_trainings_have_no_warm_up(epochs, warmup):
    optimizer = optimiser()
    found = rates(optimizer, cosine_schedule(optimizer, epochs, warmup), epochs)
    assert found == pytest.approx(cosine(1e-3, 1e-7, epochs), abs=1e-15)


def test_a_resumed_schedule_goes_on():
    optimizer = optimiser()
    schedule = cosine_schedule(optimizer, 10, 2)
    all_rates = rates(optimizer, schedule, 10)

    optimizer = optimiser()
    schedule = cosine_schedule(optimizer, 10, 2)
    rates(optimizer, schedule, 4)
    states = optimizer.state_dict(), schedule.state_dict()
    optimizer = optimiser()
    schedule = cosine_schedule(optimizer, 10, 2)
    optimizer.load_state_dict(states[0])
    schedule.load_state_dict(states[1])
    assert rates(optimizer, schedule, 6) == pytest.approx(all_rates[4:], abs=1e-15)


@pytest.mark.parametrize(("epochs", "warmup"), [(0, 0), (-1, 0), (5, -1)])
def test_wrong_lengths(epochs, warmup):
    with pytest.raises(ConfigError, match=f"got {epochs} and {warmup}"):
        cosine_schedule(optimiser(), epochs, warmup)


def test_frozen_parameters_are_not_trained():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    assert [id(p) for p in trained_parameters(network)] == [id(p) for p in network[1].parameters()]

# SPDX-License-Identifier: Apache-2.0
"""Tests of the average of a network's weights, in a real training."""

from __future__ import annotations

import math

import pytest
import torch
from ignite.engine import Engine, Events
from torch import nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.handlers import WeightAverage


def make_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2))


def train(network: nn.Module, average: WeightAverage, steps: int = 4) -> list[dict[str, torch.Tensor]]:
    """Train with the average attached; the network's state after each step."""
    optimizer = torch.optim.SGD(network.parameters(), 0.1)
    states = []

    def step(engine, batch):
        optimizer.zero_grad()
        network(batch).square().sum().backward()
        optimizer.step()

    trainer = Engine(step)
    average.attach(trainer)

    def note(engine):
        states.append({name: value.clone() for name, value in network.state_dict().items()})

    trainer.add_event_handler(Events.ITERATION_COMPLETED, note)
    trainer.run([torch.full((2, 1, 2, 2), float(n)).cumsum(-1) for n in range(steps)])
    return states


def test_it_is_the_moving_average_of_the_steps():
    network = make_network()
    average = WeightAverage(network, 0.9)
    states = train(network, average)
    for name, value in average.network.state_dict().items():
        if value.is_floating_point():
            expected = states[0][name]
            for state in states[1:]:
                expected = 0.9 * expected + 0.1 * state[name]
            torch.testing.assert_close(value, expected)
    assert average.steps == 4
    assert not torch.equal(average.network[0].weight, network[0].weight)


def test_a_resumed_average_goes_on_and_does_not_begin_anew():
    network = make_network()
    average = WeightAverage(network, 0.9)
    average.steps = 7
    before = average.network[0].weight.detach().clone()
    (state,) = train(network, average, steps=1)
    torch.testing.assert_close(average.network[0].weight, 0.9 * before + 0.1 * state["0.weight"])
    assert average.steps == 8


def test_without_decay_it_is_the_network_itself():
    network = make_network()
    average = WeightAverage(network)
    train(network, average)
    assert average.network is network
    assert average.steps == 0


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_wrong_decays_are_refused(decay):
    with pytest.raises(ConfigError, match=r"--ema_decay.*in \[0, 1\)"):
        WeightAverage(make_network(), decay)

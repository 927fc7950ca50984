# SPDX-License-Identifier: Apache-2.0
"""Tests of clipping gradients, in a real training."""

from __future__ import annotations

import math

import pytest
import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_sam2unet.errors import ConfigError, UserError
from monai_sam2unet.handlers import GradientClipper

RATE = 0.5


def make_network():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 2, 1), nn.Conv2d(2, 1, 1))
    network[0].bias.requires_grad_(False)
    return network


def train(network, max_norm, images):
    items = [{"image": image, "label": torch.full_like(image, 9.0)} for image in images]
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(items), batch_size=1),
        network=network,
        optimizer=torch.optim.SGD([p for p in network.parameters() if p.requires_grad], RATE),
        loss_function=nn.MSELoss(),
        train_handlers=[GradientClipper(network, max_norm)],
    )
    trainer.run()


def gradients(network, image):
    network.zero_grad()
    nn.functional.mse_loss(network(image[None]), torch.full_like(image[None], 9.0)).backward()
    return [p.grad for p in network.parameters() if p.requires_grad]


def weights(network):
    return [p.detach().clone() for p in network.parameters()]


@pytest.mark.parametrize("max_norm", [0.01, 1, 1e6, 0])
def test_the_step_is_that_of_the_clipped_gradient(max_norm):
    network, image = make_network(), torch.ones(1, 4, 4)
    before = [p.detach().clone() for p in network.parameters() if p.requires_grad]
    steep = [g.clone() for g in gradients(network, image)]
    norm = math.sqrt(sum(float(g.square().sum()) for g in steep))
    assert norm > 1
    factor = min(1, max_norm / norm) if max_norm else 1
    train(network, max_norm, [image])
    after = [p.detach() for p in network.parameters() if p.requires_grad]
    for old, new, gradient in zip(before, after, steep, strict=True):
        torch.testing.assert_close(new, old - RATE * factor * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("max_norm", [0, 1.0])
@pytest.mark.parametrize("odd", [math.nan, math.inf])
def test_a_gradient_that_is_not_finite_stops_before_the_step(max_norm, odd):
    good = torch.ones(1, 4, 4)
    network, expected = make_network(), make_network()
    train(expected, max_norm, [good])
    with pytest.raises(UserError, match=r"not finite at epoch 1, iteration 2\.(.|\n)*--learning_rate"):
        train(network, max_norm, [good, good * odd, good])
    for found, wanted in zip(weights(network), weights(expected), strict=True):
        assert torch.equal(found, wanted)
        assert found.isfinite().all()


@pytest.mark.parametrize("max_norm", [-1, math.nan, "1", None])
def test_wrong_norms(max_norm):
    with pytest.raises(ConfigError, match=r"clip_norm.*number of at least 0"):
        GradientClipper(make_network(), max_norm)

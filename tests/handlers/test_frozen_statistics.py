# SPDX-License-Identifier: Apache-2.0
"""Tests of BatchNorm that keeps its statistics, in a real training."""

from __future__ import annotations

import torch
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedTrainer
from torch import nn

from monai_sam2unet.handlers import FrozenStatistics


def make_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 1), nn.BatchNorm2d(2), nn.Dropout(0.5), nn.Conv2d(2, 1, 1))


def train(network: nn.Module, handlers: list[FrozenStatistics]) -> None:
    items = [{"image": torch.full((1, 4, 4), 5.0 + n), "label": torch.zeros(1, 4, 4)} for n in range(4)]
    SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=DataLoader(Dataset(items), batch_size=2),
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), 0.1),
        loss_function=nn.MSELoss(),
        train_handlers=handlers,
    ).run()


def test_statistics_stay_and_all_else_is_trained() -> None:
    network, plain, before = make_network(), make_network(), make_network().state_dict()
    train(network, [FrozenStatistics(network)])
    train(plain, [])
    after = network.state_dict()
    for name, value in before.items():
        kept = "running" in name or "num_batches" in name
        assert torch.equal(after[name], value) is kept, name
        assert kept is False or not torch.equal(plain.state_dict()[name], value), name
    assert network[2].training


def test_it_ends_with_the_training() -> None:
    network = make_network()
    train(network, [FrozenStatistics(network)])
    assert network[1].num_batches_tracked == 0
    network.train()(torch.randn(2, 1, 4, 4))
    assert network[1].num_batches_tracked == 1

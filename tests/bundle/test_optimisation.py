# SPDX-License-Identifier: Apache-2.0
"""Tests of what is trained and of the learning rate over the epochs."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from monai_sam2unet.bundle import cosine_schedule, distribute, optimisation, trained_parameters
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import SAM2UNet


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


def test_groups_keep_their_ratio_over_the_schedule():
    groups = [{"params": nn.Linear(1, 1).parameters(), "lr": rate} for rate in (2e-4, 1e-3)]
    optimizer = torch.optim.AdamW(groups)
    schedule = cosine_schedule(optimizer, 6, 2, 1e-6)
    expected = [1e-3 * (0.1 + 0.9 * epoch / 2) for epoch in range(2)] + cosine(1e-3, 1e-6, 4)
    for rate in expected:
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([rate / 5, rate], abs=1e-15)
        optimizer.step()
        schedule.step()


def test_frozen_parameters_are_not_trained():
    network = nn.Sequential(nn.Linear(2, 3), nn.Linear(3, 1))
    network[0].requires_grad_(False)
    assert [id(p) for p in trained_parameters(network)] == [id(p) for p in network[1].parameters()]


def network(**options):
    with torch.device("meta"):
        return SAM2UNet(**{"size": "tiny", "freeze_encoder": False, **options})


def rate_of_each(network, groups):
    names = {id(value): name for name, value in network.named_parameters()}
    rates = [(names[id(value)], group["lr"]) for group in groups for value in group["params"]]
    assert len(rates) == len(dict(rates))  # torch would refuse a parameter in two groups
    return dict(rates)


@pytest.mark.parametrize(
    ("name", "exponent"),
    [
        ("head.weight", 0),
        ("rfb1.conv_res.conv.weight", 0),
        ("encoder.blocks.0.prompt_learn.0.weight", 0),
        ("encoder.blocks.0.block.attn.qkv.lora_a", 0),
        ("encoder.blocks.11.block.attn.qkv.weight", 1),
        ("encoder.blocks.11.block.norm1.bias", 1),
        ("encoder.blocks.10.block.proj.weight", 2),
        ("encoder.blocks.1.block.mlp.layers.0.weight", 11),
        ("encoder.blocks.0.block.norm1.weight", 12),
        ("encoder.patch_embed.proj.weight", 13),
        ("encoder.pos_embed", 13),
        ("encoder.pos_embed_window", 13),
    ],
)
def test_layer_decay(name, exponent):
    net = network(lora_rank=2)
    groups = trained_parameters(net, 1e-3, 0.8)
    rates = rate_of_each(net, torch.optim.AdamW(groups, lr=1.0).param_groups)
    assert rates[name] == pytest.approx(1e-3 * 0.8**exponent)
    assert set(rates) == {name for name, value in net.named_parameters() if value.requires_grad}


def test_the_group_of_the_full_rate_comes_first():
    rates = [group["lr"] for group in trained_parameters(network(), 1e-3, 0.5)]
    assert rates == pytest.approx([1e-3 * 0.5**exponent for exponent in range(14)])


def test_layer_decay_of_what_is_trained_of_the_encoder():
    """Frozen parts are in no group: of five channels only the filters are trained."""
    net = network(freeze_encoder=True, in_channels=5)
    groups = torch.optim.AdamW(trained_parameters(net, 1e-3, 0.5)).param_groups
    rates = rate_of_each(net, groups)
    assert len(groups) == 2
    assert rates["encoder.patch_embed.proj.weight"] == pytest.approx(1e-3 * 0.5**13)
    assert set(rates) == {name for name, value in net.named_parameters() if value.requires_grad}


def test_layer_decay_of_a_distributed_network():
    net = nn.Module()
    net.module = network()
    groups = torch.optim.AdamW(trained_parameters(net, 1e-3, 0.9)).param_groups
    assert rate_of_each(net, groups)["module.encoder.blocks.11.block.norm1.bias"] == pytest.approx(9e-4)


def test_layer_decay_of_flexible_unet():
    from monai.networks.nets import FlexibleUNet

    import monai_sam2unet.networks.flexible_unet  # noqa: F401 - registers the backbone

    with torch.device("meta"):
        net = FlexibleUNet(3, 1, "sam2_hiera_tiny")
    rates = rate_of_each(net, torch.optim.AdamW(trained_parameters(net, 1e-3, 0.9)).param_groups)
    assert rates["encoder.stem.0.weight"] == 1e-3
    assert rates["encoder.hiera.blocks.11.norm1.bias"] == pytest.approx(9e-4)
    assert rates["encoder.hiera.pos_embed"] == pytest.approx(1e-3 * 0.9**13)


def test_without_layer_decay_there_are_no_groups():
    net = network()
    expected = [id(p) for p in net.parameters() if p.requires_grad]
    for arguments in ((), (1e-3,), (1e-3, 1.0)):
        assert [id(p) for p in trained_parameters(net, *arguments)] == expected


def test_a_resumed_training_keeps_its_groups():
    net = network().to_empty(device="cpu")
    optimizer = torch.optim.AdamW(trained_parameters(net, 1e-3, 0.8), lr=1e-3)
    cosine_schedule(optimizer, 4)
    net.head.bias.grad = torch.ones_like(net.head.bias)
    optimizer.step()
    other = torch.optim.AdamW(trained_parameters(net, 1e-3, 0.8), lr=1e-3)
    other.load_state_dict(optimizer.state_dict())
    assert rate_of_each(net, other.param_groups) == rate_of_each(net, optimizer.param_groups)
    assert other.state[net.head.bias]["step"] == 1


@pytest.mark.parametrize(
    ("options", "arguments", "message"),
    [
        ({}, (1e-3, 0.0), "layer_decay must lie above 0 and be at most 1, got 0.0"),
        ({}, (1e-3, 1.1), "layer_decay must lie above 0 and be at most 1, got 1.1"),
        ({}, (1e-3, math.nan), "layer_decay must lie above 0 and be at most 1, got nan"),
        ({}, (None, 0.8), "needs the learning rate"),
        ({"freeze_encoder": True}, (1e-3, 0.8), "no effect on a frozen encoder.*--freeze_encoder False"),
    ],
)
def test_wrong_layer_decay(options, arguments, message):
    with pytest.raises(ConfigError, match=message):
        trained_parameters(network(**options), *arguments)


@pytest.mark.parametrize("device", ["cpu", torch.device("cpu")])
def test_a_network_is_distributed_to_a_device_by_name(monkeypatch, device):
    monkeypatch.setattr(optimisation, "DistributedDataParallel", lambda net, device_ids: (net, device_ids))
    net = nn.Linear(1, 1)
    assert distribute(net, device) == (net, None)

# SPDX-License-Identifier: Apache-2.0
"""Tests of the probe: what it must not see, and what it must."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.networks.encoder_probe import compute_alike, probe_encoder


def network(**options):
    torch.manual_seed(0)
    return SAM2UNet(size="tiny", **options)


@pytest.fixture(scope="module")
def probe():
    return probe_encoder(network())


@pytest.mark.parametrize("options", [{"adapter_channels": 0}, {"lora_rank": 4}, {"out_channels": 3}])
def test_what_is_trained_does_not_matter(probe, options):
    net = network(**options)
    for name, value in net.named_parameters():
        if value.requires_grad:
            value.data.normal_()
        assert value.is_leaf, name
    net.train()
    assert probe_encoder(net) == pytest.approx(probe, abs=1e-6)
    assert net.training


def test_rounding_and_the_split_of_the_embedding_do_not_matter(probe):
    net = network()
    net.encoder.pos_embed.data += 0.3
    net.encoder.pos_embed_window.data -= 0.3
    assert compute_alike(probe, probe_encoder(net))


def test_the_network_stays_as_it_is(probe):
    half = network().half()
    assert probe_encoder(half) == pytest.approx(probe, abs=0.01)
    assert half.encoder.pos_embed.dtype == half.head.weight.dtype == torch.float16


NAMES = ("patch_embed.proj.weight", "pos_embed", "blocks.5.block.attn.qkv.weight", "blocks.11.block.attn.proj.weight")


@pytest.mark.parametrize("name", NAMES)
def test_other_weights_are_seen(tiny_weights, name):
    """The published weights, for random ones have layers that do next to nothing."""
    net = SAM2UNet(size="tiny", weights=str(tiny_weights))
    probe = probe_encoder(net)
    value = net.encoder.get_parameter(name)
    value.data += 0.01 * value.std() * torch.randn(value.shape, generator=torch.Generator().manual_seed(0))
    assert not compute_alike(probe, probe_encoder(net))


def test_gray_images(probe):
    assert len(probe_encoder(network(in_channels=1))) == len(probe) == 256


def test_not_a_number_is_not_alike(probe):
    assert not compute_alike(probe, [*probe[1:], float("nan")])
    assert not compute_alike(probe, probe[1:])

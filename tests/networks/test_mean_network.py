# SPDX-License-Identifier: Apache-2.0
"""Tests of several networks as one."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import MeanNetwork, SAM2UNet


def networks(out_channels: int, count: int = 3) -> list[nn.Module]:
    made = []
    for seed in range(count):
        torch.manual_seed(seed)
        made.append(SAM2UNet(size="tiny", out_channels=out_channels, deep_supervision=True).eval())
    return made


def probabilities(logits: torch.Tensor) -> torch.Tensor:
    return logits.sigmoid() if logits.shape[1] == 1 else logits.softmax(1)


@pytest.mark.parametrize("out_channels", [1, 4])
@torch.inference_mode()
def test_probabilities_are_the_mean_of_those_of_the_networks(out_channels):
    members, image = networks(out_channels), torch.randn(2, 3, 64, 64)
    expected = torch.stack([probabilities(network(image)) for network in members]).mean(0)
    torch.testing.assert_close(probabilities(MeanNetwork(members)(image)), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("out_channels", [1, 4])
@torch.inference_mode()
def test_one_network_is_itself(out_channels):
    (network,), image = networks(out_channels, 1), torch.randn(1, 3, 64, 64)
    found = probabilities(MeanNetwork([network])(image))
    torch.testing.assert_close(found, probabilities(network(image)), rtol=1e-5, atol=1e-6)


class Fixed(nn.Module):
    def __init__(self, *logits: float) -> None:
        super().__init__()
        self.logits = torch.tensor(logits).view(1, -1, 1, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.logits.to(x.dtype)


def test_certain_networks_leave_finite_logits():
    """Float32 has no probability between 1 - 6e-8 and 1: of it the logit would be infinite."""
    image = torch.zeros(1, 3, 1, 1)
    for logit in (60.0, -60.0):
        found = MeanNetwork([Fixed(logit), Fixed(logit)])(image).item()
        assert found == pytest.approx(logit)
    assert MeanNetwork([Fixed(60.0), Fixed(-60.0)])(image).item() == pytest.approx(0, abs=1e-6)
    assert MeanNetwork([Fixed(0.0, 200.0), Fixed(0.0, 200.0)])(image).isfinite().all()


def test_halves_become_float32():
    image = torch.zeros(1, 3, 1, 1, dtype=torch.bfloat16)
    assert MeanNetwork([Fixed(1.0), Fixed(2.0)])(image).dtype == torch.float32


def test_what_cannot_be_averaged():
    with pytest.raises(ConfigError, match="at least one network"):
        MeanNetwork([])
    image = torch.zeros(1, 3, 32, 32)
    with pytest.raises(ConfigError, match=r"Network 1 gives the shape \(1, 2, 1, 1\), those before it \(1, 3, 1, 1\)"):
        MeanNetwork([Fixed(0, 1, 2), Fixed(0, 1)])(image)
    with pytest.raises(ConfigError, match="call eval"):
        MeanNetwork(networks(1, 1)).train()(torch.zeros(2, 3, 32, 32))

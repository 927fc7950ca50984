# SPDX-License-Identifier: Apache-2.0
"""The score of a whole image: known values, and what raises it."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers import AutocastInferer, SliceWiseInferer, UncertaintyMaps, epistemic_score


class Given(nn.Module):
    """A network whose logits are its input, or that sees an object on the left of whatever it is given."""

    def __init__(self, left: bool = False) -> None:
        super().__init__()
        self.left = left

    def forward(self, x: Tensor) -> Tensor:
        if not self.left:
            return x
        logits = torch.full_like(x[:, :1], -20.0)
        logits[..., : x.shape[-1] // 2] = 20.0
        return logits


def logits(*probabilities: float) -> Tensor:
    """A picture (1, 1, 1, n)."""
    return torch.logit(torch.tensor(probabilities)).reshape(1, 1, 1, -1)


def score(x: Tensor, network: nn.Module, activation: str = "sigmoid") -> float:
    maps = UncertaintyMaps(network, activation, flips=["columns"])
    return epistemic_score(AutocastInferer("fp32")(x, maps)[0])


def test_flips_that_disagree_score_higher_than_those_that_agree() -> None:
    x = torch.zeros(1, 3, 4, 8)
    torch.testing.assert_close(score(x, Given(left=True)), 1.0)
    object_everywhere = torch.full((1, 1, 4, 8), 20.0)
    assert score(object_everywhere, Given()) < 1e-6


def test_only_what_a_pass_holds_for_foreground_counts() -> None:
    """Of one pixel with p = 0.75 the entropy is 0.811 bits; background beside it does not dilute it."""
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    for background in (1, 100):
        x = logits(0.75, *[0.01] * background)
        assert score(x, Given()) == pytest.approx(entropy, abs=1e-5)


def test_where_nothing_is_found_it_is_the_pixel_nearest_to_it() -> None:
    entropy = -(0.25 * math.log2(0.25) + 0.75 * math.log2(0.75))
    assert score(logits(0.25, 0.01, 0.001), Given()) == pytest.approx(entropy, abs=1e-5)
    assert score(logits(1e-9, 1e-9), Given()) < 1e-6


def test_of_several_classes_it_is_a_share_of_the_largest_entropy() -> None:
    even = torch.zeros(1, 4, 2, 2)
    even[:, 1] += 1e-3  # no background
    assert score(even, Given(), "softmax") == pytest.approx(1.0, abs=1e-5)
    two_of_four = torch.full((1, 4, 2, 2), -50.0)
    two_of_four[:, 1:3] = 0
    assert score(two_of_four, Given(), "softmax") == pytest.approx(0.5, abs=1e-5)


def test_volumes_are_scored_slice_by_slice() -> None:
    inferer = SliceWiseInferer(spatial_dim=2, activation="identity", precision="fp32")
    maps = UncertaintyMaps(Given(left=True).eval(), "sigmoid", flips=["columns"])
    found = inferer(torch.zeros(1, 1, 8, 4, 3), maps)
    assert found.shape == (1, 2, 8, 4, 3)
    assert epistemic_score(found[0]) == pytest.approx(1.0)


def test_what_cannot_be_scored_is_told() -> None:
    with pytest.raises(ConfigError, match="add flips or scales"):
        UncertaintyMaps(Given(), "sigmoid")
    with pytest.raises(ConfigError, match="sigmoid or softmax, got 'identity'"):
        UncertaintyMaps(Given(), "identity", flips=["rows"])

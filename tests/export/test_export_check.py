# SPDX-License-Identifier: Apache-2.0
"""The check of an exported file finds what differs."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.export import check_export, network_facts
from monai_sam2unet.export.export_check import CHECKED_SIZES

from .conftest import random_images


def test_a_good_file(network, script_file) -> None:
    image = random_images((1, 40, 50))
    steps = []
    rows = check_export(
        script_file, network, [(2, 64, 96), (1, 33, 47)], images=[image], on_size=lambda: steps.append(1)
    )
    assert [row.shape for row in rows] == [(2, 3, 64, 96), (1, 3, 33, 47), (1, 3, 40, 50)]
    assert len(steps) == 3
    with torch.no_grad():
        exact = copy.deepcopy(network).double()(image.double())
        difference = (torch.jit.load(script_file)(image).double() - exact).abs().max()
    assert rows[2].largest == pytest.approx(exact.abs().max().item())
    assert rows[2].difference == pytest.approx(difference.item(), rel=0.5)
    assert rows[2].relative == rows[2].difference / rows[2].largest < 1e-5
    assert all(row.changed == 0 for row in rows)
    assert network.head.weight.dtype == torch.float32


def test_five_sizes_by_default() -> None:
    assert len(CHECKED_SIZES) == 5
    assert any(batch > 1 for batch, _, _ in CHECKED_SIZES)
    assert any(height % 32 or width % 32 for _, height, width in CHECKED_SIZES)


def test_another_network_is_found_out(network, script_file) -> None:
    other = copy.deepcopy(network)
    with torch.no_grad():
        other.head.bias[0] += 1e-3
    with pytest.raises(WeightsError, match=r"of which 1e-05 is allowed:\n  \(1, 3, 64, 64\): "):
        check_export(script_file, other, [(1, 64, 64)])
    (row,) = check_export(script_file, other, [(1, 64, 64)], tolerance=None)
    assert row.difference == pytest.approx(1e-3, rel=0.05)


class Fixed(nn.Module):
    """Gives the same value everywhere, and takes one size only."""

    input_shape = (None, 3, 64, 64)

    def __init__(self, value: float) -> None:
        super().__init__()
        self.value = value

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[1:] == (3, 64, 64)
        return torch.full((len(x), 2, 64, 64), self.value)


def test_fixed_sizes_are_taken_once_and_nan_is_refused(network) -> None:
    rows = check_export(Fixed(1e6), network, tolerance=None)
    assert [row.shape for row in rows] == [(1, 3, 64, 64), (2, 3, 64, 64), (3, 3, 64, 64)]
    with torch.no_grad():
        share = (network(random_images((1, 64, 64))) <= 0).float().mean()
    assert share > 0
    assert all(row.changed > 0 for row in rows)
    for tolerance in (1e-5, None):
        with pytest.raises(WeightsError, match="nan"):
            check_export(Fixed(float("nan")), network, [(1, 64, 64)], tolerance=tolerance)


def test_other_shapes_are_refused(network) -> None:
    one_class = torch.nn.Conv2d(3, 1, 1)
    with pytest.raises(WeightsError, match=r"logits \(1, 1, 64, 64\) where the network gives \(1, 2, 64, 64\)"):
        check_export(one_class, network, [(1, 64, 64)], tolerance=None)


def test_metadata_cannot_say_what_the_export_says(network) -> None:
    with pytest.raises(ConfigError, match="must not hold encoder_size"):
        network_facts(network, {"encoder_size": "large"})

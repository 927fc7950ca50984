# SPDX-License-Identifier: Apache-2.0
"""Tests of the check that volumes lie on one grid."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.same_grid import check_same_grid

AFFINE = torch.diag(torch.tensor([1.0, 2.0, 5.0, 1.0], dtype=torch.float64))


def volume(affine=AFFINE, shape=(100, 50, 20), channels=1):
    return MetaTensor(torch.zeros(channels, *shape, dtype=torch.bool), affine=affine)


def test_rounding_passes():
    rounded = AFFINE.clone()
    rounded[0, 0] += 1e-5
    rounded[1, 3] += 0.04
    check_same_grid({"a": volume(), "b": volume(rounded, channels=3), "c": volume().as_tensor()})
    check_same_grid({"a": volume()})


@pytest.mark.parametrize(("place", "change"), [((0, 3), 0.06), ((0, 0), 1e-3), ((2, 2), -10.0), ((0, 1), float("nan"))])
def test_what_lies_elsewhere_is_refused(place, change):
    moved = AFFINE.clone()
    moved[place] += change
    with pytest.raises(DataError, match=r"'a' and 'c' do not have one grid: a corner lies .* mm apart"):
        check_same_grid({"a": volume(), "b": volume(), "c": volume(moved)})


def test_other_shapes_are_refused():
    with pytest.raises(DataError, match=r"'a' and 'b' .*\(100, 50, 20\) and \(100, 50, 21\) voxels"):
        check_same_grid({"a": volume(), "b": torch.zeros(1, 100, 50, 21)})

# SPDX-License-Identifier: Apache-2.0
"""Tests of the batches' random sizes."""

from __future__ import annotations

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.bundle import PrepareBatchMultiScale
from monai_sam2unet.errors import ConfigError


def batch(height=64, width=96):
    """A bright ellipse on dark, and its mask."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, height), torch.linspace(-1, 1, width), indexing="ij")
    label = (rows**2 + columns**2 < 0.5).float().expand(2, 1, height, width)
    return {"image": label.repeat(1, 3, 1, 1) * 4 - 2, "label": label}


def sizes(prepare, count=40, **shape):
    return {tuple(prepare(batch(**shape), "cpu")[0].shape[2:]) for _ in range(count)}


def test_every_factor_is_drawn():
    assert sizes(PrepareBatchMultiScale([0.5, 1, 1.5])) == {(32, 64), (64, 96), (96, 128)}


@pytest.mark.parametrize(("scale", "size"), [(0.75, (256, 256)), (1, (352, 352)), (1.25, (448, 448))])
def test_the_sizes_of_pranet(scale, size):
    assert sizes(PrepareBatchMultiScale([scale]), 1, height=352, width=352) == {size}


@pytest.mark.parametrize("scale", [0.01, 0.3, 0.77, 1.13, 2])
def test_sizes_are_multiples(scale):
    ((height, width),) = sizes(PrepareBatchMultiScale([scale]), 1)
    assert height % 32 == width % 32 == 0
    assert height >= 32
    assert abs(width - max(32, 96 * scale)) <= 16
    ((height, width),) = sizes(PrepareBatchMultiScale([scale], multiple=8), 1)
    assert height % 8 == width % 8 == 0
    assert abs(width - max(8, 96 * scale)) <= 4


@pytest.mark.parametrize("scale", [0.5, 1.4])
def test_image_and_mask_stay_together(scale):
    image, label = PrepareBatchMultiScale([scale])(batch(), "cpu")
    assert image.shape[:2] == (2, 3)
    assert label.shape == (2, 1, *image.shape[2:])
    assert set(label.unique().tolist()) == {0.0, 1.0}
    both, either = ((image[:, :1] > 0) & (label > 0)).sum(), ((image[:, :1] > 0) | (label > 0)).sum()
    assert both / either > 0.97
    assert float(label.mean()) == pytest.approx(float(batch()["label"].mean()), abs=0.02)
    assert image.min() >= -2 - 1e-4
    assert image.max() <= 2 + 1e-4


@pytest.mark.parametrize("options", [{}, {"scales": [1]}])
def test_factor_one_changes_nothing(options):
    given = batch(50, 70)
    image, label = PrepareBatchMultiScale(**options)(given, "cpu")
    assert torch.equal(image, given["image"])
    assert torch.equal(label, given["label"])


def test_draws_follow_the_seed_of_torch():
    def drawn():
        torch.manual_seed(3)
        prepare = PrepareBatchMultiScale([0.5, 1, 1.5])
        return [tuple(prepare(batch(), "cpu")[0].shape) for _ in range(12)]

    assert drawn() == drawn()
    assert len(set(drawn())) == 3


@pytest.mark.parametrize("scale", [1, 0.5])
def test_results_are_plain_tensors(scale):
    given = {key: MetaTensor(value) for key, value in batch().items()}
    assert [type(x) for x in PrepareBatchMultiScale([scale])(given, "cpu")] == [torch.Tensor] * 2


@pytest.mark.parametrize("scales", [[], [1, 0], [-0.5], 1.25])
def test_wrong_factors(scales):
    with pytest.raises(ConfigError, match="multi_scale must be a list of factors above 0"):
        PrepareBatchMultiScale(scales)

# SPDX-License-Identifier: Apache-2.0
"""Tests of the sizes worked out for a slice, and of the kernels that bring it there and back."""

from __future__ import annotations

from fractions import Fraction
from math import floor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.fit_geometry import FitPlan, FitRule, pair, resize

sides = st.integers(1, 70)


@given(old=sides, new=sides)
def test_nearest_takes_the_pixel_under_the_new_centre(old, new):
    expected = [floor((Fraction(2 * i + 1, 2)) * old / new) for i in range(new)]
    line = torch.arange(old)
    assert resize(line.view(1, 1, -1, 1), (new, 1), "nearest").flatten().tolist() == expected
    assert resize(line.view(1, 1, 1, -1), (1, new), "nearest").flatten().tolist() == expected


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int16, torch.int64, torch.float16, torch.float64])
def test_nearest_keeps_the_type(dtype):
    x = (torch.rand(2, 3, 9, 7) > 0.5).to(dtype)
    y = resize(x, (20, 5), "nearest")
    assert y.dtype == dtype
    assert y.shape == (2, 3, 20, 5)


@given(height=st.integers(2, 40), width=st.integers(2, 40), new_height=st.integers(2, 60), new_width=st.integers(2, 60))
def test_bilinear_is_that_of_pil(height, width, new_height, new_width):
    picture = np.random.default_rng(0).random((height, width), dtype=np.float32)
    expected = np.asarray(Image.fromarray(picture).resize((new_width, new_height), Image.Resampling.BILINEAR))
    ours = resize(torch.from_numpy(picture)[None, None], (new_height, new_width))[0, 0].numpy()
    np.testing.assert_allclose(ours, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.bool])
def test_bilinear_of_whole_numbers_is_float32(dtype):
    assert resize(torch.ones(1, 1, 4, 4).to(dtype), (6, 6)).dtype == torch.float32
    assert resize(torch.ones(1, 1, 4, 4).to(dtype), (4, 4)).dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_bilinear_keeps_floating_point(dtype):
    assert resize(torch.ones(1, 1, 4, 4, dtype=dtype), (3, 9)).dtype == dtype


def test_anti_aliasing_averages_what_it_merges():
    stripes = torch.tensor([0.0, 1.0]).repeat(32).view(1, 1, 1, 64).expand(1, 1, 8, 64)
    assert resize(stripes, (8, 13)).std() < 0.06
    assert resize(stripes, (8, 13), anti_aliasing=False).std() > 0.2


def test_same_size_is_the_tensor_itself():
    x = torch.rand(1, 1, 5, 6)
    assert resize(x, (5, 6)) is x
    assert resize(x, (5, 6), "nearest") is x


@given(height=sides, width=sides, target=st.tuples(sides, sides), keep=st.booleans())
def test_plan_covers_the_source_exactly(height, width, target, keep):
    plan = FitRule(target, keep_aspect=keep).plan(height, width)
    assert plan.source == (height, width)
    assert plan.size == target
    for axis in range(2):
        before = plan.start[axis]
        after = plan.size[axis] - plan.resized[axis] - before
        assert 0 <= after - before <= 1
        # The outer edges of the source's pixels are those of what it takes up.
        edges = np.ones((3, 2)) * -0.5
        edges[axis] = [before - 0.5, before + plan.resized[axis] - 0.5]
        edges[2] = 1
        np.testing.assert_allclose((plan.to_source() @ edges)[axis], [-0.5, plan.source[axis] - 0.5], atol=1e-9)
    if keep:
        assert any(r == s for r, s in zip(plan.resized, plan.size, strict=True))
        factor = min(target[0] / height, target[1] / width)
        wanted = np.maximum(np.array([height, width]) * factor, 1)
        assert np.abs(np.array(plan.resized) - wanted).max() <= 0.5
    else:
        assert plan.resized == target


@given(height=sides, width=sides, target=st.tuples(sides, sides), keep=st.booleans(), alias=st.booleans())
def test_pixels_move_as_the_matrix_says(height, width, target, keep, alias):
    """A plane stays that plane under linear interpolation: each new pixel holds the value of its place."""
    plan = FitRule(target, keep_aspect=keep).plan(height, width)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    moved = plan.forward(torch.stack([rows, columns]).double()[None], anti_aliasing=alias)[0].numpy()
    new_rows, new_columns = np.meshgrid(*map(np.arange, plan.size), indexing="ij")
    expected = np.tensordot(plan.to_source(), np.stack([new_rows, new_columns, np.ones_like(new_rows)]), 1)[:2]
    for axis, side in enumerate(plan.source):
        # Beyond the outermost centres values are held; a filter reaches as far as the new pixels are large.
        margin = max(side / plan.resized[axis], 1) if alias else 0
        inside = ((expected >= margin) & (expected <= np.array(plan.source)[:, None, None] - 1 - margin)).all(0)
        # Sampled at whole pixels, a wider filter's centre of mass is a little off.
        np.testing.assert_allclose(moved[axis][inside], expected[axis][inside], atol=0.1 if alias else 1e-6)


@given(height=sides, width=sides, target=st.tuples(sides, sides), keep=st.booleans())
def test_there_and_back_has_the_source_size(height, width, target, keep):
    plan = FitRule(target, keep_aspect=keep).plan(height, width)
    x = torch.rand(2, 3, height, width)
    there = plan.forward(x)
    assert there.shape == (2, 3, *target)
    assert plan.inverse(there).shape == x.shape
    assert plan.inverse(torch.ones(1, 4, *target)).min() > 0.9999


@given(height=sides, width=sides, mode=st.sampled_from(["bilinear", "nearest"]))
def test_what_is_only_padded_comes_back_bit_by_bit(height, width, mode):
    plan = FitRule(None).plan(height, width)
    assert plan.resized == (height, width)
    assert plan.size == (-(-height // 32) * 32, -(-width // 32) * 32)
    x = torch.rand(1, 2, height, width)
    there = plan.forward(x, mode)
    assert torch.equal(plan.inverse(there, mode), x)
    assert there.count_nonzero() == x.count_nonzero()


@given(height=sides, width=sides, factor=st.integers(1, 5))
def test_labels_enlarged_by_whole_numbers_come_back_bit_by_bit(height, width, factor):
    plan = FitRule((height * factor, width * factor)).plan(height, width)
    x = torch.randint(0, 5, (1, 1, height, width))
    assert torch.equal(plan.inverse(plan.forward(x, "nearest"), "nearest"), x)


def test_spacing():
    plan = FitRule((352, 352), pixel_spacing=1.0).plan(100, 300, spacing=(1.5, 0.5))
    assert plan.resized == (150, 150)
    assert plan.start == (101, 101)
    assert FitRule(None, pixel_spacing=(1.0, 2.0)).plan(100, 300, spacing=(1.5, 0.5)).size == (160, 96)
    assert FitRule(None, pixel_spacing=50.0).plan(3, 3, spacing=(1, 1)).resized == (1, 1)


@given(
    height=sides,
    width=sides,
    target=st.tuples(sides, sides),
    spacing=st.tuples(st.floats(0.2, 9), st.floats(0.2, 9)),
)
def test_keep_aspect_is_that_of_the_anatomy_where_the_spacing_is_known(height, width, target, spacing):
    rule = FitRule(target, keep_aspect=True)
    plan = rule.plan(height, width, spacing)
    extent = np.array([height * spacing[0], width * spacing[1]])
    wanted = extent * min(target / extent)
    # To the nearest pixel, and one at least.
    assert np.abs(plan.resized - np.maximum(wanted, 1)).max() <= 0.5 + 1e-3
    square = rule.plan(height, width, (spacing[0], spacing[0] * (1 + 1e-12)))
    assert square == rule.plan(height, width)


def test_a_coronal_slice_of_the_heart():
    assert FitRule(352, keep_aspect=True).plan(10, 216, (8.0, 1.5)).resized == (87, 352)
    assert FitRule(352, keep_aspect=True).plan(10, 216).resized == (16, 352)


@pytest.mark.parametrize("spacing", [(0.0, 1.0), (1.0, float("nan")), (1.0, -1.0)])
def test_impossible_spacings_are_refused(spacing):
    with pytest.raises(DataError, match="above 0 mm"):
        FitRule(64, keep_aspect=True).plan(10, 10, spacing)
    assert FitRule(64).plan(10, 10, spacing).resized == (64, 64)


@pytest.mark.parametrize("value", [(1, 2, 3), "ab", None, (True, 1), [1], True])
def test_pairs_that_are_none(value):
    with pytest.raises(ConfigError, match="size must be one number, or one for rows and one for columns"):
        pair("size", value)


def test_one_number_serves_both_sides():
    assert FitRule(64).plan(3, 5).size == (64, 64)
    assert FitRule([64, 32]).plan(3, 5).size == (64, 32)


def test_too_large_slices_are_refused():
    with pytest.raises(DataError, match=r"100x300 pixels takes 150x600 at 1 x 0\.25 mm, more than .* 352x352"):
        FitRule(352, pixel_spacing=(1.0, 0.25)).plan(100, 300, spacing=(1.5, 0.5))
    with pytest.raises(DataError, match="100x20 pixels takes 100x20, more than spatial_size 64x64"):
        FitRule(64, enlarge_or_shrink=False).plan(100, 20)
    with pytest.raises(DataError, match="needs the spacing"):
        FitRule(64, pixel_spacing=1.0).plan(10, 10)
    with pytest.raises(DataError, match="at least one row"):
        FitRule(64).plan(0, 10)


@pytest.mark.parametrize(
    "arguments",
    [
        {"spatial_size": 0},
        {"spatial_size": (64, 32.5)},
        {"spatial_size": (64, 64, 64)},
        {"pixel_spacing": -1.0},
        {"pixel_spacing": float("nan")},
        {"pixel_spacing": (1.0, 1.0, 1.0)},
        {"pixel_spacing": 1.0, "enlarge_or_shrink": False},
        {"multiple": 0},
    ],
)
def test_rules_that_are_refused(arguments):
    with pytest.raises(ConfigError, match=next(iter(arguments))):
        FitRule(**arguments)


def test_wrong_sizes_are_refused():
    plan = FitPlan((10, 20), (32, 32), (32, 32))
    with pytest.raises(DataError, match="source height and width 10x20"):
        plan.forward(torch.zeros(1, 1, 20, 10))
    with pytest.raises(DataError, match="network's height and width 32x32"):
        plan.inverse(torch.zeros(1, 1, 10, 20))

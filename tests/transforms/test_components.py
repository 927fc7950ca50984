# SPDX-License-Identifier: Apache-2.0
"""Tests of components and holes: against SciPy's own where they do the same, by hand where they do not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import ndimage
from skimage import measure

from monai_sam2unet.transforms.components import fill_holes, keep_components

masks = arrays(bool, st.one_of(st.tuples(*[st.integers(1, 12)] * 2), st.tuples(*[st.integers(1, 6)] * 3)))


def drawn(*rows):
    return np.array([[int(c) for c in row.replace(".", "0")] for row in rows])


@given(mask=masks, connectivity=st.sampled_from([1, 2, None]))
def test_the_largest_component(mask, connectivity):
    before = mask.copy()
    kept = keep_components(mask, largest=True, connectivity=connectivity)
    components = measure.label(mask, connectivity=connectivity)
    sizes = np.bincount(components.ravel())[1:]
    assert not (kept & ~mask).any()
    if mask.any():
        assert kept.sum() == sizes.max()
        assert len(np.unique(components[kept])) == 1
    np.testing.assert_array_equal(mask, before)


@given(mask=masks, minimum=st.integers(0, 10), largest=st.booleans())
def test_small_components(mask, minimum, largest):
    components = measure.label(mask, connectivity=mask.ndim)
    kept = keep_components(mask, largest, minimum)
    for region in measure.regionprops(components):
        own = kept[components == region.label]
        assert own.all() or not own.any()
        if not largest:
            assert own.all() == (region.area >= minimum)
    if largest:
        np.testing.assert_array_equal(kept, keep_components(keep_components(mask, largest=True), False, minimum))


def test_corners_join_unless_told():
    mask = drawn("1..", ".1.", "..1").astype(bool)
    assert keep_components(mask, min_count=3).all() == mask.all()
    assert keep_components(mask, min_count=2, connectivity=1).sum() == 0


def test_a_size_that_is_just_reached_stays():
    mask = np.ones((1, 3), dtype=bool)
    assert keep_components(mask, min_count=0.3 / 0.1).all()
    assert not keep_components(mask, min_count=3.001).any()


@given(mask=masks)
def test_holes_of_one_class_are_those_of_scipy(mask):
    np.testing.assert_array_equal(fill_holes(mask, [1]), ndimage.binary_fill_holes(mask))


CASES = [
    pytest.param(
        drawn(".....", ".111.", ".1.1.", ".111.", "....."),
        drawn(".....", ".111.", ".111.", ".111.", "....."),
        id="hole",
    ),
    pytest.param(drawn("111", "1.1", "1.1"), drawn("111", "1.1", "1.1"), id="open at the border"),
    pytest.param(drawn(".1.", "1.1", ".1."), drawn(".1.", "111", ".1."), id="corners close"),
    pytest.param(
        drawn("11111", "12221", "12.21", "12221", "11111"),
        drawn("11111", "12221", "12221", "12221", "11111"),
        id="the inner class has the hole",
    ),
    pytest.param(
        drawn("11111", "1...1", "1.2.1", "1...1", "11111"),
        drawn("11111", "11111", "11211", "11111", "11111"),
        id="the gap is the outer's, the inner class stays",
    ),
    pytest.param(
        drawn("11222", "1...2", "11222"),
        drawn("11222", "1...2", "11222"),
        id="two classes together enclose",
    ),
]


@pytest.mark.parametrize(("labels", "expected"), CASES)
def test_holes_of_classes(labels, expected):
    before = labels.copy()
    np.testing.assert_array_equal(fill_holes(labels, [1, 2]), expected)
    np.testing.assert_array_equal(fill_holes(labels, [2, 1]), expected)
    np.testing.assert_array_equal(labels, before)


def test_only_the_classes_asked_for():
    labels = drawn("111222", "1.12.2", "111222")
    assert fill_holes(labels, [2])[1].tolist() == [1, 0, 1, 2, 2, 2]
    np.testing.assert_array_equal(fill_holes(labels, []), labels)
    np.testing.assert_array_equal(fill_holes(labels, [7]), labels)


def test_a_hole_in_three_dimensions():
    ball = np.ones((5, 5, 5), dtype=int)
    ball[2, 2, 2] = 0
    assert fill_holes(ball, [1]).all()
    ball[2, 2, :] = 0  # a tunnel through it
    np.testing.assert_array_equal(fill_holes(ball, [1]), ball)

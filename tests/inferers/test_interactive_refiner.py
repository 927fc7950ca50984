# SPDX-License-Identifier: Apache-2.0
"""Masks follow marks: what is marked holds, what is near follows to the image's edges, what is far stays."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy import ndimage

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers import InteractiveRefiner, Mark, strokes

SHAPE = (96, 128)


def disk(center: tuple[float, ...], radius: float, shape: tuple[int, ...] = SHAPE, spacing: float = 1) -> np.ndarray:
    gaps = (*(1.0,) * (len(shape) - 1), spacing) if len(shape) == 3 else (1.0, 1.0)
    axes = np.ogrid[tuple(slice(size) for size in shape)]
    return sum(((axis - c) * g) ** 2 for axis, c, g in zip(axes, center, gaps, strict=True)) <= radius**2


FOUND, MISSED, FALSE = disk((20, 20), 12), disk((60, 40), 14), disk((40, 100), 12)


@pytest.fixture
def scene() -> dict[str, Any]:
    """Two bright disks, of which the network has found one, and a false alarm; of one channel."""
    generator = np.random.default_rng(0)
    image = 0.3 + 0.4 * (FOUND | MISSED) + 0.02 * generator.normal(size=SHAPE)
    p = np.where(FOUND | FALSE, 0.97, 0.02).astype(np.float32) + 0.01 * generator.random(SHAPE, dtype=np.float32)
    return {"probabilities": p[None], "labels": (p >= 0.5).astype(np.uint8), "image": image[None]}


def test_without_marks_the_mask_is_the_one_given(scene: dict[str, Any]) -> None:
    scene["labels"][5, 5] = 1 - scene["labels"][5, 5]  # as a cleaning step may have it
    mask = InteractiveRefiner(**scene)([])
    np.testing.assert_array_equal(mask, scene["labels"])
    assert mask.dtype == np.uint8
    mask[:] = 7
    assert scene["labels"].max() == 1


def test_a_click_adds_a_missed_object_and_leaves_the_rest(scene: dict[str, Any]) -> None:
    mask = InteractiveRefiner(**scene)([Mark(1, [[60, 40]])])
    added = (mask == 1) & (scene["labels"] == 0)
    assert (added & MISSED).sum() > 0.98 * MISSED.sum()
    np.testing.assert_array_equal(mask[~added], scene["labels"][~added])
    assert ndimage.label(added)[1] == 1
    assert ndimage.distance_transform_edt(~MISSED)[added].max() <= 2


def test_a_click_removes_a_false_alarm_and_leaves_the_rest(scene: dict[str, Any]) -> None:
    mask = InteractiveRefiner(**scene)([Mark(0, [[40, 100]])])
    np.testing.assert_array_equal(mask, FOUND)


def test_marked_pixels_hold_in_any_order(scene: dict[str, Any]) -> None:
    generator = np.random.default_rng(1)
    pixels = generator.permutation(np.argwhere(np.ones(SHAPE)))[:24]
    marks = [Mark(int(number % 2), [pixel.tolist()]) for number, pixel in enumerate(pixels)]
    refiner = InteractiveRefiner(**scene)
    mask = refiner(marks)
    assert [mask[mark.index].item() for mark in marks] == [mark.label for mark in marks]
    np.testing.assert_array_equal(refiner(marks[::-1]), mask)
    np.testing.assert_array_equal(InteractiveRefiner(**scene)(marks), mask)


def test_neighbouring_marks_hold_where_blocks_are_taken_together() -> None:
    """Of a large picture distances are those of blocks: both marks lie in one."""
    shape = (700, 900)
    refiner = InteractiveRefiner(
        np.full((1, *shape), 0.1, np.float32), np.zeros(shape, np.uint8), np.zeros((1, *shape))
    )
    mask = refiner([Mark(1, [[300, 400]]), Mark(0, [[300, 401]])])
    assert (mask[300, 400], mask[300, 401]) == (1, 0)


def test_nothing_changes_beyond_the_reach(scene: dict[str, Any]) -> None:
    """Even where the image has no edge that would stop it."""
    scene["image"] = np.zeros((1, *SHAPE))
    mask = InteractiveRefiner(**scene, max_reach=0.1)([Mark(1, [[60, 70]])])
    changed = np.argwhere(mask != scene["labels"])
    assert len(changed) > 20
    assert np.linalg.norm(changed - [60, 70], axis=1).max() <= 0.1 * 128


def test_a_click_near_a_border_changes_less(scene: dict[str, Any]) -> None:
    refiner = InteractiveRefiner(**scene)
    near = (refiner([Mark(0, [[20, 30]])]) != scene["labels"]).sum()
    deep = (refiner([Mark(0, [[20, 20]])]) != scene["labels"]).sum()
    assert 0 < near < 0.5 * deep


def test_a_click_that_agrees_changes_nothing(scene: dict[str, Any]) -> None:
    marks = [Mark(1, [[20, 20]]), Mark(0, [[90, 5]])]
    np.testing.assert_array_equal(InteractiveRefiner(**scene)(marks), scene["labels"])


def test_strokes_hold_to_the_pixel(scene: dict[str, Any]) -> None:
    drawn = np.zeros(SHAPE, bool)
    drawn[60, 30:50] = drawn[10, 15:25] = True
    included = strokes(drawn, 1)
    assert len(included) == 2
    refiner = InteractiveRefiner(**scene)
    mask = refiner(included)
    assert mask[drawn].all()
    assert (mask[MISSED] == 1).mean() > 0.95
    wiped = np.zeros(SHAPE, bool)
    wiped[36:44, 95:105] = True
    excluded = refiner(strokes(wiped, 1, include=False))
    np.testing.assert_array_equal(excluded, FOUND)


def test_the_threshold_is_the_masks(scene: dict[str, Any]) -> None:
    scene["labels"] = (scene["probabilities"][0] >= 0.99).astype(np.uint8)
    assert not scene["labels"].any()
    low = InteractiveRefiner(**scene, threshold=0.99)([Mark(1, [[20, 20]])])
    assert (low[FOUND] == 1).all()


@pytest.fixture
def organs() -> dict[str, Any]:
    """A volume of 1x1x3 mm: class 1 was found, class 2 was taken for class 1, and a third one was not found."""
    shape = (40, 48, 12)
    one, two = disk((12, 12, 6), 8, shape, 3), disk((12, 34, 6), 8, shape, 3)
    p = np.full((3, *shape), 0.02, np.float16)
    p[0] = 0.96
    for number, where, other in ((1, one, 2), (1, two, 2)):
        p[number][where], p[0][where], p[other][where] = 0.7, 0.05, 0.25
    labels = np.where(one | two, 1, 0).astype(np.uint8)
    image = np.zeros((1, *shape)) + 0.3 * one + 0.6 * two
    return {"probabilities": p, "labels": labels, "image": image, "spacing": (1, 1, 3), "one": one, "two": two}


def test_a_click_gives_a_volumes_object_another_class(organs: dict[str, Any]) -> None:
    one, two = organs.pop("one"), organs.pop("two")
    refiner = InteractiveRefiner(**organs)
    mask = refiner([Mark(2, [[12, 34, 6]])])
    np.testing.assert_array_equal(mask, np.where(two, 2, one))
    gone = refiner([Mark(0, [[12, 34, 6]])])
    np.testing.assert_array_equal(gone, one)
    likeliest = refiner([Mark(1, [[12, 34, 6]], include=False)])
    np.testing.assert_array_equal(likeliest, np.where(two, 2, one))


@pytest.mark.parametrize(
    ("marks", "told"),
    [
        ([Mark(2, [[1, 1]])], "There is no class 2; there are 0 to 1"),
        ([Mark(1, [[96, 0]])], r"\[96, 0\] lies outside"),
        ([Mark(1, [[3, 3, 3]])], "lies outside"),
        ([Mark(1, [[3, 3]]), Mark(0, [[3, 3]])], r"contradict each other at pixel \[3, 3\]"),
    ],
)
def test_marks_that_cannot_be_are_refused(scene: dict[str, Any], marks: list[Mark], told: str) -> None:
    with pytest.raises(DataError, match=told):
        InteractiveRefiner(**scene)(marks)


def test_wrong_arguments_are_refused(scene: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="threshold must lie in"):
        InteractiveRefiner(**scene, threshold=1.0)
    with pytest.raises(ConfigError, match="the smaller first"):
        InteractiveRefiner(**scene, min_reach=0.5, max_reach=0.1)
    with pytest.raises(DataError, match="spacing must be 2 numbers"):
        InteractiveRefiner(**scene, spacing=(1, 1, 1))
    with pytest.raises(DataError, match="on one grid"):
        InteractiveRefiner(**{**scene, "image": scene["image"][:, 1:]})
    with pytest.raises(DataError, match="whole numbers, at least one"):
        Mark(1, [])
    with pytest.raises(DataError, match="whole numbers"):
        Mark(1, [[0.5, 1]])  # type: ignore[list-item]

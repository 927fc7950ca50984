# SPDX-License-Identifier: Apache-2.0
"""Numbers in labels become those of a model's classes, by the names that a viewer gave them or as they are."""

from __future__ import annotations

import doctest
from typing import Any

import numpy as np
import pytest

from monai_sam2unet.errors import DataError
from monai_sam2unet.label import label_numbers

pytestmark = pytest.mark.label
HEART = {"RV": 1, "LV": 3}


@pytest.mark.parametrize(
    ("values", "classes", "names", "expected"),
    [
        ([0, 1, 3], HEART, None, [0, 1, 3]),
        ([0, 1, 2], HEART, {1: "LV", 2: "RV", 7: "liver"}, [0, 3, 1]),
        ([0, 4, 1], HEART, {1: "Background", 4: "LV"}, [0, 3, 0]),
        ([0, 1000, 0], HEART, {1000: "RV"}, [0, 1, 0]),
        ([0.0, 255.0], {"polyp": 1}, None, [0, 1]),
        ([0, 0], HEART, {1: "liver"}, [0, 0]),
    ],
)
def test_numbers_of_classes(
    values: list[float], classes: dict[str, int], names: dict[int, str] | None, expected: list[int]
) -> None:
    found = label_numbers.class_numbers(np.array(values), classes, names)
    assert (found.tolist(), found.dtype) == (expected, np.uint8)


@pytest.mark.parametrize(
    ("values", "classes", "names", "told"),
    [
        ([0, 2, 4], HEART, None, r"The label holds 2, 4, which is no class; the classes are 1 RV, 3 LV\."),
        ([0, 1], HEART, {1: "aorta"}, r"The label holds 1 \(aorta\), which is no class"),
        ([0, 2], HEART, {1: "RV"}, "The label holds 2, which is no class"),
        # White beside one: of these it is not known which is meant.
        ([0, 1, 255], {"polyp": 1}, None, "The label holds 255"),
        ([0, 255], HEART, None, "The label holds 255"),
        ([0, 0.5], HEART, None, "must hold whole numbers from 0"),
        ([-1, 1], HEART, None, "must hold whole numbers from 0"),
        ([np.nan, 1], HEART, None, "must hold whole numbers from 0"),
    ],
)
def test_what_is_no_class_is_told(
    values: list[float], classes: dict[str, int], names: dict[int, str] | None, told: str
) -> None:
    with pytest.raises(DataError, match=told):
        label_numbers.class_numbers(np.array(values), classes, names)


@pytest.mark.parametrize("key", ["idx", "id", "labelID"])
def test_viewers_tell_values_under_several_keys(key: str) -> None:
    info: dict[str, Any] = {"label_info": [{"name": "LV", key: 3}, {"name": "background", key: 0}, {"name": "RV"}]}
    assert label_numbers.named_segments(info) == [(3, "LV"), (0, "background"), (None, "RV")]
    assert label_numbers.names_by_number(info) == {3: "LV", 0: "background"}


@pytest.mark.parametrize("told", ["RV", [1], [{"idx": 1}], [{"name": "RV", "idx": 0}], [{"name": "RV", "idx": True}]])
def test_label_info_that_is_none_is_told(told: object) -> None:
    with pytest.raises(DataError, match="label_info"):
        label_numbers.named_segments({"label_info": told})


def test_examples() -> None:
    assert doctest.testmod(label_numbers).failed == 0
    assert label_numbers.names_by_number({}) == {}

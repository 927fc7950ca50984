# SPDX-License-Identifier: Apache-2.0
"""Values of a label become the class ids of the model whose classes it shows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from monai_sam2unet.errors import ConfigError, DataError

pytestmark = pytest.mark.label


def heart_and_polyp() -> list[Any]:
    from monai_sam2unet.label.model_classes import ModelClasses

    segments = [
        {
            "labelID": number, "SegmentLabel": label,
            "SegmentedPropertyCategoryCodeSequence": code, "SegmentedPropertyTypeCodeSequence": code,
        }
        for number, label, code in (
            (1, "Right ventricle", {"CodeValue": "1", "CodingSchemeDesignator": "SCT", "CodeMeaning": "a"}),
            (2, "Left ventricle", {"CodeValue": "2", "CodingSchemeDesignator": "SCT", "CodeMeaning": "b"}),
        )
    ]  # fmt: skip
    return [
        ModelClasses("heart", {"RV": 1, "LV": 2}, {"segmentAttributes": [segments]}, lambda: Path("model.pt")),
        ModelClasses("polyp", {"polyp": 1}, {}, lambda: Path("model.pt")),
    ]


def named(*pairs: tuple[str, int | None]) -> dict[str, Any]:
    return {"label_info": [{"name": name} | ({} if number is None else {"idx": number}) for name, number in pairs]}


@pytest.mark.parametrize(
    ("values", "info", "model", "ids"),
    [
        ([0, 1, 2], named(("RV", 1), ("LV", 2), ("polyp", 3), ("other", 4)), "heart", [0, 1, 2]),
        ([0, 1, 2], named(("LV", 1), ("RV", 2)), "heart", [0, 2, 1]),
        ([0, 0, 9], named(("left ventricle", 9)), "heart", [0, 0, 2]),
        ([0, 3, 0], named(("RV", 1), ("LV", 2), ("polyp", 3)), "polyp", [0, 1, 0]),
        # Counted with a segment that was left out; and not counted at all.
        ([0, 1, 2], named(("RV", 2), ("LV", 3)), "heart", [0, 1, 2]),
        ([0, 1, 2], named(("LV", None), ("RV", None)), "heart", [0, 2, 1]),
        ([0, 0, 0], named(("polyp", 1)), "polyp", [0, 0, 0]),
        ([0, 1, 2], {"model": "heart"}, "heart", [0, 1, 2]),
        ([0, 1, 10**9], named(("RV", 1), ("LV", 10**9)), "heart", [0, 1, 2]),
        # Black and white.
        ([0, 255, 0], named(("polyp", 1)), "polyp", [0, 1, 0]),
        ([0, 255, 0], {"model": "polyp"}, "polyp", [0, 1, 0]),
    ],
)
def test_values_become_ids(values: list[int], info: dict[str, Any], model: str, ids: list[int]) -> None:
    from monai_sam2unet.label.model_classes import to_class_ids

    found, of = to_class_ids(np.array(values, np.float32), info, heart_and_polyp())
    assert (found.tolist(), of.model, found.dtype) == (ids, model, np.uint8)


@pytest.mark.parametrize(
    ("values", "info", "told"),
    [
        ([0, 1, 2], named(("RV", 1), ("polyp", 2)), "not all of which one model has. There are heart: RV, LV; polyp"),
        ([0, 0, 0], named(("liver", 1)), "shows liver"),
        ([0, 1, 5], named(("RV", 1)), r"holds \[1, 5\], but label_info names 1 segments only"),
        ([0, 1, 2], {}, "several models could have made the label. Name them in label_info"),
        ([0, 1, 2], {"model": "liver"}, "there is no model 'liver'"),
        ([0, 1, 3], {"model": "heart"}, "holds 3, which is no class; the classes are 1 RV, 2 LV"),
        ([0, 0.5, 1], {"model": "heart"}, "whole numbers"),
        ([0, 1, 2], {"label_info": [{"idx": 1}]}, "must be a list of"),
        ([0, 1, 2], named(("RV", 0)), "the value of RV must be a whole number from 1, got 0"),
    ],
)
def test_what_is_not_known_is_told(values: list[float], info: dict[str, Any], told: str) -> None:
    from monai_sam2unet.label.model_classes import to_class_ids

    with pytest.raises(DataError, match=told):
        to_class_ids(np.array(values, np.float32), info, heart_and_polyp())


def test_the_stated_model_is_taken_where_several_have_the_class() -> None:
    from monai_sam2unet.label.model_classes import ModelClasses, to_class_ids

    heart = heart_and_polyp()[0]
    other = ModelClasses("other", {"LV": 1}, {}, heart.checkpoint)
    copy = ModelClasses("copy", heart.ids, heart.metadata, heart.checkpoint)
    mask, info = np.array([0, 1]), named(("LV", 1))
    with pytest.raises(DataError, match="mean different things by it: heart, other"):
        to_class_ids(mask, info, [heart, other])
    for model, ids in ((heart, [0, 2]), (other, [0, 1])):
        found, of = to_class_ids(mask, {**info, "model": model.model}, [heart, other])
        assert (found.tolist(), of) == (ids, model)
    assert to_class_ids(mask, info, [heart, copy])[1] is heart


def test_classes_without_codes_make_no_dicom() -> None:
    with pytest.raises(ConfigError, match="segmentAttributes"):
        heart_and_polyp()[1].segments  # noqa: B018 (it raises)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import warnings

import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.check_case import CheckImaged, CheckLabeld


def image(*shape: int, **meta: object) -> MetaTensor:
    return MetaTensor(torch.zeros(shape) - 5, meta={"filename_or_obj": "case7", **meta})


def test_what_is_expected_passes_unchanged():
    item = {"image": image(1, 4, 5, 6, modality="CT", in_patient_space=True), "id": 3}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        out = CheckImaged("image", True, (1,), ("CT",), hounsfield=True)(item)
    assert out["image"] is item["image"]
    assert out["id"] == 3
    CheckImaged("image", True, (1,), ("CT",))({"image": image(1, 4, 5, 6)})  # NIfTI has no modality
    CheckImaged("image", False, (1, 3), None)({"image": image(3, 4, 5, modality="MR")})


@pytest.mark.parametrize(
    ("given", "check", "message"),
    [
        (image(1, 4, 5, 6, modality="MR"), CheckImaged("image", True, (1,), ("CT",)), "Modality MR.*takes CT"),
        (image(1, 4, 5), CheckImaged("image", True, (1,)), "no volume but a picture"),
        (image(3, 4, 5, 9, in_patient_space=False), CheckImaged("image", True, (3,)), "no volume"),
        (image(3, 4, 5, 9, in_patient_space=False), CheckImaged("image", False, (3,)), "dicom={'frame': n}"),
        (image(1, 4, 5, 6), CheckImaged("image", False, (1,)), "preset ct or mr"),
        (image(3, 4, 5, 6), CheckImaged("image", True, (1,)), "3 channels.*Time points"),
        (image(4, 4, 5), CheckImaged("image", False, (1, 3)), "4 channels.*1 or 3"),
    ],
)
def test_images_of_another_kind_are_named(given, check, message):
    with pytest.raises(DataError, match=f"case7.*{message}"):
        check({"image": given})


def test_values_that_can_hardly_be_hu_get_a_warning():
    with pytest.warns(UserWarning, match="case7 has no value below 0"):
        CheckImaged("image", True, (1,), hounsfield=True)({"image": image(1, 2, 2, 2) + 5})


def label(*values: float) -> MetaTensor:
    return MetaTensor(torch.tensor([[list(values)]]), meta={"filename_or_obj": "mask7"})


@pytest.mark.parametrize(
    ("values", "threshold", "message"),
    [
        ((0.0, 255.0), None, "mask7 holds values up to 255.*mask_threshold"),
        ((0.0, 128.0), None, "mask7 holds values up to 128.*mask_threshold"),
        ((3.0, 250.0), None, "mask7 holds values up to 250.*mask_threshold"),
        ((0.0, float("nan")), None, "mask7 holds NaN"),
        ((0.0, float("nan")), 0.5, "mask7 holds NaN"),
        ((0.0, 0.5), None, "mask7 holds negative or broken"),
        ((-1.0, 1.0), None, "mask7 holds negative or broken"),
        ((0.0, 1.0), 127.5, "mask7 has values up to 1.*127.5"),
        ((0.0, 1.0, 2.0), None, "mask7 has the shape"),
    ],
)
def test_labels_that_are_read_wrong_are_named(values, threshold, message):
    check = CheckLabeld("label", "image", threshold)
    with pytest.raises(DataError, match=message):
        check({"label": label(*values), "image": image(3, 1, 2)})


@pytest.mark.parametrize(
    ("values", "threshold"), [((0.0, 0.0), 127.5), ((0.0, 255.0), 127.5), ((0.0, 3.0), None), ((0.0, 0.9), 0.5)]
)
def test_labels_that_may_be(values, threshold):
    item = {"label": label(*values), "image": image(3, 1, 2)}
    assert CheckLabeld("label", "image", threshold)(item)["label"] is item["label"]


def test_a_label_has_one_channel():
    with pytest.raises(DataError, match=r"shape \(2, 1, 2\), \(1, 1, 2\) is expected for case7"):
        CheckLabeld("label", "image", None)({"label": torch.cat([label(0.0, 1.0)] * 2), "image": image(3, 1, 2)})

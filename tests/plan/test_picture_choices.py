# SPDX-License-Identifier: Apache-2.0
"""Tests of what is chosen for a folder of pictures."""

from __future__ import annotations

from dataclasses import replace

import pytest

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan.choices import training_bytes
from monai_sam2unet.plan.picture_choices import choose_for_pictures
from monai_sam2unet.plan.picture_fingerprint import PictureFingerprint
from monai_sam2unet.plan.picture_survey import PictureSurvey


def case(
    number: int = 0, thickness: float = 100.0, colour: bool = True, value: int = 255, **change
) -> PictureFingerprint:
    objects = {"objects": [value, value], "areas": [10000, 1], "thickness": [thickness, 1.0]}
    return PictureFingerprint(
        **{
            "image": f"{number}.png", "height": 800, "width": 1000, "is_colour": colour, "bits": 8,
            "values": {0: 790000, value: 10000}, **objects, "inside": None, "outside": None, "sha256": str(number),
        }
    )  # fmt: skip


def chosen(cases: list[PictureFingerprint], **options) -> dict[str, object]:
    survey = PictureSurvey("folders", cases, [], [])
    choices = choose_for_pictures(survey, **options)
    assert all(choice.reason for choice in choices)
    return {choice.name: choice.value for choice in choices}


def test_without_a_gpu_all_is_small():
    found = chosen([case(n) for n in range(50)])
    assert (found["encoder_size"], found["spatial_size"]) == ("tiny", [224, 224])
    assert (found["batch_size"], found["max_epochs"], found["fold"]) == (4, 20, 0)


@pytest.mark.parametrize(("thickness", "side"), [(100, 352), (20, 512), (12, 704)])
def test_thin_objects_are_shown_larger(thickness, side):
    assert chosen([case(n, thickness) for n in range(50)], gpu_memory=80)["spatial_size"] == [side, side]


def test_objects_too_thin_for_any_size_are_seen_in_windows():
    cases = [case(n, 5.0) for n in range(50)]
    found = chosen(cases, gpu_memory=80)
    assert (found["sliding_window"], found["spatial_size"], found["batch_size"]) == (True, [352, 352], 3)
    assert not chosen([case(n, 12.0) for n in range(50)], gpu_memory=80)["sliding_window"]
    small = [replace(own, height=400, width=500) for own in cases]
    assert not chosen(small, gpu_memory=80)["sliding_window"]


def test_the_thinnest_class_counts_and_specks_do_not():
    cases = [case(1, 100.0, value=1), case(2, 14.0, value=2)]
    assert chosen(cases, gpu_memory=80)["spatial_size"] == [704, 704]
    assert chosen(cases, gpu_memory=80)["mask_threshold"] is None


def test_the_network_fits_into_the_memory():
    cases = [case(n) for n in range(400)]
    sizes = [chosen(cases, gpu_memory=memory)["encoder_size"] for memory in (2.5, 6, 24)]
    assert sizes == ["small", "base_plus", "large"]
    for memory in (2.5, 6, 24, 80):
        found = chosen(cases, gpu_memory=memory)
        assert 4 <= found["batch_size"] <= 12
        assert training_bytes(found["encoder_size"], 352, found["batch_size"]) < memory * 2**30
    with pytest.raises(ConfigError, match="1 GB are too little"):
        chosen(cases, gpu_memory=1)


def test_a_small_set_is_seen_more_often_and_in_small_steps():
    assert chosen([case(n) for n in range(1450)], gpu_memory=80)["max_epochs"] == 28
    assert chosen([case(n) for n in range(20)], gpu_memory=80) | {"max_epochs": 200, "batch_size": 5} == chosen(
        [case(n) for n in range(20)], gpu_memory=80
    )


def test_too_few_patients_for_folds():
    assert chosen([case(n) for n in range(4)])["fold"] is None
    assert chosen([case(n) for n in range(5)])["fold"] == 0
    assert chosen([case(n) for n in range(20)], group_pattern="^[0-9]")["fold"] == 0
    assert chosen([case(n) for n in range(10, 20)], group_pattern="^[0-9]")["fold"] is None


def test_up_and_down_are_kept_where_they_mean_something():
    gray = [case(n, colour=False) for n in range(5)]
    assert chosen(gray) | {"modality": "xray", "flip_axes": [], "rotation": 0.175} == chosen(gray)
    assert chosen(gray, modality="ultrasound")["flip_axes"] == [1]
    assert chosen([case()])["flip_axes"] == [0, 1]


@pytest.mark.parametrize("modality", ["ct", "photo"])
def test_other_modalities_are_refused(modality):
    with pytest.raises(ConfigError, match="must be one of endoscopy"):
        chosen([case()], modality=modality)


@pytest.mark.parametrize(
    ("thickness", "iterations", "windows"),
    [
        (8.3, 9, True),  # vessels, at their own resolution
        (2.0, 3, True),  # no fewer than MONAI's own
        (22.0, 12, False),  # resized to 512
        (60.0, 3, False),  # no vessels
    ],
)
def test_cldice_reaches_into_thick_vessels(thickness, iterations, windows):
    cases = [replace(case(n), objects=[255], areas=[9000], thickness=[thickness]) for n in range(50)]
    found = chosen(cases, gpu_memory=80)
    assert (found["cldice_iterations"], found["sliding_window"]) == (iterations, windows)


def test_of_several_classes_the_thin_ones_count_for_cldice():
    cases = [case(1, 200.0, value=1), case(2, 16.0, value=2)]
    assert chosen(cases, gpu_memory=80)["cldice_iterations"] == 9

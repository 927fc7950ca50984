# SPDX-License-Identifier: Apache-2.0
"""Tests of what a plan may say."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan import BundlePlan

NEEDED = {
    "name": "wound_segmentation", "title": "Wounds", "object": "wound", "objects": "wounds", "images": "photographs",
    "modality": "dermoscopy", "data_source": "here",
}  # fmt: skip


def test_channels_follow_from_the_classes():
    assert BundlePlan(**NEEDED).out_channels == 1
    assert BundlePlan(**NEEDED, classes=("edge", "bed")).out_channels == 3


@pytest.mark.parametrize(
    ("change", "message"),
    [({"modality": "seance"}, "must be one of .*dermoscopy"), ({"classes": ("one",)}, "One class has no list")],
)
def test_what_is_not_allowed_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        BundlePlan(**{**NEEDED, **change})


def test_a_file_is_read(tmp_path: Path):
    path = tmp_path / "plan.yaml"
    path.write_text("\n".join(f"{key}: {value}" for key, value in NEEDED.items()) + "\nclasses: [edge, bed]\n")
    assert BundlePlan.from_yaml(path) == BundlePlan(**NEEDED, classes=("edge", "bed"))


def test_unknown_and_missing_attributes_are_named(tmp_path: Path):
    path = tmp_path / "plan.yaml"
    path.write_text("name: wounds\ncolour: red\n")
    with pytest.raises(ConfigError, match=r"plan\.yaml: unknown or missing: colour, title, .*A plan has: name, title"):
        BundlePlan.from_yaml(path)

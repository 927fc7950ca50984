# SPDX-License-Identifier: Apache-2.0
"""Tests of the scores by size."""

from __future__ import annotations

import pandas as pd
import pytest

from monai_sam2unet.evaluation.object_size import scores_by_size


def frame(*rows: tuple[float, float | None]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["foreground", "dice"]).astype(float)


def test_edges_belong_to_the_larger_group():
    found = scores_by_size(frame((0.0249, 0.1), (0.025, 0.2), (0.0999, 0.4), (0.1, 0.5), (1.0, 0.7)))
    assert {name: group["images"] for name, group in found.items()} == {"small": 1, "medium": 2, "large": 2}
    assert found["medium"]["mean_dice"] == pytest.approx(0.3)
    assert found["medium"]["std_dice"] == pytest.approx(0.02**0.5)


def test_images_without_object_or_score_and_empty_groups_are_left_out():
    assert scores_by_size(frame((0.0, 1.0), (0.05, None))) == {}
    assert list(scores_by_size(frame((0.0, 1.0), (0.5, 0.3)))) == ["large"]


def test_another_score():
    other = pd.DataFrame({"foreground": [0.5], "iou": [0.25]})
    assert scores_by_size(other, "iou") == {"large": {"images": 1, "mean_iou": 0.25, "std_iou": 0.0}}

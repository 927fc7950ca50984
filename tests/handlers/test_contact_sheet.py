# SPDX-License-Identifier: Apache-2.0
"""Tests of the picture of several cases."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.handlers.contact_sheet import write_contact_sheet

RED, GREEN, YELLOW = (200, 0, 0), (0, 200, 80), (255, 220, 0)


def write_cases(folder: Path, count: int, prediction: int = 255, truth: int = 255) -> list[Path]:
    """Red images with a square of truth on the left and one of prediction on the right."""
    folders = [folder / name for name in ("images", "truth", "predictions")]
    masks = np.zeros((2, 48, 64), np.uint8)
    masks[0, 8:40, 4:28] = truth
    masks[1, 8:40, 36:60] = prediction
    for place in folders:
        place.mkdir()
    for number in range(count):
        Image.new("RGB", (64, 48), RED).save(folders[0] / f"{number}.png")  # JPEG would not keep the colour
        Image.fromarray(masks[0]).save(folders[1] / f"{number}.tif")
        Image.fromarray(masks[1]).save(folders[2] / f"{number}.png")
    return folders


def share_of(colour, path):
    with Image.open(path) as image:
        pixels = np.asarray(image.convert("RGB")).astype(int)
    return (np.abs(pixels - colour).max(2) < 8).mean()


def test_images_truth_and_predictions_are_drawn(tmp_path):
    path = tmp_path / "sheet.png"
    assert write_contact_sheet(path, *write_cases(tmp_path, 2)) == path
    assert share_of(RED, path) > 0.2
    assert share_of(GREEN, path) > 0.01
    assert share_of(YELLOW, path) > 0.01


@pytest.mark.parametrize(("values", "colour"), [({"prediction": 0}, GREEN), ({"truth": 127}, YELLOW)])
def test_what_is_not_there_is_not_drawn(tmp_path, values, colour):
    path = write_contact_sheet(tmp_path / "sheet.png", *write_cases(tmp_path, 1, **values))
    assert share_of(colour, path) == 0


def test_a_row_for_each_case_up_to_the_limit(tmp_path):
    folders = write_cases(tmp_path, 4)

    def height(cases):
        with Image.open(write_contact_sheet(tmp_path / "sheet.png", *folders, cases=cases)) as image:
            return image.height

    assert height(2) == pytest.approx(2 * height(1), abs=2)
    assert height(9) == height(4) == pytest.approx(4 * height(1), abs=4)


def test_missing_masks(tmp_path):
    images, truth, predictions = write_cases(tmp_path, 2)
    (predictions / "1.png").unlink()
    with pytest.raises(DataError, match=r"There is no mask of 1 in .*predictions"):
        write_contact_sheet(tmp_path / "sheet.png", images, truth, predictions)
    with pytest.raises(DataError, match="There is no folder"):
        write_contact_sheet(tmp_path / "sheet.png", tmp_path / "nowhere", truth, predictions)

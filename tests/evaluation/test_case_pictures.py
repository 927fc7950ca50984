# SPDX-License-Identifier: Apache-2.0
"""Tests of the small pictures of cases."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation import CasePictures, draw_overlay


def pixels(picture):
    opened = Image.open(io.BytesIO(picture.jpeg))
    assert opened.format == "JPEG"
    assert opened.size == (picture.width, picture.height)
    return np.asarray(opened).astype(int)


def half(height, width):
    mask = torch.zeros(1, height, width)
    mask[:, :, : width // 2] = 1
    return mask


def test_image_truth_and_overlay(tmp_path):
    photo = np.full((100, 160, 3), (200, 80, 60), np.uint8)
    Image.fromarray(photo).save(tmp_path / "photo.png")
    pictures = CasePictures()
    truth, pred = half(100, 160), torch.zeros(1, 100, 160)
    pred[:, 20:60, 40:120] = 0.8
    pictures.add("A", "1", pred, truth, tmp_path / "photo.png")
    image, mask, overlay = pictures.draw("A", "1")
    assert (image.title, mask.title) == ("image", "truth")
    np.testing.assert_allclose(pixels(image), photo, atol=4)
    np.testing.assert_allclose(pixels(mask), truth[0].numpy() * 255, atol=20)
    expected = draw_overlay(photo, pred[0].numpy() >= 0.5, truth[0].numpy()).astype(int)
    assert np.abs(pixels(overlay) - expected).mean() < 8


def test_pictures_are_small_and_keep_their_shape(tmp_path):
    Image.effect_noise((1920, 1072), 80).convert("RGB").save(tmp_path / "large.jpg")
    pictures = CasePictures(size=128)
    pictures.add("A", "1", half(1072, 1920), half(1072, 1920), tmp_path / "large.jpg")
    for shown in pictures.draw("A", "1"):
        assert (shown.width, shown.height) == (128, 71)
        assert len(shown.jpeg) < 20_000
        pixels(shown)
    assert sum(len(k.truth) + len(k.prediction) for k in pictures._kept.values()) < 500


@pytest.mark.parametrize("content", [None, b"no picture"])
def test_without_image(tmp_path, content):
    path = tmp_path / "image.dcm"
    if content is not None:
        path.write_bytes(content)
    pictures = CasePictures()
    pictures.add("A", "1", half(20, 30), half(20, 30), path)
    pictures.add("A", "2", half(20, 30), half(20, 30))
    for name in ("1", "2"):
        truth, overlay = pictures.draw("A", name)
        assert truth.title == "truth"
        assert "prediction" in overlay.title


def test_levels_threshold_and_classes():
    levels = (half(20, 30) * 200).to(torch.uint8)
    for threshold, found in ((0.5, True), (0.9, False)):
        pictures = CasePictures(threshold)
        pictures.add("A", "1", levels, torch.zeros(1, 20, 30))
        green = pixels(pictures.draw("A", "1")[-1])[10, 5]
        assert (green[1] > green[0] + 30) == found
    pictures = CasePictures()
    pictures.add("A", "1", torch.cat([half(20, 30) * 0, half(20, 30)]), torch.zeros(2, 20, 30))
    green = pixels(pictures.draw("A", "1")[-1])[10, 5]
    assert green[1] > green[0] + 30


def test_a_photograph_is_turned_as_its_camera_noted(tmp_path):
    photo = np.zeros((40, 60, 3), np.uint8)
    photo[:, :20] = 255
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(photo).save(tmp_path / "photo.jpg", exif=exif, quality=95)
    pictures = CasePictures()
    pictures.add("A", "1", half(60, 40), half(60, 40), tmp_path / "photo.jpg")
    shown = pixels(pictures.draw("A", "1")[0])
    assert shown[:15].mean() > 240
    assert shown[25:].mean() < 15


def test_what_is_refused():
    with pytest.raises(ConfigError, match="16 pixels"):
        CasePictures(size=8)
    with pytest.raises(DataError, match="no picture of the case 1"):
        CasePictures().draw("A", "1")

# SPDX-License-Identifier: Apache-2.0
"""Refiners of what presets load: pictures in their own size and colours, volumes in mm."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from PIL import Image

from monai_sam2unet.data import make_polyp_phantom
from monai_sam2unet.inferers import Mark, refiner_of_case
from monai_sam2unet.transforms import Preset


@pytest.mark.parametrize(("mode", "channels"), [("RGB", 3), ("L", 3), ("L", 1)])
def test_pictures_have_their_size_and_colours(tmp_path: Path, mode: str, channels: int) -> None:
    image = Image.fromarray(make_polyp_phantom(0, 72, 104)[0]).convert(mode)
    image.save(tmp_path / "image.png")
    preset = Preset("endoscopy" if mode == "RGB" else "xray", spatial_size=(96, 128), in_channels=channels)
    case = preset.inference()({"image": str(tmp_path / "image.png")})
    p = torch.full((1, 72, 104), 0.2)
    refiner = refiner_of_case(preset, case["image"], p, torch.zeros(1, 72, 104, dtype=torch.uint8))
    assert refiner.image.shape == (channels, 72, 104)
    expected = np.asarray(image).reshape(72, 104, -1).transpose(2, 0, 1) / 255
    if mode == "L":
        low, high = np.percentile(expected, (0.5, 99.5))
        expected = np.clip((expected - low) / (high - low), 0, 1)
    assert np.abs(refiner.image - expected).mean() < 0.02
    assert refiner([Mark(1, [[70, 100]])])[70, 100] == 1


def test_volumes_have_their_spacing_in_mm(heart_volumes: Path) -> None:
    file = heart_volumes / "images" / "patient001_frame01.nii.gz"
    preset = Preset("mr", plane=2)
    case = preset.inference()({"image": str(file)})
    shape = nib.load(file).shape
    p = torch.full((4, *shape), 0.2)
    p[0] = 0.4
    refiner = refiner_of_case(preset, case["image"], p, torch.zeros(1, *shape, dtype=torch.uint8))
    np.testing.assert_allclose(refiner.spacing, (1.5, 2, 8), atol=1e-5)
    assert refiner.probabilities.dtype == np.float16
    assert refiner([Mark(3, [[20, 15, 2]])])[20, 15, 2] == 3

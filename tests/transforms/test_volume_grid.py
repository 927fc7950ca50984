# SPDX-License-Identifier: Apache-2.0
"""Where volumes lie, without their values: as their loader says it."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
import torch
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import LoadAnyImage, Preset, volume_grid

AFFINE = np.array([[0, -2.0, 0, 5], [1.5, 0, 0, -7], [0, 0, 3, 11], [0, 0, 0, 1]])
VALUES = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)


@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha", "a.nrrd"])
def test_a_grid_is_that_of_the_values(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith(".nii.gz"):
        nib.save(nib.Nifti1Image(VALUES, AFFINE), path)
    else:
        image = SimpleITK.GetImageFromArray(VALUES)
        image.SetSpacing((1.5, 2, 3))
        image.SetOrigin((5, -7, 11))
        SimpleITK.WriteImage(image, path)
    loaded, grid = LoadAnyImage("gray")(path), Preset("mr").grid(path)
    assert grid.shape == loaded.shape
    torch.testing.assert_close(grid.affine, loaded.affine)
    assert grid.meta["filename_or_obj"] == str(path)


def test_channels_are_those_of_the_preset(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    nib.save(nib.Nifti1Image(np.stack([VALUES] * 4, axis=-1), AFFINE), path)
    assert Preset("mr", channels=4, in_channels=4).grid(path).shape == (4, 4, 5, 6)
    with pytest.raises(DataError, match=r"4 channels.*, 1 expected"):
        Preset("mr").grid(path)


def test_what_is_no_volume_is_told(tmp_path: Path) -> None:
    nib.save(nib.AnalyzeImage(VALUES.astype(np.int16), None), tmp_path / "a.img")
    with pytest.raises(DataError, match=r"a\.img does not say how it lies in the patient"):
        Preset("mr").grid(tmp_path / "a.img")
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png is no volume but a picture"):
        volume_grid(tmp_path / "a.png")
    nib.save(nib.Nifti1Image(VALUES[0], AFFINE), tmp_path / "flat.nii")
    with pytest.raises(DataError, match=r"flat\.nii is no volume of three dimensions"):
        volume_grid(tmp_path / "flat.nii")

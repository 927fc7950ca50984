# SPDX-License-Identifier: Apache-2.0
"""Masks of pictures as 3D Slicer saves them, volumes of one slice, are read as PNG is."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.label import compat
from monai_sam2unet.transforms import Preset

pytestmark = pytest.mark.label


@pytest.fixture
def mask(tmp_path: Path) -> np.ndarray:
    """Of a picture that is not square, which is picture.png; mask.nii.gz is the mask."""
    compat.apply()
    found = np.zeros((5, 7), np.uint8)
    found[1:3, 2:6] = 3
    found[4, 0] = 2
    Image.fromarray(np.zeros((5, 7, 3), np.uint8)).save(tmp_path / "picture.png")
    nib.save(nib.Nifti1Image(found.T[..., None], np.diag([-1.0, -1.0, 1.0, 1.0])), tmp_path / "mask.nii.gz")
    return found


def test_examples(mask: np.ndarray) -> None:
    from monai_sam2unet.label import single_slice

    assert doctest.testmod(single_slice).failed == 0


def test_they_are_kept(mask: np.ndarray, tmp_path: Path) -> None:
    from monai_sam2unet.label.folder_store import FolderStore
    from monai_sam2unet.label.model_classes import ModelClasses

    (tmp_path / "studies").mkdir()
    (tmp_path / "picture.png").rename(tmp_path / "studies" / "picture.png")
    model = ModelClasses("spots", {"large": 1, "small": 2}, {}, Path)
    store = FolderStore(str(tmp_path / "studies"), [model], extensions=["*.png", "*.nii.gz"])
    named = [{"name": "small", "idx": 2}, {"name": "large", "idx": 3}]
    store.save_label("picture", str(tmp_path / "mask.nii.gz"), "final", {"label_info": named})
    kept = np.asarray(Image.open(store.get_label_uri("picture", "final")))
    np.testing.assert_array_equal(kept, np.array([0, 0, 2, 1])[mask])


def test_they_are_taken_for_scribbles(mask: np.ndarray, tmp_path: Path) -> None:
    from monai_sam2unet.label.interactive_infer_task import KNOWN, InteractiveInferTask

    task = SimpleNamespace(preset=Preset("endoscopy"))
    known = SimpleNamespace(refiner=SimpleNamespace(image=np.zeros((3, *mask.shape), np.float32)))
    drawn = InteractiveInferTask._drawn(task, {"label": str(tmp_path / "mask.nii.gz"), KNOWN: known})  # type: ignore[arg-type]
    np.testing.assert_array_equal(drawn, mask)

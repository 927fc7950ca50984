# SPDX-License-Identifier: Apache-2.0
"""Clients are told what to do, in the names that they know, not where the server keeps its files."""

from __future__ import annotations

import doctest
import re
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.label import client_errors
from monai_sam2unet.label.client_errors import for_clients
from monai_sam2unet.transforms import Preset
from monai_sam2unet.transforms.check_case import CheckImaged

pytestmark = pytest.mark.label
FOLDER = "/srv/our studies"
PROGRAMMERS = re.compile(r"preset|any_modality|ResampleToMatchd|dicom=|dst |img |/srv")


def refused(check: Callable[[], Any]) -> str:
    with pytest.raises(DataError) as error:
        check()
    assert PROGRAMMERS.search(str(error.value))
    return for_clients(str(error.value), [FOLDER])


@pytest.mark.parametrize(
    ("is_volume", "shape", "meta", "told"),
    [
        (True, (1, 8, 8), {}, "ask a model of pictures."),
        (False, (3, 8, 8, 4), {}, "ask a model of volumes."),
        (False, (3, 8, 8, 4), {"in_patient_space": False}, "send a single frame."),
        (True, (1, 8, 8, 4), {"modality": "CT"}, "this model takes MR. Ask a model of such images."),
        (True, (4, 8, 8, 4), {}, "no model here takes several at once."),
    ],
)
def test_images_of_another_kind(is_volume: bool, shape: tuple[int, ...], meta: dict[str, Any], told: str) -> None:
    image = MetaTensor(torch.zeros(shape), meta={**meta, "filename_or_obj": f"{FOLDER}/sub/heart.nii.gz"})
    check = CheckImaged("image", is_volume, (1, 3), ["MR"])
    text = refused(lambda: check({"image": image}))
    assert text.startswith("heart.nii.gz ")
    assert text.endswith(told)
    assert not PROGRAMMERS.search(text)


def test_labels_on_another_grid(tmp_path: Path) -> None:
    from monai_sam2unet.label import compat

    compat.apply()
    from monai_sam2unet.label.folder_store import load_label

    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), image := tmp_path / "heart.nii.gz")
    for shape, affine in (((4, 4, 4), np.diag([2, 2, 2, 1.0])), ((4, 4, 5), np.eye(4))):
        with tempfile.NamedTemporaryFile(suffix=".nii.gz") as sent:
            nib.save(nib.Nifti1Image(np.zeros(shape, np.uint8), affine), sent.name)
            text = refused(lambda path=sent.name: load_label(path, str(image)))
        assert "'the image heart.nii.gz' and 'the label the file sent' do not have one grid" in text
        assert text.endswith("Save the label on the grid of its image.")
        assert str(tmp_path) not in text


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "heart.nii.gz").write_bytes(b"none")
    with pytest.raises(DataError) as error:
        Preset("mr").inference()({"image": str(tmp_path / "heart.nii.gz")})
    assert for_clients(str(error.value), [tmp_path]).startswith("heart.nii.gz cannot be read: ")
    assert str(tmp_path) not in for_clients(str(error.value), [tmp_path])
    assert doctest.testmod(client_errors).failed == 0

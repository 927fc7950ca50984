# SPDX-License-Identifier: Apache-2.0
"""DICOM images behind the files that MONAI Label hands on, and the files made of them."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
from numpy.typing import NDArray

from monai_sam2unet.dicom import DicomVolume, is_dicom

__all__ = ["dicom_files", "save_label_volume", "save_volume", "slices_first"]

NIFTI = ".nii.gz"


def dicom_files(image: str | Path) -> list[Path]:
    """The DICOM files that an image is, or was made of.

    Args:
        image: a DICOM file, a folder of such, or a NIfTI file beside a folder of its name, which holds them.

    Returns:
        None where the image is something else.
    """
    path = Path(image)
    if path.name.endswith(NIFTI):
        path = path.with_name(path.name.removesuffix(NIFTI))
    if path.is_dir():
        return sorted(file for file in path.iterdir() if is_dicom(file))
    return [path] if is_dicom(path) else []


def slices_first(values: NDArray) -> NDArray:
    """(columns, rows, slices), as in NIfTI, as (slices, rows, columns), as in DICOM; or the other way round.

    Args:
        values: of a volume, or (columns, rows) of a picture, which is one slice.
    """
    turned = values.T
    return turned if turned.ndim == 3 else turned[np.newaxis]


def _save(values: NDArray, affine: NDArray[np.float64], path: Path) -> None:
    image = nib.Nifti1Image(values, affine)
    image.header.set_xyzt_units("mm")
    for set_place in (image.set_sform, image.set_qform):
        set_place(affine, code=1)
    nib.save(image, path)


def save_volume(volume: DicomVolume, path: Path) -> None:
    """Write a DICOM volume as NIfTI, for viewers and trainings; values and grid are the reader's.

    Args:
        volume: of gray values, with a place in the patient.
        path: the file, ``.nii.gz``.
    """
    _save(slices_first(volume.pixels), volume.affine, path)


def save_label_volume(ids: NDArray[np.uint8], affine: NDArray[np.float64], path: Path) -> None:
    """Write class ids as NIfTI.

    Args:
        ids: (columns, rows, slices).
        affine: (4, 4), to RAS mm.
        path: the file, ``.nii.gz``.
    """
    _save(ids, affine, path)

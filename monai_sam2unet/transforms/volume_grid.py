# SPDX-License-Identifier: Apache-2.0
"""Where a volume lies, read from its headers alone where these say it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import nibabel as nib
import torch
from monai.config import PathLike
from monai.data import MetaTensor
from monai.utils import ImageMetaKey, ensure_tuple
from nibabel.filebasedimages import ImageFileError

from monai_sam2unet.dicom import SAM2UNetDICOMReader
from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms.load_any_image import LoadAnyImage

__all__ = ["volume_grid"]


def volume_grid(
    source: PathLike | Sequence[PathLike],
    dicom_reader: SAM2UNetDICOMReader | None = None,
    require_orientation: bool = False,
) -> MetaTensor:
    """Read where a volume lies; of NIfTI and DICOM the headers alone.

    Args:
        source: a file; for DICOM also a folder, a DICOMDIR, or the files of one series.
        dicom_reader: reads DICOM with its options; None: with none.
        require_orientation: whether a file that does not say how it lies in the patient is an error.

    Returns:
        Zeros (C, X, Y, Z) that take no memory, with the affine and ``filename_or_obj``; of DICOM also with
        ``modality``, ``series_uid`` and ``in_patient_space``.

    Raises:
        DataError: When files are missing or cannot be read, are no volume, or make no regular grid.
        ConfigError: When an option of the DICOM reader is not one of those there are.
    """
    paths = [Path(name) for name in ensure_tuple(source)]
    missing = [str(path) for path in paths if not path.exists()]
    if missing:
        raise DataError(f"There is no file or folder {', '.join(missing[:3])}.")
    reader = dicom_reader or SAM2UNetDICOMReader()
    if reader.verify_suffix(paths):
        shape, meta = reader.get_grid(paths)
    elif paths[0].name.lower().endswith((".nii", ".nii.gz")):
        shape, meta = _of_nifti(paths[0], require_orientation)
    else:
        image = LoadAnyImage("gray", require_orientation=require_orientation)(paths[0])
        if image.ndim != 4:
            raise DataError(f"{paths[0]} is no volume but a picture, of shape {tuple(image.shape)}.")
        shape, meta = tuple(image.shape), {"affine": image.affine}
    meta[ImageMetaKey.FILENAME_OR_OBJ] = str(paths[0] if len(paths) == 1 else paths[0].parent)
    affine = torch.as_tensor(meta.pop("affine"))
    channels = (1,) if len(shape) == 3 else ()
    return MetaTensor(torch.zeros(1, dtype=torch.uint8).expand(*channels, *shape), affine=affine, meta=meta)


def _of_nifti(path: Path, require_orientation: bool) -> tuple[tuple[int, ...], dict[str, Any]]:
    try:
        file: Any = nib.load(path)
    except (OSError, ValueError, EOFError, ImageFileError) as error:
        raise DataError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error
    shape = file.shape[:3] + tuple(n for n in file.shape[3:] if n != 1)
    if len(shape) not in (3, 4) or file.affine is None:
        raise DataError(f"{path} is no volume of three dimensions but of the shape {tuple(file.shape)}.")
    if require_orientation and not any(int(file.header[f"{code}_code"]) for code in ("sform", "qform")):
        raise DataError(f"{path} does not say how it lies in the patient: sform_code and qform_code are 0.")
    return (*shape[3:], *shape[:3]), {"affine": file.affine}

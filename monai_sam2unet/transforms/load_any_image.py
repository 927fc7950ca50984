# SPDX-License-Identifier: Apache-2.0
"""Loads a picture, a NIfTI volume or DICOM, each by the one reader that fits it."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import DtypeLike, KeysCollection, PathLike
from monai.data import ImageReader, MetaTensor, NibabelReader, PILReader
from monai.transforms import LoadImage, MapTransform, Transform
from monai.utils import MetaKeys, ensure_tuple
from nibabel.filebasedimages import ImageFileError
from PIL import Image, ImageOps

from monai_sam2unet.data import to_gray, to_rgb
from monai_sam2unet.dicom import SAM2UNetDICOMReader
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["LoadAnyImage", "LoadAnyImaged"]

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
DEEP_MODES = ("I", "I;16", "I;16L", "I;16B", "F")


def _to_deep_gray(image: Image.Image) -> Image.Image:
    """Upright gray, of 16 bits where the picture has them."""
    return ImageOps.exif_transpose(image) if image.mode in DEEP_MODES else to_gray(image)


#: What a picture's pixels are read as.
PICTURE_CHANNELS: dict[str, Callable[[Image.Image], Image.Image]] = {"rgb": to_rgb, "gray": _to_deep_gray}


class LoadAnyImage(Transform):
    """Load a picture (C, H, W), or a volume (C, X, Y, Z) with its affine in RAS mm, by what the file is.

    DICOM (told by its content, also a folder or the files of one series) is read by
    :class:`monai_sam2unet.dicom.SAM2UNetDICOMReader`, NIfTI by MONAI's ``NibabelReader``, everything else by
    ``PILReader``. No other reader is tried when this one fails. DICOM images that have no place in the patient
    (radiographs, endoscopy, ultrasound) are pictures; several frames of one are a volume of pictures (C, X, Y, frames).

    Args:
        picture: ``"rgb"``: three channels of 8 bits; ``"gray"``: one channel of 8 or 16 bits.
        dicom: options of :class:`monai_sam2unet.dicom.SAM2UNetDICOMReader`, as ``{"strict": False}``.
        require_orientation: whether a NIfTI file whose sform and qform codes are both 0 is an error, for then its
            affine is nibabel's guess.
        dtype: of the result.

    Raises:
        ConfigError: When ``picture`` is neither of these.
        TypeError: When an option of the reader is not known.
    """

    def __init__(
        self,
        picture: str = "rgb",
        dicom: Mapping[str, Any] | None = None,
        require_orientation: bool = True,
        dtype: DtypeLike = np.float32,
    ) -> None:
        if picture not in PICTURE_CHANNELS:
            raise ConfigError(f"picture must be one of {', '.join(PICTURE_CHANNELS)}, got {picture!r}.")
        self.require_orientation = require_orientation
        self.dicom = dict(dicom or {})
        self.dicom_reader = SAM2UNetDICOMReader(**self.dicom)
        self.pil_reader = PILReader(converter=PICTURE_CHANNELS[picture], reverse_indexing=False)
        self.loader = LoadImage(image_only=True, dtype=dtype, ensure_channel_first=True)

    def _reader(self, paths: Sequence[Path]) -> ImageReader:
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise DataError(f"There is no file or folder {', '.join(missing)}.")
        if self.dicom_reader.verify_suffix(paths):
            return self.dicom_reader
        if any(path.is_dir() for path in paths):
            raise DataError(f"There is no DICOM image in {', '.join(map(str, paths))}.")
        if len(paths) > 1:
            raise DataError(f"Several files are one image only in DICOM; these are not: {', '.join(map(str, paths))}.")
        return NibabelReader() if paths[0].name.lower().endswith(NIFTI_SUFFIXES) else self.pil_reader

    def __call__(self, filename: Sequence[PathLike] | PathLike) -> MetaTensor:
        """Load one image.

        Args:
            filename: a file; for DICOM also a folder, a DICOMDIR, or the files of one series.

        Returns:
            A picture (C, H, W), or a volume (C, X, Y, Z).

        Raises:
            DataError: When the file is missing or cannot be read, DICOM images make no regular volume, or a NIfTI file
                has no orientation.
        """
        paths = [Path(name) for name in ensure_tuple(filename)]
        reader = self._reader(paths)
        try:
            image: MetaTensor = self.loader(paths, reader=reader)
        except (OSError, ValueError, SyntaxError, EOFError, ImageFileError, Image.DecompressionBombError) as error:
            if isinstance(error, DataError | ConfigError):
                raise
            raise DataError(
                f"{paths[0]} cannot be read: {str(error).splitlines()[0] if str(error) else error!r}"
            ) from error
        if isinstance(reader, NibabelReader) and self.require_orientation:
            codes = [int(image.meta.get(name, 0)) for name in ("sform_code", "qform_code")]
            if not any(codes):
                raise DataError(
                    f"{paths[0]} has sform_code and qform_code 0, so its orientation is not known. Set them, or take "
                    "nibabel's guess with require_orientation=False."
                )
        if reader is self.dicom_reader and not image.meta["in_patient_space"] and image.ndim == 3:
            # DICOM is indexed (column, row); pictures are (row, column).
            image = MetaTensor(image.as_tensor().transpose(1, 2).contiguous(), meta=image.meta)
            image.affine = image.affine[:, [1, 0, 2, 3]]
            image.meta[MetaKeys.SPATIAL_SHAPE] = np.array(image.shape[1:])
        return image


class LoadAnyImaged(MapTransform):
    """Dictionary version of :class:`LoadAnyImage`.

    Args:
        keys: keys of the files; the images take their place.
        picture: as in :class:`LoadAnyImage`.
        dicom: as in :class:`LoadAnyImage`.
        require_orientation: as in :class:`LoadAnyImage`.
        dtype: as in :class:`LoadAnyImage`.
        allow_missing_keys: whether a missing key is passed over.

    Raises:
        ConfigError: When ``picture`` is not one of those allowed.
        TypeError: When an option of the reader is not known.
    """

    def __init__(
        self,
        keys: KeysCollection,
        picture: str = "rgb",
        dicom: Mapping[str, Any] | None = None,
        require_orientation: bool = True,
        dtype: DtypeLike = np.float32,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadAnyImage(picture, dicom, require_orientation, dtype)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load what is under the keys; see :meth:`LoadAnyImage.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d

# SPDX-License-Identifier: Apache-2.0
"""Loads a picture, a NIfTI volume or DICOM, each by the one reader that fits it."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.config import DtypeLike, KeysCollection, PathLike
from monai.data import ImageReader, ITKReader, MetaTensor, NibabelReader, PILReader
from monai.transforms import EnsureChannelFirst, MapTransform, Transform
from monai.transforms.io.array import switch_endianness
from monai.utils import ImageMetaKey, MetaKeys, ensure_tuple
from nibabel.filebasedimages import ImageFileError
from PIL import Image

from monai_sam2unet.data import PICTURES
from monai_sam2unet.dicom import DicomVolume, SAM2UNetDICOMReader
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["LoadAnyImage", "LoadAnyImaged"]

NIFTI_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz")
ITK_SUFFIXES = (".mha", ".mhd", ".nrrd", ".nhdr")
#: Weights of red, green and blue in gray (ITU-R BT.601), as Pillow has them.
LUMA = (0.299, 0.587, 0.114)


def _is_oriented(image: MetaTensor, path: Path) -> bool:
    """Whether a volume's file says how it lies; MetaImage always does."""
    name = path.name.lower()
    if name.endswith(NIFTI_SUFFIXES):
        return any(int(image.meta.get(code, 0)) for code in ("sform_code", "qform_code"))
    return "NRRD_space" in image.meta or not name.endswith((".nrrd", ".nhdr"))


class LoadAnyImage(Transform):
    """Load a picture (C, H, W), or a volume (C, X, Y, Z) with its affine in RAS mm, by what the file is.

    DICOM (told by its content, also a folder or the files of one series) is read by
    :class:`monai_sam2unet.dicom.SAM2UNetDICOMReader`, NIfTI by MONAI's ``NibabelReader``, MetaImage and NRRD by its
    ``ITKReader``, everything else by its ``PILReader``. No other reader is tried when this one fails. DICOM images that
    have no place in the patient (radiographs, endoscopy, ultrasound) are pictures; several frames of one come as
    (C, H, W, frames).

    Args:
        picture: ``"rgb"``: three channels of 8 bits; ``"gray"``: one channel of 8 or 16 bits, colours by their luma;
            ``"label"``: one channel of the values as stored, which are a palette's indices.
        dicom: options of :class:`monai_sam2unet.dicom.SAM2UNetDICOMReader`, as ``{"strict": False}``.
        require_orientation: whether a volume that does not say how it lies is an error, for then its affine is the
            reader's guess: NIfTI whose sform and qform codes are both 0, Analyze, NRRD without space.
        dtype: of the result.
        union: whether several picture files are the parts of one mask: each pixel has the largest of their values.

    Volumes lie in memory as their files have them, mostly slice by slice, not in the order of their axes.

    The metadata's ``filename_or_obj`` is the file; for a DICOM folder its name with ``.dcm`` after it, and what was
    chosen of it (series, stack, frame) between, so that results saved under this name do not overwrite each other.

    Raises:
        ConfigError: When ``picture`` is none of these, or ``dicom`` has ``swap_ij``.
        TypeError: When an option of the reader is not known.
    """

    def __init__(
        self,
        picture: str = "rgb",
        dicom: Mapping[str, Any] | None = None,
        require_orientation: bool = True,
        dtype: DtypeLike = np.float32,
        union: bool = False,
    ) -> None:
        if picture not in PICTURES:
            raise ConfigError(f"picture must be one of {', '.join(PICTURES)}, got {picture!r}.")
        if "swap_ij" in (dicom or {}):
            raise ConfigError("swap_ij is no option here: pictures are (row, column), volumes (column, row, slice).")
        self.picture = picture
        self.require_orientation = require_orientation
        self.dtype = dtype
        self.union = union
        self.dicom_reader = SAM2UNetDICOMReader(**{"contiguous": False, **(dicom or {})})
        chosen = [(name, (dicom or {}).get(name)) for name in ("series_uid", "stack", "frame")]
        self.chosen = "".join(
            f"_{value if name == 'series_uid' else f'{name}{value}'}" for name, value in chosen if value is not None
        )
        self.pil_reader = PILReader(converter=PICTURES[picture], reverse_indexing=False)
        self.channel_first = EnsureChannelFirst()

    def _reader(self, paths: Sequence[Path]) -> ImageReader:
        missing = [str(path) for path in paths if not path.exists()]
        if missing:
            raise DataError(f"There is no file or folder {', '.join(missing)}.")
        if self.dicom_reader.verify_suffix(paths):
            return self.dicom_reader
        if any(path.is_dir() for path in paths):
            raise DataError(f"There is no DICOM image in {', '.join(map(str, paths))}; of other kinds give one file.")
        if len(paths) > 1:
            raise DataError(f"Several files are one image only in DICOM; these are not: {', '.join(map(str, paths))}.")
        name = paths[0].name.lower()
        if name.endswith(NIFTI_SUFFIXES):
            return NibabelReader()
        return ITKReader() if name.endswith(ITK_SUFFIXES) else self.pil_reader

    def __call__(self, filename: Sequence[PathLike] | PathLike | DicomVolume) -> MetaTensor:
        """Load one image.

        Args:
            filename: a file; for DICOM also a folder, a DICOMDIR, or the files of one series, or what was read of them
                before; with ``union`` also the files of one mask.

        Returns:
            A picture (C, H, W), or a volume (C, X, Y, Z).

        Raises:
            DataError: When the file is missing or cannot be read, DICOM images make no regular volume, a volume
                has no orientation, is not in mm or not of three dimensions, a picture has several pages, or the parts
                of a mask differ in size.
        """
        if isinstance(filename, DicomVolume):
            values, meta = self.dicom_reader.arranged(filename)
            return self._of_kind(self._rows_first(self._with_channels(values, meta, str(filename.first.path))))
        paths = [Path(name).expanduser() for name in ensure_tuple(filename)]
        if self.union and len(paths) > 1 and not self.dicom_reader.verify_suffix(paths):
            return self._united([self(path) for path in paths], paths)
        reader = self._reader(paths)
        try:
            values, meta = reader.get_data(reader.read(paths if reader is self.dicom_reader else str(paths[0])))
        except ConfigError:
            raise
        except DataError as error:
            raise error if str(paths[0]) in str(error) else DataError(f"{paths[0]}: {error}") from error
        except (
            OSError,
            ValueError,
            SyntaxError,
            EOFError,
            RuntimeError,
            ImageFileError,
            Image.DecompressionBombError,
        ) as error:
            reason = str(error).strip().splitlines()
            raise DataError(f"{paths[0]} cannot be read: {reason[-1] if reason else repr(error)}") from error
        image = self._with_channels(values, meta, self._name(paths, reader))
        if reader is self.dicom_reader:
            image = self._rows_first(image)
        elif reader is not self.pil_reader:
            self._check_volume(image, paths[0])
        elif self.picture == "rgb" and len(image) != 3:
            raise DataError(f"{paths[0]} has {len(image)} channels; three are expected.")
        return self._of_kind(image)

    def _with_channels(self, values: Any, meta: dict[str, Any], name: str) -> MetaTensor:
        meta = switch_endianness(meta, "<")
        meta[ImageMetaKey.FILENAME_OR_OBJ] = name
        # A copy, for the reader's may be the volume's own memory; in its order, which keeps axial slices whole.
        tensor = torch.as_tensor(np.array(values, dtype=self.dtype, order="K"))
        image = self.channel_first(MetaTensor.ensure_torch_and_prune_meta(tensor, meta))
        if not isinstance(image, MetaTensor):
            raise DataError("Images are loaded while MONAI tracks metadata; see monai.data.set_track_meta.")
        return image

    def _of_kind(self, image: MetaTensor) -> MetaTensor:
        return self._as_gray(image) if self.picture != "rgb" and len(image) == 3 and image.ndim == 3 else image

    @staticmethod
    def _united(parts: Sequence[MetaTensor], paths: Sequence[Path]) -> MetaTensor:
        if len({part.shape for part in parts}) > 1:
            sizes = ", ".join(f"{path} {tuple(part.shape[1:])}" for path, part in zip(paths, parts, strict=True))
            raise DataError(f"The parts of one mask differ in size: {sizes}.")
        return MetaTensor(torch.stack([part.as_tensor() for part in parts]).amax(0), meta=parts[0].meta)

    def _name(self, paths: Sequence[Path], reader: ImageReader) -> str:
        """A name that MONAI's ``SaveImage`` makes another output of for each image: it cuts it at the last dot."""
        series = paths[0] if paths[0].is_dir() or len(paths) == 1 else paths[0].parent
        if reader is self.dicom_reader and (series.is_dir() or self.chosen):
            return f"{series}{self.chosen}.dcm"
        return str(paths[0])

    @staticmethod
    def _rows_first(image: MetaTensor) -> MetaTensor:
        """DICOM is indexed (column, row); pictures, and the frames of a cine, are (row, column)."""
        if image.meta["in_patient_space"]:
            return image
        turned = MetaTensor(image.as_tensor().transpose(1, 2).contiguous(), meta=image.meta)
        turned.affine = image.affine[:, [1, 0, 2, 3]]
        turned.meta[MetaKeys.SPATIAL_SHAPE] = np.array(turned.shape[1:])
        return turned

    @staticmethod
    def _as_gray(image: MetaTensor) -> MetaTensor:
        luma = torch.tensor(LUMA, dtype=torch.float64).view(3, 1, 1)
        gray = (image.as_tensor().double() * luma).sum(0, keepdim=True).round().to(image.dtype)
        return MetaTensor(gray, meta=image.meta)

    def _check_volume(self, image: MetaTensor, path: Path) -> None:
        if image.ndim != 4:
            raise DataError(
                f"{path} does not hold a volume of three dimensions: with channels first its shape is "
                f"{tuple(image.shape)}. Save pictures as PNG or TIFF, and one time point by itself."
            )
        if self.require_orientation and not _is_oriented(image, path):
            raise DataError(
                f"{path} does not say how it lies in the patient (NIfTI: sform_code and qform_code are 0; Analyze "
                "never does; NRRD: no space). Set it, or take the reader's guess with require_orientation=False."
            )
        if int(image.meta.get("xyzt_units", 2)) & 7 in (1, 3):
            raise DataError(f"{path} is not in mm but in metres or micrometres (xyzt_units); convert its affine to mm.")


class LoadAnyImaged(MapTransform):
    """Dictionary version of :class:`LoadAnyImage`.

    Args:
        keys: keys of the files; the images take their place.
        picture: as in :class:`LoadAnyImage`.
        dicom: as in :class:`LoadAnyImage`.
        require_orientation: as in :class:`LoadAnyImage`.
        dtype: as in :class:`LoadAnyImage`.
        union: as in :class:`LoadAnyImage`.
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
        union: bool = False,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.load = LoadAnyImage(picture, dicom, require_orientation, dtype, union)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load what is under the keys; see :meth:`LoadAnyImage.__call__`."""
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self.load(d[key])
        return d

# SPDX-License-Identifier: Apache-2.0
"""MONAI reader for DICOM: series, single images, enhanced and multi-frame ones."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from monai.config import PathLike
from monai.data import ImageReader
from monai.transforms.io.array import SUPPORTED_READERS
from monai.utils import MetaKeys, SpaceKeys, ensure_tuple
from numpy.typing import NDArray

from monai_sam2unet.dicom.pixels import first_window
from monai_sam2unet.dicom.series import files_in, may_be_dicom
from monai_sam2unet.dicom.volume import DicomGrid, DicomVolume, read_grid, read_volume
from monai_sam2unet.errors import DataError

__all__ = ["SAM2UNetDICOMReader"]


class SAM2UNetDICOMReader(ImageReader):
    """Reads a DICOM series, or an image, with its geometry checked.

    Arrays are indexed (column, row, slice), as MONAI's readers have it, with colour channels last; a single image
    outside a patient space is (column, row). The affine goes from these indices to RAS mm (``meta["space"]``).
    The metadata hold, besides MONAI's keys: ``modality``, ``series_uid``, ``bits_stored``, ``in_patient_space``,
    ``shear_deg`` (degrees), ``spacing_source``, ``filled_slices`` (how many were interpolated), and the first window
    of the first slice as ``window_center``, ``window_width`` (NaN where there is none, and after ``voi``) and
    ``voi_lut_function``. Of MONOCHROME1, whose values are turned over, the window is, too.

    It is registered with MONAI by name: ``LoadImaged(keys="image", reader="SAM2UNetDICOMReader")`` finds it once this
    class is imported. ``LoadImage`` passes a file that its reader's :meth:`read` refuses on to
    MONAI's own readers; so that a series with wrong geometry is never read by these after all, :meth:`read` only looks
    at whether the files are DICOM, and everything else is refused in :meth:`get_data`.

    Args:
        series_uid: SeriesInstanceUID of the series wanted, where there are several.
        stack: which volume of the series, counted from 0, where there are several at the same place.
        frame: read this frame alone, counted from 0, of a multi-frame image.
        strict: whether localizers, repeated slices, shear and files without File Meta Information are errors; see
            :func:`monai_sam2unet.dicom.read_volume`.
        fill_gaps: whether missing slices are interpolated instead of being an error.
        voi: None for modality values (HU for CT); a number for that VOI LUT or window, which gives [0, 1].
        mask_padding: whether padding gets the lowest of the other values.
        swap_ij: whether the first axis is the column index (as for MONAI's ``PydicomReader``) or, False, the row index;
            the affine follows.
        contiguous: whether arrays lie in memory in the order of their axes, as MONAI's readers have it; False: as the
            pixels were read, slice by slice, which takes no copy and leaves axial slices whole.
        num_workers: threads that decode compressed pixels; None for one a core, at most 8.
    """

    def __init__(
        self,
        series_uid: str | None = None,
        stack: int | None = None,
        frame: int | None = None,
        strict: bool = True,
        fill_gaps: bool = False,
        voi: int | None = None,
        mask_padding: bool = True,
        swap_ij: bool = True,
        contiguous: bool = True,
        num_workers: int | None = None,
    ) -> None:
        super().__init__()
        self.swap_ij = swap_ij
        self.contiguous = contiguous
        self.options: dict[str, Any] = {
            "series_uid": series_uid,
            "stack": stack,
            "frame": frame,
            "strict": strict,
            "fill_gaps": fill_gaps,
            "voi": voi,
            "mask_padding": mask_padding,
            "num_workers": num_workers,
        }

    def verify_suffix(self, filename: Sequence[PathLike] | PathLike) -> bool:
        """Whether the files are DICOM, by what they hold; of a folder, whether it holds any.

        Args:
            filename: files or folders.
        """
        return all(self._holds_dicom(Path(name)) for name in ensure_tuple(filename))

    @staticmethod
    def _holds_dicom(path: Path) -> bool:
        try:
            return any(True for _ in files_in(path)) if path.is_dir() else may_be_dicom(path)
        except OSError:
            return False
        # A folder that cannot be searched is refused when it is read, so that no other reader takes it.
        except DataError:
            return True

    def read(self, data: Sequence[PathLike] | PathLike, **kwargs: Any) -> tuple[list[Path], dict[str, Any]]:
        """Take files to read.

        Args:
            data: a file, a folder, a DICOMDIR, or the files of one series.
            kwargs: options of the constructor, to go before them.

        Returns:
            The paths and the options, for :meth:`get_data`.

        Raises:
            DataError: When they are not DICOM, so that ``LoadImage`` may try another reader.
        """
        paths = [Path(name) for name in ensure_tuple(data)]
        # Of several files, one is enough: another reader must not take the rest.
        if not any(self._holds_dicom(path) for path in paths):
            raise DataError(f"There is no DICOM image in {', '.join(map(str, paths))}.")
        return paths, {**self.options, **kwargs}

    def get_data(self, img: tuple[list[Path], dict[str, Any]]) -> tuple[NDArray, dict[str, Any]]:
        """Read the files that :meth:`read` took.

        Args:
            img: their paths, and the options.

        Returns:
            The values and the metadata.

        Raises:
            DataError: As :func:`monai_sam2unet.dicom.read_volume`.
            ConfigError: As :func:`monai_sam2unet.dicom.read_volume`.
        """
        paths, options = img
        return self.arranged(read_volume(paths, **options))

    def arranged(self, volume: DicomVolume) -> tuple[NDArray, dict[str, Any]]:
        """A volume that was read before, as :meth:`get_data` gives it.

        Args:
            volume: what :func:`monai_sam2unet.dicom.read_volume` gave.

        Returns:
            The values and the metadata.
        """
        array = self._as_array(volume)
        return array, self._as_meta(volume, array.shape)

    def get_grid(self, data: Sequence[PathLike] | PathLike) -> tuple[tuple[int, ...], dict[str, Any]]:
        """Read where files lie, of a gray volume, without their pixels.

        Args:
            data: a file, a folder, a DICOMDIR, or the files of one series.

        Returns:
            The shape that :meth:`get_data` gives their values, and of its metadata the affine, ``space``, ``modality``,
            ``series_uid`` and ``in_patient_space``.

        Raises:
            DataError: As :func:`monai_sam2unet.dicom.read_grid`.
            ConfigError: As :func:`monai_sam2unet.dicom.read_grid`.
        """
        names = ("series_uid", "stack", "frame", "strict", "fill_gaps")
        options: dict[str, Any] = {name: self.options[name] for name in names}
        grid = read_grid([Path(name) for name in ensure_tuple(data)], **options)
        slices, rows, columns = grid.shape
        shape = (columns, rows, slices) if self.swap_ij else (rows, columns, slices)
        return shape, self._place_of(grid)

    def _place_of(self, grid: DicomGrid) -> dict[str, Any]:
        affine = grid.affine if self.swap_ij else grid.affine[:, [1, 0, 2, 3]]
        return {
            MetaKeys.AFFINE: affine,
            MetaKeys.SPACE: SpaceKeys.RAS,
            "modality": grid.series.modality,
            "series_uid": grid.series.uid,
            "in_patient_space": grid.in_patient_space,
        }

    def _as_array(self, volume: DicomVolume) -> NDArray:
        row_axis, axes = (1, (2, 1, 0)) if self.swap_ij else (0, (1, 2, 0))
        view = volume.pixels.transpose(*axes, *range(3, volume.pixels.ndim))
        array = view
        if self.contiguous:
            array = np.empty(view.shape, view.dtype)
            # Copied row by row, that takes a third of the time.
            for target, values in zip(np.moveaxis(array, row_axis, 0), np.moveaxis(view, row_axis, 0), strict=True):
                target[...] = values
        return array if volume.in_patient_space or array.shape[2] > 1 else array[:, :, 0]

    def _as_meta(self, volume: DicomVolume, shape: tuple[int, ...]) -> dict[str, Any]:
        place = self._place_of(volume)
        colour = volume.pixels.ndim == 4
        first = volume.first
        palette = first.dataset.get("PhotometricInterpretation") == "PALETTE COLOR"
        center, width, function = self._window(volume)
        return {
            **place,
            MetaKeys.ORIGINAL_AFFINE: place[MetaKeys.AFFINE].copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(shape[:-1] if colour else shape),
            MetaKeys.ORIGINAL_CHANNEL_DIM: -1 if colour else float("nan"),
            # A palette's colours are of as many bits as they are given in, whatever its indices have.
            "bits_stored": 8 * volume.pixels.itemsize if palette else int(first.dataset.get("BitsStored") or 0),
            "shear_deg": volume.shear_deg,
            "spacing_source": volume.spacing_source,
            "filled_slices": sum(frame is None for frame in volume.frames),
            "window_center": center,
            "window_width": width,
            "voi_lut_function": function,
        }

    @staticmethod
    def _window(volume: DicomVolume) -> tuple[float, float, str]:
        none = float("nan"), float("nan"), "LINEAR"
        if volume.windowed:
            return none
        try:
            return first_window(volume.first)
        except DataError as error:
            # Who does not window by it has no need of it.
            warnings.warn(f"The metadata have no window: {error}", stacklevel=2)
            return none


def _register() -> None:
    """Add the reader to the table that ``LoadImage`` looks names up in.

    It goes first, since readers are tried from the last on: a ``LoadImage`` that names no reader stays as it was.
    """
    if "sam2unetdicomreader" not in SUPPORTED_READERS:
        others = dict(SUPPORTED_READERS)
        SUPPORTED_READERS.clear()
        SUPPORTED_READERS.update({"sam2unetdicomreader": SAM2UNetDICOMReader, **others})


_register()

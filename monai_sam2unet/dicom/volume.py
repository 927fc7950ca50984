# SPDX-License-Identifier: Apache-2.0
"""Reads one series, or one image, into an array and the place where it lies."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from contextvars import copy_context
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from monai_sam2unet.dicom.frame import Frame
from monai_sam2unet.dicom.geometry import StackGeometry, stack_geometry
from monai_sam2unet.dicom.limits import check_memory
from monai_sam2unet.dicom.pixels import PixelReader
from monai_sam2unet.dicom.series import Series, find_series, select_series
from monai_sam2unet.dicom.stack import choose_stack, drop_duplicates, set_localizers_aside
from monai_sam2unet.dicom.stored import decode, loaded
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["DicomGrid", "DicomVolume", "read_grid", "read_volume"]

#: Attributes that give spacing in the patient. That at a detector (ImagerPixelSpacing) is magnified (PS3.3 10.7.1.3).
CALIBRATED = ("PixelSpacing", "SequenceOfUltrasoundRegions")

UNCOMPRESSED = (
    ImplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    DeflatedExplicitVRLittleEndian,
)


@dataclass(frozen=True, eq=False)
class DicomGrid:
    """Where the pixels of a series lie.

    Args:
        affine: (4, 4) from (column, row, slice) indices to RAS mm. Outside a patient space (radiographs, endoscopy,
            cine) it only scales by the pixel spacing.
        in_patient_space: whether ``affine`` says where the pixels lie in the patient.
        frames: the frame of each slice, None for one that is filled in.
        series: where they come from.
        shear_deg: angle, in degrees, by which the volume is sheared (gantry tilt).
        spacing_source: what ``affine`` has its spacing from: ``positions``, an attribute, or empty for pixels.
    """

    affine: NDArray[np.float64]
    in_patient_space: bool
    frames: tuple[Frame | None, ...]
    series: Series
    shear_deg: float
    spacing_source: str

    @property
    def first(self) -> Frame:
        """The first slice's frame."""
        return next(frame for frame in self.frames if frame is not None)

    @property
    def is_calibrated(self) -> bool:
        """Whether the spacing is that in the patient, in mm."""
        return self.in_patient_space or self.spacing_source in CALIBRATED

    @property
    def pixel_spacing(self) -> tuple[float, float]:
        """Distance between rows and between columns, in the affine's unit: mm, or pixels."""
        columns, rows = np.linalg.norm(self.affine[:3, :2], axis=0).tolist()
        return rows, columns

    @property
    def shape(self) -> tuple[int, int, int]:
        """How many slices, rows and columns there are."""
        return (len(self.frames), *self.first.shape)


@dataclass(frozen=True, eq=False)
class DicomVolume(DicomGrid):
    """Values and geometry of a series.

    Args:
        pixels: values (slices, rows, columns), or (slices, rows, columns, 3) for colour; one slice for a single image.
            Gray values are whole numbers where the rescale keeps them so, else float32.
        windowed: whether gray values went through a VOI LUT or window and are in [0, 1].
    """

    pixels: NDArray
    windowed: bool = False


def _place(frames: Sequence[Frame], strict: bool, fill_gaps: bool) -> tuple[StackGeometry, bool]:
    """The frames in their order, and whether that is one in space."""
    if any(frame.in_patient_space for frame in frames):
        return stack_geometry(frames, strict, fill_gaps), True
    if len({frame.path for frame in frames}) > 1:
        raise DataError(
            f"{len(frames)} images have no position in the patient, so they make no volume; give one file:\n"
            + listing([str(frame) for frame in frames])
        )
    spacing, source = frames[0].calibrated_spacing
    return StackGeometry(tuple(frames), np.diag([spacing[1], spacing[0], 1.0, 1.0]), spacing_source=source), False


def _read_pixels(frames: Sequence[Frame | None], reader: PixelReader, num_workers: int | None) -> NDArray:
    """Values of all slices, those to fill left at 0; padding has the lowest of the other values."""
    (first_slot, first), *others = [(slot, frame) for slot, frame in enumerate(frames) if frame is not None]
    values, padding = reader.values(first)
    shape, kind = (len(frames), *values.shape), _common_type(frames, reader, values)
    # Memory that is only promised is not refused until it is filled, and then the system ends the program.
    check_memory(f"The volume of {first}", math.prod(shape) * kind.itemsize)
    out = np.zeros(shape, kind)
    masks: dict[int, NDArray[np.bool_]] = {}

    def keep(slot: int, values: NDArray, padding: NDArray[np.bool_] | None) -> None:
        out[slot] = values
        if padding is not None and padding.any():
            masks[slot] = padding

    def read(item: tuple[int, Frame]) -> None:
        slot, frame = item
        values, padding = reader.values(frame)
        if values.shape != out.shape[1:] or (values.ndim == 3 and values.dtype != out.dtype):
            raise DataError(
                f"{frame} has values {values.shape} of {values.dtype}, but {first} has {out.shape[1:]} of {out.dtype}."
            )
        keep(slot, values, padding)

    keep(first_slot, values, padding)
    # Plain pixels are read faster by one thread than by several that wait for the interpreter.
    plain = first.dataset.file_meta.get("TransferSyntaxUID") in UNCOMPRESSED
    workers = 1 if plain else num_workers or min(8, os.cpu_count() or 1)
    if workers == 1:
        for item in others:
            read(item)
    else:
        # With the caller's context variables: warnings are told of the series that it is at.
        contexts = [copy_context() for _ in others]
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(lambda context, item: context.run(read, item), contexts, others))
    _fill_padding(out, [first_slot, *(slot for slot, _ in others)], masks)
    return out


def _common_type(frames: Sequence[Frame | None], reader: PixelReader, values: NDArray) -> np.dtype:
    if values.ndim == 3:
        return values.dtype
    kinds = {reader.whole_numbers(frame) for frame in frames if frame is not None}
    return np.dtype(np.float32) if None in kinds else np.result_type(*(kind for kind in kinds if kind is not None))


def _fill_padding(out: NDArray, there: Sequence[int], masks: dict[int, NDArray[np.bool_]]) -> None:
    """Give padding the lowest value that is none, so that it stays background in any window."""
    if not masks:
        return
    lowest = [
        values.min() if mask is None else values[~mask].min()
        for values, mask in ((out[slot], masks.get(slot)) for slot in there)
        if mask is None or not mask.all()
    ]
    for slot, mask in masks.items():
        out[slot][mask] = min(lowest, default=0)


def _interpolate(out: NDArray, filled: Sequence[int]) -> None:
    """Fill slices from the nearest ones that are there, linearly by distance."""
    there = [slot for slot in range(len(out)) if slot not in filled]
    for slot in filled:
        before, after = max(s for s in there if s < slot), min(s for s in there if s > slot)
        share = (slot - before) / (after - before)
        values = (1 - share) * out[before].astype(np.float64) + share * out[after].astype(np.float64)
        out[slot] = np.rint(values) if out.dtype.kind in "iu" else values


def read_volume(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    series_uid: str | None = None,
    stack: int | None = None,
    frame: int | None = None,
    strict: bool = True,
    fill_gaps: bool = False,
    voi: int | None = None,
    mask_padding: bool = True,
    num_workers: int | None = None,
) -> DicomVolume:
    """Read one series, or one image.

    Slices are ordered by their position along the normal, never by InstanceNumber or file name, and must make a
    regular grid: see :func:`monai_sam2unet.dicom.stack_geometry`. Images without a position in the patient
    (radiographs, ultrasound, endoscopy, secondary captures) are read one file at a time, all frames in their order.

    Args:
        source: a file, a folder (searched at any depth), a DICOMDIR, or several of these.
        series_uid: SeriesInstanceUID of the series wanted, where there are several.
        stack: which volume of the series, counted from 0, where there are several at the same place.
        frame: read this frame alone, counted from 0, of a multi-frame image; None for all.
        strict: whether localizers among the images, repeated slices, a sheared volume or a file without File Meta
            Information are errors. Otherwise a warning says what is done: localizers are set aside, the first of
            identical slices is kept, the shear stays in the affine, the file is taken as uncompressed. What would need
            a guess is an error either way.
        fill_gaps: whether missing slices are interpolated, with a warning; otherwise they are an error.
        voi: None for modality values (HU for CT); a number for that VOI LUT or window of the image, counted from 0,
            which gives [0, 1].
        mask_padding: whether padding (PixelPaddingValue) gets the lowest of the other values.
        num_workers: threads that decode compressed pixels; None for one a core, at most 8.

    Returns:
        The values and where they lie.

    Raises:
        DataError: When files are missing or damaged, there are several series or volumes and none is chosen, the
            images do not make a regular grid, or the volume does not fit into memory.
        ConfigError: When ``stack``, ``frame`` or ``voi`` is not one of those there are, or ``num_workers`` is below 1.
    """
    reader = PixelReader(voi, mask_padding)
    if num_workers is not None and num_workers < 1:
        raise ConfigError(f"num_workers must be None or at least 1, got {num_workers}.")
    with ExitStack() as held:
        grid = _grid(source, series_uid, stack, frame, strict, fill_gaps, held)
        pixels = _read_pixels(grid.frames, reader, num_workers)
    _interpolate(pixels, [slot for slot, own in enumerate(grid.frames) if own is None])
    known = {own.name: getattr(grid, own.name) for own in fields(grid)}
    return DicomVolume(**known, pixels=pixels, windowed=voi is not None)


def read_grid(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    series_uid: str | None = None,
    stack: int | None = None,
    frame: int | None = None,
    strict: bool = True,
    fill_gaps: bool = False,
) -> DicomGrid:
    """Read where one series, or one image, lies, as :func:`read_volume` does, from its headers alone.

    Pixels are decoded only where slices lie at one place, to see whether they are the same.

    Args:
        source: as there.
        series_uid: as there.
        stack: as there.
        frame: as there.
        strict: as there.
        fill_gaps: as there.

    Raises:
        DataError: As there.
        ConfigError: As there.
    """
    return _grid(source, series_uid, stack, frame, strict, fill_gaps)


def _grid(
    source: str | os.PathLike[str] | Iterable[str | os.PathLike[str]],
    series_uid: str | None,
    stack: int | None,
    frame: int | None,
    strict: bool,
    fill_gaps: bool,
    held: ExitStack | None = None,
) -> DicomGrid:
    """The grid; with ``held``, files of many frames are kept in memory until it is closed."""
    series = select_series(find_series(source, strict), series_uid)
    frames = set_localizers_aside(series.frames, strict)
    if frame is not None:
        chosen = [item for item in frames if (item.index or 0) == frame]
        if not chosen or len({item.path for item in frames}) > 1:
            raise ConfigError(
                f"frame must be one of a multi-frame image's, counted from 0, got {frame}; given is\n  {series}"
            )
        frames = chosen
    frames = choose_stack(frames, stack)
    if held is not None:
        # A file of many frames is read once, not once for each frame.
        for dataset in {id(item.dataset): item.dataset for item in frames if item.index is not None}.values():
            held.enter_context(loaded(dataset))
    frames = drop_duplicates(frames, decode, strict)
    geometry, in_patient_space = _place(frames, strict, fill_gaps)
    return DicomGrid(
        geometry.affine, in_patient_space, geometry.frames, series, geometry.shear_deg, geometry.spacing_source
    )

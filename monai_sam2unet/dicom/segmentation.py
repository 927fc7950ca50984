# SPDX-License-Identifier: Apache-2.0
"""Reads DICOM segmentations onto the grid of the image that they segment."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from monai_sam2unet.dicom.frame import Frame, frames_of, reading
from monai_sam2unet.dicom.geometry import LPS_TO_RAS
from monai_sam2unet.dicom.series import SEGMENTATIONS, read_header
from monai_sam2unet.dicom.stored import decode, loaded
from monai_sam2unet.errors import DataError, listing

__all__ = ["DicomSegmentation", "StoredSegment"]

#: Corners of a frame may lie this far from the voxels that they belong to, in voxels along each axis; the images of a
#: series themselves may lie up to 1 % of their distance off their grid.
PLACE_TOLERANCE = 0.1
#: SegmentedPropertyTypeCodeSequence of what is around all segments (PS3.16 CID 7150).
BACKGROUND = ("125040", "DCM")


@dataclass(frozen=True)
class StoredSegment:
    """One segment, as its file describes it.

    Args:
        number: SegmentNumber, which means nothing outside its file.
        label: SegmentLabel, without blanks around it.
        is_background: whether it is what is around all others, by its property type or, in a label map, its number.
    """

    number: int
    label: str
    is_background: bool


@dataclass(frozen=True)
class _Place:
    """The voxels that the pixels of a frame are: the first, and the axes and directions of growing row and column."""

    first: tuple[int, ...]
    axes: tuple[int, int]
    signs: tuple[int, int]

    def view(self, volume: NDArray, shape: tuple[int, int]) -> NDArray:
        """The part (rows, columns) of a volume."""
        rest = 3 - sum(self.axes)
        parts = []
        for axis, sign, count in zip(self.axes, self.signs, shape, strict=True):
            start, stop = self.first[axis], self.first[axis] + sign * count
            parts.append(slice(start, stop if stop >= 0 else None, sign))
        plane: NDArray = volume.transpose(rest, *self.axes)[self.first[rest]]
        return plane[parts[0], parts[1]]


def _place(frame: Frame, to_index: NDArray[np.float64], shape: Sequence[int]) -> _Place:
    """Where a frame lies in a volume.

    Raises DataError when it does not lie on its voxels.
    """
    orientation, position, spacing = frame.plane
    rows, columns = frame.shape
    origin = (to_index @ [*position, 1.0])[:3]
    # Of a growing row index, then of a growing column index.
    steps = np.stack(
        [to_index[:3, :3] @ (orientation[1] * spacing[0]), to_index[:3, :3] @ (orientation[0] * spacing[1])]
    )
    first, units = np.rint(origin), np.rint(steps)
    corners = np.array([(r, c) for r in (0, rows - 1) for c in (0, columns - 1)])
    off = np.abs(origin + corners @ steps - first - corners @ units).max(0)
    axes = np.abs(units)
    if axes.sum() != 2 or (axes.sum(0) > 1).any() or off.max() > PLACE_TOLERANCE:
        told = ", ".join(f"{value:.2g}" for value in off)
        raise DataError(f"{frame}: off the image's voxels, by up to {told} voxels along its axes")
    last = first + corners @ units
    if last.min() < 0 or (last.max(0) >= shape).any():
        raise DataError(f"{frame}: reaches beyond the image, which has {' x '.join(map(str, shape))} voxels")
    row_axis, column_axis = (int(axis) for axis in axes.argmax(1))
    signs = (int(units[0, row_axis]), int(units[1, column_axis]))
    return _Place(tuple(int(value) for value in first), (row_axis, column_axis), signs)


def referenced_series(dataset: Dataset) -> tuple[str, ...]:
    """SeriesInstanceUID of the series that a segmentation says it segments."""
    return tuple(str(item.SeriesInstanceUID) for item in dataset.get("ReferencedSeriesSequence") or ())


class DicomSegmentation:
    """A DICOM segmentation (PS3.3 A.51): BINARY, FRACTIONAL or LABELMAP.

    Its frames are placed by their own position and orientation, not by their order or number; frames that are left out
    are empty. They may lie along other axes than the image, or the other way round, or cover a part of it, as long as
    each pixel is one voxel; nothing is resampled. Of FRACTIONAL, pixels of at least half the largest value belong to
    the segment.

    Args:
        path: the file, of which the header is read.

    Raises:
        DataError: When it cannot be read, is no segmentation, or of another type.

    Example:
        >>> from pydicom.data import get_testdata_file
        >>> segmentation = DicomSegmentation(get_testdata_file("liver_1frame.dcm"))
        >>> [(segment.number, segment.label) for segment in segmentation.segments.values()]
        [(1, 'Liver')]
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = Path(path)
        self.dataset: Dataset = read_header(self.path)
        with reading(self.path):
            if self.dataset.get("SOPClassUID") not in SEGMENTATIONS:
                kind = getattr(self.dataset.get("SOPClassUID"), "name", "unknown")
                raise DataError(f"{self.path} is no DICOM segmentation but of the class {kind}.")
            self.type = str(self.dataset.get("SegmentationType") or "")
        if self.type not in ("BINARY", "FRACTIONAL", "LABELMAP"):
            raise DataError(f"{self.path}: SegmentationType must be BINARY, FRACTIONAL or LABELMAP, got {self.type!r}.")

    @cached_property
    def segments(self) -> dict[int, StoredSegment]:
        """The segments by their numbers."""
        with reading(self.path):
            padding = self.dataset.get("PixelPaddingValue") if self.type == "LABELMAP" else None
            found = {}
            for item in self.dataset.get("SegmentSequence") or ():
                codes = item.get("SegmentedPropertyTypeCodeSequence") or [Dataset()]
                code = (str(codes[0].get("CodeValue")), str(codes[0].get("CodingSchemeDesignator")))
                number, label = int(item.SegmentNumber), str(item.get("SegmentLabel") or "").strip()
                found[number] = StoredSegment(number, label, code == BACKGROUND or number == padding)
        return found

    @cached_property
    def referenced_series(self) -> tuple[str, ...]:
        """SeriesInstanceUID of the series that it says it segments."""
        with reading(self.path):
            return referenced_series(self.dataset)

    def check_series(self, series_uid: str) -> None:
        """Make sure that it is the segmentation of a series.

        Args:
            series_uid: SeriesInstanceUID of the image; empty where it has none.

        Raises:
            DataError: When it names other series only.
        """
        if series_uid and self.referenced_series and series_uid not in self.referenced_series:
            raise DataError(
                f"{self.path} segments the series {', '.join(self.referenced_series)}, not the image's, {series_uid}."
            )

    def to_classes(
        self, classes: Mapping[int, int], affine: NDArray[np.float64], shape: Sequence[int]
    ) -> NDArray[np.uint16]:
        """Class indices of all voxels of an image.

        Args:
            classes: class index of each segment, by its number; 0, or none, for those that are background.
            affine: (4, 4) of the image, from voxel indices to RAS mm.
            shape: (X, Y, Z) of the image.

        Returns:
            (X, Y, Z); segments of one class are joined.

        Raises:
            DataError: When frames do not lie on the image's voxels, to a tenth of a voxel (all are told); segments of
                different classes overlap; there are no frames; or pixels cannot be read, or belong to no segment.
        """
        frames = [frame for frame in frames_of(self.path, self.dataset) if self._is_wanted(frame, classes)]
        # A segmentation in which nothing is segmented has no frames to say where it lies.
        places = self._places(frames, np.linalg.inv(affine) @ LPS_TO_RAS, shape)
        volume = np.zeros(tuple(shape), np.uint16)
        overlaps: Counter[tuple[int, int]] = Counter()
        with loaded(self.dataset):
            for frame, place in zip(frames, places, strict=True):
                self._add(self._class_mask(frame, classes), place.view(volume, frame.shape), overlaps)
        if overlaps:
            raise DataError(self._told(overlaps, classes))
        return volume

    def _segment_of(self, frame: Frame) -> int:
        number = frame.attributes.get("ReferencedSegmentNumber")
        if number is None or int(number) not in self.segments:
            raise DataError(f"{frame}: it belongs to the segment {number}, which the file does not describe.")
        return int(number)

    def _is_wanted(self, frame: Frame, classes: Mapping[int, int]) -> bool:
        return self.type == "LABELMAP" or classes.get(self._segment_of(frame), 0) > 0

    def _places(self, frames: Sequence[Frame], to_index: NDArray[np.float64], shape: Sequence[int]) -> list[_Place]:
        places, off = [], []
        for frame in frames:
            try:
                places.append(_place(frame, to_index, shape))
            except DataError as error:
                off.append(str(error))
        if off:
            raise DataError(
                f"{self.path}: {len(off)} of {len(frames)} frames do not lie on the image. Segment the series itself, "
                f"or resample both onto one grid and save them as NIfTI:\n{listing(off, limit=3)}"
            )
        return places

    def _class_mask(self, frame: Frame, classes: Mapping[int, int]) -> NDArray[np.uint16]:
        """Class indices (rows, columns) of a frame's pixels."""
        pixels = self._bits(frame) if self._is_packed else decode(frame)
        if self.type == "BINARY":
            return (pixels > 0).astype(np.uint16) * np.uint16(classes[self._segment_of(frame)])
        if self.type == "FRACTIONAL":
            largest = int(self.dataset.get("MaximumFractionalValue") or 255)
            inside = 2 * pixels.astype(np.int64) >= largest
            return inside.astype(np.uint16) * np.uint16(classes[self._segment_of(frame)])
        mask = np.zeros(pixels.shape, np.uint16)
        for number in map(int, np.unique(pixels)):
            if number not in self.segments and number not in (0, self.dataset.get("PixelPaddingValue")):
                raise DataError(f"{frame}: pixels have the value {number}, which is no segment of the file.")
            if index := classes.get(number, 0):
                mask[pixels == number] = index
        return mask

    @property
    def _is_packed(self) -> bool:
        """Whether a byte holds eight pixels, perhaps of two frames, which pydicom does not take apart."""
        syntax = self.dataset.file_meta.TransferSyntaxUID
        return self.dataset.get("BitsAllocated") == 1 and syntax.is_little_endian and not syntax.is_encapsulated

    def _bits(self, frame: Frame) -> NDArray[np.uint8]:
        rows, columns = frame.shape
        first = (frame.index or 0) * rows * columns
        last = first + rows * columns
        data = self.dataset.get("PixelData") or b""
        if 8 * len(data) < last:
            raise DataError(f"{frame}: the pixel data hold {8 * len(data)} pixels, too few for this frame.")
        part = np.frombuffer(data, np.uint8, (last + 7) // 8 - first // 8, first // 8)
        bits = np.unpackbits(part, bitorder="little")[first % 8 :][: rows * columns]
        return bits.reshape(rows, columns)

    @staticmethod
    def _add(mask: NDArray[np.uint16], voxels: NDArray[np.uint16], overlaps: Counter[tuple[int, int]]) -> None:
        twice = (mask > 0) & (voxels > 0) & (mask != voxels)
        if twice.any():
            pairs, counts = np.unique(
                np.sort(np.stack([mask[twice], voxels[twice]]), axis=0), axis=1, return_counts=True
            )
            overlaps.update({(int(a), int(b)): int(n) for (a, b), n in zip(pairs.T, counts, strict=True)})
        np.copyto(voxels, mask, where=mask > 0)

    def _told(self, overlaps: Mapping[tuple[int, int], int], classes: Mapping[int, int]) -> str:
        labels = {
            index: " + ".join(self.segments[number].label for number, own in classes.items() if own == index)
            for index in set(classes.values())
        }
        lines = [f"{labels[a]} and {labels[b]} in {count} voxels" for (a, b), count in overlaps.items()]
        return (
            f"{self.path}: segments overlap, but a voxel has one class only. Name those that belong together as one "
            f"class with label_ids, or those to leave out as background:\n{listing(lines)}"
        )

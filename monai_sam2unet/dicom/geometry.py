# SPDX-License-Identifier: Apache-2.0
"""Orders slices in space, checks that they make a regular grid, and gives the grid's affine."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from monai_sam2unet.dicom.frame import Frame
from monai_sam2unet.errors import DataError, listing

__all__ = ["StackGeometry", "stack_geometry"]

#: A slice may lie this far off the regular grid, along the normal: in mm, and as a share of the slice spacing.
POSITION_TOLERANCE_MM = 0.01
POSITION_TOLERANCE = 0.01
#: Direction cosines may differ by this much between slices, pixel spacings by this share.
ORIENTATION_TOLERANCE = 1e-3
SPACING_TOLERANCE = 1e-3
#: Slices may shift in their plane by this angle (degrees) before the volume counts as sheared.
SHEAR_TOLERANCE_DEG = 0.1
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class StackGeometry:
    """A regular grid of slices.

    Args:
        frames: the slices in the order of their positions along the normal; None stands for a slice that is missing
            and is to be filled.
        affine: (4, 4) from (column, row, slice) indices to RAS mm: the first slice's first pixel is at index 0.
        shear_deg: angle in degrees between the slices' normal and the line through their first pixels (gantry tilt).
        spacing_source: where the slices' distance is known from: ``positions``; for a single slice
            ``SpacingBetweenSlices``, ``SliceThickness``, or ``unknown`` (then 1 mm).
    """

    frames: tuple[Frame | None, ...]
    affine: NDArray[np.float64]
    shear_deg: float = 0.0
    spacing_source: str = "positions"
    filled: tuple[int, ...] = field(default=())


def _check_alike(frames: Sequence[Frame]) -> None:
    """All slices have the first one's frame of reference, size, orientation and pixel spacing."""
    first = frames[0]
    orientation, _, spacing = first.plane
    kinds = ("frame of reference", "size", "orientation", "pixel spacing")
    unlike: dict[str, list[str]] = {f"another {kind}": [] for kind in kinds}
    reference = first.frame_of_reference
    for frame in frames:
        own_orientation, _, own_spacing = frame.plane
        if frame.frame_of_reference != reference:
            unlike["another frame of reference"].append(str(frame))
        if frame.shape != first.shape:
            unlike["another size"].append(str(frame))
        if np.abs(own_orientation - orientation).max() > ORIENTATION_TOLERANCE:
            unlike["another orientation"].append(str(frame))
        if not np.allclose(own_spacing, spacing, rtol=SPACING_TOLERANCE, atol=0):
            unlike["another pixel spacing"].append(str(frame))
    for what, others in unlike.items():
        if others:
            raise DataError(
                f"{len(others)} of {len(frames)} slices have {what} than {first}, so no volume:\n{listing(others)}"
            )


def _single(frame: Frame) -> tuple[NDArray[np.float64], str]:
    for source in ("SpacingBetweenSlices", "SliceThickness"):
        distance = frame.numbers(source, 1)
        if distance is not None and distance[0] > 0:
            return frame.normal * distance[0], source
    return frame.normal, "unknown"


def _with_gaps(
    frames: list[Frame], along: NDArray[np.float64], fill_gaps: bool
) -> tuple[list[Frame | None], NDArray[np.float64]]:
    """The slices with None where one is missing, and the number of each slice that is there.

    Raises DataError when the distances are irregular, or a slice is missing and is not to be filled.
    """
    steps = np.diff(along)
    unit = float(np.min(steps))
    numbers = np.concatenate([[0], np.cumsum(np.round(steps / unit))])
    spacing = (along[-1] - along[0]) / numbers[-1]
    off = np.abs(along - along[0] - numbers * spacing)
    tolerance = max(POSITION_TOLERANCE_MM, POSITION_TOLERANCE * spacing)
    if off.max() > tolerance:
        distances = [
            f"{step:.3f} mm between {a} and {b}" for step, a, b in zip(steps, frames, frames[1:], strict=False)
        ]
        order = np.argsort(-np.abs(steps - np.median(steps)), kind="stable")
        raise DataError(
            f"The slices are not evenly spaced: one lies {off.max():.3f} mm off a regular grid ({tolerance:.3f} mm are "
            f"allowed). The most unusual distances:\n{listing([distances[i] for i in order], limit=6)}"
        )
    slices: list[Frame | None] = [None] * (int(numbers[-1]) + 1)
    for number, frame in zip(numbers.astype(int), frames, strict=True):
        slices[number] = frame
    missing = slices.count(None)
    if missing:
        gaps = [
            f"{int(n) - 1} between {a} and {b}"
            for n, a, b in zip(np.diff(numbers), frames, frames[1:], strict=False)
            if n > 1
        ]
        text = f"{missing} slices are missing at a spacing of {spacing:.3f} mm:\n{listing(gaps)}"
        if not fill_gaps:
            raise DataError(f"{text}\nWith fill_gaps=True they are interpolated from their neighbours.")
        if missing > len(frames):
            raise DataError(f"{text}\nThat is more than the {len(frames)} there are, so they are not filled.")
        warnings.warn(f"{text}\nThey are interpolated from their neighbours.", stacklevel=2)
    return slices, numbers


def stack_geometry(frames: Sequence[Frame], strict: bool = True, fill_gaps: bool = False) -> StackGeometry:
    """Order the slices by position along their normal, and check that they make one regular grid.

    The affine follows from ImageOrientationPatient, ImagePositionPatient and PixelSpacing (PS3.3 C.7.6.2.1.1). Slice
    numbers and file names play no part. Allowed are: slices within 0.01 mm, or 1 % of the spacing, of a regular grid;
    direction cosines that differ by up to 0.001; a shift within the slices' plane of up to 0.1 degrees.

    Args:
        frames: slices of one volume, each place once.
        strict: whether a sheared volume (gantry tilt) is an error; otherwise a warning says so, and the affine holds
            the shear, so that world positions stay right.
        fill_gaps: whether missing slices, at most as many as there are slices, are left to be filled; otherwise they
            are an error, strict or not.

    Returns:
        The ordered slices and their affine, in RAS mm.

    Raises:
        DataError: When the slices differ in frame of reference, size, orientation or pixel spacing, two lie at one
            position, they are not evenly spaced, slices are missing and ``fill_gaps`` is False, or ``strict`` and the
            volume is sheared.
    """
    _check_alike(frames)
    first = frames[0]
    positions = np.stack([frame.plane[1] for frame in frames])
    order = np.argsort(positions @ first.normal, kind="stable")
    ordered, positions = [frames[i] for i in order], positions[order]
    slices: list[Frame | None] = list(ordered)
    source, shear = "positions", 0.0
    if len(ordered) == 1:
        step, source = _single(first)
    else:
        along = positions @ first.normal
        twice = np.flatnonzero(np.diff(along) < max(1e-3, POSITION_TOLERANCE * float(np.median(np.diff(along)))))
        if len(twice):
            pairs = [f"{ordered[i]} and {ordered[i + 1]}" for i in twice]
            raise DataError(f"Slices lie at the same distance along the normal:\n{listing(pairs)}")
        slices, numbers = _with_gaps(ordered, along, fill_gaps)
        step = (positions[-1] - positions[0]) / numbers[-1]
        aside = step - (step @ first.normal) * first.normal
        shear = float(np.degrees(np.arctan2(np.linalg.norm(aside), step @ first.normal)))
        _check_straight(ordered, positions, numbers, step)
        _check_shear(shear, ordered, strict)
    affine = np.eye(4)
    orientation, _, spacing = ordered[0].plane
    affine[:3, 0] = orientation[0] * spacing[1]
    affine[:3, 1] = orientation[1] * spacing[0]
    affine[:3, 2] = step
    affine[:3, 3] = positions[0]
    filled = tuple(i for i, frame in enumerate(slices) if frame is None)
    return StackGeometry(tuple(slices), LPS_TO_RAS @ affine, shear, source, filled)


def _check_straight(
    frames: Sequence[Frame], positions: NDArray[np.float64], numbers: NDArray[np.float64], step: NDArray[np.float64]
) -> None:
    """The first pixels of all slices lie on one line."""
    off = np.linalg.norm(positions - positions[0] - numbers[:, None] * step, axis=1)
    tolerance = max(POSITION_TOLERANCE_MM, POSITION_TOLERANCE * float(np.linalg.norm(step)))
    worst = int(np.argmax(off))
    if off[worst] > tolerance:
        raise DataError(
            f"The slices are not stacked in line: {frames[worst]} lies {off[worst]:.3f} mm off the line from "
            f"{frames[0]} to {frames[-1]} ({tolerance:.3f} mm are allowed)."
        )


def _check_shear(shear: float, frames: Sequence[Frame], strict: bool) -> None:
    if shear <= SHEAR_TOLERANCE_DEG:
        return
    text = f"The slices from {frames[0]} to {frames[-1]} are sheared by {shear:.2f} degrees (gantry tilt)"
    if strict:
        raise DataError(f"{text}. With strict=False the sheared affine is kept.")
    warnings.warn(f"{text}; the sheared affine is kept.", stacklevel=2)

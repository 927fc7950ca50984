# SPDX-License-Identifier: Apache-2.0
"""One frame of a DICOM image: its file's dataset, and the attributes that hold for this frame alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from monai_sam2unet.errors import DataError, UserError

__all__ = ["Frame", "frames_of", "reading"]

#: Functional group macros whose attributes stand at the top level of a single-frame image (PS3.3 C.7.6.16.2, C.8.13.5);
#: and that which tells the segment of a segmentation's frame (C.8.20.3.1).
MACROS = (
    "PixelMeasuresSequence",
    "PlanePositionSequence",
    "PlaneOrientationSequence",
    "FrameContentSequence",
    "FrameVOILUTSequence",
    "PixelValueTransformationSequence",
    "CTImageFrameTypeSequence",
    "MRImageFrameTypeSequence",
    "MREchoSequence",
    "MRDiffusionSequence",
    "CardiacSynchronizationSequence",
    "CTPositionSequence",
    "SegmentIdentificationSequence",
)
#: Attributes of values that stand at the top level of some multi-frame images with functional groups, such as
#: Multi-frame Grayscale Secondary Capture (C.8.6.3).
VALUE_ATTRIBUTES = (
    "RescaleSlope",
    "RescaleIntercept",
    "ModalityLUTSequence",
    "VOILUTSequence",
    "WindowCenter",
    "WindowWidth",
    "VOILUTFunction",
)
#: PhysicalUnitsXDirection (0018,6024) of a region that shows the body in space.
CENTIMETRE = 3
#: Spacing there is larger than in the patient.
AT_THE_DETECTOR = ("ImagerPixelSpacing", "NominalScannedPixelSpacing")


@contextmanager
def reading(what: object) -> Iterator[None]:
    """Errors of a damaged header become a ``DataError``.

    Args:
        what: the file or frame that is read, named in the error's text.

    Raises:
        DataError: When something in it cannot be read.
    """
    try:
        yield
    except UserError:
        raise
    except RecursionError as error:
        raise DataError(f"{what} cannot be read as DICOM: its sequences lie too deep in one another.") from error
    # Values are parsed when they are asked for, and pydicom raises what it likes on damaged ones.
    except Exception as error:
        raise DataError(f"{what} cannot be read as DICOM: {error}") from error


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of an image.

    Args:
        path: the file.
        dataset: what the file holds; its pixel data are read from the file when they are first asked for.
        index: which frame of the file, counted from 0; None for a single-frame image.
        attributes: the frame's own attributes as a single-frame image would have them: those of its functional
            groups (PS3.3 C.7.6.16) for an enhanced image, else the dataset itself.
    """

    path: Path
    dataset: Dataset
    index: int | None
    attributes: Dataset

    def __str__(self) -> str:
        return str(self.path) if self.index is None else f"{self.path} (frame={self.index})"

    def numbers(self, keyword: str, count: int) -> NDArray[np.float64] | None:
        """Values (count,) of an attribute; None where it is missing or empty.

        Args:
            keyword: the attribute.
            count: how many numbers it holds.

        Raises:
            DataError: When it holds anything else.
        """
        with reading(f"{keyword} of {self}"):
            value = self.attributes.get(keyword)
            if value is None or value == "":
                return None
            values = np.asarray([value] if np.isscalar(value) else list(value), dtype=np.float64)
        if values.shape != (count,) or not np.isfinite(values).all():
            raise DataError(f"{self}: {keyword} must be {count} finite numbers, got {value}.")
        return values

    @cached_property
    def shape(self) -> tuple[int, int]:
        """Rows and columns, in pixels."""
        with reading(self):
            rows, columns = self.dataset.get("Rows"), self.dataset.get("Columns")
            if not rows or not columns:
                raise DataError(f"{self}: Rows and Columns must be positive, got {rows} and {columns}.")
            return int(rows), int(columns)

    @cached_property
    def orientation(self) -> NDArray[np.float64] | None:
        """Direction (2, 3), in LPS, of growing column index and of growing row index; None without a patient space."""
        cosines = self.numbers("ImageOrientationPatient", 6)
        if cosines is None:
            return None
        axes = cosines.reshape(2, 3)
        # Six digits are usual; what is further from a right angle than that is no rotation.
        if not np.allclose(axes @ axes.T, np.eye(2), atol=2e-3):
            raise DataError(
                f"{self}: ImageOrientationPatient {cosines.tolist()} is not two unit vectors at right angles."
            )
        return axes

    @cached_property
    def position(self) -> NDArray[np.float64] | None:
        """Centre (3,) of the first pixel in LPS mm; None without a patient space."""
        return self.numbers("ImagePositionPatient", 3)

    @cached_property
    def spacing(self) -> NDArray[np.float64] | None:
        """Distance (2,) in mm between rows and between columns, by PixelSpacing; None where it is not given."""
        spacing = self.numbers("PixelSpacing", 2)
        if spacing is not None and (spacing <= 0).any():
            raise DataError(f"{self}: PixelSpacing must be positive, got {spacing.tolist()} mm.")
        return spacing

    @property
    def in_patient_space(self) -> bool:
        """Whether orientation, position and spacing say where the frame lies."""
        return self.orientation is not None and self.position is not None and self.spacing is not None

    @property
    def plane(self) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
        """Orientation, position and spacing, all of them known.

        Raises:
            DataError: When one is not given.
        """
        orientation, position, spacing = self.orientation, self.position, self.spacing
        if orientation is None or position is None or spacing is None:
            raise DataError(f"{self}: its place needs ImageOrientationPatient, ImagePositionPatient and PixelSpacing.")
        return orientation, position, spacing

    @cached_property
    def normal(self) -> NDArray[np.float64]:
        """Unit vector (3,), in LPS, along which slices are ordered: the cross product of the orientation's axes."""
        if self.orientation is None:
            raise DataError(f"{self}: there is no ImageOrientationPatient, so its slices have no order.")
        normal = np.cross(self.orientation[0], self.orientation[1])
        return np.asarray(normal / np.linalg.norm(normal))

    @cached_property
    def calibrated_spacing(self) -> tuple[NDArray[np.float64], str]:
        """Distance (2,) in mm between rows and between columns, and the attribute that gives it.

        PixelSpacing comes first, then ImagerPixelSpacing and NominalScannedPixelSpacing (at the detector, not in the
        patient; PS3.3 10.7.1.3), then the ultrasound regions where all agree (C.8.5.5). Without any, it is 1 pixel,
        and the attribute ``""``.
        """
        given = {keyword: self.numbers(keyword, 2) for keyword in ("PixelSpacing", *AT_THE_DETECTOR)}
        spacings = {keyword: value for keyword, value in given.items() if value is not None and (value > 0).all()}
        if spacings:
            keyword, spacing = next(iter(spacings.items()))
            # Uncalibrated, PixelSpacing only repeats what is known at the detector (PS3.3 10.7.1.1).
            if keyword == "PixelSpacing" and not self.attributes.get("PixelSpacingCalibrationType"):
                same = (name for name in AT_THE_DETECTOR if np.allclose(spacings.get(name, 0), spacing, rtol=1e-3))
                keyword = next(same, keyword)
            return spacing, keyword
        with reading(f"SequenceOfUltrasoundRegions of {self}"):
            regions = {
                (float(region.get("PhysicalDeltaY", 0)), float(region.get("PhysicalDeltaX", 0)))
                for region in self.dataset.get("SequenceOfUltrasoundRegions") or ()
                if region.get("PhysicalUnitsXDirection") == region.get("PhysicalUnitsYDirection") == CENTIMETRE
            }
        if len(regions) == 1:
            spacing = np.abs(np.array(regions.pop())) * 10
            if (spacing > 0).all():
                return spacing, "SequenceOfUltrasoundRegions"
        return np.ones(2), ""

    @cached_property
    def frame_of_reference(self) -> str:
        """FrameOfReferenceUID: positions of frames that share it can be compared; empty where it is not given."""
        with reading(self):
            return str(self.dataset.get("FrameOfReferenceUID") or "")

    @property
    def is_localizer(self) -> bool:
        """Whether ImageType, or FrameType, says LOCALIZER (PS3.3 C.8.2.1.1.1)."""
        with reading(self):
            return "LOCALIZER" in image_type(self.attributes) or "LOCALIZER" in image_type(self.dataset)


def image_type(attributes: Dataset) -> tuple[str, ...]:
    """Values of FrameType, or else of ImageType."""
    value = attributes.get("FrameType") or attributes.get("ImageType") or ()
    return (value,) if isinstance(value, str) else tuple(value)


def _flattened(dataset: Dataset, shared: Dataset | None, own: Dataset | None) -> Dataset:
    """Attributes of a frame's functional groups; the frame's own go before the shared ones."""
    flat = Dataset()
    for keyword in VALUE_ATTRIBUTES:
        if keyword in dataset:
            flat[keyword] = dataset[keyword]
    for groups in (shared, own):
        for name in MACROS if groups is not None else ():
            items = groups.get(name) if groups is not None else None
            for element in items[0] if items else ():
                if element.VR != "SQ" or element.keyword == "VOILUTSequence":
                    flat[element.tag] = element
    return flat


def frames_of(path: Path, dataset: Dataset) -> list[Frame]:
    """The frames of one file, in the file's order.

    Args:
        path: the file.
        dataset: what it holds.

    Returns:
        One frame for a single-frame image; for an enhanced image one for each item of
        PerFrameFunctionalGroupsSequence; for another multi-frame image (cine) one for each of NumberOfFrames.

    Raises:
        DataError: When NumberOfFrames and PerFrameFunctionalGroupsSequence do not agree.
    """
    number = dataset.get("NumberOfFrames")
    own: Sequence[Dataset] | None = dataset.get("PerFrameFunctionalGroupsSequence")
    shared: Sequence[Dataset] | None = dataset.get("SharedFunctionalGroupsSequence")
    if not own and not shared:
        if number is None or int(number) <= 1:
            return [Frame(path, dataset, None, dataset)]
        return [Frame(path, dataset, index, dataset) for index in range(int(number))]
    count = int(number or 1)
    if own and len(own) != count:
        raise DataError(f"{path}: NumberOfFrames is {count}, but {len(own)} frames have functional groups.")
    first = shared[0] if shared else None
    return [
        Frame(path, dataset, index, _flattened(dataset, first, own[index] if own else None)) for index in range(count)
    ]

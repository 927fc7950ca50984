# SPDX-License-Identifier: Apache-2.0
"""Makes pictures of masks over their images, as DICOM Secondary Captures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime

import numpy as np
from highdicom import CoordinateSystemNames
from highdicom.sc import SCImage
from highdicom.spatial import get_closest_patient_orientation
from numpy.typing import NDArray
from PIL import Image
from pydicom.uid import (
    CTImageStorage,
    EnhancedCTImageStorage,
    EnhancedMRImageStorage,
    EnhancedPETImageStorage,
    MRImageStorage,
    PositronEmissionTomographyImageStorage,
)
from skimage.segmentation import find_boundaries

from monai_sam2unet.dicom.derived_object import Algorithm, derived_identity, patient_and_study, settle
from monai_sam2unet.dicom.frame import Frame, image_type, reading
from monai_sam2unet.dicom.pixels import PixelReader
from monai_sam2unet.dicom.segmentation_writer import check_mask
from monai_sam2unet.dicom.segments import Segment
from monai_sam2unet.dicom.source_references import source_references
from monai_sam2unet.dicom.volume import DicomVolume
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["burned_in", "fullest_slices", "overlay", "secondary_captures", "shown_slice", "square_pixels"]

#: Of gray images without a window, the percentiles that are shown black and white.
PERCENTILES = (0.5, 99.5)
#: Outlines are one pixel wide for each so many pixels of the image's longer side.
PIXELS_PER_WIDTH = 512
#: Images whose pixels are computed, not taken from a screen.
COMPUTED = (
    CTImageStorage,
    EnhancedCTImageStorage,
    MRImageStorage,
    EnhancedMRImageStorage,
    PositronEmissionTomographyImageStorage,
    EnhancedPETImageStorage,
)
#: Any orientation, where highdicom insists on one and it is not known.
PLACEHOLDER = ("L", "F")


def _has_window(frame: Frame) -> bool:
    attributes = frame.attributes
    return bool(attributes.get("VOILUTSequence")) or attributes.get("WindowCenter") not in (None, "")


def shown_slice(volume: DicomVolume, slot: int) -> NDArray[np.uint8]:
    """One slice as it is shown: through its first VOI LUT or window, or its volume's percentiles where it has none.

    Args:
        volume: the source.
        slot: number of the slice, from 0.

    Returns:
        RGB (rows, columns, 3), 8 bit.

    Raises:
        DataError: When the window is damaged.
    """
    frame = volume.frames[slot]
    values = volume.pixels[slot]
    if values.ndim == 3:
        shown = values if values.dtype == np.uint8 else values // (np.iinfo(values.dtype).max // 255)
        return shown.astype(np.uint8)
    if volume.windowed:
        gray = values
    elif frame is not None and _has_window(frame):
        gray = PixelReader(voi=0).windowed(values, frame)
    else:
        low, high = np.percentile(volume.pixels, PERCENTILES)
        gray = (values.astype(np.float64) - low) / max(high - low, 1e-6)
    gray = np.rint(255 * np.clip(gray, 0, 1)).astype(np.uint8)
    return np.repeat(gray[..., None], 3, axis=2)


def overlay(image: NDArray[np.uint8], mask: NDArray, segments: Sequence[Segment]) -> NDArray[np.uint8]:
    """Draw the outlines of segments, each in its colour, over an image.

    Args:
        image: RGB (rows, columns, 3), 8 bit.
        mask: class indices (rows, columns), 0 for background.
        segments: one for each class.

    Returns:
        RGB (rows, columns, 3), 8 bit; outside the outlines it is the image.
    """
    drawn = image.copy()
    width = max(1, round(max(mask.shape) / PIXELS_PER_WIDTH))
    for segment in segments:
        inner = mask == segment.number
        for _ in range(width if inner.any() else 0):
            # Beyond the image's edge there is background.
            edge = find_boundaries(np.pad(inner, 1), mode="inner")[1:-1, 1:-1]
            drawn[edge] = segment.colour
            inner &= ~edge
    return drawn


def fullest_slices(mask: NDArray, volume: DicomVolume, max_slices: int) -> list[int]:
    """The slices with the most pixels of any class, in their order; the middle one where there are none.

    Args:
        mask: class indices (slices, rows, columns), 0 for background.
        volume: what it was made from, on the same grid; slices that were filled in are passed over.
        max_slices: how many at most.
    """
    there = [slot for slot, frame in enumerate(volume.frames) if frame is not None]
    counts = {slot: int(np.count_nonzero(mask[slot])) for slot in there}
    filled = sorted((slot for slot in there if counts[slot]), key=lambda slot: (-counts[slot], slot))
    return sorted(filled[:max_slices]) or [there[len(there) // 2]]


def _orientation(frame: Frame) -> tuple[str, str] | None:
    """Where rows and columns run to in the patient, as PatientOrientation has it; None where it is not known."""
    if frame.orientation is None:
        return None
    axes = np.eye(4)
    axes[:3, 0], axes[:3, 1], axes[:3, 2] = *frame.orientation, frame.normal
    letters = [one.value for one in get_closest_patient_orientation(axes)]
    return letters[0], letters[1]


def _pixel_shape(volume: DicomVolume) -> tuple[float, float]:
    """Height and width of a pixel, in mm or to each other."""
    given = volume.first.dataset.get("PixelAspectRatio")
    if volume.in_patient_space or volume.spacing_source or not given:
        return volume.pixel_spacing
    with reading(f"PixelAspectRatio of {volume.first}"):
        height, width = (float(value) for value in given)
        if min(height, width) <= 0:
            raise ValueError(f"it must be two numbers above 0, got {given}")
    return height, width


def square_pixels(picture: NDArray[np.uint8], volume: DicomVolume) -> NDArray[np.uint8]:
    """A picture of a slice with more rows or columns, so that they are as far apart as each other.

    Args:
        picture: RGB (rows, columns, 3), 8 bit.
        volume: whose slice it shows.

    Raises:
        DataError: When the pixels' aspect ratio is damaged.
    """
    height, width = _pixel_shape(volume)
    finest = min(height, width)
    size = round(picture.shape[1] * width / finest), round(picture.shape[0] * height / finest)
    return np.asarray(Image.fromarray(picture).resize(size)) if size != picture.shape[1::-1] else picture


def burned_in(frame: Frame) -> str:
    """BurnedInAnnotation of a picture of a frame; empty where it is not known.

    Args:
        frame: of the source.
    """
    told = str(frame.dataset.get("BurnedInAnnotation") or "")
    is_original = image_type(frame.attributes)[:2] == ("ORIGINAL", "PRIMARY")
    return told or ("NO" if frame.dataset.get("SOPClassUID") in COMPUTED and is_original else "")


def secondary_captures(
    mask: NDArray,
    volume: DicomVolume,
    segments: Sequence[Segment],
    algorithm: Algorithm,
    created: datetime,
    max_slices: int = 3,
) -> list[SCImage]:
    """Make pictures of the slices that hold most of a mask, or of the middle one where nothing is marked.

    Pictures show the image's own pixels: names burned into it are in them, too. BurnedInAnnotation is the source's;
    where it says nothing, original CT, MR and PET slices count as without, since their pixels are computed, and of
    others nothing is said.

    Args:
        mask: class indices (slices, rows, columns), uint8 or bool, 0 for background.
        volume: what it was made from, on the same grid.
        segments: one for each class.
        algorithm: the model that made it.
        created: when it was made.
        max_slices: how many pictures at most.

    Returns:
        The objects, of one series, in the order of the slices, to be saved with ``save_as``.

    Raises:
        ConfigError: When the mask is not on the volume's grid, has a class that no segment describes, or ``max_slices``
            is below 1.
        DataError: When the source cannot be referred to, or does not allow a picture.
    """
    check_mask(mask, volume, segments)
    if max_slices < 1:
        raise ConfigError(f"max_slices must be at least 1, got {max_slices}.")
    slots = fullest_slices(mask, volume, max_slices)
    return [_capture(mask, volume, segments, algorithm, created, slot, n) for n, slot in enumerate(slots, 1)]


def _capture(
    mask: NDArray,
    volume: DicomVolume,
    segments: Sequence[Segment],
    algorithm: Algorithm,
    created: datetime,
    slot: int,
    instance_number: int,
) -> SCImage:
    frame = volume.frames[slot]
    if frame is None:
        raise DataError(f"Slice {slot} of {volume.series} was filled in and has no image.")
    picture = overlay(shown_slice(volume, slot), mask[slot], segments)
    identity = derived_identity(
        "SC", volume, algorithm, np.concatenate([picture.ravel(), [slot % 256, slot // 256]]), created
    )
    source = patient_and_study(frame)
    orientation = _orientation(frame)
    try:
        made = SCImage(
            pixel_array=picture,
            photometric_interpretation="RGB",
            bits_allocated=8,
            coordinate_system=CoordinateSystemNames.PATIENT,
            patient_orientation=orientation or PLACEHOLDER,
            pixel_spacing=volume.pixel_spacing if volume.is_calibrated else None,
            study_instance_uid=source.StudyInstanceUID,
            instance_number=instance_number,
            **identity.arguments(algorithm, created, "Overlay"),
        )
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise DataError(f"No secondary capture can be made for {frame}: {error}") from error
    made.update({element.tag: element for element in source})
    with reading(frame):
        made.Laterality = frame.dataset.get("Laterality")
        if orientation is None:
            made.PatientOrientation = frame.dataset.get("PatientOrientation")
        height, width = _pixel_shape(volume)
        if not (volume.is_calibrated or math.isclose(height, width)):
            made.PixelAspectRatio = [round(1000 * height / width), 1000]
        told = burned_in(frame)
        if told:
            made.BurnedInAnnotation = told
        if frame.dataset.get("LossyImageCompression"):
            made.LossyImageCompression = frame.dataset.LossyImageCompression
    made.DerivationDescription = f"Outlines of {', '.join(segment.label for segment in segments)}"[:1024]
    made.SourceImageSequence = source_references([frame])
    settle(made, identity, created)
    return made

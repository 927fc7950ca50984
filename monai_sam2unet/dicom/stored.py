# SPDX-License-Identifier: Apache-2.0
"""Decodes frames: pixels as they are stored, before any modality or VOI transformation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.pixels import pixel_array

from monai_sam2unet.dicom.codestreams import check_codestreams
from monai_sam2unet.dicom.frame import Frame, reading
from monai_sam2unet.errors import DataError

__all__ = ["clear_unused_bits", "decode", "loaded", "pixel_keyword", "raw_pixels"]

#: Photometric interpretations (PS3.3 C.7.6.3.1.2) that are read, by SamplesPerPixel. pydicom and its plug-ins turn the
#: colours among them into RGB; others would be shown wrongly.
PHOTOMETRIC = {
    1: ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR"),
    3: ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_ICT", "YBR_RCT"),
}
#: The plug-in for JPEG lossless and JPEG of 12 bits. It is under the GPL, so it is an extra.
JPEG = "pylibjpeg-libjpeg"
PIXEL_DATA = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


@contextmanager
def loaded(dataset: Dataset) -> Iterator[None]:
    """Hold a dataset's pixel data while frames are decoded, and let go of them after.

    Args:
        dataset: one whose pixel data may still be in the file.
    """
    name = pixel_keyword(dataset)
    kept = dataset.get_item(name, keep_deferred=True)
    try:
        with reading(f"{name} of {dataset.filename}"):
            _check_unchanged(dataset)
            value = dataset.get(name)
            # Whoever loaded them has looked already.
            if isinstance(kept, RawDataElement) and isinstance(value, bytes):
                _check_size(dataset, value)
        yield
    finally:
        if kept is not None:
            dataset[name] = kept


def _check_unchanged(dataset: Dataset) -> None:
    """The file is as it was when its header was read, so that places in it still hold."""
    name, time = dataset.filename, dataset.timestamp
    if name is not None and time is not None and Path(name).stat().st_mtime != time:
        raise DataError(f"{name} was changed while it was read; it may still be arriving.")


def _check_size(dataset: Dataset, data: bytes) -> None:
    """Compressed pixel data state the size that the header gives."""
    syntax = dataset.file_meta.get("TransferSyntaxUID")
    if syntax is not None and syntax.is_transfer_syntax and syntax.is_encapsulated:
        check_codestreams(data, (int(dataset.Rows), int(dataset.Columns)))


def pixel_keyword(dataset: Dataset) -> str:
    return next((name for name in PIXEL_DATA if name in dataset), PIXEL_DATA[0])


def _check_kind(frame: Frame) -> None:
    """What the pixels mean is known: their photometric interpretation, and which bits hold the value."""
    dataset = frame.dataset
    samples, photometric = dataset.get("SamplesPerPixel", 1), dataset.get("PhotometricInterpretation")
    if photometric not in PHOTOMETRIC.get(samples, ()):
        raise DataError(
            f"{frame}: PhotometricInterpretation {photometric} with {samples} samples a pixel is not read; "
            f"allowed are {', '.join(PHOTOMETRIC[1])} with 1 and {', '.join(PHOTOMETRIC[3])} with 3."
        )
    high, stored = dataset.get("HighBit"), dataset.get("BitsStored")
    if high is not None and stored is not None and int(high) != int(stored) - 1:
        raise DataError(
            f"{frame}: HighBit {high} with {stored} BitsStored is not read; PS3.5 8.1.1 demands HighBit {stored - 1}."
        )


def clear_unused_bits(pixels: NDArray, dataset: Dataset) -> NDArray:
    """Overlays in the bits above BitsStored are taken off (retired in PS3.3-2004; C.9.2), and the sign is extended.

    Raises ValueError for a compressed image with such bits, since it may hold no overlays there (PS3.5 A.4).
    """
    if pixels.dtype.kind == "f":
        return pixels
    stored = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    unused = pixels.dtype.itemsize * 8 - stored
    unsigned = pixels.dtype.kind == "u"
    if unused <= 0 or (unsigned and pixels.max(initial=0) < 1 << stored):
        return pixels
    if unsigned and dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        raise ValueError(f"pixels of up to {pixels.max()} do not fit {stored} BitsStored")
    return np.asarray((pixels << unused) >> unused)


def decode(frame: Frame) -> NDArray:
    """Stored pixels of one frame, colours as RGB.

    Args:
        frame: the frame.

    Returns:
        (rows, columns), or (rows, columns, 3) for RGB and YBR; a palette's indices are left as they are.

    Raises:
        DataError: When the pixel data are missing, damaged, in a transfer syntax that no plug-in decodes, or of a kind
            that is not read.
    """
    pixels = raw_pixels(frame)
    with reading(frame):
        return clear_unused_bits(pixels, frame.dataset) if pixels.ndim == 2 else pixels


def raw_pixels(frame: Frame) -> NDArray:
    """Stored pixels of one frame with all their bits."""
    dataset = frame.dataset
    with reading(frame):
        _check_kind(frame)
    try:
        with loaded(dataset):
            pixels = pixel_array(dataset, index=frame.index, correct_unused_bits=False)
    # Plug-ins raise what they like on damaged data; those written in Rust "panic", which is no Exception.
    except BaseException as error:
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        name = getattr(dataset.file_meta.get("TransferSyntaxUID"), "name", "unknown transfer syntax")
        hint = (
            " Install it: pip install 'monai-sam2unet[jpeg]'."
            if "requires" in str(error) and JPEG in str(error)
            else ""
        )
        raise DataError(f"{frame}: the pixel data ({name}) cannot be decoded: {error}{hint}") from error
    if pixels.shape[:2] != frame.shape or pixels.ndim > 3 or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"{frame}: {frame.shape} pixels are expected, the pixel data hold {pixels.shape}.")
    return pixels

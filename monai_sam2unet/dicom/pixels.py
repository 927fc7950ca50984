# SPDX-License-Identifier: Apache-2.0
"""Decodes frames and gives their values: modality LUT or rescale, VOI, photometric interpretation, padding."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut, pixel_array

from monai_sam2unet.dicom.frame import Frame
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["PixelReader", "decode", "loaded"]


@contextmanager
def loaded(dataset: Dataset) -> Iterator[None]:
    """Hold a dataset's pixel data while frames are decoded, and let go of them after.

    Args:
        dataset: one whose pixel data may still be in the file.
    """
    kept = dataset.get_item("PixelData", keep_deferred=True)
    try:
        dataset.get("PixelData")
        yield
    finally:
        if kept is not None:
            dataset["PixelData"] = kept


def _clear_unused_bits(pixels: NDArray, dataset: Dataset) -> NDArray:
    """Overlays in the bits above BitsStored are taken off (retired in PS3.3-2004; C.9.2), and the sign is extended."""
    unused = int(dataset.BitsAllocated) - int(dataset.get("BitsStored", dataset.BitsAllocated))
    if unused <= 0 or pixels.dtype.kind not in "iu" or pixels.dtype.itemsize * 8 != int(dataset.BitsAllocated):
        return pixels
    if pixels.dtype.kind == "u" and pixels.max(initial=0) < 1 << int(dataset.BitsStored):
        return pixels
    return np.asarray((pixels << unused) >> unused)


def decode(frame: Frame) -> NDArray:
    """Stored pixels of one frame, colours as RGB.

    Args:
        frame: the frame.

    Returns:
        (rows, columns), or (rows, columns, 3) for RGB and YBR; a palette's indices are left as they are.

    Raises:
        DataError: When the pixel data are missing, damaged, or in a transfer syntax that no plug-in decodes.
    """
    dataset = frame.dataset
    try:
        pixels = pixel_array(dataset, index=frame.index)
    # Plug-ins raise what they like on damaged data.
    except Exception as error:
        syntax = dataset.file_meta.get("TransferSyntaxUID")
        name = syntax.name if syntax is not None else "unknown transfer syntax"
        raise DataError(f"{frame}: the pixel data ({name}) cannot be decoded: {error}") from error
    if pixels.ndim == 3 and pixels.shape[0] == 1 and frame.index is None:
        pixels = pixels[0]
    if pixels.shape[:2] != frame.shape or pixels.ndim > 3 or (pixels.ndim == 3 and pixels.shape[2] != 3):
        raise DataError(f"{frame}: {frame.shape} pixels are expected, the pixel data hold {pixels.shape}.")
    return _clear_unused_bits(pixels, dataset) if pixels.ndim == 2 else pixels


def _padding(pixels: NDArray, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where stored pixels are padding (PS3.3 C.7.5.1.1.2)."""
    value = dataset.get("PixelPaddingValue")
    if value is None or value == "":
        return None
    limit = dataset.get("PixelPaddingRangeLimit", value)
    low, high = sorted((int(value), int(limit)))
    return np.asarray((pixels >= low) & (pixels <= high))


@dataclass(frozen=True)
class PixelReader:
    """Turns a frame's stored pixels into values.

    Gray images: stored pixel -> modality LUT, or rescale slope and intercept -> (VOI LUT or window, where asked for)
    -> MONOCHROME1 turned over, so that larger is brighter. Palettes are expanded to RGB. Overlays are ignored.

    Args:
        voi: None for modality values (HU for CT); a number for that VOI LUT or window of the image, counted from 0,
            which gives [0, 1].
        mask_padding: whether padding (PixelPaddingValue) is told from image; its values are then NaN until
            :meth:`fill_padding`.
    """

    voi: int | None = None
    mask_padding: bool = True

    def __post_init__(self) -> None:
        if self.voi is not None and (isinstance(self.voi, bool) or self.voi < 0):
            raise ConfigError(f"voi must be None or the number of a window, from 0, got {self.voi!r}.")

    def whole_numbers(self, frame: Frame) -> np.dtype | None:
        """The integer type that holds all modality values of a frame; None where they are not whole numbers."""
        dataset, attributes = frame.dataset, frame.attributes
        if self.voi is not None or "PixelData" not in dataset:
            return None
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR" or int(dataset.get("SamplesPerPixel", 1)) == 3:
            return np.dtype(np.uint8)
        if attributes.get("ModalityLUTSequence"):
            return np.dtype(np.int32)
        slope, intercept = _rescale(attributes)
        if not (slope.is_integer() and intercept.is_integer()):
            return None
        ends = [slope * end + intercept for end in _stored_range(dataset)]
        for kind in (np.int16, np.int32, np.int64):
            if np.iinfo(kind).min <= min(ends) and max(ends) <= np.iinfo(kind).max:
                return np.dtype(kind)
        return None

    def values(self, frame: Frame) -> tuple[NDArray, NDArray[np.bool_] | None]:
        """Values of one frame, and where they are padding.

        Args:
            frame: the frame.

        Returns:
            The values (rows, columns), or (rows, columns, 3) for colour (uint8, or uint16 for more than 8 bits); and
            a mask (rows, columns) of the padding, or None where there is none.

        Raises:
            DataError: When the pixels cannot be decoded, or a palette or the VOI asked for is missing.
        """
        dataset, attributes = frame.dataset, frame.attributes
        pixels = decode(frame)
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            return _expand_palette(pixels, frame), None
        if pixels.ndim == 3:
            return pixels, None
        padding = _padding(pixels, dataset) if self.mask_padding else None
        values = _modality(pixels, attributes)
        inverse = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        if self.voi is not None:
            values = self._voi(values, frame)
            return (1 - values if inverse else values), padding
        if inverse:
            low, high = _modality(np.array(_stored_range(dataset), dtype=np.int64), attributes)
            values = low + high - values
        return values, padding

    def _voi(self, values: NDArray, frame: Frame) -> NDArray[np.float32]:
        attributes = frame.attributes
        luts, centers = attributes.get("VOILUTSequence") or (), attributes.get("WindowCenter")
        count = len(luts) or (0 if centers in (None, "") else np.size(centers))
        index = int(self.voi or 0)
        if index >= count:
            raise DataError(f"{frame} has {count} VOI LUTs or windows; voi={index} is not among them.")
        # With 16 unsigned bits and no rescale the windows' values run over [0, 65535] whatever the image's own range.
        shown = Dataset()
        shown.PhotometricInterpretation, shown.PixelRepresentation, shown.BitsStored = "MONOCHROME2", 0, 16
        for keyword in ("VOILUTSequence", "WindowCenter", "WindowWidth", "VOILUTFunction"):
            if keyword in attributes:
                shown[keyword] = attributes[keyword]
        top = 2 ** int(luts[index].LUTDescriptor[2]) - 1 if luts else 2**16 - 1
        try:
            picture = apply_voi_lut(values.astype(np.int64) if luts else values, shown, index=index)
        except (ValueError, AttributeError, NotImplementedError) as error:
            raise DataError(f"{frame}: VOI LUT or window {index} cannot be applied: {error}") from error
        return np.asarray(picture / top, dtype=np.float32)


def _rescale(attributes: Dataset) -> tuple[float, float]:
    slope, intercept = attributes.get("RescaleSlope"), attributes.get("RescaleIntercept")
    if slope in (None, "") or intercept in (None, ""):
        return 1.0, 0.0
    return float(slope), float(intercept)


def _modality(pixels: NDArray, attributes: Dataset) -> NDArray:
    """Modality values: of the LUT's type; whole numbers as int64, or int32 where they fit; else float64."""
    if attributes.get("ModalityLUTSequence"):
        return np.asarray(apply_modality_lut(pixels, attributes))
    slope, intercept = _rescale(attributes)
    if pixels.dtype.kind == "f" or not (slope.is_integer() and intercept.is_integer()):
        return np.asarray(pixels.astype(np.float64) * slope + intercept)
    small = pixels.dtype.itemsize <= 2 and abs(slope) < 2**14 and abs(intercept) < 2**30
    whole = pixels.astype(np.int32 if small else np.int64)
    if slope != 1:
        whole = whole * int(slope)
    if intercept != 0:
        whole = whole + int(intercept)
    return whole


def _stored_range(dataset: Dataset) -> tuple[int, int]:
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    if int(dataset.get("PixelRepresentation") or 0):
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def _expand_palette(pixels: NDArray, frame: Frame) -> NDArray:
    """Indices into a palette as RGB, 8 bit where the palette says so."""
    try:
        colours = apply_color_lut(pixels, frame.dataset)
    except (ValueError, AttributeError, KeyError) as error:
        raise DataError(f"{frame}: the palette is missing or damaged: {error}") from error
    # Palettes of 16 bits, the usual kind, hold colours of 8 bits in the upper byte; RGB images have these 8 bits.
    return np.asarray(colours >> 8 if colours.dtype == np.uint16 else colours).astype(np.uint8)[..., :3]

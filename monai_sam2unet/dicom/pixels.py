# SPDX-License-Identifier: Apache-2.0
"""Gives frames' values: modality LUT or rescale, VOI, photometric interpretation, padding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.pixels import apply_color_lut, apply_windowing

from monai_sam2unet.dicom.frame import Frame, reading
from monai_sam2unet.dicom.stored import clear_unused_bits, pixel_keyword, raw_pixels
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["PixelReader", "first_window"]

PADDING = {"PixelData": "PixelPaddingValue", "FloatPixelData": "FloatPixelPaddingValue"}


def _padding(pixels: NDArray, dataset: Dataset) -> NDArray[np.bool_] | None:
    """Where stored pixels are padding (PS3.3 C.7.5.1.1.2, C.7.6.24 for floating point)."""
    keyword = PADDING.get(pixel_keyword(dataset), "DoubleFloatPixelPaddingValue")
    value = dataset.get(keyword)
    if value is None or value == "":
        return None
    limit = dataset.get(keyword.replace("Value", "RangeLimit"))
    ends = [value, value if limit is None or limit == "" else limit]
    if pixels.dtype.kind == "f":
        low, high = sorted(map(float, ends))
        return np.asarray(np.isnan(pixels) if np.isnan(low) else (pixels >= low) & (pixels <= high))
    # The VR, US or SS, may not go with PixelRepresentation; the bits are the same.
    low, high = sorted(int(np.asarray(int(end) % 2**64, np.uint64).astype(pixels.dtype)) for end in ends)
    return np.asarray((pixels >= low) & (pixels <= high))


@dataclass(frozen=True)
class PixelReader:
    """Turns a frame's stored pixels into values.

    Gray images: stored pixel -> modality LUT, or rescale slope and intercept -> (VOI LUT or window, where asked for)
    -> MONOCHROME1 turned over, so that larger is brighter. Palettes are expanded to RGB. Overlays are ignored.

    Args:
        voi: None for modality values (HU for CT); a number for that VOI LUT or window of the image, counted from 0,
            which gives [0, 1].
        mask_padding: whether padding (PixelPaddingValue) is told from image.
    """

    voi: int | None = None
    mask_padding: bool = True

    def __post_init__(self) -> None:
        if self.voi is not None and (isinstance(self.voi, bool) or not isinstance(self.voi, int) or self.voi < 0):
            raise ConfigError(f"voi must be None or the number of a window, from 0, got {self.voi!r}.")

    def whole_numbers(self, frame: Frame) -> np.dtype | None:
        """The integer type that holds all modality values of a frame; None where they are not whole numbers."""
        with reading(frame):
            return self._whole_numbers(frame)

    def _whole_numbers(self, frame: Frame) -> np.dtype | None:
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
        raw = raw_pixels(frame)
        if raw.ndim == 3:
            return raw, None
        with reading(frame):
            return self._gray_values(raw, frame)

    def _gray_values(self, raw: NDArray, frame: Frame) -> tuple[NDArray, NDArray[np.bool_] | None]:
        dataset = frame.dataset
        pixels = clear_unused_bits(raw, dataset)
        if pixels.dtype.kind in "iu" and (pixels.dtype.kind == "i") != bool(dataset.get("PixelRepresentation")):
            raise ValueError(f"{pixels.dtype} pixels do not go with PixelRepresentation")
        if dataset.get("PhotometricInterpretation") == "PALETTE COLOR":
            return _expand_palette(pixels, frame), None
        padding = _padding(raw, dataset) if self.mask_padding else None
        # Padding may lie within the bits stored, or outside them.
        within = _padding(pixels, dataset) if padding is not None and pixels is not raw else None
        if padding is not None and within is not None:
            padding = padding | within
        values = _modality(pixels, frame)
        inverse = dataset.get("PhotometricInterpretation") == "MONOCHROME1"
        if self.voi is not None:
            values = self._voi(values, frame)
            return (1 - values if inverse else values), padding
        if inverse:
            low, high = _modality(np.array(_stored_range(dataset), dtype=np.int64), frame)
            values = low + high - values
        return values, padding

    def windowed(self, values: NDArray, frame: Frame) -> NDArray[np.float32]:
        """Modality values that were read before through the VOI; the frame's pixels are not read again.

        Args:
            values: (rows, columns), as :meth:`values` of a reader without VOI gives them.
            frame: whose VOI it is.

        Returns:
            Values (rows, columns) in [0, 1], as this reader's :meth:`values` gives them.

        Raises:
            DataError: When the frame has no such VOI.
        """
        with reading(frame):
            if frame.dataset.get("PhotometricInterpretation") != "MONOCHROME1":
                return self._voi(values, frame)
            low, high = _modality(np.array(_stored_range(frame.dataset), dtype=np.int64), frame)
            return 1 - self._voi(low + high - values, frame)

    def _voi(self, values: NDArray, frame: Frame) -> NDArray[np.float32]:
        attributes = frame.attributes
        luts, centers = attributes.get("VOILUTSequence") or (), attributes.get("WindowCenter")
        count = len(luts) or (0 if centers in (None, "") else np.size(centers))
        index = int(self.voi or 0)
        if not luts and np.size(attributes.get("WindowWidth", ())) != count:
            raise DataError(f"{frame} has {count} values of WindowCenter, but not as many of WindowWidth.")
        if index >= count:
            raise DataError(f"{frame} has {count} VOI LUTs or windows; voi={index} is not among them.")
        if luts:
            entries = _look_up(values, luts[index], frame, self._lowest(frame))
            return np.asarray(entries / (2 ** int(luts[index].LUTDescriptor[2]) - 1), dtype=np.float32)
        # With 16 unsigned bits and no rescale the windows' values run over [0, 65535] whatever the image's own range.
        shown = Dataset()
        shown.PhotometricInterpretation, shown.PixelRepresentation, shown.BitsStored = "MONOCHROME2", 0, 16
        for keyword in ("WindowCenter", "WindowWidth", "VOILUTFunction"):
            if keyword in attributes:
                shown[keyword] = attributes[keyword]
        with reading(f"Window {index} of {frame}"):
            picture = apply_windowing(values, shown, index=index)
        return np.asarray(picture / (2**16 - 1), dtype=np.float32)

    @staticmethod
    def _lowest(frame: Frame) -> float:
        """A number below 0 where modality values may be."""
        if frame.attributes.get("ModalityLUTSequence"):
            return 0
        slope, intercept = _rescale(frame.attributes)
        return min(slope * end + intercept for end in _stored_range(frame.dataset))


def _first_number(value: Any) -> float:
    return float("nan") if value in (None, "") else float(np.atleast_1d(value)[0])


def first_window(frame: Frame) -> tuple[float, float, str]:
    """The first window of a frame, for values as a reader without VOI gives them: larger is brighter.

    Args:
        frame: whose window it is.

    Returns:
        Centre, width (NaN where there is none), and VOI LUT function.

    Raises:
        DataError: When they are no numbers.
    """
    attributes = frame.attributes
    function = str(attributes.get("VOILUTFunction") or "LINEAR")
    with reading(f"The window of {frame}"):
        center, width = (_first_number(attributes.get(name)) for name in ("WindowCenter", "WindowWidth"))
        if frame.dataset.get("PhotometricInterpretation") == "MONOCHROME1":
            low, high = _modality(np.array(_stored_range(frame.dataset), dtype=np.int64), frame)
            # A LINEAR window lies half a value beside its centre (PS3.3 C.11.2.1.2.1), now on the other side.
            center = float(low + high) - center + (function == "LINEAR")
    return center, width, function


def _rescale(attributes: Dataset) -> tuple[float, float]:
    slope, intercept = attributes.get("RescaleSlope"), attributes.get("RescaleIntercept")
    given = [value not in (None, "") for value in (slope, intercept)]
    if not all(given):
        if any(given):
            raise ValueError(f"RescaleSlope {slope} and RescaleIntercept {intercept}: one is missing (PS3.3 C.11.1)")
        return 1.0, 0.0
    if not np.isfinite([float(slope), float(intercept)]).all() or float(slope) == 0:
        raise ValueError(f"RescaleSlope {slope} and RescaleIntercept {intercept} give no values")
    return float(slope), float(intercept)


def _look_up(values: NDArray, item: Dataset, frame: Frame, lowest: float) -> NDArray[np.int32]:
    """Entries of a modality or VOI LUT (PS3.3 C.11.1.1, C.11.2.1.1); ``lowest`` is the lowest value there can be."""
    count, first, bits = (int(value) for value in item.LUTDescriptor)
    count = count or 2**16
    # The VR, US or SS, is that of the values; without VRs in the file it is read as US.
    first -= 2**16 if first >= 2**15 and lowest < 0 else 0
    data = item.LUTData
    if isinstance(data, bytes):
        little = frame.dataset.file_meta.TransferSyntaxUID.is_little_endian
        packed = bits <= 8 and len(data) < 2 * count
        data = np.frombuffer(data, np.uint8 if packed else "<u2" if little else ">u2")
    entries = np.atleast_1d(np.asarray(data, dtype=np.int32))[:count]
    if len(entries) < count or entries.max() >= 2**bits:
        raise ValueError(f"LUTData must be {count} entries of {bits} bits, and is not")
    return entries[np.clip(np.rint(values).astype(np.int64) - first, 0, count - 1)]


def _modality(pixels: NDArray, frame: Frame) -> NDArray:
    """Modality values: whole numbers as int64, or int32 where they fit; else float64."""
    attributes = frame.attributes
    luts = attributes.get("ModalityLUTSequence")
    if luts:
        return _look_up(pixels, luts[0], frame, _stored_range(frame.dataset)[0])
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
        count, first, _ = frame.dataset.RedPaletteColorLookupTableDescriptor
        palette = apply_color_lut(np.arange(first, first + (count or 2**16)), frame.dataset)
    except (ValueError, AttributeError, KeyError, TypeError, IndexError) as error:
        raise DataError(f"{frame}: the palette is missing or damaged: {error}") from error
    # Palettes of 16 bits, the usual kind, hold colours of 8 bits in the upper byte (PS3.3 C.7.6.3.1.6), though some
    # writers put them in the lower one; RGB images have these 8 bits.
    shift = 8 if palette.dtype == np.uint16 and palette.max() > 255 else 0
    return np.asarray(colours >> shift).astype(np.uint8)[..., :3]

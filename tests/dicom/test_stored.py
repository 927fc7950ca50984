# SPDX-License-Identifier: Apache-2.0
"""Stored pixels: overlays and sign in the upper bits, sizes and types, and damaged or truncated data."""

from __future__ import annotations

import warnings

import numpy as np
import pydicom
import pytest
from pydicom.uid import (
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from monai_sam2unet.dicom import read_volume
from monai_sam2unet.errors import DataError

ROWS, COLUMNS = 6, 5


def ramp(low, dtype=np.int16):
    return (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + low).astype(dtype)


def values_of(path, **options):
    return read_volume(path, **options).pixels[0]


def test_overlays_in_the_upper_bits_are_taken_off(tmp_path, make_image):
    pixels = ramp(0, np.uint16) * 100
    path = make_image(tmp_path / "a.dcm", pixels | (ramp(0, np.uint16) % 5 << 12), BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(values_of(path), pixels)


def test_the_sign_is_extended(tmp_path, make_image):
    pixels = ramp(-15) * 100
    path = make_image(tmp_path / "a.dcm", pixels & 0xFFF, BitsStored=12, HighBit=11)
    np.testing.assert_array_equal(values_of(path), pixels)


def test_overlays_of_their_own_are_ignored(samples):
    path = samples / "test_files" / "examples_overlay.dcm"
    dataset = pydicom.dcmread(path)
    assert dataset[0x60003000].value
    np.testing.assert_array_equal(values_of(path), dataset.pixel_array)


@pytest.mark.parametrize(
    ("pixels", "attributes", "text"),
    [
        (ramp(0, np.uint16) << 4, {"BitsStored": 12, "HighBit": 15}, "HighBit 15 with 12 BitsStored"),
        (np.zeros((4, 4, 3), np.uint8), {"PhotometricInterpretation": "HSV"}, "PhotometricInterpretation HSV"),
        (np.zeros((4, 4, 3), np.uint8), {"PhotometricInterpretation": "YBR_PARTIAL_422"}, "YBR_PARTIAL_422 with 3"),
        (np.zeros((4, 4, 3), np.uint8), {"PhotometricInterpretation": "MONOCHROME2"}, "MONOCHROME2 with 3"),
        (ramp(0), {"PhotometricInterpretation": "RGB"}, "RGB with 1"),
        (ramp(0), {"PhotometricInterpretation": None}, "PhotometricInterpretation None"),
        (ramp(0), {"Rows": 0}, "Rows"),
        (ramp(0), {"Rows": 6000, "Columns": 6000}, "cannot be decoded"),
        (ramp(0), {"BitsStored": None}, "BitsStored|Bits Stored"),
        (ramp(0), {"BitsStored": 20}, "BitsStored|Bits Stored"),
        (ramp(0), {"BitsAllocated": 12}, "cannot be decoded"),
    ],
)
def test_pixels_that_would_need_a_guess(tmp_path, make_image, pixels, attributes, text):
    with pytest.raises(DataError, match=text) as error:
        read_volume(make_image(tmp_path / "a.dcm", pixels, **attributes))
    assert "a.dcm" in str(error.value)


def test_a_file_too_small_for_its_rows_and_columns(tmp_path, make_image):
    # Its UIDs are random, and so is their length and with it the file's.
    path = make_image(tmp_path / "a.dcm", ramp(0), Rows=60000, Columns=60000)
    text = f"would take 6.7 GiB, but the file has {path.stat().st_size} bytes"
    with pytest.raises(DataError, match=text) as error:
        read_volume(path)
    assert "a.dcm" in str(error.value)


def test_compressed_pixels_beyond_bits_stored(tmp_path, make_image):
    def lie(dataset):
        dataset.BitsStored, dataset.HighBit = 8, 7

    path = make_image(tmp_path / "a.dcm", ramp(300, np.uint16), compress=RLELossless, edit=lie)
    with pytest.raises(DataError, match="do not fit 8 BitsStored"):
        read_volume(path)


@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (3, 1), (1, 1, 3), (1, 4, 3), (3, 3, 3)])
def test_smallest_images(tmp_path, make_image, shape):
    pixels = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    np.testing.assert_array_equal(values_of(make_image(tmp_path / "a.dcm", pixels)), pixels)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("padding", [None, -1.0])
def test_floating_point_pixels(tmp_path, make_image, dtype, padding):
    pixels = np.linspace(-1, 1, 30).reshape(6, 5).astype(dtype)
    name = "FloatPixel" if dtype is np.float32 else "DoubleFloatPixel"

    def edit(dataset):
        for keyword in ("PixelData", "BitsStored", "HighBit", "PixelRepresentation"):
            del dataset[keyword]
        setattr(dataset, f"{name}Data", pixels.tobytes())
        if padding is not None:
            setattr(dataset, f"{name}PaddingValue", padding)

    volume = read_volume(make_image(tmp_path / "a.dcm", pixels, edit=edit))
    assert volume.pixels.dtype == np.float32
    expected = pixels.astype(np.float32)
    if padding is not None:
        expected[0, 0] = expected[0, 1]
    np.testing.assert_array_equal(volume.pixels[0], expected)


@pytest.mark.parametrize("share", [0.5, 0.99])
@pytest.mark.parametrize("compress", [None, RLELossless, JPEG2000Lossless, JPEGLSLossless])
@pytest.mark.filterwarnings("ignore")
def test_truncated_files(tmp_path, make_image, share, compress):
    pixels = np.random.default_rng(0).integers(0, 4096, (64, 64)).astype(np.uint16)
    path = make_image(tmp_path / "a.dcm", pixels, compress=compress)
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DataError, match=r"a.dcm"):
        read_volume(path)


def test_a_plug_in_that_panics(tmp_path, make_image, monkeypatch):
    """Decoders written in Rust raise an error on damaged data that is no Exception."""

    class PanicException(BaseException):
        pass

    def panic(*args, **kwargs):
        raise PanicException("index out of bounds")

    path = make_image(tmp_path / "a.dcm", ramp(0))
    monkeypatch.setattr("monai_sam2unet.dicom.stored.pixel_array", panic)
    with pytest.raises(DataError, match="cannot be decoded: index out of bounds"):
        read_volume(path)


def test_an_interrupt_is_no_damage(tmp_path, make_image, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    path = make_image(tmp_path / "a.dcm", ramp(0))
    monkeypatch.setattr("monai_sam2unet.dicom.stored.pixel_array", interrupt)
    with pytest.raises(KeyboardInterrupt):
        read_volume(path)


@pytest.mark.parametrize("name", ["MR_small.dcm", "MR_small_RLE.dcm", "MR_small_jpeg_ls_lossless.dcm", "image_dfl.dcm"])
def test_damaged_files_are_read_or_refused(samples, tmp_path, name):
    """Bytes changed at random, headers for the most part: never another error than one for the user."""
    original = (samples / "test_files" / name).read_bytes()
    rng = np.random.default_rng(0)
    refused = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for number in range(60):
            data = bytearray(original)
            for _ in range(rng.integers(1, 8)):
                start = int(rng.integers(132, min(len(data), 3000)))
                if rng.random() < 0.3:
                    del data[start : start + int(rng.integers(1, 9))]
                else:
                    data[start] = int(rng.integers(256))
            path = tmp_path / f"{number}.dcm"
            path.write_bytes(data)
            try:
                read_volume(path)
            except DataError as error:
                refused.append(str(error))
    assert refused
    assert all(str(tmp_path) in text for text in refused)


def test_a_missing_plug_in_is_named_with_the_way_to_get_it(shared_data, monkeypatch):
    path = next((shared_data / "dicom" / "same_volume_by_transfer_syntax" / "compressed_jpeg").iterdir())
    decoder = pydicom.pixels.get_decoder(pydicom.uid.JPEGLosslessSV1)
    monkeypatch.setattr(decoder, "_available", {})
    monkeypatch.setattr(decoder, "_unavailable", {"pylibjpeg": ("pylibjpeg>=2.0", "pylibjpeg-libjpeg>=2.1")})
    with pytest.raises(DataError, match=r"(?s)JPEG Lossless.*monai-sam2unet\[jpeg\]"):
        read_volume(path)

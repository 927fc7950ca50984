# SPDX-License-Identifier: Apache-2.0
"""Files that ask for far more memory or time than they hold are refused before it is taken."""

from __future__ import annotations

import struct
import time
import tracemalloc
import zlib

import numpy as np
import pytest
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from monai_sam2unet.dicom import find_series, limits, read_volume
from monai_sam2unet.dicom.codestreams import check_codestreams
from monai_sam2unet.errors import DataError

NOISE = np.random.default_rng(0).integers(0, 4000, (64, 64)).astype(np.uint16)
ITEM, ITEM_END, SEQUENCE_END = b"\xfe\xff\x00\xe0", b"\xfe\xff\x0d\xe0", b"\xfe\xff\xdd\xe0"


def refused(path, text, peak=2**23, seconds=20):
    """The file is refused with a text, and little memory and time is taken for that."""
    tracemalloc.start()
    start = time.perf_counter()
    try:
        with pytest.raises(DataError, match=text):
            read_volume(path)
        assert tracemalloc.get_traced_memory()[1] < peak
    finally:
        tracemalloc.stop()
    assert time.perf_counter() - start < seconds


@pytest.mark.parametrize("compress", [None, RLELossless, JPEG2000Lossless])
@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({"Rows": 65535, "Columns": 65535}, "would take 8.0 GiB, but the file has"),
        ({"NumberOfFrames": 2**31 - 1}, "NumberOfFrames is 2,147,483,647, but the file has"),
        ({"NumberOfFrames": 90_000}, "NumberOfFrames is 90,000|would take|cannot be decoded"),
        ({"NumberOfFrames": -1}, "NumberOfFrames is -1"),
        ({"Rows": 60000, "Columns": 60000, "NumberOfFrames": 99}, "would take|NumberOfFrames"),
    ],
)
def test_sizes_that_no_file_of_that_length_has(tmp_path, make_slice, compress, attributes, text):
    def edit(dataset):
        for keyword, value in attributes.items():
            setattr(dataset, keyword, value)

    refused(make_slice(tmp_path / "a.dcm", NOISE, compress=compress, edit=edit), text, peak=2**26)


def test_a_blank_picture_that_compresses_well_is_read(tmp_path, make_image):
    path = make_image(tmp_path / "a.dcm", np.zeros((4096, 4096), np.uint8), compress=JPEG2000Lossless)
    assert path.stat().st_size < 2**15
    assert read_volume(path).pixels.shape == (1, 4096, 4096)


def sized(data, rows, columns):
    """A JPEG 2000 codestream that states another size."""
    place = data.index(b"\xff\x4f\xff\x51")
    return data[: place + 8] + struct.pack(">LL", columns, rows) + data[place + 16 :]


@pytest.mark.parametrize(("rows", "columns"), [(60000, 60000), (64, 65), (2**32 - 1, 2**32 - 1)])
def test_a_codestream_of_another_size(tmp_path, make_slice, rows, columns):
    def edit(dataset):
        dataset.PixelData = sized(dataset.PixelData, rows, columns)

    path = make_slice(tmp_path / "a.dcm", NOISE, compress=JPEG2000Lossless, edit=edit)
    refused(path, "states|tiles")


def test_a_codestream_that_is_cut_off_is_looked_at_too():
    """Decoders are given what there is of it."""
    data = encapsulate([b"\xff\xd8\xff\xf7\x00\x0b\x10" + struct.pack(">HH", 3000, 2000) + b"\0" * 20])
    with pytest.raises(ValueError, match=r"states \(3000, 2000\)"):
        check_codestreams(data[:-10], (64, 64))


def test_a_jpeg_of_no_rows(tmp_path, samples):
    """libjpeg does not come to an end with it."""
    path = tmp_path / "a.dcm"
    data = (samples / "test_files" / "JPEGLSNearLossless_08.dcm").read_bytes()
    path.write_bytes(data.replace(b"\xff\xf7\x00\x0b\x08\x00\x2d", b"\xff\xf7\x00\x0b\x08\x00\x00"))
    refused(path, r"states \(0, 10\) rows and columns")


def test_codestreams_of_many_tiles_or_components_or_endless_boxes():
    size = struct.pack(">4s HH 8L H", b"\xff\x4f\xff\x51", 47, 0, 64, 64, 0, 0, 1, 1, 0, 0, 1)
    check_codestreams(encapsulate([size + b"\0" * 9]), (64, 64))
    many = struct.pack(">4s HH 8L H", b"\xff\x4f\xff\x51", 47, 0, 640, 640, 0, 0, 1, 1, 0, 0, 1)
    with pytest.raises(ValueError, match="has 409,600 tiles"):
        check_codestreams(encapsulate([many + b"\0" * 10]), (640, 640))
    with pytest.raises(ValueError, match="has 9999 components"):
        check_codestreams(encapsulate([size[:-2] + struct.pack(">H", 9999) + b"\0" * 10]), (64, 64))
    with pytest.raises(ValueError, match="has a length of 0"):
        check_codestreams(encapsulate([b"\0\0\0\x0cjP  \r\n\x87\n" + b"\0" * 20]), (64, 64))


def test_a_jpeg_of_another_size(tmp_path, make_image):
    from io import BytesIO

    from PIL import Image

    stream = BytesIO()
    Image.fromarray(np.zeros((3000, 2000), np.uint8)).save(stream, "JPEG")

    def edit(dataset):
        dataset.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
        dataset.PixelData = encapsulate([stream.getvalue()])
        dataset["PixelData"].is_undefined_length = True

    path = make_image(tmp_path / "a.dcm", np.zeros((64, 64), np.uint8), edit=edit)
    refused(path, r"states \(3000, 2000\) rows and columns, the header \(64, 64\)")


def with_element(path, element):
    """Put an element's bytes before the pixel data of a file."""
    data = path.read_bytes()
    place = data.index(b"\xe0\x7f\x10\x00OW")
    path.write_bytes(data[:place] + element + data[place:])
    return path


def nested(depth, defined):
    """Sequences (0040,A730), Content Sequence, within one another."""
    head = b"\x40\x00\x30\xa7SQ\0\0"
    if not defined:
        return (head + b"\xff" * 4 + ITEM + b"\xff" * 4) * depth + (
            ITEM_END + b"\0" * 4 + SEQUENCE_END + b"\0" * 4
        ) * depth
    out = b""
    for _ in range(depth):
        item = ITEM + struct.pack("<L", len(out)) + out
        out = head + struct.pack("<L", len(item)) + item
    return out


@pytest.mark.parametrize("depth", [20, 10_000])
def test_sequences_within_sequences(tmp_path, make_slice, depth):
    path = with_element(make_slice(tmp_path / "a.dcm"), nested(depth, defined=False))
    if depth < 100:
        assert read_volume(path).pixels.shape == (1, 6, 5)
    else:
        refused(path, "its sequences lie too deep in one another")
    # Those of a stated length are left alone until they are asked for.
    path = with_element(make_slice(tmp_path / "b.dcm"), nested(depth, defined=True))
    assert read_volume(path).pixels.shape == (1, 6, 5)


@pytest.mark.parametrize("defined", [True, False])
def test_a_sequence_of_many_empty_items(tmp_path, make_slice, defined, monkeypatch):
    monkeypatch.setattr(limits, "MAX_ITEMS", 5000)
    items = (ITEM + b"\0" * 4) * 200_000
    length = struct.pack("<L", len(items)) if defined else b"\xff" * 4
    end = b"" if defined else SEQUENCE_END + b"\0" * 4
    path = with_element(make_slice(tmp_path / "a.dcm"), b"\x40\x00\x30\xa7SQ\0\0" + length + items + end)
    refused(path, "holds more than 5,000 sequence items")


def test_too_many_elements(tmp_path, make_slice, monkeypatch):
    path = make_slice(tmp_path / "a.dcm")
    monkeypatch.setattr(limits, "MAX_READS", 20)
    refused(path, "holds more than 20 elements")


def test_a_data_set_that_inflates_without_end(tmp_path, make_slice, monkeypatch):
    path = make_slice(tmp_path / "a.dcm", np.zeros((1024, 1024), np.uint16), syntax=DeflatedExplicitVRLittleEndian)
    assert read_volume(path).pixels.shape == (1, 1024, 1024)
    data = path.read_bytes()
    place = data.index(b"1.2.840.10008.1.2.1.99")
    meta = 144 + int.from_bytes(data[140:144], "little")
    assert place < meta
    bomb = zlib.compressobj(9, zlib.DEFLATED, -15)
    path.write_bytes(data[:meta] + bomb.compress(b"\0" * 2**27) + bomb.flush())
    refused(path, "inflates to more than 64 MiB")


def test_a_volume_that_does_not_fit_into_memory(tmp_path, make_series, monkeypatch):
    make_series(tmp_path / "s", range(4))
    assert limits.available_memory() > 2**20
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable:      1 kB\n")
    monkeypatch.setattr(limits, "MEMORY", tmp_path / "meminfo")
    assert read_volume(tmp_path / "s").pixels.nbytes == 4 * 6 * 5 * 2
    make_series(tmp_path / "l", range(4), pixels=np.zeros((16, 16), np.int16))
    with pytest.raises(DataError, match=r"000\.dcm takes 0\.0 GiB of memory, but 0\.0 GiB are available"):
        read_volume(tmp_path / "l")


def test_a_file_that_changes_between_header_and_pixels(tmp_path, make_series):
    paths = make_series(tmp_path, range(2), each=lambda index: {"pixels": np.zeros((128, 128), np.int16)})
    (series,) = find_series(tmp_path)
    with paths[0].open("ab") as more:
        more.write(b"\0" * 100)
    from monai_sam2unet.dicom import PixelReader

    frame = next(frame for frame in series.frames if frame.path == paths[0])
    with pytest.raises(DataError, match="was changed while it was read"):
        PixelReader().values(frame)

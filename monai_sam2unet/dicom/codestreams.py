# SPDX-License-Identifier: Apache-2.0
"""Sizes that compressed pixel data state themselves: decoders take memory by these, not by Rows and Columns."""

from __future__ import annotations

import struct
from collections.abc import Iterator

__all__ = ["check_codestreams"]

ITEM, SEQUENCE_END = 0xFFFEE000, 0xFFFEE0DD
#: Signature box of a JP2 file, which some writers wrap a codestream in.
JP2 = b"\x00\x00\x00\x0cjP  "
JPEG, JPEG_2000 = b"\xff\xd8\xff", b"\xff\x4f\xff\x51"
#: Start-of-frame markers of JPEG and JPEG-LS; 0xC4, 0xC8 and 0xCC mean something else.
FRAME_MARKERS = {*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC}
SCAN_MARKERS = (0xDA, 0xD9)
#: OpenJPEG keeps about 6 KB for each tile, whatever its size.
MAX_TILES = 16384
MAX_COMPONENTS = 4


def fragments(data: bytes) -> Iterator[memoryview]:
    """The fragments of encapsulated pixel data (PS3.5 A.4) but for the offset table; the last may be cut off."""
    view, offset = memoryview(data), 0
    first = True
    while offset + 8 <= len(data):
        group, element, length = struct.unpack_from("<HHL", data, offset)
        if group << 16 | element != ITEM:
            return
        if not first:
            yield view[offset + 8 : offset + 8 + length]
        first = False
        offset += 8 + length


def _inside_jp2(data: memoryview) -> memoryview:
    """The codestream in a JP2 file."""
    offset = 0
    while offset + 8 <= len(data):
        length, kind = struct.unpack_from(">L4s", data, offset)
        if kind == b"jp2c":
            return data[offset + 8 :]
        # Lengths below 8 are legal, but readers that step by them never come to an end.
        if length < 8:
            raise ValueError(f"the JP2 box {kind!r} has a length of {length}")
        offset += length
    raise ValueError("the JP2 file holds no codestream")


def _jpeg_2000_size(data: memoryview) -> tuple[int, int]:
    """Rows and columns by the SIZ segment (ISO/IEC 15444-1 A.5.1)."""
    if len(data) < 42:
        raise ValueError("the JPEG 2000 codestream ends within its header")
    x1, y1, x0, y0, tile_x, tile_y, tile_x0, tile_y0, components = struct.unpack_from(">8LH", data, 8)
    if not tile_x or not tile_y or x1 <= x0 or y1 <= y0 or tile_x0 > x0 or tile_y0 > y0:
        raise ValueError("the JPEG 2000 codestream states no size")
    tiles = -(-(x1 - tile_x0) // tile_x) * -(-(y1 - tile_y0) // tile_y)
    if tiles > MAX_TILES:
        raise ValueError(f"the JPEG 2000 codestream has {tiles:,} tiles, at most {MAX_TILES:,} are read")
    if components > MAX_COMPONENTS:
        raise ValueError(f"the JPEG 2000 codestream has {components} components")
    return y1 - y0, x1 - x0


def _jpeg_size(data: memoryview) -> tuple[int, int] | None:
    """Rows and columns by the frame header of JPEG or JPEG-LS; None where there is none before the first scan."""
    offset = 2
    while offset + 9 <= len(data):
        if data[offset] != 0xFF:
            return None
        marker = data[offset + 1]
        if marker == 0xFF:
            offset += 1
        elif marker in FRAME_MARKERS:
            rows, columns = struct.unpack_from(">HH", data, offset + 5)
            return rows, columns
        elif marker in SCAN_MARKERS:
            return None
        else:
            offset += 2 + int(struct.unpack_from(">H", data, offset + 2)[0])
    return None


def _size(data: memoryview) -> tuple[int, int] | None:
    head = bytes(data[:12])
    if head.startswith(JP2):
        data = _inside_jp2(data)
        head = bytes(data[:4])
    if head.startswith(JPEG_2000):
        return _jpeg_2000_size(data)
    return _jpeg_size(data) if head.startswith(JPEG) else None


def check_codestreams(data: bytes, shape: tuple[int, int]) -> None:
    """Every JPEG, JPEG-LS and JPEG 2000 codestream states the image's size.

    Args:
        data: encapsulated pixel data.
        shape: rows and columns of the image.

    Raises:
        ValueError: When one states another size, or more parts than an image has.
    """
    for fragment in fragments(data):
        size = _size(fragment)
        # JPEG may state 0 rows and their number after the scan; libjpeg then decodes without end where it does not.
        if size is not None and size != shape:
            raise ValueError(f"a codestream states {size} rows and columns, the header {shape}")

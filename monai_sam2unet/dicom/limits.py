# SPDX-License-Identifier: Apache-2.0
"""Bounds on what a DICOM file may ask for, checked before memory is taken.

A damaged file, or one made to do harm, can ask for far more than it holds: 4 GB of pixels in a header of 1 KB, a
million empty sequence items, a data set that inflates a thousandfold. No real image comes near these bounds.
"""

from __future__ import annotations

import io
import zlib
from pathlib import Path
from typing import BinaryIO

from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.uid import UID, DeflatedExplicitVRLittleEndian

from monai_sam2unet.errors import DataError

__all__ = ["BoundedFile", "check_decoded_size", "check_deferred", "check_memory"]

#: Items of sequences in one file: pydicom takes about 1 KB and 50 microseconds for an empty item of 8 bytes. Enhanced
#: images have about 10 for each frame.
MAX_ITEMS = 200_000
#: Values and element headers read from one file.
MAX_READS = 3_000_000
#: Frames of one file.
MAX_FRAMES = 100_000
#: Decoded pixels may always take this much (bytes); beyond it, so many times what the file holds. Blank images in
#: JPEG 2000 or JPEG-LS reach some thousand, but are then small.
SMALL = 256 * 2**20
MAX_COMPRESSION = 1000
#: Bits may be stored eight to a byte, and subsampled colours grow when they are read.
MAX_PACKING = 8
#: Each frame of compressed pixel data begins with an item's tag and length (bytes).
ITEM_HEADER = 8
ITEM_TAGS = (b"\xfe\xff\x00\xe0", b"\xff\xfe\xe0\x00")
CHUNK = 2**20
PIXELS = 0x7FE00000
MEMORY = Path("/proc/meminfo")
#: What the container may take and takes, where there is one.
CONTAINER = Path("/sys/fs/cgroup")


class BoundedFile(io.BufferedReader):
    """A file that may hold only so many elements and sequence items; for ``pydicom.dcmread``.

    Args:
        raw: the file, open for reading.
        name: the file, for error texts.
    """

    def __init__(self, raw: BinaryIO | io.RawIOBase, name: object) -> None:
        super().__init__(raw)  # type: ignore[arg-type]
        self.shown = name
        self.reads = self.items = 0
        self.problem: DataError | None = None

    @classmethod
    def at(cls, path: Path) -> BoundedFile:
        """Open a file.

        Args:
            path: which one.
        """
        return cls(path.open("rb", buffering=0), path)

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        super().__exit__(kind, error, trace)  # type: ignore[arg-type]
        # pydicom turns errors within a sequence into its own.
        if self.problem is not None and error is not self.problem:
            raise self.problem from error

    def _refuse(self, reason: str) -> None:
        self.problem = DataError(f"{self.shown} {reason}; it is not read.")
        raise self.problem

    def read(self, size: int | None = -1, /) -> bytes:
        """Read bytes.

        Args:
            size: how many at most; all that are left without it.

        Raises:
            DataError: When the file has held too many elements or items so far, or inflates too far.
            zlib.error: When it is to be inflated and is damaged.
        """
        data = super().read(size)
        self.reads += 1
        if self.reads > MAX_READS:
            self._refuse(f"holds more than {MAX_READS:,} elements, as no image does")
        if len(data) == ITEM_HEADER:
            self.count_items(data.startswith(ITEM_TAGS))
        elif len(data) > ITEM_HEADER:
            self.count_items(sum(data.count(tag) for tag in ITEM_TAGS))
        # pydicom reads all that is left for one reason only: to inflate it.
        if size is None or size < 0:
            self._check_inflated(data)
        return data

    def _check_inflated(self, deflated: bytes) -> None:
        """Find out how far a deflated data set grows, and how many items it holds, without keeping it."""
        inflater, total, limit = (
            zlib.decompressobj(-zlib.MAX_WBITS),
            0,
            max(SMALL, MAX_COMPRESSION * len(deflated)) // 4,
        )
        while deflated and not inflater.eof:
            data = inflater.decompress(deflated, CHUNK)
            total += len(data)
            self.count_items(sum(data.count(tag) for tag in ITEM_TAGS))
            deflated = inflater.unconsumed_tail
            if total > limit:
                self._refuse(f"inflates to more than {limit / 2**20:.0f} MiB")

    def count_items(self, number: int) -> None:
        """Add sequence items that were found.

        Args:
            number: how many.

        Raises:
            DataError: When there are too many.
        """
        self.items += number
        if self.items > MAX_ITEMS:
            self._refuse(f"holds more than {MAX_ITEMS:,} sequence items, as no image does")


def check_deferred(dataset: FileDataset, file: BoundedFile) -> None:
    """Count the items of sequences that are left in the file until they are asked for.

    Args:
        dataset: as it was read, long values being deferred.
        file: the file that it was read from.

    Raises:
        DataError: When there are too many items.
    """
    for tag in list(dataset.keys()):
        element = dataset.get_item(tag, keep_deferred=True)
        if not isinstance(element, RawDataElement) or element.value is not None or tag >= PIXELS:
            continue
        # Without VRs in the file, and in UN, a sequence is only told when it is read.
        if element.VR not in ("SQ", "UN", None):
            continue
        file.seek(element.value_tell)
        left = element.length
        while left > 0 and (data := file.read(min(left, CHUNK))):
            left -= len(data)


def _number(dataset: Dataset, keyword: str, default: int) -> int:
    value = dataset.get(keyword)
    return default if value is None or value == "" else int(value)


def check_decoded_size(dataset: FileDataset, name: object, size: int) -> None:
    """What the pixels take decoded goes with the file's size.

    Args:
        dataset: the file's header.
        name: the file, for the error's text.
        size: of the file, in bytes.

    Raises:
        DataError: When NumberOfFrames, or Rows, Columns and frames together, are far beyond what the file can hold.
    """
    frames = _number(dataset, "NumberOfFrames", 1)
    rows, columns = _number(dataset, "Rows", 0), _number(dataset, "Columns", 0)
    samples, bits = _number(dataset, "SamplesPerPixel", 1), _number(dataset, "BitsAllocated", 16)
    syntax = UID(str(dataset.file_meta.get("TransferSyntaxUID") or ""))
    encapsulated = syntax.is_transfer_syntax and syntax.is_encapsulated
    if frames < 0 or frames > MAX_FRAMES or (encapsulated and frames > 1 and frames * ITEM_HEADER > size):
        raise DataError(
            f"{name}: NumberOfFrames is {frames:,}, but the file has {size:,} bytes"
            f" (and at most {MAX_FRAMES:,} frames are read)."
        )
    decoded = frames * rows * columns * samples * max(1, bits // 8)
    growth = MAX_COMPRESSION if encapsulated or syntax == DeflatedExplicitVRLittleEndian else MAX_PACKING
    if decoded > max(SMALL, growth * size):
        raise DataError(
            f"{name}: {rows} rows, {columns} columns and {frames} frames would take {decoded / 2**30:.1f} GiB, but the "
            f"file has {size:,} bytes; it is not read."
        )


def available_memory() -> int | None:
    """Memory, in bytes, that can be taken without others giving theirs; None where the system does not say."""
    found = []
    try:
        lines = MEMORY.read_text(encoding="ascii").splitlines()
        found += [int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable:")]
        limit, taken = ((CONTAINER / name).read_text(encoding="ascii") for name in ("memory.max", "memory.current"))
        found.append(int(limit) - int(taken))
    # Only Linux has these files, and a container without a limit says "max".
    except (OSError, ValueError, IndexError):
        pass
    return min(found, default=None)


def check_memory(name: object, size: int) -> None:
    """A volume fits into memory.

    Args:
        name: what it is read from, for the error's text.
        size: what it takes, in bytes.

    Raises:
        DataError: When less is available.
    """
    available = available_memory()
    if available is not None and size > available:
        raise DataError(
            f"{name} takes {size / 2**30:.1f} GiB of memory, but {available / 2**30:.1f} GiB are available."
        )

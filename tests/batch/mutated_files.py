# SPDX-License-Identifier: Apache-2.0
"""Reads mutated DICOM files, in a process of its own: what it is asked for, and what is wrong, go as lines of JSON.

``python mutated_files.py FOLDER FIRST LAST SEED_FILE...``
"""

from __future__ import annotations

import faulthandler
import json
import random
import resource
import sys
import time
import traceback
import warnings
from pathlib import Path

import pydicom

from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.sources import find_jobs
from monai_sam2unet.dicom import read_volume
from monai_sam2unet.errors import UserError

MEMORY = 3 * 2**30
#: After this many seconds with one file the process ends.
HANGS = 20
NUMBERS = (0, 1, 2, 7, 255, 256, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFE, 0xFFFFFFFF)
VRS = [
    "AE",
    "AS",
    "AT",
    "CS",
    "DA",
    "DS",
    "DT",
    "FL",
    "FD",
    "IS",
    "LO",
    "LT",
    "OB",
    "OD",
    "OF",
    "OL",
    "OV",
    "OW",
    "PN",
    "SH",
    "SL",
    "SQ",
    "SS",
    "ST",
    "SV",
    "TM",
    "UC",
    "UI",
    "UL",
    "UN",
    "UR",
    "US",
    "UT",
    "UV",
    "ZZ",
]
#: Attributes of which memory and time depend.
KEYWORDS = [
    "Rows",
    "Columns",
    "NumberOfFrames",
    "BitsAllocated",
    "BitsStored",
    "HighBit",
    "SamplesPerPixel",
    "PixelRepresentation",
    "PixelSpacing",
    "PlanarConfiguration",
    "PhotometricInterpretation",
    "RescaleSlope",
    "RescaleIntercept",
    "ImagePositionPatient",
    "PixelData",
    "ImageOrientationPatient",
    "SharedFunctionalGroupsSequence",
    "PerFrameFunctionalGroupsSequence",
    "PixelPaddingValue",
    "RedPaletteColorLookupTableDescriptor",
    "RedPaletteColorLookupTableData",
    "SpecificCharacterSet",
    "ModalityLUTSequence",
]
TEXTS = (b"", b"-1", b"0", b"1e999", b"NaN", b"inf", b"1\\1", b"99999999999", b"\xff\xfe", b"RGB", b"PALETTE COLOR")


def peak_memory() -> float:
    """Of this program, in GiB: what ``getrusage`` tells begins with the memory of the one that started it."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 2**20


class Seed:
    """A file's bytes, and where its elements' values begin."""

    def __init__(self, path: Path) -> None:
        self.data = path.read_bytes()
        dataset = pydicom.dcmread(path, force=True)
        elements = [dataset.get_item(tag, keep_deferred=True) for tag in list(dataset.keys())]
        elements += [dataset.file_meta.get_item(tag) for tag in list(dataset.file_meta.keys())]
        self.places = [place for item in elements if (place := getattr(item, "value_tell", None) or item.file_tell)]
        important = [dataset.get_item(name, keep_deferred=True) for name in KEYWORDS if name in dataset]
        self.important = [getattr(item, "value_tell", None) or item.file_tell for item in important]
        self.pixels = max(self.places, default=0)


def flip(data: bytearray, seed: Seed, rng: random.Random) -> None:
    end = rng.choice([len(data), max(seed.pixels, 200)])
    for _ in range(rng.choice([1, 1, 2, 8, 64])):
        data[rng.randrange(min(end, len(data)))] ^= 1 << rng.randrange(8)


def cut(data: bytearray, seed: Seed, rng: random.Random) -> None:
    del data[rng.choice([rng.randrange(len(data)), rng.choice(seed.places)]) :]


def change_length(data: bytearray, seed: Seed, rng: random.Random) -> None:
    place, size = rng.choice(seed.places), rng.choice([2, 4])
    number = rng.choice(NUMBERS) % 256**size
    data[place - size : place] = number.to_bytes(size, "little")


def change_vr(data: bytearray, seed: Seed, rng: random.Random) -> None:
    place = rng.choice(seed.places) - rng.choice([4, 8])
    data[place : place + 2] = rng.choice(VRS).encode()


def change_value(data: bytearray, seed: Seed, rng: random.Random) -> None:
    place = rng.choice(seed.important or seed.places)
    if rng.random() < 0.5:
        text = rng.choice(TEXTS)
        data[place : place + len(text)] = text
    else:
        size = rng.choice([1, 2, 4])
        data[place : place + size] = (rng.choice(NUMBERS) % 256**size).to_bytes(size, "little")


def change_pixels(data: bytearray, seed: Seed, rng: random.Random) -> None:
    """The beginning of the pixel data, where codestreams state their sizes."""
    for _ in range(rng.choice([1, 2, 4, 16])):
        place = min(seed.pixels + rng.randrange(200), len(data) - 1)
        data[place] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)])


def splice(data: bytearray, seed: Seed, rng: random.Random) -> None:
    """Bytes of a place, put in at another: elements twice, out of their order, or within others."""
    start, target = rng.choice(seed.places), rng.choice(seed.places)
    part = data[start - 8 : start + rng.choice([0, 2, 8, 100, 1000])]
    data[target - 8 : target - rng.choice([0, 8])] = part * rng.choice([1, 1, 2, 50])


def nest(data: bytearray, seed: Seed, rng: random.Random) -> None:
    place = rng.choice(seed.places) - 8
    item = b"\x40\x00\x30\xa7SQ\0\0\xff\xff\xff\xff\xfe\xff\x00\xe0\xff\xff\xff\xff"
    data[place:place] = item * rng.choice([1, 5, 200, 3000])


MUTATIONS = (
    *(flip, cut, change_length, change_vr, splice, nest),
    *(change_value, change_value, change_value, change_pixels, change_pixels, change_pixels),
)


def mutated(seed: Seed, number: int) -> bytes:
    """The same bytes for the same number each time."""
    rng = random.Random(number)
    data = bytearray(seed.data)
    for _ in range(rng.choice([1, 1, 1, 1, 2])):
        rng.choice(MUTATIONS)(data, seed, rng)
        if len(data) < 200:
            break
    return bytes(data)


def process(folder: Path, strict: bool) -> tuple[int, int]:
    """How many files were read, and refused."""
    read, refused = 0, set()
    for item in find_jobs(folder, strict=strict, num_workers=1):
        if isinstance(item, Refused):
            refused.add(item.source)
            continue
        if refused & {str(file) for file in item.files}:
            raise AssertionError("A refused file is in a job.")
        try:
            with item.opened(folder) as files:
                volume = read_volume(files, strict=strict)
            read += volume.pixels.size > 0
        except UserError as error:
            refused.add(str(error))
    return read, len(refused)


def main() -> None:
    folder, first, last, *names = sys.argv[1:]
    faulthandler.enable()
    warnings.simplefilter("ignore")
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    seeds = [Seed(Path(name)) for name in names]
    target = Path(folder) / "a.dcm"
    for number in range(int(first), int(last)):
        target.write_bytes(mutated(seeds[number % len(seeds)], number))
        print(json.dumps({"number": number, "file": names[number % len(names)]}), flush=True)
        start = time.perf_counter()
        faulthandler.dump_traceback_later(HANGS, exit=True)
        try:
            read, refused = process(Path(folder), strict=number % 4 > 0)
            problem = "" if read + refused else "neither read nor refused"
        except BaseException:
            read, refused, problem = 0, 0, traceback.format_exc()
        seconds = time.perf_counter() - start
        peak = peak_memory()
        result = {"read": read, "refused": refused, "seconds": seconds, "peak": peak, "problem": problem}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()

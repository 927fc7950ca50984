# SPDX-License-Identifier: Apache-2.0
"""Compares whole sets of images for duplicates: training against test, so that leakage between them is seen."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monai_sam2unet.data.duplicate_sheet import draw_duplicates
from monai_sam2unet.data.duplicates import HASH_SIZE, MAX_DISTANCE, MIN_SIMILARITY, Duplicate, find_duplicates
from monai_sam2unet.data.fingerprints import Fingerprints
from monai_sam2unet.data.image_sets import IMAGE_FOLDERS, IMAGE_SUFFIXES, find_sets
from monai_sam2unet.errors import DataError

__all__ = ["AuditedPair", "audit_sets", "image_folders", "write_audit"]


@dataclass(frozen=True)
class AuditedPair:
    """The duplicates between two sets, or within one.

    Attributes:
        first: name of the first set.
        second: name of the second set; the same where it was compared with itself.
        within: whether a set was compared with itself.
        num_first: number of images of the first set.
        num_second: number of images of the second set.
        duplicates: pairs of images, the nearest first.
    """

    first: str
    second: str
    within: bool
    num_first: int
    num_second: int
    duplicates: list[Duplicate]

    def summary(self) -> dict[str, Any]:
        """Counts: ``exact`` and ``near`` pairs; ``affected`` images of the second set; and their ``share`` of it."""
        exact = sum(found.kind != "near" for found in self.duplicates)
        affected = {found.second for found in self.duplicates}
        if self.within:
            affected |= {found.first for found in self.duplicates}
        return {
            "first": self.first,
            "second": self.second,
            "within": self.within,
            "images_first": self.num_first,
            "images_second": self.num_second,
            "exact": exact,
            "near": len(self.duplicates) - exact,
            "affected": len(affected),
            "share": round(len(affected) / self.num_second, 4) if self.num_second else 0.0,
        }


def image_folders(folder: str | Path, part: str | None = None) -> dict[str, Path]:
    """Folders of images, by the names of their sets.

    Args:
        folder: a folder as :func:`monai_sam2unet.data.find_sets` knows them (the masks are left aside), or one that
            holds nothing but images.
        part: ``"TrainDataset"`` or ``"TestDataset"``: which part to take where the folder has PraNet's layout.

    Returns:
        For each set, by name, its folder of images.

    Raises:
        DataError: When there is no such folder, or neither sets nor images in it.
    """
    root = Path(folder)
    if not root.is_dir():
        raise DataError(f"There is no folder {root}. Check the path.")
    try:
        return {name: images for name, (images, _) in find_sets(root, part).items()}
    except DataError as error:
        if not any(p.suffix.lower() in IMAGE_SUFFIXES and p.is_file() for p in root.iterdir()):
            raise DataError(
                f"There are no images in {root} itself; a plain folder of images ({', '.join(IMAGE_SUFFIXES)}) would "
                f"do. Nor are there sets of images and masks: {error}"
            ) from error
    place = root.resolve()
    return {(place.parent if place.name.lower() in IMAGE_FOLDERS else place).name: root}


def audit_sets(
    training: Mapping[str, Fingerprints],
    tests: Mapping[str, Fingerprints],
    within: bool = False,
    max_distance: int = MAX_DISTANCE,
    min_similarity: float = MIN_SIMILARITY,
) -> list[AuditedPair]:
    """Look for duplicates between every training set and every test set.

    Args:
        training: fingerprints of the training sets, by name.
        tests: fingerprints of the test sets, by name.
        within: whether every set is compared with itself, too.
        max_distance: bits by which hashes may differ; see :func:`monai_sam2unet.data.duplicates.find_duplicates`.
        min_similarity: smallest correlation of thumbnails, in [-1, 1].

    Returns:
        An entry for each pair of sets; then, with ``within``, one for each set.

    Raises:
        ConfigError: When ``max_distance`` or ``min_similarity`` is out of range.
    """
    pairs = [
        AuditedPair(one, two, False, len(a), len(b), find_duplicates(a, b, max_distance, min_similarity))
        for one, a in training.items()
        for two, b in tests.items()
    ]
    if within:
        pairs += [
            AuditedPair(name, name, True, len(a), len(a), find_duplicates(a, None, max_distance, min_similarity))
            for name, a in (*training.items(), *tests.items())
        ]
    return pairs


def write_audit(
    output_dir: str | Path,
    pairs: Sequence[AuditedPair],
    rejected: Sequence[str],
    max_distance: int,
    max_shown: int = 40,
) -> list[Path]:
    """Write ``duplicates.csv``, ``duplicates.json`` and, of any found, the picture ``duplicates.png``.

    Args:
        output_dir: folder; made if it is missing.
        pairs: what was found.
        rejected: a line for each image that could not be read.
        max_distance: put into the JSON file.
        max_shown: how many pairs the picture shows at most: of each image of the second set the nearest, those between
            sets before those within one.

    Returns:
        The files.
    """
    folder = Path(output_dir)
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / "duplicates.csv", folder / "duplicates.json"]
    with files[0].open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file)
        writer.writerow(["first_set", "second_set", "first", "second", "kind", "turn", "distance", "similarity"])
        for pair in pairs:
            for found in pair.duplicates:
                measured = [found.kind, found.turn, found.distance, f"{found.similarity:.4f}"]
                writer.writerow([pair.first, pair.second, found.first, found.second, *measured])
    content = {
        "settings": {
            "hash": f"difference hash, {HASH_SIZE**2} bits",
            "max_distance": max_distance,
            "min_similarity": MIN_SIMILARITY,
        },
        "sets": [pair.summary() for pair in pairs],
        "rejected": list(rejected),
    }
    files[1].write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    shown: dict[tuple[bool, Path], tuple[AuditedPair, Duplicate]] = {}
    for pair in pairs:
        for found in pair.duplicates:
            key = (pair.within, found.second)
            if key not in shown or found.order < shown[key][1].order:
                shown[key] = (pair, found)
    nearest = sorted(shown.values(), key=lambda entry: (entry[0].within, entry[1].order))[:max_shown]
    if nearest:
        files.append(folder / "duplicates.png")
        draw_duplicates(files[-1], [(pair.first, pair.second, found) for pair, found in nearest])
    return files

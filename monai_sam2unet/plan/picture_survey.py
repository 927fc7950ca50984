# SPDX-License-Identifier: Apache-2.0
"""Looks through a folder of pictures and masks: what is in it, and everything that is wrong with it, at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai_sam2unet.bundle.labelled_cases import folder_sets, recognised_pictures, sets_of_part
from monai_sam2unet.data import list_images, match_by_stem
from monai_sam2unet.errors import DataError
from monai_sam2unet.plan.cached_fingerprints import cached_fingerprints
from monai_sam2unet.plan.picture_fingerprint import PictureFingerprint, fingerprint_picture
from monai_sam2unet.plan.split_patients import cases_for_tests, split_patients

__all__ = ["PictureSurvey", "survey_pictures"]

#: More values than that are no classes.
MAX_CLASSES = 254


@dataclass(frozen=True)
class PictureSurvey:
    """What is in a folder of pictures.

    Attributes:
        layout: how it is laid out.
        cases: what the pictures and masks are like.
        problems: a line for each thing that keeps it from being trained on.
        remarks: a line for each thing to be known.
    """

    layout: str
    cases: list[PictureFingerprint]
    problems: list[str]
    remarks: list[str]

    @cached_property
    def pixels(self) -> Counter[int]:
        """Number of pixels of each value, over all masks."""
        return sum((Counter(case.values) for case in self.cases), Counter())

    @property
    def mask_threshold(self) -> float | None:
        """From where on a mask's value is foreground; None where masks hold class indices."""
        values = set(self.pixels)
        return 0.5 if values <= {0, 1} else 127.5 if values <= {0, 255} else None

    @property
    def num_classes(self) -> int:
        """Number of classes, without background."""
        return 1 if self.mask_threshold is not None else max(self.pixels)

    @property
    def objects(self) -> Iterator[tuple[int, float, float]]:
        """Of each object its class, its thickness and its area, as shares of its picture's longer side and square."""
        for case in self.cases:
            side = max(case.height, case.width)
            for value, thickness, area in zip(case.objects, case.thickness, case.areas, strict=True):
                yield value, thickness / side, area / side**2

    @property
    def is_colour(self) -> bool:
        """Whether most pictures are coloured."""
        return 2 * sum(case.is_colour for case in self.cases) > len(self.cases)


def _pairs(dataset_dir: Path) -> tuple[str, list[dict[str, Any]], list[str], list[Mapping[str, Any]]]:
    """The layout, the cases of the training sets, a line for each file without a partner, cases of the test sets."""
    known = recognised_pictures(dataset_dir)
    if known is not None:
        # A set without any mask is one to predict, as nnU-Net's imagesTs.
        chosen = sets_of_part(list(known.sets), "TrainDataset")
        lost = [f"{image}: there is no mask" for name in chosen for image in known.unlabelled.get(name, [])]
        return known.layout, [dict(item) for name in chosen for item in known.sets[name]], lost, cases_for_tests(known)
    items: list[dict[str, Any]] = []
    problems: list[str] = []
    sets = folder_sets(dataset_dir, "TrainDataset")
    for images, masks in sets.values():
        pairs, unpaired = match_by_stem(images, masks)
        items += pairs
        problems += unpaired
    return f"folders of images and of masks ({', '.join(sets)})", items, problems, _cases_for_tests(dataset_dir, sets)


def _cases_for_tests(dataset_dir: Path, training: Mapping[str, tuple[Path, Path]]) -> list[Mapping[str, Any]]:
    """Images in folders for tests, where there are such beside those for training."""
    if (dataset_dir / "TrainDataset").is_dir() and not (dataset_dir / "TestDataset").is_dir():
        return []
    tests = folder_sets(dataset_dir, "TestDataset")
    folders = [images for images, masks in tests.values() if (images, masks) not in training.values()]
    return [{"image": str(path)} for images in folders for path in list_images(images)]


def _value_problems(cases: Sequence[PictureFingerprint], pixels: Mapping[int, int]) -> list[str]:
    values = sorted(pixels)
    if values == [0]:
        return ["all masks are empty"]
    if set(values) <= {0, 255}:
        return []
    first = {value: next(case.image for case in cases if value in case.values) for value in values[1:8]}
    where = "; ".join(f"{value} first in that of {image}" for value, image in first.items())
    largest = values[-1]
    gaps = sorted(set(range(largest + 1)) - set(values))
    if largest > MAX_CLASSES or len(gaps) > len(values):
        shown = ", ".join(map(str, values[:8])) + (", ..." if len(values) > 8 else "")
        allowed = "0 and 255, 0 and 1, or class indices 0, 1, 2 and so on"
        return [f"masks hold the values {shown}; expected are {allowed} ({where})"]
    if gaps:
        return [f"labels are not contiguous: of 0 to {largest} no mask has {', '.join(map(str, gaps))} ({where})"]
    return []


def _duplicates(cases: Sequence[PictureFingerprint]) -> list[str]:
    first: dict[str, str] = {}
    found = []
    for case in cases:
        if case.sha256 in first:
            found.append(f"{case.image}: the same file as {first[case.sha256]}; folds may then share it")
        first.setdefault(case.sha256, case.image)
    return found


def survey_pictures(
    dataset_dir: str | Path,
    group_pattern: str | None = None,
    workers: int = 4,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
    total: Callable[[int], None] = lambda count: None,
) -> PictureSurvey:
    """Look through a folder of pictures and masks.

    Args:
        dataset_dir: a public set, or folders of images and masks, as the bundles read them.
        group_pattern: regular expression that finds the patient in a file's name; with it patients that are in training
            and test sets are found.
        workers: processes that read.
        cache: folder where what was found is kept for the next call; the same files are not read again.
        advance: called after each picture.
        total: called with their number.

    Raises:
        ConfigError: When the pattern is no regular expression.
        DataError: When there is no folder, or no picture with a mask in it.
    """
    root = Path(dataset_dir)
    layout, items, problems, tests = _pairs(root)
    if not items:
        raise DataError(f"None of the images in {root} has a mask:\n" + "\n".join(problems[:10]))
    total(len(items))
    cases, unmeasured = cached_fingerprints(fingerprint_picture, PictureFingerprint, items, workers, cache, advance)
    problems += unmeasured
    survey = PictureSurvey(layout, cases, problems, _duplicates(cases))
    problems += _value_problems(cases, survey.pixels) if cases else []
    problems += split_patients(items, tests, group_pattern)
    return survey

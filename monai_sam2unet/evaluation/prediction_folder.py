# SPDX-License-Identifier: Apache-2.0
"""Finds which prediction map of a folder belongs to which true mask, in one set or several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from monai_sam2unet.data import IMAGE_SUFFIXES, files_by_stem, list_images
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["PredictionCase", "find_prediction_cases"]

# As the benchmarks of salient, camouflaged, marine and mirror objects and of polyps call them.
TRUTH_FOLDERS = ("gt", "masks", "mask", "ground truth", "ground_truth_mask", "labels")
IMAGE_FOLDERS = ("images", "image", "imgs", "img", "original")


@dataclass(frozen=True)
class PredictionCase:
    """A prediction map and the mask it is measured by.

    Args:
        dataset: the set it belongs to.
        name: the mask's file name.
        prediction: file of the map.
        truth: file of the mask.
        picture: file of the image, if it is known.
    """

    dataset: str
    name: str
    prediction: Path
    truth: Path
    picture: Path | None = None


def _folder(path: str | Path, what: str) -> Path:
    if not Path(path).is_dir():
        raise DataError(f"There is no folder {path}, where the {what} should be.")
    return Path(path)


def _pictures_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and not p.name.startswith("."))


def _holds_images(folder: Path) -> bool:
    return bool(_pictures_in(folder))


def _below(folder: Path, names: tuple[str, ...]) -> Path:
    """The folder below that has one of these names, or the folder itself."""
    found = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
    return next((found[name] for name in names if name in found), folder)


def _sets(folder: Path) -> dict[str, Path]:
    return {p.name: p for p in sorted(folder.iterdir()) if p.is_dir() and not p.name.startswith(".")}


def _flat_pair(predictions: Path, truths: Path, unpaired: list[str], name: str | None) -> dict[str, tuple[Path, Path]]:
    masks = truths if _holds_images(truths) else _below(truths, TRUTH_FOLDERS)
    folders = [folder for folder in _sets(predictions).values() if _holds_images(folder)]
    if not _holds_images(masks):
        stray = _pictures_in(predictions)
        if folders:
            raise DataError(
                f"{listing([str(predictions / file) for file in stray], 5).strip()}: beside folders of maps "
                f"({', '.join(folder.name for folder in folders)}). Maps lie either all in {predictions} itself, or "
                "all in a folder for each set; take away what does not belong there."
            )
        raise DataError(f"{predictions} holds maps, but there are no masks in {truths}.")
    unpaired += [f"{folder}: beside maps, which {predictions} holds itself; give it separately" for folder in folders]
    found = masks.resolve().parent.name if masks.name.lower() in TRUTH_FOLDERS else masks.resolve().name
    return {name or found: (predictions, masks)}


def _folder_pairs(
    predictions: Path, truths: Path, unpaired: list[str], name: str | None
) -> dict[str, tuple[Path, Path]]:
    """For each set, by name, the folder of its maps and that of its masks."""
    if _holds_images(predictions):
        return _flat_pair(predictions, truths, unpaired, name)
    maps, masks_of = _sets(predictions), _sets(truths)
    if not maps:
        raise DataError(f"There are neither maps nor folders of maps in {predictions}.")
    if name is not None:
        raise ConfigError(
            f"The name {name!r} is for maps that lie in {predictions} itself; there are folders, whose names are those "
            "of the sets. Rename these, or leave the name away."
        )
    unpaired += [f"{maps[n]}: no folder of masks of this name in {truths}" for n in maps if n not in masks_of]
    unpaired += [f"{masks_of[n]}: no folder of maps of this name in {predictions}" for n in masks_of if n not in maps]
    return {name: (maps[name], _below(masks_of[name], TRUTH_FOLDERS)) for name in maps if name in masks_of}


def _pictures(images: Path | None, dataset: str, truth: Path) -> Mapping[str, Path]:
    """Images by stem: those of the folder given, else those beside the masks, where there are some."""
    if images is not None:
        own = _sets(images).get(dataset, images)
        folder = own if _holds_images(own) else _below(own, IMAGE_FOLDERS)
    else:
        folder = _below(truth.parent, IMAGE_FOLDERS)
        if folder == truth.parent or truth.name.lower() not in TRUTH_FOLDERS:
            return {}
    return {path.stem: path for path in list_images(folder)} if _holds_images(folder) else {}


def find_prediction_cases(
    prediction_dir: str | Path,
    truth_dir: str | Path,
    image_dir: str | Path | None = None,
    allow_unpaired: bool = False,
    name: str | None = None,
) -> tuple[list[PredictionCase], list[str]]:
    """Pair prediction maps and true masks by stem.

    Maps directly in ``prediction_dir`` are one set; else each folder in it is a set, whose masks are in the folder of
    the same name in ``truth_dir``, or in a folder ``GT``, ``masks``, ``mask``, ``Ground Truth``, ``ground_truth_mask``
    or ``labels`` (in upper or lower case) below that.

    Args:
        prediction_dir: folder of maps, or of folders of maps.
        truth_dir: folder of masks, laid out alike.
        image_dir: folder of the images, laid out alike; None: taken where they lie beside the masks' folder.
        allow_unpaired: whether maps and masks without a partner are left out, instead of an error.
        name: of the set of maps that lie directly in ``prediction_dir``; None: that of the masks' folder.

    Returns:
        The cases, by set and name; and a line for each file or folder that does not pair.

    Raises:
        ConfigError: When a name is given, and there is a folder for each set.
        DataError: When a folder is missing or empty, two files of a folder have the same stem, nothing pairs, or not
            all does and ``allow_unpaired`` is not set.
    """
    predictions, truths = _folder(prediction_dir, "prediction maps"), _folder(truth_dir, "true masks")
    images = None if image_dir is None else _folder(image_dir, "images")
    unpaired: list[str] = []
    twice: list[str] = []
    cases: list[PredictionCase] = []
    for dataset, (map_dir, mask_dir) in _folder_pairs(predictions, truths, unpaired, name).items():
        (maps, maps_twice), (masks, masks_twice) = files_by_stem(map_dir), files_by_stem(mask_dir)
        twice += maps_twice + masks_twice
        unpaired += [f"{maps[stem]}: no mask of this name in {mask_dir}" for stem in maps if stem not in masks]
        unpaired += [f"{masks[stem]}: no map of this name in {map_dir}" for stem in masks if stem not in maps]
        pictures = _pictures(images, dataset, mask_dir)
        cases += [
            PredictionCase(dataset, masks[stem].name, maps[stem], masks[stem], pictures.get(stem))
            for stem in sorted(maps.keys() & masks.keys())
        ]
    if twice:
        raise DataError(f"{len(twice)} files are there twice; take one of each away:\n{listing(twice)}")
    if unpaired and (not allow_unpaired or not cases):
        hint = "Add what is missing" + (", or leave them out with --allow-unpaired" if cases else "")
        raise DataError(f"{len(unpaired)} files or folders do not pair. {hint}:\n{listing(unpaired, 20)}")
    return cases, unpaired

# SPDX-License-Identifier: Apache-2.0
"""Public sets of pictures as they are distributed: which files are the masks of which image."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

__all__ = ["PICTURE_LAYOUTS", "PictureLayout", "RecognisedPictures", "recognise_pictures"]


@dataclass(frozen=True)
class PictureLayout:
    """Where a public set has its images and masks.

    Attributes:
        name: of the set.
        images: path of an image below the set's folder, where ``{set}`` and ``{stem}`` are any part of a name.
        masks: paths of its masks, with the same ``{set}`` and ``{stem}``; ``*`` is any part of a name. All files that
            are there are parts of one mask.
    """

    name: str
    images: str
    masks: tuple[str, ...]

    def match(self, path: str) -> dict[str, str] | None:
        """What ``{set}`` and ``{stem}`` are in the path of an image; None where it is no image of this layout."""
        pattern = re.escape(self.images).replace(r"\{set\}", r"(?P<set>[^/]+)", 1).replace(r"\{set\}", "(?P=set)")
        pattern = pattern.replace(r"\{stem\}", r"(?P<stem>[^/]+)", 1).replace(r"\{stem\}", "(?P=stem)")
        found = re.fullmatch(pattern, path)
        return None if found is None else found.groupdict()

    def masks_of(self, folder: Path, parts: dict[str, str]) -> list[str]:
        """Paths of the masks that are there, below the set's folder."""
        escaped = {name: glob.escape(value) for name, value in parts.items()}
        found = {path for pattern in self.masks for path in folder.glob(pattern.format(**escaped))}
        return sorted(path.relative_to(folder).as_posix() for path in found)


#: The layouts that are known.
PICTURE_LAYOUTS = (
    PictureLayout(
        "ISIC 2016",
        "ISBI2016_ISIC_Part1_{set}_Data/{stem}.jpg",
        ("ISBI2016_ISIC_Part1_{set}_GroundTruth/{stem}_Segmentation.png",),
    ),
    PictureLayout(
        "ISIC 2017", "ISIC-2017_{set}_Data/{stem}.jpg", ("ISIC-2017_{set}_Part1_GroundTruth/{stem}_segmentation.png",)
    ),
    PictureLayout(
        "ISIC 2018",
        "ISIC2018_Task1-2_{set}_Input/{stem}.jpg",
        ("ISIC2018_Task1_{set}_GroundTruth/{stem}_segmentation.png",),
    ),
    PictureLayout("BUSI", "{set}/{stem}.png", ("{set}/{stem}_mask.png", "{set}/{stem}_mask_*.png")),
    PictureLayout(
        "Montgomery", "CXR_png/{stem}.png", ("ManualMask/leftMask/{stem}.png", "ManualMask/rightMask/{stem}.png")
    ),
    PictureLayout("Shenzhen", "CXR_png/{stem}.png", ("mask/{stem}_mask.png",)),
    PictureLayout("CHASE_DB1", "{stem}.jpg", ("{stem}_1stHO.png",)),
    PictureLayout("DRIVE", "{set}/images/{stem}_{set}.tif", ("{set}/1st_manual/{stem}_manual1.gif",)),
    PictureLayout("Data Science Bowl 2018", "{stem}/images/{stem}.png", ("{stem}/masks/*.png",)),
)


@dataclass(frozen=True)
class RecognisedPictures:
    """What :func:`recognise_pictures` found.

    Attributes:
        layout: its name.
        sets: of each set, by name, its items ``{"image": path, "label": path}``, with a list of paths where a mask is
            in several files. Where the layout has one set only, it is called as the layout.
        unlabelled: images without a mask, by set.
    """

    layout: str
    sets: dict[str, list[dict[str, str | list[str]]]]
    unlabelled: dict[str, list[str]]


def _recognise_as(layout: PictureLayout, root: Path, paths: Iterable[str]) -> RecognisedPictures:
    parts = {path: found for path in paths if (found := layout.match(path)) is not None}
    masks = {path: layout.masks_of(root, found) for path, found in parts.items()}
    # Of BUSI and CHASE_DB1 a mask's name is one that an image could have.
    claimed = {mask for own in masks.values() for mask in own}
    sets: dict[str, list[dict[str, str | list[str]]]] = {}
    unlabelled: dict[str, list[str]] = {}
    for path in sorted(masks.keys() - claimed):
        name, image = parts[path].get("set", layout.name), str(root / path)
        label = [str(root / mask) for mask in masks[path]]
        if label:
            sets.setdefault(name, []).append({"image": image, "label": label if len(label) > 1 else label[0]})
        else:
            unlabelled.setdefault(name, []).append(image)
    return RecognisedPictures(layout.name, sets, unlabelled)


def recognise_pictures(dataset_dir: str | Path) -> RecognisedPictures | None:
    """Find out whether a folder is one of the public sets that are known, unpacked as it is distributed.

    Args:
        dataset_dir: the folder.

    Returns:
        The images and their masks; None where it is none of :data:`PICTURE_LAYOUTS`. Of a folder that could be several,
        the layout is taken that leaves the fewest images without a mask.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        return None
    files = [path for depth in ("*", "*/*", "*/images/*") for path in sorted(root.glob(depth)) if path.is_file()]
    paths = [path.relative_to(root).as_posix() for path in files]
    found = [made for layout in PICTURE_LAYOUTS if (made := _recognise_as(layout, root, paths)).sets]
    return min(found, key=lambda made: sum(map(len, made.unlabelled.values())), default=None)

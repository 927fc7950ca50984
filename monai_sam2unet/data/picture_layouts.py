# SPDX-License-Identifier: Apache-2.0
"""Public sets of pictures as they are distributed: which files are the masks of which image."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

from monai_sam2unet.errors import DataError, listing

__all__ = ["PICTURE_LAYOUTS", "PictureLayout", "RecognisedPictures", "recognise_pictures"]


#: Values of {set}, empty where a layout has none, and {stem}.
_Key = tuple[str, str]


@cache
def _regex(pattern: str) -> re.Pattern[str]:
    text = re.escape(pattern).replace(r"\*", "[^/]*")
    for name in ("set", "stem"):
        text = text.replace(rf"\{{{name}\}}", f"(?P<{name}>[^/]+)", 1).replace(rf"\{{{name}\}}", f"(?P={name})")
    return re.compile(text)


def _key(pattern: str, path: str) -> _Key | None:
    found = _regex(pattern).fullmatch(path)
    return None if found is None else (found.groupdict().get("set", ""), found["stem"])


@dataclass(frozen=True)
class PictureLayout:
    """Where a public set has its images and masks.

    Attributes:
        name: of the set.
        images: path of an image below the set's folder, where ``{set}`` and ``{stem}`` are any part of a name.
        masks: paths of its masks, with the same ``{set}`` and ``{stem}``; ``*`` is any part of a name. All files that
            are there are parts of one mask.
        channels: names of files that are further channels of an image, with ``*`` for any part.
    """

    name: str
    images: str
    masks: tuple[str, ...]
    channels: str = ""

    def image_key(self, path: str) -> _Key | None:
        """What ``{set}`` and ``{stem}`` are in the path of an image; None where it is no image of this layout."""
        return _key(self.images, path)

    def mask_key(self, path: str) -> _Key | None:
        """What they are in the path of a mask, which are those of its image; None where it is no mask."""
        return next((key for pattern in self.masks if (key := _key(pattern, path)) is not None), None)


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
    PictureLayout("nnU-Net", "images{set}/{stem}_0000.png", ("labels{set}/{stem}.png",), channels="*_000[1-9].png"),
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


def _recognise_as(layout: PictureLayout, root: Path, paths: Sequence[str]) -> RecognisedPictures:
    masks: dict[_Key, list[str]] = {}
    for path in paths:
        if (key := layout.mask_key(path)) is not None:
            masks.setdefault(key, []).append(path)
    # Of BUSI and CHASE_DB1 a mask's name is one that an image could have.
    images = {path: key for path in paths if (key := layout.image_key(path)) is not None}
    claimed = {mask for key in images.values() for mask in masks.get(key, [])}
    sets: dict[str, list[dict[str, str | list[str]]]] = {}
    unlabelled: dict[str, list[str]] = {}
    for path in sorted(images.keys() - claimed):
        name, image = images[path][0] or layout.name, str(root / path)
        label = [str(root / mask) for mask in sorted(masks.get(images[path], []))]
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

    Raises:
        DataError: When a picture has further channels in files of their own.
    """
    root = Path(dataset_dir)
    if not root.is_dir():
        return None
    files = (path for depth in ("*", "*/*", "*/*/*") for path in root.glob(depth) if path.is_file())
    paths = [path.relative_to(root).as_posix() for path in files]
    found = [(made, layout) for layout in PICTURE_LAYOUTS if (made := _recognise_as(layout, root, paths)).sets]
    if not found:
        return None
    best, layout = min(found, key=lambda pair: sum(map(len, pair[0].unlabelled.values())))
    more = [str(root / path) for path in paths if layout.channels and fnmatch(path, layout.channels)]
    if more:
        raise DataError(
            "These are further channels of pictures; only pictures in one file, gray or RGB, are taken:\n"
            f"{listing(sorted(more))}"
        )
    return best

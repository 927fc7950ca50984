# SPDX-License-Identifier: Apache-2.0
"""Sets of volumes in the folders in which they are distributed: which files are the label of which image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from monai_sam2unet.data.picture_layouts import PictureLayout, RecognisedPictures

__all__ = ["VOLUME_LAYOUTS", "RecognisedVolumes", "VolumeLayout", "at_any_depth", "recognise_layout"]


@dataclass(frozen=True)
class VolumeLayout(PictureLayout):
    """Where a set has its volumes and labels.

    Attributes:
        is_file_a_class: whether a label is a folder with a file for each class, called as the class.
        ignored: names of files that are no images of the set, with ``*`` for any part.
    """

    is_file_a_class: bool = False
    ignored: str = ""


def at_any_depth(name: str, images: str, masks: tuple[str, ...], ignored: str = "") -> tuple[VolumeLayout, ...]:
    """A layout in the folder itself, and in folders below, each of which is a set."""
    below = tuple(f"{{set}}/{mask}" for mask in masks)
    return (
        VolumeLayout(name, images, masks, ignored=ignored),
        VolumeLayout(name, f"{{set}}/{images}", below, ignored=ignored),
    )


_ONE_MAP = ("segmentations", "segmentation", "labels", "label", "seg")

#: The layouts that are known.
VOLUME_LAYOUTS = (
    VolumeLayout("nnU-Net", "images{set}/{stem}_0000.nii*", ("labels{set}/{stem}.nii*",), channels="*_000[1-9].nii*"),
    VolumeLayout("Medical Segmentation Decathlon", "images{set}/{stem}.nii*", ("labels{set}/{stem}.nii*",)),
    *at_any_depth("images and labels", "images/{stem}.nii*", ("labels/{stem}.nii*",)),
    *at_any_depth("BTCV", "img/img{stem}.nii*", ("label/label{stem}.nii*",)),
    *(
        VolumeLayout("TotalSegmentator", f"{{stem}}/{image}.nii*", masks, is_file_a_class=len(masks) == 1)
        for image in ("ct", "mri")
        for masks in (("{stem}/segmentations/*.nii*",), tuple(f"{{stem}}/{name}.nii*" for name in _ONE_MAP))
    ),
    *at_any_depth("ACDC", "*/{stem}.nii*", ("*/{stem}_gt.nii*",), ignored="*_4d.nii*"),
)


@dataclass(frozen=True)
class RecognisedVolumes(RecognisedPictures):
    """What :func:`monai_sam2unet.data.recognise_volumes` found.

    Attributes:
        layout: its name.
        sets: of each set, by name, its items ``{"image": path, "label": path, "stem": name}``; where each class has a
            file of its own, ``label`` is their list. Where the layout has one set only, it is called as the folder.
            Of DICOM series ``image`` is the list of their files, and the items have ``case``, the path of the series
            below the folder, ``patient``, its PatientID, and ``filename_or_obj``, what the series is called.
        unlabelled: images without a label, by set.
        problems: a line for each file that belongs to no image, or that cannot be taken with it.
        remarks: a line for each kind of files that are left out.
    """

    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()


def recognise_layout(layout: VolumeLayout, root: Path, paths: Sequence[str]) -> RecognisedVolumes:
    """The images of a folder and their labels, were it laid out so.

    Args:
        layout: where images and labels are.
        root: the folder.
        paths: of its files, below it.
    """
    names = {path: Path(path).name for path in paths}
    labels: dict[tuple[str, str], list[str]] = {}
    images: dict[tuple[str, str], list[str]] = {}
    for path in paths:
        if (key := layout.mask_key(path)) is not None:
            labels.setdefault(key, []).append(path)
    for path in paths:
        key = layout.image_key(path)
        if key is not None and not fnmatch(names[path], layout.ignored):
            images.setdefault(key, []).append(path)
    # Of ACDC a label's name is one that an image could have.
    claimed = {path for key in images for path in labels.get(key, [])}
    images = {key: own for key, files in images.items() if (own := [path for path in files if path not in claimed])}
    found = RecognisedVolumes(layout.name, {}, {}, tuple(_problems(layout, root, names, images, labels)))
    for key, (image, *_) in sorted(images.items()):
        files, (part, stem) = [str(root / path) for path in sorted(labels.get(key, []))], key
        if files:
            label: str | list[str] = files if layout.is_file_a_class else files[0]
            item = {"image": str(root / image), "label": label, "stem": stem}
            found.sets.setdefault(part or root.resolve().name, []).append(item)
        else:
            found.unlabelled.setdefault(part or root.resolve().name, []).append(str(root / image))
    return found


def _problems(
    layout: VolumeLayout,
    root: Path,
    names: Mapping[str, str],
    images: Mapping[tuple[str, str], Sequence[str]],
    labels: Mapping[tuple[str, str], Sequence[str]],
) -> list[str]:
    several = [] if layout.is_file_a_class else [own for own in labels.values() if len(own) > 1]
    return [
        *(f"{root / own[1]}: {names[own[0]]} is the same volume" for own in images.values() if len(own) > 1),
        *(f"{root / own[1]}: {names[own[0]]} is a label of the same image; leave one" for own in several),
        *(f"{root / own[0]}: there is no image of this label" for key, own in labels.items() if key not in images),
        *(
            f"{root / path}: a further channel of an image; only volumes of one channel are taken"
            for path, name in names.items()
            if layout.channels and fnmatch(name, layout.channels) and path.startswith("images")
        ),
    ]

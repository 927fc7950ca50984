# SPDX-License-Identifier: Apache-2.0
"""Sets of volumes in the folders in which they are distributed: which files are the label of which image."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

from monai_sam2unet.data.image_sets import given_sets
from monai_sam2unet.data.picture_layouts import PictureLayout, RecognisedPictures
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["VOLUME_LAYOUTS", "RecognisedVolumes", "VolumeLayout", "recognise_volumes"]


@dataclass(frozen=True)
class VolumeLayout(PictureLayout):
    """Where a set has its volumes and labels.

    Attributes:
        is_file_a_class: whether a label is a folder with a file for each class, called as the class.
        ignored: names of files that are no images of the set, with ``*`` for any part.
    """

    is_file_a_class: bool = False
    ignored: str = ""


def _at_any_depth(name: str, images: str, masks: tuple[str, ...], ignored: str = "") -> tuple[VolumeLayout, ...]:
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
    *_at_any_depth("images and labels", "images/{stem}.nii*", ("labels/{stem}.nii*",)),
    *_at_any_depth("BTCV", "img/img{stem}.nii*", ("label/label{stem}.nii*",)),
    *(
        VolumeLayout("TotalSegmentator", f"{{stem}}/{image}.nii*", masks, is_file_a_class=len(masks) == 1)
        for image in ("ct", "mri")
        for masks in (("{stem}/segmentations/*.nii*",), tuple(f"{{stem}}/{name}.nii*" for name in _ONE_MAP))
    ),
    *_at_any_depth("ACDC", "*/{stem}.nii*", ("*/{stem}_gt.nii*",), ignored="*_4d.nii*"),
)


@dataclass(frozen=True)
class RecognisedVolumes(RecognisedPictures):
    """What :func:`recognise_volumes` found.

    Attributes:
        layout: its name.
        sets: of each set, by name, its items ``{"image": path, "label": path, "stem": name}``; where each class has a
            file of its own, ``label`` is their list. Where the layout has one set only, it is called as the folder.
        unlabelled: images without a label, by set.
        problems: a line for each file that belongs to no image, or that cannot be taken with it.
    """

    problems: tuple[str, ...] = ()


def _recognise_as(layout: VolumeLayout, root: Path, paths: Sequence[str]) -> RecognisedVolumes:
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
    several = [own for own in images.values() if len(own) > 1]
    if not layout.is_file_a_class:
        several += [own for own in labels.values() if len(own) > 1]
    return [
        *(f"{root / own[1]}: {names[own[0]]} is the same volume" for own in several),
        *(f"{root / own[0]}: there is no image of this label" for key, own in labels.items() if key not in images),
        *(
            f"{root / path}: a further channel of an image; only volumes of one channel are taken"
            for path, name in names.items()
            if layout.channels and fnmatch(name, layout.channels) and path.startswith("images")
        ),
    ]


def _given(root: Path, folders: Mapping[str, Mapping[str, str | Path]], paths: Sequence[str]) -> RecognisedVolumes:
    """Sets whose folders are named; image and label have files of the same names."""
    made = RecognisedVolumes("the folders that are named", {}, {})
    problems: list[str] = []
    for name, pair in given_sets(root, folders).items():
        if not all(folder.is_relative_to(root) for folder in pair):
            raise ConfigError(f"The folders of the set {name} must lie below {root}, got {', '.join(map(str, pair))}.")
        images, labels = (folder.relative_to(root).as_posix() for folder in pair)
        found = _recognise_as(VolumeLayout(name, f"{images}/{{stem}}.nii*", (f"{labels}/{{stem}}.nii*",)), root, paths)
        # They are one set, called as the folder there.
        made.sets.update({own: items for own, items in zip([name], found.sets.values(), strict=False)})
        made.unlabelled.update({own: images for own, images in zip([name], found.unlabelled.values(), strict=False)})
        problems += found.problems
    return RecognisedVolumes(made.layout, made.sets, made.unlabelled, tuple(problems))


def recognise_volumes(
    dataset_dir: str | Path, folders: Mapping[str, Mapping[str, str | Path]] | None = None
) -> RecognisedVolumes:
    """Find the volumes (NIfTI) of a folder, and their labels.

    Known are the layouts of the Medical Segmentation Decathlon (``imagesTr/CASE.nii.gz``, ``labelsTr/CASE.nii.gz``),
    nnU-Net (``imagesTr/CASE_0000.nii.gz``), TotalSegmentator (``CASE/ct.nii.gz`` or ``mri.nii.gz`` beside
    ``segmentations/CLASS.nii.gz``, or beside one label map, as ``segmentations.nii.gz``), BTCV (``img/img0001.nii.gz``,
    ``label/label0001.nii.gz``), ACDC (``patient001/patient001_frame01.nii.gz`` beside ``..._gt.nii.gz``), and folders
    ``images`` and ``labels`` of files of the same names. The last three may lie in folders below, each a set.

    Args:
        dataset_dir: the folder.
        folders: for other layouts, ``{set: {"images": FOLDER, "masks": FOLDER}}`` below ``dataset_dir``, with files of
            the same names. None finds the sets.

    Returns:
        The images and their labels. Of a folder that could be several, the layout is taken that leaves the fewest
        images without a label.

    Raises:
        ConfigError: When ``folders`` is not as above, or one does not lie below ``dataset_dir``.
        DataError: When the folder is missing, or there are no volumes with labels in it.
    """
    root = Path(dataset_dir)
    if not isinstance(dataset_dir, (str, Path)) or not root.is_dir():
        raise DataError(f"There is no folder {dataset_dir}. Check the path (`--dataset_dir` of a bundle).")
    files = (path for depth in ("*", "*/*", "*/*/*", "*/*/*/*") for path in root.glob(depth) if path.is_file())
    # Archives made on a Mac hold a hidden file beside each.
    paths = [path.relative_to(root).as_posix() for path in files]
    paths = sorted(path for path in paths if re.search(r"\.nii(\.gz)?$", path) and not re.search(r"(^|/)\.", path))
    made = (_recognise_as(layout, root, paths) for layout in VOLUME_LAYOUTS)
    known = [_given(root, folders, paths)] if folders is not None else list(made)
    known = [found for found in known if found.sets]
    if not known:
        raise DataError(
            f"There are no volumes (NIfTI) with labels in {root}. Expected is the layout of the Medical Segmentation "
            "Decathlon, nnU-Net, TotalSegmentator, BTCV or ACDC, or folders `images` and `labels` of files of the same "
            f"names. It holds:\n{listing(sorted(p.name for p in root.iterdir()) or ['nothing'])}"
        )
    return min(known, key=lambda found: sum(map(len, found.unlabelled.values())))

# SPDX-License-Identifier: Apache-2.0
"""DICOM series with labels: segmentations that name their series, and NIfTI labels in the folders beside them."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from monai_sam2unet.data.volume_layouts import RecognisedVolumes, VolumeLayout, at_any_depth, recognise_layout
from monai_sam2unet.dicom import Catalogue, FoundSeries, catalogue
from monai_sam2unet.errors import DataError, listing

__all__ = ["DICOM_LAYOUTS", "recognise_dicom", "with_series_files"]

#: Folders that are sets, where all are called so; other folders are patients or studies.
_PARTS = re.compile("train|val|test", re.IGNORECASE)
_BESIDE = "DICOM series with a NIfTI label beside each"

#: Where NIfTI labels may lie; an image is a folder with one series in it, at any depth.
DICOM_LAYOUTS = (
    VolumeLayout("DICOM series in the Decathlon's layout", "images{set}/{stem}", ("labels{set}/{stem}.nii*",)),
    *at_any_depth("DICOM series in images and labels", "images/{stem}", ("labels/{stem}.nii*",)),
    *(
        VolumeLayout(_BESIDE, f"{part}{{stem}}", (f"{part}{{stem}}/{labels}",), is_file_a_class="/" in labels)
        for part in ("", "{set}/")
        for labels in ("*.nii*", "segmentations/*.nii*")
    ),
)


class _Names:
    """What series are called: as the folder that holds them; with their UID where it holds others, too."""

    def __init__(self, root: Path, series: Sequence[FoundSeries]) -> None:
        self.root = root
        self.shared = Counter(one.folder for one in series)

    def case(self, series: FoundSeries) -> str:
        """The path below the root."""
        below = series.folder.relative_to(self.root)
        alone = self.shared[series.folder] == 1
        folder = below.as_posix() if below.parts else self.root.name if alone else ""
        return folder if alone else "/".join(filter(None, (folder, series.uid)))

    def file(self, series: FoundSeries) -> str:
        """The path that a file would have; MONAI's writers cut it at the last dot."""
        if len(series.files) == 1:
            return str(series.files[0])
        return f"{series.folder if self.shared[series.folder] == 1 else series.folder / series.uid}.dcm"

    def item(self, series: FoundSeries, label: Any, stem: str | None = None) -> dict[str, Any]:
        files = [str(path) for path in series.files]
        case = self.case(series)
        return {
            "image": files if len(files) > 1 else files[0],
            "label": label,
            "stem": stem or case,
            "case": case,
            "patient": series.patient,
            "filename_or_obj": self.file(series),
        }


def _sets_by_folder(items: Sequence[tuple[FoundSeries, dict[str, Any]]], root: Path) -> dict[str, list[dict[str, Any]]]:
    """One set, called as the root; or the root's folders, where all are called as parts of a data set."""
    tops = {(series.folder.relative_to(root).parts or ("",))[0] for series, _ in items}
    are_parts = all(_PARTS.match(top) for top in tops)
    sets: dict[str, list[dict[str, Any]]] = {}
    for series, item in items:
        name = series.folder.relative_to(root).parts[0] if are_parts else root.name
        sets.setdefault(name, []).append(item)
    return {name: sorted(own, key=lambda item: item["case"]) for name, own in sorted(sets.items())}


def _by_uid(found: Catalogue, root: Path, names: _Names) -> tuple[RecognisedVolumes, set[FoundSeries]]:
    """Series with the segmentations that name them."""
    by_uid = {series.uid: series for series in found.series if series.uid}
    segmentations: dict[str, list[Path]] = defaultdict(list)
    problems = []
    for path, references in sorted(found.segmentations.items()):
        here = [uid for uid in references if uid in by_uid]
        if len(here) == 1:
            segmentations[here[0]].append(path)
        elif here:
            problems.append(
                f"{path}: it segments {len(here)} series that are here, {', '.join(here)}; take all but one away"
            )
        else:
            told = f"the series {', '.join(references)}, which is not here" if references else "no series by its UID"
            problems.append(f"{path}: it segments {told}")
    items = []
    for uid, paths in segmentations.items():
        if len(paths) > 1:
            problems.append(
                f"{names.file(by_uid[uid])}: {len(paths)} segmentations of this series, "
                f"{', '.join(map(str, paths))}; leave one, or make one of them that has all segments"
            )
        items.append((by_uid[uid], names.item(by_uid[uid], str(paths[0]))))
    sets = _sets_by_folder(items, root) if items else {}
    made = RecognisedVolumes("DICOM series with DICOM segmentations", sets, {}, tuple(problems))
    return made, {series for series, _ in items}


def _holders(series: Sequence[FoundSeries], base: Path) -> dict[str, list[FoundSeries]]:
    """The series in each folder below a base, at any depth."""
    found: dict[str, list[FoundSeries]] = defaultdict(list)
    for one in series:
        below = one.folder.relative_to(base)
        for folder in (below, *below.parents):
            if folder.parts:
                found[folder.as_posix()].append(one)
    return found


def _beside(
    layout: VolumeLayout, found: Catalogue, base: Path, labels: Sequence[str], names: _Names
) -> tuple[RecognisedVolumes, set[FoundSeries]]:
    """Series with NIfTI labels in the folders that a layout says."""
    holders = _holders(found.series, base)
    made = recognise_layout(layout, base, [*labels, *holders])
    problems = list(made.problems)
    sets: dict[str, list[dict[str, Any]]] = {}
    taken: list[tuple[FoundSeries, dict[str, Any]]] = []
    for name, items in made.sets.items():
        for item in items:
            series = holders[Path(str(item["image"])).relative_to(base).as_posix()]
            if len(series) > 1:
                told = ", ".join(names.file(one) for one in series)
                problems.append(f"{item['image']}: {len(series)} series, {told}; leave that of the label")
            own = names.item(series[0], item["label"], str(item["stem"]))
            sets.setdefault(name, []).append(own)
            taken.append((series[0], own))
    if layout.name == _BESIDE and taken:
        sets = _sets_by_folder(taken, names.root)
    return replace(made, sets=sets, unlabelled={}, problems=tuple(problems)), {series for series, _ in taken}


def _recognised(
    found: Catalogue, root: Path, labels: Sequence[str], names: _Names, folders: tuple[str, str] | None
) -> Iterator[tuple[RecognisedVolumes, set[FoundSeries]]]:
    """All that the folder could be."""
    if found.segmentations:
        yield _by_uid(found, root, names)
    if folders is not None:
        images, masks = folders
        yield _beside(VolumeLayout("", f"{images}/{{stem}}", (f"{masks}/{{stem}}.nii*",)), found, root, labels, names)
        return
    for layout in DICOM_LAYOUTS:
        yield _beside(layout, found, root, labels, names)
    # The folder of one case alone.
    for layout in DICOM_LAYOUTS:
        if layout.name == _BESIDE and "{set}" not in layout.images:
            yield _beside(layout, found, root.parent, [f"{root.name}/{label}" for label in labels], names)


def _left_out(
    found: Catalogue, made: RecognisedVolumes, used: set[FoundSeries], labels: Sequence[str], names: _Names
) -> RecognisedVolumes:
    """What was recognised, with what was not: series without a label, and other files."""
    studies = {series.study for series in used if series.study}
    lost = [series for series in found.series if series not in used]
    beside = [series for series in lost if series.study in studies]
    unlabelled: dict[str, list[str]] = {}
    for series in lost:
        if series not in beside:
            case = names.case(series)
            part = next((name for name in made.sets if name and case.startswith((f"{name}/", f"images{name}/"))), None)
            unlabelled.setdefault(part or next(iter(made.sets)), []).append(names.file(series))
    remarks = []
    if beside:
        remarks.append(f"left out: {len(beside)} series without a label, of studies of which another series has one")
    uses_nifti = any(path.endswith((".nii", ".nii.gz")) for path in _labels_of(made.sets))
    if uses_nifti and found.segmentations:
        remarks.append(
            f"left out: {len(found.segmentations)} DICOM segmentations, for labels are taken from NIfTI here"
        )
    if not uses_nifti and labels:
        remarks.append(f"left out: {len(labels)} NIfTI files, for labels are taken from DICOM segmentations here")
    remarks += _told(found.others)
    problems = (*made.problems, *found.problems)
    return replace(made, unlabelled=unlabelled, problems=problems, remarks=tuple(remarks))


def _told(others: Mapping[str, int]) -> list[str]:
    return [f"left out: {count} DICOM files, each {kind}" for kind, count in sorted(others.items())]


def _labels_of(sets: Mapping[str, Sequence[Mapping[str, Any]]]) -> list[str]:
    found = [item["label"] for items in sets.values() for item in items]
    return [path for label in found for path in ([label] if isinstance(label, str) else label)]


def with_series_files(item: Mapping[str, Any], root: Path) -> dict[str, Any]:
    """A case with the files of its image's series, where the image is a folder.

    Args:
        item: of a datalist.
        root: the datalist's folder, below which names begin; a series elsewhere is called by its whole path.

    Returns:
        As items of :class:`monai_sam2unet.data.RecognisedVolumes`; what is no folder is left as it is.

    Raises:
        DataError: When there is not one series in the folder, or files in it cannot be read.
    """
    folder = Path(str(item["image"]))
    if not folder.is_dir():
        return dict(item)
    found = catalogue([folder])
    if len(found.series) != 1 or found.problems:
        several = [str(series.files[0]) for series in found.series]
        told = [*found.problems, *several, *_told(found.others)] or ["there is no DICOM file"]
        raise DataError(f"{folder} does not hold one DICOM series:\n{listing(told)}")
    series = found.series[0]
    files = [str(path) for path in series.files]
    own, root = folder.absolute(), root.absolute()
    # Its last folder alone, as "ct", tells no patient.
    case = own.relative_to(root).as_posix() if own.is_relative_to(root) and own != root else own.as_posix()
    return {
        **item,
        "image": files if len(files) > 1 else files[0],
        "case": case,
        "patient": series.patient,
        "filename_or_obj": f"{folder}.dcm" if len(files) > 1 else files[0],
    }


def recognise_dicom(
    root: Path, paths: Sequence[str], folders: tuple[str, str] | None = None
) -> RecognisedVolumes | None:
    """Find DICOM series and their labels.

    DICOM segmentations name the series that they segment (ReferencedSeriesSequence), so that names and folders mean
    nothing; where all folders of the root are called ``train...``, ``val...`` or ``test...``, they are sets. NIfTI
    labels belong to the one series in the folder that :data:`DICOM_LAYOUTS` says.

    Series without a label count as unlabelled; but not where another series of their study has one. Localizers, and
    DICOM objects that are no images with a place in the patient, are left out.

    Args:
        root: the folder.
        paths: the NIfTI files in it, below it.
        folders: of images and of labels, below it, where they are named; None finds them.

    Returns:
        The series and their labels; of what the folder could be, that which leaves the fewest series without a label.
        None where there is no DICOM image.

    Raises:
        DataError: When a folder cannot be searched.
    """
    root = root.absolute()
    found = catalogue([root] if folders is None else [root / folder for folder in folders])
    if not found.series:
        alone = [f"{path}: the series that it segments is not here" for path in found.segmentations]
        problems, remarks = (*found.problems, *alone), tuple(_told(found.others))
        return RecognisedVolumes("DICOM", {}, {}, problems, remarks) if problems or remarks else None
    names = _Names(root, found.series)
    made = list(_recognised(found, root, paths, names, folders))
    possible = [(one, used) for one, used in made if one.sets]
    if not possible:
        problems = (*(line for one, _ in made for line in one.problems), *found.problems)
        told = listing([names.file(series) for series in found.series], limit=3)
        return RecognisedVolumes("DICOM", {}, {}, problems, (f"{len(found.series)} series without a label:\n{told}",))
    best, used = max(possible, key=lambda pair: (len(pair[1]), -len(pair[0].problems)))
    return _left_out(found, best, used, paths, names)

# SPDX-License-Identifier: Apache-2.0
"""Looks through a folder of volumes and labels: what is in it, and everything that is wrong with it, at once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from monai_sam2unet.bundle.labelled_cases import recognised_volumes, sets_of_part
from monai_sam2unet.bundle.volume_check import volume_problems
from monai_sam2unet.data import case_name, read_datalist
from monai_sam2unet.dicom import is_dicom
from monai_sam2unet.dicom.series import files_in
from monai_sam2unet.errors import DataError
from monai_sam2unet.plan.cached_fingerprints import cached_fingerprints
from monai_sam2unet.plan.split_patients import cases_for_tests, split_patients
from monai_sam2unet.plan.volume_fingerprint import VolumeFingerprint, fingerprint_volume
from monai_sam2unet.transforms import LabelClasses, Preset

__all__ = ["VolumeSurvey", "holds_volumes", "survey_volumes"]

#: HU that only air has, in a volume that is CT.
AIR = -500


@dataclass(frozen=True)
class VolumeSurvey:
    """What is in a folder of volumes.

    Attributes:
        layout: how it is laid out.
        items: the volumes and labels themselves, as :func:`monai_sam2unet.bundle.folds.leave_out_fold` takes them.
        cases: what the volumes and labels are like.
        names: names of labels by their numbers, as the set's `dataset.json` has them.
        problems: a line for each thing that keeps it from being trained on.
        remarks: a line for each thing to be known.
    """

    layout: str
    items: list[dict[str, Any]]
    cases: list[VolumeFingerprint]
    names: dict[str, str]
    problems: list[str]
    remarks: list[str]

    @cached_property
    def voxels(self) -> Counter[str]:
        """Number of voxels of each label, by number or name, over all volumes."""
        found: Counter[str] = Counter()
        for case in self.cases:
            # Not added, for that would drop classes whose files are all empty.
            found.update(case.values)
        return found

    @cached_property
    def labels(self) -> list[str]:
        """The labels, in the order of their numbers, or of their names where they have none."""
        return sorted(self.voxels, key=lambda label: (int(label) if label.isdigit() else 0, label))

    @property
    def class_names(self) -> tuple[str, ...]:
        """What the labels are called: by `dataset.json`, their files or segments, else by their numbers."""
        return tuple(self.names.get(label, f"class {label}" if label.isdigit() else label) for label in self.labels)

    @property
    def label_ids(self) -> dict[str, int] | None:
        """Numbers of the classes by name; None where they are 1, 2 and so on, or each class has a file."""
        if any(not label.isdigit() for label in self.labels) or self.labels == [
            str(number) for number in range(1, len(self.labels) + 1)
        ]:
            return None
        return dict(zip(self.class_names, map(int, self.labels), strict=True))

    @property
    def is_ct(self) -> bool:
        """Whether most volumes are CT by their Modality, or hold Hounsfield units."""
        are_ct = [case.modality == "CT" if case.modality else case.lowest <= AIR for case in self.cases]
        return 2 * sum(are_ct) > len(self.cases)

    @property
    def objects(self) -> Iterator[tuple[str, float, float]]:
        """Of each object in a slice its class, thickness and area, as shares of the slice's longer side and square."""
        for case in self.cases:
            yield from zip(case.objects, case.thickness, case.areas, strict=True)


def _names(dataset_dir: Path) -> dict[str, str]:
    """Names of labels by number, as the Medical Segmentation Decathlon or nnU-Net write them."""
    file = dataset_dir if dataset_dir.is_file() else dataset_dir / "dataset.json"
    if not file.exists():
        return {}
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise DataError(f"{file} is no JSON: {error}") from error
    given: Any = content.get("labels", {}) if isinstance(content, dict) else None
    if not isinstance(given, dict):
        raise DataError(f'{file}: "labels" must give a name to each number, as {{"0": "background", "1": "liver"}}.')
    # nnU-Net has the names first.
    pairs = given.items() if all(str(key).isdigit() for key in given) else ((v, k) for k, v in given.items())
    return {str(number): str(name) for number, name in pairs if str(number) != "0"}


def holds_volumes(dataset_dir: str | Path) -> bool:
    """Whether a folder, or a datalist, is one of volumes rather than of pictures: whether NIfTI or DICOM is in it.

    Args:
        dataset_dir: as in :func:`survey_volumes`.

    Raises:
        DataError: When the folder cannot be searched, or the datalist is none.
    """
    root = Path(dataset_dir)
    if root.is_file():
        items = [item for items in read_datalist(root).sets.values() for item in items]
        images = [Path(str(item["image"])) for item in items]
        return any(image.is_dir() or image.name.endswith((".nii", ".nii.gz")) or is_dicom(image) for image in images)
    return any(root.rglob("*.nii*")) or (root.is_dir() and any(True for _ in files_in(root)))


def survey_volumes(
    dataset_dir: str | Path,
    group_pattern: str | None = None,
    workers: int = 4,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
    total: Callable[[int], None] = lambda count: None,
) -> VolumeSurvey:
    """Look through a folder of volumes and labels.

    Args:
        dataset_dir: a folder as :func:`monai_sam2unet.data.recognise_volumes` knows them, or a datalist.
        group_pattern: regular expression that finds the patient in a file's name; with it patients that are in training
            and test sets are found.
        workers: processes that read.
        cache: folder where what was found is kept for the next call.
        advance: called after each volume.
        total: called with their number.

    Raises:
        ConfigError: When the pattern is no regular expression.
        DataError: When there is no folder, no volume with a label in it, or its `dataset.json` is none.
    """
    known = recognised_volumes(dataset_dir)
    chosen = sets_of_part(list(known.sets), "TrainDataset")
    items = [dict(item) for name in chosen for item in known.sets[name]]
    lost = [path for name in chosen for path in known.unlabelled.get(name, [])]
    problems = [*known.problems, *(f"{path}: there is no label" for path in lost)]
    problems += split_patients(items, cases_for_tests(known), group_pattern)
    total(len(items))
    cases, unmeasured = cached_fingerprints(fingerprint_volume, VolumeFingerprint, items, workers, cache, advance)
    problems += unmeasured
    survey = VolumeSurvey(known.layout, items, cases, _names(Path(dataset_dir)), problems, list(known.remarks))
    if "ignore" in survey.class_names:
        problems.append("a label is called ignore: voxels to be left out cannot be told apart from a class here")
    if len(set(survey.class_names)) < len(survey.class_names):
        problems.append("dataset.json gives several labels one name")
    elif cases and not any(survey.voxels.values()):
        problems.append("all labels are empty")
    elif cases:
        classes = LabelClasses(survey.class_names, survey.label_ids)
        good = {case.image for case in cases}
        preset = Preset("ct" if survey.is_ct else "mr", label_classes=classes)
        problems += volume_problems([item for item in items if case_name(item) in good], preset)
    return survey

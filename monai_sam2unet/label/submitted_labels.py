# SPDX-License-Identifier: Apache-2.0
"""The labels that annotators submitted, patient by patient."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.datastore import Datastore, DefaultLabelTag

from monai_sam2unet.bundle.folds import patients_of
from monai_sam2unet.dicom import is_dicom
from monai_sam2unet.errors import DataError
from monai_sam2unet.label.label_numbers import names_by_number

__all__ = ["SubmittedLabel", "by_patient", "submitted_labels"]

logger = logging.getLogger(__name__)

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".nrrd", ".nhdr", ".mha", ".mhd")
_FINAL = DefaultLabelTag.FINAL.value


@dataclass(frozen=True)
class SubmittedLabel:
    """A label with the tag ``final``, and its image.

    Attributes:
        id: what the datastore calls the image.
        image: file, or folder of a DICOM series.
        label: file.
        names: what the viewer called the numbers in it; empty: it did not say.
        patient: a hash of PatientID, of an image from a DICOMweb store; None: not known.
    """

    id: str
    image: str
    label: str
    names: dict[int, str]
    patient: str | None = None


def _is_volume(path: str) -> bool | None:
    """Whether a file holds a volume; None: of DICOM its content tells, not its name."""
    if path.lower().endswith(VOLUME_SUFFIXES):
        return True
    return None if Path(path).is_dir() or is_dicom(path) else False


def submitted_labels(store: Datastore, is_volume: bool, classes: Collection[str]) -> list[SubmittedLabel]:
    """The final labels of a datastore whose images are of a bundle's kind.

    Args:
        store: the studies; from a DICOMweb store what is missing is fetched.
        is_volume: whether the bundle takes volumes; else it takes pictures.
        classes: the bundle's. A PACS may hold labels of other models, too: those are left out.

    Raises:
        DataError: When what is known of a label cannot be made sense of.
    """
    pairs = store.datalist()
    # A DICOMweb store's own list of them may be two hours old; what it just fetched is in its local copy.
    local = LocalDatastore if isinstance(store, LocalDatastore) else type(store)
    ids = {store.get_image_uri(name): name for name in local.get_labeled_images(store)}
    found = []
    for pair in pairs:
        name = ids.get(pair["image"]) or Path(pair["image"]).name.partition(".")[0]
        patient = str(store.get_image_info(name).get("PatientID") or "UNK")
        try:
            names = names_by_number(store.get_label_info(name, _FINAL))
        except DataError as error:
            raise DataError(f"The label of {name}: {error} Submit it again.") from error
        others = set(names.values()) - set(classes)
        if others and isinstance(store, DICOMWebDatastore):
            logger.info(f"A label is left out: its classes are of another model ({', '.join(sorted(others))}).")
            continue
        known_patient = None if patient == "UNK" else patient
        found.append(SubmittedLabel(name, pair["image"], pair["label"], names, known_patient))
    found.sort(key=lambda label: label.id)
    fitting = [label for label in found if _is_volume(label.image) in (is_volume, None)]
    if len(fitting) < len(found):
        kind = "pictures" if is_volume else "volumes"
        logger.info(f"{len(found) - len(fitting)} labels of {kind} are left out.")
    return fitting


def by_patient(labels: Sequence[SubmittedLabel], group_pattern: str | None) -> dict[str, list[SubmittedLabel]]:
    """The labels of each patient.

    Args:
        labels: of them PatientID tells the patient, or else the pattern, or else each image has its own.
        group_pattern: as in :func:`monai_sam2unet.bundle.folds.leave_out_fold`, for the images' names. A pattern that
            none of them follows is one for other data.

    Raises:
        ConfigError: When the pattern is no regular expression.
        DataError: When it finds a patient in some names only.
    """
    items = [{"image": label.image, "case": label.id, "filename_or_obj": label.id, "label": label} for label in labels]
    for item, label in zip(items, labels, strict=True):
        item |= {} if label.patient is None else {"patient": label.patient}
    try:
        groups = patients_of(items, group_pattern)
    except DataError:
        if any(_follows(item, group_pattern) for item in items):
            raise
        logger.warning(f"No image's name follows group_pattern {group_pattern!r}: each counts as another patient.")
        groups = patients_of(items, None)
    return {patient: [item["label"] for item in group] for patient, group in groups.items()}


def _follows(item: Mapping[str, Any], group_pattern: str | None) -> bool:
    try:
        return bool(patients_of([item], group_pattern))
    except DataError:
        return False

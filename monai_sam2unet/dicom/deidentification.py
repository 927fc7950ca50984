# SPDX-License-Identifier: Apache-2.0
"""Takes the patient's identity out of the DICOM objects that this package writes (PS3.15 Annex E)."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import partial
from typing import TypeVar

from dicomanonymizer.simpledicomanonymizer import anonymize_dataset, initialize_actions_2024b
from highdicom.sr import CodedConcept
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.sr.codedict import codes
from pydicom.tag import Tag
from pydicom.uid import UID, SecondaryCaptureImageStorage, generate_uid

from monai_sam2unet.dicom.derived_object import PACKAGE
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["deidentified", "new_uid"]

_Object = TypeVar("_Object", bound=Dataset)
_Action = Callable[[Dataset, tuple[int, int]], None]

#: Sequences that the profile would empty, and that hold nothing but references and codes in objects of this package;
#: they are kept, and what is in them is treated element by element.
KEPT_SEQUENCES = ("SourceImageSequence", "ReferencedImageSequence", "ContentSequence")
#: dicom-anonymizer's dummies are of the year 1, which programs refuse (dciodvfy: "character invalid for this VR").
ITS_DUMMY = "00010101"
DUMMIES = {"DA": "19000101", "DT": "19000101000000"}
#: Of how many characters a pseudonym is.
HASH_LENGTH = 16


def _keyed(secret: str, text: str) -> str:
    if not secret:
        raise ConfigError("De-identification needs a secret: any text that stays the same for all outputs of a run.")
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def new_uid(uid: str, secret: str) -> UID:
    """What stands for a UID in de-identified objects.

    Args:
        uid: the UID.
        secret: the same gives the same; without it the UID cannot be found by trying.

    Raises:
        ConfigError: When the secret is empty.
    """
    return generate_uid(entropy_srcs=[_keyed(secret, uid)])


def _replace_uid(secret: str, dataset: Dataset, tag: tuple[int, int]) -> None:
    """Replace a UID, or several, by those that follow from them and the secret."""
    element = dataset.get(tag)
    if element is None or not element.value:
        return
    if isinstance(element.value, MultiValue):
        element.value = [new_uid(uid, secret) for uid in element.value]
    else:
        element.value = new_uid(element.value, secret)


def _pseudonym(secret: str, dataset: Dataset, tag: tuple[int, int]) -> None:
    """A name for a patient that is the same wherever the same one stood, and empty where it was."""
    element = dataset.get(tag)
    if element is not None and element.value:
        element.value = f"ANON-{_keyed(secret, str(element.value))[:HASH_LENGTH]}"


def _keep(dataset: Dataset, tag: tuple[int, int]) -> None:
    """Leave an element as it is."""


def _actions(secret: str) -> dict[tuple[int, ...], _Action]:
    """What is done to each attribute, by its tag: the basic profile, with UIDs and pseudonyms from the secret."""
    actions: dict[tuple[int, ...], _Action] = initialize_actions_2024b()
    for tag, action in actions.items():
        if action.__name__ == "replace_UID":
            actions[tag] = partial(_replace_uid, secret)
    for keyword in KEPT_SEQUENCES:
        actions[_tag(keyword)] = _keep
    actions[_tag("PatientID")] = actions[_tag("PatientName")] = partial(_pseudonym, secret)
    return actions


def _tag(keyword: str) -> tuple[int, int]:
    tag = Tag(keyword)
    return tag.group, tag.element


def _clean(item: Dataset, actions: Mapping[tuple[int, ...], _Action], nested: bool) -> None:
    """Treat the elements of a sequence's item, and of all below it; dicomanonymizer treats the top alone."""
    for element in list(item):
        action = actions.get((element.tag.group, element.tag.element))
        if nested and action is not None:
            action(item, (element.tag.group, element.tag.element))
        kept: DataElement | None = item.get(element.tag)
        if kept is None:
            continue
        if kept.VR == "SQ":
            for below in kept.value:
                _clean(below, actions, nested=True)
        elif kept.VR in DUMMIES and str(kept.value).startswith(ITS_DUMMY):
            kept.value = DUMMIES[kept.VR]


def _check_pixels(dataset: Dataset) -> None:
    """Pictures are let through only where no text is burned into them."""
    if dataset.get("SOPClassUID") == SecondaryCaptureImageStorage and dataset.get("BurnedInAnnotation") != "NO":
        raise DataError(
            "The picture shows the source's pixels, and the source does not say that no name is burned into them "
            "(BurnedInAnnotation NO). It is not de-identified; leave pictures out."
        )


def deidentified(dataset: _Object, secret: str) -> _Object:
    """Take the patient's identity out of an object, by the Basic Application Level Confidentiality Profile.

    What is done to each attribute is dicom-anonymizer's table of PS3.15 E.1-1 (2024b), here for all levels of nesting.
    UIDs are replaced, each by the same new one wherever it stands, so that a run's segmentations, reports and pictures
    still refer to one another, and to the source's images once these are treated with the same secret. PatientID and
    PatientName become pseudonyms, dates and times dummies. Structured content is cleaned, not removed: it is this
    package's own, and names nobody.

    Pixels are not cleaned: a segmentation holds masks only; a picture of the source is refused unless the source says
    that nothing is burned into it.

    Args:
        dataset: a segmentation, measurement report or secondary capture that this package made; it is not changed.
        secret: any text. The same one gives the same UIDs and pseudonyms; who has it can find by trying whom they stand
            for.

    Returns:
        A copy, with PatientIdentityRemoved YES and the method.

    Raises:
        ConfigError: When the secret is empty, or the object was made by something else.
        DataError: When a picture may have text burned into it.
    """
    if dataset.get("Manufacturer") != PACKAGE:
        raise ConfigError(
            f"Only objects that {PACKAGE} made are de-identified, got one by {dataset.get('Manufacturer')}."
        )
    actions = _actions(secret)
    _check_pixels(dataset)
    made = deepcopy(dataset)
    anonymize_dataset(made, base_rules_gen=lambda: dict(actions))
    _clean(made, actions, nested=False)
    # The scanner tells the hospital; the profile's table has no word on it.
    equipment = made.get("ContributingEquipmentSequence") or []
    acquisition = codes.DCM.AcquisitionEquipment.value
    own = [item for item in equipment if item.PurposeOfReferenceCodeSequence[0].CodeValue != acquisition]
    if equipment:
        made.ContributingEquipmentSequence = own
    made.PatientIdentityRemoved = "YES"
    methods = [codes.DCM.BasicApplicationConfidentialityProfile]
    if "ContentSequence" in made:
        methods.append(codes.DCM.CleanStructuredContentOption)
    made.DeidentificationMethod = "PS3.15 Basic Application Level Confidentiality Profile"
    made.DeidentificationMethodCodeSequence = [CodedConcept.from_code(method) for method in methods]
    made.LongitudinalTemporalInformationModified = "REMOVED"
    return made

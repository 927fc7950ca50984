# SPDX-License-Identifier: Apache-2.0
"""What all DICOM objects made from a volume have in common: who made them, their UIDs, and whose they are."""

from __future__ import annotations

import hashlib
import re
import warnings
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import numpy as np
from highdicom import AlgorithmIdentificationSequence
from highdicom.enum import PatientSexValues
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, generate_uid
from pydicom.valuerep import DA, DT, TM

from monai_sam2unet import __version__
from monai_sam2unet.dicom.frame import Frame, reading
from monai_sam2unet.dicom.volume import DicomVolume
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["Algorithm", "DerivedIdentity", "derived_identity", "patient_and_study", "settle", "source_frames"]

PACKAGE = "monai_sam2unet"
#: Attributes of patient and study that every object has, empty where they are not known (PS3.3 C.7.1.1, C.7.2.1).
PATIENT_AND_STUDY = (
    "PatientID",
    "PatientName",
    "PatientBirthDate",
    "PatientSex",
    "AccessionNumber",
    "StudyID",
    "StudyDate",
    "StudyTime",
    "ReferringPhysicianName",
)
#: Further ones that are passed on where they are given.
PASSED_ON = (
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "StudyDescription",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)
#: How dates were written before DICOM (PS3.5 6.2).
ACR_NEMA_DATE = r"\d{4}\.\d{2}\.\d{2}"
#: Of each kind of object what is added to the hundredfold of the source's SeriesNumber.
SERIES_OFFSET = {"SEG": 1, "SR": 2, "SC": 3}
#: A text of VR LO or SH has at most so many characters.
LONG_TEXT = 64


@dataclass(frozen=True)
class Algorithm:
    """The model that made a result.

    Args:
        name: of the model, as its bundle's metadata have it; at most 64 characters.
        version: of the bundle.
        weights_hash: SHA-256 of the weights, in hexadecimal.

    Raises:
        ConfigError: When one of them is empty, or too long for DICOM.
    """

    name: str
    version: str
    weights_hash: str

    def __post_init__(self) -> None:
        for what, value in (("name", self.name), ("version", self.version), ("weights_hash", self.weights_hash)):
            if not value.strip() or len(value) > LONG_TEXT or "\\" in value:
                raise ConfigError(
                    f"The algorithm's {what} must be 1 to {LONG_TEXT} characters, no backslash: {value!r}."
                )

    @property
    def identification(self) -> AlgorithmIdentificationSequence:
        """The model as Algorithm Identification (PS3.3 10.16)."""
        return AlgorithmIdentificationSequence(
            name=self.name,
            family=codes.DCM.ArtificialIntelligence,
            version=self.version,
            source=PACKAGE,
            parameters={"weights_sha256": self.weights_hash},
        )

    @property
    def equipment(self) -> dict[str, Any]:
        """The model as General Equipment, under the names that highdicom's constructors have."""
        return {
            "manufacturer": PACKAGE,
            "manufacturer_model_name": self.name,
            "software_versions": [f"{PACKAGE} {__version__}", f"bundle {self.version}"],
            "device_serial_number": self.weights_hash,
        }


@dataclass(frozen=True)
class DerivedIdentity:
    """UIDs and numbers of an object, the same for the same source, model and content.

    Args:
        series_uid: SeriesInstanceUID.
        series_number: SeriesNumber.
        instance_uid: SOPInstanceUID.
    """

    series_uid: UID
    series_number: int
    instance_uid: UID

    def uid(self, what: str) -> UID:
        """A UID of something within the object.

        Args:
            what: what it is for.
        """
        return generate_uid(entropy_srcs=[self.instance_uid, what])

    def arguments(self, algorithm: Algorithm, created: datetime, what: str) -> dict[str, Any]:
        """What every object is made with, under the names that highdicom's constructors have.

        Args:
            algorithm: the model.
            created: when it was made.
            what: kind of the object, for its SeriesDescription.
        """
        return {
            "series_instance_uid": self.series_uid,
            "series_number": self.series_number,
            "sop_instance_uid": self.instance_uid,
            "series_description": f"{what}: {algorithm.name}"[:LONG_TEXT],
            "content_date": created.date(),
            "content_time": created.time(),
            "series_date": created.date(),
            "series_time": created.time(),
            "specific_character_set": "ISO_IR 192",
            **algorithm.equipment,
        }


def source_frames(volume: DicomVolume) -> list[Frame]:
    """The frames that a volume was read from; those that were filled in are none."""
    return [frame for frame in volume.frames if frame is not None]


def _text(dataset: Dataset, keyword: str, frame: Frame) -> str:
    with reading(f"{keyword} of {frame}"):
        return str(dataset.get(keyword) or "")


def derived_identity(
    kind: str, volume: DicomVolume, algorithm: Algorithm, content: NDArray, created: datetime, details: str = ""
) -> DerivedIdentity:
    """Name an object after what it is made from.

    The same again makes the identical object; another result of the same series and model, as with another threshold or
    at another time, goes into the same series as another instance.

    Args:
        kind: ``SEG``, ``SR`` or ``SC``.
        volume: the source.
        algorithm: the model.
        content: the result.
        created: when it was made, which the object holds, too.
        details: what else tells it from others, as how it is encoded.

    Returns:
        Its UIDs, by SHA-512 of all these, and its SeriesNumber: the source's with two more digits.
    """
    first = volume.first
    source = volume.series.uid or _text(first.dataset, "SOPInstanceUID", first)
    model = [algorithm.name, algorithm.version, algorithm.weights_hash, __version__]
    series = generate_uid(entropy_srcs=[source, kind, *model])
    digest = hashlib.sha256(repr((details, content.shape, content.dtype.str)).encode())
    digest.update(np.ascontiguousarray(content).data)
    members = [f"{_text(frame.dataset, 'SOPInstanceUID', frame)}#{frame.index}" for frame in source_frames(volume)]
    number = _text(first.dataset, "SeriesNumber", first)
    # Numbers beyond what an IS of 12 characters holds, or none, are taken as 0.
    base = int(number) if number.isdigit() and len(number) < 8 else 0
    instance = generate_uid(entropy_srcs=[series, digest.hexdigest(), created.isoformat(), *members])
    return DerivedIdentity(series, 100 * base + SERIES_OFFSET[kind], instance)


def _allowed(value: Any, keyword: str, frame: Frame) -> bool:
    """Whether DICOM allows a value: dates, times and codes; what says who somebody is, is passed on in any case."""
    if value in (None, ""):
        return True
    try:
        if keyword.endswith("Date"):
            DA(value)
        elif keyword.endswith("Time"):
            TM(value)
        elif keyword == "PatientSex":
            PatientSexValues(value)
        elif keyword == "PatientAge" and not re.fullmatch(r"\d{3}[DWMY]", str(value)):
            raise ValueError(value)
    except (ValueError, TypeError):
        warnings.warn(f"{frame}: its {keyword} is not allowed in DICOM, and is left out.", stacklevel=3)
        return False
    return True


def patient_and_study(frame: Frame) -> Dataset:
    """Attributes of a frame's patient and study, for an object made from it.

    Args:
        frame: of the source.

    Returns:
        A data set with those that every object has, and a few more; what the source lacks is empty, and so is, with a
        warning, a date, time, age or sex that DICOM does not allow.

    Raises:
        DataError: When the source has no StudyInstanceUID, SeriesInstanceUID, SOPInstanceUID or SOPClassUID.
    """
    source, shown = frame.dataset, Dataset()
    missing = [
        keyword
        for keyword in ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")
        if not UID(_text(source, keyword, frame)).is_valid
    ]
    if missing:
        raise DataError(f"{frame} cannot be referred to: {', '.join(missing)} must be valid, and is not or is missing.")
    with reading(frame):
        shown.StudyInstanceUID = source.StudyInstanceUID
        for keyword in PATIENT_AND_STUDY:
            value = source.get(keyword)
            if re.fullmatch(ACR_NEMA_DATE, str(value)):
                value = str(value).replace(".", "")
            setattr(shown, keyword, value if value is not None and _allowed(value, keyword, frame) else "")
        for keyword in PASSED_ON:
            value = source.get(keyword)
            if value not in (None, "") and _allowed(value, keyword, frame):
                setattr(shown, keyword, value)
    methods = ("DeidentificationMethod", "DeidentificationMethodCodeSequence")
    if shown.get("PatientIdentityRemoved") == "YES" and not any(keyword in shown for keyword in methods):
        # One of the two is needed then.
        shown.DeidentificationMethod = "Not told by the source"
    return shown


def settle(dataset: Dataset, identity: DerivedIdentity, created: datetime) -> None:
    """Put in what highdicom takes from chance and from the clock, so that the same result is the same file.

    Args:
        dataset: the object; it is changed.
        identity: its UIDs.
        created: when it was made.
    """
    date, time = DA(created.date()), TM(created.time())
    sequences = ("DimensionOrganizationSequence", "DimensionIndexSequence", "ContributingEquipmentSequence")
    for item in (dataset, *(item for keyword in sequences for item in dataset.get(keyword) or ())):
        for keyword, value in (
            ("DimensionOrganizationUID", identity.uid("dimensions")),
            ("InstanceCreationDate", date),
            ("InstanceCreationTime", time),
            ("DateOfSecondaryCapture", date),
            ("TimeOfSecondaryCapture", time),
            ("ContributionDateTime", DT(created)),
        ):
            if keyword in item:
                setattr(item, keyword, value)

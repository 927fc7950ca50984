# SPDX-License-Identifier: Apache-2.0
"""Conditions on series as QIDO-RS has them (PS3.18 8.3.4): read, checked, and compared with what a server answers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any

from dicomweb_client.uri import URI
from pydicom.datadict import DicomDictionary, dictionary_VR, keyword_for_tag, tag_for_keyword
from pydicom.multival import MultiValue

from monai_sam2unet.errors import ConfigError, listing

__all__ = ["parse_source", "parse_where", "unmet"]

PREFIX = "dicomweb:"
DATE = re.compile(r"(\d{4}(0[1-9]|1[0-2])(0[1-9]|[12]\d|3[01]))?")
#: VRs whose values are compared with the condition. For names and texts servers may match in many ways.
COMPARED = ("CS", "DA", "UI")


def _keyword(name: str) -> str:
    """A keyword from itself, or from its tag, as 00080060."""
    tag = int(name, 16) if re.fullmatch(r"[0-9A-Fa-f]{8}", name) else tag_for_keyword(name)
    keyword = "" if tag is None else keyword_for_tag(tag)
    if not keyword:
        known = [entry[4] for entry in DicomDictionary.values() if entry[4]]
        lower = {word.lower(): word for word in known}
        near = [lower[word] for word in get_close_matches(name.lower(), lower, n=3, cutoff=0.7)]
        hint = f" Did you mean {', '.join(near)}?" if near else ""
        raise ConfigError(f"{name} is no keyword or tag of the DICOM dictionary (PS3.6).{hint}")
    if dictionary_VR(keyword) in ("SQ", "OB", "OW", "OB or OW", "OF", "OD", "UN"):
        raise ConfigError(f"{keyword} holds no value that a series can be looked for by.")
    return keyword


def _check_value(keyword: str, value: str) -> None:
    vr = dictionary_VR(keyword)
    if vr == "DA":
        first, dash, last = value.partition("-")
        if not DATE.fullmatch(first) or not DATE.fullmatch(last) or not (first or last):
            raise ConfigError(
                f"{keyword}={value}: a date is YYYYMMDD, a range YYYYMMDD-YYYYMMDD, of which one may be left out."
            )
        if dash and first and last and first > last:
            raise ConfigError(f"{keyword}={value}: the range ends before it starts.")
    if vr == "UI" and not re.fullmatch(r"[0-9.]{1,64}(,[0-9.]{1,64})*", value):
        raise ConfigError(f"{keyword}={value}: a UID has digits and points, 64 at most; several are parted by commas.")
    if vr == "CS" and value != value.upper():
        raise ConfigError(f"{keyword}={value}: its values are in capitals, so {keyword}={value.upper()}.")


def parse_where(conditions: Sequence[str]) -> dict[str, str]:
    """Read conditions.

    Args:
        conditions: each ``KEYWORD=VALUE``, as the DICOM dictionary has the keyword; a tag as ``00080060`` goes, too.
            Values as in QIDO-RS: ``*`` and ``?`` stand for any letters, dates may be ranges, UIDs may be several.

    Raises:
        ConfigError: When a condition is no such pair, its keyword is not in the dictionary, its value cannot be one, or
            a keyword is given twice; all of them are listed.

    Example:
        >>> parse_where(["Modality=CT", "StudyDate=20260101-20260131"])
        {'Modality': 'CT', 'StudyDate': '20260101-20260131'}
    """
    read: dict[str, str] = {}
    problems: list[str] = []
    for condition in conditions:
        name, equals, value = (part.strip() for part in condition.partition("="))
        try:
            if not equals or not name or not value:
                raise ConfigError(f"{condition!r} is not KEYWORD=VALUE, as Modality=CT.")
            keyword = _keyword(name)
            _check_value(keyword, value)
            if keyword in read:
                raise ConfigError(f"{keyword} is given twice; all conditions must hold together.")
            read[keyword] = value
        except ConfigError as error:
            problems.append(str(error))
    if problems:
        raise ConfigError(f"--where cannot be read:\n{listing(problems)}")
    return read


def parse_source(source: str) -> tuple[str, dict[str, str]]:
    """Read the address of a DICOMweb server, of one of its studies, or of one of its series.

    Args:
        source: ``dicomweb:https://host/dicom-web``, which ``/studies/UID`` or ``/studies/UID/series/UID`` may follow.

    Returns:
        The root of the service, and the conditions that the rest stands for.

    Raises:
        ConfigError: When it is no such address.

    Example:
        >>> parse_source("dicomweb:https://host/dicom-web/studies/1.2/series/1.2.3")
        ('https://host/dicom-web', {'StudyInstanceUID': '1.2', 'SeriesInstanceUID': '1.2.3'})
    """
    address = source.removeprefix(PREFIX).rstrip("/")
    try:
        uri = URI.from_string(address)
    except ValueError as error:
        raise ConfigError(
            f"{source} is no address of a DICOMweb server, as {PREFIX}https://host/dicom-web: {error}"
        ) from error
    if uri.suffix is not None or uri.sop_instance_uid is not None:
        raise ConfigError(f"{source} is the address of something in a series; give that of the series, or of the root.")
    uids = {"StudyInstanceUID": uri.study_instance_uid, "SeriesInstanceUID": uri.series_instance_uid}
    return uri.base_url, {keyword: uid for keyword, uid in uids.items() if uid}


def _fits(vr: str, value: str, wanted: str) -> bool:
    if vr == "DA" and "-" in wanted:
        first, _, last = wanted.partition("-")
        return (not first or first <= value) and (not last or value <= last)
    if vr == "UI":
        return value in wanted.split(",")
    # Square brackets are wildcards to fnmatch alone.
    return fnmatchcase(value, wanted.replace("[", "[[]")) if vr == "CS" else value == wanted


def unmet(where: Mapping[str, str], found: Any) -> str | None:
    """Which condition an answer does not meet: servers may pass over conditions that they do not know.

    Args:
        where: the conditions.
        found: the data set that the server answered; what it does not hold cannot be compared.

    Returns:
        The condition, and of codes the value, in words; None where all hold.
    """
    for keyword, wanted in where.items():
        vr, value = dictionary_VR(keyword), found.get(keyword)
        values = [str(item) for item in (value if isinstance(value, MultiValue) else [value])] if value else []
        if vr in COMPARED and values and not any(_fits(vr, item, wanted) for item in values):
            # Codes alone tell nothing of who it is.
            return f"{keyword}={wanted}, which it answers {', '.join(values)} to" if vr == "CS" else keyword
    return None

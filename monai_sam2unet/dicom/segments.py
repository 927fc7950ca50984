# SPDX-License-Identifier: Apache-2.0
"""What a class of a mask is in DICOM: number, label, coded property and colour."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from highdicom import AlgorithmIdentificationSequence
from highdicom.color import CIELabColor
from highdicom.seg import SegmentDescription
from highdicom.sr import CodedConcept
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code

from monai_sam2unet.errors import ConfigError, listing

__all__ = ["Segment", "planned_segments", "read_segments", "segment_attributes", "snomed_code"]

ANATOMICAL_STRUCTURE = codes.SCT.AnatomicalStructure
#: What a segment is of which no more is known: a tissue of no kind in particular (CID 7151).
TISSUE = codes.SCT.Tissue
#: Colours of segments that have none of their own, by turns: those of Okabe and Ito.
COLOURS = (
    (230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167),
)  # fmt: skip
#: Attributes of a segment in a plan.
PLANNED = ("label", "description", "category", "type", "modifier", "region", "rgb")
#: SegmentLabel and CodeMeaning are of VR LO, of at most so many characters.
LABEL_LENGTH = 64


@dataclass(frozen=True)
class Segment:
    """A class of a mask, as DICOM describes it (PS3.3 C.8.20.4).

    Args:
        number: the class index, from 1.
        label: what users read.
        category: of the property, as Anatomical Structure (CID 7150).
        type: the property itself, as Liver (CID 7151).
        modifier: of the type, as Left; None for none.
        region: where in the body it is; None for not said.
        colour: RGB, 0 to 255, to show it in.
        description: in more words; may be empty.

    Raises:
        ConfigError: When the number, the label or the colour is not allowed.
    """

    number: int
    label: str
    category: Code = ANATOMICAL_STRUCTURE
    type: Code = TISSUE
    modifier: Code | None = None
    region: Code | None = None
    colour: tuple[int, int, int] = COLOURS[0]
    description: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.number, bool) or not isinstance(self.number, int) or not 1 <= self.number <= 255:
            raise ConfigError(f"A segment's number must be a whole number of 1 to 255, got {self.number!r}.")
        if not self.label.strip() or len(self.label) > LABEL_LENGTH:
            raise ConfigError(f"A segment's label must be 1 to {LABEL_LENGTH} characters long, got {self.label!r}.")
        if len(self.colour) != 3 or not all(isinstance(v, int) and 0 <= v <= 255 for v in self.colour):
            raise ConfigError(f"A segment's colour must be three numbers of 0 to 255, got {list(self.colour)}.")

    def as_description(
        self, algorithm: AlgorithmIdentificationSequence, algorithm_type: str = "AUTOMATIC"
    ) -> SegmentDescription:
        """The item of a Segment Sequence.

        Args:
            algorithm: what made the segment.
            algorithm_type: ``AUTOMATIC``, or ``SEMIAUTOMATIC`` where somebody has corrected it.
        """
        item = SegmentDescription(
            segment_number=self.number,
            segment_label=self.label,
            segmented_property_category=self.category,
            segmented_property_type=self.type,
            algorithm_type=algorithm_type,
            algorithm_identification=algorithm,
            anatomic_regions=[self.region] if self.region else None,
            display_color=CIELabColor.from_rgb(*self.colour),
        )
        if self.description:
            item.SegmentDescription = self.description
        if self.modifier:
            modifier = CodedConcept.from_code(self.modifier)
            item.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence = [modifier]
        return item


def snomed_code(keyword: str) -> Code:
    """A code of SNOMED CT, by pydicom's keyword for its meaning.

    Args:
        keyword: as ``Liver`` or ``PolypOfColon``; see ``pydicom.sr.codedict.codes.SCT``.

    Raises:
        ConfigError: When there is no such keyword.

    Example:
        >>> snomed_code("Liver").value
        '10200004'
    """
    try:
        code: Code = getattr(codes.SCT, keyword)
    except (AttributeError, RuntimeError) as error:
        near = list(codes.SCT.dir(keyword[:6]))
        told = f"; there are, for example:\n{listing(near)}" if near else ""
        raise ConfigError(f"{keyword!r} is no keyword of pydicom.sr.codedict.codes.SCT{told}") from error
    return code


def planned_segments(names: Sequence[str], planned: Sequence[Mapping[str, Any]] = ()) -> list[Segment]:
    """The segments of a plan.

    Args:
        names: of the classes, without background, in the order of their numbers.
        planned: of each class in the same order: ``category``, ``type``, ``modifier``, ``region``: keywords as
            :func:`snomed_code` takes them; ``rgb``: the colour; ``label``: instead of the name; ``description``. Empty:
            all classes are tissue of no kind in particular, which is wrong for no organ.

    Raises:
        ConfigError: When they are not as many as the names, or have something that is not known.
    """
    if planned and len(planned) != len(names):
        raise ConfigError(f"segments describes {len(planned)} classes; there are {len(names)}: {', '.join(names)}.")
    segments = []
    for number, name in enumerate(names, 1):
        own = dict(planned[number - 1]) if planned else {}
        unknown = sorted(set(own) - set(PLANNED))
        if unknown:
            raise ConfigError(f"segments of {name}: unknown: {', '.join(unknown)}. There are: {', '.join(PLANNED)}.")
        coded = {key: snomed_code(own[key]) for key in ("category", "type", "modifier", "region") if own.get(key)}
        colour = tuple(own.get("rgb") or COLOURS[(number - 1) % len(COLOURS)])
        readable = name.replace("_", " ").strip()
        label = own.get("label") or readable[:1].upper() + readable[1:LABEL_LENGTH]
        segments.append(Segment(number, label, colour=colour, description=own.get("description", ""), **coded))
    return segments


def _as_json(code: Code) -> dict[str, str]:
    return {"CodeValue": code.value, "CodingSchemeDesignator": code.scheme_designator, "CodeMeaning": code.meaning}


def segment_attributes(segments: Iterable[Segment]) -> list[list[dict[str, Any]]]:
    """Segments as JSON, under the names of dcmqi's schema (``segmentAttributes``).

    Args:
        segments: of one mask.

    Returns:
        What :func:`read_segments` reads.
    """
    items = []
    for segment in segments:
        item: dict[str, Any] = {
            "labelID": segment.number,
            "SegmentLabel": segment.label,
            "SegmentDescription": segment.description or segment.label,
            "SegmentAlgorithmType": "AUTOMATIC",
            "SegmentedPropertyCategoryCodeSequence": _as_json(segment.category),
            "SegmentedPropertyTypeCodeSequence": _as_json(segment.type),
            "recommendedDisplayRGBValue": list(segment.colour),
        }
        if segment.modifier:
            item["SegmentedPropertyTypeModifierCodeSequence"] = _as_json(segment.modifier)
        if segment.region:
            item["AnatomicRegionSequence"] = _as_json(segment.region)
        items.append(item)
    return [items]


def _code(item: Mapping[str, Any], keyword: str) -> Code | None:
    value = item.get(keyword)
    if value is None:
        return None
    parts = [value.get(name) for name in ("CodeValue", "CodingSchemeDesignator", "CodeMeaning")]
    if not all(isinstance(part, str) and part for part in parts):
        raise ValueError(f"{keyword} must have CodeValue, CodingSchemeDesignator and CodeMeaning, got {value}")
    return Code(*parts)


def _segment(item: Mapping[str, Any]) -> Segment:
    category = _code(item, "SegmentedPropertyCategoryCodeSequence")
    kind = _code(item, "SegmentedPropertyTypeCodeSequence")
    if category is None or kind is None:
        raise ValueError("SegmentedPropertyCategoryCodeSequence and SegmentedPropertyTypeCodeSequence are needed")
    label = item["SegmentLabel"]
    description = item.get("SegmentDescription", "")
    return Segment(
        number=item["labelID"],
        label=label,
        category=category,
        type=kind,
        modifier=_code(item, "SegmentedPropertyTypeModifierCodeSequence"),
        region=_code(item, "AnatomicRegionSequence"),
        colour=tuple(item.get("recommendedDisplayRGBValue") or COLOURS[(item["labelID"] - 1) % len(COLOURS)]),
        description="" if description == label else description,
    )


def read_segments(metadata: Mapping[str, Any]) -> list[Segment]:
    """The segments that a bundle's ``metadata.json`` describes.

    Args:
        metadata: its content, with ``segmentAttributes``.

    Returns:
        One for each class, in the order of their numbers.

    Raises:
        ConfigError: When there are none, something in them is missing or wrong, or their numbers are not 1, 2, 3, ...
    """
    files = metadata.get("segmentAttributes")
    if not files or not isinstance(files, list) or not isinstance(files[0], list) or len(files) > 1:
        raise ConfigError("The metadata need segmentAttributes: a list of one list of segments, as dcmqi has it.")
    segments, problems = [], []
    for item in files[0]:
        try:
            segments.append(_segment(item))
        except KeyError as error:
            problems.append(f"{item}: {error.args[0]} is missing")
        except (ValueError, TypeError, AttributeError) as error:
            problems.append(f"{item}: {error}")
    if problems:
        raise ConfigError(f"segmentAttributes has {len(problems)} problems:\n{listing(problems)}")
    if [segment.number for segment in segments] != list(range(1, len(segments) + 1)):
        raise ConfigError(f"labelID must be 1, 2, 3, ... in order, got {[segment.number for segment in segments]}.")
    return segments

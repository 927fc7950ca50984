# SPDX-License-Identifier: Apache-2.0
"""Rules, in YAML, by which series are taken or left, with the reason for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import ORIENTATIONS, SeriesJob
from monai_sam2unet.errors import ConfigError, listing

__all__ = ["Decision", "SeriesRules", "chosen"]

ACTIONS = ("take", "leave")
#: No volume is made of overviews; they are taken by a rule of one's own.
LEFT_BY_DEFAULT = "LOCALIZER"


@dataclass(frozen=True)
class Decision:
    """What becomes of a series.

    Args:
        take: whether it is processed.
        reason: which rule says so, or why none does.
    """

    take: bool
    reason: str


@dataclass(frozen=True)
class _Condition:
    """One key of a rule: ``why_not`` says what of a job does not fit, or None where it does."""

    text: str
    why_not: Callable[[SeriesJob], str | None]


@dataclass(frozen=True)
class _Rule:
    take: bool
    number: int
    conditions: tuple[_Condition, ...]

    def why_not(self, job: SeriesJob) -> str | None:
        return next((reason for reason in (each.why_not(job) for each in self.conditions) if reason), None)

    def __str__(self) -> str:
        what = ", ".join(condition.text for condition in self.conditions) or "everything"
        return f"rule {self.number} {'takes' if self.take else 'leaves'} {what}"


class SeriesRules:
    """Rules in their order: the first that fits a series decides; without one the default does.

    A file of rules, in YAML::

        rules:
          - leave: {description: "lung|bone"}
          - take: {modality: [CT], slices: {min: 30, max: 2000}, orientation: axial, image_type: ORIGINAL}
        default: leave

    A rule is ``take`` or ``leave`` with conditions that must all hold: ``modality``, ``body_part``, ``image_type`` and
    ``orientation`` are one value or a list of those allowed (of ImageType, one must be there), upper and lower case
    alike; ``description`` is a regular expression that SeriesDescription must hold, or a list of such; ``slices`` has
    ``min``, ``max`` or both, whole numbers. ``{}`` fits everything. ``default`` is ``take`` or ``leave``; without it,
    what no rule fits is left.

    Args:
        content: what the file holds.
        name: the file, for error texts.

    Raises:
        ConfigError: When a key or value is not one of those allowed; the text names all of them.

    Example:
        >>> rules = SeriesRules({"rules": [{"take": {"modality": "CT", "slices": {"min": 20}}}]})
        >>> job = SeriesJob("1.2", "1.2", "1", "CT", "scout", (), slices=2, size_bytes=0)
        >>> rules.decide(job)
        Decision(take=False, reason='no rule fits it: rule 1 needs 20 slices or more, it has 2')
    """

    def __init__(self, content: Mapping[str, Any], name: object = "rules") -> None:
        problems: list[str] = []
        if not isinstance(content, Mapping):
            raise ConfigError(f"{name} must hold the keys rules and default, got {content!r}.")
        problems += [
            f"{key!r} is no key; allowed are rules and default" for key in content if key not in ("rules", "default")
        ]
        default = content.get("default", "leave")
        if default not in ACTIONS:
            problems.append(f"default must be take or leave, got {default!r}")
        given = content.get("rules", [])
        if not isinstance(given, list):
            problems.append(f"rules must be a list, got {given!r}")
            given = []
        self.rules = [_rule(number, item, problems) for number, item in enumerate(given, start=1)]
        self.take_others = default == "take"
        self.hint = ""
        if problems:
            raise ConfigError(f"{name}:\n{listing(problems, limit=30)}")

    @classmethod
    def from_yaml(cls, path: str | Path) -> SeriesRules:
        """Read rules.

        Args:
            path: the file.

        Raises:
            ConfigError: When it cannot be read, is no YAML, or holds what is not allowed.
        """
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, UnicodeError, yaml.YAMLError, RecursionError) as error:
            raise ConfigError(f"The rules {path} cannot be read: {error}") from error
        return cls({} if content is None else content, path)

    @classmethod
    def for_modalities(cls, modalities: Sequence[str] | None) -> SeriesRules:
        """Rules that take what a bundle is made for, but for localizers.

        Args:
            modalities: values of Modality, as ``["CR", "DX"]``; None takes all.
        """
        take = {} if modalities is None else {"modality": list(modalities)}
        rules = cls({"rules": [{"leave": {"image_type": LEFT_BY_DEFAULT}}, {"take": take}]})
        rules.hint = " (these rules are the bundle's; --rules brings others)"
        return rules

    def decide(self, job: SeriesJob) -> Decision:
        """Whether a series is taken.

        Args:
            job: the series.
        """
        missed = []
        for rule in self.rules:
            reason = rule.why_not(job)
            if reason is None:
                return Decision(rule.take, str(rule))
            if rule.take:
                missed.append(f"rule {rule.number} {reason}")
        if self.take_others:
            return Decision(True, "no rule fits it, and the default is take")
        return Decision(False, f"no rule fits it: {'; '.join(missed)}{self.hint}" if missed else "no rule takes it")


def chosen(jobs: Iterable[SeriesJob | Refused], rules: SeriesRules) -> Iterator[SeriesJob | Refused]:
    """What is taken of a source, and what is refused or left, with the reason.

    Args:
        jobs: as a source finds them.
        rules: what is to be taken.
    """
    for item in jobs:
        if isinstance(item, Refused):
            yield item
            continue
        decision = rules.decide(item)
        if decision.take:
            yield item
        else:
            item.release(done=True)
            yield Refused(item.key, decision.reason, item.series_uid)


def _rule(number: int, item: Any, problems: list[str]) -> _Rule:
    """One rule; what is wrong with it is added to ``problems``."""
    action = next(iter(item)) if isinstance(item, Mapping) and len(item) == 1 else None
    if action not in ACTIONS:
        problems.append(f"rule {number} must be take or leave with its conditions, got {item!r}")
        return _Rule(False, number, ())
    conditions = item[action]
    if not isinstance(conditions, Mapping):
        problems.append(f"rule {number}: {action} must have conditions, as {{modality: CT}}, got {conditions!r}")
        return _Rule(False, number, ())
    made = []
    for key, value in conditions.items():
        if key not in CONDITIONS:
            problems.append(f"rule {number}: {key!r} is no condition; allowed are {', '.join(CONDITIONS)}")
            continue
        try:
            made.append(CONDITIONS[key](value))
        except (ValueError, OverflowError, RecursionError, re.error) as error:
            problems.append(f"rule {number}: {key} {error}")
    return _Rule(action == "take", number, tuple(made))


def _texts(value: Any, allowed: Iterable[str] = ()) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not values or not all(isinstance(item, str) and item for item in values):
        raise ValueError(f"must be a text or a list of texts, got {value!r}")
    unknown = [item for item in values if allowed and item.lower() not in allowed]
    if unknown:
        raise ValueError(f"must be one of {', '.join(allowed)}, got {', '.join(unknown)}")
    return values


def _one_of(
    name: str, get: Callable[[SeriesJob], Iterable[str]], allowed: Iterable[str] = ()
) -> Callable[[Any], _Condition]:
    def make(value: Any) -> _Condition:
        texts = _texts(value, allowed)
        wanted = {text.upper() for text in texts}

        def why_not(job: SeriesJob) -> str | None:
            given = [text for text in get(job) if text]
            if wanted & {text.upper() for text in given}:
                return None
            return f"needs {name} {' or '.join(texts)}, it has {'/'.join(given) or 'none'}"

        return _Condition(f"{name} {' or '.join(texts)}", why_not)

    return make


def _description(value: Any) -> _Condition:
    texts = _texts(value)
    patterns = [re.compile(text, re.IGNORECASE) for text in texts]

    def why_not(job: SeriesJob) -> str | None:
        if any(pattern.search(job.description) for pattern in patterns):
            return None
        # A description may hold a name, and this text is shown.
        return f"needs a description like {' or '.join(texts)}, it has {'another' if job.description else 'none'}"

    return _Condition(f"description like {' or '.join(texts)}", why_not)


def _slices(value: Any) -> _Condition:
    ends = dict(value) if isinstance(value, Mapping) else {}
    low, high = ends.pop("min", None), ends.pop("max", None)
    numbers = [end for end in (low, high) if end is not None]
    whole = all(isinstance(end, int) and not isinstance(end, bool) and end >= 0 for end in numbers)
    if ends or not numbers or not whole or numbers != sorted(numbers):
        raise ValueError(f"must have min, max or both, whole numbers from 0 and min not above max, got {value!r}")
    words = [] if low is None else [f"{low} slices or more"]
    words += [] if high is None else [f"{high} slices or fewer"]
    text = " and ".join(words)

    def why_not(job: SeriesJob) -> str | None:
        if (low is None or job.slices >= low) and (high is None or job.slices <= high):
            return None
        return f"needs {text}, it has {job.slices}"

    return _Condition(text, why_not)


CONDITIONS: dict[str, Callable[[Any], _Condition]] = {
    "modality": _one_of("modality", lambda job: (job.modality,)),
    "description": _description,
    "slices": _slices,
    "orientation": _one_of("orientation", lambda job: (job.orientation,), ORIENTATIONS),
    "image_type": _one_of("image type", lambda job: job.image_type),
    "body_part": _one_of("body part", lambda job: (job.body_part,)),
}

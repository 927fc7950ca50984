# SPDX-License-Identifier: Apache-2.0
"""Which frames of a series make one volume: localizers set aside, one time point or stack chosen, no slice twice."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from pydicom.multival import MultiValue

from monai_sam2unet.dicom.frame import Frame, reading
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["choose_stack", "drop_duplicates", "set_localizers_aside"]

#: Attributes that tell one volume from another at the same place, the first that does so being taken:
#: stacks, times, phases, echoes, diffusion weightings, acquisitions, kinds of image.
STACK_ATTRIBUTES = (
    "StackID",
    "TemporalPositionIndex",
    "TemporalPositionIdentifier",
    "TriggerTime",
    "NominalCardiacTriggerDelayTime",
    "EchoNumbers",
    "EffectiveEchoTime",
    "EchoTime",
    "DiffusionBValue",
    "ComplexImageComponent",
    "FrameType",
    "ImageType",
    "AcquisitionNumber",
    "AcquisitionTime",
)
#: Attributes whose values drift from slice to slice, so that their order at each place tells the volumes: the heart
#: does not beat evenly while one slice after another is taken.
DRIFTING = ("TriggerTime",)
#: Positions (mm) that agree to this many digits are one.
POSITION_DIGITS = 3


def set_localizers_aside(frames: Sequence[Frame], strict: bool = True) -> list[Frame]:
    """Leave out localizers where there are other images.

    Args:
        frames: of one series.
        strict: whether a localizer among other images is an error; otherwise a warning names it.

    Returns:
        The frames that are no localizers; all, where there is nothing else.

    Raises:
        DataError: When ``strict`` and a localizer lies among other images.
    """
    others = [frame for frame in frames if not frame.is_localizer]
    if not others or len(others) == len(frames):
        return list(frames)
    names = listing([str(frame) for frame in frames if frame.is_localizer])
    if strict:
        raise DataError(f"Localizers lie among the series' images; with strict=False they are set aside:\n{names}")
    warnings.warn(f"Localizers are set aside:\n{names}", stacklevel=2)
    return others


def _place(frame: Frame) -> Hashable:
    """What two frames at the same place share; frames without a patient space are told apart by nothing else."""
    if frame.position is None or frame.orientation is None:
        return id(frame)
    return (*np.round(frame.position, POSITION_DIGITS), *np.round(frame.orientation, POSITION_DIGITS).ravel())


def _repeated(frames: Sequence[Frame]) -> bool:
    return len({_place(frame) for frame in frames}) < len(frames)


def _value(frame: Frame, keyword: str) -> Hashable:
    with reading(f"{keyword} of {frame}"):
        value = frame.attributes.get(keyword, frame.dataset.get(keyword))
    return tuple(value) if isinstance(value, list | MultiValue) else value


def _groups(frames: Sequence[Frame], keyword: str) -> dict[Hashable, list[Frame]]:
    groups: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        groups[_value(frame, keyword)].append(frame)
    # Numbers come as IS and DS values, which compare as numbers; other values as text.
    return dict(sorted(groups.items(), key=lambda item: _order(item[0])))


def _order(value: Hashable) -> tuple[int, float, str]:
    try:
        return (0, float(value), "")  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return (1, 0.0, str(value))


def _parts(volume: list[Frame], keyword: str) -> dict[str, list[Frame]]:
    """Groups of a volume's frames by an attribute, where each covers all of the volume's places."""
    groups = _groups(volume, keyword)
    # An attribute that parts slices at different places from one another tears the volume and tells nothing.
    whole = len({frozenset(map(_place, group)) for group in groups.values()}) == 1
    if not whole and keyword in DRIFTING:
        return _parts_by_rank(volume, keyword)
    if len(groups) < 2 or not (whole or keyword == "StackID"):
        return {"": volume}
    return {f"{keyword}={value}": group for value, group in groups.items()}


def _parts_by_rank(volume: list[Frame], keyword: str) -> dict[str, list[Frame]]:
    """First, second, ... frames of every place by a number that is not quite the same at each of them."""
    places: dict[Hashable, list[tuple[tuple[int, float, str], Frame]]] = defaultdict(list)
    for frame in volume:
        places[_place(frame)].append((_order(_value(frame, keyword)), frame))
    ranked = [sorted(items, key=lambda item: item[0]) for items in places.values()]
    count = len(ranked[0])
    distinct = all(len({order for order, _ in items}) == count == len(items) for items in ranked)
    if count < 2 or not distinct or any(order[0] for items in ranked for order, _ in items):
        return {"": volume}
    parts = {}
    for rank in range(count):
        numbers = [items[rank][0][1] for items in ranked]
        parts[f"{keyword}={min(numbers):g} to {max(numbers):g}"] = [items[rank][1] for items in ranked]
    return parts if len(parts) == count else {"": volume}


def _split(frames: list[Frame]) -> dict[str, list[Frame]]:
    """Volumes that lie at the same places, named by what tells them apart; one volume where no place is taken twice."""
    stacks = _groups(frames, "StackID")
    if len(stacks) < 2 and not _repeated(frames):
        return {"": frames}
    volumes = {"": frames}
    for keyword in STACK_ATTRIBUTES:
        if keyword != "StackID" and not any(_repeated(volume) for volume in volumes.values()):
            break
        parted = {
            f"{name} {part}".strip(): group
            for name, volume in volumes.items()
            for part, group in _parts(volume, keyword).items()
        }
        if len(parted) > len(volumes):
            volumes = parted
    return volumes


def choose_stack(frames: Sequence[Frame], stack: int | None = None) -> list[Frame]:
    """The frames of one volume, where a series holds several at the same places (time points, echoes, stacks).

    Args:
        frames: of one series.
        stack: which volume, counted from 0 in the order of the attribute that tells them apart; None where there is
            but one.

    Returns:
        The volume's frames.

    Raises:
        DataError: When there are several volumes and none is chosen; the text lists them.
        ConfigError: When ``stack`` is not one of them.
    """
    volumes = _split(list(frames))
    listed = listing([f"stack={i}: {len(v)} frames, {name}" for i, (name, v) in enumerate(volumes.items())], limit=40)
    if stack is None:
        if len(volumes) > 1:
            raise DataError(f"The series holds {len(volumes)} volumes; choose one with stack:\n{listed}")
        stack = 0
    if not 0 <= stack < len(volumes):
        raise ConfigError(f"stack must lie in [0, {len(volumes) - 1}], got {stack}. There are:\n{listed}")
    return list(volumes.values())[stack]


def drop_duplicates(frames: Sequence[Frame], pixels: Callable[[Frame], np.ndarray], strict: bool = True) -> list[Frame]:
    """One frame for each place.

    Args:
        frames: of one volume.
        pixels: gives a frame's stored pixels.
        strict: whether a slice that is there twice with identical pixels is an error; otherwise a warning names it
            and the first is kept.

    Returns:
        The frames, each place once.

    Raises:
        DataError: When several frames lie at one place and their pixels differ, or ``strict`` and they are identical.
    """
    by_place: dict[Hashable, list[Frame]] = defaultdict(list)
    for frame in frames:
        by_place[_place(frame)].append(frame)
    repeated = {place: group for place, group in by_place.items() if len(group) > 1}
    if not repeated:
        return list(frames)
    names = listing([" = ".join(str(frame) for frame in group) for group in repeated.values()])
    hint = " Choose one with frame." if any(frame.index is not None for frame in frames) else ""
    for first, *others in repeated.values():
        same = pixels(first)
        for other in others:
            if not np.array_equal(same, pixels(other)):
                raise DataError(
                    f"Slices lie at the same position {first.position} mm with different pixels, and no attribute "
                    f"parts them into whole volumes (one may lack a slice).{hint}\n{names}"
                )
    if strict:
        raise DataError(f"Slices are there more than once; with strict=False the first of each is kept:\n{names}")
    warnings.warn(f"Slices are there more than once; the first of each is kept:\n{names}", stacklevel=2)
    return [group[0] for group in by_place.values()]

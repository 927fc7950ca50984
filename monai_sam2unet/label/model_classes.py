# SPDX-License-Identifier: Apache-2.0
"""The classes of a model, by their ids, their names and as DICOM describes them; and those of labels that are saved."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from monai_sam2unet.bundle import BundleConfig
from monai_sam2unet.dicom.derived_object import Algorithm
from monai_sam2unet.dicom.segments import Segment, read_segments
from monai_sam2unet.errors import CheckpointError, ConfigError, DataError
from monai_sam2unet.label.label_numbers import (
    BACKGROUND,
    WHITE,
    class_numbers,
    named_segments,
    names_by_number,
    numbers_in,
)

__all__ = ["ModelClasses", "model_of", "to_class_ids"]


@functools.lru_cache(maxsize=32)
def _sha256(path: Path, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _checkpoint(folder: Path, settings: Mapping[str, Any]) -> Path:
    return Path(BundleConfig.for_inference(folder, settings).build("ckpt_path"))


@dataclass(frozen=True)
class ModelClasses:
    """What a model finds.

    Args:
        model: its name on the server.
        ids: of the classes, by their names, from 1.
        metadata: of the bundle.
        checkpoint: tells the file of its weights, which trainings may replace by another.
    """

    model: str
    ids: Mapping[str, int]
    metadata: Mapping[str, Any]
    checkpoint: Callable[[], Path]

    @classmethod
    def of(cls, folder: Path, settings: Mapping[str, Any]) -> ModelClasses:
        """Those of a bundle.

        Args:
            folder: of the bundle.
            settings: for keys of its inference config.

        Raises:
            ConfigError: When the folder is no bundle.
        """
        config = BundleConfig.for_inference(folder, settings)
        return cls(folder.name, config.label_ids, config.metadata, functools.partial(_checkpoint, folder, settings))

    @property
    def names(self) -> tuple[str, ...]:
        """The classes, in the order of their ids."""
        return tuple(self.ids)

    @property
    def label_info(self) -> dict[str, list[dict[str, Any]]]:
        """What a viewer would tell of a label that has the classes' ids, under ``label_info``."""
        return {"label_info": [{"name": name, "idx": number} for name, number in self.ids.items()]}

    @property
    def segments(self) -> list[Segment]:
        """The classes as DICOM describes them.

        Raises:
            ConfigError: When the bundle's metadata do not describe them.
        """
        segments = read_segments(self.metadata)
        if len(segments) != len(self.names):
            raise ConfigError(
                f"The metadata of {self.model} describe {len(segments)} segments (segmentAttributes), but it finds "
                f"{len(self.names)}: {', '.join(self.names)}."
            )
        return segments

    @property
    def algorithm(self) -> Algorithm:
        """The model, for DICOM objects.

        Raises:
            CheckpointError: When its weights cannot be read.
        """
        try:
            path = self.checkpoint()
            digest = _sha256(path, path.stat().st_mtime_ns)
        except OSError as error:
            raise CheckpointError(f"The weights of {self.model} cannot be read: {error}") from error
        return Algorithm(str(self.metadata["name"]), str(self.metadata["version"]), digest)

    def id_of(self, label: str) -> int | None:
        """The id of a class by its name, or by its SegmentLabel; None where it is none of the model's.

        Args:
            label: in capitals or not.
        """
        known = {name.casefold(): number for name, number in self.ids.items()}
        if self.metadata.get("segmentAttributes"):
            known = {segment.label.casefold(): segment.number for segment in self.segments} | known
        return known.get(label.strip().casefold())

    def meaning(self, labels: Sequence[str]) -> tuple[Segment | str, ...]:
        """What classes are, whatever their ids: as DICOM describes them, or else their names in small letters.

        Args:
            labels: names, or SegmentLabels, of classes that the model has.
        """
        if not self.metadata.get("segmentAttributes"):
            return tuple(label.strip().casefold() for label in labels)
        segments = {segment.number: replace(segment, number=1) for segment in self.segments}
        return tuple(segments[self.id_of(label) or 0] for label in labels)


def model_of(labels: Iterable[str], models: Sequence[ModelClasses]) -> ModelClasses | None:
    """The first model that has classes of these names; None for none.

    Args:
        labels: names.
        models: to choose from.
    """
    wanted = list(labels)
    return next((model for model in models if all(model.id_of(label) for label in wanted)), None)


def _model_shown(labels: Sequence[str], info: Mapping[str, Any], models: Sequence[ModelClasses]) -> ModelClasses | None:
    """The model that has all of these classes: the stated one if it does; None where none does."""
    fitting = [model for model in models if all(model.id_of(label) for label in labels)]
    stated = [model for model in fitting if model.model == info.get("model")]
    if not stated and len({model.meaning(labels) for model in fitting}) > 1:
        raise DataError(
            f"Several models have the class {', '.join(labels)}, and mean different things by it: "
            f"{', '.join(model.model for model in fitting)}. Say by model whose classes the label has."
        )
    return next(iter(stated or fitting), None)


def _any_of(labels: Iterable[str], models: Sequence[ModelClasses]) -> ModelClasses | None:
    wanted = list(labels)
    return next((model for model in models if any(model.id_of(label) for label in wanted)), None)


def _without_names(info: Mapping[str, Any], models: Sequence[ModelClasses]) -> ModelClasses:
    name = info.get("model")
    chosen = [model for model in models if model.model == name] if name else list(models)
    if len(chosen) != 1:
        known = "; ".join(f"{model.model}: {', '.join(model.names)}" for model in models)
        told = f"there is no model {name!r}" if name else "several models could have made the label"
        raise DataError(
            f"Whose classes the label has is not known: {told}. Name them in label_info. There are {known}."
        )
    return chosen[0]


def to_class_ids(
    mask: NDArray[Any], info: Mapping[str, Any], models: Sequence[ModelClasses]
) -> tuple[NDArray[np.uint8], ModelClasses]:
    """A label as a viewer sends it with the class ids of a model.

    Args:
        mask: values of segments, of any shape; 0 is background.
        info: what the viewer says of it: ``label_info``, a list with ``name`` and perhaps ``idx`` (or ``id``) of each
            segment, and of others; and ``model``, where several have such a class. Without names ``model`` is enough,
            and where there is one model nothing is needed. The value 255 alone is the one class that there is.
        models: of the server.

    Returns:
        The ids, of the same shape; and the model.

    Raises:
        DataError: When segments that the label shows are not all classes of one model, several models have them and
            mean different things, it is not known which segment a value means, or values are not whole numbers.
    """
    values, named = numbers_in(mask), named_segments(info)
    if not named:
        model = _without_names(info, models)
        return class_numbers(mask, model.ids), model
    names = names_by_number(info)
    classes = [name for _, name in named if name.casefold() != BACKGROUND]
    if values == [WHITE] and len(classes) == 1 and WHITE not in names:
        names = {WHITE: classes[0]}
    elif len(names) != len(named) or not set(values) <= set(names):
        # 3D Slicer counts segments that it leaves out of the label, too.
        names = {number: name for number, (_, name) in enumerate(named, 1)}
    if not set(values) <= set(names):
        raise DataError(f"The label holds {values}, but label_info names {len(named)} segments only.")
    # Viewers name the classes of all models, whether they are in the label or not.
    shown = [names[value] for value in values]
    classes_shown = [name for name in shown if name.casefold() != BACKGROUND]
    found = _model_shown(classes_shown, info, models) if classes_shown else _any_of(names.values(), models)
    if found is None:
        known = "; ".join(f"{model.model}: {', '.join(model.names)}" for model in models)
        told = ", ".join(shown or names.values())
        raise DataError(f"The label shows {told} (label_info), not all of which one model has. There are {known}.")
    return class_numbers(mask, {name: found.id_of(name) or 0 for name in classes_shown}, names), found

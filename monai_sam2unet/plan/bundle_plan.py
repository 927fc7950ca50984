# SPDX-License-Identifier: Apache-2.0
"""What a bundle is for: all that its files follow from."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from monai_sam2unet.dicom.segments import planned_segments
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.transforms import MODALITIES, Preset

__all__ = ["BundlePlan"]


@dataclass(frozen=True)
class BundlePlan:
    """A bundle that marks objects in pictures, or organs in volumes.

    Attributes:
        name: of its folder, as ``skin_lesion_segmentation``.
        title: as ``Skin lesion segmentation by SAM2-UNet``.
        object: what is marked, in the singular, as ``lesion``.
        objects: in the plural.
        images: what they are marked in, as ``dermoscopic images``.
        modality: one of :data:`monai_sam2unet.transforms.MODALITIES`.
        data_source: where the data come from, with addresses.
        classes: names of the classes without background, where there is more than one; their masks hold class indices.
            Volumes always have such.
        version: of the bundle.
        changelog: what each version brought, newest first.
        references: publications on the data and the task, beside those on the network.
        set_example: name of a set, for the comments in configs.
        flip_axes: axes along which images are flipped in training: 0 rows, 1 columns.
        rotation: largest angle of random rotations, in radians.
        readme: whether the bundle's README is made; false: it is written by hand.
        data: what is to be known of the data, in Markdown, for the bundle's README; empty: their source.
        performance: what was measured, and how, in Markdown; empty: nothing yet.
        settings: values of settings in the configs that differ from what they are elsewhere, as ``{"batch_size": 4}``.
        group_pattern: regular expression that finds the patient in a file's name, where one has several images.
        sliding_window: for pictures: whether they keep their own resolution and windows are drawn from them; else they
            are resized.
        num_samples: windows drawn from an image each time.
        centerline: for pictures: whether evaluations measure clDice, too.
        cldice_weight: of the clDice loss in training.
        cldice_iterations: erosions by which that loss finds centrelines, at least 1.
        plane: for volumes: the plane of the slices, as :class:`monai_sam2unet.transforms.Preset` has it.
        windows: for CT: the HU windows, as :class:`monai_sam2unet.transforms.Preset` has them.
        keep_empty: for volumes: share of the slices without any class that is trained on.
        segments: what each class is in DICOM, as :func:`monai_sam2unet.dicom.segments.planned_segments` has it.

    Raises:
        ConfigError: When the modality is not known, there is one class only, there are not 1 to 12 windows an image,
            clDice has no erosion, an attribute is not for such images, or the segments do not describe the classes.
    """

    name: str
    title: str
    object: str
    objects: str
    images: str
    modality: str
    data_source: str
    classes: tuple[str, ...] = ()
    version: str = "0.1.0"
    changelog: dict[str, str] = field(default_factory=lambda: {"0.1.0": "First version"})
    references: tuple[str, ...] = ()
    set_example: str = "NAME"
    flip_axes: tuple[int, ...] = (0, 1)
    rotation: float = 1.5708
    readme: bool = True
    data: str = ""
    performance: str = ""
    settings: dict[str, Any] = field(default_factory=dict)
    group_pattern: str | None = None
    sliding_window: bool = False
    num_samples: int = 4
    centerline: bool = False
    cldice_weight: float = 0.0
    cldice_iterations: int = 3
    plane: str | int = "axial"
    windows: str | tuple[Any, ...] | None = None
    keep_empty: float = 0.1
    segments: tuple[dict[str, Any], ...] = ()

    def __post_init__(self) -> None:
        if self.modality not in MODALITIES:
            raise ConfigError(f"The modality must be one of {', '.join(MODALITIES)}, got {self.modality!r}.")
        if self.is_volume and not self.classes:
            raise ConfigError("Volumes have one class or more, by name; got none.")
        if len(self.classes) == 1 and not self.is_volume:
            raise ConfigError("One class has no list of classes: it is what the bundle's object says.")
        names = ("background", *self.classes)
        if len(set(names)) < len(names) or not all(isinstance(name, str) and name.strip() for name in names):
            told = ", ".join(map(repr, self.classes))
            raise ConfigError(f"Classes have different names, none of them empty or background; got {told}.")
        if self.num_samples not in range(1, 13):
            raise ConfigError(f"num_samples must be a whole number of 1 to 12, got {self.num_samples!r}.")
        if not isinstance(self.cldice_iterations, int) or self.cldice_iterations < 1:
            raise ConfigError(
                f"cldice_iterations must be a whole number of at least 1, got {self.cldice_iterations!r}."
            )
        others = ("sliding_window", "centerline") if self.is_volume else ("plane", "windows", "keep_empty")
        given = [name for name in others if getattr(self, name) != _DEFAULTS[name]]
        if given:
            kind, told = ("pictures", "volumes") if self.is_volume else ("volumes", "pictures")
            raise ConfigError(f"{', '.join(given)}: for {kind} only; {self.modality} images are {told}.")
        if self.is_volume:
            # Refuses a plane, windows or a share that are not allowed.
            Preset(self.modality, plane=self.plane, windows=self.windows).slices(self.keep_empty)
        # Refuses codes that are not known.
        planned_segments(self.class_names, self.segments)

    @classmethod
    def from_yaml(cls, path: str | Path) -> BundlePlan:
        """Read a plan.

        Args:
            path: a YAML file with the plan's attributes.

        Raises:
            ConfigError: When an attribute is not known, missing, or not allowed.
        """
        content: dict[str, Any] = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        known = {attribute.name: attribute for attribute in fields(cls)}
        needed = [name for name, own in known.items() if own.default is MISSING and own.default_factory is MISSING]
        wrong = [name for name in content if name not in known] + [name for name in needed if name not in content]
        if wrong:
            raise ConfigError(f"{path}: unknown or missing: {', '.join(wrong)}. A plan has: {', '.join(known)}.")
        values: dict[str, Any] = {name: tuple(v) if isinstance(v, list) else v for name, v in content.items()}
        return cls(**values)

    @property
    def is_volume(self) -> bool:
        """Whether a case is a volume that is cut into slices."""
        return MODALITIES[self.modality].is_volume

    @property
    def cases(self) -> str:
        """What a data set holds."""
        return "volumes" if self.is_volume else "images"

    @property
    def pictures(self) -> str:
        """What the network is shown."""
        return "slices" if self.is_volume else "images"

    @property
    def out_channels(self) -> int:
        """Channels of the network's logits: one for one class, else one for each class and the background."""
        return len(self.classes) + 1 if self.classes else 1

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the classes, without background; of one class, what the bundle's object says."""
        return self.classes or (self.object,)

    @property
    def picture(self) -> str:
        """How images are read: ``rgb`` or ``gray``."""
        return MODALITIES[self.modality].picture


_DEFAULTS = {attribute.name: attribute.default for attribute in fields(BundlePlan)}

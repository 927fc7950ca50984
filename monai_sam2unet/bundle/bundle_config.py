# SPDX-License-Identifier: Apache-2.0
"""A bundle's configs and metadata, of which other programs than MONAI's ``bundle run`` take parts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_sam2unet.bundle.known_settings import INPUT_KEYS
from monai_sam2unet.errors import ConfigError, UserError, causes

__all__ = ["PUBLISHED", "TRAINED", "BundleConfig", "has_weights"]

TRAINED = Path("models", "model.pt")
#: Overlay that takes the weights that come with a bundle.
RELEASED = Path("configs", "released.yaml")
#: Overlay that takes what a training from those weights published, for which their settings hold, too.
PUBLISHED = Path("models", "published.yaml")


def has_weights(folder: Path) -> bool:
    """Whether a bundle can be run: it was trained, or weights come with it.

    Args:
        folder: of the bundle.
    """
    return any((folder / name).is_file() for name in (TRAINED, RELEASED))


class BundleConfig:
    """A config of a bundle, ``configs/inference.yaml`` or another one, and its ``configs/metadata.json``.

    Args:
        folder: of the bundle.
        settings: for keys of the config, as on MONAI's command line: ``{"encoder_size": "tiny"}``.
        overlay: config put after it.
        name: of the config's file.

    Raises:
        ConfigError: When the folder is no bundle, or the config lacks a key.
    """

    def __init__(
        self,
        folder: str | Path,
        settings: Mapping[str, Any] | None = None,
        overlay: str | Path | None = None,
        name: str = "inference.yaml",
    ) -> None:
        self.folder = Path(folder)
        self.path, metadata = (self.folder / "configs" / file for file in (name, "metadata.json"))
        absent = [str(file) for file in (self.path, metadata) if not file.is_file()]
        if absent:
            raise ConfigError(f"{folder} is no bundle: there is no {' and no '.join(absent)}.")
        self.parser = ConfigParser()
        self.parser.read_config([self.path] if overlay is None else [self.path, overlay])
        self.parser.read_meta(metadata)
        for key, value in (settings or {}).items():
            # What a key holds can be set as well, as `preset::any_modality`.
            parent = key.rpartition("::")[0]
            if key not in self.parser and not (parent and parent in self.parser):
                raise ConfigError(
                    f"{self.path} has no key {key!r}. Its keys are: {', '.join(sorted(self.parser.get()))}."
                )
            self.parser[key] = value

    @classmethod
    def for_inference(cls, folder: str | Path, settings: Mapping[str, Any] | None = None) -> BundleConfig:
        """The config with the weights that there are: those named, a training's, or else those that come with it.

        What a training from those that come with it published is taken in their place.

        Args:
            folder: of the bundle.
            settings: as of the class.

        Raises:
            ConfigError: As of the class.
        """
        given = {**(settings or {}), "bundle_root": str(folder)}
        if "ckpt_path" in given or Path(folder, TRAINED).is_file():
            return cls(folder, given)
        overlays = (Path(folder, name) for name in (PUBLISHED, RELEASED))
        return cls(folder, given, next((overlay for overlay in overlays if overlay.is_file()), None))

    @property
    def metadata(self) -> dict[str, Any]:
        """What metadata.json says."""
        return dict(self.parser["_meta_"])

    @property
    def sha256(self) -> str:
        """Of the config and metadata.json as they are on the disk."""
        files = (self.path, self.path.with_name("metadata.json"))
        return hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()

    @property
    def came_with_bundle(self) -> bool:
        """Whether the weights that the config names are those that came with the bundle, which stay as they are."""
        return Path(self.build("ckpt_path")).suffix == ".safetensors"

    @property
    def input_settings(self) -> dict[str, Any]:
        """How images come to the network, for :func:`~monai_sam2unet.bundle.warn_of_other_settings`.

        What the config does not say is None.

        Raises:
            ConfigError: When a value cannot be made.
        """
        return {key: self.build(key) if key in self.parser else None for key in INPUT_KEYS}

    @property
    def class_names(self) -> tuple[str, ...]:
        """Names of the network's channels; of several the first is the background."""
        channels = self.metadata["network_data_format"]["outputs"]["pred"]["channel_def"]
        return tuple(channels[number] for number in sorted(channels, key=int))

    @property
    def label_ids(self) -> dict[str, int]:
        """The classes with their numbers in masks; the background, 0, is none of them."""
        # Of one channel there is no background: the mask is 1 where the object is.
        classes = self.class_names[1:] or self.class_names
        return {name: number for number, name in enumerate(classes, 1)}

    def build(self, key: str) -> Any:
        """Make a part of the config, once; what it refers to is made, too.

        Args:
            key: of the config, as ``preset``.

        Raises:
            ConfigError: When it is missing, or cannot be made with these settings.
            UserError: What the part itself says of its settings.
        """
        if key not in self.parser:
            raise ConfigError(f"{self.path} has no key {key!r}, which is needed here.")
        try:
            return self.parser.get_parsed_content(key)
        except RuntimeError as error:  # what MONAI makes of anything that goes wrong
            chain = causes(error)
            mistake = next((cause for cause in chain if isinstance(cause, UserError)), None)
            raise mistake or ConfigError(
                f"{key} of {self.path} cannot be made with these settings: {chain[-1]}"
            ) from error

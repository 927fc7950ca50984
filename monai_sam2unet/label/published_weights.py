# SPDX-License-Identifier: Apache-2.0
"""Puts the weights of a training in the place of those that a bundle runs with, in one step."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml
from torch import nn

from monai_sam2unet.bundle.bundle_config import PUBLISHED, TRAINED, BundleConfig
from monai_sam2unet.bundle.known_settings import INPUT_KEYS
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import whole_file
from monai_sam2unet.handlers.atomic_file import save_atomically
from monai_sam2unet.networks import light_state_dict
from monai_sam2unet.networks.light_checkpoint import is_light
from monai_sam2unet.networks.low_rank_change import is_change
from monai_sam2unet.networks.weights import read_checkpoint

__all__ = ["PublishedWeights", "keep_former"]

#: Keys of both configs that say what a network is and what it is given.
NETWORK_KEYS = ("encoder_size", "adapter_channels", "lora_rank", *INPUT_KEYS)


def keep_former(path: Path) -> None:
    """Copy weights that are about to be replaced, and what they were trained on, to ``NAME.previous.pt``.

    Args:
        path: of the weights; there may be none.

    Raises:
        OSError: When a copy cannot be written.
    """
    former = path.with_name(f"{path.stem}.previous{path.suffix}")
    for there, kept in ((path, former), (TrainingCases.path_of(path), TrainingCases.path_of(former))):
        kept.unlink(missing_ok=True)
        if there.is_file():
            shutil.copyfile(there, kept)


class PublishedWeights:
    """The weights that a bundle runs with, and how new ones take their place.

    A training's checkpoint is replaced by one of its own kind: full by full, light by light; the former one stays
    beside it as ``NAME.previous.pt``. Weights that came with the bundle stay; ``models/published.pt``, a light
    checkpoint, and ``models/published.yaml``, with the settings that it needs, are put beside them, and
    :meth:`BundleConfig.for_inference` prefers these.

    Args:
        config: what the bundle runs with, as :meth:`BundleConfig.for_inference` finds it.
        names_weights: whether the weights' file was named in the settings.

    Attributes:
        current: the file in use.
        target: the file that new weights are written to.
        encoder: what the frozen encoder of light weights is loaded from; None: the file in use holds it, or names it.

    Raises:
        ConfigError: When the settings name a file that is no checkpoint of a training.
    """

    def __init__(self, config: BundleConfig, names_weights: bool) -> None:
        self.folder = config.folder
        self.current = Path(config.build("ckpt_path"))
        self.encoder: str | None = config.build("weights") if "weights" in config.parser else None
        self.came_with_bundle = config.came_with_bundle
        if self.came_with_bundle and names_weights:
            raise ConfigError(
                f"The server runs {self.current}, as its ckpt_path says, which trainings do not replace. Give a "
                f"training's checkpoint, such as {TRAINED.name}, or leave ckpt_path out."
            )
        self.target = self.folder / PUBLISHED.with_suffix(".pt") if self.came_with_bundle else self.current
        self._settings = {key: config.parser[key] for key in NETWORK_KEYS if key in config.parser}

    @property
    def settings(self) -> dict[str, Any]:
        """What they say about the network, for the training's config."""
        return dict(self._settings)

    def replace(self, network: nn.Module, cases: Path) -> None:
        """Have the bundle run with a network's weights from now on.

        Args:
            network: trained from the weights in use.
            cases: file with what it was trained on.

        Raises:
            CheckpointError: When the file cannot be written; what was there is unchanged.
            OSError: When one of the small files beside it cannot be.
        """
        content = read_checkpoint(self.current)
        # Light weights leave the encoder to the published one, which that of such a file no longer is.
        has_changed_encoder = is_light(content) and any(map(is_change, content["state_dict"]))
        keeps_full = has_changed_encoder or not (self.came_with_bundle or is_light(content))
        weights: Mapping[str, Any] = network.state_dict() if keeps_full else light_state_dict(network)
        keep_former(self.target)
        beside = TrainingCases.path_of(self.target)
        # In that order: a kill in between leaves weights of which nothing is known, never those of another training.
        beside.unlink(missing_ok=True)
        save_atomically(weights, self.target)
        with whole_file(beside) as path:
            path.write_bytes(cases.read_bytes())
        if self.came_with_bundle:
            self._write_overlay(content)

    def _write_overlay(self, content: Mapping[str, Any]) -> None:
        settings = {
            "ckpt_path": f"$@bundle_root + '/{PUBLISHED.with_suffix('.pt').as_posix()}'",
            "weights": content["encoder_weights"],
            **self._settings,
        }
        text = "# Put after inference.yaml: takes the weights that a training from those of the bundle published.\n"
        with whole_file(self.folder / PUBLISHED) as path:
            path.write_text(text + yaml.safe_dump(settings, sort_keys=False), encoding="utf-8")

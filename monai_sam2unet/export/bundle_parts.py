# SPDX-License-Identifier: Apache-2.0
"""What an export takes from a bundle: its network, its preprocessing, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from monai.transforms import Compose, ResizeWithPadOrCropd
from monai.utils import ensure_tuple_rep

from monai_sam2unet.bundle.bundle_config import BundleConfig
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import SAM2UNet

__all__ = ["BundleParts", "read_bundle"]


class BundleParts(NamedTuple):
    """Parts of a bundle.

    Attributes:
        network: as the bundle's inference config has it, without the trained weights.
        preprocessing: makes of ``{"image": FILE}`` the same with the network's input (C, H, W) under ``image``; where
            the bundle predicts over windows, the one in the image's middle.
        spatial_size: height and width in training, pixels.
        facts: ``bundle``, ``bundle_version``, ``spatial_size`` (in training, as 352x352) and ``class_names``.
    """

    network: SAM2UNet
    preprocessing: Callable[[dict[str, Any]], dict[str, Any]]
    spatial_size: Sequence[int]
    facts: dict[str, str]


def read_bundle(folder: str | Path, settings: Mapping[str, Any]) -> BundleParts:
    """Read a bundle's inference config and metadata.

    Args:
        folder: of the bundle; ``configs/inference.yaml`` and ``configs/metadata.json`` are below it.
        settings: for keys of the config, as on MONAI's command line: ``{"encoder_size": "tiny"}``.

    Raises:
        ConfigError: When the folder is no bundle, the config lacks a key, its network is no SAM2UNet, or a part cannot
            be made with these settings.
        WeightsError: When the network's ``weights`` cannot be found or loaded.
    """
    config = BundleConfig(folder, settings)
    network = config.build("network_def")
    if not isinstance(network, SAM2UNet):
        raise ConfigError(
            f"The network_def of {config.path} is a {type(network).__name__}; only a SAM2UNet is exported."
        )
    spatial_size = ensure_tuple_rep(config.build("spatial_size"), 2)
    facts = {
        "bundle": config.metadata["name"],
        "bundle_version": config.metadata["version"],
        "spatial_size": "x".join(map(str, spatial_size)),
        "class_names": ", ".join(config.class_names),
    }
    preprocessing = config.build("preprocessing")
    if config.parser.get("sliding_window", False):
        window = ResizeWithPadOrCropd("image", spatial_size, mode="edge")
        preprocessing = Compose([preprocessing, window])
    return BundleParts(network, preprocessing, spatial_size, facts)

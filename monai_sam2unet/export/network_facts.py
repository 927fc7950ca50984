# SPDX-License-Identifier: Apache-2.0
"""What an exported file says of the network in it."""

from __future__ import annotations

from collections.abc import Mapping

from monai_sam2unet import __version__
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import SAM2UNet, frozen_sha256

__all__ = ["network_facts"]


def network_facts(network: SAM2UNet, more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Say which network, with which weights, made by which version of this package.

    Args:
        network: as it was given to the export.
        more: further entries, such as ``{"class_names": "polyp"}``.

    Returns:
        ``monai_sam2unet_version``, ``encoder_size``, ``in_channels``, ``out_channels``, ``weights_sha256`` (of all
        parameters and buffers by name, shape and float32 value) and ``more``.

    Raises:
        ConfigError: When ``more`` holds one of ours.

    Example:
        >>> from monai_sam2unet.networks import SAM2UNet
        >>> facts = network_facts(SAM2UNet(size="tiny", out_channels=2), {"class_names": "background, polyp"})
        >>> [facts[name] for name in ("encoder_size", "out_channels", "class_names")]
        ['tiny', '2', 'background, polyp']
    """
    facts = {
        "monai_sam2unet_version": __version__,
        "encoder_size": network.encoder.size,
        "in_channels": str(network.encoder.patch_embed.proj.in_channels),
        "out_channels": str(network.head.out_channels),
        "weights_sha256": frozen_sha256(network, network.state_dict()),
    }
    more = more or {}
    if clash := facts.keys() & more:
        raise ConfigError(f"metadata must not hold {', '.join(sorted(clash))}: the export says that itself.")
    return {**facts, **more}

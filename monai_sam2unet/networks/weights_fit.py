# SPDX-License-Identifier: Apache-2.0
"""Whether a checkpoint's tensors fit a network, and if not, what to set."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_sam2unet.errors import WeightsError, listing
from monai_sam2unet.networks.hiera import HIERA_SPECS
from monai_sam2unet.networks.layouts import Weights

__all__ = ["check_choices", "check_named_size", "check_size", "check_tensors", "network_choices"]


def _size_of(encoder: Mapping[str, Tensor]) -> str | None:
    """The encoder size whose width and number of blocks the tensors have, if any."""
    width = encoder["pos_embed"].shape[1] if "pos_embed" in encoder else None
    blocks = {k.split(".")[1] for k in encoder if k.startswith("blocks.")}
    for size, spec in HIERA_SPECS.items():
        if (spec.embed_dim, sum(spec.stages)) == (width, len(blocks)):
            return size
    return None


def check_size(encoder: Mapping[str, Tensor], wanted: str, path: Path) -> None:
    """Refuse an encoder of another size at once, instead of listing all its tensors."""
    check_named_size(_size_of(encoder) or wanted, wanted, path)


def check_named_size(found: str, wanted: str, path: Path) -> None:
    """Refuse an encoder of another size than the network's."""
    if found != wanted:
        raise WeightsError(
            f"{path} does not fit the network; nothing was loaded. It holds an encoder of size {found!r}, the "
            f"network's is {wanted!r}. Set encoder_size to it."
        )


def _choices(tensors: Mapping[str, Tensor]) -> tuple[int, int]:
    """Width of the adapters and rank of LoRA in a network's tensors, 0 where there is none."""
    channels = [v.shape[0] for k, v in tensors.items() if k.endswith(".prompt_learn.0.weight")]
    ranks = [v.shape[0] for k, v in tensors.items() if k.endswith(".lora_a")]
    return max(channels, default=0), max(ranks, default=0)


def check_choices(found: Mapping[str, Tensor], own: Mapping[str, Tensor], path: Path) -> None:
    """Refuse a network that was trained with other adapters or other LoRA, likewise."""
    (channels, rank), (own_channels, own_rank) = _choices(found), _choices(own)
    if (channels, rank) != (own_channels, own_rank):
        raise WeightsError(
            f"{path} does not fit the network; nothing was loaded. It was trained with adapter_channels {channels} "
            f"and lora_rank {rank}, the network has {own_channels} and {own_rank}. Give the network those of the file "
            f"(of a bundle: `--adapter_channels {channels} --lora_rank {rank}`)."
        )


def check_tensors(found: Mapping[str, Tensor], expected: Mapping[str, Tensor], path: Path, hint: str = "") -> None:
    """Refuse tensors that are not exactly those expected, by name and shape, or are not finite."""
    lines = [f"missing: {k}" for k in expected if k not in found]
    lines += [f"unexpected: {k}" for k in found if k not in expected]
    lines += [
        f"shape of {k}: {tuple(v.shape)} in the file, {tuple(expected[k].shape)} in the network"
        for k, v in found.items()
        if k in expected and v.shape != expected[k].shape
    ]
    lines += [f"not finite: {k}" for k, v in found.items() if v.is_floating_point() and not v.isfinite().all()]
    if lines:
        raise WeightsError(f"{path} does not fit the network; nothing was loaded.{hint}\n{listing(lines)}")


def network_choices(weights: Weights) -> dict[str, Any]:
    """Arguments of SAM2UNet that a checkpoint's tensors tell.

    Args:
        weights: a whole network, recognised.

    Returns:
        ``size``, ``in_channels``, ``out_channels``, ``adapter_channels``, ``lora_rank`` and ``decoder_channels``.
    """
    encoder = weights.encoder().tensors
    adapter_channels, lora_rank = _choices(weights.tensors)
    out_channels, decoder_channels = weights.tensors["head.weight"].shape[:2]
    return {
        "size": _size_of(encoder),
        "in_channels": encoder["patch_embed.proj.weight"].shape[1],
        "out_channels": out_channels,
        "adapter_channels": adapter_channels,
        "lora_rank": lora_rank,
        "decoder_channels": decoder_channels,
    }

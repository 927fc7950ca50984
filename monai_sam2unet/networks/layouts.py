# SPDX-License-Identifier: Apache-2.0
"""Recognises whose names a checkpoint's tensors bear, and gives them the names of this package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from monai_sam2unet.errors import WeightsError, listing

__all__ = ["Weights", "is_added", "recognise", "renamed"]

CONTAINERS = ("model", "net", "network", "network_def", "state_dict")
WRAPPERS = ("module.", "_orig_mod.")  # what DistributedDataParallel and torch.compile put before each name
TRUNK = "image_encoder.trunk."
TRANSFORMERS_NAMES = {
    "patch_embed.projection.": "patch_embed.proj.",
    ".layer_norm1.": ".norm1.",
    ".layer_norm2.": ".norm2.",
    ".mlp.proj_in.": ".mlp.layers.0.",
    ".mlp.proj_out.": ".mlp.layers.1.",
}
TIMM_NAMES = {".mlp.fc1.": ".mlp.layers.0.", ".mlp.fc2.": ".mlp.layers.1."}
ADDED = (".prompt_learn.", ".lora_")


def is_added(name: str) -> bool:
    """Whether an encoder's tensor is one of an adapter or of LoRA, which published encoders do not have."""
    return any(part in name for part in ADDED)


@dataclass(frozen=True)
class Weights:
    """Tensors under this package's names.

    Attributes:
        layout: whose layout the file has.
        tensors: of a whole network as in ``SAM2UNet.state_dict()``, or of an encoder as in ``Hiera.state_dict()``.
        whole_network: which of the two.
        ignored: names of the file's other tensors.
    """

    layout: str
    tensors: dict[str, Tensor]
    whole_network: bool
    ignored: tuple[str, ...] = ()

    def encoder(self) -> Weights:
        """The encoder's part: names as in ``Hiera.state_dict()``; adapters, LoRA and decoder among the ignored."""
        if not self.whole_network:
            return self
        own = {k: v for k, v in self.tensors.items() if k.startswith("encoder.") and not is_added(k)}
        tensors = {k.removeprefix("encoder.").replace(".block.", ".", 1): v for k, v in own.items()}
        rest = [k for k in self.tensors if k not in own]
        return Weights(self.layout, tensors, False, (*self.ignored, *rest))


def _unwrap(content: Mapping[str, Any]) -> dict[str, Tensor]:
    """Descend to the dict of tensors, and take wrappers' prefixes off the names."""
    for key in CONTAINERS:
        if isinstance(content.get(key), Mapping):
            return _unwrap(content[key])
    tensors = {k: v for k, v in content.items() if isinstance(v, Tensor)}
    while tensors:
        prefix = next((p for p in WRAPPERS if all(k.startswith(p) for k in tensors)), None)
        if prefix is None:
            break
        tensors = {k.removeprefix(prefix): v for k, v in tensors.items()}
    return tensors


def renamed(name: str, names: Mapping[str, str]) -> str:
    """A tensor's name in this package, from another layout's and the pieces in which the two differ."""
    for theirs, ours in names.items():
        name = name.replace(theirs, ours)
    return name


def _part(tensors: Mapping[str, Tensor], prefix: str) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Split by prefix: those with it, without it; and the names of the others."""
    inside = {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}
    return inside, tuple(k for k in tensors if not k.startswith(prefix))


def recognise(content: Mapping[str, Any], path: Path) -> Weights:
    """Recognise a checkpoint's layout and rename its tensors.

    Args:
        content: what the file holds.
        path: the file, for the error.

    Raises:
        WeightsError: When the layout is none of the known ones; the text lists some names.
    """
    tensors = _unwrap(content)
    if any(k.startswith(TRUNK) for k in tensors):
        inside, rest = _part(tensors, TRUNK)
        return Weights("SAM 2", inside, False, rest)

    marker = "patch_embed.projection.weight"
    prefixes = [k.removesuffix(marker) for k in tensors if k.endswith(marker)]
    if prefixes:
        inside, rest = _part(tensors, prefixes[0])
        return Weights("transformers", {renamed(k, TRANSFORMERS_NAMES): v for k, v in inside.items()}, False, rest)

    if "encoder.patch_embed.proj.weight" in tensors:
        # The released code builds `up4` and never uses it.
        unused = tuple(k for k in tensors if k.startswith("up4."))
        layout = "released SAM2-UNet" if unused else "monai_sam2unet"
        return Weights(layout, {k: v for k, v in tensors.items() if k not in unused}, True, unused)

    if "patch_embed.proj.weight" in tensors:
        is_timm = "blocks.0.mlp.fc1.weight" in tensors
        unused = tuple(k for k in tensors if k.startswith("head."))
        encoder = {renamed(k, TIMM_NAMES): v for k, v in tensors.items() if k not in unused}
        return Weights("timm" if is_timm else "Hiera", encoder, False, unused)

    raise WeightsError(
        f"{path} holds no weights of a known layout (SAM 2, transformers, timm, SAM2-UNet, monai_sam2unet). It holds:\n"
        + listing(list(tensors) or [str(k) for k in content])
    )

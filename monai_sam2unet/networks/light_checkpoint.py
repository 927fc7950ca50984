# SPDX-License-Identifier: Apache-2.0
"""Checkpoints without the frozen encoder: only what was trained, and a hash of what it was trained on.

As torch file (``torch.save`` of :func:`light_state_dict`), or as safetensors file, whose header holds the rest.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

__all__ = ["LIGHT_FORMAT", "frozen_sha256", "is_light", "light_state_dict", "read_safetensors"]

LIGHT_FORMAT = "monai_sam2unet.light.1"


def _frozen_names(network: nn.Module) -> list[str]:
    # The side outputs, too, ask for no gradient without deep supervision, but they are no part of the encoder.
    return [k for k, p in network.named_parameters() if k.startswith("encoder.") and not p.requires_grad]


def frozen_sha256(network: nn.Module, names: Iterable[str] | None = None) -> str:
    """Hash parameters by name, shape and float32 value.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`.
        names: which entries of its state dict; by default the encoder's frozen parameters.

    Returns:
        The SHA-256 as 64 hexadecimal digits.
    """
    state = network.state_dict()
    digest = hashlib.sha256()
    for name in sorted(_frozen_names(network) if names is None else names):
        value = state[name].detach().to("cpu", torch.float32).contiguous()
        digest.update(f"{name}{tuple(value.shape)}".encode())
        digest.update(memoryview(value.numpy()).cast("B"))
    return digest.hexdigest()


def light_state_dict(network: nn.Module, sha256: str | None = None) -> dict[str, Any]:
    """What a light checkpoint holds: the state dict without the encoder's frozen parameters, and their hash.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`.
        sha256: the frozen parameters' hash, where it is known already.

    Returns:
        A dict with ``format``, ``frozen_sha256`` and ``state_dict``, for ``torch.save``.
    """
    frozen = set(_frozen_names(network))
    state: dict[str, Tensor] = {k: v for k, v in network.state_dict().items() if k not in frozen}
    return {
        "format": LIGHT_FORMAT,
        "frozen_sha256": sha256 or frozen_sha256(network, frozen),
        "state_dict": state,
    }


def is_light(content: Mapping[str, Any]) -> bool:
    """Whether the content of a checkpoint file is what :func:`light_state_dict` made."""
    return content.get("format") == LIGHT_FORMAT


def read_safetensors(path: Path) -> dict[str, Any]:
    """Read a safetensors file.

    Args:
        path: the file.

    Returns:
        Its tensors by name; of a light checkpoint what :func:`light_state_dict` gives, and from its header
        ``encoder_size``, ``encoder_weights`` and ``encoder_probe``.

    Raises:
        KeyError: When the header of a light checkpoint lacks something.
        ValueError: When it is broken.
    """
    with safe_open(path, "pt") as file:
        header = dict(file.metadata() or {})
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    if header.get("light_format") != LIGHT_FORMAT:
        return tensors
    probe = [float(value) for value in json.loads(header["encoder_probe"])]
    return {**header, "format": LIGHT_FORMAT, "encoder_probe": probe, "state_dict": tensors}

# SPDX-License-Identifier: Apache-2.0
"""Opens an exported file of any kind as a network."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.export.exported_network import existing_file
from monai_sam2unet.export.onnx_network import OnnxNetwork
from monai_sam2unet.export.openvino_network import OpenVINONetwork
from monai_sam2unet.export.program_network import ProgramNetwork

__all__ = ["open_exported"]


def _open_torchscript(path: str | Path) -> nn.Module:
    path = existing_file(path, ".ts")
    try:
        script: nn.Module = torch.jit.load(str(path), map_location="cpu")
    except RuntimeError as error:
        raise WeightsError(f"{path} cannot be read as TorchScript: {error}") from error
    for parameter in script.parameters():  # those of MONAI's ckpt_export are as trained
        parameter.requires_grad = False
    return script.eval()


OPENERS: dict[str, Callable[..., nn.Module]] = {
    ".onnx": OnnxNetwork,
    ".xml": OpenVINONetwork,
    ".pt2": ProgramNetwork,
    ".ts": _open_torchscript,
}


def open_exported(path: str | Path, **options: Any) -> nn.Module:
    """Open an exported file as a network, by its suffix.

    In a bundle's config it takes the place of the network: see configs/recipes/exported.yaml.

    Args:
        path: ``.onnx``, ``.xml`` (OpenVINO), ``.pt2`` (torch.export) or ``.ts`` (TorchScript).
        options: of :class:`~monai_sam2unet.export.OnnxNetwork` or :class:`~monai_sam2unet.export.OpenVINONetwork`;
            the other kinds have none.

    Returns:
        A network that takes images (B, C, H, W) and gives logits (B, out_channels, H, W).

    Raises:
        ConfigError: When the suffix is another, an option is not one of that kind's or not allowed, or the package that
            runs it is not installed.
        WeightsError: When the file is not there or cannot be read.
    """
    opener = OPENERS.get(Path(path).suffix)
    if opener is None:
        raise ConfigError(f"{path} is no exported file; its suffix must be one of {', '.join(OPENERS)}.")
    known = [name for name in inspect.signature(opener).parameters if name != "path"]
    unknown = sorted(options.keys() - known)
    if unknown:
        raise ConfigError(
            f"{path} has no option {', '.join(unknown)}. Options of such files: {', '.join(known) or 'none'}."
        )
    return opener(path, **options)

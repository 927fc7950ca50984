# SPDX-License-Identifier: Apache-2.0
"""Brings a network into the form that is exported, and traces it for any batch and image size or for fixed ones."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import AbstractContextManager

import torch
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbolic_shapes

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.networks.inference_network import FoldedRFB, optimize_for_inference
from monai_sam2unet.networks.packed_linear import PackedLinear

__all__ = ["AXIS_NAMES", "exportable", "size_oblivious", "trace"]

AXIS_NAMES = {0: "batch", 2: "height", 3: "width"}


def size_oblivious() -> AbstractContextManager[None]:
    """Have torch trace without asking of each free size whether it is 0 or 1: faster, and valid for batches of 1.

    It is what ``torch.onnx.export`` sets, too, while it traces a module.
    """
    patched: AbstractContextManager[None] = symbolic_shapes.patch(  # type: ignore[attr-defined]
        backed_size_oblivious=True
    )
    return patched


def exportable(network: SAM2UNet) -> SAM2UNet:
    """Copy a network into the form that is exported: for inference only, on the CPU, in float32, of torch's operators.

    Args:
        network: as trained, or what ``optimize_for_inference(network, portable=True)`` gave. It stays as it is.

    Returns:
        The copy, in evaluation mode.

    Raises:
        ConfigError: When ``network`` is no SAM2UNet, was laid out for one CPU, or its weights are not float32.
    """
    if not isinstance(network, SAM2UNet):
        raise ConfigError(
            f"What is exported is a SAM2UNet, got {type(network).__name__}. Take a network out of "
            "DistributedDataParallel (`.module`) or torch.compile (`._orig_mod`) first."
        )
    if any(isinstance(module, PackedLinear) for module in network.modules()):
        raise ConfigError(
            "This network was laid out for this machine's CPU and can not be exported. Give the network as it was "
            "trained, or what optimize_for_inference(network, portable=True) gives."
        )
    other = {parameter.dtype for parameter in network.parameters()} - {torch.float32}
    if other:
        raise ConfigError(
            f"The weights must be float32 to be exported, got {', '.join(map(str, other))}. The precision is chosen "
            "when the exported file is run, or by export_openvino."
        )
    if isinstance(network.rfb1, FoldedRFB):
        return copy.deepcopy(network).cpu().eval()
    return optimize_for_inference(network, portable=True).cpu()


def _check_fixed(name: str, values: Sequence[int]) -> None:
    if any(isinstance(value, bool) or not isinstance(value, int) or value < 1 for value in values):
        raise ConfigError(f"{name} must hold whole numbers of at least 1, got {tuple(values)}.")


def _with_fixed_position(network: SAM2UNet, spatial_size: Sequence[int]) -> SAM2UNet:
    """Copy a network for one image size, its position embedding computed once and for all."""
    fixed = copy.deepcopy(network)
    rows, cols = (-(-side // fixed.stride) * fixed.stride // 4 for side in spatial_size)
    embedding = fixed.encoder._position_embedding(rows, cols).contiguous()
    # Left in the graph it would be interpolated again at each start: OpenVINO takes 13 s for it.
    fixed.encoder.__dict__["_position_embedding"] = lambda rows, cols: embedding
    return fixed


@torch.no_grad()
def trace(
    network: SAM2UNet, *, spatial_size: Sequence[int] | None = None, batch_size: int | None = None
) -> ExportedProgram:
    """Trace a network with ``torch.export``.

    Args:
        network: what :func:`exportable` gave.
        spatial_size: height and width that are fixed, in pixels; None leaves both free, any number of pixels.
        batch_size: number of images that is fixed; None leaves it free.

    Returns:
        The program: an image (B, C, H, W) of float32 to logits (B, out_channels, H, W).

    Raises:
        ConfigError: When ``spatial_size`` is not two numbers, or a number is not a whole one of at least 1.
    """
    if spatial_size is not None and len(spatial_size) != 2:
        raise ConfigError(f"spatial_size must be height and width, got {tuple(spatial_size)}.")
    _check_fixed("spatial_size", () if spatial_size is None else spatial_size)
    _check_fixed("batch_size", () if batch_size is None else (batch_size,))
    # The example decides nothing where a size is free, but it must be no special case: two images, unequal sides, and
    # more than one window of each kind.
    height, width = spatial_size or (352, 480)
    channels = network.encoder.patch_embed.proj.in_channels
    example = torch.zeros(batch_size or 2, channels, height, width)
    if spatial_size is not None:
        network = _with_fixed_position(network, spatial_size)
    free = {} if batch_size is not None else {0: Dim.DYNAMIC}
    if spatial_size is None:
        free |= {2: Dim.DYNAMIC, 3: Dim.DYNAMIC}
    with size_oblivious():
        return torch.export.export(network, (example,), dynamic_shapes=(free,), strict=False)

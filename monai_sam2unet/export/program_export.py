# SPDX-License-Identifier: Apache-2.0
"""Writes a network as a program of ``torch.export``, and as TorchScript."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from monai.data import save_net_with_metadata

from monai_sam2unet.export.network_facts import network_facts
from monai_sam2unet.export.output_file import check_output_file
from monai_sam2unet.export.tracing import exportable, trace
from monai_sam2unet.folders import whole_file
from monai_sam2unet.networks import SAM2UNet

__all__ = ["FACTS_FILE", "export_program", "export_torchscript"]

FACTS_FILE = "metadata.json"


def export_program(
    network: SAM2UNet,
    path: str | Path,
    *,
    spatial_size: Sequence[int] | None = None,
    batch_size: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network as a program of ``torch.export``, for torch without this package, and for AOTInductor.

    ``torch.export.load(path).module()`` takes an image (B, C, H, W), float32, normalised as in training, and gives
    logits (B, out_channels, H, W). ``extra_files={"metadata.json": ""}`` of that call brings back what is noted of the
    network.

    Args:
        network: as trained; it stays as it is.
        path: of the file, ending in ``.pt2``. It is replaced when the new one is whole.
        spatial_size: height and width that the program is to be fixed to, in pixels; None takes any.
        batch_size: number of images that the program is to be fixed to; None takes any.
        metadata: further entries beside those of :func:`~monai_sam2unet.export.network_facts`.

    Returns:
        The file's path.

    Raises:
        ConfigError: When the file cannot be written there, the network is not one that can be exported, or a size is
            not a whole number of at least 1.
    """
    path = check_output_file(path, ".pt2")
    program = trace(exportable(network), spatial_size=spatial_size, batch_size=batch_size)
    # With an example torch would check each image against what held of the example while tracing ("more than one
    # window"), though none of it matters to the result: the program would refuse batches of 1.
    program.example_inputs = None
    facts = json.dumps(network_facts(network, metadata))
    with whole_file(path) as unfinished:
        torch.export.save(program, unfinished, extra_files={FACTS_FILE: facts})
    return path


def export_torchscript(network: SAM2UNet, path: str | Path, *, metadata: Mapping[str, str] | None = None) -> Path:
    """Write a network as TorchScript, by scripting; for torch without this package, in Python and C++.

    ``torch.jit.load(path)`` takes an image (B, C, H, W) of any size, float32, normalised as in training, and gives
    logits (B, out_channels, H, W). It is laid out as by MONAI, so ``monai.data.load_net_with_metadata(path)`` brings
    back what is noted of the network, too. ``monai.bundle ckpt_export`` writes such a file with the bundle's config.

    Args:
        network: as trained; it stays as it is.
        path: of the file, ending in ``.ts``. It is replaced when the new one is whole.
        metadata: further entries beside those of :func:`~monai_sam2unet.export.network_facts`.

    Returns:
        The file's path.

    Raises:
        ConfigError: When the file cannot be written there, or the network is not one that can be exported.
    """
    path = check_output_file(path, ".ts")
    script = torch.jit.script(exportable(network))
    with whole_file(path) as unfinished:
        save_net_with_metadata(script, str(unfinished), meta_values=network_facts(network, metadata))
    return path

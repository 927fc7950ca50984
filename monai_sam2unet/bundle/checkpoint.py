# SPDX-License-Identifier: Apache-2.0
"""Loads what a training wrote, before evaluation and inference."""

from __future__ import annotations

import logging
from pathlib import Path

from torch import nn

from monai_sam2unet.errors import CheckpointError
from monai_sam2unet.networks import Hiera, WeightsReport, load_weights
from monai_sam2unet.networks.weights import read_checkpoint

__all__ = ["load_checkpoint"]

logger = logging.getLogger(__name__)


def _below_here(path: str | Path) -> str:
    """Where a relative path begins, for the message."""
    return "" if Path(path).is_absolute() else f" below {Path.cwd()}, where a bundle's own folder is expected"


def load_checkpoint(network: nn.Module, ckpt_path: str | Path) -> WeightsReport:
    """Load a trained network's weights, full or light.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`; for a light checkpoint it holds the frozen weights. Or
            any other network that a bundle trained, whose checkpoint must have exactly its tensors.
        ckpt_path: a file, such as ``models/model.pt``.

    Returns:
        What was found and loaded.

    Raises:
        CheckpointError: When there is no such file, it holds an encoder only, or does not fit another network.
        WeightsError: When it cannot be read or does not fit the SAM2UNet.
    """
    if not Path(ckpt_path).is_file():
        raise CheckpointError(
            f"There is no checkpoint {ckpt_path}{_below_here(ckpt_path)}. Train first; name another file "
            "(`--ckpt_path` of a bundle); or, where weights come with it, put configs/released.yaml after the config."
        )
    own_encoder = isinstance(getattr(network, "encoder", None), Hiera)
    report = load_weights(network, ckpt_path) if own_encoder else _load_exactly(network, Path(ckpt_path))
    if report.part != "network":
        raise CheckpointError(f"{ckpt_path} holds an encoder only ({report.layout}); what is needed is a training's.")
    logger.info(str(report))
    return report


def _load_exactly(network: nn.Module, path: Path) -> WeightsReport:
    content = read_checkpoint(path)
    try:
        network.load_state_dict(content)
    except RuntimeError as error:
        raise CheckpointError(
            f"{path} does not fit the network {type(network).__name__}: {' '.join(str(error).splitlines()[:3])}"
        ) from error
    return WeightsReport(path, type(network).__name__, "network", tuple(content), ())

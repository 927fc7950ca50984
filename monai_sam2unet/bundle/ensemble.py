# SPDX-License-Identifier: Apache-2.0
"""Loads the networks of several trainings, to be averaged."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path

from monai.utils import ensure_tuple
from torch import nn

from monai_sam2unet.bundle.checkpoint import load_checkpoint
from monai_sam2unet.errors import ConfigError, listing
from monai_sam2unet.networks import MeanNetwork

__all__ = ["ENSEMBLE_OVERLAY", "load_ensemble"]

#: Put after a bundle's evaluate.yaml or inference.yaml, it lets the mean of several networks take the network's place.
ENSEMBLE_OVERLAY = Path(__file__).with_name("ensemble.yaml")


def load_ensemble(network: nn.Module, ckpt_paths: Sequence[str | Path] | str | Path) -> MeanNetwork:
    """Load several checkpoints of one network, such as those of the folds, whole or not at all.

    Args:
        network: as :func:`~monai_sam2unet.bundle.load_checkpoint` takes it; the first checkpoint is loaded into it,
            the others into copies.
        ckpt_paths: files, such as ``models/fold0.pt``; each is named once.

    Returns:
        The mean of the networks, on their device.

    Raises:
        ConfigError: When no file is named, or one is named twice.
        CheckpointError: As :func:`~monai_sam2unet.bundle.load_checkpoint`.
        WeightsError: As there; the text names the file that does not fit.
    """
    paths = [Path(path) for path in ensure_tuple(ckpt_paths)]
    if not paths:
        raise ConfigError("No checkpoint is named (`--ckpt_paths \"['fold0.pt','fold1.pt']\"` of a bundle).")
    twice = sorted({str(path) for path in paths if [p.resolve() for p in paths].count(path.resolve()) > 1})
    if twice:
        raise ConfigError(f"Checkpoints are named twice, and would count twice in the mean:\n{listing(twice)}")
    networks = [network, *(copy.deepcopy(network) for _ in paths[1:])]
    for member, path in zip(networks, paths, strict=True):
        load_checkpoint(member, path)
    return MeanNetwork(networks)

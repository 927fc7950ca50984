# SPDX-License-Identifier: Apache-2.0
"""Puts a faster form of a trained network into an engine."""

from __future__ import annotations

from monai.engines import SupervisedEvaluator
from torch import nn

from monai_sam2unet.inferers import AutocastInferer
from monai_sam2unet.networks import MeanNetwork, optimize_for_inference

__all__ = ["inference_form", "optimize_network"]


def inference_form(network: nn.Module, precision: str = "fp32") -> nn.Module:
    """A network rebuilt for inference, once its weights are loaded.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`, or a :class:`~monai_sam2unet.networks.MeanNetwork` of
            such, whose networks are then replaced.
        precision: of :class:`~monai_sam2unet.inferers.AutocastInferer`; the weights are stored in that type, too.

    Raises:
        ConfigError: When a network is not a SAM2UNet, or was rebuilt before, or ``precision`` is not known.
    """
    dtype = AutocastInferer(precision).dtype(next(network.parameters()).device)
    if not isinstance(network, MeanNetwork):
        return optimize_for_inference(network, dtype=dtype)
    # One after the other, so that there is never a second copy of all.
    for number, member in enumerate(network.networks):
        network.networks[number] = optimize_for_inference(member, dtype=dtype)
    return network


def optimize_network(evaluator: SupervisedEvaluator, enabled: bool = True, precision: str = "fp32") -> None:
    """Let an engine use its network rebuilt for inference; called once the weights are loaded.

    Args:
        evaluator: engine whose ``network`` is as in :func:`inference_form`.
        enabled: False leaves the engine as it is.
        precision: as in :func:`inference_form`.

    Raises:
        ConfigError: As :func:`inference_form`.
    """
    if enabled:
        evaluator.network = inference_form(evaluator.network, precision)

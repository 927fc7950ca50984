# SPDX-License-Identifier: Apache-2.0
"""Puts a faster form of a trained network into an engine."""

from __future__ import annotations

from monai.engines import SupervisedEvaluator

from monai_sam2unet.inferers import AutocastInferer
from monai_sam2unet.networks import MeanNetwork, optimize_for_inference

__all__ = ["optimize_network"]


def optimize_network(evaluator: SupervisedEvaluator, enabled: bool = True, precision: str = "fp32") -> None:
    """Let an engine use its network rebuilt for inference; called once the weights are loaded.

    Args:
        evaluator: engine whose ``network`` is a :class:`~monai_sam2unet.networks.SAM2UNet`, or a
            :class:`~monai_sam2unet.networks.MeanNetwork` of such, whose networks are then replaced.
        enabled: False leaves the engine as it is.
        precision: of :class:`~monai_sam2unet.inferers.AutocastInferer`; the weights are stored in that type, too.

    Raises:
        ConfigError: When a network is not a SAM2UNet, or was rebuilt before, or ``precision`` is not known.
    """
    if enabled:
        network = evaluator.network
        dtype = AutocastInferer(precision).dtype(next(network.parameters()).device)
        if isinstance(network, MeanNetwork):
            # One after the other, so that there is never a second copy of all.
            for number, member in enumerate(network.networks):
                network.networks[number] = optimize_for_inference(member, dtype=dtype)
        else:
            evaluator.network = optimize_for_inference(network, dtype=dtype)

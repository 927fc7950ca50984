# SPDX-License-Identifier: Apache-2.0
"""Puts a faster form of a trained network into an engine."""

from __future__ import annotations

import torch
from monai.engines import SupervisedEvaluator

from monai_sam2unet.networks import optimize_for_inference

__all__ = ["optimize_network"]

DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def optimize_network(evaluator: SupervisedEvaluator, enabled: bool = True, precision: str = "fp32") -> None:
    """Let an engine use its network rebuilt for inference; called once the weights are loaded.

    Args:
        evaluator: engine whose ``network`` is a :class:`~monai_sam2unet.networks.SAM2UNet`.
        enabled: False leaves the engine as it is.
        precision: ``"bf16"`` or ``"fp16"`` stores the weights in that type too; any other name leaves them.

    Raises:
        ConfigError: When the network is not a SAM2UNet, or was rebuilt before.
    """
    if enabled:
        evaluator.network = optimize_for_inference(evaluator.network, dtype=DTYPES.get(precision))

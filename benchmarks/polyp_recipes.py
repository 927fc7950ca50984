# SPDX-License-Identifier: Apache-2.0
"""The recipes that `benchmarks.polyp_results` trains by: the released one, and what differs from it in one thing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["RECIPES", "Recipe"]

Settings = Mapping[str, object]


@dataclass(frozen=True)
class Recipe:
    """How a network is trained.

    Attributes:
        training: settings of the bundle's `train.yaml`, on top of `configs/recipes/paper.yaml`.
        network: settings of the network, which evaluation needs, too.
        epochs: length as a multiple of the run's.
    """

    training: Settings = field(default_factory=dict)
    network: Settings = field(default_factory=dict)
    epochs: float = 1.0


RECIPES = {
    "baseline": Recipe(),
    "random encoder": Recipe({"weights": "random"}),
    "zero-initialised adapters": Recipe({"zero_init_adapters": True}),
    "warm-up and clipping": Recipe({"warmup_epochs": 1, "clip_norm": 1}),
    "weighted BCE": Recipe({"bce": "weighted"}),
    "multi-scale": Recipe({"multi_scale": "[0.75,1,1.25]"}),
    "rotation and colour": Recipe({"rotate_prob": 0.3, "color_jitter_prob": 0.5}),
    "adapters of 64 channels": Recipe(network={"adapter_channels": 64}),
    "LoRA of rank 8": Recipe(network={"lora_rank": 8}),
    "average of the weights": Recipe({"ema_decay": 0.99}),
    "twice the epochs": Recipe(epochs=2.0),
}

# SPDX-License-Identifier: Apache-2.0
"""What each way of training the encoder costs, and what an inference does, counted without computing anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from monai_sam2unet.networks.light_checkpoint import light_state_dict

__all__ = [
    "InferenceCosts",
    "TrainingCosts",
    "count_activations",
    "count_inference",
    "count_training",
    "training_choices",
]


@dataclass(frozen=True)
class TrainingCosts:
    """What training a network costs, apart from activations.

    Attributes:
        parameters: numbers in all parameters.
        trained: how many of them require a gradient.
        light_checkpoint_bytes: tensors of a light checkpoint, at the network's own precision.
        optimizer_bytes: AdamW's two running means of each trained number, in float32.
    """

    parameters: int
    trained: int
    light_checkpoint_bytes: int
    optimizer_bytes: int


@dataclass(frozen=True)
class InferenceCosts:
    """Floating-point operations of one inference; a multiplication and an addition count as two.

    Attributes:
        encoder: of the encoder, with its adapters.
        network: of the whole network.
    """

    encoder: int
    network: int


def training_choices(adapter_channels: int = 32, lora_rank: int = 8) -> dict[str, dict[str, Any]]:
    """The ways of training the encoder, each with the arguments of :class:`~monai_sam2unet.networks.SAM2UNet`.

    Args:
        adapter_channels: width of the adapters, where there are some.
        lora_rank: rank of LoRA, where there is some.
    """
    adapters, lora = {"adapter_channels": adapter_channels}, {"lora_rank": lora_rank}
    none = {"adapter_channels": 0, "lora_rank": 0}
    return {
        "adapters": {**none, **adapters},
        "LoRA": {**none, **lora},
        "adapters and LoRA": {**adapters, **lora},
        "linear probe": none,
        "full fine-tuning": {**none, "freeze_encoder": False},
    }


def count_training(network: nn.Module) -> TrainingCosts:
    """Count what training costs.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`, on any device, ``meta`` included.
    """
    trained = sum(p.numel() for p in network.parameters() if p.requires_grad)
    kept = light_state_dict(network, sha256="not needed")["state_dict"].values()
    return TrainingCosts(
        parameters=sum(p.numel() for p in network.parameters()),
        trained=trained,
        light_checkpoint_bytes=sum(v.numel() * v.element_size() for v in kept),
        optimizer_bytes=2 * 4 * trained,
    )


def count_activations(network: nn.Module, in_channels: int, height: int, width: int) -> int:
    """Count the bytes that the forward pass of one training image keeps for the backward pass, parameters left out.

    Of a network in float32; under bf16 autocast it is about half. What a step needs for a moment comes on top.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet` in training mode, on any device, ``meta`` included.
        in_channels: channels of the image.
        height: its height in pixels.
        width: its width in pixels.
    """
    device = next(network.parameters()).device
    own = {p.untyped_storage()._cdata for p in [*network.parameters(), *network.buffers()]}
    # The storages are held, so that none takes the address of another.
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(saved: torch.Tensor) -> torch.Tensor:
        storage = saved.untyped_storage()
        kept[storage._cdata] = storage
        return saved

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda saved: saved):
        network(torch.empty(1, in_channels, height, width, device=device))
    return sum(storage.nbytes() for address, storage in kept.items() if address not in own)


@torch.no_grad()
def count_inference(network: nn.Module, in_channels: int, height: int, width: int) -> InferenceCosts:
    """Count the operations on one image.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet` in evaluation mode on the device ``meta``, where
            operations have shapes and no values.
        in_channels: channels of the image.
        height: its height in pixels.
        width: its width in pixels.
    """
    image = torch.empty(1, in_channels, height, width, device="meta")
    # The counter knows attention as the two products that it is made of.
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        network(image)
    counts = counter.get_flop_counts()
    return InferenceCosts(sum(counts[f"{type(network).__name__}.encoder"].values()), counter.get_total_flops())

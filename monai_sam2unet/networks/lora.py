# SPDX-License-Identifier: Apache-2.0
"""LoRA: a frozen linear layer that learns a change of low rank (Hu et al., arXiv 2106.09685)."""

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError

__all__ = ["LoRALinear", "merge_lora"]


class LoRALinear(nn.Linear):
    """A linear layer W x + b + (alpha / rank) B A x, of which A and B are trained.

    It takes over the weight and bias of the layer that it replaces, under their names, so that checkpoints of that
    layer fit. B starts at zero, and with it the change. The scale alpha / rank is kept beside A and B in the state
    dict, since a checkpoint means nothing without it.

    Args:
        linear: the layer to adapt; its parameters are shared, not copied.
        rank: rank of the change, from 1 to the smaller one of the layer's two dimensions.
        alpha: strength of the change, above 0; None takes the rank, a scale of 1.

    Attributes:
        lora_a: A (rank, in_features), drawn as in the authors' code.
        lora_b: B (out_features, rank).
        lora_scale: the scale, a scalar.

    Raises:
        ConfigError: When ``rank`` or ``alpha`` is out of its range.

    Example:
        >>> import torch
        >>> from monai_sam2unet.networks import LoRALinear
        >>> layer = LoRALinear(torch.nn.Linear(96, 288), rank=8)
        >>> sorted(layer.state_dict())
        ['bias', 'lora_a', 'lora_b', 'lora_scale', 'weight']
        >>> layer.lora_a.numel() + layer.lora_b.numel() == 8 * (96 + 288)
        True
    """

    lora_scale: Tensor

    def __init__(self, linear: nn.Linear, rank: int, alpha: float | None = None) -> None:
        super().__init__(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
        largest = min(linear.in_features, linear.out_features)
        if not 1 <= rank <= largest:
            raise ConfigError(
                f"The rank of LoRA must lie between 1 and {largest}, got {rank}: "
                f"it serves a layer of {linear.in_features} inputs and {linear.out_features} outputs."
            )
        if alpha is not None and not 0 < alpha < math.inf:
            raise ConfigError(f"The alpha of LoRA must be a number above 0, got {alpha}.")
        self.weight, self.bias = linear.weight, linear.bias
        like = linear.weight.detach()
        self.lora_a = nn.Parameter(like.new_empty(rank, linear.in_features))
        self.lora_b = nn.Parameter(like.new_zeros(linear.out_features, rank))
        self.register_buffer("lora_scale", like.new_tensor((rank if alpha is None else alpha) / rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, input: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        # Scaled where it is narrowest.
        narrow = F.linear(input, self.lora_a) * self.lora_scale
        return F.linear(input, self.weight, self.bias) + F.linear(narrow, self.lora_b)

    def extra_repr(self) -> str:
        """Describe the layer where a network is printed."""
        return f"{super().extra_repr()}, rank={self.lora_a.shape[0]}"


@torch.no_grad()
def merge_lora(linear: nn.Linear) -> nn.Linear:
    """Fold the learnt change into the weight, so that inference costs what it costs without LoRA.

    Args:
        linear: any linear layer.

    Returns:
        For a :class:`LoRALinear` a new plain layer of the same function, its weight rounded once to the layer's own
        type; any other layer as it is.
    """
    if not isinstance(linear, LoRALinear):
        return linear
    change = (linear.lora_b.float() * linear.lora_scale.float()) @ linear.lora_a.float()
    merged = nn.Linear(linear.in_features, linear.out_features, linear.bias is not None, device="meta")
    weight = (linear.weight.float() + change).to(linear.weight.dtype)
    merged.weight = nn.Parameter(weight, requires_grad=linear.weight.requires_grad)
    if linear.bias is not None:
        merged.bias = nn.Parameter(linear.bias.clone(), requires_grad=linear.bias.requires_grad)
    return merged.train(linear.training)

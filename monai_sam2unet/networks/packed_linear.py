# SPDX-License-Identifier: Apache-2.0
"""A linear layer for inference on a CPU, its weight laid out as oneDNN wants it and its activation fused."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

__all__ = ["PackedLinear", "can_pack"]


def can_pack(weight: Tensor) -> bool:
    """Whether this torch and this machine pack a weight: float32, or bfloat16 where the CPU has it, on a CPU.

    The operators are those that torch's own compiler emits for linear layers on CPUs; they are not part of its public
    interface, so their presence is looked for.
    """
    if weight.device.type != "cpu" or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    if weight.dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return weight.dtype == torch.float32 and torch.backends.mkldnn.is_available()


class PackedLinear(nn.Module):
    """A linear layer whose weight is packed for oneDNN, with an optional GELU in the same pass over memory.

    Torch's ``nn.Linear`` uses MKL in float32, which reaches 65 to 90 % of what oneDNN's packed weights reach on CPUs
    that are not Intel's, and in bfloat16 it lays out the weight anew in each call.

    Args:
        linear: the layer to take the values of; :func:`can_pack` must hold for its weight.
        activation: ``"none"`` or ``"gelu"`` (exact, by the error function).
    """

    def __init__(self, linear: nn.Linear, activation: str = "none") -> None:
        super().__init__()
        self.activation = activation
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.bias = nn.Parameter(linear.bias.detach().clone(), requires_grad=False)
        self._pack(linear.weight.detach())

    def _pack(self, weight: Tensor) -> None:
        self.packed = torch.ops.mkldnn._reorder_linear_weight(weight)

    def forward(self, x: Tensor) -> Tensor:
        """Map (..., in_features) to (..., out_features)."""
        # Autocast does not know the operator, and so leaves types that do not agree.
        x = x.to(self.bias.dtype)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, self.activation, [], "none")

    def __getstate__(self) -> dict[str, Any]:
        # A packed weight has no storage that copy and pickle could read.
        return {**self.__dict__, "packed": self.packed.to_dense()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        weight = state.pop("packed")
        self.__dict__.update(state)
        self._pack(weight)

    def extra_repr(self) -> str:
        """The sizes and the activation."""
        return f"in_features={self.in_features}, out_features={self.out_features}, activation={self.activation}"

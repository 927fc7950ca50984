# SPDX-License-Identifier: Apache-2.0
"""A linear layer for inference on a CPU, its weight laid out as oneDNN wants it and its activation fused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from monai_sam2unet.errors import ConfigError

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

    It computes no gradients. Its state dict holds the weight as ``_extra_state``.

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
        """Map (..., in_features) to (..., out_features).

        Raises:
            ConfigError: When a gradient is asked for.
        """
        if x.requires_grad and torch.is_grad_enabled():
            # Torch would give a wrong one, for want of a formula.
            raise ConfigError(
                "A network rebuilt for inference on a CPU has no gradients. Take the network that it was made of, or "
                "optimize_for_inference(portable=True)."
            )
        # Autocast does not know the operator, and so leaves types that do not agree.
        x = x.to(self.bias.dtype)
        return torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, self.activation, [], "none")

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PackedLinear:
        weight = fn(self.packed.to_dense())
        if not can_pack(weight):
            raise ConfigError(
                f"A network rebuilt for inference on a CPU cannot be brought to {weight.device} and {weight.dtype}. "
                "Bring the network there that it was made of, then rebuild that: optimize_for_inference(dtype=...)."
            )
        self._pack(weight)
        return super()._apply(fn, recurse)

    def get_extra_state(self) -> Tensor:
        """The weight, for the state dict."""
        weight: Tensor = self.packed.to_dense()
        return weight

    def set_extra_state(self, state: Tensor) -> None:
        """Take the weight from a state dict."""
        self._pack(state.to(self.bias.dtype))

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

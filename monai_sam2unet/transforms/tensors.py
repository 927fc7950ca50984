# SPDX-License-Identifier: Apache-2.0
"""What transforms ask of any tensor: its values without meta, of its own memory, finite."""

from __future__ import annotations

import math

import torch
from monai.data import MetaTensor
from torch import Tensor

from monai_sam2unet.errors import DataError

__all__ = ["check_finite", "empty_channels", "own_memory", "plain"]


def plain(x: Tensor) -> Tensor:
    """The tensor itself, or what is in a MetaTensor; the memory is shared."""
    return x.as_tensor() if isinstance(x, MetaTensor) else x


def own_memory(result: Tensor, source: Tensor) -> Tensor:
    """The result, as a contiguous copy if it lies in the source's memory; both are plain tensors.

    Example:
        >>> source = torch.zeros(2, 3)
        >>> own_memory(source[:1], source).add_(1).tolist(), source.tolist()
        ([[1.0, 1.0, 1.0]], [[0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    """
    shared = result.untyped_storage().data_ptr() == source.untyped_storage().data_ptr()
    return result.clone(memory_format=torch.contiguous_format) if shared else result


def empty_channels(x: Tensor, channels: int, dtype: torch.dtype) -> Tensor:
    """A tensor (channels, ...) for values like those of (C, ...), whose axes lie in memory in the same order.

    Args:
        x: (C, ...), a plain tensor.
        channels: of the result; the first axis in memory.
        dtype: of the result.

    Example:
        >>> empty_channels(torch.zeros(1, 2, 3).transpose(1, 2), 4, torch.float32).stride()
        (6, 1, 3)
    """
    order = sorted(range(1, x.ndim), key=x.stride, reverse=True)
    out = torch.empty((channels, *(x.shape[axis] for axis in order)), dtype=dtype, device=x.device)
    return out.permute(0, *(1 + order.index(axis) for axis in range(1, x.ndim)))


def check_finite(x: Tensor, needs: str) -> None:
    """Refuse an image that holds NaN or infinite values, at no cost in memory.

    Args:
        x: a tensor of any shape and dtype; a MetaTensor's ``filename_or_obj`` is named in the error.
        needs: what cannot be done with it, to begin the error's text: ``"A window"``.

    Raises:
        DataError: When a value is NaN or infinite.
    """
    if not x.is_floating_point() or x.numel() == 0:
        return
    low, high = (float(v) for v in torch.aminmax(plain(x)))
    if not (math.isfinite(low) and math.isfinite(high)):
        name = (isinstance(x, MetaTensor) and x.meta.get("filename_or_obj")) or "the image"
        raise DataError(f"{needs} needs finite values; {name} holds NaN or infinite ones. Mend the file.")

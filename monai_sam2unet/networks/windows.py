# SPDX-License-Identifier: Apache-2.0
"""Square attention windows of a map of tokens: cutting, gathering and putting back."""

import torch
from torch import Tensor
from torch.nn import functional as F

__all__ = ["padding_to_multiple", "window_index", "window_merge", "window_partition"]


def padding_to_multiple(length: int, divisor: int) -> int:
    """What a length lacks to be a multiple of ``divisor``."""
    # By floor division: torch.compile fails at the modulo of a dynamic size (seen in torch 2.13).
    return (length + divisor - 1) // divisor * divisor - length


def window_partition(x: Tensor, size: int) -> Tensor:
    """Cut a map into square windows.

    Args:
        x: tokens (B, H, W, C); ``size`` divides H and W.
        size: side of a window, in tokens.

    Returns:
        Windows (B * H / size * W / size, size, size, C).
    """
    batch, height, width, channels = x.shape
    rows, cols = height // size, width // size
    x = x.reshape(batch, rows, size, cols, size, channels).transpose(2, 3)
    return x.reshape(batch * rows * cols, size, size, channels)


def window_index(height: int, width: int, size: int, device: torch.device) -> Tensor:
    """Where the tokens of each window lie in a map, row after row, that is preceded by one token for the padding.

    Args:
        height: rows of the map, in tokens.
        width: columns of the map, in tokens.
        size: side of a window, in tokens; windows reach over the map's bottom and right where it does not divide them.
        device: where the index is wanted.

    Returns:
        Index (ceil(height / size) * ceil(width / size) * size * size,) of type int64: 0 for the padding, else one more
        than the token's place.

    Example:
        >>> window_index(2, 3, 2, torch.device("cpu")).view(2, 2, 2)
        tensor([[[1, 2],
                 [4, 5]],
        <BLANKLINE>
                [[3, 0],
                 [6, 0]]])
    """
    index = torch.arange(1, height * width + 1, device=device).view(height, width)
    # Padding by nothing is allowed; a branch here would split the exported graph by input size.
    index = F.pad(index, [0, padding_to_multiple(width, size), 0, padding_to_multiple(height, size)])
    return window_partition(index[None, :, :, None], size).flatten()


def window_merge(windows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Put windows back into a map and drop what reaches over its edge.

    Args:
        windows: tokens (B * ceil(height / size) * ceil(width / size), size, size, C).
        batch: number of maps B.
        height: rows of the map, in tokens.
        width: columns of the map, in tokens.

    Returns:
        Tokens (B, height, width, C).
    """
    size, channels = windows.shape[1], windows.shape[3]
    rows, cols = (height + size - 1) // size, (width + size - 1) // size
    x = windows.reshape(batch, rows, cols, size, size, channels).transpose(2, 3)
    return x.reshape(batch, rows * size, cols * size, channels)[:, :height, :width]

# SPDX-License-Identifier: Apache-2.0
"""Building blocks of Hiera: patch embedding, attention, MLP and the transformer block that joins them.

The function and the names of the parameters are those of Meta's ``sam2/modeling/backbones/hieradet.py`` (Apache-2.0).
"""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_sam2unet.networks.windows import window_index, window_merge

__all__ = ["MLP", "MultiScaleAttention", "MultiScaleBlock", "PatchEmbed"]


def max_pool_tokens(x: Tensor) -> Tensor:
    """Halve a channels-last map (B, H, W, C) by 2x2 max pooling."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), kernel_size=2, stride=2).permute(0, 2, 3, 1)


class MultiScaleAttention(nn.Module):
    """Multi-head attention within windows of a map, whose queries may be pooled to half its size.

    Args:
        dim: input channels.
        dim_out: output channels.
        num_heads: attention heads.
        window_size: side of the windows in tokens; 0 attends over the whole map. Where the windows reach over the
            map's edge they hold tokens of value zero there, which are attended to, as in the published encoder.
        pool_queries: whether the queries, and so the output, have half the map's height and width.
    """

    num_heads: Final[int]
    window_size: Final[int]
    pool_queries: Final[bool]

    def __init__(self, dim: int, dim_out: int, num_heads: int, window_size: int, pool_queries: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.window_size = window_size
        self.pool_queries = pool_queries
        self.qkv = nn.Linear(dim, dim_out * 3)
        self.proj = nn.Linear(dim_out, dim_out)

    def _attend(self, qkv: Tensor) -> Tensor:
        """Attend within each map: queries, keys and values (N, H, W, 3 C) to (N, H', W', C)."""
        count, height, width, _ = qkv.shape
        q, k, v = qkv.chunk(3, dim=-1)
        if self.pool_queries:
            q = max_pool_tokens(q)
        rows, cols = q.shape[1], q.shape[2]
        q = q.reshape(count, rows * cols, self.num_heads, -1).transpose(1, 2)
        k = k.reshape(count, height * width, self.num_heads, -1).transpose(1, 2)
        v = v.reshape(count, height * width, self.num_heads, -1).transpose(1, 2)
        x = F.scaled_dot_product_attention(q, k, v)
        return x.transpose(1, 2).reshape(count, rows, cols, -1)

    def _windows(self, x: Tensor) -> Tensor:
        """Queries, keys and values of each window: (B, H, W, dim) to (N, size, size, 3 C)."""
        batch, height, width, channels = x.shape
        size = self.window_size
        # The padding goes in as one token of zeros, computed once, and comes out wherever a window reaches over the
        # edge: nothing is multiplied for it, and the one gather both pads and cuts. Padding the input instead
        # multiplies up to 2.1 times the tokens (Large at 352); padding the output moves three times the bytes.
        tokens = torch.cat([x.new_zeros(batch, 1, channels), x.reshape(batch, height * width, channels)], dim=1)
        qkv = self.qkv(tokens).index_select(1, window_index(height, width, size, x.device))
        return qkv.reshape(-1, size, size, qkv.shape[2])

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, dim) to (B, H', W', dim_out)."""
        if self.window_size == 0:
            return self.proj(self._attend(self.qkv(x)))
        batch, height, width, _ = x.shape
        scale = 2 if self.pool_queries else 1
        return self.proj(window_merge(self._attend(self._windows(x)), batch, height // scale, width // scale))


class MLP(nn.Module):
    """Two linear layers with GELU between, named as in SAM 2."""

    def __init__(self, dim: int, hidden_dim: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(dim, hidden_dim), nn.Linear(hidden_dim, dim)])

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (..., dim) to (..., dim)."""
        return self.layers[1](F.gelu(self.layers[0](x)))


class MultiScaleBlock(nn.Module):
    """A transformer block of Hiera; the first of a stage doubles the channels and halves the map.

    Args:
        dim: input channels.
        dim_out: output channels; pooling takes place where it differs from ``dim``.
        num_heads: attention heads.
        window_size: side of the attention windows in tokens; 0 attends over the whole map.
    """

    expands: Final[bool]

    def __init__(self, dim: int, dim_out: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.expands = dim != dim_out
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MultiScaleAttention(dim, dim_out, num_heads, window_size, pool_queries=self.expands)
        self.norm2 = nn.LayerNorm(dim_out, eps=1e-6)
        self.mlp = MLP(dim_out, dim_out * 4)
        if self.expands:
            self.proj = nn.Linear(dim, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Map tokens (B, H, W, dim) to (B, H', W', dim_out), H' = H / 2 where the block pools, else H."""
        shortcut = x
        x = self.norm1(x)
        if self.expands:
            shortcut = max_pool_tokens(self.proj(x))
        x = shortcut + self.attn(x)
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Overlapping patches of 7x7 pixels at stride 4."""

    def __init__(self, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=7, stride=4, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, H, W) to tokens (B, H / 4, W / 4, embed_dim)."""
        return self.proj(x).permute(0, 2, 3, 1)

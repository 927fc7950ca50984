# SPDX-License-Identifier: Apache-2.0
"""Hiera, the image encoder of Segment Anything 2, in plain torch.

The function is that of Meta's ``sam2/modeling/backbones/hieradet.py`` (Apache-2.0) and the parameter names are the
same, so published weights load as they are. It scripts, and exports with dynamic batch and size.

Sources: Ryali et al., "Hiera: A Hierarchical Vision Transformer without the Bells-and-Whistles", arXiv 2306.00989;
Ravi et al., "SAM 2: Segment Anything in Images and Videos", arXiv 2408.00714.
"""

from typing import Final, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from monai_sam2unet.errors import ConfigError

__all__ = ["HIERA_SPECS", "Hiera", "HieraSpec"]


class HieraSpec(NamedTuple):
    """What distinguishes the four published sizes of the SAM 2 image encoder.

    Attributes:
        embed_dim: channels of the first stage; each later stage doubles them.
        num_heads: attention heads of the first stage; each later stage doubles them.
        stages: number of blocks in each of the four stages.
        global_blocks: indices of the blocks that attend over the whole map instead of over windows.
        window_sizes: side of the attention windows in each stage, in tokens.
        pos_embed_size: side of the background position embedding, in tokens.
    """

    embed_dim: int
    num_heads: int
    stages: tuple[int, int, int, int]
    global_blocks: tuple[int, int, int]
    window_sizes: tuple[int, int, int, int]
    pos_embed_size: int


HIERA_SPECS: dict[str, HieraSpec] = {
    "tiny": HieraSpec(96, 1, (1, 2, 7, 2), (5, 7, 9), (8, 4, 14, 7), 7),
    "small": HieraSpec(96, 1, (1, 2, 11, 2), (7, 10, 13), (8, 4, 14, 7), 7),
    "base_plus": HieraSpec(112, 2, (2, 3, 16, 3), (12, 16, 20), (8, 4, 14, 7), 14),
    "large": HieraSpec(144, 2, (2, 6, 36, 4), (23, 33, 43), (8, 4, 16, 8), 7),
}


def window_partition(x: Tensor, size: int) -> Tensor:
    """Cut a map into square windows, zero-padded at the bottom and right.

    Args:
        x: tokens (B, H, W, C).
        size: side of a window, in tokens.

    Returns:
        Windows (B * ceil(H / size) * ceil(W / size), size, size, C).
    """
    batch, height, width, channels = x.shape
    rows, cols = (height + size - 1) // size, (width + size - 1) // size
    # Padding by zero rows is a no-op; a branch here would split the exported graph by input size.
    x = F.pad(x, [0, 0, 0, cols * size - width, 0, rows * size - height])
    x = x.view(batch, rows, size, cols, size, channels).transpose(2, 3)
    return x.reshape(batch * rows * cols, size, size, channels)


def window_merge(windows: Tensor, batch: int, height: int, width: int) -> Tensor:
    """Undo :func:`window_partition` and drop the padding.

    Args:
        windows: tokens (N, size, size, C).
        batch: number of maps B.
        height: rows of the unpadded map, in tokens.
        width: columns of the unpadded map, in tokens.

    Returns:
        Tokens (B, height, width, C).
    """
    size, channels = windows.shape[1], windows.shape[3]
    rows, cols = (height + size - 1) // size, (width + size - 1) // size
    x = windows.view(batch, rows, cols, size, size, channels).transpose(2, 3)
    return x.reshape(batch, rows * size, cols * size, channels)[:, :height, :width]


def max_pool_tokens(x: Tensor) -> Tensor:
    """Halve a channels-last map (B, H, W, C) by 2x2 max pooling."""
    return F.max_pool2d(x.permute(0, 3, 1, 2), kernel_size=2, stride=2).permute(0, 2, 3, 1)


class MultiScaleAttention(nn.Module):
    """Multi-head attention over a map, whose queries may be pooled to half its size.

    Args:
        dim: input channels.
        dim_out: output channels.
        num_heads: attention heads.
        pool_queries: whether the queries, and so the output, have half the map's height and width.
    """

    num_heads: Final[int]
    pool_queries: Final[bool]

    def __init__(self, dim: int, dim_out: int, num_heads: int, pool_queries: bool) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.pool_queries = pool_queries
        self.qkv = nn.Linear(dim, dim_out * 3)
        self.proj = nn.Linear(dim_out, dim_out)

    def forward(self, x: Tensor) -> Tensor:
        """Attend within each map: (N, H, W, dim) to (N, H', W', dim_out)."""
        count, height, width, _ = x.shape
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        if self.pool_queries:
            q = max_pool_tokens(q)
            height, width = height // 2, width // 2
        q = q.reshape(count, height * width, self.num_heads, -1).transpose(1, 2)
        k = k.reshape(count, k.shape[1] * k.shape[2], self.num_heads, -1).transpose(1, 2)
        v = v.reshape(count, v.shape[1] * v.shape[2], self.num_heads, -1).transpose(1, 2)
        x = F.scaled_dot_product_attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(count, height, width, -1))


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

    window_size: Final[int]
    expands: Final[bool]

    def __init__(self, dim: int, dim_out: int, num_heads: int, window_size: int) -> None:
        super().__init__()
        self.window_size = window_size
        self.expands = dim != dim_out
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attn = MultiScaleAttention(dim, dim_out, num_heads, pool_queries=self.expands)
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
        batch, height, width = shortcut.shape[0], shortcut.shape[1], shortcut.shape[2]
        if self.window_size > 0:
            x = window_merge(self.attn(window_partition(x, self.window_size)), batch, height, width)
        else:
            x = self.attn(x)
        x = shortcut + x
        return x + self.mlp(self.norm2(x))


class PatchEmbed(nn.Module):
    """Overlapping patches of 7x7 pixels at stride 4."""

    def __init__(self, in_channels: int, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(in_channels, embed_dim, kernel_size=7, stride=4, padding=3)

    def forward(self, x: Tensor) -> Tensor:
        """Map an image (B, in_channels, H, W) to tokens (B, H / 4, W / 4, embed_dim)."""
        return self.proj(x).permute(0, 2, 3, 1)


class Hiera(nn.Module):
    """The SAM 2 image encoder ("trunk"): one image to four feature maps.

    Args:
        size: ``"tiny"``, ``"small"``, ``"base_plus"`` or ``"large"``.
        in_channels: channels of the input image, at least 1.
        use_checkpoint: recompute each block in the backward pass instead of storing its activations.

    Attributes:
        channels: channels (C_1, C_2, C_3, C_4) of the feature maps.

    Raises:
        ConfigError: When ``size`` is not one of the four, or ``in_channels`` is below 1.

    Example:
        >>> import torch
        >>> from monai_sam2unet.networks import Hiera
        >>> features = Hiera("tiny")(torch.zeros(1, 3, 64, 96))
        >>> [tuple(f.shape) for f in features]
        [(1, 96, 16, 24), (1, 192, 8, 12), (1, 384, 4, 6), (1, 768, 2, 3)]
    """

    use_checkpoint: Final[bool]
    stage_ends: Final[list[int]]

    def __init__(self, size: str = "large", in_channels: int = 3, use_checkpoint: bool = False) -> None:
        super().__init__()
        if size not in HIERA_SPECS:
            raise ConfigError(f"size {size!r} is not known; choose one of {', '.join(HIERA_SPECS)}.")
        if in_channels < 1:
            raise ConfigError(f"in_channels must be at least 1, got {in_channels}.")
        spec = HIERA_SPECS[size]
        self.size = size
        self.use_checkpoint = use_checkpoint
        self.stage_ends = [sum(spec.stages[: i + 1]) - 1 for i in range(4)]
        self.channels = tuple(spec.embed_dim * 2**i for i in range(4))

        self.patch_embed = PatchEmbed(in_channels, spec.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, spec.embed_dim, spec.pos_embed_size, spec.pos_embed_size))
        window = spec.window_sizes[0]
        self.pos_embed_window = nn.Parameter(torch.zeros(1, spec.embed_dim, window, window))
        self.blocks = nn.ModuleList(self._make_blocks(spec))
        self._init_parameters()

    @staticmethod
    def _make_blocks(spec: HieraSpec) -> list[MultiScaleBlock]:
        blocks: list[MultiScaleBlock] = []
        dim = spec.embed_dim
        for stage, depth in enumerate(spec.stages):
            dim_out, num_heads = spec.embed_dim * 2**stage, spec.num_heads * 2**stage
            for i in range(depth):
                # The block that pools still works in its predecessor's windows, which pooling then halves.
                window = spec.window_sizes[stage - 1 if stage > 0 and i == 0 else stage]
                window = 0 if len(blocks) in spec.global_blocks else window
                blocks.append(MultiScaleBlock(dim, dim_out, num_heads, window))
                dim = dim_out
        return blocks

    def _init_parameters(self) -> None:
        nn.init.trunc_normal_(self.pos_embed, std=0.02)
        nn.init.trunc_normal_(self.pos_embed_window, std=0.02)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                nn.init.zeros_(module.bias)

    def _position_embedding(self, height: int, width: int) -> Tensor:
        background = F.interpolate(self.pos_embed, size=[height, width], mode="bicubic")
        window = self.pos_embed_window
        tiled = window.repeat(1, 1, height // window.shape[2], width // window.shape[3])
        return (background + tiled).permute(0, 2, 3, 1)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Encode an image.

        Args:
            x: image (B, in_channels, H, W), normalised; H and W must be multiples of 32. SAM2UNet pads to that.

        Returns:
            Four maps, finest first: (B, C_i, H / 2**(i + 1), W / 2**(i + 1)) for i = 1..4.
        """
        x = self.patch_embed(x)
        x = x + self._position_embedding(x.shape[1], x.shape[2])
        features: list[Tensor] = []
        for i, block in enumerate(self.blocks):
            if torch.jit.is_scripting():
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=False) if self.use_checkpoint and self.training else block(x)
            if i in self.stage_ends:
                features.append(x.permute(0, 3, 1, 2))
        return features

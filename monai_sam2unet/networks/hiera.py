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
from monai_sam2unet.networks.hiera_blocks import MultiScaleBlock, PatchEmbed
from monai_sam2unet.networks.windows import window_merge, window_partition

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
    tile_sizes: Final[list[int]]

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

        # Where windows always divide the map, its tokens are kept window after window from block to block, and each
        # window is to the block a map of its own. 0: the block takes the whole map.
        self.tile_sizes = []
        self.patch_embed = PatchEmbed(in_channels, spec.embed_dim)
        self.pos_embed = nn.Parameter(torch.zeros(1, spec.embed_dim, spec.pos_embed_size, spec.pos_embed_size))
        window = spec.window_sizes[0]
        self.pos_embed_window = nn.Parameter(torch.zeros(1, spec.embed_dim, window, window))
        self.blocks = nn.ModuleList(self._make_blocks(spec))
        self._init_parameters()

    def _make_blocks(self, spec: HieraSpec) -> list[MultiScaleBlock]:
        blocks: list[MultiScaleBlock] = []
        dim = spec.embed_dim
        for stage, depth in enumerate(spec.stages):
            dim_out, num_heads = spec.embed_dim * 2**stage, spec.num_heads * 2**stage
            for i in range(depth):
                # The block that pools still works in its predecessor's windows, which pooling then halves.
                input_stage = stage - 1 if stage > 0 and i == 0 else stage
                window = 0 if len(blocks) in spec.global_blocks else spec.window_sizes[input_stage]
                # Of an image whose sides 32 divides, a stage's map has sides that this number divides.
                tiles = window > 0 and (8 >> input_stage) % window == 0
                self.tile_sizes.append(window if tiles else 0)
                blocks.append(MultiScaleBlock(dim, dim_out, num_heads, 0 if tiles else window))
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
        batch, height, width = x.shape[0], x.shape[1], x.shape[2]
        x = x + self._position_embedding(height, width)
        features: list[Tensor] = []
        tile = 0
        for i, block in enumerate(self.blocks):
            if tile != self.tile_sizes[i]:
                if tile > 0:
                    x = window_merge(x, batch, height, width)
                tile = self.tile_sizes[i]
                if tile > 0:
                    x = window_partition(x, tile)
            if torch.jit.is_scripting():
                x = block(x)
            else:
                x = checkpoint(block, x, use_reentrant=False) if self.use_checkpoint and self.training else block(x)
            if i - 1 in self.stage_ends:
                tile, height, width = tile // 2, height // 2, width // 2
            if i in self.stage_ends:
                whole = window_merge(x, batch, height, width) if tile > 0 else x
                features.append(whole.permute(0, 3, 1, 2))
        return features

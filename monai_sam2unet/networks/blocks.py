# SPDX-License-Identifier: Apache-2.0
"""Building blocks of SAM2-UNet (arXiv 2408.08870): adapter, receptive-field block and decoder stage."""

from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["RFB", "Adapter", "ConvBN", "DoubleConv", "Up"]


class Adapter(nn.Module):
    """A bottleneck of two linear layers, added to the input of a frozen transformer block.

    Args:
        block: the block to adapt; takes and returns tokens (B, H, W, C).
        dim: channels of the block's input.
        adapter_channels: channels of the bottleneck; 0 adds nothing to the block, and only keeps the names of its
            parameters the same as with an adapter.
        zero_init: whether the last layer starts at zero, so that the block at first sees what it was trained on. False
            leaves it at torch's random values, as the released code does.
    """

    adapts: Final[bool]

    def __init__(self, block: nn.Module, dim: int, adapter_channels: int, zero_init: bool = True) -> None:
        super().__init__()
        self.block = block
        self.adapts = adapter_channels > 0
        if not self.adapts:
            return
        last = nn.Linear(adapter_channels, dim)
        if zero_init:
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.prompt_learn = nn.Sequential(nn.Linear(dim, adapter_channels), nn.GELU(), last, nn.GELU())

    def forward(self, x: Tensor) -> Tensor:
        """Run the block on the adapted tokens (B, H, W, dim)."""
        if self.adapts:
            x = x + self.prompt_learn(x)
        return self.block(x)


class ConvBN(nn.Module):
    """A convolution without bias, then BatchNorm (no activation)."""

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int | tuple[int, int],
        padding: int | tuple[int, int] = 0,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, kernel_size, padding=padding, dilation=dilation, bias=False)
        self.bn = nn.BatchNorm2d(out_channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H', W')."""
        return self.bn(self.conv(x))


def _rfb_branch(in_channels: int, out_channels: int, size: int) -> nn.Sequential:
    """1x1, 1 x size, size x 1, then 3x3 dilated by ``size``: a receptive field of its own at constant cost."""
    half = size // 2
    return nn.Sequential(
        ConvBN(in_channels, out_channels, 1),
        ConvBN(out_channels, out_channels, (1, size), padding=(0, half)),
        ConvBN(out_channels, out_channels, (size, 1), padding=(half, 0)),
        ConvBN(out_channels, out_channels, 3, padding=size, dilation=size),
    )


class RFB(nn.Module):
    """Receptive-field block: four parallel branches of growing field, joined, plus a residual.

    Args:
        in_channels: channels of the encoder's feature map.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.branch0 = nn.Sequential(ConvBN(in_channels, out_channels, 1))
        self.branch1 = _rfb_branch(in_channels, out_channels, 3)
        self.branch2 = _rfb_branch(in_channels, out_channels, 5)
        self.branch3 = _rfb_branch(in_channels, out_channels, 7)
        self.conv_cat = ConvBN(4 * out_channels, out_channels, 3, padding=1)
        self.conv_res = ConvBN(in_channels, out_channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        branches = torch.cat([self.branch0(x), self.branch1(x), self.branch2(x), self.branch3(x)], dim=1)
        return F.relu(self.conv_cat(branches) + self.conv_res(x))


class DoubleConv(nn.Module):
    """Twice a 3x3 convolution, BatchNorm and ReLU."""

    def __init__(self, in_channels: int, out_channels: int, mid_channels: int) -> None:
        super().__init__()
        self.double_conv = nn.Sequential(
            nn.Conv2d(in_channels, mid_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(mid_channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(mid_channels, out_channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(out_channels),
            nn.ReLU(inplace=True),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        return self.double_conv(x)


class Up(nn.Module):
    """Decoder stage: the coarser map is enlarged to the finer one's size, both are joined and convolved.

    Args:
        in_channels: channels of both maps together.
        out_channels: channels of the result.
    """

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = DoubleConv(in_channels, out_channels, in_channels // 2)

    def forward(self, coarse: Tensor, fine: Tensor) -> Tensor:
        """Join ``coarse`` (B, C, H / 2, W / 2) and ``fine`` (B, C, H, W) to (B, out_channels, H, W)."""
        size = [fine.shape[2], fine.shape[3]]
        coarse = F.interpolate(coarse, size=size, mode="bilinear", align_corners=True)
        return self.conv(torch.cat([fine, coarse], dim=1))

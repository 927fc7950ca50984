# SPDX-License-Identifier: Apache-2.0
"""The network rebuilt for inference: the same function from fewer and larger operators."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks.blocks import RFB, Adapter, ConvBN, DoubleConv
from monai_sam2unet.networks.hiera_blocks import MultiScaleBlock
from monai_sam2unet.networks.lora import merge_lora
from monai_sam2unet.networks.packed_linear import PackedLinear, can_pack

__all__ = ["FoldedRFB", "optimize_for_inference"]

Network = TypeVar("Network", bound=nn.Module)


def _folded(layer: ConvBN) -> nn.Conv2d:
    return fuse_conv_bn_eval(layer.conv, layer.bn)


class FoldedRFB(nn.Module):
    """An RFB for inference: BatchNorm folded, and the five 1x1 convolutions of its input done as one.

    Args:
        rfb: the block to take the values of.
    """

    def __init__(self, rfb: RFB) -> None:
        super().__init__()
        branches: tuple[Any, ...] = (rfb.branch0, rfb.branch1, rfb.branch2, rfb.branch3)
        heads = [_folded(layer) for layer in (rfb.conv_res, *(branch[0] for branch in branches))]
        self.heads = nn.Conv2d(heads[0].in_channels, sum(head.out_channels for head in heads), 1)
        self.heads.weight = nn.Parameter(torch.cat([head.weight for head in heads]))
        self.heads.bias = nn.Parameter(torch.cat([head.bias for head in heads if head.bias is not None]))
        self.tails = nn.ModuleList(nn.Sequential(*map(_folded, branch[1:])) for branch in branches[1:])
        self.conv_cat = _folded(rfb.conv_cat)

    def forward(self, x: Tensor) -> Tensor:
        """Map (B, in_channels, H, W) to (B, out_channels, H, W)."""
        heads = self.heads(x).chunk(5, dim=1)
        branches = [heads[1]]
        for i, tail in enumerate(self.tails):
            branches.append(tail(heads[i + 2]))
        return F.relu(self.conv_cat(torch.cat(branches, dim=1)) + heads[0])


def _fold_double_conv(module: DoubleConv) -> None:
    layers: Any = module.double_conv
    conv1, bn1, relu1, conv2, bn2, relu2 = layers
    module.double_conv = nn.Sequential(fuse_conv_bn_eval(conv1, bn1), relu1, fuse_conv_bn_eval(conv2, bn2), relu2)


def _pack_block(block: Any) -> None:
    block.attn.qkv, block.attn.proj = PackedLinear(block.attn.qkv), PackedLinear(block.attn.proj)
    if block.expands:
        block.proj = PackedLinear(block.proj)
    first, last = block.mlp.layers
    block.mlp = nn.Sequential(PackedLinear(first, "gelu"), PackedLinear(last))


def _pack(network: nn.Module) -> None:
    adapters: list[Any] = [module for module in network.modules() if isinstance(module, Adapter)]
    for adapter in adapters:
        _pack_block(adapter.block)
        if adapter.adapts:
            first, _, last, _ = adapter.prompt_learn
            adapter.prompt_learn = nn.Sequential(PackedLinear(first, "gelu"), PackedLinear(last, "gelu"))


@torch.no_grad()
def optimize_for_inference(network: Network, *, dtype: torch.dtype | None = None, portable: bool = False) -> Network:
    """Copy a network into a form for inference only: the same function, less work and memory.

    BatchNorm and LoRA are folded into the layers before them, the five 1x1 convolutions at the head of each RFB are
    one, the side outputs are gone, and convolutions are laid out channels last, as the encoder's tokens are. On a CPU
    the linear layers are packed for oneDNN, where torch can.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`; it stays as it is.
        dtype: type in which the weights are stored and the work is done: ``torch.bfloat16`` on CPUs and GPUs that have
            it, ``torch.float16`` on GPUs; None keeps the network's. The logits are float32 all the same.
        portable: keep to torch's public operators, so that the result can be scripted, exported and moved to another
            device. The memory layout then is left to whoever runs it.

    Returns:
        A network of the same class in evaluation mode; it takes the same images. It is not for training; packed for
        a CPU it gives no gradient at all, and stays on the CPU in the type that it has.

    Raises:
        ConfigError: When ``network`` is no SAM2UNet, was rebuilt before, or ``dtype`` is not floating point.

    Example:
        >>> import torch
        >>> from monai_sam2unet.networks import SAM2UNet
        >>> net = SAM2UNet(size="tiny").eval()
        >>> fast = net.optimize_for_inference()
        >>> image = torch.rand(1, 3, 64, 64)
        >>> with torch.inference_mode():
        ...     torch.allclose(fast(image), net(image), atol=1e-5)
        True
    """
    if dtype is not None and not dtype.is_floating_point:
        raise ConfigError(f"dtype must be a floating-point type such as torch.bfloat16, got {dtype}.")
    if isinstance(getattr(network, "rfb1", None), FoldedRFB):
        raise ConfigError("This network was rebuilt for inference already; give the one that it was made of.")
    if not isinstance(getattr(network, "rfb1", None), RFB):
        raise ConfigError(
            f"optimize_for_inference takes a SAM2UNet, got {type(network).__name__}. "
            "Take a network out of DistributedDataParallel (`.module`) or torch.compile (`._orig_mod`) first."
        )
    # Layers in training mode are not folded.
    fast: Any = copy.deepcopy(network).eval()
    fast.deep_supervision = False
    fast.side1, fast.side2 = nn.Identity(), nn.Identity()
    for name in ("rfb1", "rfb2", "rfb3", "rfb4"):
        setattr(fast, name, FoldedRFB(getattr(fast, name)))
    for module in fast.modules():
        if isinstance(module, DoubleConv):
            _fold_double_conv(module)
        elif isinstance(module, MultiScaleBlock):
            module.attn.qkv = merge_lora(module.attn.qkv)
    fast.requires_grad_(False)
    if dtype is not None:
        # Folding is done in the type that the network was trained in.
        fast.to(dtype)
    if not portable:
        fast.to(memory_format=torch.channels_last)
        if all(can_pack(module.weight) for module in fast.modules() if isinstance(module, nn.Linear)):
            _pack(fast)
    return fast.eval()

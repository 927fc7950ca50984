# SPDX-License-Identifier: Apache-2.0
"""SAM2-UNet: a frozen SAM 2 encoder with adapters, receptive-field blocks and a U-shaped decoder."""

import logging
from typing import Final, Union

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks.blocks import RFB, Adapter, Up
from monai_sam2unet.networks.hiera import Hiera
from monai_sam2unet.networks.hiera_blocks import MultiScaleBlock
from monai_sam2unet.networks.inference_network import optimize_for_inference
from monai_sam2unet.networks.lora import LoRALinear
from monai_sam2unet.networks.weights import load_weights
from monai_sam2unet.networks.windows import padding_to_multiple

__all__ = ["SAM2UNet"]

logger = logging.getLogger(__name__)


class SAM2UNet(nn.Module):
    """SAM2-UNet for 2D segmentation.

    Xiong et al., "SAM2-UNet: Segment Anything 2 Makes Strong Encoder for Natural and Medical Image Segmentation",
    arXiv 2408.08870. The parameters are named as in the released code, whose checkpoints load unchanged.

    Args:
        in_channels: channels of the input image. With 3 the published patch embedding is used as it is. With 1 its
            filters are summed, which equals repeating the channel. With any other number (neighbouring slices, say)
            it starts from the filters' mean and is trained.
        out_channels: channels of the output logits: 1 for a binary mask, else one per class.
        size: size of the encoder: ``"tiny"``, ``"small"``, ``"base_plus"`` or ``"large"`` (the paper's).
        adapter_channels: width of the adapters' bottleneck; 32 in the paper, 0 for none. A frozen encoder without
            adapters and LoRA serves the decoder as it is ("linear probe").
        zero_init_adapters: whether the adapters' last layers start at zero, so that the encoder at first computes what
            it was trained to. False leaves them at torch's random values, as the released code does.
        lora_rank: rank of a change that each block's queries, keys and values learn (LoRA, Hu et al.,
            arXiv 2106.09685), beside the adapters or instead of them; 0 for none.
        lora_alpha: strength of that change, above 0; None takes ``lora_rank``, a scale of 1.
        decoder_channels: channels of the RFBs and of the decoder; 64 in the paper.
        dropout: probability, in [0, 1), of dropping a whole channel before each output convolution.
        deep_supervision: whether a training pass returns the two side outputs too. Without it their convolutions
            take no part and require no gradient.
        freeze_encoder: whether the encoder's own parameters are kept as they are. Plain full fine-tuning is False with
            ``adapter_channels`` and ``lora_rank`` 0.
        unfrozen_stages: how many of the frozen encoder's four stages, counted from the last, are trained after all.
        use_checkpoint: recompute each encoder block in the backward pass: less memory, more time.
        weights: pretrained weights, see :func:`monai_sam2unet.networks.load_weights`. None or ``"random"`` leaves the
            encoder at random values: for comparison, or to load a checkpoint afterwards.

    Raises:
        ConfigError: When ``size`` is not known; a number of channels is no whole number of at least 1, those of the
            adapters of at least 0; ``lora_rank`` is no whole number from 0 to the channels of the first stage;
            ``lora_alpha`` is not above 0, or given without ``lora_rank``; ``dropout`` is outside [0, 1); or
            ``unfrozen_stages`` is no whole number in 0..4, or given where the encoder is not frozen.
        monai_sam2unet.networks.WeightsError: When ``weights`` cannot be found, read or does not fit.

    Example:
        >>> import torch
        >>> from monai_sam2unet.networks import SAM2UNet
        >>> net = SAM2UNet(in_channels=1, out_channels=4, size="tiny").eval()
        >>> tuple(net(torch.zeros(1, 1, 50, 75)).shape)
        (1, 4, 50, 75)
    """

    stride: Final[int] = 32
    """Pixels that one token of the coarsest feature map covers; inputs are padded to a multiple of it."""

    deep_supervision: Final[bool]

    def __init__(
        self,
        in_channels: int = 3,
        out_channels: int = 1,
        size: str = "large",
        *,
        adapter_channels: int = 32,
        zero_init_adapters: bool = True,
        lora_rank: int = 0,
        lora_alpha: float | None = None,
        decoder_channels: int = 64,
        dropout: float = 0.0,
        deep_supervision: bool = False,
        freeze_encoder: bool = True,
        unfrozen_stages: int = 0,
        use_checkpoint: bool = False,
        weights: str | None = None,
    ) -> None:
        super().__init__()
        for name, value, least in (
            ("out_channels", out_channels, 1),
            ("adapter_channels", adapter_channels, 0),
            ("lora_rank", lora_rank, 0),
            ("decoder_channels", decoder_channels, 1),
        ):
            if not isinstance(value, int) or value < least:
                raise ConfigError(f"{name} must be a whole number of at least {least}, got {value}.")
        if lora_alpha is not None and lora_rank == 0:
            raise ConfigError(f"lora_alpha {lora_alpha} has no effect without LoRA; give lora_rank, or leave it out.")
        if not 0 <= dropout < 1:
            raise ConfigError(f"dropout must lie in [0, 1), got {dropout}.")
        self.deep_supervision = deep_supervision
        self.encoder = Hiera(size, in_channels, use_checkpoint)
        channels = self.encoder.channels
        self.rfb1, self.rfb2, self.rfb3, self.rfb4 = (RFB(c, decoder_channels) for c in channels)
        self.up1, self.up2, self.up3 = (Up(2 * decoder_channels, decoder_channels) for _ in range(3))
        self.side1, self.side2, self.head = (nn.Conv2d(decoder_channels, out_channels, 1) for _ in range(3))
        self.dropout = nn.Dropout2d(dropout)

        self._freeze(freeze_encoder, unfrozen_stages)
        # Filters averaged over the colours cannot tell one channel from another: they must be learnt.
        if in_channels not in (1, 3):
            self.encoder.patch_embed.requires_grad_(True)
        self._insert_adapters(adapter_channels, zero_init_adapters, lora_rank, lora_alpha)
        # Distributed training waits for a gradient of every parameter that asks for one.
        self.side1.requires_grad_(deep_supervision)
        self.side2.requires_grad_(deep_supervision)
        if weights not in (None, "random"):
            logger.info(str(load_weights(self, weights)))

    def _freeze(self, freeze_encoder: bool, unfrozen_stages: int) -> None:
        known = isinstance(unfrozen_stages, int) and not isinstance(unfrozen_stages, bool) and 0 <= unfrozen_stages <= 4
        if not known or (unfrozen_stages and not freeze_encoder):
            raise ConfigError(
                f"unfrozen_stages must be a whole number in 0..4, and 0 with freeze_encoder False, which trains them "
                f"all; got {unfrozen_stages}."
            )
        self.encoder.requires_grad_(not freeze_encoder)
        ends = [-1, *self.encoder.stage_ends]
        for block in self.encoder.blocks[ends[4 - unfrozen_stages] + 1 :]:
            block.requires_grad_(True)

    def _insert_adapters(
        self, adapter_channels: int, zero_init: bool, lora_rank: int, lora_alpha: float | None
    ) -> None:
        for i, block in enumerate(self.encoder.blocks):
            if isinstance(block, MultiScaleBlock):
                if lora_rank > 0:
                    block.attn.qkv = LoRALinear(block.attn.qkv, lora_rank, lora_alpha)
                self.encoder.blocks[i] = Adapter(block, block.attn.qkv.in_features, adapter_channels, zero_init)

    def _decode(self, x: Tensor) -> list[Tensor]:
        """Decoder maps of a padded image, finest first, at strides 4, 8 and 16."""
        features = self.encoder(x)
        x3 = self.up1(self.rfb4(features[3]), self.rfb3(features[2]))
        x2 = self.up2(x3, self.rfb2(features[1]))
        x1 = self.up3(x2, self.rfb1(features[0]))
        return [x1, x2, x3]

    def _enlarge(self, logits: Tensor, stride: int, height: int, width: int) -> Tensor:
        if logits.dtype == torch.float16 or logits.dtype == torch.bfloat16:
            # Interpolated in 8 bits of mantissa, the mask's border would go in steps.
            logits = logits.float()
        size = [logits.shape[2] * stride, logits.shape[3] * stride]
        return F.interpolate(logits, size=size, mode="bilinear", align_corners=False)[:, :, :height, :width]

    def forward(self, x: Tensor) -> Union[Tensor, list[Tensor]]:
        """Segment an image.

        Args:
            x: image (B, in_channels, H, W) of any H and W, floating point, normalised. Where 32 does not divide H or W
                the image is continued at the bottom and right by its edge pixels, and the result is cut back.

        Returns:
            Logits (B, out_channels, H, W). While training with ``deep_supervision``, a list of three such tensors:
            the main output, then the side outputs at strides 8 and 16 (``side2`` and ``side1`` of the paper's code).
            They are float32 also under autocast and where the weights are stored in 16 bits.
        """
        height, width = x.shape[2], x.shape[3]
        rest = [0, padding_to_multiple(width, self.stride), 0, padding_to_multiple(height, self.stride)]
        maps = self._decode(F.pad(x, rest, mode="replicate").to(self.head.weight.dtype))
        main = self._enlarge(self.head(self.dropout(maps[0])), 4, height, width)
        if torch.jit.is_scripting():
            return main
        else:
            if not (self.deep_supervision and self.training):
                return main
            side2 = self._enlarge(self.side2(self.dropout(maps[1])), 8, height, width)
            side1 = self._enlarge(self.side1(self.dropout(maps[2])), 16, height, width)
            return [main, side2, side1]

    @torch.jit.unused
    def optimize_for_inference(self, *, dtype: torch.dtype | None = None, portable: bool = False) -> "SAM2UNet":
        """Copy the network into a form for inference only, see :mod:`monai_sam2unet.networks.inference_network`."""
        return optimize_for_inference(self, dtype=dtype, portable=portable)

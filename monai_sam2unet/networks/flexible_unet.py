# SPDX-License-Identifier: Apache-2.0
"""The encoder of SAM 2 as a backbone of MONAI's FlexibleUNet.

Importing this module registers ``sam2_hiera_tiny``, ``sam2_hiera_small``, ``sam2_hiera_base_plus`` and
``sam2_hiera_large``. :mod:`monai_sam2unet.networks` does not import it: MONAI's networks take far longer to import than
ours. A bundle's config says ``imports: [$import monai_sam2unet.networks.flexible_unet]``.
"""

from typing import Any

from monai.networks.blocks import BaseEncoder
from monai.networks.nets import FLEXUNET_BACKBONE
from torch import Tensor, nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks.hiera import HIERA_SPECS, Hiera
from monai_sam2unet.networks.weights import load_weights

__all__ = ["FlexibleUNetEncoder"]

STEM_CHANNELS = 32


class FlexibleUNetEncoder(nn.Module, BaseEncoder):
    """Hiera and a small stem, giving the five feature maps that MONAI's FlexibleUNet decodes.

    FlexibleUNet wants its first map at half the image's size, and Hiera's first is at a quarter. What is missing there
    is detail, which no map of Hiera has: a 3x3 convolution of stride 2 with BatchNorm and ReLU, as EfficientNet begins,
    reads it from the image. It is trained from random values.

    The whole encoder is trained unless ``encoder.hiera.requires_grad_(False)`` freezes it.

    Args:
        size: ``"tiny"``, ``"small"``, ``"base_plus"`` or ``"large"``.
        spatial_dims: 2; the encoder knows no other.
        in_channels: channels of the input image, at least 1. Published filters, made for 3, are averaged over the
            colours for any other number.
        pretrained: True loads Meta's SAM 2.1 encoder; a text names other weights, as
            :func:`~monai_sam2unet.networks.load_weights` takes them.

    Attributes:
        hiera: the :class:`~monai_sam2unet.networks.Hiera`, for ``load_weights``.

    Raises:
        ConfigError: When ``spatial_dims`` is not 2, ``size`` is not known or ``in_channels`` is below 1.
        monai_sam2unet.networks.WeightsError: When the weights cannot be found, read or do not fit.

    Example:
        >>> import torch
        >>> from monai.networks.nets import FlexibleUNet
        >>> import monai_sam2unet.networks.flexible_unet
        >>> net = FlexibleUNet(in_channels=1, out_channels=2, backbone="sam2_hiera_tiny", pretrained=False).eval()
        >>> tuple(net(torch.zeros(1, 1, 64, 96)).shape)
        (1, 2, 64, 96)
    """

    def __init__(self, size: str, spatial_dims: int = 2, in_channels: int = 3, pretrained: bool | str = False) -> None:
        super().__init__()
        if spatial_dims != 2:
            raise ConfigError(
                f"The backbone sam2_hiera_{size} is for images: spatial_dims must be 2, got {spatial_dims}. For "
                "volumes run a 2D network slice by slice (monai_sam2unet.inferers.SliceWiseInferer)."
            )
        self.hiera = Hiera(size, in_channels)
        self.stem = nn.Sequential(
            nn.Conv2d(in_channels, STEM_CHANNELS, kernel_size=3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(STEM_CHANNELS),
            nn.ReLU(inplace=True),
        )
        if pretrained:
            load_weights(self.hiera, "sam2.1" if pretrained is True else pretrained)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Encode an image.

        Args:
            x: image (B, in_channels, H, W), normalised; H and W must be multiples of 32.

        Returns:
            Five maps, finest first: (B, C_i, H / 2**i, W / 2**i) for i = 1..5.

        Raises:
            ConfigError: When 32 does not divide H or W.
        """
        if x.shape[2] % 32 != 0 or x.shape[3] % 32 != 0:
            raise ConfigError(
                f"Height and width must be multiples of 32, got {x.shape[2]} and {x.shape[3]}; pad the image, for "
                "example by MONAI's DivisiblePadd(k=32)."
            )
        maps: list[Tensor] = self.hiera(x)
        maps.insert(0, self.stem(x))
        return maps

    @classmethod
    def get_encoder_parameters(cls) -> list[dict[str, Any]]:
        """Arguments that make each of the encoders."""
        shared = {"spatial_dims": 2, "in_channels": 3, "pretrained": False}
        return [{"size": size, **shared} for size in HIERA_SPECS]

    @classmethod
    def num_channels_per_output(cls) -> list[tuple[int, ...]]:
        """Channels of each encoder's five maps."""
        return [(STEM_CHANNELS, *(s.embed_dim * 2**i for i in range(4))) for s in HIERA_SPECS.values()]

    @classmethod
    def num_outputs(cls) -> list[int]:
        """Number of each encoder's maps."""
        return [5 for _ in HIERA_SPECS]

    @classmethod
    def get_encoder_names(cls) -> list[str]:
        """Names to give as FlexibleUNet's ``backbone``."""
        return [f"sam2_hiera_{size}" for size in HIERA_SPECS]


FLEXUNET_BACKBONE.register_class(FlexibleUNetEncoder)

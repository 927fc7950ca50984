# SPDX-License-Identifier: Apache-2.0
"""What a user would pick instead: the same network on transformers' encoder, and other networks of similar size."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from importlib.util import find_spec

import torch
from monai.networks.nets import FlexibleUNet, SegResNet, SwinUNETR
from torch import Tensor, nn

from benchmarks.network.forms import Built, Form, Setting, Unavailable, Workbench
from monai_sam2unet.networks import HIERA_SPECS, SAM2UNet
from monai_sam2unet.networks.blocks import Adapter
from monai_sam2unet.networks.layouts import TRANSFORMERS_NAMES, renamed

__all__ = ["PEERS", "PEER_NETWORKS", "on_transformers_encoder"]

# Widths that give as many parameters as SAM2-UNet of each size has: 29, 37, 72 and 216 million.
SWIN_WIDTHS = {"tiny": 48, "small": 60, "base_plus": 84, "large": 144}
SEGRESNET_WIDTHS = {"tiny": 64, "small": 80, "base_plus": 104, "large": 192}


class TransformersEncoder(nn.Module):
    """transformers' Hiera with the adapters of SAM2-UNet.

    Args:
        size: size of the encoder.

    Raises:
        Unavailable: When transformers is not installed, or has no SAM 2.
    """

    def __init__(self, size: str) -> None:
        super().__init__()
        try:
            theirs = importlib.import_module("transformers.models.sam2.modeling_sam2")
        except ImportError as error:
            raise Unavailable("transformers with SAM 2 is not installed: pip install 'transformers>=4.56'") from error
        spec = HIERA_SPECS[size]
        config = theirs.Sam2HieraDetConfig(
            hidden_size=spec.embed_dim,
            num_attention_heads=spec.num_heads,
            blocks_per_stage=list(spec.stages),
            embed_dim_per_stage=[spec.embed_dim * 2**i for i in range(4)],
            num_attention_heads_per_stage=[spec.num_heads * 2**i for i in range(4)],
            window_size_per_stage=list(spec.window_sizes),
            global_attention_blocks=list(spec.global_blocks),
            window_positional_embedding_background_size=[spec.pos_embed_size] * 2,
        )
        self.model = theirs.Sam2HieraDetModel(config).requires_grad_(False)
        for i, block in enumerate(self.model.blocks):
            self.model.blocks[i] = Adapter(block, block.dim, 32)

    def forward(self, x: Tensor) -> list[Tensor]:
        """Four maps of an image (B, 3, H, W), finest first."""
        return [feature.permute(0, 3, 1, 2) for feature in self.model(x).intermediate_hidden_states]


def on_transformers_encoder(network: SAM2UNet) -> SAM2UNet:
    """Put transformers' encoder in place of ours, with the same adapters and weights.

    Args:
        network: changed in place; a network of three channels and adapters of 32.
    """
    own = network.encoder.state_dict()
    encoder = TransformersEncoder(network.encoder.size)
    encoder.model.load_state_dict({name: own[renamed(name, TRANSFORMERS_NAMES)] for name in encoder.model.state_dict()})
    network.add_module("encoder", encoder.to(own["pos_embed"].device))
    return network


def _transformers(setting: Setting) -> nn.Module:
    bench = Workbench(setting)
    return on_transformers_encoder(bench.trainable(deep_supervision=True))


def _flexible_unet(setting: Setting) -> nn.Module:
    return FlexibleUNet(3, 1, "efficientnet-b4", pretrained=False, spatial_dims=2)


def _swin_unetr(setting: Setting) -> nn.Module:
    if find_spec("einops") is None:
        raise Unavailable("MONAI's SwinUNETR needs einops: pip install einops")
    return SwinUNETR(3, 1, feature_size=SWIN_WIDTHS[setting.size], spatial_dims=2)


def _segresnet(setting: Setting) -> nn.Module:
    return SegResNet(2, SEGRESNET_WIDTHS[setting.size], 3, 1)


def _smp_unet(setting: Setting) -> nn.Module:
    try:
        library = importlib.import_module("segmentation_models_pytorch")
    except ImportError as error:
        raise Unavailable("segmentation_models_pytorch is not installed") from error
    network: nn.Module = library.Unet("efficientnet-b4", encoder_weights=None, in_channels=3, classes=1)
    return network


#: Key -> name in the table, and what makes the network with everything trained that its users would train.
PEER_NETWORKS: dict[str, tuple[str, Callable[[Setting], nn.Module]]] = {
    "transformers": ("transformers' Hiera, our decoder", _transformers),
    "flexible-unet": ("MONAI FlexibleUNet efficientnet-b4", _flexible_unet),
    "swin-unetr": ("MONAI SwinUNETR", _swin_unetr),
    "segresnet": ("MONAI SegResNet", _segresnet),
    "smp-unet": ("segmentation_models_pytorch Unet efficientnet-b4", _smp_unet),
}


def _form(key: str, label: str, make: Callable[[Setting], nn.Module]) -> Form:
    def build(bench: Workbench, batch: int) -> Built:
        torch.manual_seed(0)
        network = make(bench.setting).to(bench.device).eval()
        return Built(network, network)

    return Form(key, label, "peers", "fp32", build)


PEERS = tuple(_form(key, label, make) for key, (label, make) in PEER_NETWORKS.items())

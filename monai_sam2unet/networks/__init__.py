# SPDX-License-Identifier: Apache-2.0
"""The network and everything that reads or writes its parameters; imports no other subpackage."""

from monai_sam2unet.networks.hiera import HIERA_SPECS, Hiera, HieraSpec
from monai_sam2unet.networks.inference_network import optimize_for_inference
from monai_sam2unet.networks.light_checkpoint import frozen_sha256, light_state_dict
from monai_sam2unet.networks.lora import LoRALinear, merge_lora
from monai_sam2unet.networks.mean_network import MeanNetwork
from monai_sam2unet.networks.sam2unet import SAM2UNet
from monai_sam2unet.networks.weights import WeightsError, WeightsReport, load_weights

__all__ = [
    "HIERA_SPECS",
    "Hiera",
    "HieraSpec",
    "LoRALinear",
    "MeanNetwork",
    "SAM2UNet",
    "WeightsError",
    "WeightsReport",
    "frozen_sha256",
    "light_state_dict",
    "load_weights",
    "merge_lora",
    "optimize_for_inference",
]

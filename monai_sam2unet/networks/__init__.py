# SPDX-License-Identifier: Apache-2.0
"""The network and everything that reads or writes its parameters; imports no other subpackage."""

from monai_sam2unet.networks.hiera import HIERA_SPECS, Hiera, HieraSpec
from monai_sam2unet.networks.light_checkpoint import frozen_sha256, light_state_dict
from monai_sam2unet.networks.sam2unet import SAM2UNet
from monai_sam2unet.networks.weights import WeightsError, WeightsReport, load_weights

__all__ = [
    "HIERA_SPECS",
    "Hiera",
    "HieraSpec",
    "SAM2UNet",
    "WeightsError",
    "WeightsReport",
    "frozen_sha256",
    "light_state_dict",
    "load_weights",
]

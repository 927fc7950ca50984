# SPDX-License-Identifier: Apache-2.0
"""Transforms as MONAI has them: an array version ``X`` and a dictionary version ``Xd``."""

from monai_sam2unet.transforms.color_jitter import RandColorJitter, RandColorJitterd

__all__ = ["RandColorJitter", "RandColorJitterd"]

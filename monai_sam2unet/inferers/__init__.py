# SPDX-License-Identifier: Apache-2.0
"""How a network is run on a batch."""

from monai_sam2unet.inferers.autocast_inferer import AutocastInferer

__all__ = ["AutocastInferer"]

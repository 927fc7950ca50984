# SPDX-License-Identifier: Apache-2.0
"""SAM2-UNet for MONAI: 2D medical segmentation on a frozen Segment Anything 2 encoder."""

__version__ = "0.1.0"

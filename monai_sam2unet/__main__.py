# SPDX-License-Identifier: Apache-2.0
"""``python -m monai_sam2unet`` is the console command ``sam2unet``."""

from monai_sam2unet.cli import main

if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Where the series of a batch come from."""

from monai_sam2unet.batch.sources.find_jobs import find_jobs

__all__ = ["find_jobs"]

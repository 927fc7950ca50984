# SPDX-License-Identifier: Apache-2.0
"""Makes bundles: what a bundle is for, and the files that follow from it."""

from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.bundle_writer import render_configs, render_readme, write_bundle

__all__ = ["BundlePlan", "render_configs", "render_readme", "write_bundle"]

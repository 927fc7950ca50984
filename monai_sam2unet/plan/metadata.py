# SPDX-License-Identifier: Apache-2.0
"""What a bundle says of itself: its `metadata.json`."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import Any

from monai_sam2unet.dicom.segments import planned_segments, segment_attributes
from monai_sam2unet.plan.bundle_plan import BundlePlan

__all__ = ["bundle_metadata", "references_of"]

_SCHEMA = "https://project-monai.github.io/schema/meta_schema_20240725.json"
_PACKAGES = (
    "nibabel", "pydicom", "pytorch-ignite", "scipy", "pandas", "matplotlib", "jinja2", "pillow", "rich", "safetensors",
    "scikit-image", "tensorboard", "tqdm",
)  # fmt: skip
_REFERENCES = (
    "Xiong et al. SAM2-UNet: Segment Anything 2 Makes Strong Encoder for Natural and Medical Image Segmentation. "
    "arXiv 2408.08870",
    "Ravi et al. SAM 2: Segment Anything in Images and Videos. arXiv 2408.00714",
)
_DESCRIPTION = (
    "SAM2-UNet: the frozen image encoder of Segment Anything 2 with adapters, receptive-field blocks and a U-shaped "
    "decoder, for {objects} in {images}"
)


def _version(package: str) -> str:
    return version(package).split("+")[0]


def _gray_channels(plan: BundlePlan) -> tuple[str, ...]:
    """What the three channels of gray images are: one repeated, or the windows of CT."""
    windows = plan.windows if isinstance(plan.windows, tuple) and len(plan.windows) == 3 else ("gray",) * 3
    return tuple(str(window) for window in windows)


def _image_classes(plan: BundlePlan) -> str:
    if plan.is_volume:
        return "volume of one channel, " + ("Hounsfield units" if plan.modality == "ct" else "gray")
    is_rgb = plan.picture == "rgb"
    return "three channels, RGB, 8 bit" if is_rgb else "one channel, gray, 8 or 16 bit"


def _network_data_format(plan: BundlePlan) -> dict[str, Any]:
    side = ["32 * n", "32 * n"]
    common = {"spatial_shape": side, "dtype": "float32", "is_patch_data": plan.sliding_window}
    names = ("background", *plan.classes) if plan.classes else (plan.object,)
    is_rgb = plan.picture == "rgb"
    image = {
        "type": "image",
        "format": "RGB" if is_rgb else "hounsfield" if plan.modality == "ct" else "magnitude",
        "modality": plan.modality,
        "num_channels": 3,
        "value_range": [-2.2, 2.7],
        "channel_def": dict(zip("012", ("red", "green", "blue") if is_rgb else _gray_channels(plan), strict=True)),
    }
    pred = {
        "type": "logits",
        "format": "segmentation",
        "num_channels": plan.out_channels,
        "value_range": [],
        "channel_def": {str(number): name for number, name in enumerate(names)},
    }
    return {"inputs": {"image": {**image, **common}}, "outputs": {"pred": {**pred, **common}}}


def references_of(plan: BundlePlan) -> list[str]:
    """Publications on the network, and those on the plan's data and task."""
    return [*_REFERENCES, *plan.references]


def bundle_metadata(plan: BundlePlan) -> str:
    """The text of a bundle's `metadata.json`, as MONAI's model zoo asks for it.

    Args:
        plan: what the bundle is for.

    Returns:
        JSON; the versions of packages are those that are installed.
    """
    if plan.classes:
        named = ", ".join(f"{number} {name}" for number, name in enumerate(plan.classes, 1))
        labels = predictions = f"one channel of class indices, 0 everything else, {named}"
    else:
        labels = f"one channel, 255 {plan.object}, 0 everything else"
        predictions = f"one channel, 1 {plan.object}, 0 everything else"
    content = {
        "schema": _SCHEMA,
        "version": plan.version,
        "changelog": plan.changelog,
        "monai_version": _version("monai"),
        "pytorch_version": _version("torch"),
        "numpy_version": _version("numpy"),
        "required_packages_version": {package: _version(package) for package in _PACKAGES},
        "supported_apps": {},
        "name": plan.title,
        "task": f"Segmentation of {plan.objects} in {plan.images}",
        "description": _DESCRIPTION.format(objects=plan.objects, images=plan.images),
        "authors": "monai_sam2unet contributors",
        "copyright": "Copyright (c) monai_sam2unet contributors",
        "data_source": f"{plan.data_source}; not part of the bundle",
        "data_type": "nifti" if plan.is_volume else "png",
        "image_classes": _image_classes(plan),
        "label_classes": labels,
        "pred_classes": predictions,
        "eval_metrics": {},
        "intended_use": "Research. Not a medical device; not for diagnosis.",
        "references": references_of(plan),
        "network_data_format": _network_data_format(plan),
        "segmentAttributes": segment_attributes(planned_segments(plan.class_names, plan.segments)),
    }
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"

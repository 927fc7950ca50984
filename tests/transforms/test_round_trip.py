# SPDX-License-Identifier: Apache-2.0
"""Real labels to the network's size and back to the source's grid."""

from __future__ import annotations

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from PIL import Image

from monai_sam2unet.inferers import SliceWiseInferer
from monai_sam2unet.transforms import Preset, VolumeToSlices
from monai_sam2unet.transforms.pixel_size import known_spacing

VOLUMES = [
    ("acdc", "mr", 1, 352),
    ("msd-hippocampus", "mr", 2, 352),
    ("sct-spine", "mr", 2, 352),
    ("totalseg-example", "ct", 1, 352),
    ("dicom", "ct", 1, 512),
]
PICTURES = [("polyp", "endoscopy"), ("busi", "ultrasound"), ("cxr-lungs", "xray"), ("isic2017", "dermoscopy")]


def cases(shared_data: Path, name: str, count: int) -> list[dict[str, str]]:
    if name == "dicom":
        series = shared_data / "dicom" / "ct_series_j2k_with_seg"
        return [{"image": str(series / "ct"), "label": str(series / "example_seg_dicom.nii.gz")}]
    content = json.loads((shared_data / name / "dataset.json").read_text(encoding="utf-8"))
    items = [item for part in content.values() if isinstance(part, list) for item in part]
    return [{key: str(shared_data / name / item[key]) for key in ("image", "label")} for item in items[:count]]


def dice(a: torch.Tensor, b: torch.Tensor) -> float:
    return float(2 * (a & b).sum() / (a.sum() + b.sum()))


@pytest.mark.parametrize(("name", "modality", "count", "size"), VOLUMES)
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_volumes(shared_data, name, modality, count, size, plane):
    preset = Preset(modality, spatial_size=size, plane=plane)
    fit = preset.slice_transform.fit
    for item in cases(shared_data, name, count):
        loaded = preset.volumes()(item)
        label = loaded["label"]
        cut = VolumeToSlices(plane)(label)
        back = []
        for index, piece in enumerate(cut):
            found = torch.zeros_like(piece.as_tensor())
            classes = [c for c in piece.as_tensor().unique() if c > 0]
            if name == "dicom" and plane != "axial" and index % 32:
                classes = []  # 1024 slices of 512x20 pixels take minutes; every 32nd will do
            if classes:
                masks = torch.stack([piece.as_tensor()[0] == c for c in classes]).float()[None]
                plan = fit.plan(masks, spacing=known_spacing(piece))
                there = plan.forward(masks)
                assert there.shape[-2:] == (size, size)
                for mask, one, c in zip(masks[0].bool(), plan.inverse(there)[0] >= 0.5, classes, strict=True):
                    if mask.sum() > 100:
                        assert dice(mask, one) >= 0.99
                    found[0][one] = c
            back.append(found)
        volume = cut.inverse(back)
        assert volume.shape[1:] == loaded["image"].shape[1:]
        assert torch.equal(volume.affine, loaded["image"].affine)
        if name != "dicom":
            assert float((volume.as_tensor() == label.as_tensor()).float().mean()) > 0.999


@pytest.mark.parametrize(("name", "modality", "count", "size"), VOLUMES)
def test_the_inferers_result_lies_on_the_files_own_grid(shared_data, name, modality, count, size):
    item = cases(shared_data, name, 1)[0]
    preset = Preset(modality, spatial_size=size, plane="axial")
    image = preset.inference()({"image": item["image"]})["image"]
    pred = SliceWiseInferer.from_preset(preset)(image[None], lambda x: x[:, :1])[0]
    assert torch.equal(pred.affine.reshape(-1, 4, 4)[0], image.affine)
    mask = preset.postprocessing(threshold=0.5)({"pred": MetaTensor(pred, affine=image.affine)})["pred"]
    assert mask.shape == image.shape
    # The network gives (value - 0.485) / 0.229, of which a logit of 0 or more is foreground.
    expected = image.as_tensor() >= 0.485
    assert float((mask.as_tensor().bool() == expected).float().mean()) > 0.97
    if name != "dicom":
        source = nib.load(item["image"])
        assert image.shape[1:] == source.shape
        assert np.array_equal(mask.affine.numpy(), source.affine)


@pytest.mark.parametrize(("name", "modality"), PICTURES)
def test_pictures(shared_data, name, modality):
    preset = Preset(modality, mask_threshold=127.5)
    for item in cases(shared_data, name, 12):
        loaded = preset.evaluation()(item)
        mask = loaded["label"].as_tensor()[None]
        assert mask.shape[-2:] == np.asarray(Image.open(item["image"])).shape[:2]
        plan = preset.slice_transform.fit.plan(mask)
        back = plan.inverse(plan.forward(mask)) >= 0.5
        if mask.sum() > 100:
            assert dice(mask.bool(), back) >= 0.99

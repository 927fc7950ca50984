# SPDX-License-Identifier: Apache-2.0
"""The examples in the documentation run."""

from __future__ import annotations

import re

import nibabel as nib
import numpy as np
import pytest
import torch


@pytest.mark.slow
def test_the_volumes_page_runs_on_a_real_series(repository, shared_data, tmp_path, monkeypatch):
    series = shared_data / "dicom" / "ct_series_j2k_with_seg"
    folder = tmp_path / "studies" / "patient1"
    (folder / "ct").mkdir(parents=True)
    for file in sorted((series / "ct").iterdir())[:6]:
        (folder / "ct" / file.name).symlink_to(file)
    label = nib.load(series / "example_seg_dicom.nii.gz")
    monkeypatch.chdir(tmp_path)
    from monai_sam2unet.dicom import read_volume

    affine = read_volume(folder / "ct").affine
    first = round(float((np.linalg.inv(label.affine) @ affine @ [0, 0, 0, 1])[2]))
    last = round(float((np.linalg.inv(label.affine) @ affine @ [0, 0, 5, 1])[2]))
    low, high = sorted((first, last))
    nib.save(label.slicer[:, :, low : high + 1], folder / "labels.nii.gz")

    page = (repository / "docs" / "volumes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 3
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
        if "case" in names:  # a corner and a small network, since three views of it all take a CPU half an hour
            names["case"]["image"] = names["case"]["image"][:, 200:232, 200:232]
            names["network"] = torch.nn.Conv2d(3, 1, 3, padding=1).eval()
    assert names["uncertain"].shape == names["item"]["pred"].shape == (1, 32, 32, 6)
    written = nib.load(tmp_path / "out" / "patient1" / "ct_seg.nii.gz")
    assert written.get_data_dtype() == np.uint8
    assert written.shape == (512, 512, 6)
    assert np.allclose(written.affine, affine, atol=1e-3)
    assert names["batch"]["image"].shape == (4, 3, 352, 352)

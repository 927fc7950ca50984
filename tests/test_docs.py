# SPDX-License-Identifier: Apache-2.0
"""The examples in the documentation run."""

from __future__ import annotations

import importlib
import re

import nibabel as nib
import numpy as np
import pytest
import torch
import yaml

from monai_sam2unet import handlers, metrics
from monai_sam2unet.evaluation.columns import LOWER_IS_BETTER


@pytest.mark.slow
def test_the_volumes_page_runs_on_a_real_series(
    repository, shared_data, make_dicom_volume, make_segmentation, tmp_path, monkeypatch
):
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

    masks = {"first": np.zeros((512, 512, 6)), "second": np.zeros((512, 512, 6))}
    masks["first"][:9, :8, 0] = masks["second"][20:24, :8, 5] = 1
    # highdicom takes no series with as little in its headers as the real one has.
    make_segmentation(folder / "seg.dcm", make_dicom_volume(tmp_path / "made", masks["first"], affine), masks)

    page = (repository / "docs" / "volumes.md").read_text(encoding="utf-8")
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 4
    names: dict[str, object] = {}
    for block in blocks:
        exec(block, names)
        # A corner and a small network, since three views of it all take a CPU half an hour.
        if "case" in names and names["case"]["image"].shape[1] > 32:
            names["case"]["image"] = names["case"]["image"][:, 200:232, 200:232]
            names["network"] = torch.nn.Conv2d(3, 1, 3, padding=1).eval()
    assert names["uncertain"].shape == names["item"]["pred"].shape == (1, 32, 32, 6)
    written = nib.load(tmp_path / "out" / "patient1" / "ct_seg.nii.gz")
    assert written.get_data_dtype() == np.uint8
    assert written.shape == (512, 512, 6)
    assert np.allclose(written.affine, affine, atol=1e-3)
    assert np.bincount(names["classes"].ravel())[1:].tolist() == [72, 32]
    assert names["batch"]["image"].shape == (4, 3, 352, 352)


def test_the_metrics_page_prints_what_it_says(repository, capsys):
    page = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    (printed,) = re.findall(r"```\n(1: clinical.*?)```", page, flags=re.DOTALL)
    exec(code, {})
    assert capsys.readouterr().out == printed


def test_the_metrics_page_names_what_exists(repository):
    page = (repository / "docs" / "metrics.md").read_text(encoding="utf-8")
    table = page.partition("| column in tables |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[2:]]
    assert len(rows) == 16
    for columns, classes, handler, better, _ in rows:
        for column in re.findall(r"`(\w+)`", columns):
            assert (column in LOWER_IS_BETTER) == (better == "lower"), column
        if classes and not classes.startswith("MONAI"):
            assert hasattr(metrics, re.findall(r"`(\w+)", classes)[0])
            assert hasattr(handlers, handler.strip("`"))
    for block in re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL):
        for target in re.findall(r"_target_: ([\w.]+)", block):
            module, _, name = (target if "." in target else f"monai.handlers.{target}").rpartition(".")
            assert hasattr(importlib.import_module(module), name), target
        assert yaml.safe_load(block)

# SPDX-License-Identifier: Apache-2.0
"""The examples of docs/exporting.md run, on files of the tests' network."""

from __future__ import annotations

import re

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from monai_sam2unet import cli
from monai_sam2unet.transforms import Preset


@pytest.fixture(scope="module")
def page(repository) -> str:
    return (repository / "docs" / "exporting.md").read_text(encoding="utf-8")


def test_the_python_of_the_page(
    page, onnx_file, openvino_file, program_file, script_file, phantoms, tmp_path, monkeypatch
) -> None:
    source = sorted((phantoms / "TestDataset" / "Phantom" / "images").iterdir())[0]
    Image.open(source).save(tmp_path / "image.png")
    for file in (onnx_file, openvino_file, openvino_file.with_suffix(".bin"), program_file, script_file):
        (tmp_path / file.name).symlink_to(file)
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    assert len(blocks) == 7
    names: dict[str, object] = {}
    found = []
    for block in blocks:
        exec(block, names)
        if "logits = " in block or "(logits,) = " in block:
            found.append(np.asarray(names["logits"]))
    assert len(found) == 4
    for logits in found[1:]:
        np.testing.assert_allclose(logits, found[0], atol=1e-5 * np.abs(found[0]).max())
    assert names["mask"].shape == Image.open(source).size[::-1]
    assert names["row"].relative < 1e-5
    prepared = Preset("endoscopy", spatial_size=352).inference()({"image": str(source)})["image"]
    assert np.abs(prepared.numpy() - names["image"][0]).max() < 1.01 / 255 / 0.224  # Pillow rounds to whole numbers


def test_the_commands_of_the_page_exist(page, repository) -> None:
    for block in re.findall(r"```bash\n(.*?)```", page, flags=re.DOTALL):
        for file in re.findall(r"(?<=[\s'/])configs/[\w/]+\.\w+", block):
            places = (repository, repository / "bundles" / "polyp_segmentation")
            assert any((place / file).is_file() for place in places), file
    options = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["export", "--help"]).stdout
    told = {"--bundle", "--size", "--in-channels", "--lora-rank", "--weights", "--spatial-size", "--precision"}
    assert told <= set(re.findall(r"--[a-z-]+", page))
    for option in told:
        assert option in options

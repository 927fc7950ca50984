# SPDX-License-Identifier: Apache-2.0
"""int8 models: what is int8 in them, how near they are to the network, and what is refused."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError, WeightsError
from monai_sam2unet.export import OpenVINONetwork
from monai_sam2unet.export.openvino_core import read_model
from monai_sam2unet.export.quantization import _kept_in_float, quantize_openvino
from monai_sam2unet.networks import SAM2UNet

openvino = pytest.importorskip("openvino")
pytest.importorskip("nncf")

PRODUCTS = ("Convolution", "FullyConnected", "FullyConnectedQuantizedLegacy")


def crops(photographs: Tensor) -> Iterator[Tensor]:
    """Sixteen pieces (1, 3, 128, 128) of two photographs."""
    for top in (0, 64, 96, 160):
        for left in (0, 192):
            yield photographs[:, :, top : top + 128, left : left + 128]


@pytest.fixture(scope="module")
def int8_file(openvino_file: Path, photographs: Tensor, folder: Path) -> Path:
    return quantize_openvino(openvino_file, crops(photographs), folder / "int8.xml")


@pytest.mark.slow
def test_logits_are_near_those_of_the_network(int8_file: Path, network: SAM2UNet, photographs: Tensor) -> None:
    with torch.inference_mode():
        expected = network(photographs)
    found = OpenVINONetwork(int8_file, num_threads=1)(photographs)
    error = (found - expected).norm() / (expected - expected.mean()).norm()
    assert 0 < error < 0.2


@pytest.mark.slow
def test_the_file_is_less_than_half_as_large(int8_file: Path, openvino_file: Path) -> None:
    assert int8_file.with_suffix(".bin").stat().st_size < 0.5 * openvino_file.with_suffix(".bin").stat().st_size


@pytest.mark.slow
def test_most_products_run_in_int8(int8_file: Path) -> None:
    runtime = OpenVINONetwork(int8_file, num_threads=1).compiled.get_runtime_model()
    infos = [node.get_rt_info() for node in runtime.get_ordered_ops()]
    kernels = [str(info["primitiveType"].value) for info in infos if info["layerType"].value in PRODUCTS]
    assert sum(kernel.lower().endswith("i8") for kernel in kernels) > 0.6 * len(kernels)


def test_kept_products_grow_with_the_stages(openvino_file: Path) -> None:
    model = read_model(openvino_file)
    kept = [set(_kept_in_float(model, stages)) for stages in range(5)]
    assert all(few < more for few, more in itertools.pairwise(kept))
    with_weights = [
        node.get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "MatMul" and node.input_value(1).get_node().get_type_name() == "Constant"
    ]
    # Tiny's twelve blocks have six linear layers each, adapters included, and the three that pool a seventh. Two
    # stages and the block after them are blocks 0 to 3; the adapter of block 4 comes before the border, too.
    assert len(with_weights) == 75
    assert [len(names & set(with_weights)) for names in kept] == [2, 15, 28, 71, 75]


def test_attention_patch_embedding_and_head_are_kept(openvino_file: Path) -> None:
    model = read_model(openvino_file)
    kept = set(_kept_in_float(model, 0))
    convolutions = [n.get_friendly_name() for n in model.get_ordered_ops() if n.get_type_name() == "Convolution"]
    assert kept & set(convolutions) == {convolutions[0], convolutions[-1]}
    after_softmax = {
        target.get_node().get_friendly_name()
        for node in model.get_ordered_ops()
        if node.get_type_name() == "Softmax"
        for target in node.output(0).get_target_inputs()
    }
    assert len(after_softmax) == 12
    assert after_softmax <= kept


def test_images_must_fit_the_model(openvino_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="takes images of shape"):
        quantize_openvino(openvino_file, [np.zeros((1, 1, 64, 64), dtype=np.float32)], tmp_path / "a.xml")
    with pytest.raises(DataError, match="takes images of shape"):
        quantize_openvino(openvino_file, [torch.zeros(3, 64, 64)], tmp_path / "a.xml")


def test_too_few_or_broken_images(openvino_file: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="at least 16 training images to find its ranges, got 15"):
        quantize_openvino(openvino_file, [torch.zeros(5, 3, 64, 64)] * 3, tmp_path / "a.xml")
    with pytest.raises(DataError, match="NaN"):
        quantize_openvino(openvino_file, [torch.full((16, 3, 64, 64), torch.nan)], tmp_path / "a.xml")


@pytest.mark.parametrize("options", [{"float_stages": 5}, {"float_stages": -1}, {"subset_size": 15}])
def test_options_out_of_range(openvino_file: Path, tmp_path: Path, options: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match=next(iter(options))):
        quantize_openvino(openvino_file, [], tmp_path / "a.xml", **options)


def test_other_models_are_refused(tmp_path: Path) -> None:
    image = openvino.opset13.parameter([1, 3, 8, 8], np.float32)
    model = openvino.Model([openvino.opset13.relu(image)], [image], "other")
    with pytest.raises(ConfigError, match="no exported SAM2UNet"):
        quantize_openvino(model, [], tmp_path / "a.xml")


def test_missing_files_and_wrong_names(openvino_file: Path, tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="no exported file"):
        quantize_openvino(tmp_path / "nothing.xml", [], tmp_path / "a.xml")
    with pytest.raises(ConfigError, match=r"must end in \.xml"):
        quantize_openvino(openvino_file, [], tmp_path / "a.onnx")


def test_missing_package(monkeypatch: pytest.MonkeyPatch, openvino_file: Path, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    with pytest.raises(ConfigError, match=r"pip install monai-sam2unet\[openvino\]"):
        quantize_openvino(openvino_file, [], tmp_path / "a.xml")

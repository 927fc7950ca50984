# SPDX-License-Identifier: Apache-2.0
"""OpenVINO models hold the network, for any size or for one, and say what they hold."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.export import export_openvino, network_facts
from monai_sam2unet.export.openvino_core import openvino_core, read_model

from .conftest import SIZES, random_images, relative_difference

openvino = pytest.importorskip("openvino")
pytest.importorskip("onnxscript")


def compiled(path):
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": 1}
    return openvino_core().compile_model(read_model(path), "CPU", config)


@pytest.fixture(scope="module")
def model(openvino_file):
    return compiled(openvino_file)


def run(model, images):
    return torch.from_numpy(model(images.numpy())["logits"])


@pytest.mark.parametrize("size", SIZES)
def test_openvino_computes_what_the_network_computes(network, model, size) -> None:
    images = random_images(size)
    assert relative_difference(run(model, images), network, images) < 1e-5


def test_real_images(network, model, photographs) -> None:
    assert relative_difference(run(model, photographs), network, photographs) < 1e-5


def test_the_model_says_what_it_holds(network, openvino_file) -> None:
    model = read_model(openvino_file)
    found = {key: model.get_rt_info(["framework", key]).value for key in network_facts(network)}
    assert found == network_facts(network)
    assert model.get_rt_info(["framework", "class_names"]).value == "background, polyp"
    assert model.get_rt_info(["framework", "precision"]).value == "fp32"
    assert model.input("image").partial_shape == openvino.PartialShape([-1, 3, -1, -1])


def test_half_precision_halves_the_file(network, fixed_openvino_file, openvino_file) -> None:
    sizes = [path.with_suffix(".bin").stat().st_size for path in (fixed_openvino_file, openvino_file)]
    assert sizes[0] < 0.55 * sizes[1]
    model = compiled(fixed_openvino_file)
    images = random_images((2, 96, 64))
    assert 1e-5 < relative_difference(run(model, images), network, images) < 2e-2
    assert tuple(model.input("image").shape) == (2, 3, 96, 64)


def test_a_fixed_model_starts_without_an_interpolation(fixed_openvino_file) -> None:
    model = read_model(fixed_openvino_file)
    modes = [op.get_attributes()["mode"] for op in model.get_ops() if op.get_type_name() == "Interpolate"]
    assert modes
    assert "cubic" not in modes


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"precision": "int8"}, "fp32, fp16, got 'int8'"),
        ({"spatial_size": (64, 64)}, "taken as it is"),
        ({"metadata": {"a": "b"}}, "taken as it is"),
    ],
)
def test_what_is_refused(onnx_file, tmp_path, options, told) -> None:
    with pytest.raises(ConfigError, match=told):
        export_openvino(onnx_file, tmp_path / "a.xml", **options)


def test_files_that_are_no_onnx(tmp_path) -> None:
    with pytest.raises(WeightsError, match="no exported file"):
        export_openvino(tmp_path / "none.onnx", tmp_path / "a.xml")
    (tmp_path / "bad.onnx").write_bytes(b"no model")
    with pytest.raises(WeightsError, match="cannot be read by OpenVINO"):
        export_openvino(tmp_path / "bad.onnx", tmp_path / "a.xml")
    with pytest.raises(ConfigError, match=r"must end in \.xml"):
        export_openvino(tmp_path / "bad.onnx", tmp_path / "a.bin")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.onnx"]

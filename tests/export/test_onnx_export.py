# SPDX-License-Identifier: Apache-2.0
"""ONNX files hold the network, for any number of images of any size, and say what they hold."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.export import export_onnx, network_facts
from monai_sam2unet.networks import SAM2UNet

from .conftest import SIZES, random_images, relative_difference

onnx = pytest.importorskip("onnx")
onnxruntime = pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.fixture(scope="module")
def session(onnx_file):
    return onnxruntime.InferenceSession(str(onnx_file), providers=["CPUExecutionProvider"])


def run(session, images):
    return torch.from_numpy(session.run(["logits"], {"image": images.numpy()})[0])


@pytest.mark.parametrize("size", SIZES)
def test_onnxruntime_computes_what_the_network_computes(network, session, size) -> None:
    images = random_images(size)
    assert relative_difference(run(session, images), network, images) < 1e-5


def test_real_images(network, session, photographs) -> None:
    logits = run(session, photographs)
    assert relative_difference(logits, network, photographs) < 1e-5
    with torch.no_grad():
        assert torch.equal(logits.argmax(1), network(photographs).argmax(1))


def dimensions(value) -> list[str | int]:
    return [d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim]


def test_the_file_is_one_valid_file_and_names_what_is_free(onnx_file) -> None:
    assert list(onnx_file.parent.glob("model.onnx*")) == [onnx_file]
    assert onnx_file.stat().st_size > 4 * 29e6
    onnx.checker.check_model(onnx_file)
    model = onnx.load(onnx_file)
    assert [(v.name, dimensions(v)) for v in (*model.graph.input, *model.graph.output)] == [
        ("image", ["batch", 3, "height", "width"]),
        ("logits", ["batch", 2, "height", "width"]),
    ]
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 20


def test_the_folded_form_is_what_is_exported(onnx_file) -> None:
    kinds = [node.op_type for node in onnx.load(onnx_file, load_external_data=False).graph.node]
    assert "BatchNormalization" not in kinds
    assert kinds.count("Conv") == 1 + 4 * (1 + 9 + 1) + 3 * 2 + 1  # patches, RFBs, decoder, head


def test_the_file_says_what_it_holds(network, onnx_file) -> None:
    found = {entry.key: entry.value for entry in onnx.load(onnx_file, load_external_data=False).metadata_props}
    assert found == {**network_facts(network), "class_names": "background, polyp"}
    assert (found["encoder_size"], found["in_channels"], found["out_channels"]) == ("tiny", "3", "2")


def test_facts_depend_on_the_weights(network) -> None:
    other = SAM2UNet(out_channels=2, size="tiny", lora_rank=4, deep_supervision=True)
    other.load_state_dict(network.state_dict())
    assert network_facts(other) == network_facts(network)
    with torch.no_grad():
        other.head.bias += 1e-3
    assert network_facts(other)["weights_sha256"] != network_facts(network)["weights_sha256"]


def test_fixed_sizes_and_one_channel(tmp_path) -> None:
    torch.manual_seed(0)
    net = SAM2UNet(in_channels=1, size="tiny").eval()
    path = export_onnx(net, tmp_path / "new" / "fixed.onnx", spatial_size=(64, 90), batch_size=2, opset_version=18)
    model = onnx.load(path)
    assert dimensions(model.graph.input[0]) == [2, 1, 64, 90]
    assert {entry.domain: entry.version for entry in model.opset_import}[""] == 18
    # The position embedding is a number in the file, no more an interpolation.
    assert not [n for n in model.graph.node if n.op_type == "Resize" and b"cubic" in [a.s for a in n.attribute]]
    images = random_images((2, 64, 90), channels=1)
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    assert relative_difference(run(session, images), net, images) < 1e-5


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("model.pt", {}, "must end in .onnx"),
        ("a.onnx", {"spatial_size": (352,)}, "height and width"),
        ("a.onnx", {"spatial_size": (352, 0)}, "at least 1"),
        ("a.onnx", {"batch_size": 1.5}, "whole numbers"),
    ],
)
def test_what_is_refused(network, tmp_path, name, options, told) -> None:
    with pytest.raises(ConfigError, match=told):
        export_onnx(network, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())

# SPDX-License-Identifier: Apache-2.0
"""Tests of `sam2unet export`: what it writes and prints, and what it refuses before it begins."""

from __future__ import annotations

import json
import re
import shutil
import sys
import types
from pathlib import Path

import pytest
import torch
from monai.data import load_net_with_metadata
from typer.testing import CliRunner

import monai_sam2unet.export
from monai_sam2unet import cli
from monai_sam2unet.cli.export import CALIBRATION_IMAGES
from monai_sam2unet.data import TrainingCases, write_polyp_phantoms
from monai_sam2unet.errors import CheckpointError, ConfigError, WeightsError
from monai_sam2unet.networks import SAM2UNet, light_state_dict


def invoke(*words):
    """Run a command in this process; gives the result, and what stdout got without colours and frames."""
    result = CliRunner(env={"COLUMNS": "200"}).invoke(cli.app, ["export", *map(str, words)])
    return result, " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃]", " ", result.stdout).split())


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return SAM2UNet(size="tiny", deep_supervision=True).eval()


@pytest.fixture(scope="module")
def checkpoint(network, tmp_path_factory):
    path = tmp_path_factory.mktemp("trained") / "model.pt"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def bundle(repository):
    return repository / "bundles" / "polyp_segmentation"


def test_help():
    result, text = invoke("--help")
    assert result.exit_code == 0
    for words in ("checkpoint", "out", "--format", "onnx|openvino|torchscript|program", "--bundle", "fp32|fp16|int8"):
        assert words in text


def test_torchscript_of_a_bundle(network, checkpoint, bundle, tmp_path):
    path = tmp_path / "new" / "model.ts"
    result, text = invoke(checkpoint, path, "--bundle", bundle, "--size", "tiny")
    assert result.exit_code == 0, result.output
    for shape in ("1x3x352x352", "2x3x64x96", "1x3x320x416", "3x3x224x160", "1x3x250x333"):
        assert re.search(rf"{shape} of noise \d+\.\d\d \d\.\de-\d\d \d\.\de-0[678] 0\.000 %", text), text
    size = f"{path.stat().st_size / 1e6:.1f} MB"
    assert re.search(
        rf"model\.ts: {size}, at most \d\.\de-0\d of the largest logit from the network in 5 comparisons$", text
    )
    assert [p.name for p in path.parent.iterdir()] == ["model.ts"]
    script, found, _ = load_net_with_metadata(str(path))
    image = torch.randn(1, 3, 50, 60)
    with torch.no_grad():
        torch.testing.assert_close(script(image), network(image), rtol=1e-4, atol=1e-5)
    version = json.loads((bundle / "configs" / "metadata.json").read_text())["version"]
    told = {"bundle_version": version, "class_names": "polyp", "spatial_size": "352x352", "encoder_size": "tiny"}
    assert told.items() <= found.items()


@pytest.mark.slow
def test_openvino_without_a_bundle(checkpoint, tmp_path):
    pytest.importorskip("openvino")
    path = tmp_path / "model.xml"
    options = ("--size", "tiny", "--spatial-size", 64, 96, "--precision", "fp16", "--format", "openvino")
    result, text = invoke(checkpoint, path, *options)
    assert result.exit_code == 0, result.output
    assert text.count("x3x64x96") == 3  # fixed to that size, with one, two and three images
    assert "in 3 comparisons" in text
    assert text.startswith("The file's logits")  # nothing of the exporter's own
    written = sum(file.stat().st_size for file in tmp_path.iterdir())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.bin", "model.xml"]
    assert f"model.xml: {written / 1e6:.1f} MB" in text


def test_a_light_checkpoint_and_other_channels(tmp_path):
    torch.manual_seed(0)
    network = SAM2UNet(in_channels=1, out_channels=3, size="tiny", adapter_channels=0, lora_rank=2).eval()
    torch.save(light_state_dict(network), tmp_path / "light.pt")
    encoder = {name.replace(".block.", "."): value for name, value in network.encoder.state_dict().items()}
    torch.save({name: value for name, value in encoder.items() if "lora" not in name}, tmp_path / "encoder.pt")
    options = ("--in-channels", 1, "--out-channels", 3, "--adapter-channels", 0, "--lora-rank", 2)
    words = (tmp_path / "light.pt", tmp_path / "model.ts", "--size", "tiny", *options, "--no-check")
    result, text = invoke(*words, "--weights", tmp_path / "encoder.pt")
    assert result.exit_code == 0, result.exception
    assert re.search(r"model\.ts: \d+\.\d MB$", text)
    image = torch.randn(1, 1, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), network(image), rtol=1e-4, atol=1e-5)
    result, _ = invoke(*words)
    assert "other frozen encoder weights" in str(result.exception)


def test_int8_is_calibrated_on_the_folder_as_the_bundle_prepares_it(checkpoint, bundle, tmp_path, monkeypatch):
    images = write_polyp_phantoms(tmp_path / "data", num_train=16, num_test=1) / "TrainDataset" / "images"
    given = {}

    def export_openvino(network, path, **options):
        given.update(options)
        Path(path).write_text("fp32")
        return path

    def quantize_openvino(model, images, path):
        given["images"] = [(image.shape, image.mean()) for image in images]
        Path(path).write_text(f"int8 of {Path(model).read_text()}")

    monkeypatch.setattr(monai_sam2unet.export, "export_openvino", export_openvino)
    module = types.SimpleNamespace(quantize_openvino=quantize_openvino, MIN_IMAGES=16)
    monkeypatch.setitem(sys.modules, "monai_sam2unet.export.quantization", module)
    options = ("--bundle", bundle, "--size", "tiny", "--spatial-size", 64, 96, "--precision", "int8")
    result, _ = invoke(checkpoint, tmp_path / "model.xml", *options, "--calibration", images, "--no-check")
    assert result.exit_code == 0, result.exception
    assert (tmp_path / "model.xml").read_text() == "int8 of fp32"
    assert [shape for shape, _ in given["images"]] == [(1, 3, 64, 96)] * 16
    assert all(-2.2 < mean < 2.7 and mean != 0 for _, mean in given["images"])
    assert (given["spatial_size"], given["batch_size"]) == ((64, 96), None)
    assert given["metadata"]["spatial_size"] == "64x96"
    assert CALIBRATION_IMAGES >= 100


def test_the_size_of_the_training_is_noted_and_the_file_takes_any(checkpoint, bundle, tmp_path, caplog):
    trained = shutil.copy(checkpoint, tmp_path / "trained.pt")
    cases = TrainingCases({}, {}, settings={"spatial_size": [64, 96], "sliding_window": False})
    TrainingCases.path_of(trained).write_text(cases.as_json())
    options = ("--bundle", bundle, "--size", "tiny", "--training-size", 64, 96, "--no-check")
    result, _ = invoke(trained, tmp_path / "model.ts", *options)
    assert result.exit_code == 0, result.exception
    script, found, _ = load_net_with_metadata(str(tmp_path / "model.ts"))
    assert found["spatial_size"] == "64x96"
    assert "other settings" not in caplog.text
    assert script(torch.zeros(1, 3, 32, 32)).shape == (1, 1, 32, 32)
    result, _ = invoke(trained, tmp_path / "other.ts", "--bundle", bundle, "--size", "tiny", "--no-check")
    assert result.exit_code == 0, result.exception
    assert "spatial_size [64, 96], now [352, 352]. " in caplog.text
    assert "Give --training-size" in caplog.text
    caplog.clear()
    fixed = ("--size", "tiny", "--no-check", "--spatial-size", 96, 64)
    result, _ = invoke(trained, tmp_path / "fixed.onnx", *fixed)
    assert result.exit_code == 0, result.exception
    assert "spatial_size [64, 96], now [96, 64]. " in caplog.text
    assert "Give --spatial-size" in caplog.text


def test_mistakes_in_what_the_bundle_is_given_are_told_alone(checkpoint, bundle, tmp_path):
    words = (checkpoint, tmp_path / "model.ts", "--bundle", bundle, "--size", "tiny")
    result, _ = invoke(*words, "--weights", tmp_path / "none.pt")
    assert isinstance(result.exception, WeightsError)
    assert str(result.exception).startswith("There is no weights file")


def test_few_images_are_no_calibration(checkpoint, bundle, tmp_path):
    images = write_polyp_phantoms(tmp_path / "data", num_train=3, num_test=1) / "TrainDataset" / "images"
    options = ("--bundle", bundle, "--size", "tiny", "--precision", "int8")
    result, _ = invoke(checkpoint, tmp_path / "model.xml", *options, "--calibration", images)
    assert isinstance(result.exception, ConfigError)
    assert "holds 3 images; int8 needs 16 at least" in str(result.exception)
    result, _ = invoke(checkpoint, tmp_path / "model.xml", *options, "--calibration", tmp_path / "none")
    assert result.exit_code == 2


def test_a_file_that_differs_is_not_kept(checkpoint, tmp_path, monkeypatch):
    def fail(*_, **__):
        raise WeightsError("The exported file does not compute what the network computes.")

    monkeypatch.setattr(monai_sam2unet.export, "check_export", fail)
    result, _ = invoke(checkpoint, tmp_path / "model.ts", "--size", "tiny")
    assert isinstance(result.exception, WeightsError)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["model.pth"], r"\.onnx \(onnx\), \.xml \(openvino\), \.ts \(torchscript\), \.pt2 \(program\)"),
        (["model.xml", "--format", "onnx"], r"--format onnx goes with a name that ends in \.onnx, got model\.xml"),
        (["model.ts", "--spatial-size", "64", "64"], "no --spatial-size"),
        (["model.onnx", "--precision", "fp16"], "goes with OpenVINO"),
        (["model.xml", "--precision", "int8"], "go together"),
        (["model.xml", "--calibration", ".."], "go together"),
        (["model.xml", "--precision", "int8", "--calibration", ".."], "needs --bundle"),
        (["model.ts", "--training-size", "64", "64"], "goes with --bundle"),
        (["model.ts", "--bundle", "."], "is no bundle"),
    ],
)
def test_what_is_refused_at_once(checkpoint, tmp_path, monkeypatch, words, told):
    monkeypatch.chdir(tmp_path)
    result, _ = invoke(checkpoint, *words)
    assert isinstance(result.exception, ConfigError)
    assert re.search(told, str(result.exception))
    assert not list(tmp_path.iterdir())


def test_checkpoints_that_do_not_fit(checkpoint, tmp_path):
    result, _ = invoke(tmp_path / "none.pt", tmp_path / "model.ts", "--size", "tiny")
    assert isinstance(result.exception, CheckpointError)
    result, _ = invoke(checkpoint, tmp_path / "model.ts", "--encoder_size", "small")
    assert "an encoder of size 'tiny'" in str(result.exception)
    assert not list(tmp_path.iterdir())

# SPDX-License-Identifier: Apache-2.0
"""The polyp bundle's network exported by MONAI's commands, and exported files run by the bundle."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser
from monai.networks.utils import convert_to_onnx
from PIL import Image

from monai_sam2unet.export import export_torchscript
from monai_sam2unet.networks import SAM2UNet, load_weights

from ..warm_python import WarmPython

PHANTOM_IMAGES = Path("TestDataset") / "Phantom" / "images"


@pytest.fixture(scope="module")
def bundle_command(bundle: Path, python_m: WarmPython) -> Callable[..., subprocess.CompletedProcess[str]]:
    return lambda *words: python_m(["monai.bundle", *words], cwd=bundle)


@pytest.fixture(scope="module")
def network(trained: Path) -> SAM2UNet:
    net = SAM2UNet(size="tiny", deep_supervision=True).eval()
    load_weights(net, trained / "model.pt")
    return net


@torch.no_grad()
def check_in_onnxruntime(path: Path, network: SAM2UNet, sizes: list[tuple[int, int, int]]) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for batch, height, width in sizes:
        images = torch.randn(batch, 3, height, width)
        (logits,) = session.run(["logits"], {"image": images.numpy()})
        wanted = network(images)
        assert (torch.from_numpy(logits) - wanted).abs().max() < 1e-5 * wanted.abs().max()


@pytest.fixture(scope="module")
def onnx_file(bundle_command, trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written by MONAI's command, which takes a minute."""
    pytest.importorskip("onnxscript")
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    done = bundle_command(
        "onnx_export", "--args_file", "configs/onnx_export.yaml", "--encoder_size", "tiny",
        "--ckpt_file", trained / "model.pt", "--filepath", path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return path


@pytest.mark.slow
def test_onnx_export_takes_any_batch_and_size(onnx_file: Path, network: SAM2UNet) -> None:
    assert [file.name for file in onnx_file.parent.iterdir()] == ["model.onnx"]
    check_in_onnxruntime(onnx_file, network, [(1, 352, 352), (2, 64, 96), (1, 320, 416), (1, 33, 47)])


@pytest.mark.skipif(torch.cuda.is_available(), reason="would go on to build an engine")
def test_trt_export_goes_as_far_as_it_can_without_a_gpu(bundle_command, trained: Path, tmp_path: Path) -> None:
    done = bundle_command(
        "trt_export", "--args_file", "configs/trt_export.yaml", "--encoder_size", "tiny",
        "--ckpt_file", trained / "model.pt", "--filepath", tmp_path / "model.ts",
    )  # fmt: skip
    assert done.returncode == 1
    assert "Cannot find any GPU devices" in done.stderr.splitlines()[-1]


@pytest.mark.slow
def test_the_onnx_that_trt_export_gives_to_tensorrt(bundle: Path, network: SAM2UNet, tmp_path: Path) -> None:
    """The step of MONAI's ``convert_to_trt`` before TensorRT takes over, with the config's settings."""
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxscript")
    config = ConfigParser.load_config_file(bundle / "configs" / "trt_export.yaml")
    assert config["use_onnx"]
    names = config["onnx_input_names"], config["onnx_output_names"]
    axes = {name: {0: "batchsize"} for name in (*names[0], *names[1])}
    images = [torch.rand(1, 3, 64, 64)]
    model = convert_to_onnx(network, images, *names, use_trace=config["use_trace"], dynamic_axes=axes)
    onnx.save(model, tmp_path / "model.onnx")
    check_in_onnxruntime(tmp_path / "model.onnx", network, [(1, 64, 64), (3, 64, 64)])


def with_exported(config: str) -> str:
    return f"['configs/{config}.yaml','../../configs/recipes/exported.yaml']"


@pytest.mark.slow
def test_inference_by_an_exported_file(run, onnx_file: Path, trained: Path, phantoms: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime")
    images = phantoms / PHANTOM_IMAGES
    run("inferring", "inference", dataset_dir=images, ckpt_path=trained / "model.pt", output_dir=tmp_path / "network")
    settings = {"dataset_dir": images, "ckpt_path": onnx_file, "network_def::num_threads": 1}
    run("inferring", with_exported("inference"), output_dir=tmp_path / "file", **settings)
    masks = [
        np.concatenate([np.asarray(Image.open(file)).ravel() for file in sorted((tmp_path / name / "masks").iterdir())])
        for name in ("network", "file")
    ]
    assert masks[0].any()
    assert (masks[0] != masks[1]).mean() < 1e-4  # a logit of nearly 0 may fall on either side


def test_evaluation_of_an_exported_file(run, network, phantoms: Path, tmp_path: Path) -> None:
    path = export_torchscript(network, tmp_path / "model.ts")
    settings = {"dataset_dir": phantoms, "protocol": "clinical", "report": "False"}
    run("evaluating", with_exported("evaluate"), ckpt_path=path, output_dir=tmp_path, **settings)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["sets"]["Phantom"]["images"] == 4
    assert summary["settings"]["checkpoint"] == str(path)

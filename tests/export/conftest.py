# SPDX-License-Identifier: Apache-2.0
"""One network and its exported files, which the tests of this room share: each takes up to half a minute to make."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from monai_sam2unet.data.image_sets import list_images
from monai_sam2unet.export import export_onnx, export_openvino, export_program, export_torchscript
from monai_sam2unet.networks import SAM2UNet, load_weights

SIZES = ((1, 352, 352), (2, 64, 96), (1, 320, 416), (3, 224, 160), (1, 33, 47))


def disturb(network: nn.Module) -> None:
    """Give values to what is zero or one at the start: BatchNorm's statistics, the adapters' and LoRA's last layers."""
    for name, value in network.state_dict().items():
        if name.endswith(("running_mean", "bn.bias")):
            value.normal_(0, 0.2)
        elif name.endswith(("running_var", "bn.weight")):
            value.uniform_(0.5, 1.5)
        elif name.endswith(("prompt_learn.2.weight", "lora_b")):
            value.normal_(0, 0.05)


@pytest.fixture(scope="session")
def network(request: pytest.FixtureRequest) -> SAM2UNet:
    """A network of two classes with adapters and LoRA; its encoder is SAM 2's where the weights are at hand."""
    torch.manual_seed(0)
    net = SAM2UNet(out_channels=2, size="tiny", lora_rank=4, deep_supervision=True)
    with contextlib.suppress(pytest.skip.Exception):  # random values do, too
        load_weights(net, request.getfixturevalue("tiny_weights"))
    disturb(net)
    return net.eval()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(scope="session")
def onnx_file(network: SAM2UNet, folder: Path) -> Path:
    pytest.importorskip("onnxscript")
    return export_onnx(network, folder / "model.onnx", metadata={"class_names": "background, polyp"})


@pytest.fixture(scope="session")
def openvino_file(onnx_file: Path, folder: Path) -> Path:
    pytest.importorskip("openvino")
    return export_openvino(onnx_file, folder / "model.xml")


@pytest.fixture(scope="session")
def fixed_openvino_file(network: SAM2UNet, folder: Path) -> Path:
    """Of two images of 96x64 pixels, its weights in half precision."""
    for package in ("openvino", "onnxscript"):
        pytest.importorskip(package)
    return export_openvino(network, folder / "fixed.xml", spatial_size=(96, 64), batch_size=2, precision="fp16")


@pytest.fixture(scope="session")
def program_file(network: SAM2UNet, folder: Path) -> Path:
    return export_program(network, folder / "model.pt2", metadata={"class_names": "background, polyp"})


@pytest.fixture(scope="session")
def script_file(network: SAM2UNet, folder: Path) -> Path:
    return export_torchscript(network, folder / "model.ts", metadata={"class_names": "background, polyp"})


@pytest.fixture(scope="session")
def photographs(shared_data: Path) -> Tensor:
    """Two real images (2, 3, 288, 384), normalised as in training."""
    files = list_images(shared_data / "polyp" / "TestDataset" / "CVC-300" / "images")[:2]
    pixels = [np.asarray(Image.open(file).convert("RGB").resize((384, 288)), dtype=np.float32) for file in files]
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    return ((torch.from_numpy(np.stack(pixels)) / 255 - mean) / std).permute(0, 3, 1, 2).contiguous()


def random_images(size: tuple[int, int, int], channels: int = 3) -> Tensor:
    batch, height, width = size
    return torch.randn(batch, channels, height, width, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def relative_difference(found: Tensor, network: nn.Module, images: Tensor) -> float:
    """Largest difference from the network, run as it is, as a share of its largest logit."""
    wanted = network(images)
    assert found.shape == wanted.shape
    assert found.dtype == torch.float32
    return ((found - wanted).abs().max() / wanted.abs().max()).item()

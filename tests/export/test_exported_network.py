# SPDX-License-Identifier: Apache-2.0
"""Exported files take a network's place in MONAI's inferers, and say what they cannot do."""

from __future__ import annotations

import functools
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import openvino
import pytest
import torch
from monai.inferers import SlidingWindowInferer

from monai_sam2unet.errors import ConfigError, DataError, WeightsError
from monai_sam2unet.export import OnnxNetwork, OpenVINONetwork, ProgramNetwork, open_exported
from monai_sam2unet.inferers import AutocastInferer

from .conftest import random_images, relative_difference

#: What the CPU lacks OpenVINO computes in another precision, which OpenVINONetwork refuses.
PRECISIONS = openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
needs_bf16 = pytest.mark.skipif("BF16" not in PRECISIONS, reason="this CPU has no bf16")
has_f16 = pytest.mark.skipif("FP16" in PRECISIONS, reason="this CPU has f16")

KINDS = ["onnx_file", "openvino_file", "program_file", "script_file"]


@pytest.fixture(scope="module")
def opened(request):
    """Opens each kind of file once."""
    return functools.cache(lambda kind: open_exported(request.getfixturevalue(kind)))


@pytest.mark.parametrize("kind", KINDS)
def test_they_stand_in_for_the_network(opened, network, kind) -> None:
    exported = opened(kind).to("cpu").train().eval()
    images = random_images((2, 70, 100))
    assert relative_difference(AutocastInferer("fp32")(images, exported), network, images) < 1e-5
    inferer = SlidingWindowInferer(roi_size=(64, 64), sw_batch_size=3, overlap=0.25)
    with torch.no_grad():
        wanted = inferer(images, network)
        assert torch.allclose(inferer(images, exported), wanted, atol=1e-5 * wanted.abs().max().item())


@pytest.mark.parametrize("kind", KINDS[:3])
def test_shapes_that_do_not_fit_are_told(opened, kind) -> None:
    exported = opened(kind)
    assert exported.input_shape == (None, 3, None, None)
    for shape in ((1, 1, 64, 64), (3, 64, 64)):
        with pytest.raises(DataError, match=r"shape \(any, 3, any, any\), got"):
            exported(torch.zeros(shape))


def test_other_types_of_numbers_are_taken(network, onnx_file) -> None:
    images = random_images((1, 64, 64)).double()
    logits = OnnxNetwork(onnx_file, num_threads=1)(images.transpose(2, 3))
    assert relative_difference(logits, network, images.transpose(2, 3).float()) < 1e-5


@pytest.mark.parametrize("kind", KINDS[:3])
def test_images_without_pixels_are_refused(opened, kind) -> None:
    for shape in ((0, 3, 64, 64), (1, 3, 0, 64)):
        with pytest.raises(DataError, match=r"shape \(any, 3, any, any\), got"):
            opened(kind)(torch.zeros(shape))


@pytest.mark.parametrize("kind", KINDS)
def test_threads_share_a_network(opened, kind) -> None:
    exported = opened(kind)
    images = [random_images((1, 64, size)) * scale for size, scale in ((64, 1), (96, 2), (64, 3), (96, 4))]
    copies = [image.clone() for image in images]
    with torch.no_grad():
        wanted = [exported(image) for image in images]
        with ThreadPoolExecutor(4) as pool:
            found = list(pool.map(exported, images * 5))
    for logits, alone in zip(found, wanted * 5, strict=True):
        assert torch.allclose(logits, alone, atol=1e-5 * alone.abs().max().item())
    assert all(torch.equal(image, copy) for image, copy in zip(images, copies, strict=True))


SIGNALS = """
import faulthandler, gc, os, signal, sys
from monai_sam2unet.export import OpenVINONetwork
faulthandler.enable()
signal.signal(signal.SIGUSR1, lambda *_: print("handled"))
networks = [OpenVINONetwork(sys.argv[1], num_threads=1) for _ in range(2)]
while networks:
    networks.pop(0)
    gc.collect()
os.kill(os.getpid(), signal.SIGUSR1)
"""


def test_signals_are_handled_after_networks_are_gone(openvino_file) -> None:
    done = subprocess.run([sys.executable, "-c", SIGNALS, str(openvino_file)], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "handled\n"), done.stderr[-2000:]


@needs_bf16
def test_bf16_is_close_at_free_and_at_fixed_sizes(network, openvino_file, fixed_openvino_file) -> None:
    images = random_images((2, 96, 64))
    for path in (openvino_file, fixed_openvino_file):
        bf16 = OpenVINONetwork(path, precision="bf16", num_threads=1)
        assert relative_difference(bf16(images), network, images) < 0.05
    with pytest.raises(DataError, match=r"shape \(2, 3, 96, 64\), got \(1, 3, 96, 64\)"):
        bf16(images[:1])


@needs_bf16
def test_bf16_runs_without_the_fused_pieces_that_lose_digits(fixed_openvino_file) -> None:
    """They were seen on a trained network only, so it is looked at what OpenVINO runs, not at the logits."""
    for precision, are_fused in (("f32", True), ("bf16", False)):
        run = OpenVINONetwork(fixed_openvino_file, precision=precision, num_threads=1).compiled.get_runtime_model()
        assert ("Subgraph" in {op.get_rt_info()["layerType"] for op in run.get_ops()}) == are_fused


def test_the_weights_lie_beside_the_model(openvino_file, tmp_path) -> None:
    (tmp_path / "model.xml").write_bytes(openvino_file.read_bytes())
    with pytest.raises(WeightsError, match=r"its weights in model\.bin, which must lie beside it"):
        open_exported(tmp_path / "model.xml")


def test_a_cache_is_kept(openvino_file, tmp_path) -> None:
    OpenVINONetwork(openvino_file, num_threads=1, cache_dir=tmp_path / "cache")
    assert list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("onnx_file", {"providers": ["NoProvider"]}, "has no NoProvider. It has: .*CPUExecutionProvider"),
        ("onnx_file", {"num_threads": 0}, "at least 1"),
        ("onnx_file", {"precision": "bf16"}, r"no option precision\. Options of such files: providers, num_threads\."),
        ("script_file", {"precision": "bf16"}, r"Options of such files: none\."),
        ("openvino_file", {"device": "TPU"}, "no device 'TPU' on this machine. It has: .*CPU"),
        ("onnx_file", {"providers": "CPUExecutionProvider"}, "a list of onnxruntime's names, got 'CPU"),
        pytest.param(
            "openvino_file", {"precision": "f16"}, "CPU here computes in b?f[0-9]+ in place of f16", marks=has_f16
        ),
        ("openvino_file", {"precision": "fp32"}, "f32, bf16, f16 or None, got 'fp32'"),
        ("openvino_file", {"num_threads": 0}, "at least 1"),
    ],
)
def test_options_that_are_refused(request, kind, options, told) -> None:
    with pytest.raises(ConfigError, match=told):
        open_exported(request.getfixturevalue(kind), **options)


@pytest.mark.parametrize("suffix", [".onnx", ".xml", ".pt2", ".ts"])
def test_files_that_are_not_there_or_something_else(tmp_path, suffix) -> None:
    for package in {".onnx": ["onnxruntime"], ".xml": ["openvino"]}.get(suffix, []):
        pytest.importorskip(package)
    with pytest.raises(WeightsError, match="no exported file"):
        open_exported(tmp_path / f"none{suffix}")
    (tmp_path / f"bad{suffix}").write_bytes(b"something else")
    (tmp_path / "bad.bin").touch()
    with pytest.raises(WeightsError, match="cannot be r"):
        open_exported(tmp_path / f"bad{suffix}")


def test_other_suffixes() -> None:
    with pytest.raises(ConfigError, match=r"\.onnx, \.xml, \.pt2, \.ts"):
        open_exported("models/model.pt")
    with pytest.raises(ConfigError, match=r"ending in \.pt2"):
        ProgramNetwork("models/model.ts")


@pytest.mark.parametrize(("package", "suffix"), [("onnxruntime", ".onnx"), ("openvino", ".xml")])
def test_missing_packages_are_named(monkeypatch, tmp_path, package, suffix) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    extra = {"onnxruntime": "onnx"}.get(package, package)
    with pytest.raises(ConfigError, match=rf"needs the package {package}.*pip install monai-sam2unet\[{extra}\]"):
        open_exported(tmp_path / f"model{suffix}")

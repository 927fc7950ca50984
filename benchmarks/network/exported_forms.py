# SPDX-License-Identifier: Apache-2.0
"""Our network exported, in other runtimes: onnxruntime, OpenVINO, TensorRT."""

from __future__ import annotations

import importlib
from functools import partial
from pathlib import Path
from typing import Any

import torch

from benchmarks.network.agreement import photographs
from benchmarks.network.forms import Built, Form, Unavailable, Workbench
from benchmarks.network.own_forms import optimised
from monai_sam2unet.export import OnnxNetwork, OpenVINONetwork, export_onnx, export_openvino
from monai_sam2unet.export.openvino_core import read_model
from monai_sam2unet.export.optional_package import import_optional

__all__ = ["EXPORTED_FORMS"]

CALIBRATION_IMAGES = 128


def _onnx_file(bench: Workbench) -> Path:
    """The network as ONNX, for any batch and size; made once."""
    path = bench.file("network.onnx")
    return path if path.exists() else export_onnx(bench.plain, path)


def _onnxruntime(bench: Workbench, batch: int) -> Built:
    provider = "CUDAExecutionProvider" if bench.device.type == "cuda" else "CPUExecutionProvider"
    return Built(OnnxNetwork(_onnx_file(bench), [provider], torch.get_num_threads()))


def _openvino(bench: Workbench, batch: int, precision: str) -> Built:
    """Of one shape, which is faster than of any."""
    _cpu_only(bench)
    path = bench.file(f"openvino_{batch}.xml")
    if not path.exists():
        size = (bench.setting.pixels,) * 2
        export_openvino(bench.plain, path, spatial_size=size, batch_size=batch)
    return Built(OpenVINONetwork(path, precision=precision, num_threads=torch.get_num_threads()))


def _cpu_only(bench: Workbench) -> None:
    if bench.device.type != "cpu":
        raise Unavailable("OpenVINO is measured on CPUs")


def _int8_file(bench: Workbench) -> Path:
    """The network in int8, of one image size and for any batch; made once."""
    path = bench.file("int8.xml")
    if not path.exists():
        if bench.setting.calibration is None:
            raise Unavailable("is calibrated on photographs: --calibration FOLDER")
        from monai_sam2unet.export.quantization import quantize_openvino

        pixels = bench.setting.pixels
        model = export_openvino(bench.plain, bench.file("float.xml"), spatial_size=(pixels, pixels))
        images = photographs(Path(bench.setting.calibration), CALIBRATION_IMAGES, pixels)
        quantize_openvino(model, images, path)
    return path


def _openvino_int8(bench: Workbench, batch: int) -> Built:
    _cpu_only(bench)
    library: Any = import_optional("openvino", "openvino")
    path = bench.file(f"int8_{batch}.xml")
    if not path.exists():
        model = read_model(_int8_file(bench))
        model.reshape([batch, 3, bench.setting.pixels, bench.setting.pixels])
        library.save_model(model, path, compress_to_fp16=False)
    return Built(OpenVINONetwork(path, precision="bf16", num_threads=torch.get_num_threads()))


def _tensorrt(bench: Workbench, batch: int) -> Built:
    if bench.device.type != "cuda":
        raise Unavailable("TensorRT needs a CUDA device")
    try:
        library = importlib.import_module("torch_tensorrt")
    except ImportError as error:
        raise Unavailable("torch_tensorrt is not installed") from error
    network = optimised(bench, dtype=torch.bfloat16, portable=True)
    example = bench.images(batch).bfloat16()
    compiled = library.compile(network, ir="dynamo", inputs=[example], use_explicit_typing=True)
    return Built(lambda x: compiled(x.bfloat16()).float())


EXPORTED_FORMS = (
    Form("onnxruntime", "onnxruntime, fp32", "ours", "fp32", _onnxruntime),
    Form("openvino-f32", "OpenVINO, fp32", "ours", "fp32", partial(_openvino, precision="f32")),
    Form("openvino-bf16", "OpenVINO, bf16", "ours", "bf16", partial(_openvino, precision="bf16")),
    Form("openvino-int8", "OpenVINO, int8", "ours", "int8", _openvino_int8),
    Form("tensorrt", "TensorRT, bf16", "ours", "bf16", _tensorrt),
)

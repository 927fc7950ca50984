# SPDX-License-Identifier: Apache-2.0
"""Writes a network as an OpenVINO model."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.export.exported_network import existing_file
from monai_sam2unet.export.onnx_export import export_onnx
from monai_sam2unet.export.openvino_core import read_model
from monai_sam2unet.export.optional_package import import_optional
from monai_sam2unet.export.output_file import check_output_file
from monai_sam2unet.folders import whole_file
from monai_sam2unet.networks import SAM2UNet

__all__ = ["export_openvino"]

PRECISIONS = ("fp32", "fp16")


def export_openvino(
    network: SAM2UNet | str | Path,
    path: str | Path,
    *,
    precision: str = "fp32",
    spatial_size: Sequence[int] | None = None,
    batch_size: int | None = None,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network as an OpenVINO model, the fastest way to run it on a CPU.

    The model takes ``image`` (batch, C, height, width), float32, normalised as in training, and gives ``logits``. The
    precision here is that of the weights in the file; that of the arithmetic is chosen when the model is run, see
    :class:`~monai_sam2unet.export.OpenVINONetwork`. For int8 see
    :func:`~monai_sam2unet.export.quantization.quantize_openvino`.

    Args:
        network: as trained; or an ONNX file from :func:`~monai_sam2unet.export.export_onnx`, which is taken with the
            sizes and the metadata that it has.
        path: of the model, ending in ``.xml``; the weights go beside it, into ``.bin``.
        precision: ``"fp32"``, or ``"fp16"`` for a file of half the size whose weights are rounded.
        spatial_size: height and width that the model is to be fixed to, in pixels; None takes any.
        batch_size: number of images that the model is to be fixed to; None takes any.
        metadata: further entries beside those of :func:`~monai_sam2unet.export.network_facts`. They are the model's
            runtime information under ``framework``.

    Returns:
        The path of the ``.xml``.

    Raises:
        ConfigError: When openvino (for a network onnx and onnxscript, too) is not installed, the files cannot be
            written there, the network is not one that can be exported, ``precision`` is none of the two, a size is
            not a whole number of at least 1, or sizes or metadata are given with an ONNX file.
        WeightsError: When the ONNX file is not there or cannot be read.
    """
    openvino = import_optional("openvino", "openvino")
    if precision not in PRECISIONS:
        raise ConfigError(f"precision must be one of {', '.join(PRECISIONS)}, got {precision!r}. For int8 quantise.")
    path = check_output_file(path, ".xml")
    with tempfile.TemporaryDirectory() as folder:
        if isinstance(network, (str, Path)):
            if (spatial_size, batch_size, metadata) != (None, None, None):
                raise ConfigError("An ONNX file is taken as it is. Give sizes and metadata to export_onnx.")
            file = existing_file(network, ".onnx")
        else:
            file = export_onnx(
                network,
                Path(folder) / "model.onnx",
                spatial_size=spatial_size,
                batch_size=batch_size,
                metadata=metadata,
            )
        model = read_model(file)
        model.set_rt_info(precision, ["framework", "precision"])
        with whole_file(path) as unfinished:
            openvino.save_model(model, unfinished, compress_to_fp16=precision == "fp16")
    return path

# SPDX-License-Identifier: Apache-2.0
"""Writes a network as an ONNX file."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from monai_sam2unet.export.network_facts import network_facts
from monai_sam2unet.export.optional_package import import_optional
from monai_sam2unet.export.output_file import check_output_file
from monai_sam2unet.export.tracing import AXIS_NAMES, exportable, size_oblivious, trace
from monai_sam2unet.folders import whole_file
from monai_sam2unet.networks import SAM2UNet

__all__ = ["INPUT_NAME", "OUTPUT_NAME", "export_onnx"]

INPUT_NAME, OUTPUT_NAME = "image", "logits"


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks on itself and on packages it could use from the user; its errors come through."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def export_onnx(
    network: SAM2UNet,
    path: str | Path,
    *,
    spatial_size: Sequence[int] | None = None,
    batch_size: int | None = None,
    opset_version: int = 20,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network as one ONNX file, for onnxruntime, TensorRT, OpenVINO and others.

    The file takes ``image`` (batch, C, height, width), float32, normalised as in training, and gives ``logits`` (batch,
    out_channels, height, width). BatchNorm, LoRA and the five 1x1 convolutions of each RFB are folded first (see
    ``optimize_for_inference``), so that its numbers differ from the network's by rounding.

    Args:
        network: as trained; it stays as it is.
        path: of the file, ending in ``.onnx``. It is replaced when the new one is whole.
        spatial_size: height and width that the file is to be fixed to, in pixels; None takes any.
        batch_size: number of images that the file is to be fixed to; None takes any.
        opset_version: version of ONNX's operators. 20 has GELU as one operator; 18 serves older readers.
        metadata: further entries for the file's ``metadata_props``, beside those of
            :func:`~monai_sam2unet.export.network_facts`.

    Returns:
        The file's path.

    Raises:
        ConfigError: When onnx or onnxscript is not installed, the file cannot be written there, the network is not one
            that can be exported, or a size is not a whole number of at least 1.

    Example:
        >>> from monai_sam2unet.export import export_onnx
        >>> from monai_sam2unet.networks import SAM2UNet
        >>> net = SAM2UNet(size="tiny")
        >>> export_onnx(net, "model.onnx", metadata={"class_names": "polyp"})  # doctest: +SKIP
        PosixPath('model.onnx')
    """
    for name in ("onnx", "onnxscript"):
        import_optional(name, "onnx")
    path = check_output_file(path, ".onnx")
    program = trace(exportable(network), spatial_size=spatial_size, batch_size=batch_size)
    free = {axis: name for axis, name in AXIS_NAMES.items() if (batch_size if axis == 0 else spatial_size) is None}
    with _quiet(), size_oblivious(), torch.no_grad():
        onnx_program = torch.onnx.export(
            program,
            input_names=[INPUT_NAME],
            output_names=[OUTPUT_NAME],
            opset_version=opset_version,
            dynamic_shapes=(free,),
            dynamo=True,
            verbose=False,
        )
    assert onnx_program is not None
    (image,), (logits,) = onnx_program.model.graph.inputs, onnx_program.model.graph.outputs
    assert image.shape is not None
    assert logits.shape is not None
    # The logits are as large as the image; the tracer knows it only as a formula.
    for axis in AXIS_NAMES:
        logits.shape[axis] = image.shape[axis]
    onnx_program.model.metadata_props.update(network_facts(network, metadata))
    with whole_file(path) as unfinished:
        onnx_program.save(unfinished)
    return path

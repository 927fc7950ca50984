# SPDX-License-Identifier: Apache-2.0
"""Makes an int8 OpenVINO model of an exported one, with NNCF."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import rich
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.export.exported_network import existing_file
from monai_sam2unet.export.openvino_core import read_model
from monai_sam2unet.export.optional_package import import_optional
from monai_sam2unet.export.output_file import check_output_file
from monai_sam2unet.folders import whole_file

__all__ = ["quantize_openvino"]

#: With fewer images the ranges of the activations depend on which images they are.
MIN_IMAGES = 16
STAGES = 4

Array = np.ndarray[Any, Any]


def _import_nncf() -> Any:
    # NNCF reports each run to its makers over the network, which is not for a package to allow in a hospital. The
    # variable is the one that NNCF has for runs without reports, and is read when it is imported.
    os.environ.setdefault("NNCF_CI", "1")
    return import_optional("nncf", "openvino")


@contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """Keep NNCF's progress bars and remarks from the terminal, where the caller may show its own."""
    console, logger = rich.get_console(), logging.getLogger("nncf")
    was_quiet, level = console.quiet, logger.level
    console.quiet = True
    nncf.set_log_level(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = was_quiet
        nncf.set_log_level(level)


def _of_type(nodes: Iterable[Any], *types: str) -> list[Any]:
    return [node for node in nodes if node.get_type_name() in types]


def _names(nodes: Iterable[Any]) -> set[str]:
    return {node.get_friendly_name() for node in nodes}


def _has_weights(product: Any) -> bool:
    """Whether one of a product's factors is a constant, be it stored turned or in a smaller type."""
    for value in product.input_values():
        node = value.get_node()
        while node.get_type_name() in ("Convert", "Transpose", "Reshape"):
            node = node.input_value(0).get_node()
        if node.get_type_name() == "Constant":
            return True
    return False


def _upstream(nodes: Iterable[Any]) -> set[str]:
    """Names of all operators that the given ones are computed from."""
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node.get_friendly_name() not in found:
            found.add(node.get_friendly_name())
            pending += [value.get_node() for value in node.input_values()]
    return found


def _kept_in_float(model: Any, float_stages: int) -> list[str]:
    """Names of the products that do not become int8, see :func:`quantize_openvino`.

    They are found by their place between the layer normalisations, since names differ from exporter to exporter.
    """
    nodes = model.get_ordered_ops()
    products = _of_type(nodes, "Convolution", "MatMul", "ScaledDotProductAttention")
    norms = _of_type(nodes, "MVN")
    widths = [norm.output(0).get_partial_shape()[-1].get_length() for norm in norms]
    stages = sorted(set(widths))
    if len(stages) != STAGES or not _of_type(nodes, "Convolution") or not _of_type(nodes, "Interpolate"):
        raise ConfigError("The model is no exported SAM2UNet. Make one with export_openvino.")
    # The patch embedding comes before the first normalisation. A stage's pooling block has one of the stage's own
    # width, its second; what comes before the next one is that block with all before it.
    borders = [norms[0]]
    if 0 < float_stages < STAGES:
        borders.append([norm for norm, width in zip(norms, widths, strict=True) if width == stages[float_stages]][1])
    kept = _upstream(borders) & _names(products)
    if float_stages == STAGES:
        kept |= _names(_of_type(products, "MatMul"))
    attention = _names(product for product in products if not _has_weights(product))
    # The logits are not rounded before they are enlarged: steps of int8 would be seen along the mask's edge.
    last = _names([_of_type(nodes, "Convolution")[-1], _of_type(nodes, "Interpolate")[-1]])
    return sorted(kept | attention | last)


def _batches(images: Iterable[Tensor | Array], shape: Any) -> Iterator[Array]:
    """The images in batches as large as the model takes them, one by one where it takes any number."""
    size = 1 if shape[0].is_dynamic else shape[0].get_length()
    waiting: list[Array] = []
    for image in images:
        values = np.asarray(image.detach().cpu() if isinstance(image, Tensor) else image, dtype=np.float32)
        if values.ndim != 4 or any(
            not wanted.is_dynamic and wanted.get_length() != given
            for wanted, given in zip(list(shape)[1:], values.shape[1:], strict=True)
        ):
            raise DataError(
                f"The model takes images of shape {shape}, got {values.shape}. Give (B, C, H, W), prepared as in "
                "training, of the model's size where that is fixed."
            )
        for single in values:
            waiting.append(single)
            if len(waiting) == size:
                yield np.stack(waiting)
                waiting = []


def quantize_openvino(
    model: str | Path | Any,
    images: Iterable[Tensor | Array],
    path: str | Path,
    *,
    float_stages: int = 2,
    subset_size: int = 300,
) -> Path:
    """Write an int8 version of an OpenVINO model: a third of the size, and the fastest on CPUs with VNNI.

    Convolutions and linear layers become int8: their weights per output channel, their inputs by one range each, which
    is that of the given images. These stay floating point:

    - the patch embedding and the encoder's first stages, whose rounding errors grow through all that follows;
    - the products of queries, keys and values, normalisation and softmax: int8 made them slower;
    - the logits and their enlargement.

    Run it with ``OpenVINONetwork(path, precision="bf16")`` on CPUs that have bf16, else with ``"f32"``.

    The more stages stay floating point, the nearer the masks are to the network's, and the less is gained; what is
    gained at the default is in docs/results.md. Masks of which one pixel in a thousand must not change need float32.

    Args:
        model: ``.xml`` of :func:`~monai_sam2unet.export.export_openvino`, or such a model opened by OpenVINO, with
            float32 weights. It may be fixed to a size or take any; the result is alike. A model given is not changed.
        images: training images as the network takes them, each (B, C, H, W), normalised. About 100, from all over the
            training set, will do; test images would make the result look better than it is.
        path: of the new model, ending in ``.xml``; the weights go beside it, into ``.bin``.
        float_stages: how many of the encoder's four stages, with the block that leads to the next, stay floating
            point: 0 for the fastest, 4 for int8 in the decoder only.
        subset_size: images, or batches where the model is fixed to one, that are used at most, the first ones.

    Returns:
        The path of the ``.xml``. The same model and images give the same file.

    Raises:
        ConfigError: When openvino or nncf is not installed, the files cannot be written there, the model is not one of
            ours, ``float_stages`` is not 0 to 4, or ``subset_size`` is below 16.
        DataError: When there are fewer than 16 images, or one is not of a shape that the model takes, or not finite.
        WeightsError: When the file is not there or cannot be read.

    Source: NNCF's post-training quantisation, https://github.com/openvinotoolkit/nncf, with SmoothQuant (Xiao et al.,
    arXiv 2211.10438). Its bias correction is left out: it moved the logits by six times what rounding does.
    """
    nncf, openvino = _import_nncf(), import_optional("openvino", "openvino")
    path = check_output_file(path, ".xml")
    if float_stages not in range(STAGES + 1):
        raise ConfigError(f"float_stages must be 0 to {STAGES}, got {float_stages!r}.")
    if subset_size < MIN_IMAGES:
        raise ConfigError(f"subset_size must be at least {MIN_IMAGES}, got {subset_size}.")
    if isinstance(model, (str, Path)):
        model = read_model(existing_file(model, ".xml"))
    kept = _kept_in_float(model, float_stages)
    shape = model.inputs[0].partial_shape
    batches = list(islice(_batches(images, shape), subset_size))
    count = sum(map(len, batches))
    if count < MIN_IMAGES:
        raise DataError(f"int8 needs at least {MIN_IMAGES} training images to find its ranges, got {count}.")
    if not all(np.isfinite(batch).all() for batch in batches):
        raise DataError("An image holds NaN or infinite values.")
    with _quiet(nncf):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(batches),
            subset_size=len(batches),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept),
            advanced_parameters=nncf.AdvancedQuantizationParameters(
                disable_bias_correction=True,
                activations_range_estimator_params=nncf.quantization.range_estimator.RangeEstimatorParametersSet.MINMAX,
            ),
        )
    quantized.set_rt_info("int8", ["framework", "precision"])
    with whole_file(path) as unfinished:
        openvino.save_model(quantized, unfinished, compress_to_fp16=False)
    return path

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

from monai_sam2unet.errors import ConfigError, DataError, WeightsError
from monai_sam2unet.export.exported_network import existing_file
from monai_sam2unet.export.optional_package import import_optional
from monai_sam2unet.export.output_file import check_output_file, whole_file

__all__ = ["quantize_openvino"]

#: Ranges of activations from fewer images than these depend on which images they are.
MIN_IMAGES = 16

Array = np.ndarray[Any, Any]


def _import_nncf() -> Any:
    # NNCF tells its makers of each run, over the network. That is not for a package to decide in a hospital.
    os.environ.setdefault("NNCF_CI", "1")
    return import_optional("nncf", "openvino")


@contextmanager
def _quiet(nncf: Any) -> Iterator[None]:
    """Keep NNCF's progress bars and remarks from the terminal, which may show a progress of ours."""
    console, logger = rich.get_console(), logging.getLogger("nncf")
    quiet, level, console.quiet = console.quiet, logger.level, True
    nncf.set_log_level(logging.ERROR)
    try:
        yield
    finally:
        console.quiet = quiet
        nncf.set_log_level(level)


def _is_constant(output: Any) -> bool:
    """Whether a value is a constant, stored in the file's type or converted from a smaller one."""
    node = output.get_node()
    while node.get_type_name() in ("Convert", "Transpose", "Reshape", "Unsqueeze"):
        node = node.input_value(0).get_node()
    return bool(node.get_type_name() == "Constant")


def _upstream(nodes: Iterable[Any]) -> set[str]:
    """Names of the operators that the given ones are computed from, and of these."""
    found: set[str] = set()
    pending = list(nodes)
    while pending:
        node = pending.pop()
        if node.get_friendly_name() not in found:
            found.add(node.get_friendly_name())
            pending += [value.get_node() for value in node.input_values()]
    return found


def _kept_in_float(model: Any, float_stages: int) -> list[str]:
    """Names of the multiplying operators that are not to become int8, see :func:`quantize_openvino`."""
    nodes = model.get_ordered_ops()
    products = [node for node in nodes if node.get_type_name() in ("Convolution", "MatMul")]
    norms = [node for node in nodes if node.get_type_name() == "MVN"]
    channels = [norm.output(0).get_partial_shape()[-1].get_length() for norm in norms]
    if not norms or "Convolution" not in {node.get_type_name() for node in products}:
        raise ConfigError("The model is no exported SAM2UNet: it has no layer normalisation or no convolution.")
    stages = sorted(set(channels))
    if float_stages == len(stages):
        kept = {node.get_friendly_name() for node in products if node.get_type_name() == "MatMul"}
    else:
        kept = set()
    # The first LayerNorm comes after the patch embedding; those of a stage's width after all of the stage but, where
    # the next stage begins, its wider half.
    early = [norm for norm, width in zip(norms, channels, strict=True) if width in stages[:float_stages]]
    kept |= _upstream([norms[0], *early])
    attention = {node.get_friendly_name() for node in products if not any(map(_is_constant, node.input_values()))}
    attention |= {node.get_friendly_name() for node in nodes if node.get_type_name() == "ScaledDotProductAttention"}
    # Rounding the logits before they are enlarged would be seen in the mask's edge.
    kinds = ("Convolution", "Interpolate")
    last = {[node.get_friendly_name() for node in nodes if node.get_type_name() == kind][-1] for kind in kinds}
    names = {node.get_friendly_name() for node in products}
    return sorted((kept & names) | attention | last)


def _single_images(images: Iterable[Tensor | Array], shape: Any) -> Iterator[Array]:
    """Images one by one, in the batches (n, C, H, W) that the model takes."""
    batch = 1 if shape[0].is_dynamic else shape[0].get_length()
    waiting: list[Array] = []
    for image in images:
        values = np.asarray(image.detach().cpu().numpy() if isinstance(image, Tensor) else image, dtype=np.float32)
        fits = values.ndim == 4 and all(
            wanted.is_dynamic or wanted.get_length() == length
            for wanted, length in zip(list(shape)[1:], values.shape[1:], strict=True)
        )
        if not fits:
            raise DataError(
                f"The model takes images of shape {shape}, got {values.shape}. Prepare them as for the network: "
                "(B, C, H, W), normalised as in training, of the model's size where that is fixed."
            )
        for single in values:
            waiting.append(single)
            if len(waiting) == batch:
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
    """Make an int8 model of an exported one: smaller and faster on CPUs, with masks that differ.

    Weights and activations of most linear layers and convolutions become int8, their ranges taken from images (NNCF,
    SmoothQuant). Kept in float: the patch embedding, the first stages, attention, the last convolution and the
    enlargement of the logits. How far the masks move depends on the network: compare them on images of yours
    before you use the file (``docs/exporting.md``).

    Args:
        model: what :func:`~monai_sam2unet.export.export_openvino` wrote (``.xml``), or an ``openvino.Model``.
        images: images (B, C, H, W), prepared as for the network; of training, not of the test set.
        path: file to write, ``.xml``; the weights come beside it (``.bin``).
        float_stages: how many of the encoder's stages are kept in float, 0 to 4, from the first on.
        subset_size: how many images are taken at most.

    Returns:
        ``path``.

    Raises:
        ConfigError: When OpenVINO or NNCF is not installed, ``path`` does not end in ``.xml``, ``float_stages`` is not
            0 to 4, or the model is no exported SAM2UNet.
        DataError: When there are fewer than 16 images, or one does not fit the model.
        WeightsError: When ``model`` does not exist or cannot be read.
    """
    nncf, openvino = _import_nncf(), import_optional("openvino", "openvino")
    path = check_output_file(path, ".xml")
    if float_stages not in range(5):
        raise ConfigError(f"float_stages must be 0, 1, 2, 3 or 4, got {float_stages!r}.")
    if isinstance(model, (str, Path)):
        file = existing_file(model, ".xml")
        try:
            model = openvino.Core().read_model(file)
        except RuntimeError as error:
            raise WeightsError(f"{file} cannot be read by OpenVINO: {error}") from error
    kept = _kept_in_float(model, float_stages)
    samples = list(islice(_single_images(images, model.inputs[0].partial_shape), subset_size))
    if len(samples) < MIN_IMAGES:
        raise DataError(f"int8 needs at least {MIN_IMAGES} images to take ranges from, got {len(samples)}.")
    advanced = nncf.AdvancedQuantizationParameters(disable_bias_correction=True)
    with _quiet(nncf):
        quantized = nncf.quantize(
            model,
            nncf.Dataset(samples),
            subset_size=len(samples),
            model_type=nncf.ModelType.TRANSFORMER,
            preset=nncf.QuantizationPreset.MIXED,
            ignored_scope=nncf.IgnoredScope(names=kept),
            advanced_parameters=advanced,
        )
    with whole_file(path) as unfinished:
        openvino.save_model(quantized, unfinished, compress_to_fp16=False)
    return path

# SPDX-License-Identifier: Apache-2.0
"""Loads published and own weights of every layout into an encoder or a whole network, whole or not at all."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from monai_sam2unet.errors import WeightsError
from monai_sam2unet.networks.encoder_probe import compute_alike, probe_encoder
from monai_sam2unet.networks.hiera import Hiera
from monai_sam2unet.networks.hub import VERSIONS, find_weights
from monai_sam2unet.networks.layouts import Weights, is_added, recognise
from monai_sam2unet.networks.light_checkpoint import frozen_sha256, is_light, read_safetensors
from monai_sam2unet.networks.low_rank_change import check_factors, is_change, with_changes
from monai_sam2unet.networks.weights_fit import check_choices, check_named_size, check_size, check_tensors

__all__ = ["WeightsError", "WeightsReport", "load_weights", "read_checkpoint", "read_whole_network"]


logger = logging.getLogger(__name__)

EXPORTED = (".onnx", ".xml", ".pt2", ".ts")


@dataclass(frozen=True)
class WeightsReport:
    """What :func:`load_weights` found and did.

    Attributes:
        path: the file.
        layout: whose naming the file follows, such as ``"SAM 2"`` or ``"timm"``.
        part: what was loaded: ``"encoder"`` or ``"network"``.
        loaded: names of the parameters and buffers that now hold the file's values.
        ignored: names in the file that have no place in this network (SAM 2's mask decoder, say).
    """

    path: Path
    layout: str
    part: str
    loaded: tuple[str, ...]
    ignored: tuple[str, ...]

    def __str__(self) -> str:
        text = f"{self.path}: {self.layout} weights, {len(self.loaded)} tensors loaded into the {self.part}"
        return f"{text}, {len(self.ignored)} of the file not used" if self.ignored else text


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a ``.safetensors`` file, or a torch file with ``weights_only=True``.

    Raises:
        WeightsError: When the file is an exported network, cannot be read, or does not hold a dict.
    """
    if path.suffix in EXPORTED:
        raise WeightsError(
            f"{path} is an exported file, with the network in it, not weights. Give what training wrote, such as "
            "models/model.pt; or run a bundle on the exported file by the overlay configs/recipes/exported.yaml."
        )
    try:
        if path.suffix == ".safetensors":
            return read_safetensors(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # the readers raise anything (KeyError, struct.error, ...) on bytes that are no weights
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if reason.startswith("Weights only load failed"):
            reason = "it is no file of torch.save, or holds code, which is not run"  # torch would have it run
        raise WeightsError(
            f"{path} cannot be read as weights: {reason}\n"
            "It may be incomplete, or hold something else than tensors. Fetch it again, or give another file."
        ) from error
    if not isinstance(content, dict):
        raise WeightsError(f"{path} holds a {type(content).__name__}, not a dict of tensors.")
    return content


def read_whole_network(path: Path) -> Weights:
    """Read a full checkpoint of a network.

    Raises:
        WeightsError: When the file cannot be read, is a light checkpoint, or holds no whole network.
    """
    content = read_checkpoint(path)
    if is_light(content):
        raise WeightsError(f"{path} is a light checkpoint, whose encoder is not in it; give a full one.")
    found = recognise(content, path)
    if not found.whole_network:
        raise WeightsError(f"{path} holds no whole SAM2-UNet ({found.layout}). Give what training wrote.")
    return found


def _fit_in_channels(filters: Tensor, in_channels: int) -> Tensor:
    """Make filters (C, 3, 7, 7) take another number of channels, with the same response where all channels agree."""
    return filters.float().sum(1, keepdim=True).repeat(1, in_channels, 1, 1) / in_channels


def _is_its_encoder(network: nn.Module, frozen: Sequence[str], light: Mapping[str, Any]) -> bool:
    """Whether a network holds the frozen weights that a light checkpoint was trained on."""
    if frozen_sha256(network, frozen) == light.get("frozen_sha256"):
        return True
    return "encoder_probe" in light and compute_alike(light["encoder_probe"], probe_encoder(network))


def _load_light(network: nn.Module, content: Mapping[str, Any], path: Path) -> WeightsReport:
    tensors: dict[str, Tensor] = content.get("state_dict", {})
    factors = {k: v for k, v in tensors.items() if is_change(k)}
    found = {k: v for k, v in tensors.items() if k not in factors}
    encoder = getattr(network, "encoder", None)
    if not isinstance(encoder, Hiera):
        raise WeightsError(f"{path} is a light checkpoint: what was trained beside an encoder, not an encoder.")
    own = network.state_dict()
    frozen = [k for k in own if k not in found and k.startswith("encoder.") and not is_added(k)]
    check_named_size(str(content.get("encoder_size", encoder.size)), encoder.size, path)
    check_choices(found, own, path)
    trained = {k: v for k, v in own.items() if k not in frozen}
    check_tensors(found, trained, path, " It is a light checkpoint: only what was trained.")
    check_factors(factors, {k: own[k] for k in frozen}, path)
    # A file from elsewhere is not to decide what else is opened or fetched.
    if content.get("encoder_weights", VERSIONS[0]) not in VERSIONS:
        raise WeightsError(
            f"{path} asks for the encoder {content['encoder_weights']!r}; only Meta's are fetched for it."
        )
    before: dict[str, Tensor] = {}
    if not _is_its_encoder(network, frozen, content) and "encoder_weights" in content:
        before = {k: v.clone() for k, v in own.items() if k.startswith("encoder.")}
        logger.info(str(load_weights(encoder, content["encoder_weights"])))
    if not _is_its_encoder(network, frozen, content):
        network.load_state_dict({**network.state_dict(), **before})
        raise WeightsError(
            f"{path} is a light checkpoint, trained on other frozen encoder weights than this network holds now.\n"
            "First load the weights that the training started from (the network's argument `weights`, `--weights` "
            "of a bundle), of the same encoder size."
        )
    state = network.state_dict()
    network.load_state_dict({**state, **found, **with_changes(state, factors)})
    return WeightsReport(path, "light checkpoint", "network", tuple(tensors), ())


def _wrapped_name(name: str) -> str:
    """Name of an encoder tensor inside a network, which wraps each block: blocks.3.x to blocks.3.block.x."""
    parts = name.split(".")
    return ".".join([*parts[:2], "block", *parts[2:]]) if parts[0] == "blocks" else name


def _load_encoder(encoder: Hiera, weights: Weights, path: Path) -> WeightsReport:
    found = dict(weights.tensors)
    own = encoder.state_dict()
    added = {k: v for k, v in own.items() if is_added(k)}
    filters = "patch_embed.proj.weight"
    wanted = own[filters].shape[1]
    if filters in found and found[filters].shape[1] == 3 and wanted != 3:
        found[filters] = _fit_in_channels(found[filters], wanted)
    if any(".block." in k for k in own):
        found = {_wrapped_name(k): v for k, v in found.items()}
    check_size(weights.tensors, encoder.size, path)
    check_tensors(found, {k: v for k, v in own.items() if k not in added}, path)
    encoder.load_state_dict({**added, **found})
    return WeightsReport(path, weights.layout, "encoder", tuple(found), weights.ignored)


def load_weights(module: nn.Module, source: str | Path) -> WeightsReport:
    """Load weights of any known layout.

    Known are: Meta's SAM 2 and 2.1 checkpoints (``{"model": {"image_encoder.trunk...": ...}}``), Hugging Face
    transformers' and timm's safetensors, the checkpoints of the released SAM2-UNet code, this package's own full and
    light checkpoints, and any of them inside a dict under ``model``, ``net``, ``network`` or ``state_dict``, as MONAI's
    ``CheckpointSaver`` writes them. Torch files are read with ``weights_only=True``.

    A file that holds only the encoder, given to a whole network, fills the encoder and leaves adapters, LoRA and
    decoder as they are. A file that holds a whole network, given to an encoder, fills it from the network's frozen
    part. A light checkpoint that names the encoder it was trained on, as ``sam2unet weights extract`` writes it, brings
    that encoder along: where the network holds another one, it is found as ``source`` would be.

    Args:
        module: a :class:`~monai_sam2unet.networks.Hiera`, or a network with one under ``encoder``.
        source: a file's path, ``"sam2"`` or ``"sam2.1"`` (Meta's encoder of the module's size), the name of
            a ``.safetensors`` file in the weights folder, or a repository of the Hugging Face hub, ``owner/name``.

    Returns:
        What was found and what was loaded.

    Raises:
        TypeError: When ``module`` is neither an encoder nor has one.
        WeightsError: When nothing is found under ``source``; it cannot be read, or holds a network that was exported
            or rebuilt for inference; its layout is not known; a tensor is
            missing, unexpected, of another shape or not finite (the text lists them); a network's checkpoint was
            trained with other ``adapter_channels`` or ``lora_rank`` (the text names those to set); or a light
            checkpoint was trained on other frozen weights. The module is then unchanged.
    """
    encoder = module if isinstance(module, Hiera) else getattr(module, "encoder", None)
    if not isinstance(encoder, Hiera):
        raise TypeError(f"Weights are loaded into a Hiera or a network with one as `encoder`, not {type(module)}.")
    path = find_weights(source, encoder.size)
    content = read_checkpoint(path)
    if any(str(key).endswith("rfb1.heads.weight") for key in content):
        raise WeightsError(
            f"{path} holds a network rebuilt by optimize_for_inference, which is not loaded. Give what training wrote."
        )
    if is_light(content):
        return _load_light(module, content, path)
    weights = recognise(content, path)
    if weights.whole_network and module is not encoder:
        own = module.state_dict()
        check_size(weights.encoder().tensors, encoder.size, path)
        check_choices(weights.tensors, own, path)
        check_tensors(weights.tensors, own, path)
        module.load_state_dict(dict(weights.tensors))
        return WeightsReport(path, weights.layout, "network", tuple(weights.tensors), weights.ignored)
    return _load_encoder(encoder, weights.encoder(), path)

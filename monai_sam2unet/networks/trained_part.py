# SPDX-License-Identifier: Apache-2.0
"""Takes what was trained out of a checkpoint, into a small file to give away."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.networks.encoder_probe import probe_encoder
from monai_sam2unet.networks.hub import VERSIONS
from monai_sam2unet.networks.layouts import recognise
from monai_sam2unet.networks.light_checkpoint import LIGHT_FORMAT, frozen_sha256, is_light, light_state_dict
from monai_sam2unet.networks.sam2unet import SAM2UNet
from monai_sam2unet.networks.weights import load_weights, read_checkpoint
from monai_sam2unet.networks.weights_fit import network_choices

__all__ = ["TrainedPart", "save_trained_part"]


@dataclass(frozen=True)
class TrainedPart:
    """What :func:`save_trained_part` wrote.

    Attributes:
        path: the file.
        sha256: of the file, 64 hexadecimal digits.
        num_bytes: its size.
        choices: arguments of :class:`~monai_sam2unet.networks.SAM2UNet` that the network was trained with.
    """

    path: Path
    sha256: str
    num_bytes: int
    choices: dict[str, Any]


def _stored(value: Tensor) -> Tensor:
    # Running variances may lie below what 16 bits hold; they and all other vectors are small.
    return value.half().contiguous() if value.is_floating_point() and value.dim() > 1 else value.contiguous()


def save_trained_part(checkpoint: str | Path, output: str | Path, encoder_weights: str = "sam2.1") -> TrainedPart:
    """Write adapters, LoRA and decoder of a trained network, without the frozen encoder, weights in 16 bits.

    :func:`monai_sam2unet.networks.load_weights` loads the file, and the encoder that it names.

    Args:
        checkpoint: a training's full checkpoint, such as ``models/model.pt``.
        output: ``.safetensors`` file to write.
        encoder_weights: what the training started from: ``"sam2"`` or ``"sam2.1"``.

    Returns:
        The file and its hash.

    Raises:
        ConfigError: When ``encoder_weights`` is neither, or ``output`` no ``.safetensors`` file in an existing folder.
        WeightsError: When the checkpoint holds no whole network, one that was made for other than 1 or 3 channels, its
            encoder is not that of ``encoder_weights``, or a value is too large for 16 bits.
    """
    path = Path(output)
    if encoder_weights not in VERSIONS:
        raise ConfigError(f"The encoder is one that all can fetch, {' or '.join(VERSIONS)}, got {encoder_weights!r}.")
    if path.suffix != ".safetensors" or not path.parent.is_dir():
        raise ConfigError(f"The output is a .safetensors file in a folder that exists, got {output}.")
    content = read_checkpoint(Path(checkpoint))
    if is_light(content):
        raise WeightsError(f"{checkpoint} is a light checkpoint, whose encoder is not in it; give a full one.")
    found = recognise(content, Path(checkpoint))
    if not found.whole_network:
        raise WeightsError(f"{checkpoint} holds no whole SAM2-UNet ({found.layout}). Give what training wrote.")
    choices = network_choices(found)
    if choices["in_channels"] not in (1, 3):
        raise WeightsError(f"The first layer of {checkpoint} was trained, so that its encoder cannot be left out.")
    network = SAM2UNet(**choices, weights=encoder_weights)
    frozen = frozen_sha256(network)
    load_weights(network, checkpoint)
    if frozen_sha256(network) != frozen:
        raise WeightsError(
            f"The encoder in {checkpoint} is not that of {encoder_weights}: give the weights that the training started "
            "from. An encoder that was trained itself cannot be left out."
        )
    tensors = {name: _stored(value) for name, value in light_state_dict(network, frozen)["state_dict"].items()}
    if not all(value.isfinite().all() for value in tensors.values()):
        raise WeightsError(f"{checkpoint} holds values beyond 65504, the largest number of 16 bits.")
    header = {"format": "pt", "light_format": LIGHT_FORMAT, "frozen_sha256": frozen, "encoder_weights": encoder_weights}
    header["encoder_probe"] = json.dumps([round(value, 5) for value in probe_encoder(network)])
    header |= {name: str(value) for name, value in choices.items()}
    header["encoder_size"] = header.pop("size")
    written = save(tensors, header)
    path.write_bytes(written)
    return TrainedPart(path, hashlib.sha256(written).hexdigest(), len(written), choices)

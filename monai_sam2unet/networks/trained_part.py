# SPDX-License-Identifier: Apache-2.0
"""Takes what was trained out of a checkpoint, into a small file to give away."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.networks.encoder_probe import probe_encoder
from monai_sam2unet.networks.hub import VERSIONS
from monai_sam2unet.networks.layouts import is_added
from monai_sam2unet.networks.light_checkpoint import LIGHT_FORMAT, frozen_sha256, light_state_dict
from monai_sam2unet.networks.low_rank_change import low_rank_changes
from monai_sam2unet.networks.sam2unet import SAM2UNet
from monai_sam2unet.networks.weights import load_weights, read_whole_network
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
        kept: share of the change of the encoder's matrices that is in the file, as sum of squares, 0..1; None where the
            encoder was frozen.
    """

    path: Path
    sha256: str
    num_bytes: int
    choices: dict[str, Any]
    kept: float | None = None


def _stored(value: Tensor) -> Tensor:
    # Running variances may lie below what 16 bits hold; they and all other vectors are small.
    return value.half().contiguous() if value.is_floating_point() and value.dim() > 1 else value.contiguous()


def save_trained_part(
    checkpoint: str | Path, output: str | Path, encoder_weights: str = "sam2.1", encoder_rank: int | None = None
) -> TrainedPart:
    """Write adapters, LoRA and decoder of a trained network, without the frozen encoder, weights in 16 bits.

    Of an encoder that was trained itself, ``encoder_rank`` keeps what changed, nearly: see
    :mod:`monai_sam2unet.networks.low_rank_change`. Measure what is lost on your images.

    :func:`monai_sam2unet.networks.load_weights` loads the file, and the encoder that it names.

    Args:
        checkpoint: a training's full checkpoint, such as ``models/model.pt``.
        output: ``.safetensors`` file to write.
        encoder_weights: what the training started from: ``"sam2"`` or ``"sam2.1"``.
        encoder_rank: rank, at least 1, to which the change of each of a trained encoder's matrices is kept; None for an
            encoder that was frozen.

    Returns:
        The file and its hash.

    Raises:
        ConfigError: When ``encoder_weights`` is neither, ``output`` is no ``.safetensors`` file in an existing folder,
            or ``encoder_rank`` is below 1.
        WeightsError: When the checkpoint holds no whole network, one that was made for other than 1 or 3 channels, its
            encoder is not that of ``encoder_weights`` and there is no ``encoder_rank``, or a value is too large for 16
            bits.
    """
    path = Path(output)
    if encoder_weights not in VERSIONS:
        raise ConfigError(f"The encoder is one that all can fetch, {' or '.join(VERSIONS)}, got {encoder_weights!r}.")
    if path.suffix != ".safetensors" or not path.parent.is_dir():
        raise ConfigError(f"The output is a .safetensors file in a folder that exists, got {output}.")
    found = read_whole_network(Path(checkpoint))
    choices = network_choices(found)
    if choices["in_channels"] not in (1, 3):
        raise WeightsError(f"The first layer of {checkpoint} was trained, so that its encoder cannot be left out.")
    before, network = SAM2UNet(**choices, weights=encoder_weights), SAM2UNet(**choices)
    load_weights(network, checkpoint)
    state = network.state_dict()
    encoder = {k: v for k, v in before.state_dict().items() if k.startswith("encoder.") and not is_added(k)}
    changes = None if encoder_rank is None else low_rank_changes(state, encoder, encoder_rank)
    if changes is None and not all(torch.equal(state[name], old) for name, old in encoder.items()):
        raise WeightsError(
            f"The encoder in {checkpoint} is not that of {encoder_weights}: give the weights that the training started "
            "from. Of an encoder that was trained itself, a rank (`--encoder-rank 16`) keeps what changed, nearly."
        )
    trained = {**light_state_dict(network, "")["state_dict"], **(changes.tensors if changes else {})}
    tensors = {name: _stored(value) for name, value in trained.items()}
    frozen = frozen_sha256(before, [name for name in encoder if name not in tensors])
    if not all(value.isfinite().all() for value in tensors.values()):
        raise WeightsError(f"{checkpoint} holds values beyond 65504, the largest number of 16 bits.")
    header = {"format": "pt", "light_format": LIGHT_FORMAT, "frozen_sha256": frozen, "encoder_weights": encoder_weights}
    header["encoder_probe"] = json.dumps([round(value, 5) for value in probe_encoder(before)])
    header |= {name: str(value) for name, value in choices.items()}
    header["encoder_size"] = header.pop("size")
    written = save(tensors, header)
    path.write_bytes(written)
    kept = changes.kept if changes and changes.tensors else None
    return TrainedPart(path, hashlib.sha256(written).hexdigest(), len(written), choices, kept)

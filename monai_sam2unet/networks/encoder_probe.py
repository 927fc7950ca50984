# SPDX-License-Identifier: Apache-2.0
"""Tells whether two frozen encoders compute the same, where their files do not agree to the last bit.

The same weights come rounded otherwise, or with a constant moved between the two position embeddings, whose sum alone
counts: a hash takes these for others.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from monai_sam2unet.networks.hiera import Hiera
from monai_sam2unet.networks.layouts import is_added

__all__ = ["compute_alike", "probe_encoder"]

#: Side of the probed image in pixels, channels and places taken of each of its four feature maps.
_SIDE, _CHANNELS, _PLACES = 128, 16, (0.0, 0.35, 0.5, 0.99)
#: Largest distance of two encoders that compute the same, as a share of the length, map by map. Rounding to another
#: order of sums makes 1e-6; noise of a hundredth in a single layer at the end of Tiny, 2e-3.
_TOLERANCE = 3e-4


def probe_encoder(network: nn.Module) -> list[float]:
    """Some features of a fixed image, by a network's encoder without adapters and LoRA.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`.

    Returns:
        Four times 64 numbers: 16 channels at four places of each feature map.
    """
    encoder: Hiera = network.get_submodule("encoder")  # type: ignore[assignment]
    own = {name: value for name, value in encoder.state_dict().items() if not is_added(name)}
    channels = own["patch_embed.proj.weight"].shape[1]
    with torch.device("meta"):
        bare = Hiera(encoder.size, channels)
    # Assigned, not copied: the largest encoder has 850 MB.
    bare.load_state_dict({name.replace(".block.", "."): value for name, value in own.items()}, assign=True)
    steps = torch.arange(_SIDE, dtype=torch.float32, device=own["pos_embed"].device) * (2 * math.pi / _SIDE)
    image = torch.stack([torch.sin((k + 1) * steps)[:, None] * torch.cos((k + 2) * steps) for k in range(channels)])
    with torch.inference_mode():
        maps = bare.float().eval()(image[None])
    flat = [found[0, :_CHANNELS].flatten(1) for found in maps]
    places = [[int(place * values.shape[1]) for place in _PLACES] for values in flat]
    return [float(value) for values, own in zip(flat, places, strict=True) for value in values[:, own].flatten()]


def compute_alike(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two probes are of encoders that compute the same, up to rounding.

    Args:
        first: what :func:`probe_encoder` gives.
        second: as well.

    Example:
        >>> compute_alike([1.0, 0.5, 2.0, 3.0], [1.0, 0.50001, 2.0, 3.0])
        True
        >>> compute_alike([1.0, 0.5, 2.0, 3.0], [1.0, 0.501, 2.0, 3.0])
        False
    """
    if len(first) != len(second) or len(first) % 4:
        return False
    a, b = (torch.tensor(values).view(4, -1) for values in (first, second))
    return bool(((a - b).norm(dim=1) <= _TOLERANCE * a.norm(dim=1)).all())

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

#: Side of the probed image in pixels, and values taken of each of its four feature maps.
_SIDE, _VALUES = 128, 16
#: Largest difference of two encoders that compute the same, as a share of the largest value. Storing all of Tiny's
#: weights in 16 bits makes about half of it, noise of a hundredth in one of its layers twice as much.
_TOLERANCE = 2e-3


def probe_encoder(network: nn.Module) -> list[float]:
    """Some features of a fixed image, by a network's encoder without adapters and LoRA.

    Args:
        network: a :class:`~monai_sam2unet.networks.SAM2UNet`.

    Returns:
        64 numbers: 16 channels in the middle of each feature map.
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
    middles = (found[0, :_VALUES, found.shape[2] // 2, found.shape[3] // 2] for found in maps)
    return [float(value) for middle in middles for value in middle]


def compute_alike(first: Sequence[float], second: Sequence[float]) -> bool:
    """Whether two probes are of encoders that compute the same, up to rounding.

    Args:
        first: what :func:`probe_encoder` gives.
        second: as well.

    Example:
        >>> compute_alike([1.0, 0.5], [1.0, 0.5001]), compute_alike([1.0, 0.5], [1.0, 0.6])
        (True, False)
    """
    a, b = torch.tensor(first), torch.tensor(second)
    return a.shape == b.shape and bool((a - b).abs().max() <= _TOLERANCE * a.abs().max())

# SPDX-License-Identifier: Apache-2.0
"""Where a request asks the network to run; MONAI Label takes the CPU without a word where there is no GPU."""

from __future__ import annotations

from typing import Any

import torch
from monailabel.utils.others.generic import device_map

from monai_sam2unet.bundle.present_device import device_names
from monai_sam2unet.errors import ConfigError

__all__ = ["requested_device"]

_ALLOWED = "cpu, cuda, cuda:NUMBER or a GPU's name"


def requested_device(given: Any) -> str:
    """The device that a request asks for, as torch calls it.

    Args:
        given: ``cpu``, ``cuda``, ``cuda:1``, a GPU's name as ``/info/`` tells it, or a list of these, of which the
            first is taken; None or empty: the GPU, if there is one.

    Raises:
        ConfigError: When it, or one of the list, is none of these, or the server has no such device.
    """
    if isinstance(given, list) and given:
        found = [_found(name) for name in given]
        return found[0]
    if given:
        return _found(given)
    return "cuda" if torch.cuda.is_available() else "cpu"


def _found(name: Any) -> str:
    if not name or not isinstance(name, str):
        raise ConfigError(f"device must be {_ALLOWED}, got {name!r}.")
    try:
        device = torch.device(device_map().get(name, name))
    except RuntimeError as error:
        raise ConfigError(f"device must be {_ALLOWED}, got {name!r}.") from error
    there = device_names()
    # Of processors there is one device, whatever number torch lets it have.
    if (f"cuda:{device.index or 0}" if device.type == "cuda" else str(device)) in there:
        return str(device)
    told = ", ".join(there)
    raise ConfigError(f"The server has no device {name!r}; it has {told}. Leave device out, or give one of these.")

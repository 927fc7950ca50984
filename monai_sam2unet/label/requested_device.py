# SPDX-License-Identifier: Apache-2.0
"""Where a request asks the network to run; MONAI Label takes the CPU without a word where there is no GPU."""

from __future__ import annotations

from typing import Any

import torch
from monailabel.utils.others.generic import device_map

from monai_sam2unet.errors import ConfigError

__all__ = ["requested_device"]


def requested_device(given: Any) -> str:
    """The device that a request asks for, as torch calls it.

    Args:
        given: ``cpu``, ``cuda``, ``cuda:1``, a GPU's name as ``/info/`` tells it, or a list, of which the first counts;
            None or empty: the GPU, if there is one.

    Raises:
        ConfigError: When it is none of these, or the server has no such device.
    """
    name = given[0] if isinstance(given, list) and given else given
    if not name:
        return "cuda" if torch.cuda.is_available() else "cpu"
    if not isinstance(name, str):
        raise ConfigError(f"device must be cpu, cuda, cuda:NUMBER or a GPU's name, got {given!r}.")
    known = device_map()
    try:
        device = torch.device(known.get(name, name))
    except RuntimeError as error:
        raise ConfigError(f"device must be cpu, cuda, cuda:NUMBER or a GPU's name, got {given!r}.") from error
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if device.type == "cpu" or (device.type == "cuda" and (device.index or 0) < count):
        return str(device)
    there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
    raise ConfigError(f"The server has no device {given!r}; it has {there}. Leave device out, or give one of these.")

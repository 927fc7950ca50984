# SPDX-License-Identifier: Apache-2.0
"""The devices of this machine that networks run on, and one of them by its name."""

from __future__ import annotations

import torch

from monai_sam2unet.errors import ConfigError

__all__ = ["device_names", "present_device"]


def device_names() -> list[str]:
    """The devices of this machine: ``cpu``, ``cuda:0``, ``cuda:1`` and so on."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return ["cpu", *(f"cuda:{number}" for number in range(count))]


def present_device(name: str) -> torch.device:
    """A device to run the network on.

    Args:
        name: ``cpu``, ``cuda`` or ``cuda:NUMBER``.

    Raises:
        ConfigError: When it is none of these, or this machine does not have it.

    Example:
        >>> present_device("cpu")
        device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"A device is cpu, cuda or cuda:NUMBER, got {name!r}.") from error
    there = device_names()
    if f"{device.type}:{device.index or 0}" in ("cpu:0", *there):
        return device
    raise ConfigError(f"There is no device {name!r} here. Choose of: {', '.join(there)}.")

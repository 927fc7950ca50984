# SPDX-License-Identifier: Apache-2.0
"""A device by its name, if this machine has it."""

from __future__ import annotations

import torch

from monai_sam2unet.errors import ConfigError

__all__ = ["present_device"]


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
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ConfigError(f"A device is cpu, cuda or cuda:NUMBER, got {name!r}.") from error
    if (device.type == "cpu" and not device.index) or (device.type == "cuda" and (device.index or 0) < count):
        return device
    there = ", ".join(["cpu", *(f"cuda:{number}" for number in range(count))])
    raise ConfigError(f"There is no device {name!r} here. Choose of: {there}.")

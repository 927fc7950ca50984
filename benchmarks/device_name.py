# SPDX-License-Identifier: Apache-2.0
"""What a machine computes with, by name."""

from __future__ import annotations

import platform
from pathlib import Path

import torch

__all__ = ["device_name"]


def device_name(device: torch.device) -> str:
    """The name of a GPU or of the processor, as its maker or the system has it.

    Args:
        device: of type ``cuda`` or ``cpu``.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    info = Path("/proc/cpuinfo")
    names = [line for line in info.read_text().splitlines() if line.startswith("model name")] if info.exists() else []
    return names[0].split(":", 1)[1].strip() if names else platform.processor() or platform.machine()

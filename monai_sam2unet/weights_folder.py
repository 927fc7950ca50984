# SPDX-License-Identifier: Apache-2.0
"""Weights on this machine: files by their path, or by name in a folder of one's own."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["VERSIONS", "WEIGHTS_VARIABLE", "local_weights", "weights_folder"]

WEIGHTS_VARIABLE = "SAM2UNET_WEIGHTS"
"""Environment variable that names a weights file, or a folder to look in before the hub is asked."""

VERSIONS = ("sam2", "sam2.1")
"""Names of Meta's published encoders."""

NAME = re.compile(r"[\w.-]+")


def weights_folder() -> Path:
    """The folder searched for weights by name: that of ``SAM2UNET_WEIGHTS``, else ``~/.cache/monai_sam2unet``."""
    given = os.environ.get(WEIGHTS_VARIABLE)
    return Path(given).expanduser() if given else Path.home() / ".cache" / "monai_sam2unet"


def local_weights(source: str | Path) -> Path | None:
    """The file that is meant by what a user gives as ``weights``, other than Meta's published encoders.

    Args:
        source: a file's path, or the name of a ``.safetensors`` file in :func:`weights_folder`.

    Returns:
        The path of an existing file; None where there is none, and of ``"sam2"`` and ``"sam2.1"``.
    """
    name = str(source)
    if name in VERSIONS:
        return None
    path = Path(source).expanduser()
    if path.is_file():
        return path
    named = weights_folder() / f"{name}.safetensors"
    return named if NAME.fullmatch(name) and named.is_file() else None

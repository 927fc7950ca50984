# SPDX-License-Identifier: Apache-2.0
"""Sees before the work whether a file can be written."""

from __future__ import annotations

from pathlib import Path

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import why_not_writable

__all__ = ["check_output_file"]


def check_output_file(path: str | Path, suffix: str) -> Path:
    """See before the work that a file can be written.

    Args:
        path: of the file; its folder is made.
        suffix: that it must have, such as ``".onnx"``.

    Returns:
        The path.

    Raises:
        ConfigError: When it has another suffix, is a folder, or its folder cannot be made or written to.
    """
    path = Path(path)
    if path.suffix != suffix:
        raise ConfigError(f"The file must end in {suffix}, got {path}.")
    reason = "it is a folder" if path.is_dir() else why_not_writable(path.parent)
    if reason is not None:
        raise ConfigError(f"{path} cannot be written: {reason}. Give another file.")
    return path

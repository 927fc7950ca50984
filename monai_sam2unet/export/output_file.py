# SPDX-License-Identifier: Apache-2.0
"""Writes a file whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import why_not_writable

__all__ = ["check_output_file", "whole_file"]


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


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give a path to write to; the file takes its place when all went well, with any files written beside it.

    Args:
        path: where the file shall be. One that is there already stays as it is until the end.
    """
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        yield Path(folder) / path.name
        # The file itself comes last: where there was none before, who finds it finds all that belongs to it.
        for file in sorted(Path(folder).iterdir(), key=lambda file: file.name == path.name):
            file.replace(path.parent / file.name)

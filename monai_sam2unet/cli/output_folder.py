# SPDX-License-Identifier: Apache-2.0
"""Makes the folder for a command's results before the work, so that none is lost for a wrong path."""

from __future__ import annotations

from pathlib import Path

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import why_not_writable

__all__ = ["make_output_folder"]


def make_output_folder(folder: Path) -> None:
    """Make a folder, and see that files can be written to it.

    Args:
        folder: which one; it may exist.

    Raises:
        ConfigError: When it is a file, cannot be made, or cannot be written to.
    """
    reason = why_not_writable(folder)
    if reason is not None:
        raise ConfigError(
            f"{folder} cannot hold the results (`--output`): {reason}. Give a folder that can be made and written to."
        )

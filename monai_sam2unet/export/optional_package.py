# SPDX-License-Identifier: Apache-2.0
"""Packages that only some exports need."""

from __future__ import annotations

import importlib
from typing import Any

from monai_sam2unet.errors import ConfigError

__all__ = ["import_optional"]


def import_optional(name: str, extra: str) -> Any:
    """Import a package, or say how it is installed.

    Args:
        name: of the module.
        extra: of this package's extras the one that brings it: ``"onnx"`` or ``"openvino"``.

    Returns:
        The module.

    Raises:
        ConfigError: When it is not installed.

    Example:
        >>> import_optional("json", "onnx").dumps([1])
        '[1]'
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"This needs the package {error.name}, which is not installed: pip install monai-sam2unet[{extra}]"
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""OpenVINO's runtime, of which a process has one."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from monai_sam2unet.errors import WeightsError
from monai_sam2unet.export.optional_package import import_optional

__all__ = ["openvino_core", "read_model"]


@cache
def _core(openvino: Any) -> Any:
    return openvino.Core()


def openvino_core() -> Any:
    """The ``openvino.Core`` that all of this package uses; it lives as long as the process.

    OpenVINO's CPU plug-in gives the thread that loads it a stack for signal handlers, and with the Core's end brings
    back the one before. Of two Cores the one made first must not end first: the thread would be left with a stack that
    is no longer there, and the next signal (a data loader's worker that ends, Ctrl-C) kills the process. Seen in
    OpenVINO 2026.4.

    Raises:
        ConfigError: When openvino is not installed.
    """
    return _core(import_optional("openvino", "openvino"))


def read_model(path: Path) -> Any:
    """Read an OpenVINO model or an ONNX file.

    Raises:
        ConfigError: When openvino is not installed.
        WeightsError: When OpenVINO cannot read the file.
    """
    try:
        return openvino_core().read_model(path)
    except RuntimeError as error:
        raise WeightsError(f"{path} cannot be read by OpenVINO: {error}") from error

# SPDX-License-Identifier: Apache-2.0
"""An ONNX file as a network, run by onnxruntime."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.export.exported_network import ExportedNetwork, check_threads, existing_file
from monai_sam2unet.export.optional_package import import_optional

__all__ = ["OnnxNetwork"]


class OnnxNetwork(ExportedNetwork):
    """An ONNX file, run by onnxruntime.

    Args:
        path: file from :func:`~monai_sam2unet.export.export_onnx`.
        providers: what onnxruntime is to use, best first, such as ``["CUDAExecutionProvider"]``. None: CUDA where the
            installed onnxruntime has it (``pip install onnxruntime-gpu``), else the CPU.
        num_threads: threads on the CPU; None leaves the choice to onnxruntime.

    Raises:
        ConfigError: When onnxruntime is not installed, has no such provider or cannot start it, ``providers`` is no
            list of names, or ``num_threads`` is below 1.
        WeightsError: When the file is not there or cannot be read.
    """

    def __init__(
        self, path: str | Path, providers: Sequence[str] | None = None, num_threads: int | None = None
    ) -> None:
        runtime = import_optional("onnxruntime", "onnx")
        path = existing_file(path, ".onnx")
        check_threads(num_threads)
        if isinstance(providers, str) or providers == []:
            raise ConfigError(f"providers must be a list of onnxruntime's names, got {providers!r}.")
        available = runtime.get_available_providers()
        wanted = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        providers = [name for name in wanted if name in available] if providers is None else list(providers)
        absent = [name for name in providers if name not in available]
        if absent:
            raise ConfigError(
                f"The installed onnxruntime has no {', '.join(absent)}. It has: {', '.join(available)}. "
                "For NVIDIA GPUs: pip install onnxruntime-gpu"
            )
        options = runtime.SessionOptions()
        if num_threads is not None:
            options.intra_op_num_threads = num_threads
        try:
            session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:  # each cause has a class of its own in onnxruntime, below no other
            raise WeightsError(f"{path} cannot be read by onnxruntime: {error}") from error
        if session.get_providers()[:1] != providers[:1]:
            raise ConfigError(
                f"onnxruntime could not start {providers[0]} and would run on {session.get_providers()[0]}. Its "
                "message above says what is missing; or choose that by `providers`."
            )
        shape = session.get_inputs()[0].shape
        super().__init__(path, [size if isinstance(size, int) else None for size in shape])
        self.session = session
        self.input_name = session.get_inputs()[0].name

    def _run(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        logits: np.ndarray[Any, Any] = self.session.run(None, {self.input_name: image})[0]
        return logits

# SPDX-License-Identifier: Apache-2.0
"""An OpenVINO model as a network."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np

from monai_sam2unet.errors import ConfigError, WeightsError
from monai_sam2unet.export.exported_network import ExportedNetwork, check_threads, existing_file
from monai_sam2unet.export.openvino_core import openvino_core, read_model

__all__ = ["OpenVINONetwork"]

HINT = "INFERENCE_PRECISION_HINT"


class OpenVINONetwork(ExportedNetwork):
    """An OpenVINO model, run by OpenVINO. Threads may share it; their calls then wait for each other.

    Args:
        path: ``.xml`` from :func:`~monai_sam2unet.export.export_openvino`, its ``.bin`` beside it.
        device: ``"CPU"``, or another that OpenVINO has on the machine, such as ``"GPU"``.
        precision: of the arithmetic, in OpenVINO's words: ``"f32"``; ``"bf16"``, about twice as fast on CPUs that have
            it (Intel's from 2020 on with AVX-512 BF16 or AMX, AMD's from Zen 4 on); ``"f16"`` on GPUs. None leaves the
            choice to OpenVINO, which takes the fastest that the device has. What is int8 in the model stays so.
        num_threads: threads on the CPU; None leaves the choice to OpenVINO.
        cache_dir: folder in which OpenVINO keeps what it compiles for this device, so that the next start is fast.

    Raises:
        ConfigError: When openvino is not installed or has no such device, ``precision`` is not known or not one that
            the device computes in, or ``num_threads`` is below 1.
        WeightsError: When the file is not there or cannot be read.
    """

    def __init__(
        self,
        path: str | Path,
        device: str = "CPU",
        precision: str | None = "f32",
        num_threads: int | None = None,
        cache_dir: str | Path | None = None,
    ) -> None:
        core = openvino_core()
        path = existing_file(path, ".xml")
        if not path.with_suffix(".bin").is_file():
            raise WeightsError(f"{path} has its weights in {path.with_suffix('.bin').name}, which must lie beside it.")
        check_threads(num_threads)
        if precision not in (None, "f32", "bf16", "f16"):
            raise ConfigError(f"precision must be f32, bf16, f16 or None, got {precision!r}.")
        available = core.available_devices
        if device.split(".")[0].split(":")[0] not in {name.split(".")[0] for name in [*available, "AUTO"]}:
            raise ConfigError(f"OpenVINO has no device {device!r} on this machine. It has: {', '.join(available)}.")
        config: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if precision is not None:
            config[HINT] = precision
            if precision == "bf16" and device == "CPU":
                # OpenVINO's fused pieces of code ("snippets") lose digits in bf16 where sizes are fixed: a trained
                # network's logits were off by a third of the largest instead of a thirtieth. Without, as fast.
                config["SNIPPETS_MODE"] = "DISABLE"
        if num_threads is not None:
            config["INFERENCE_NUM_THREADS"] = num_threads
        if cache_dir is not None:
            config["CACHE_DIR"] = str(cache_dir)
        model = read_model(path)
        try:
            compiled = core.compile_model(model, device, config)
        except RuntimeError as error:
            raise WeightsError(f"{path} cannot be run by OpenVINO: {error}") from error
        # OpenVINO takes another type where the device lacks the one that was asked for. AUTO does not tell.
        found = (
            compiled.get_property(HINT).to_string() if HINT in compiled.get_property("SUPPORTED_PROPERTIES") else None
        )
        if precision is not None and found not in (None, precision):
            raise ConfigError(f"OpenVINO's {device} here computes in {found} in place of {precision}; choose another.")
        shape = model.inputs[0].partial_shape
        super().__init__(path, [None if size.is_dynamic else size.get_length() for size in shape])
        self.compiled = compiled
        self._request = compiled.create_infer_request()
        self._lock = Lock()

    def _run(self, image: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        # A request serves one call at a time. Shared inputs would be the caller's memory, to which OpenVINO may write.
        with self._lock:
            logits: np.ndarray[Any, Any] = self._request.infer(image, share_inputs=False, share_outputs=False)[0]
        return logits

# SPDX-License-Identifier: Apache-2.0
"""Works round faults of MONAI Label 0.8.5 and its company; applied before anything of MONAI Label is imported.

For each there is a test that fails when upstream has mended it: then the function goes.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
import sys
from collections.abc import Callable, Coroutine, Mapping
from types import SimpleNamespace
from typing import Any

import pydicom.uid
import torch

from monai_sam2unet.errors import ConfigError

__all__ = [
    "answer_in_threads",
    "apply",
    "batch_without_gpu",
    "declare_torchvision_operators",
    "name_signature_algorithm",
    "name_storage_sopclass_uids",
    "prefer_best_weights",
    "refuse_bundle_path",
]

# Operators are declared as long as their library lives.
_libraries: list[torch.library.Library] = []


def name_storage_sopclass_uids() -> None:
    """The package pydicom-seg 0.4.1 imports a module that pydicom 3 no longer has; ``pydicom.uid`` holds its names."""
    sys.modules.setdefault("pydicom._storage_sopclass_uids", pydicom.uid)


def declare_torchvision_operators() -> None:
    """PyPI's torchvision 0.28.0 is compiled for torch with CUDA; on the CPU's it looks in vain for its operators."""
    try:
        import torchvision  # noqa: F401
    except RuntimeError:
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
        _libraries.append(library)


def prefer_best_weights() -> None:
    """MONAI Label 0.8.5 runs the weights file of a bundle with the shortest name: ``last.pt``, of which none fit."""
    from monailabel.tasks.infer.bundle import BundleInferTask

    original = BundleInferTask.__init__
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def mended(self: Any, *args: Any, **kwargs: Any) -> None:
        original(self, *args, **kwargs)
        if self.valid:
            self._config["model_filename"].sort(key=lambda name: name != self.const.model_pytorch())

    BundleInferTask.__init__ = mended


def batch_without_gpu() -> None:
    """MONAI Label 0.8.5 shares the images of a batch among GPUs, unless it is told not to, also where there is none."""
    from monailabel.interfaces.tasks.batch_infer import BatchInferTask

    original = BatchInferTask.__call__
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def mended(self: Any, request: Mapping[str, Any], *args: Any, **kwargs: Any) -> Any:
        told = request if torch.cuda.is_available() else {**request, "multi_gpu": False}
        return original(self, told, *args, **kwargs)

    BatchInferTask.__call__ = mended


def name_signature_algorithm() -> None:
    """MONAI Label 0.8.5 does not say how tokens are signed, without which PyJWT 2 refuses all of them."""
    import jwt
    from monailabel.endpoints.user import auth

    if auth.jwt is jwt:
        auth.jwt = SimpleNamespace(decode=functools.partial(jwt.decode, algorithms=["RS256"]))


def refuse_bundle_path() -> None:
    """MONAI Label 0.8.5 lets a request say from which folder its background tasks import Python code."""
    from monailabel.utils.async_tasks.task import AsyncTask

    original = AsyncTask.run
    if hasattr(original, "__wrapped__"):
        return

    @functools.wraps(original)
    def mended(
        method: str, request: dict[str, Any] | None = None, params: dict[str, Any] | None = None, **options: Any
    ) -> Any:
        if "bundle_path" in {**(request or {}), **(params or {})}:
            raise ConfigError("bundle_path is not set by a request. Leave it out of params.")
        return original(method, request=request, params=params, **options)

    AsyncTask.run = staticmethod(mended)


def _finished(coroutine: Coroutine[Any, Any, Any]) -> Any:
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError(f"{coroutine!r} waits for something; leave it out of answer_in_threads.")


def answer_in_threads() -> None:
    """MONAI Label 0.8.5's endpoints are coroutines that never wait, so the server stands still while one works.

    They are changed before its app takes them in; but not those that do wait: for what OHIF sends to the archive.
    """
    import monailabel.endpoints
    from anyio import to_thread

    def in_thread(endpoint: Callable[..., Coroutine[Any, Any, Any]]) -> Callable[..., Any]:
        @functools.wraps(endpoint)
        async def answer(**values: Any) -> Any:
            return await to_thread.run_sync(_finished, endpoint(**values))

        return answer

    for found in pkgutil.iter_modules(monailabel.endpoints.__path__, "monailabel.endpoints."):
        router = getattr(importlib.import_module(found.name), "router", None)
        for route in () if router is None else router.routes:
            uploads = found.name.endswith(".proxy") and "POST" in route.methods
            if not uploads and not hasattr(route.endpoint, "__wrapped__"):
                route.endpoint = in_thread(route.endpoint)


def apply() -> None:
    """Work round all of them but those of endpoints, which the server changes itself."""
    name_storage_sopclass_uids()
    declare_torchvision_operators()
    prefer_best_weights()
    batch_without_gpu()
    name_signature_algorithm()
    refuse_bundle_path()

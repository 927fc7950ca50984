# SPDX-License-Identifier: Apache-2.0
"""Starts trainings over HTTP, in place of MONAI Label's own endpoint: mistakes are told before anything is started.

MONAI Label's would run a training that is waited for in the server itself, which then answers nothing else.
"""

from __future__ import annotations

import threading
import time
from typing import Any

from fastapi import APIRouter, Depends, HTTPException
from monailabel.config import settings
from monailabel.endpoints import train as upstream
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.async_tasks.task import AsyncTask
from monailabel.utils.async_tasks.utils import processes, tasks

from monai_sam2unet.errors import ConfigError, UserError
from monai_sam2unet.label.app import SAM2UNetApp

__all__ = ["router"]

router = APIRouter(prefix="/train", tags=["Train"])
_UNDER_WAY = ("SUBMITTED", "RUNNING")
_starting = threading.Lock()


def _refuse_second() -> None:
    """Before its process is there, a training is known to be under way by its status only."""
    under_way = [task for task in tasks("train") if task["status"] in _UNDER_WAY]
    if under_way or processes("train"):
        which = "".join(f" of {task['request'].get('model')}, since {task['start_ts']}," for task in under_way[:1])
        raise HTTPException(
            429,
            f"A training{which} is under way. Wait until it has ended (GET /train/), end it (DELETE /train/), or let "
            "this one follow it (enqueue=true).",
        )


def _waited_for(task: dict[str, Any], trainer: Any) -> dict[str, Any]:
    begun = int(time.time())
    while task["status"] in _UNDER_WAY:
        time.sleep(0.2)
    if task["status"] == "STOPPED":
        raise HTTPException(409, "The training was stopped. With resume: true it goes on after its last epoch.")
    stats: dict[str, Any] = trainer.stats()
    told_by_this = stats.get("start_ts", 0) >= begun
    if task["status"] == "DONE" and told_by_this:
        return stats
    if told_by_this and "error" in stats:
        raise HTTPException(400, stats["error"])
    raise HTTPException(500, "The training failed. Its last lines are:\n" + "\n".join(task.get("details", ())))


def _start(app: Any, model: str, params: dict[str, Any] | None, enqueue: bool) -> dict[str, Any]:
    """MONAI Label's task of a training.

    Raises:
        MONAILabelException: When there is no such model.
        UserError: When it cannot be trained as asked for.
        HTTPException: When another training is under way and it may not wait for it.
    """
    trainer = app.trainer(model)
    named = (params or {}).get("model", model)
    if named != model:
        raise ConfigError(f"params name the model {named!r}, the request {model!r}. Leave it out of params.")
    if not enqueue:
        _refuse_second()
    trainer.check(params or {}, app.datastore())
    with _starting:
        if not enqueue:
            _refuse_second()
            if trainer.is_running():
                raise HTTPException(429, "Another server trains this bundle. Wait until it has ended.")
        task: dict[str, Any] = AsyncTask.run("train", request={"model": model}, params=params, enqueue=True)[0]
    return task


@router.post("/{model}", summary="Run Training Task for specific model")
def run_model(
    model: str,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
    enqueue: bool = False,
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)),  # noqa: B008 (as FastAPI has it)
) -> dict[str, Any]:
    """Start a training in a process of its own, as MONAI Label does.

    Args:
        model: which one.
        params: of the training.
        run_sync: whether the answer waits for its end, and is how it ended; else it is MONAI Label's task.
        enqueue: whether it may wait for one that is under way.
        user: who asks.

    Raises:
        MONAILabelException: When there is no such model.
        UserError: When it cannot be trained as asked for.
        HTTPException: 429: another training is under way; 400: the labels or images are not as they must be; 409: it
            was stopped; 500: it failed.
    """
    app = app_instance()
    if not isinstance(app, SAM2UNetApp):
        return dict(upstream.run_model(model, params, run_sync, enqueue))
    task = _start(app, model, params, enqueue)
    return _waited_for(task, app.trainer(model)) if run_sync else task


@router.post("/", summary="Run Training Tasks of all models that have labels")
def run_all(
    params: dict[str, dict[str, Any]] | None = None,
    user: User = Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN)),  # noqa: B008 (as FastAPI has it)
) -> dict[str, dict[str, Any]]:
    """Start the trainings of all models, one after the other: OHIF asks for no single one.

    Args:
        params: of each model, by name.
        user: who asks.

    Returns:
        For each model, by name: ``result``, MONAI Label's task, or None, and ``detail``: why it is not trained.

    Raises:
        UserError: When none of them can be trained.
        HTTPException: 429: another training is under way.
    """
    app = app_instance()
    if not isinstance(app, SAM2UNetApp):
        return dict(upstream.run(params))
    found: dict[str, dict[str, Any]] = {}
    for model in app.info()["trainers"]:
        try:
            started = any(one["result"] for one in found.values())
            found[model] = {"result": _start(app, model, (params or {}).get(model), enqueue=started), "detail": None}
        except UserError as error:
            found[model] = {"result": None, "detail": str(error)}
    if not any(one["result"] for one in found.values()):
        raise ConfigError("\n".join(f"{model}: {one['detail']}" for model, one in found.items()))
    return found

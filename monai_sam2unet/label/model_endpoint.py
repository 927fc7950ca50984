# SPDX-License-Identifier: Apache-2.0
"""``PUT`` and ``DELETE /model/NAME`` as MONAI Label has them; what weights were trained on goes with them."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, UploadFile
from filelock import Timeout
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum

from monai_sam2unet.bundle.bundle_config import PUBLISHED
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import CheckpointError, WeightsError
from monai_sam2unet.folders import whole_file
from monai_sam2unet.label.bundle_infer_task import BundleInferTask
from monai_sam2unet.label.bundle_train_task import training_lock
from monai_sam2unet.label.published_weights import keep_former

__all__ = ["router"]

router = APIRouter(prefix="/model")
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]
Admin = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))]


def _task(model: str) -> BundleInferTask | None:
    """What runs a model; None: there is no such model, or it is another app's."""
    task = app_instance()._infers.get(model)
    return task if isinstance(task, BundleInferTask) else None


@contextmanager
def _no_training(task: BundleInferTask | None) -> Iterator[None]:
    """Let no training of the bundle begin meanwhile, be it of another server."""
    if task is None:
        yield
        return
    lock = training_lock(task.folder)
    try:
        lock.acquire()
    except Timeout as error:
        raise HTTPException(
            409,
            f"A training of {task.folder.name} is under way, which starts from its weights and may replace them. Wait "
            "until it has ended (GET /train/), or end it (DELETE /train/).",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _check(task: BundleInferTask, new: Path, name: str) -> None:
    try:
        task.check_weights(new)
    except (CheckpointError, WeightsError) as error:
        reason = " ".join(str(error).replace(str(new), "the file").split())
        raise HTTPException(
            400,
            f"{name} does not fit {task.folder.name}, whose weights stay as they are: {reason} Send what a training of "
            "this bundle wrote (model.pt), of the settings that the server runs it with.",
        ) from error


@router.put("/{model}", include_in_schema=False)
def update(model: str, file: UploadFile, user: Annotator) -> dict[str, Any]:
    """Put weights in the place of those in use, which stay as ``NAME.previous.pt``.

    Args:
        model: whose.
        file: the weights.
        user: who asks.

    Raises:
        HTTPException: 404: there is no such model; 400: the weights do not fit it; 409: it is being trained.
        ConfigError: When the network that they would be of cannot be made.
    """
    given = app_instance().model_file(model, validate=False)
    if not given:
        raise HTTPException(404, f"There is no model {model!r} whose weights could be replaced.")
    path, task = Path(given), _task(model)
    with _no_training(task), whole_file(path) as new:
        with new.open("wb") as opened:
            shutil.copyfileobj(file.file, opened)
        if task is not None:
            _check(task, new, file.filename or "The file")
        keep_former(path)
        # Before: a kill in between leaves weights of which nothing is known, never those of another training.
        TrainingCases.path_of(path).unlink(missing_ok=True)
    return {"checksum": file_checksum(str(path)), "modified_time": int(path.stat().st_mtime)}


@router.delete("/{model}", include_in_schema=False)
def delete(model: str, user: Admin) -> dict[str, Any]:
    """Put the weights in use aside, as ``NAME.DATE.deleted``.

    Args:
        model: whose.
        user: who asks.

    Raises:
        HTTPException: 404: there is no such model, or it has none; 409: they came with the bundle, or it is being
            trained.
    """
    given = app_instance().model_file(model)
    if not given or not Path(given).is_file():
        raise HTTPException(404, f"There is no model {model!r}, or it has no weights.")
    path, task = Path(given), _task(model)
    if task is not None and task.came_with_bundle():
        raise HTTPException(
            409,
            f"{path.name} came with {task.folder.name} and is not deleted. To run other weights, send them (PUT "
            f"/model/{model}) or train the model; to run without it, leave the bundle out when the server is started.",
        )
    now = f"{datetime.now().astimezone():%Y%m%d_%H%M%S}"
    with _no_training(task):
        # Without its weights the overlay would keep the bundle from those that came with it.
        overlay = [path.with_suffix(".yaml")] if path.stem == PUBLISHED.stem else []
        for one in (*overlay, TrainingCases.path_of(path), path):
            if one.is_file():
                one.rename(f"{one}.{now}.deleted")
    return {}

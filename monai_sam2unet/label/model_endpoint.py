# SPDX-License-Identifier: Apache-2.0
"""``PUT`` and ``DELETE /model/NAME`` as MONAI Label has them; what weights were trained on goes with them."""

from __future__ import annotations

import shutil
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from fastapi import APIRouter, Depends, HTTPException, UploadFile
from monailabel.config import settings
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance
from monailabel.utils.others.generic import file_checksum

from monai_sam2unet.data import TrainingCases
from monai_sam2unet.folders import whole_file

__all__ = ["router"]

router = APIRouter(prefix="/model")
Annotator = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))]


@router.put("/{model}", include_in_schema=False)
def update(model: str, file: UploadFile, user: Annotator) -> dict[str, Any]:
    """Put weights in the place of those in use.

    Args:
        model: whose.
        file: the weights.
        user: who asks.

    Raises:
        HTTPException: 404: there is no such model.
    """
    given = app_instance().model_file(model, validate=False)
    if not given:
        raise HTTPException(404, f"There is no model {model!r} whose weights could be replaced.")
    path = Path(given)
    with whole_file(path) as new:
        with new.open("wb") as opened:
            shutil.copyfileobj(file.file, opened)
        # Before: a kill in between leaves weights of which nothing is known, never those of another training.
        TrainingCases.path_of(path).unlink(missing_ok=True)
    return {"checksum": file_checksum(str(path)), "modified_time": int(path.stat().st_mtime)}


@router.delete("/{model}", include_in_schema=False)
def delete(model: str, user: Annotator) -> dict[str, Any]:
    """Put the weights in use aside, as ``NAME.DATE.deleted``.

    Args:
        model: whose.
        user: who asks.

    Raises:
        HTTPException: 404: there is no such model, or it has none.
    """
    given = app_instance().model_file(model)
    if not given or not Path(given).is_file():
        raise HTTPException(404, f"There is no model {model!r}, or it has no weights.")
    now = f"{datetime.now().astimezone():%Y%m%d_%H%M%S}"
    for path in (TrainingCases.path_of(given), Path(given)):
        if path.is_file():
            path.rename(f"{path}.{now}.deleted")
    return {}

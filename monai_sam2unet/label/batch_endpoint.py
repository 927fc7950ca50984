# SPDX-License-Identifier: Apache-2.0
"""``POST /batch/infer/MODEL`` as MONAI Label has it, but that mistakes are told before anything is started."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from monailabel.config import settings
from monailabel.endpoints.batch_infer import run
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.tasks.batch_infer import BatchInferImageType
from monailabel.interfaces.utils.app import app_instance

from monai_sam2unet.label.app import SAM2UNetApp
from monai_sam2unet.label.requested_device import requested_device

__all__ = ["router"]

router = APIRouter()
#: Of a request without any; the rest is as the task itself has it.
PARAMS = {"logging": "WARNING", "max_workers": 1}


@router.post("/batch/infer/{model}", include_in_schema=False)
def infer_batch(
    model: str,
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ADMIN))],
    images: BatchInferImageType = BatchInferImageType.IMAGES_ALL,
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
) -> Any:
    """Make and save masks of many images.

    Args:
        model: its name.
        user: who asks.
        images: ``all``, ``labeled`` or ``unlabeled``.
        params: of the task.
        run_sync: whether the answer waits for its end.

    Raises:
        MONAILabelException: When there is no such model.
        ConfigError: When the server has no device as is asked for.
    """
    app, asked = app_instance(), dict(PARAMS if params is None else params)
    if isinstance(app, SAM2UNetApp):
        app.check_model(model)
    requested_device(asked.get("device"))
    return run(model, images, asked, run_sync)

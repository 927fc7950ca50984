# SPDX-License-Identifier: Apache-2.0
"""``POST /scoring/METHOD`` as MONAI Label has it, but that mistakes are told before anything is started."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from monailabel.config import settings
from monailabel.endpoints.scoring import run_method
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.utils.app import app_instance

from monai_sam2unet.label.app import SAM2UNetApp
from monai_sam2unet.label.requested_device import requested_device

__all__ = ["router"]

router = APIRouter()


@router.post("/scoring/{method}", include_in_schema=False)
def score(
    method: str,
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_ANNOTATOR))],
    params: dict[str, Any] | None = None,
    run_sync: bool = False,
) -> Any:
    """Start a scoring task.

    Args:
        method: its name.
        user: who asks.
        params: of the task.
        run_sync: whether the answer waits for its end.

    Raises:
        MONAILabelException: When there is none of this name.
        ConfigError: When the server has no device as is asked for, or another parameter is not as it must be.
    """
    app = app_instance()
    if isinstance(app, SAM2UNetApp):
        app.check_scoring(method, params)
    requested_device((params or {}).get("device"))
    return run_method(method, params, run_sync)

# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's server with its faults worked round, for ``--uvicorn_app monai_sam2unet.label.server:app``."""

from __future__ import annotations

from monai_sam2unet.label import compat

compat.apply()

from fastapi import Request  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402
from monailabel.app import app  # noqa: E402
from monailabel.config import settings  # noqa: E402
from monailabel.interfaces.exception import (  # noqa: E402
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)

from monai_sam2unet.errors import UserError  # noqa: E402
from monai_sam2unet.label import train_endpoint  # noqa: E402

__all__ = ["app"]

# Of two endpoints for one address the first answers.
_others = list(app.router.routes)
app.include_router(train_endpoint.router, prefix=settings.MONAI_LABEL_API_STR)
app.router.routes[:] = [*app.router.routes[len(_others) :], *_others]


@app.exception_handler(MONAILabelException)
def _tell(request: Request, error: MONAILabelException) -> JSONResponse:
    not_found = isinstance(error, ImageNotFoundException | LabelNotFoundException)
    missing = not_found or error.error is MONAILabelError.INVALID_INPUT
    return JSONResponse({"detail": error.msg}, status_code=404 if missing else 500)


@app.exception_handler(UserError)
def _tell_user(request: Request, error: UserError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=400)

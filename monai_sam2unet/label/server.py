# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's server with its faults worked round, for ``--uvicorn_app monai_sam2unet.label.server:app``."""

from __future__ import annotations

from monai_sam2unet.label import compat

compat.apply()

from json import JSONDecodeError  # noqa: E402

from fastapi import Request  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402
from monailabel.app import app  # noqa: E402
from monailabel.interfaces.exception import (  # noqa: E402
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)

from monai_sam2unet.errors import UserError  # noqa: E402

__all__ = ["app"]


@app.exception_handler(MONAILabelException)
def _tell(request: Request, error: MONAILabelException) -> JSONResponse:
    not_found = isinstance(error, ImageNotFoundException | LabelNotFoundException)
    missing = not_found or error.error is MONAILabelError.INVALID_INPUT
    return JSONResponse({"detail": error.msg}, status_code=404 if missing else 500)


@app.exception_handler(UserError)
def _tell_user(request: Request, error: UserError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=400)


@app.exception_handler(JSONDecodeError)
def _tell_of_params(request: Request, error: JSONDecodeError) -> JSONResponse:
    return JSONResponse({"detail": f"The form's params must be JSON; this is not: {error}."}, status_code=400)

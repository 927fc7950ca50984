# SPDX-License-Identifier: Apache-2.0
"""MONAI Label's server with its faults worked round, for ``--uvicorn_app monai_sam2unet.label.server:app``."""

from __future__ import annotations

from monai_sam2unet.label import compat

compat.answer_in_threads()

import json  # noqa: E402
from http import HTTPStatus  # noqa: E402

import requests  # noqa: E402
from fastapi import Request  # noqa: E402
from fastapi.responses import JSONResponse  # noqa: E402
from monailabel.config import settings  # noqa: E402

from monai_sam2unet.label.authentication import check_authentication  # noqa: E402

# `sam2unet label` has done so, too; `monailabel start_server` does not.
check_authentication(settings)

from monailabel.endpoints import wsi_infer  # noqa: E402

# They take files of the server as images, and no model here is one of slides.
wsi_infer.router.routes.clear()

from monailabel.app import app  # noqa: E402
from monailabel.datastore.local import LocalDatastore  # noqa: E402
from monailabel.interfaces.exception import (  # noqa: E402
    ImageNotFoundException,
    LabelNotFoundException,
    MONAILabelError,
    MONAILabelException,
)
from monailabel.interfaces.utils.app import app_instance  # noqa: E402

from monai_sam2unet.batch.transfer import TransferError  # noqa: E402
from monai_sam2unet.errors import CheckpointError, UserError, WeightsError  # noqa: E402
from monai_sam2unet.label import (  # noqa: E402
    batch_endpoint,
    infer_endpoint,
    info_endpoint,
    model_endpoint,
    scoring_endpoint,
    train_endpoint,
)
from monai_sam2unet.label.app import SAM2UNetApp  # noqa: E402
from monai_sam2unet.label.client_errors import for_clients  # noqa: E402

__all__ = ["app"]

# Of two endpoints for one address the first answers.
_others = list(app.router.routes)
_own = (infer_endpoint, train_endpoint, scoring_endpoint, batch_endpoint, model_endpoint, info_endpoint)
for _endpoint in _own:
    app.include_router(_endpoint.router, prefix=settings.MONAI_LABEL_API_STR)
app.router.routes[:] = [*app.router.routes[len(_others) :], *_others]
if settings.MONAI_LABEL_AUTH_ENABLE:
    # Whoever calls it makes the server begin anew; it asks for no token.
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", "") != "/reload"]

#: Of these, MONAI Label names a model or a strategy that there is none of.
NOT_FOUND = (MONAILabelError.INVALID_INPUT, MONAILabelError.APP_INIT_ERROR)


@app.exception_handler(MONAILabelException)
def _tell(request: Request, error: MONAILabelException) -> JSONResponse:
    missing = isinstance(error, ImageNotFoundException | LabelNotFoundException) or error.error in NOT_FOUND
    return JSONResponse({"detail": error.msg}, status_code=404 if missing else 500)


def _told(error: UserError) -> str:
    """An error's text in a client's words."""
    instance = app_instance()
    store = instance.datastore()
    folders = [store._datastore_path] if isinstance(store, LocalDatastore) else []
    if isinstance(instance, SAM2UNetApp):
        folders += [str(folder.parent) for folder in instance.folders]
    return for_clients(str(error), folders)


@app.exception_handler(UserError)
def _tell_user(request: Request, error: UserError) -> JSONResponse:
    return JSONResponse({"detail": _told(error)}, status_code=400)


@app.exception_handler(CheckpointError)
@app.exception_handler(WeightsError)
def _tell_of_weights(request: Request, error: UserError) -> JSONResponse:
    return JSONResponse({"detail": _told(error)}, status_code=503)


@app.exception_handler(TransferError)
def _tell_of_archive(request: Request, error: TransferError) -> JSONResponse:
    return JSONResponse({"detail": str(error)}, status_code=502)


def _reason(answer: requests.Response) -> str:
    """What the realm says of a name and password, as "Account disabled"; empty: nothing."""
    try:
        told = answer.json()["error_description"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" It says: {told[:200]}." if isinstance(told, str) else ""


@app.exception_handler(requests.RequestException)
def _tell_of_proxy(request: Request, error: requests.RequestException) -> JSONResponse:
    answer = error.response
    logs_in = request.url.path == f"{settings.MONAI_LABEL_API_STR}/auth/token"
    if logs_in and answer is not None and answer.status_code in (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED):
        told = f"The realm gives no token for this name and password; check both.{_reason(answer)}"
        return JSONResponse({"detail": told}, status_code=401, headers={"WWW-Authenticate": "Bearer"})
    # Its text holds addresses with UIDs.
    told = f"The studies' server, or that of the users' tokens, does not answer as it should ({type(error).__name__})."
    return JSONResponse({"detail": told}, status_code=502)


@app.exception_handler(json.JSONDecodeError)
def _tell_of_json(request: Request, error: json.JSONDecodeError) -> JSONResponse:
    return JSONResponse({"detail": f"A part of the request (params, info) is no JSON: {error}."}, status_code=400)


@app.exception_handler(Exception)
def _tell_of_fault(request: Request, error: Exception) -> JSONResponse:
    told = f"The server failed with {type(error).__name__}: {error}. Its log says where."
    return JSONResponse({"detail": told}, status_code=500)

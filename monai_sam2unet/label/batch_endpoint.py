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

from monai_sam2unet.errors import ConfigError, listing
from monai_sam2unet.label.app import SAM2UNetApp
from monai_sam2unet.label.infer_endpoint import check_format, check_tag
from monai_sam2unet.label.requested_device import requested_device

__all__ = ["router"]

router = APIRouter()
#: Of a request without any; the rest is as the task itself has it.
PARAMS = {"logging": "WARNING", "max_workers": 1}
#: Those that count, 0 for no limit.
NUMBERS = ("max_batch_size", "max_workers")


def _check(asked: dict[str, Any]) -> None:
    """Refuse what would only fail when the batch has begun."""
    problems = [
        f"{key} must be a whole number, 0 for no limit; got {asked[key]!r}."
        for key in NUMBERS
        if key in asked and (not isinstance(asked[key], int) or isinstance(asked[key], bool) or asked[key] < 0)
    ]
    if not isinstance(asked.get("multi_gpu", True), bool):
        problems.append(f"multi_gpu must be true or false; got {asked['multi_gpu']!r}.")
    if not isinstance(asked.get("gpus", "all"), str):
        problems.append(f'gpus must be "all" or numbers of GPUs, as "0,1"; got {asked["gpus"]!r}.')
    if problems:
        raise ConfigError(f"The batch cannot be run as asked for:\n{listing(problems)}")


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
        ConfigError: When the server has no device as is asked for, or another parameter is not as it must be.
        DataError: When the masks cannot be kept in files, or as labels, as is asked for.
    """
    app, asked = app_instance(), dict(PARAMS if params is None else params)
    if isinstance(app, SAM2UNetApp):
        app.check_model(model)
    requested_device(asked.get("device"))
    _check(asked)
    check_format(asked, model)
    check_tag(asked)
    return run(model, images, asked, run_sync)

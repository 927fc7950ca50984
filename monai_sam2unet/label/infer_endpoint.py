# SPDX-License-Identifier: Apache-2.0
"""``POST /infer/MODEL`` as MONAI Label has it, with DICOM SEG of our own, errors in words, and times in a header."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from anyio import CapacityLimiter, to_thread
from fastapi import APIRouter, BackgroundTasks, Depends, File, Form, UploadFile
from fastapi.responses import Response
from monailabel.config import settings
from monailabel.endpoints.infer import ResultType, run_inference
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.datastore import DefaultLabelTag
from monailabel.interfaces.exception import ImageNotFoundException
from monailabel.interfaces.utils.app import app_instance

from monai_sam2unet.errors import DataError
from monai_sam2unet.label.app import SAM2UNetApp

__all__ = ["check_format", "check_tag", "router"]

router = APIRouter()
#: Requests that wait for a model take none of the threads in which the server answers others.
limiter = CapacityLimiter(8)


#: Keys of requests that are not a client's to give: files of the server, and what tasks keep there while they work.
_NOT_ASKED = {
    *("image", "image_path", "session", "bundle_path", "result_write_to_file"),
    *("pred", "volume", "known_image", "known_image_key"),
}


#: Dimensions of a model of volumes.
_VOLUME = 3
#: Files that hold a mask as it is, of a volume and of a picture; JPEG changes its values.
_OF_VOLUMES = (".nii.gz", ".nii", ".nrrd", ".seg.nrrd", ".mha", ".dcm")
_OF_PICTURES = (".png", ".tif", ".tiff", ".bmp")


def check_format(asked: Mapping[str, Any], model: str) -> None:
    """Refuse files that cannot hold a model's masks: of a volume pictures would hold one slice.

    Args:
        asked: of a mask; ``result_extension``, if there is any, says which files.
        model: that is asked.

    Raises:
        DataError: When it is none of them.
    """
    task = app_instance()._infers.get(model)
    of_volumes = task is not None and task.dimension == _VOLUME
    allowed = _OF_VOLUMES if of_volumes else (*_OF_VOLUMES, *_OF_PICTURES)
    extension = asked.get("result_extension", allowed[0])
    if extension not in allowed:
        why = f", for the masks of {model} are volumes" if of_volumes and extension in _OF_PICTURES else ""
        raise DataError(f"result_extension must be one of {', '.join(allowed)}{why}; got {extension!r}.")


def check_tag(asked: Mapping[str, Any]) -> None:
    """Refuse to save masks of models as if people had made them.

    Args:
        asked: of a mask; ``label_tag``, if there is any, says as what it is saved.

    Raises:
        DataError: When that is ``final``.
    """
    if asked.get("label_tag") == DefaultLabelTag.FINAL:
        raise DataError("Masks of a model are not saved as final labels, which are people's: leave out label_tag.")


def _parsed(params: str, model: str, has_label: bool) -> dict[str, Any]:
    """What a client asks for in words; MONAI Label would let it replace the model, the image and the files sent.

    Args:
        params: a JSON object.
        model: that is asked.
        has_label: whether a label image was sent.

    Raises:
        DataError: When it is no JSON object, names files of the server, another model or a format that cannot hold a
            mask, or would save a final label.
    """
    try:
        found = json.loads(params) if params else {}
    except json.JSONDecodeError as error:
        raise DataError(f"params is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise DataError(f'params must be a JSON object, as {{"result_extension": ".nrrd"}}; got {params}.')
    refused = sorted(_NOT_ASKED & found.keys())
    if refused:
        raise DataError(
            f"params may not hold {', '.join(refused)}. The image is named by image=NAME or session_id=ID, or sent as "
            "the form's field 'file'."
        )
    if found.get("model", model) != model:
        raise DataError(f"params name the model {found['model']!r}, the address {model!r}. Leave it out of params.")
    name = found.get("label", "")
    if "label" in found and (has_label or model.endswith("_scribbles") or not isinstance(name, str)):
        raise DataError("params may not hold label: label images are sent as the form's field 'label'.")
    if "/" in name or "\\" in name:
        raise DataError(f"label in params is the name of a class, got {name!r}. Label images are sent as a file.")
    check_format(found, model)
    check_tag(found)
    return found


@router.post("/infer/{model}", include_in_schema=False)
async def infer(
    background_tasks: BackgroundTasks,
    user: Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))],
    model: str,
    image: str = "",
    session_id: str = "",
    params: Annotated[str, Form()] = "{}",
    file: Annotated[UploadFile | None, File()] = None,
    label: Annotated[UploadFile | None, File()] = None,
    output: ResultType | None = None,
) -> Any:
    """Ask a model for the mask of an image.

    Args:
        background_tasks: what is done after the answer.
        user: who asks.
        model: its name.
        image: name of the image; else ``session_id`` or ``file``.
        session_id: of a session, whose image is meant.
        params: a JSON object.
        file: an image that is not among the studies.
        label: what an interactive model starts from.
        output: ``image``, ``json``, ``all`` or ``dicom_seg``.

    Raises:
        ImageNotFoundException: When ``image`` is a path: files of the server are none of a client's business.
        DataError: When there is no image, or ``params`` is no JSON object, or holds what is not a client's to give.
    """
    begin = time.perf_counter()
    if not (image or session_id or file):
        raise DataError("Say which image: image=NAME, session_id=ID, or a file.")
    if Path(image).is_absolute():
        raise ImageNotFoundException(f"There is no image {image!r}. Name one of the studies, or send a file.")
    asked = _parsed(params, model, label is not None)
    if output is ResultType.dicom_seg and isinstance(app_instance(), SAM2UNetApp):
        # MONAI Label's own converter codes each class as spleen.
        asked, output = {**asked, "result_extension": ".dcm"}, ResultType.image
    run = partial(run_inference, background_tasks, model, image, session_id, json.dumps(asked), file, label, output)
    try:
        answer = await to_thread.run_sync(run, limiter=limiter)
    except Exception:
        # They would be forgotten with an answer that does not come; they remove files.
        await background_tasks()
        raise
    if isinstance(answer, Response):
        answer.headers["Server-Timing"] = f"total;dur={1000 * (time.perf_counter() - begin):.0f}"
    return answer

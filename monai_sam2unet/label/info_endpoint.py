# SPDX-License-Identifier: Apache-2.0
"""``GET /datastore/image/info`` and ``/datastore/label/info`` as MONAI Label has them, but for what is not there."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from monailabel.config import settings
from monailabel.endpoints import datastore as upstream
from monailabel.endpoints.user.auth import RBAC, User
from monailabel.interfaces.exception import ImageNotFoundException, LabelNotFoundException
from monailabel.interfaces.utils.app import app_instance

__all__ = ["router"]

router = APIRouter(prefix="/datastore")
Reader = Annotated[User, Depends(RBAC(settings.MONAI_LABEL_AUTH_ROLE_USER))]


@router.get("/image/info", include_in_schema=False)
def image_info(image: str, user: Reader) -> Any:
    """What is known of an image.

    Args:
        image: its name.
        user: who asks.

    Raises:
        ImageNotFoundException: When there is no such image.
        TransferError: When a PACS does not answer.
    """
    # What is known of a series that is not listed is told all the same: it can be named.
    found = upstream.get_image_info(image)
    if not found and image not in app_instance().datastore().list_images():
        raise ImageNotFoundException(f"There is no image {image!r} among the studies.")
    return found


@router.get("/label/info", include_in_schema=False)
def label_info(label: str, tag: str, user: Reader) -> Any:
    """What is known of a label.

    Args:
        label: its name, which is that of its image.
        tag: of the label.
        user: who asks.

    Raises:
        LabelNotFoundException: When there is no such label.
        TransferError: When a PACS does not answer.
    """
    found = upstream.get_label_info(label, tag)
    if not found and tag not in app_instance().datastore().get_labels_by_image_id(label):
        raise LabelNotFoundException(f"There is no label {label!r} with the tag {tag!r}.")
    return found

# SPDX-License-Identifier: Apache-2.0
"""Where results are sent, read from what is written on the command line."""

from __future__ import annotations

import re

from monai_sam2unet.batch.dicomweb_server import DicomwebServer
from monai_sam2unet.batch.sending.outcome import Sender
from monai_sam2unet.batch.sending.store_sender import StoreSender
from monai_sam2unet.batch.sending.stow_sender import StowSender
from monai_sam2unet.errors import ConfigError

__all__ = ["destination"]

DICOMWEB, DICOM = "dicomweb:", "dicom:"
#: Host, which has brackets where it is an IPv6 address; port; AE title, which may hold colons.
NODE = re.compile(r"(?:\[(?P<six>[^\]]+)\]|(?P<host>[^:\[\]]+)):(?P<port>\d{1,5}):(?P<title>.+)")


def destination(text: str, calling_ae_title: str = "SAM2UNET") -> Sender:
    """Read where results are sent.

    Args:
        text: ``dicomweb:https://host/dicom-web`` for STOW-RS, or ``dicom:HOST:PORT:AET`` for C-STORE.
        calling_ae_title: our own AE title, for C-STORE.

    Raises:
        ConfigError: When it is neither, or an address, port or title in it cannot be one.

    Example:
        >>> str(destination("dicom:pacs.example.org:104:ARCHIVE"))
        'dicom:pacs.example.org:104:ARCHIVE'
    """
    if text.startswith(DICOMWEB):
        return StowSender(DicomwebServer(text.removeprefix(DICOMWEB)))
    node = NODE.fullmatch(text.removeprefix(DICOM)) if text.startswith(DICOM) else None
    if node is None:
        raise ConfigError(
            f"{text!r} is no place to send to. It is {DICOMWEB}https://host/dicom-web (STOW-RS), "
            f"or {DICOM}HOST:PORT:AET (C-STORE)."
        )
    return StoreSender(node["six"] or node["host"], int(node["port"]), node["title"], calling_ae_title)

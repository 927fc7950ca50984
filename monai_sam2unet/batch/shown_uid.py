# SPDX-License-Identifier: Apache-2.0
"""How UIDs look in logs and errors: hashed, unless they are asked for."""

from __future__ import annotations

import hashlib
import logging

__all__ = ["show_plain_uids", "shown_uid"]

#: Libraries that log UIDs or addresses that hold them, below this level.
TALKATIVE = {"dicomweb_client": logging.WARNING, "pynetdicom": logging.WARNING, "urllib3": logging.WARNING}

_plain = False


def show_plain_uids(plain: bool) -> None:
    """Choose, once for the process, how UIDs are shown, and quiet the libraries that would log them.

    Args:
        plain: whether UIDs are shown as they are.
    """
    global _plain
    _plain = plain
    for name, level in TALKATIVE.items():
        logging.getLogger(name).setLevel(logging.NOTSET if plain else level)


def shown_uid(uid: str) -> str:
    """A UID as logs and errors show it.

    Args:
        uid: a UID.
    """
    return uid if _plain else "#" + hashlib.sha256(uid.encode()).hexdigest()[:10]

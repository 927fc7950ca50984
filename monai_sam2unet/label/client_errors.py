# SPDX-License-Identifier: Apache-2.0
"""What clients are told of mistakes: images and labels by their names, without the server's folders."""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterable
from pathlib import Path

__all__ = ["for_clients"]

#: What the package advises those who write programs, and what clients of the server can do instead.
_ADVICE = {
    "'dst ": "'the image ",
    "'img ": "'the label ",
    "Resample one onto the other (MONAI's ResampleToMatchd).": "Save the label on the grid of its image.",
    "this preset takes": "this model takes",
    "Take the preset for it, or any_modality=True.": "Ask a model of such images.",
    "take a picture's preset.": "ask a model of pictures.",
    "choose a frame with dicom={'frame': n}.": "send a single frame.",
    "take the preset ct or mr.": "ask a model of volumes.",
    " for sequences that are meant as channels set the preset's channels.": " no model here takes several at once.",
}
#: Names that the server gives to files while it works on them.
_TEMPORARY = re.compile(r"tmp[a-z0-9_]{8}\b[\w.]*")
_SENT = "the file sent"


def for_clients(text: str, folders: Iterable[str | Path]) -> str:
    """Have the text of an error name files only, without folders of the server, and advise what clients can do.

    Args:
        text: of the error.
        folders: of the server: of studies, of bundles. That of temporary files is always one; those in it whose names
            were made up are told as what was sent.

    Example:
        >>> for_clients("/data/studies/heart1.nii.gz cannot be read: it is broken", ["/data/studies"])
        'heart1.nii.gz cannot be read: it is broken'
    """
    for given, told in _ADVICE.items():
        text = text.replace(given, told)
    temporary = tempfile.gettempdir()
    known = {str(place) for folder in (*folders, temporary) for place in (folder, Path(folder).resolve())}
    for folder in sorted(known - {"/", "."}, key=len, reverse=True):
        text = re.sub(rf"{re.escape(folder)}/(?:[^\s/:'\"]+/)*([^\s/:'\"]+)", r"\1", text)
    return _TEMPORARY.sub(_SENT, text)

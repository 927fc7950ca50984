# SPDX-License-Identifier: Apache-2.0
"""What cases of a data set are called."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["case_name"]


def case_name(item: Mapping[str, Any]) -> str:
    """What a case is called: as its image's file; a DICOM series, whose files' names do not tell, as its item says.

    Args:
        item: of a datalist.

    Example:
        >>> case_name({"image": "images/1.nii.gz"})
        'images/1.nii.gz'
        >>> case_name({"image": ["ct/1.dcm", "ct/2.dcm"], "filename_or_obj": "ct.dcm"})
        'ct.dcm'
    """
    return str(item.get("filename_or_obj") or item["image"])

# SPDX-License-Identifier: Apache-2.0
"""What is particular to each modality, for the presets."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["MODALITIES", "Modality"]

#: Values of DICOM's Modality that say nothing of what is shown, or that a secondary capture of anything may have.
ANY_PICTURE = ("OT", "SC", "XC")


@dataclass(frozen=True)
class Modality:
    """What is particular to one modality.

    Args:
        is_volume: whether a case is a volume that is cut into slices; else a picture.
        picture: how picture files are read: ``"rgb"`` or ``"gray"``.
        intensity: how values become [0, 1]: ``"bits"``, ``"window"`` or ``"percentile"``.
        keep_aspect: whether pictures keep their aspect when fitted to the network's size.
        dicom: values of DICOM's Modality (0008,0060) that are taken.
    """

    is_volume: bool
    picture: str
    intensity: str
    keep_aspect: bool
    dicom: tuple[str, ...]


#: The modalities by name. Photographs are squeezed to the network's size, as SAM2-UNet and the works it compares with
#: do; where lengths and angles in the image are those of the anatomy, the aspect is kept.
MODALITIES = {
    "endoscopy": Modality(False, "rgb", "bits", False, ("ES", *ANY_PICTURE)),
    "dermoscopy": Modality(False, "rgb", "bits", False, ("DMS", *ANY_PICTURE)),
    "ultrasound": Modality(False, "rgb", "bits", False, ("US", "IVUS", *ANY_PICTURE)),
    "fundus": Modality(False, "rgb", "bits", False, ("OP", *ANY_PICTURE)),
    "microscopy": Modality(False, "rgb", "bits", False, ("SM", "GM", *ANY_PICTURE)),
    "xray": Modality(
        False, "gray", "percentile", True, ("CR", "DX", "RG", "MG", "XA", "RF", "IO", "PX", "RTIMAGE", *ANY_PICTURE)
    ),
    "ct": Modality(True, "gray", "window", True, ("CT",)),
    "mr": Modality(True, "gray", "percentile", True, ("MR",)),
}

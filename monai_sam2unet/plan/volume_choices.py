# SPDX-License-Identifier: Apache-2.0
"""What a plan chooses for a folder of volumes, each choice with its reason."""

from __future__ import annotations

import numpy as np

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan.choices import (
    Choice,
    choose_cldice_iterations,
    choose_epochs,
    choose_network,
    choose_size,
    choose_split,
    thin_share,
)
from monai_sam2unet.plan.volume_survey import VolumeSurvey
from monai_sam2unet.transforms import MODALITIES

__all__ = ["choose_for_volumes"]

#: Narrowest window of CT that is chosen, in HU.
MIN_WIDTH = 150
#: Share of the slices without any class that is trained on.
KEEP_EMPTY = 0.1


def _modality(survey: VolumeSurvey, modality: str | None) -> Choice:
    if modality is not None:
        return Choice("modality", modality, "as given")
    lowest = float(np.median([case.lowest for case in survey.cases]))
    name = "ct" if survey.is_ct else "mr"
    if any(case.modality for case in survey.cases):
        return Choice("modality", name, f"the Modality of the DICOM series is {name.upper()}")
    return Choice(
        "modality",
        name,
        f"the lowest values are {lowest:.0f} in the middle: {'air, in HU' if name == 'ct' else 'no HU'}",
    )


def _plane(survey: VolumeSurvey) -> Choice:
    anisotropic = [case for case in survey.cases if case.is_anisotropic]
    spacing = ", ".join(f"{v:g}" for v in np.median([case.spacing for case in survey.cases], axis=0))
    if 2 * len(anisotropic) <= len(survey.cases):
        return Choice("plane", "axial", f"voxels are about as long as wide and high ({spacing} mm)")
    planes, axes = {case.plane for case in anisotropic}, {case.axis for case in anisotropic}
    reason = f"slices were acquired so: {spacing} mm between voxels"
    if len(planes) == 1 and planes != {"axial"}:
        return Choice("plane", planes.pop(), reason)
    if len(planes) > 1 and len(axes) == 1:
        return Choice("plane", axes.pop(), f"{reason}; an axis of the files, for anatomically the planes differ")
    told = reason if planes == {"axial"} else "volumes have slices in several planes, of which no axis is the same"
    return Choice("plane", "axial", told)


def _windows(survey: VolumeSurvey) -> Choice:
    inside = np.array([case.inside for case in survey.cases if case.inside is not None])
    low, high = float(np.median(inside[:, 0])), float(np.median(inside[:, -1]))
    width = max(high - low, MIN_WIDTH)
    window = [round((low + high) / 2), round(1.5 * width)]
    reason = f"labelled voxels lie between {low:.0f} and {high:.0f} HU (0.5 and 99.5 %, median of the volumes)"
    return Choice("windows", [window], f"{reason}; level and width with half as much around it")


def choose_for_volumes(
    survey: VolumeSurvey, modality: str | None = None, gpu_memory: float = 0.0, group_pattern: str | None = None
) -> list[Choice]:
    """Choose the settings of a bundle for a folder of volumes.

    Args:
        survey: what is in the folder.
        modality: ``ct`` or ``mr``; None: told by their values.
        gpu_memory: GB of the GPU to train on; 0: there is none.
        group_pattern: regular expression that finds the patient in a file's name.

    Returns:
        Settings of the bundle's configs; before them those of its plan.

    Raises:
        ConfigError: When the modality is not one of volumes, the memory is too little for any network, or the pattern
            is no regular expression.
        DataError: When the pattern finds no patient in a name.
    """
    volumes = [name for name, own in MODALITIES.items() if own.is_volume]
    if modality is not None and modality not in volumes:
        raise ConfigError(f"--modality of volumes must be one of {', '.join(volumes)}, got {modality!r}.")
    kind = _modality(survey, modality)
    size = choose_size(thin_share(survey.objects), gpu_memory)
    slices = sum(case.labelled_slices for case in survey.cases)
    sides = "organs have a side, and up and down mean something"
    ids = survey.label_ids
    told = (
        "labels are the numbers 1, 2 and so on, or a file or segment for each class"
        if ids is None
        else "labels are these numbers"
    )
    return [
        kind,
        _plane(survey),
        *([_windows(survey)] if kind.value == "ct" else []),
        Choice(
            "keep_empty", KEEP_EMPTY, f"{slices} slices have a class; a tenth of the others teaches where nothing is"
        ),
        Choice("flip_axes", [], sides),
        Choice("rotation", 0.26, f"{sides}; at most, in radians"),
        size,
        Choice("label_ids", ids, told),
        *choose_network(size, len(survey.labels) + 1, slices, gpu_memory),
        choose_epochs(slices, gpu_memory),
        choose_cldice_iterations(survey.objects, size.value[0]),
        *choose_split(survey.items, group_pattern, "volumes"),
    ]

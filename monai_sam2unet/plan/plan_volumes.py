# SPDX-License-Identifier: Apache-2.0
"""Makes a bundle for a folder of volumes and labels of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan.choices import Choice
from monai_sam2unet.plan.plan_report import ninety_percent, plan_of_choices, refuse_problems, value_rows, write_planned
from monai_sam2unet.plan.volume_choices import choose_for_volumes
from monai_sam2unet.plan.volume_survey import VolumeSurvey

__all__ = ["plan_volumes", "with_names"]


def with_names(survey: VolumeSurvey, class_names: Sequence[str] | None) -> VolumeSurvey:
    """A survey whose classes are called otherwise.

    Args:
        survey: what is in a folder.
        class_names: in the order of the labels' numbers; None: as they are called.

    Raises:
        ConfigError: When they are not as many as the labels, or each class has a file, which names it.
    """
    if class_names is None:
        return survey
    if len(class_names) != len(survey.labels):
        raise ConfigError(
            f"--classes names {len(class_names)} classes; the labels hold {len(survey.labels)} beside the background."
        )
    if any(not label.isdigit() for label in survey.labels):
        raise ConfigError(
            "--classes is for labels that are numbers; here each class has a file or segment, which names it."
        )
    return replace(survey, names=dict(zip(survey.labels, class_names, strict=True)))


def _found(survey: VolumeSurvey) -> list[str]:
    cases = survey.cases
    shapes = [f"{min(lengths)} to {max(lengths)}" for lengths in zip(*(case.shape for case in cases), strict=True)]
    spacing = [ninety_percent(values) for values in zip(*(case.spacing for case in cases), strict=True)]
    total = sum(int(np.prod(case.shape)) for case in cases)
    return [
        f"{survey.layout}: {len(cases)} volumes with labels, {' x '.join(shapes)} voxels.",
        *(f"Spacing along axis {axis}, mm: {told}." for axis, told in enumerate(spacing)),
        f"Slices with a label, of a volume: {ninety_percent([case.labelled_slices for case in cases])}.",
        *(
            f"Class {number}, {name}: {100 * survey.voxels[label] / total:.4f} % of the voxels, in "
            f"{sum(label in case.values for case in cases)} volumes."
            for number, (name, label) in enumerate(zip(survey.class_names, survey.labels, strict=True), 1)
        ),
    ]


def plan_volumes(
    survey: VolumeSurvey,
    data: str | Path,
    folder: str | Path,
    modality: str | None = None,
    class_names: Sequence[str] | None = None,
    gpu_memory: float = 0.0,
    group_pattern: str | None = None,
) -> list[Choice]:
    """Write a bundle for the volumes and labels of a folder, with `plan.md`, which says what was chosen and why.

    Args:
        survey: what is in the folder.
        data: the folder.
        folder: of the bundle; it is made, and must not exist.
        modality: as in :func:`monai_sam2unet.plan.volume_choices.choose_for_volumes`.
        class_names: names of the classes, in the order of their numbers; None: as the set has them.
        gpu_memory: GB of the GPU to train on; 0: there is none.
        group_pattern: regular expression that finds the patient in a file's name.

    Returns:
        What was chosen.

    Raises:
        DataError: When there are problems with the data; all are listed, and nothing is written.
        ConfigError: When the folder exists, the classes are not as many as the labels, or a choice is not allowed.
    """
    refuse_problems(survey.problems, data)
    survey = with_names(survey, class_names)
    names = survey.class_names
    choices = choose_for_volumes(survey, modality, gpu_memory, group_pattern)
    modality = next(choice.value for choice in choices if choice.name == "modality")
    plan = plan_of_choices(
        choices,
        data,
        folder,
        object="structure",
        objects="structures" if len(names) > 3 else ", ".join(names),
        images=f"{modality.upper()} volumes",
        classes=names,
    )
    rows = value_rows((case.inside, case.outside) for case in survey.cases)
    values = "HU" if plan.modality == "ct" else "values as they are stored"
    write_planned(plan, folder, choices, _found(survey), f"{values}, mean over the volumes", rows, survey.remarks)
    return choices

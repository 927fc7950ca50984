# SPDX-License-Identifier: Apache-2.0
"""Makes a bundle for a folder of pictures and masks of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.choices import Choice
from monai_sam2unet.plan.picture_choices import choose_for_pictures
from monai_sam2unet.plan.picture_survey import PictureSurvey
from monai_sam2unet.plan.plan_report import ninety_percent, plan_of_choices, refuse_problems, value_rows, write_planned

__all__ = ["classes_of", "plan_pictures"]


def classes_of(survey: PictureSurvey, class_names: Sequence[str] | None) -> tuple[str, ...]:
    """Names of the classes, where masks hold their indices; none where they hold one class only.

    Raises:
        ConfigError: When names are given for masks of one class, or not as many as there are classes.
    """
    if survey.mask_threshold is not None:
        if class_names is not None:
            raise ConfigError("--classes is for masks of class indices; these hold one class: name it by `--object`.")
        return ()
    classes = tuple(class_names or (f"class {number}" for number in range(1, survey.num_classes + 1)))
    if len(classes) != survey.num_classes:
        raise ConfigError(
            f"--classes names {len(classes)} classes; the masks hold {survey.num_classes} beside the background."
        )
    return classes


def _found(survey: PictureSurvey, plan: BundlePlan) -> list[str]:
    """Lines on what there is."""
    cases = survey.cases
    heights, widths = [case.height for case in cases], [case.width for case in cases]
    areas = [area for case in cases for area in case.areas]
    size = f"{min(widths)} to {max(widths)} pixels wide and {min(heights)} to {max(heights)} high"
    shares = ninety_percent([100 * case.foreground for case in cases], " %")
    empty = sum(case.foreground == 0 for case in cases)
    told = f"; area of the middle nine tenths {ninety_percent(areas)} pixels" if areas else ""
    total = sum(survey.pixels.values())
    names = plan.class_names
    classes = range(1, len(names) + 1) if plan.classes else [max(survey.pixels)]
    return [
        f"{survey.layout}: {len(cases)} images with masks, {size}, {'coloured' if survey.is_colour else 'gray'}.",
        f"Share of the image that is foreground: {shares}; {empty} images are empty.",
        f"Objects: {len(areas)}, connected parts of one class{told}.",
        *(
            f"Class {number}, {name}: {100 * survey.pixels[value] / total:.3f} % of the pixels, in "
            f"{sum(value > 0 and value in case.values for case in cases)} images."
            for number, (name, value) in enumerate(zip(names, classes, strict=True), 1)
        ),
    ]


def plan_pictures(
    survey: PictureSurvey,
    data: str | Path,
    folder: str | Path,
    modality: str | None = None,
    marked: str = "object",
    class_names: Sequence[str] | None = None,
    gpu_memory: float = 0.0,
    group_pattern: str | None = None,
) -> list[Choice]:
    """Write a bundle for the pictures and masks of a folder, with `plan.md`, which says what was chosen and why.

    Args:
        survey: what is in the folder.
        data: the folder.
        folder: of the bundle; it is made, and must not exist.
        modality: as in :func:`monai_sam2unet.plan.picture_choices.choose_for_pictures`.
        marked: what the masks of one class show, as ``wound``.
        class_names: names of the classes, where masks hold class indices.
        gpu_memory: GB of the GPU to train on; 0: there is none.
        group_pattern: regular expression that finds the patient in a file's name.

    Returns:
        What was chosen.

    Raises:
        DataError: When there are problems with the data; all are listed, and nothing is written.
        ConfigError: When the folder exists, the classes are not as many as the masks have, or a choice is not allowed.
    """
    refuse_problems(survey.problems, data)
    choices = choose_for_pictures(survey, modality, gpu_memory, group_pattern)
    classes = classes_of(survey, class_names)
    plan = plan_of_choices(choices, data, folder, object=marked, objects=f"{marked}s", images="images", classes=classes)
    rows = value_rows((case.inside, case.outside) for case in survey.cases)
    values = "gray values, 0 to 1, mean over the images"
    write_planned(plan, folder, choices, _found(survey, plan), values, rows, survey.remarks)
    return choices

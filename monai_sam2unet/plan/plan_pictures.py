# SPDX-License-Identifier: Apache-2.0
"""Makes a bundle for a folder of pictures and masks of one's own."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from monai_sam2unet.errors import ConfigError, DataError, listing
from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.bundle_writer import write_bundle
from monai_sam2unet.plan.picture_choices import Choice, choose_for_pictures
from monai_sam2unet.plan.picture_survey import PictureSurvey
from monai_sam2unet.plan.plan_report import plan_report

__all__ = ["check_survey", "classes_of", "plan_pictures"]


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


def check_survey(survey: PictureSurvey, data: str | Path) -> None:
    """Refuse data with problems.

    Raises:
        DataError: When there are such; all are listed.
    """
    if survey.problems:
        raise DataError(
            f"{len(survey.problems)} problems with {data}; mend them, or take the files away:\n"
            f"{listing(survey.problems)}"
        )


def _plan_of(
    survey: PictureSurvey,
    choices: Sequence[Choice],
    data: Path,
    name: str,
    marked: str,
    class_names: Sequence[str] | None,
) -> BundlePlan:
    chosen = {choice.name: choice.value for choice in choices}
    of_plan: dict[str, Any] = {key: chosen.pop(key) for key in ("modality", "flip_axes", "rotation", "group_pattern")}
    of_plan["flip_axes"] = tuple(of_plan["flip_axes"])
    classes = classes_of(survey, class_names)
    return BundlePlan(
        name=name,
        title=f"{name.replace('_', ' ').capitalize()} by SAM2-UNet",
        object=marked,
        objects=f"{marked}s",
        images="images",
        classes=classes,
        data_source=str(data),
        settings={**chosen, "dataset_dir": str(data)},
        **of_plan,
    )


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
    check_survey(survey, data)
    choices = choose_for_pictures(survey, modality, gpu_memory, group_pattern)
    root = Path(folder)
    plan = _plan_of(survey, choices, Path(data).resolve(), root.resolve().name, marked, class_names)
    write_bundle(plan, root)
    (root / "plan.md").write_text(plan_report(plan, survey, choices, data, folder), encoding="utf-8")
    return choices

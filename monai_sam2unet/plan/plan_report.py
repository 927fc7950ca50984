# SPDX-License-Identifier: Apache-2.0
"""Tells in Markdown what was found in a folder of pictures, what was chosen for it, and why."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from monai_sam2unet import __version__
from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.bundle_writer import template_environment
from monai_sam2unet.plan.picture_choices import Choice
from monai_sam2unet.plan.picture_survey import PictureSurvey

__all__ = ["plan_report"]


def _range(values: Sequence[float], unit: str = "") -> str:
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{low:.4g} to {high:.4g}{unit}, in the middle {middle:.4g}{unit}"


def _classes(survey: PictureSurvey, plan: BundlePlan) -> list[tuple[str, float, int]]:
    """Of each class its name, its share of all pixels, and in how many images it is."""
    total = sum(survey.pixels.values())
    names = plan.classes or (plan.object,)
    values = range(1, len(names) + 1) if plan.classes else [max(survey.pixels)]
    return [
        (name, survey.pixels[value] / total, sum(value in case.values and value > 0 for case in survey.cases))
        for name, value in zip(names, values, strict=True)
    ]


def plan_report(
    plan: BundlePlan, survey: PictureSurvey, choices: Sequence[Choice], data: str | Path, folder: str | Path
) -> str:
    """The text of a `plan.md`.

    Args:
        plan: of the bundle.
        survey: what was found.
        choices: what was chosen.
        data: where the data are.
        folder: the bundle's.
    """
    cases = survey.cases
    areas = [area for case in cases for area in case.areas]
    heights, widths = [case.height for case in cases], [case.width for case in cases]
    intensities = []
    for name, percentiles in (
        ("in the foreground", [case.inside for case in cases if case.inside is not None]),
        ("around it", [case.outside for case in cases if case.outside is not None]),
    ):
        if percentiles:
            intensities.append((name, [f"{value:.3f}" for value in np.mean(percentiles, axis=0)]))
    return template_environment().get_template("plan.md").render(
        plan=plan,
        survey=survey,
        choices=choices,
        data=data,
        folder=folder,
        version=__version__,
        sizes=f"{min(widths)} to {max(widths)} pixels wide and {min(heights)} to {max(heights)} high",
        shares=_range([100 * case.foreground for case in cases], " %"),
        empty=sum(case.foreground == 0 for case in cases),
        areas=areas,
        areas_told=_range(areas) if areas else "",
        classes=_classes(survey, plan),
        intensities=intensities,
    )  # fmt: skip

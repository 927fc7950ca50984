# SPDX-License-Identifier: Apache-2.0
"""Tells in Markdown what was found in a folder, what was chosen for it, and why."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np

from monai_sam2unet import __version__
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.bundle_writer import template_environment, write_bundle
from monai_sam2unet.plan.choices import Choice

__all__ = ["ninety_percent", "plan_of_choices", "refuse_problems", "value_rows", "write_planned"]

#: Attributes of a plan that are tuples.
_TUPLES = ("windows", "flip_axes")


def ninety_percent(values: Sequence[float], unit: str = "") -> str:
    """Tell where the middle nine tenths of some values lie.

    Example:
        >>> ninety_percent([1.0, 2.0, 3.0], " mm")
        '1.1 to 2.9 mm, in the middle 2 mm'
    """
    low, middle, high = np.quantile(values, [0.05, 0.5, 0.95])
    return f"{low:.4g} to {high:.4g}{unit}, in the middle {middle:.4g}{unit}"


def value_rows(cases: Iterable[tuple[list[float] | None, list[float] | None]]) -> list[tuple[str, list[str]]]:
    """Rows of a table of values in and out of the foreground, mean over the cases.

    Args:
        cases: of each case the percentiles in the foreground and out of it; None where there is none.
    """
    sides = zip(*cases, strict=True)
    rows = []
    for name, percentiles in zip(("in the foreground", "around it"), sides, strict=False):
        found = [values for values in percentiles if values is not None]
        if found:
            rows.append((name, [f"{value:.4g}" for value in np.mean(found, axis=0)]))
    return rows


def refuse_problems(problems: Sequence[str], data: str | Path) -> None:
    """Make sure that there is nothing that keeps data from being trained on.

    Raises:
        DataError: When there are such problems; all are listed.
    """
    if problems:
        raise DataError(
            f"{len(problems)} problems with {data}; mend them, or take the files away:\n{listing(problems)}"
        )


def plan_of_choices(choices: Sequence[Choice], data: str | Path, folder: str | Path, **about: Any) -> BundlePlan:
    """The plan that follows from choices: those that it has an attribute for, and settings of the configs.

    Args:
        choices: what was chosen.
        data: where the data are.
        folder: of the bundle, which is called as it.
        about: further attributes of the plan.
    """
    attributes = {attribute.name for attribute in fields(BundlePlan)}
    chosen = {choice.name: tuple(choice.value) if choice.name in _TUPLES else choice.value for choice in choices}
    own: dict[str, Any] = {key: value for key, value in chosen.items() if key in attributes}
    settings = {key: value for key, value in chosen.items() if key not in attributes}
    name, source = Path(folder).resolve().name, str(Path(data).resolve())
    return BundlePlan(
        name=name,
        title=f"{name.replace('_', ' ').capitalize()} by SAM2-UNet",
        data_source=source,
        settings={**settings, "dataset_dir": source},
        **own,
        **about,
    )


def write_planned(
    plan: BundlePlan,
    folder: str | Path,
    choices: Sequence[Choice],
    found: Sequence[str],
    values: str,
    intensities: Sequence[tuple[str, list[str]]],
    remarks: Sequence[str],
) -> None:
    """Write a bundle, and its `plan.md`.

    Args:
        plan: of the bundle.
        folder: the bundle's; it is made, and must not exist.
        choices: what was chosen.
        found: lines on what there is.
        values: what the values are.
        intensities: as :func:`value_rows` gives them.
        remarks: lines to be known.

    Raises:
        ConfigError: When the folder exists.
    """
    root = write_bundle(plan, folder)
    text = template_environment().get_template("plan.md").render(
        plan=plan,
        folder=folder,
        choices=choices,
        found=found,
        values=values,
        intensities=intensities,
        remarks=remarks,
        data=plan.data_source,
        version=__version__,
    )  # fmt: skip
    (root / "plan.md").write_text(text, encoding="utf-8")

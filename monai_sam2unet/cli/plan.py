# SPDX-License-Identifier: Apache-2.0
"""``sam2unet plan``: a bundle for images and masks of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from monai_sam2unet.errors import ConfigError

if TYPE_CHECKING:
    from monai_sam2unet.plan.picture_survey import PictureSurvey

__all__ = ["plan"]


def _gpu_memory() -> float:
    import torch

    return torch.cuda.get_device_properties(0).total_memory / 2**30 if torch.cuda.is_available() else 0.0


def _tell_of_nnunet(console: Console, dataset: Path) -> None:
    console.print(
        f"The data for nnU-Net are {dataset}. Copy its splits_final.json to nnUNet_preprocessed/{dataset.name} after "
        "nnUNetv2_plan_and_preprocess and before nnUNetv2_train.",
        markup=False, highlight=False, soft_wrap=True,
    )  # fmt: skip


def plan(
    data: Annotated[Path, typer.Argument(help="Images and masks, or volumes and labels: a public set, or your own.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the bundle; it is made.")] = None,
    export_nnunet: Annotated[
        Path | None,
        typer.Option(
            help="Write the data for nnU-Net v2, too, as DatasetXXX_NAME in this folder (nnUNet_raw), with our five "
            "folds: copy its splits_final.json to nnUNet_preprocessed/DatasetXXX_NAME before nnUNetv2_train."
        ),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="What the images are, as dermoscopy, xray or ct; else told by their values.")
    ] = None,
    marked: Annotated[str, typer.Option("--object", help="What masks of one class show, as wound.")] = "object",
    classes: Annotated[str | None, typer.Option(help="Names of the classes, comma-separated, in their order.")] = None,
    gpu_memory: Annotated[
        float | None, typer.Option(help="GB of the GPU to train on, 0 for none; else that of this machine.", min=0)
    ] = None,
    group_pattern: Annotated[
        str | None, typer.Option(help="Regular expression that finds the patient in a file's name.")
    ] = None,
    workers: Annotated[int, typer.Option(help="Processes that read the images.", min=1)] = 4,
) -> None:
    """Look through DATA and write a bundle for it: configs, docs, and plan.md, which gives the reason of each choice.

    What keeps the data from being trained on is listed, all at once, with exit code 1; nothing is written then.
    """
    if out is None and export_nnunet is None:
        raise ConfigError("Say what to write: a bundle (`--out`), data for nnU-Net (`--export-nnunet`), or both.")
    if out is not None and out.exists():
        raise ConfigError(f"{out} exists already; a bundle is not written over what is there. Give another folder.")
    # `--help` should not wait for PyTorch.
    from monai_sam2unet.plan.nnunet_export import export_pictures, export_volumes
    from monai_sam2unet.plan.picture_survey import survey_pictures
    from monai_sam2unet.plan.plan_pictures import plan_pictures
    from monai_sam2unet.plan.plan_volumes import plan_volumes
    from monai_sam2unet.plan.volume_survey import VolumeSurvey, holds_volumes, survey_volumes

    console = Console()
    memory = _gpu_memory() if gpu_memory is None else gpu_memory
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    survey: PictureSurvey | VolumeSurvey
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=None)
        reading: dict[str, Any] = {
            "workers": workers,
            "cache": Path.home() / ".cache" / "monai_sam2unet" / "surveys",
            "advance": lambda: progress.advance(task),
            "total": lambda count: progress.update(task, total=count),
        }
        look_through = survey_volumes if holds_volumes(data) else survey_pictures
        survey = look_through(data, group_pattern, **reading)
    console.print(f"{data}: {survey.layout}, {len(survey.cases)} cases", markup=False, highlight=False)
    if export_nnunet is not None:
        exported = (
            export_volumes(survey, data, export_nnunet, modality, names, group_pattern)
            if isinstance(survey, VolumeSurvey)
            else export_pictures(survey, data, export_nnunet, modality, marked, names, group_pattern)
        )
        _tell_of_nnunet(console, exported)
    if out is None:
        return
    if isinstance(survey, VolumeSurvey):
        choices = plan_volumes(survey, data, out, modality, names, memory, group_pattern)
    else:
        choices = plan_pictures(survey, data, out, modality, marked, names, memory, group_pattern)
    for remark in survey.remarks[:10]:
        console.print(f"note: {remark}", markup=False, highlight=False, soft_wrap=True)
    table = Table("setting", "value", "reason")
    for choice in choices:
        table.add_row(choice.name, "none" if choice.value is None else str(choice.value), choice.reason)
    console.print(table)
    console.print(
        f"The bundle is {out}; how to train it is in {out / 'plan.md'}.", markup=False, highlight=False, soft_wrap=True
    )

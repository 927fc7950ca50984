# SPDX-License-Identifier: Apache-2.0
"""``sam2unet plan``: a bundle for images and masks of one's own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from monai_sam2unet.errors import ConfigError

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
    data: Annotated[Path, typer.Argument(help="Folder of images and masks: a public set, or images/ and masks/.")],
    out: Annotated[Path | None, typer.Option(help="Folder of the bundle; it is made.")] = None,
    export_nnunet: Annotated[
        Path | None,
        typer.Option(
            help="Write the data for nnU-Net v2, too, as DatasetXXX_NAME in this folder (nnUNet_raw), with our five "
            "folds: copy its splits_final.json to nnUNet_preprocessed/DatasetXXX_NAME before nnUNetv2_train. Volumes "
            "(NIfTI), which need --classes and --modality ct or mr, are written so, too, without --out."
        ),
    ] = None,
    modality: Annotated[
        str | None, typer.Option(help="What the images are, as dermoscopy or xray; else told by their colours.")
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
    # `--help` should not wait for PyTorch.
    from monai_sam2unet.plan.nnunet_export import export_pictures, export_volumes
    from monai_sam2unet.plan.picture_survey import survey_pictures
    from monai_sam2unet.plan.plan_pictures import plan_pictures

    console = Console()
    names = None if classes is None else [name.strip() for name in classes.split(",")]
    if export_nnunet is not None and out is None and any(data.rglob("*.nii*")):
        _tell_of_nnunet(console, export_volumes(data, export_nnunet, modality, names, None, group_pattern))
        return
    columns = (TextColumn("reading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("reading", total=None)
        survey = survey_pictures(
            data,
            group_pattern,
            workers,
            Path.home() / ".cache" / "monai_sam2unet" / "surveys",
            lambda: progress.advance(task),
            lambda count: progress.update(task, total=count),
        )
    console.print(f"{data}: {survey.layout}, {len(survey.cases)} images with masks", markup=False, highlight=False)
    memory = _gpu_memory() if gpu_memory is None else gpu_memory
    if export_nnunet is not None:
        exported = export_pictures(survey, data, export_nnunet, modality, marked, names, group_pattern)
        _tell_of_nnunet(console, exported)
    if out is None:
        return
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

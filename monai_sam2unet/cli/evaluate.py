# SPDX-License-Identifier: Apache-2.0
"""``sam2unet evaluate``: scores the prediction maps of any method, from a folder."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from monai_sam2unet.cli.output_folder import make_output_folder
from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = ["evaluate"]


class Protocol(str, Enum):
    """Readings of a prediction map."""

    both = "both"
    clinical = "clinical"
    sod = "sod"


class EmptyTruth(str, Enum):
    """What 0/0 counts in the papers' protocol."""

    zero = "0"
    one = "1"
    ignore = "ignore"


def _read_published(path: Path) -> Any:
    import yaml

    if not path.is_file():
        raise ConfigError(f"There is no file {path} of published numbers.")
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {error}") from error
    if not isinstance(content, dict) or "published" not in content:
        raise ConfigError(f"{path} has no key `published`, {{SET: {{SCORE: NUMBER}}}}; see configs/benchmarks.")
    return content["published"]


def evaluate(
    pred_dir: Annotated[Path, typer.Argument(help="Folder of prediction maps, or of a folder of them for each set.")],
    truth_dir: Annotated[Path, typer.Argument(help="Folder of true masks, or of a folder (or NAME/GT) for each set.")],
    protocol: Annotated[
        Protocol, typer.Option(help="The papers' (sod: maps normalised, 256 thresholds), the clinical one, or both.")
    ] = Protocol.both,
    output: Annotated[Path, typer.Option(help="Folder for metrics.csv, summary.json and report.html.")] = Path(
        "evaluation"
    ),
    threshold: Annotated[float, typer.Option(help="Clinical: values from this share of full range on count.")] = 0.5,
    resize: Annotated[
        bool, typer.Option("--resize", help="Bring maps of another size to that of their masks, bilinearly.")
    ] = False,
    mask_threshold: Annotated[float, typer.Option(help="Mask values from this (of 255) on are foreground.")] = 127.5,
    empty_truth: Annotated[
        EmptyTruth, typer.Option(help="Papers' protocol: what images without object count where a score is 0/0.")
    ] = EmptyTruth.zero,
    tolerance: Annotated[float, typer.Option(help="Of the surface Dice, in pixels.")] = 2.0,
    centerline: Annotated[
        bool, typer.Option("--centerline", help="Clinical: measure clDice, too, as vessels need it; takes time.")
    ] = False,
    images: Annotated[
        Path | None, typer.Option(help="Folder of the images, for the report; else those beside the masks are taken.")
    ] = None,
    published: Annotated[
        Path | None, typer.Option(help="YAML file with `published` numbers to compare with; see configs/benchmarks.")
    ] = None,
    name: Annotated[
        str | None,
        typer.Option(help="Of the set, where PRED_DIR holds the maps itself; else it is called as its masks' folder."),
    ] = None,
    allow_unpaired: Annotated[
        bool, typer.Option("--allow-unpaired", help="Leave out maps and masks without a partner.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Whether report.html is written.")] = True,
) -> None:
    """Score prediction maps, of any method, against true masks.

    Maps are gray pictures (8 or 16 bits; a mask of 0 and 255 is one, too), named as their masks up to the suffix.

    Two readings: the papers' protocol, as PySODMetrics computes it; and the clinical one, which holds the values as
    they were saved against one threshold. Many codes stretch each map to full range when they save it (SAM2-UNet's
    does): the clinical reading is then that of the stretched maps, not of the network's probabilities.
    """
    # `--help` should not wait for torch.
    from monai_sam2unet.data.image_check import check_mask_threshold
    from monai_sam2unet.evaluation.case_pictures import CasePictures
    from monai_sam2unet.evaluation.file_scoring import score_files
    from monai_sam2unet.evaluation.map_files import check_sizes
    from monai_sam2unet.evaluation.picture_report import write_picture_report
    from monai_sam2unet.evaluation.prediction_folder import find_prediction_cases
    from monai_sam2unet.evaluation.published import PublishedTable
    from monai_sam2unet.evaluation.score_summary import remove_results
    from monai_sam2unet.evaluation.score_table import ScoreTable

    console, errors = Console(), Console(stderr=True)
    counts: Any = "ignore" if empty_truth is EmptyTruth.ignore else int(empty_truth.value)
    table = ScoreTable(threshold, counts, tolerance, protocol=protocol.value, centerline=centerline)
    check_mask_threshold(mask_threshold)
    beside = None if published is None else PublishedTable(_read_published(published))
    cases, unpaired = find_prediction_cases(pred_dir, truth_dir, images, allow_unpaired, name)
    if unpaired:
        lines = f"{len(unpaired)} files or folders without a partner are left out:\n{listing(unpaired, 20)}"
        errors.print(lines, markup=False, highlight=False, soft_wrap=True)
    if not resize:
        check_sizes(cases)
    make_output_folder(output)

    pictures = CasePictures(threshold) if report else None
    columns = (TextColumn("scoring"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=errors, disable=not errors.is_terminal) as progress:
        task = progress.add_task("scoring", total=len(cases))
        problems, warnings = score_files(
            cases, table, pictures, resize, mask_threshold, advance=lambda done: progress.advance(task, done)
        )
    settings = {
        "predictions": pred_dir,
        "truth": truth_dir,
        "images": images,
        "name": name,
        "published": published,
        "resize": resize,
        "mask_threshold": mask_threshold,
        "allow_unpaired": allow_unpaired,
        "warnings": warnings,
    }
    # All files before anything is printed: a pipe that is closed loses none of them.
    remove_results(output)
    table.write(output, settings | {"left_out": unpaired, "not_scored": problems})
    written = f"Each image: {output / 'metrics.csv'}"
    if beside is not None:
        beside.write(table.summary(), output)
    if pictures is not None:
        absent = [*problems, *unpaired]
        page = write_picture_report(output / "report.html", table, pictures, beside, settings, absent)
        written = f"To look at: {page}\n{written}"
    table.print(console)
    if beside is not None:
        beside.print(table.summary(), console)
        if beside.not_measured(table.summary()):
            told = f"Measured: {', '.join(table.sets())}. A folder of maps without sub folders gets its name by --name."
            console.print(told, soft_wrap=True, markup=False, highlight=False)
    for line in warnings:
        errors.print(f"warning: {line}", soft_wrap=True, markup=False, highlight=False)
    console.print(written, soft_wrap=True, markup=False, highlight=False)
    if problems:
        raise DataError(
            f"{len(problems)} of {len(cases)} maps could not be scored; the results are without them:\n"
            f"{listing(problems)}"
        )

# SPDX-License-Identifier: Apache-2.0
"""The console command ``sam2unet``: one file for each of its commands, arguments and printing only."""

from __future__ import annotations

import sys
from typing import Annotated

import typer
from rich.console import Console

from monai_sam2unet import __version__
from monai_sam2unet.cli import compare, data, demo, dicom, ensemble, evaluate, export, info, label, plan, weights
from monai_sam2unet.cli.settings import CONTEXT
from monai_sam2unet.errors import UserError, text_of

__all__ = ["app", "main"]

app = typer.Typer(
    name="sam2unet",
    help="2D medical segmentation with SAM2-UNet, inside MONAI.\n\n"
    "Start with `sam2unet demo`: it makes its own images, trains on them and shows what came of it, without any "
    "download. Training on your own images is done by the bundles: see bundles/polyp_segmentation/docs/README.md.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,
)
app.command(name="demo")(demo.demo)
app.command(name="ensemble", context_settings=CONTEXT)(ensemble.ensemble)
app.command(name="dicom", context_settings=CONTEXT)(dicom.dicom)
app.command(name="evaluate")(evaluate.evaluate)
app.command(name="compare")(compare.compare)
app.command(name="export")(export.export)
app.command(name="info")(info.info)
app.command(name="label")(label.label)
app.command(name="plan")(plan.plan)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")


def _show_version(wanted: bool) -> None:
    if wanted:
        print(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line; what the user can mend is said in a few lines, with exit code 1."""
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"error: {text_of(error)}", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)

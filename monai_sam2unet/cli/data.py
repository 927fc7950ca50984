# SPDX-License-Identifier: Apache-2.0
"""``sam2unet data``: look at sets of images before training on them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from monai_sam2unet.cli.output_folder import make_output_folder
from monai_sam2unet.errors import DataError, listing

if TYPE_CHECKING:
    from monai_sam2unet.data.duplicate_audit import AuditedPair

__all__ = ["app"]

# MAX_DISTANCE of data.duplicates, which `--help` should not wait for.
DISTANCE = 64

app = typer.Typer(help="Look at sets of images before training on them.", no_args_is_help=True)


def _folders(training: Path, tests: list[Path]) -> tuple[dict[str, Path], dict[str, Path]]:
    from monai_sam2unet.data.duplicate_audit import image_folders

    of_tests: dict[str, Path] = {}
    for test in tests:
        for name, folder in image_folders(test, "TestDataset").items():
            if name in of_tests:
                raise DataError(
                    f"Two test sets have the name {name}: {of_tests[name]} and {folder}. "
                    "Give one of them, or rename one."
                )
            of_tests[name] = folder
    return image_folders(training, "TrainDataset"), of_tests


def _print_pairs(console: Console, pairs: list[AuditedPair]) -> None:
    table = Table(title="Duplicates between sets of images")
    for number, heading in enumerate(("set", "against", "images", "exact", "near", "images found", "share")):
        table.add_column(heading, justify="left" if number < 2 else "right")
    for pair in pairs:
        counts = pair.summary()
        table.add_row(
            f"{pair.first} ({pair.num_first})",
            "itself" if pair.within else pair.second,
            str(pair.num_second),
            str(counts["exact"]),
            str(counts["near"]),
            str(counts["affected"]),
            f"{100 * counts['share']:.1f} %",
        )
    console.print(table)
    console.print(
        "exact, near: pairs of images. images found: those of the set in the second column that have a duplicate in "
        "the first.",
        soft_wrap=True,
    )


@app.command()
def audit(
    train: Annotated[Path, typer.Argument(help="The training images: sets of images and masks, or plain images.")],
    test: Annotated[list[Path], typer.Argument(help="Folders of test images, as many as you like.")],
    max_distance: Annotated[
        int, typer.Option(min=0, max=256, help="Bits of 256 by which the hashes of near duplicates may differ.")
    ] = DISTANCE,
    output: Annotated[
        Path | None, typer.Option(help="Folder for the list of pairs, the counts, and a picture of the pairs.")
    ] = None,
    within: Annotated[bool, typer.Option("--within", help="Look for duplicates within each set, too.")] = False,
) -> None:
    """Find test images that are in the training set, too: the same files, or nearly the same pictures.

    Folders may be in PraNet's layout (`TrainDataset`, `TestDataset`), hold sets of images and masks, or be plain
    folders of images. Files that can not be read are named at the end, with exit code 1.
    """
    # `--help` should not wait for SciPy and matplotlib.
    from monai_sam2unet.data.duplicate_audit import audit_sets, write_audit
    from monai_sam2unet.data.fingerprints import Fingerprints, fingerprint_images
    from monai_sam2unet.data.image_sets import list_images

    roles = _folders(train, test)
    files = [{name: list_images(folder) for name, folder in sets.items()} for sets in roles]
    if output is not None:
        make_output_folder(output)
    # Names of sets and folders may hold what rich would take for its markup.
    console = Console(markup=False, emoji=False)
    rejected: list[str] = []
    prints: list[dict[str, Fingerprints]] = [{}, {}]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("reading images", total=sum(len(paths) for sets in files for paths in sets.values()))
        for role, sets in enumerate(files):
            for name, paths in sets.items():
                prints[role][name], bad = fingerprint_images(paths, on_image=lambda: progress.advance(bar))
                rejected += bad
    pairs = audit_sets(prints[0], prints[1], within, max_distance)
    _print_pairs(console, pairs)
    if output is not None:
        for file in write_audit(output, pairs, rejected, max_distance):
            console.print(f"Written: {file}", soft_wrap=True)
    if rejected:
        raise DataError(f"All other images are done, but {len(rejected)} could not be read:\n{listing(rejected)}")


@app.callback()
def _group() -> None:
    pass

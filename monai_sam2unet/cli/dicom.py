# SPDX-License-Identifier: Apache-2.0
"""``sam2unet dicom``: segments many DICOM series with a bundle."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from monai_sam2unet.cli.settings import bundle_settings, parsed_settings
from monai_sam2unet.errors import ConfigError, UserError

if TYPE_CHECKING:
    from monai_sam2unet.batch.batch_events import BatchSummary
    from monai_sam2unet.batch.refused import Refused
    from monai_sam2unet.batch.series_job import SeriesJob
    from monai_sam2unet.batch.series_rules import SeriesRules

__all__ = ["dicom"]

#: Settings of a bundle that the command has other words for.
OWN = {
    "bundle_root": "--bundle",
    "dataset_dir": "--input",
    "output_dir": "--output",
    "device": "--device",
    "overlays": "--write",
}
DICOMWEB = "dicomweb:"
ENGINES = ("local", "ray")
COULD_NOT_START = 2
STOPPED_AT_ONCE = 130
UID = re.compile(r"\d+(\.\d+)+")


class _Settings(NamedTuple):
    """What a run is made of, before the network is loaded."""

    bundle: Path
    output: Path
    settings: dict[str, Any]
    options: dict[str, Any]


def _rules(bundle: Path, path: Path | None) -> SeriesRules:
    from monai_sam2unet.batch.series_rules import SeriesRules

    if path is not None:
        return SeriesRules.from_yaml(path)
    from monai_sam2unet.bundle import BundleConfig

    return SeriesRules.for_modalities(BundleConfig(bundle).build("preset").particulars.dicom)


def _found(
    source: str, where: list[str], series_uid: str | None, whole_tree: bool, passed_over: Counter[str]
) -> Iterator[SeriesJob | Refused]:
    if source.startswith(DICOMWEB):
        from monai_sam2unet.batch.sources.dicomweb_source import find_dicomweb_jobs

        conditions = where if series_uid is None else [*where, f"SeriesInstanceUID={series_uid}"]
        return find_dicomweb_jobs(source, conditions)
    if where:
        raise ConfigError("--where asks a DICOMweb server; of files, series are chosen by --rules.")
    from monai_sam2unet.batch.sources.find_jobs import LOOKAHEAD, find_jobs

    lookahead = None if whole_tree else LOOKAHEAD
    return find_jobs(source, series_uid, lookahead, passed_over=passed_over)


def _show_plan(jobs: Iterator[SeriesJob | Refused], rules: SeriesRules) -> None:
    """A table for people at a terminal; lines of columns parted by tabs for programs."""
    from monai_sam2unet.batch.refused import Refused

    rows: list[tuple[str, ...]] = []
    for item in jobs:
        if isinstance(item, Refused):
            rows.append(("refused", item.source, "", "", "", "", " ".join(item.reason.split())))
            continue
        decision = rules.decide(item)
        told = "taken" if decision.take else "left"
        about = (item.modality, item.description, str(item.slices), item.orientation)
        rows.append((told, item.key, *about, decision.reason))
    console = Console()
    headings = ("decision", "series", "modality", "description", "slices", "plane", "why")
    if console.is_terminal:
        table = Table(*headings, title="What would be done")
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console.print(table)
    else:
        for row in (headings, *rows):
            print(*row, sep="\t")
    counts = Counter(row[0] for row in rows)
    told = ", ".join(f"{counts[what]} {what}" for what in ("taken", "left", "refused"))
    Console(stderr=True).print(told, highlight=False)


def _tell_end(console: Console, summary: BatchSummary, output: Path, passed_over: Counter[str]) -> None:
    from monai_sam2unet.batch.identity import discreet

    progress = summary.progress
    before = f" ({progress.done_before} done before)" if progress.done_before else ""
    console.print(
        f"{progress.done} series done{before}, {progress.failed} failed, {progress.skipped} left out, "
        f"{summary.left} still to be done; {progress.seconds:.0f} s.",
        highlight=False,
    )
    if progress.failed_before:
        console.print(f"{progress.failed_before} failed before, and are tried again with --retry-failed.")
    if passed_over:
        told = ", ".join(f"{count} {kind}" for kind, count in sorted(passed_over.items()))
        console.print(f"Passed over: {told}.", markup=False, highlight=False, soft_wrap=True)
    if summary.stopped:
        console.print(f"Stopped: {discreet(summary.stopped)}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"To look at: {output / 'report.html'}", markup=False, highlight=False, soft_wrap=True)


def dicom(
    context: typer.Context,
    bundle: Annotated[Path, typer.Option(help="Folder of the bundle.")],
    output: Annotated[Path, typer.Option(help="Folder of the results; the same one goes on where a run ended.")],
    source: Annotated[
        str | None,
        typer.Option(
            "--input",
            help="Folder of any shape, zip archive, DICOMDIR, file, list of these, or dicomweb:https://host/dicom-web.",
        ),
    ] = None,
    listen: Annotated[
        int | None,
        typer.Option(help="Instead of --input: port for images that are sent (C-STORE); Ctrl-C ends."),
    ] = None,
    callers: Annotated[
        list[str] | None, typer.Option("--caller", help="With --listen: AE title that may send; may be repeated.")
    ] = None,
    quiet_seconds: Annotated[
        float, typer.Option(help="With --listen: a series is whole when no image of it came for so long.")
    ] = 30.0,
    write: Annotated[
        str, typer.Option(help="What is written of each series: seg, nifti, png, sr, sc, csv.")
    ] = "seg,png,csv",
    segmentation_type: Annotated[
        str, typer.Option(help="Of DICOM Segmentations: BINARY, FRACTIONAL (probabilities) or LABELMAP.")
    ] = "BINARY",
    rules: Annotated[
        Path | None, typer.Option(help="YAML that says which series are taken; else those of the bundle's modality.")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="Condition for a DICOMweb server, as Modality=CT; may be repeated.")
    ] = None,
    series_uid: Annotated[str | None, typer.Option(help="SeriesInstanceUID of the only series wanted.")] = None,
    whole_tree: Annotated[
        bool, typer.Option("--whole-tree", help="Look through all files first: series are spread over the tree.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be done, and why, and do nothing.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try again what failed in an earlier run.")
    ] = False,
    send: Annotated[
        list[str] | None,
        typer.Option(help="Send DICOM results to dicomweb:URL or dicom:HOST:PORT:AET; may be repeated."),
    ] = None,
    deidentify: Annotated[
        bool,
        typer.Option("--deidentify", help="Leave the patient out of what is written (PS3.15, basic profile)."),
    ] = False,
    device: Annotated[
        list[str] | None, typer.Option(help="Where the network runs, as cuda:0; may be repeated.")
    ] = None,
    engine: Annotated[
        str, typer.Option(help="local: this machine; ray: the machines of a Ray cluster, which see all files alike.")
    ] = "local",
    address: Annotated[
        str | None, typer.Option(help="With --engine ray: of the cluster, as auto; else one is started here.")
    ] = None,
    num_gpus: Annotated[
        float | None, typer.Option(help="With --engine ray: GPUs that each worker takes; a fraction shares one.")
    ] = None,
    show_identity: Annotated[
        bool, typer.Option("--show-identity", help="Name UIDs and files on the screen and in the log.")
    ] = False,
) -> None:
    """Segment many DICOM series with a bundle: each is read, predicted and written once, whatever happens on the way.

    Each series gets a folder in --output. A bad series fails alone. The same command goes on where a run was stopped or
    killed. The bundle's own settings follow the options, as `--ckpt_path model.pt --encoder_size tiny`.

    Exit code: 0 all done, 1 some failed, 2 it could not start, 3 stopped before the end.
    """
    console = Console(stderr=True)
    try:
        settings = parsed_settings(bundle_settings(context.args, OWN))
        decided = _rules(bundle, rules)
        if rules is not None:
            # Who chooses series knows better than the preset what may be in them.
            settings.setdefault("preset::any_modality", True)
        if source is not None and Path(source).is_dir() and output.resolve() == Path(source).resolve():
            raise ConfigError(f"--output {output} is the input; results go to a folder of their own.")
        if series_uid is not None and not UID.fullmatch(series_uid):
            raise ConfigError(f"--series-uid must be a UID, got {series_uid!r}.")
        passed_over: Counter[str] = Counter()
        batch = _Settings(bundle, output, settings, {
            "write": tuple(word.strip() for word in write.split(",") if word.strip()),
            "segmentation_type": segmentation_type.upper(),
            "devices": tuple(device or ()),
            "destinations": tuple(send or ()),
            "deidentify": deidentify,
            "retry_failed": retry_failed,
            "show_identity": show_identity,
        })  # fmt: skip
        if engine not in ENGINES:
            raise ConfigError(f"--engine must be one of {', '.join(ENGINES)}, got {engine!r}.")
        if engine == "ray":
            from monai_sam2unet.batch.ray_resources import RayResources

            batch.options["cluster"] = RayResources(address=address, num_gpus=num_gpus)
        if (source is None) == (listen is None):
            raise ConfigError("Give either --input, what there is, or --listen, a port for what is sent.")
        if listen is not None and (dry_run or where or series_uid):
            raise ConfigError("--dry-run, --where and --series-uid go with --input, not with --listen.")
        if listen is None and callers:
            raise ConfigError("--caller goes with --listen.")
        if engine == "local" and (address is not None or num_gpus is not None):
            raise ConfigError("--address and --num-gpus go with --engine ray.")
        if listen is not None:
            from monai_sam2unet.batch.batch_runner import STOPPED
            from monai_sam2unet.batch.storage_listener import StorageListener

            with StorageListener(
                listen, output / ".inbox", callers=callers or (), quiet_seconds=quiet_seconds
            ) as listener:
                console.print(f"Listening at port {listener.port}; Ctrl-C ends.", highlight=False)
                summary = _run(console, batch, listener.jobs(), decided)
                # Ctrl-C is its usual end.
                code = int(summary.progress.failed > 0) if summary.stopped == STOPPED else summary.exit_code
        else:
            jobs = _found(str(source), where or [], series_uid, whole_tree, passed_over)
            if dry_run:
                _check_bundle(console, bundle, settings)
                _show_plan(jobs, decided)
                return
            summary = _run(console, batch, jobs, decided)
            code = summary.exit_code
    except (UserError, OSError) as error:
        console.print(f"error: {error}", markup=False, highlight=False, soft_wrap=True)
        raise typer.Exit(COULD_NOT_START) from error
    except KeyboardInterrupt:
        console.print("Stopped at once; the same command goes on.")
        sys.stderr.flush()
        # Threads that are in torch or a file system would be waited for.
        os._exit(STOPPED_AT_ONCE)
    _tell_end(console, summary, output, passed_over)
    raise typer.Exit(code)


def _check_bundle(console: Console, bundle: Path, settings: dict[str, Any]) -> None:
    """What would keep the run itself from its start; missing weights may still come."""
    from monai_sam2unet.bundle import BundleConfig

    weights = Path(BundleConfig.for_inference(bundle, settings).build("ckpt_path"))
    if not weights.is_file():
        console.print(
            f"There are no weights {weights} yet: the run itself will need them.", highlight=False, soft_wrap=True
        )


def _run(
    console: Console, chosen_settings: _Settings, jobs: Iterator[SeriesJob | Refused], rules: SeriesRules
) -> BatchSummary:
    with console.status("Loading the network ..."):
        # `--help` should not wait for torch and MONAI.
        from monai_sam2unet.batch.dicom_batch import DicomBatch
        from monai_sam2unet.batch.series_rules import chosen
        from monai_sam2unet.cli.batch_progress import BatchProgressView

        bundle, output, settings, options = chosen_settings
        batch = DicomBatch(bundle, output, settings=settings, **options)
        processors = batch.processors()
    with BatchProgressView(console) as view:
        return batch.run(chosen(jobs, rules), processors, view)

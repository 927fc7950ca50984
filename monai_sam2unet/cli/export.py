# SPDX-License-Identifier: Apache-2.0
"""``sam2unet export``: a trained network as a file for other programs."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn
from rich.table import Table

from monai_sam2unet.cli.weights import Size
from monai_sam2unet.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from monai_sam2unet.export import SizeCheck
    from monai_sam2unet.export.bundle_parts import BundleParts
    from monai_sam2unet.networks import SAM2UNet

__all__ = ["export"]

CALIBRATION_IMAGES = 300
CHECKED_IMAGES = 4
# What rounding to these types may do to the logits depends on the network and the images: it is shown.
TOLERANCES = {"fp32": 1e-5, "fp16": None, "int8": None}


class Format(str, Enum):
    """Kinds of exported files."""

    onnx = "onnx"
    openvino = "openvino"
    torchscript = "torchscript"
    program = "program"


class Precision(str, Enum):
    """Types of the weights in the file."""

    fp32 = "fp32"
    fp16 = "fp16"
    int8 = "int8"


SUFFIXES = {Format.onnx: ".onnx", Format.openvino: ".xml", Format.torchscript: ".ts", Format.program: ".pt2"}


def _chosen_format(out: Path, wanted: Format | None) -> Format:
    found = next((kind for kind, suffix in SUFFIXES.items() if out.suffix == suffix), None)
    if found is None:
        told = ", ".join(f"{suffix} ({kind.value})" for kind, suffix in SUFFIXES.items())
        raise ConfigError(f"The file's name tells its format, by its end: {told}. Got {out}.")
    if wanted not in (None, found):
        raise ConfigError(f"--format {wanted.value} goes with a name that ends in {SUFFIXES[wanted]}, got {out}.")
    return found


def _check_options(kind: Format, precision: Precision, fixed: bool, calibration: bool, bundle: bool) -> None:
    if kind is Format.torchscript and fixed:
        raise ConfigError("TorchScript takes any number of images of any size: no --spatial-size, no --batch-size.")
    if kind is not Format.openvino and precision is not Precision.fp32:
        raise ConfigError(f"--precision {precision.value} goes with OpenVINO; files of {kind.value} are fp32.")
    if (precision is Precision.int8) != calibration:
        raise ConfigError("--precision int8 and --calibration FOLDER go together: training images calibrate int8.")
    if calibration and not bundle:
        raise ConfigError("--precision int8 needs --bundle: its config says how images are prepared for the network.")


def _read_network(bundle: Path | None, settings: Mapping[str, Any]) -> tuple[SAM2UNet, BundleParts | None]:
    """A network without trained weights: a bundle's, with settings for its config; or of the settings alone."""
    from monai_sam2unet.export.bundle_parts import read_bundle
    from monai_sam2unet.networks import SAM2UNet

    given = {name: value for name, value in settings.items() if value is not None}
    if bundle is not None:
        parts = read_bundle(bundle, given)
        return parts.network, parts
    arguments = {name.replace("network_def::", ""): value for name, value in given.items() if name != "spatial_size"}
    return SAM2UNet(size=arguments.pop("encoder_size", "large"), **arguments), None


def _calibration_files(folder: Path | None) -> list[Path]:
    from monai_sam2unet.data.image_sets import list_images
    from monai_sam2unet.export.quantization import MIN_IMAGES

    if folder is None:
        return []
    files = list_images(folder)
    if len(files) < MIN_IMAGES:
        raise ConfigError(f"--calibration: {folder} holds {len(files)} images; int8 needs {MIN_IMAGES} at least.")
    # From all over the folder: neighbours are often frames of one video.
    return files[:: -(-len(files) // CALIBRATION_IMAGES)]


def _prepared(files: list[Path], parts: BundleParts | None) -> Iterator[Tensor]:
    if parts is not None:
        for file in files:
            yield parts.preprocessing({"image": str(file)})["image"][None]


def _write(
    kind: Format, network: SAM2UNet, path: Path, precision: Precision, images: Iterable[Tensor], **options: Any
) -> None:
    from monai_sam2unet.export import export_onnx, export_openvino, export_program, export_torchscript

    if kind is Format.onnx:
        export_onnx(network, path, **options)
    elif kind is Format.program:
        export_program(network, path, **options)
    elif kind is Format.torchscript:
        export_torchscript(network, path, metadata=options["metadata"])
    elif precision is Precision.int8:
        from monai_sam2unet.export.quantization import quantize_openvino

        with tempfile.TemporaryDirectory() as folder:
            quantize_openvino(export_openvino(network, Path(folder) / "model.xml", **options), images, path)
    else:
        export_openvino(network, path, precision=precision.value, **options)


def _check_table(rows: list[SizeCheck], num_random: int) -> Table:
    table = Table(title="The file's logits against the network's in float64", title_justify="left")
    for number, heading in enumerate(("images", "largest logit", "difference", "relative", "pixels of another sign")):
        table.add_column(heading, justify="left" if number == 0 else "right", no_wrap=number == 0)
    for number, row in enumerate(rows):
        table.add_row(
            "x".join(map(str, row.shape)) + (" of noise" if number < num_random else " for calibration"),
            f"{row.largest:.2f}",
            f"{row.difference:.1e}",
            f"{row.relative:.1e}",
            f"{100 * row.changed:.3f} %",
        )
    return table


def export(
    checkpoint: Annotated[Path, typer.Argument(help="What training wrote, such as models/model.pt.")],
    out: Annotated[
        Path, typer.Argument(help="File to write; its end tells the format: .onnx, .xml (OpenVINO), .ts or .pt2.")
    ],
    format: Annotated[Format | None, typer.Option(help="The format once more; OUT must have its end.")] = None,
    bundle: Annotated[
        Path | None, typer.Option(help="Folder of the bundle that was trained; its config says what the network is.")
    ] = None,
    size: Annotated[
        Size | None, typer.Option("--size", "--encoder_size", help="Of the encoder; else large, or the bundle's.")
    ] = None,
    in_channels: Annotated[int | None, typer.Option(min=1, help="Channels of the image; else 3.")] = None,
    out_channels: Annotated[int | None, typer.Option(min=1, help="Channels of the result; else 1.")] = None,
    adapter_channels: Annotated[
        int | None, typer.Option("--adapter-channels", "--adapter_channels", min=0, help="As in training; else 32.")
    ] = None,
    lora_rank: Annotated[
        int | None, typer.Option("--lora-rank", "--lora_rank", min=0, help="As in training; else 0.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="For a light checkpoint: the weights that the training started from.")
    ] = None,
    training_size: Annotated[
        tuple[int, int] | None,
        typer.Option(help="Height and width in training, else the bundle's: noted in the file, and taken for int8."),
    ] = None,
    spatial_size: Annotated[
        tuple[int, int] | None, typer.Option(help="Height and width that the file is fixed to; else it takes any.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(min=1, help="Number of images that the file is fixed to; else it takes any.")
    ] = None,
    precision: Annotated[
        Precision, typer.Option(help="Of the weights in the file; fp16 and int8 go with OpenVINO.")
    ] = Precision.fp32,
    calibration: Annotated[
        Path | None,
        typer.Option(help="For int8: folder of a hundred or more training images.", exists=True, file_okay=False),
    ] = None,
    check: Annotated[bool, typer.Option(help="Whether the file is compared with the network first.")] = True,
) -> None:
    """Write a trained network as a file for other programs, and compare the file with the network.

    ONNX is for onnxruntime and TensorRT, OpenVINO for CPUs, TorchScript and torch.export's programs (.pt2) for torch
    without this package. A file takes any number of images of any size, unless it is fixed to some. An fp32 file whose
    logits are further than 1e-5 of the largest one from the network's is not kept.
    """
    kind = _chosen_format(out, format)
    fixed = spatial_size is not None or batch_size is not None
    _check_options(kind, precision, fixed, calibration is not None, bundle is not None)
    if training_size is not None and bundle is None:
        raise ConfigError("--training-size goes with --bundle, whose default it takes the place of.")

    # Neither `--help` nor these mistakes should wait for torch.
    from monai_sam2unet.bundle import load_checkpoint, warn_of_other_settings
    from monai_sam2unet.export import check_export, open_exported
    from monai_sam2unet.export.optional_package import import_optional
    from monai_sam2unet.export.output_file import check_output_file
    from monai_sam2unet.folders import whole_file

    if check and kind is Format.onnx:
        import_optional("onnxruntime", "onnx")
    files = _calibration_files(calibration)
    out = check_output_file(out, SUFFIXES[kind])
    trained_at = training_size or spatial_size
    settings = {
        "encoder_size": None if size is None else size.value,
        "network_def::in_channels": in_channels,
        "network_def::out_channels": out_channels,
        "adapter_channels": adapter_channels,
        "lora_rank": lora_rank,
        "weights": weights,
        "spatial_size": None if trained_at is None else list(trained_at),
    }
    rows: list[SizeCheck] = []
    real: list[Tensor] = []
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress, whole_file(out) as unfinished:
        task = progress.add_task("reading the checkpoint", total=None)
        network, parts = _read_network(bundle, settings)
        load_checkpoint(network, checkpoint)
        if spatial_size is not None:
            warn_of_other_settings(checkpoint, spatial_size, advice="Give --spatial-size of the training, or none")
        if parts is not None:
            warn_of_other_settings(checkpoint, parts.spatial_size, advice="Give --training-size as it was")
        progress.update(task, description=f"writing {out.name}")
        _write(
            kind,
            network,
            unfinished,
            precision,
            _prepared(files, parts),
            spatial_size=spatial_size,
            batch_size=batch_size,
            metadata=None if parts is None else parts.facts,
        )
        if check:
            progress.update(task, description="comparing it with the network")
            real = [image.expand(batch_size or 1, -1, -1, -1) for image in _prepared(files[:CHECKED_IMAGES], parts)]
            tolerance = TOLERANCES[precision.value]
            rows = check_export(open_exported(unfinished), network, images=real, tolerance=tolerance)
        written = sum(file.stat().st_size for file in unfinished.parent.iterdir())
    # Names of files may hold what rich would take for its markup.
    console = Console(markup=False, emoji=False, highlight=False)
    told = f"{out}: {written / 1e6:.1f} MB"
    if rows:
        console.print(_check_table(rows, len(rows) - len(real)))
        furthest = max(row.relative for row in rows)
        told += f", at most {furthest:.1e} of the largest logit from the network in {len(rows)} comparisons"
    if precision is not Precision.fp32:
        told += f".\n{precision.value} changes masks a little: score it on your own test set before you use it"
    console.print(told, soft_wrap=True)

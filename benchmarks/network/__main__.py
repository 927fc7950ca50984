# SPDX-License-Identifier: Apache-2.0
"""Our network in all its forms, beside the released code, other networks, and what the device can do; in one run.

    python -m benchmarks.network --output docs/results/network_cpu.json --plot docs/images/network_cpu.png
    python -m benchmarks.network --device cuda --size tiny --size large --batch 1 --batch 8 --batch 64 --train-batch 12
    python -m benchmarks.network --official SAM2-UNet --checkpoint model.pt --images IMAGES --calibration TRAIN_IMAGES

In each round every form runs once, in changing order; ratios are taken round by round against the first row that runs.
Times hold one call from the images in memory to the logits in memory, nothing else in flight. What cannot run here is a
row with the reason. The file of results is written after each batch size. Numbers are of noise images; weights are
random unless they are given, which changes no time.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from benchmarks.device_name import device_name
from benchmarks.network.agreement import Picture, photographs, with_logits
from benchmarks.network.every_form import FORMS
from benchmarks.network.forms import Form, Setting, Unavailable, Workbench
from benchmarks.network.inference import measure_inference, new_row
from benchmarks.network.memory import measure_memory
from benchmarks.network.plot import draw
from benchmarks.network.roofline import roofline
from benchmarks.network.table import markdown
from benchmarks.network.training import TRAINING_FORMS, measure_training
from monai_sam2unet.errors import UserError
from monai_sam2unet.networks import HIERA_SPECS

PACKAGES = (
    *("torch", "monai", "transformers", "onnx", "onnxruntime", "openvino", "nncf", "torch-tensorrt"),
    "segmentation-models-pytorch",
)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _circumstances(device: torch.device) -> dict[str, Any]:
    """What the numbers hold for; paths in the command are cut to their last part."""
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return {
        "command": " ".join(["python -m benchmarks.network", *words]),
        "machine": device_name(device),
        "threads": torch.get_num_threads(),
        "versions": _versions(),
        "tf32": {"matmul": torch.backends.cuda.matmul.allow_tf32, "cudnn": torch.backends.cudnn.allow_tf32},
    }


def _check(sizes: list[str], batches: list[int], pixels: int, device: str) -> None:
    unknown = [size for size in sizes if size not in HIERA_SPECS]
    if unknown:
        raise typer.BadParameter(f"--size: {', '.join(unknown)} is not known; choose from {', '.join(HIERA_SPECS)}.")
    if pixels % 32 or min(batches) < 1:
        raise typer.BadParameter(f"--pixels must be a multiple of 32, --batch at least 1; got {pixels}, {batches}.")
    if device not in ("cpu", "cuda") or (device == "cuda" and not torch.cuda.is_available()):
        raise typer.BadParameter(f"--device must be cpu, or cuda where torch finds a GPU; got {device}.")


def _chosen(names: str | None) -> list[Form]:
    if names is None:
        return [form for form in FORMS.values() if form.by_default]
    unknown = [name for name in names.split(",") if name not in FORMS]
    if unknown:
        raise typer.BadParameter(f"--forms: {', '.join(unknown)} is not known; choose from {', '.join(FORMS)}.")
    return [form for key, form in FORMS.items() if key in names.split(",")]


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _write(results: dict[str, Any], output: Path | None) -> None:
    """Put the file in place whole: a run that is stopped leaves the last one."""
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        part = output.with_suffix(".part")
        part.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
        part.replace(output)


def _measure_memory(rows: dict[str, Any], forms: list[Form], setting: Setting, batch: int) -> None:
    for form in forms:
        if "ms" not in rows[form.key]["batches"].get(str(batch), {}):
            continue  # its row says why
        _say(f"memory: {form.label}")
        try:
            rows[form.key]["memory"] = {"mib": measure_memory(form, setting, batch, torch.get_num_threads())}
        except Unavailable as reason:
            rows[form.key]["memory"] = {"reason": str(reason)}


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    size: Annotated[list[str] | None, typer.Option(help="Encoder size; may be given again. [default: tiny]")] = None,
    pixels: Annotated[int, typer.Option(help="Height and width; a multiple of 32.", min=32)] = 352,
    batch: Annotated[list[int] | None, typer.Option(help="Batch size; may be given again. [default: 1, 8]")] = None,
    rounds: Annotated[int, typer.Option(help="Turns of each timing.", min=1)] = 4,
    forms: Annotated[str | None, typer.Option(help=f"Rows, with commas: {', '.join(FORMS)}.")] = None,
    weights: Annotated[str | None, typer.Option(help="Encoder weights, as sam2.")] = None,
    checkpoint: Annotated[Path | None, typer.Option(help="Weights of a trained network.", exists=True)] = None,
    official: Annotated[Path | None, typer.Option(help="Clone of the released code.", exists=True)] = None,
    images: Annotated[Path | None, typer.Option(help="Folder of photographs to compare masks on.")] = None,
    agreement_images: Annotated[int, typer.Option(help="How many of them at most.", min=1)] = 32,
    calibration: Annotated[Path | None, typer.Option(help="Folder of other photographs, for int8.")] = None,
    training: Annotated[bool, typer.Option(help="Whether steps of training are measured.")] = True,
    train_batch: Annotated[
        int | None, typer.Option(help="Images of a step of training. [default: 12 on cuda, 2 on cpu]", min=2)
    ] = None,
    compiled: Annotated[bool | None, typer.Option(help="Whether to compile too. [default: on cuda]")] = None,
    memory: Annotated[bool, typer.Option(help="Whether memory is measured, in a process for each row.")] = True,
    threads: Annotated[int | None, typer.Option(help="CPU threads. [default: as torch has it]", min=1)] = None,
    output: Annotated[Path | None, typer.Option(help="JSON file for the results.")] = None,
    plot: Annotated[Path | None, typer.Option(help="PNG file for a plot.")] = None,
) -> None:
    """Measure, print tables, and write what is asked for."""
    sizes, batches = size or ["tiny"], sorted(set(batch or [1, 8]))
    _check(sizes, batches, pixels, device)
    chosen = _chosen(forms)
    if threads is not None:
        torch.set_num_threads(threads)
    target = torch.device(device)
    on_gpu = target.type == "cuda"
    results = {**_circumstances(target), "pixels": pixels, "rounds": rounds, "sizes": {}}
    _say("what the device can do")
    results["roofline"] = roofline(target, rounds)
    given = {"checkpoint": checkpoint, "official": official, "calibration": calibration}
    paths = {key: None if path is None else str(path.resolve()) for key, path in given.items()}
    steps = [form for form in TRAINING_FORMS if forms is None or form.key in forms.split(",")] if training else []
    for name in sizes:
        with tempfile.TemporaryDirectory() as scratch:
            setting = Setting(
                name, pixels, device, scratch, weights, **paths, compiled=on_gpu if compiled is None else compiled
            )
            bench = Workbench(setting)
            pictures: list[Picture] = []
            if images is not None:
                _say("photographs through the plain network")
                pictures = with_logits(photographs(images, agreement_images, pixels), bench.plain, target)
            rows = {form.key: new_row(form) for form in chosen}
            part: dict[str, Any] = {"rows": list(rows.values())}
            results["sizes"][name] = part
            for count in batches:
                _say(f"{name}, batch {count}")
                measure_inference(
                    *(bench, rows, chosen, count, rounds),
                    pictures=pictures,
                    rates=results["roofline"]["gflop_per_s"],
                    turn_s=0.1 if on_gpu else 0.0,
                    say=_say,
                )
                _write(results, output)
            if steps:
                images_a_step = train_batch or (12 if on_gpu else 2)
                measured = measure_training(bench, steps, images_a_step, rounds, _say)
                part["training"] = {"batch": images_a_step, "rows": measured}
                _write(results, output)
            if memory:
                part["memory_batch"] = batches[-1]
                _measure_memory(rows, chosen, setting, batches[-1])
                _write(results, output)
    typer.echo(markdown(results))
    if plot is not None:
        plot.parent.mkdir(parents=True, exist_ok=True)
        draw(plot, results)


if __name__ == "__main__":
    try:
        typer.run(main)
    except UserError as error:
        sys.exit(str(error))

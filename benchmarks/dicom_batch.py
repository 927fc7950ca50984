# SPDX-License-Identifier: Apache-2.0
"""Times ``sam2unet dicom`` against the obvious loop, MONAI Label's batch inference, and the bare network.

    python -m benchmarks.dicom_batch --output docs/results/dicom_batch_cpu.json
    python -m benchmarks.dicom_batch --output docs/results/dicom_batch_gpu.json --device cuda --series 20 --slices 120

Synthetic CT series, a network of random weights. The loop reads a series, predicts it, writes its segmentation, and
goes on. MONAI Label's is there when this is run in the environment of
`make label`. All are timed in turns within one run on the same slices; the network is loaded before.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import shutil
import statistics
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated, Any

import pydicom
import torch
import typer

from benchmarks.dicom_reader import write_series
from benchmarks.label_batch import label_batch
from benchmarks.timing import in_turns
from monai_sam2unet.batch.batch_events import BatchSummary
from monai_sam2unet.batch.bundle_processor import BundleProcessor
from monai_sam2unet.batch.cpu_workers import shared_cores
from monai_sam2unet.batch.dicom_batch import DicomBatch
from monai_sam2unet.batch.sources import find_jobs
from monai_sam2unet.bundle import BundleConfig

BUNDLE = Path(__file__).parents[1] / "bundles" / "abdominal_ct_segmentation"
PROGRAM, LOOP, NETWORK, LABEL = "sam2unet dicom", "loop", "network alone", "MONAI Label's batch inference"
WORKERS = "network alone, as many at once as the program's"


def make_data(folder: Path, series: int, slices: int, rows: int) -> None:
    """Write CT series with UIDs of their own."""
    for number in range(series):
        own = folder / f"{number:03d}"
        own.mkdir()
        write_series(own, slices, rows, "plain")
        for file in own.iterdir():
            image = pydicom.dcmread(file)
            image.StudyInstanceUID, image.SeriesInstanceUID = f"1.2.3.{number + 1}", f"1.2.4.{number + 1}"
            image.save_as(file)


def one_by_one(processor: BundleProcessor, source: Path, output: Path) -> None:
    """Read, predict, write, next."""
    output.mkdir()
    for job in find_jobs(source):
        (result,) = processor.predict([processor.read(job)])
        folder = output / job.key
        folder.mkdir()
        processor.write(job, result, folder)


def alone(processor: BundleProcessor, count: int) -> None:
    """As many slices through the network, in full batches that are ready on its device."""
    predictor = processor.predictor
    size = predictor.config.build("spatial_size")
    images = torch.randn(predictor.batch_size, 3, *size, device=predictor.device)
    autocast = predictor.config.build("inferer").autocast
    with torch.no_grad():
        for first in range(0, count, predictor.batch_size):
            autocast(images[: count - first], predictor.network)


def alone_at_once(processors: Sequence[BundleProcessor], count: int) -> None:
    """The same by several threads, each with its share of torch's threads and of the slices."""
    with shared_cores(len(processors)), ThreadPoolExecutor(len(processors)) as pool:
        for done in [pool.submit(alone, processor, count // len(processors)) for processor in processors]:
            done.result()


def main(
    output: Annotated[Path, typer.Option(help="JSON file.")],
    series: Annotated[int, typer.Option(help="Series.")] = 4,
    slices: Annotated[int, typer.Option(help="Slices of each.")] = 40,
    rows: Annotated[int, typer.Option(help="Rows and columns of each slice.")] = 512,
    size: Annotated[str, typer.Option(help="Size of the encoder.")] = "tiny",
    precision: Annotated[str, typer.Option(help="As the bundle's.")] = "auto",
    device: Annotated[str, typer.Option(help="Where the network runs.")] = "cpu",
    rounds: Annotated[int, typer.Option(help="Turns of each.")] = 3,
) -> None:
    """Time all three in turns."""
    # MONAI Label keeps writing its list of studies.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as temporary:
        root = Path(temporary)
        (root / "data").mkdir()
        make_data(root / "data", series, slices, rows)
        torch.manual_seed(0)
        bundle = shutil.copytree(BUNDLE, root / "bundles" / BUNDLE.name)
        settings: dict[str, Any] = {"encoder_size": size, "precision": precision}
        network = BundleConfig(bundle, settings).build("network_def")
        torch.save({"model": network.state_dict()}, bundle / "models" / "model.pt")
        turn = iter(range(10**6))
        summaries: list[BatchSummary] = []

        def batch() -> DicomBatch:
            return DicomBatch(bundle, root / f"out{next(turn)}", ("seg",), settings=settings, devices=(device,))

        processors = batch().processors()

        def program() -> None:
            summaries.append(batch().run(find_jobs(root / "data"), processors))

        calls: dict[str, Callable[[], None]] = {
            NETWORK: lambda: alone(processors[0], series * slices),
            WORKERS: lambda: alone_at_once(processors, series * slices),
            LOOP: lambda: one_by_one(processors[0], root / "data", root / f"loop{next(turn)}"),
            PROGRAM: program,
        }
        if importlib.util.find_spec("monailabel") is not None:
            calls[LABEL] = label_batch(bundle, root / "data", root / "label", settings, device)
        seconds = in_turns(calls, rounds, torch.device(device))
    ratios = {name: [own / bare for own, bare in zip(seconds[name], seconds[NETWORK], strict=True)] for name in seconds}
    result = {
        "what": f"{series} CT series of {slices} slices of {rows}x{rows}, SAM2-UNet {size}, segmentations written",
        "device": f"CPU, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "seconds": {name: [round(value, 3) for value in values] for name, values in seconds.items()},
        "times_the_network_alone": {
            name: {
                "median": round(statistics.median(found), 3),
                "lowest": round(min(found), 3),
                "highest": round(max(found), 3),
            }
            for name, found in ratios.items()
        },
        "slices_per_second": {
            name: round(series * slices / statistics.median(values), 3) for name, values in seconds.items()
        },
        "device_busy": round(statistics.median(summary.device_busy for summary in summaries), 3),
    }
    output.parent.mkdir(parents=True, exist_ok=True)
    output.write_text(json.dumps(result, indent=1) + "\n")
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    typer.run(main)

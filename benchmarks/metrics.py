# SPDX-License-Identifier: Apache-2.0
"""Maps scored per second, beside PySODMetrics, by all measures at once and by each measure's class.

    python -m benchmarks.metrics --output docs/results/metrics_cpu.json
    python -m benchmarks.metrics --device cuda --output docs/results/metrics_gpu.json
    python -m benchmarks.metrics --maps predictions/Kvasir --truths TestDataset/Kvasir/masks

Both score the same 8-bit maps, in turns within one run, and the ratio of each turn is taken. PySODMetrics works on one
map after the other on one core; the machine should be idle. Maps are of two kinds: *sharp* ones are 0 beyond the
object's surroundings, but for a false alarm in every fourth; those with a *noise floor* are above 0 everywhere.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import platform
import resource
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import py_sod_metrics
import torch
import typer
from PIL import Image
from torch import Tensor

from benchmarks.timing import lowest_to_highest, seconds
from monai_sam2unet.metrics import (
    BalancedErrorRateMetric,
    DiceOverThresholdsMetric,
    EMeasureMetric,
    FMeasureMetric,
    IoUOverThresholdsMetric,
    MeanAbsoluteErrorMetric,
    SMeasureMetric,
    WeightedFMeasureMetric,
    compute_map_scores,
)

Levels = npt.NDArray[np.uint8]
# Maps that memory is measured for: it should not grow from the first to the second but by the scores.
MEMORY_COUNTS = (64, 512)
DYNAMIC = {"with_dynamic": True, "with_adaptive": False, "with_binary": False}
BINARY = {"with_dynamic": False, "with_adaptive": False, "with_binary": True}
ALL = {"with_dynamic": True, "with_adaptive": True, "with_binary": True}


def _blob(rng: np.random.Generator, size: int, radius: float) -> npt.NDArray[np.float64]:
    """How far each pixel lies inside of a round object with a wavy edge, in pixels."""
    y, x = np.mgrid[:size, :size] - rng.uniform(0.25, 0.75, 2)[:, None, None] * size
    angle = np.arctan2(y, x)
    edge = sum(rng.normal(0, 0.12 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(1, 6))
    inside: npt.NDArray[np.float64] = radius * size * (1 + edge) - np.hypot(y, x)
    return inside


def synthetic(count: int, size: int, noise_floor: bool) -> tuple[Levels, Levels]:
    """Maps and truths of objects that take a twentieth to a quarter of the image, (count, size, size)."""
    rng = np.random.default_rng(0)
    maps, truths = np.empty((2, count, size, size), np.uint8)
    for i in range(count):
        inside = _blob(rng, size, rng.uniform(0.12, 0.28))
        logits = (inside + rng.normal(0, 3) + 8 * np.sin(inside / 15)) / 4
        if i % 4 == 0:
            logits = np.maximum(logits, _blob(rng, size, 0.05) / 4)
        levels = 255 / (1 + np.exp(-logits))
        maps[i] = np.clip(levels + rng.uniform(1, 5, levels.shape), 0, 255) if noise_floor else levels
        truths[i] = (inside > 0) * 255
    return maps, truths


def from_folders(maps: Path, truths: Path, size: int) -> tuple[Levels, Levels]:
    """Maps and the truths of the same names, at one size."""
    found = []
    for file in sorted(maps.iterdir()):
        (truth,) = truths.glob(f"{file.stem}.*")
        with Image.open(file) as prediction, Image.open(truth) as mask:
            found.append(
                (
                    np.asarray(prediction.convert("L").resize((size, size), Image.Resampling.BILINEAR)),
                    np.asarray(mask.convert("L").resize((size, size), Image.Resampling.NEAREST)),
                )
            )
    predictions, masks = zip(*found, strict=True)
    return np.stack(predictions), np.stack(masks)


def fmeasure_v2(**handlers: Any) -> Callable[[], list[Any]]:
    """PySODMetrics' class that has what is counted at thresholds."""
    return lambda: [py_sod_metrics.FmeasureV2({name: make() for name, make in handlers.items()})]


def all_of_theirs() -> list[Any]:
    """All measures, at all thresholds, the adaptive one and the fixed one."""
    handlers = {
        "f": lambda: py_sod_metrics.FmeasureHandler(beta=0.3, **ALL),
        "dice": lambda: py_sod_metrics.DICEHandler(**ALL),
        "iou": lambda: py_sod_metrics.IOUHandler(**ALL),
        "ber": lambda: py_sod_metrics.BERHandler(**ALL),
        "precision": lambda: py_sod_metrics.PrecisionHandler(**ALL),
        "recall": lambda: py_sod_metrics.RecallHandler(**ALL),
    }
    others = (
        py_sod_metrics.Smeasure(),
        py_sod_metrics.Emeasure(),
        py_sod_metrics.WeightedFmeasure(),
        py_sod_metrics.MAE(),
    )
    return [*others, *fmeasure_v2(**handlers)()]


CLASSES: dict[str, tuple[Callable[[], Any], Callable[[], list[Any]]]] = {
    "s_measure": (SMeasureMetric, lambda: [py_sod_metrics.Smeasure()]),
    "e_measure": (lambda: EMeasureMetric("mean"), lambda: [py_sod_metrics.Emeasure()]),
    "weighted_f": (WeightedFMeasureMetric, lambda: [py_sod_metrics.WeightedFmeasure()]),
    "mae": (MeanAbsoluteErrorMetric, lambda: [py_sod_metrics.MAE()]),
    "f_measure": (
        lambda: FMeasureMetric(mode="mean"),
        fmeasure_v2(f=lambda: py_sod_metrics.FmeasureHandler(beta=0.3, **DYNAMIC)),
    ),
    "dice": (
        lambda: DiceOverThresholdsMetric(mode="mean"),
        fmeasure_v2(dice=lambda: py_sod_metrics.DICEHandler(**DYNAMIC)),
    ),
    "iou": (
        lambda: IoUOverThresholdsMetric(mode="mean"),
        fmeasure_v2(iou=lambda: py_sod_metrics.IOUHandler(**DYNAMIC)),
    ),
    "balanced_error_rate": (
        lambda: BalancedErrorRateMetric(mode="fixed"),
        fmeasure_v2(ber=lambda: py_sod_metrics.BERHandler(**BINARY)),
    ),
}


def score_with_theirs(make: Callable[[], list[Any]], maps: Levels, truths: Levels) -> list[Any]:
    """Step through the maps and get the results."""
    metrics = make()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for prediction, truth in zip(maps, truths, strict=True):
            for metric in metrics:
                metric.step(prediction, truth)
    return [metric.get_results() for metric in metrics]


def in_turns(ours: Callable[[], Any], theirs: Callable[[], Any], count: int, rounds: int, device: torch.device) -> Any:
    """Maps per second of both, and the ratio of each turn."""
    ours()
    times = [(seconds(ours, device), seconds(theirs, device)) for _ in range(rounds)]
    return {
        "maps_per_second": {
            "monai_sam2unet": lowest_to_highest([count / a for a, _ in times]),
            "PySODMetrics": lowest_to_highest([count / b for _, b in times]),
        },
        "times_as_fast": lowest_to_highest([b / a for a, b in times]),
    }


def difference(prediction: Tensor, truth: Tensor, maps: Levels, truths: Levels) -> float:
    """The largest difference of ours from theirs in the mean curves, and in the mean scores without a threshold."""
    ours = compute_map_scores(prediction, truth)
    s, e, weighted, mae, at_thresholds = score_with_theirs(all_of_theirs, maps, truths)
    apart = [
        np.abs(ours.values[name].mean().item() - value)
        for name, value in (("s_measure", s["sm"]), ("weighted_f", weighted["wfm"]), ("mae", mae["mae"]))
    ]
    curves = {"e": e["em"]["curve"]} | {name: at_thresholds[name]["dynamic"] for name in ("f", "dice", "iou")}
    apart += [np.abs(ours.curves[name].mean(0).cpu().numpy() - curve[::-1]).max() for name, curve in curves.items()]
    return float(max(apart))


def _peak(count: int, size: int, device: str) -> float:
    maps, truths = synthetic(8, size, True)
    prediction, truth = (
        torch.from_numpy(x)[:, None].repeat(count // 8, 1, 1, 1).to(device) for x in (maps, truths > 128)
    )
    compute_map_scores(prediction[:8], truth[:8])
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        compute_map_scores(prediction, truth)
        return (torch.cuda.max_memory_allocated() - before) / 2**20
    unit = 2**20 if sys.platform == "darwin" else 2**10
    earlier = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    compute_map_scores(prediction, truth)
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - earlier) / unit


def peak_memory(size: int, device: str) -> Iterator[tuple[str, float]]:
    """MiB that scoring takes beyond the maps and what scoring 8 of them took, each count in a process of its own."""
    context = multiprocessing.get_context("spawn")
    for count in MEMORY_COUNTS:
        with context.Pool(1) as pool:
            yield f"{count} maps", pool.apply(_peak, (count, size, device))


def compare(levels: Levels, masks: Levels, rounds: int, device: torch.device) -> dict[str, Any]:
    """Time all measures at once, and each by its class."""
    prediction, truth = (torch.from_numpy(x)[:, None].to(device) for x in (levels, masks > 128))

    def turns(ours: Callable[[Tensor, Tensor], Any], theirs: Callable[[], list[Any]]) -> Any:
        return in_turns(
            lambda: ours(prediction, truth),
            lambda: score_with_theirs(theirs, levels, masks),
            len(levels),
            rounds,
            device,
        )

    result = {
        "maps": len(levels),
        "share_of_background_above_0": float((levels[masks <= 128] > 0).mean()),
        "largest_difference": difference(prediction, truth, levels, masks),
        "all measures": turns(compute_map_scores, all_of_theirs),
    }
    # A metric keeps what it scored: each turn adds to it, which costs nothing.
    return result | {name: turns(ours(), theirs) for name, (ours, theirs) in CLASSES.items()}


def main(
    device: Annotated[str, typer.Option(help="cpu or cuda, for ours; PySODMetrics is always on the CPU.")] = "cpu",
    threads: Annotated[int, typer.Option(help="Threads of torch; 0: as torch has it.")] = 0,
    count: Annotated[int, typer.Option(help="Synthetic maps of each kind.")] = 64,
    size: Annotated[int, typer.Option(help="Height and width of the maps.")] = 352,
    maps: Annotated[Path | None, typer.Option(help="Folder of 8-bit maps to score, too.")] = None,
    truths: Annotated[Path | None, typer.Option(help="Folder of their truths, by the same names.")] = None,
    rounds: Annotated[int, typer.Option(help="Turns.")] = 9,
    output: Annotated[Path | None, typer.Option(help="JSON file to write.")] = None,
) -> None:
    """Time both on the same maps and print the ratios."""
    if (maps is None) != (truths is None):
        raise typer.BadParameter("--maps and --truths go together.")
    if threads:
        torch.set_num_threads(threads)
    target = torch.device(device)
    kinds = {"sharp": synthetic(count, size, False), "noise floor": synthetic(count, size, True)}
    if maps is not None and truths is not None:
        kinds["from folders"] = from_folders(maps, truths, size)
    load = os.getloadavg()[0]
    results = {kind: compare(levels, masks, rounds, target) for kind, (levels, masks) in kinds.items()}
    name = f"CPU, {torch.get_num_threads()} threads" if device == "cpu" else torch.cuda.get_device_name(target)
    result = {
        "command": f"python -m benchmarks.metrics --device {device} --threads {threads} --count {count} --size {size}",
        "machine": {
            "device": name,
            "load_before": load,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": np.__version__,
            "pysodmetrics": version("pysodmetrics"),
        },
        "kinds": results,
        "peak_memory_MiB": dict(peak_memory(size, device)),
    }
    print(json.dumps(result, indent=1))
    if output is not None:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

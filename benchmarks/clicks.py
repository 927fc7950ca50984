# SPDX-License-Identifier: Apache-2.0
"""Measures how clicks improve the polyp bundle's masks, and how soon a click is answered.

    python -m benchmarks.clicks --dataset-dir DIR --output docs/results/clicks_cpu.json

Clicks are simulated as usual for interactive segmentation: in the middle of the largest connected error, the pixel
farthest from what is right, included or excluded as the annotated mask has it. The annotator is thus a perfect one.
The second part clicks in a made volume of 14 classes, as large as a CT's.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from benchmarks.timing import lowest_to_highest
from monai_sam2unet.bundle.bundle_predictor import BundlePredictor
from monai_sam2unet.inferers import InteractiveRefiner, Mark, refiner_of_case

VOLUME, SPACING, CLASSES = (512, 512, 100), (0.8, 0.8, 3.0), 14


def _dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    total = int(mask.sum() + truth.sum())
    return 1.0 if total == 0 else 2 * int((mask & truth).sum()) / total


def next_click(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> Mark | None:
    """The middle of the largest error; None where there is none."""
    errors, count = ndimage.label(mask != truth, np.ones((3, 3)))
    if count == 0:
        return None
    largest = errors == np.bincount(errors.ravel())[1:].argmax() + 1
    depth = ndimage.distance_transform_edt(np.pad(largest, 1))[1:-1, 1:-1]
    pixel = [int(index) for index in np.unravel_index(depth.argmax(), depth.shape)]
    return Mark(int(truth[tuple(pixel)]), [pixel])


def _clicked(refiner: InteractiveRefiner, truth: NDArray[np.bool_], clicks: int) -> tuple[list[float], list[float]]:
    """Dice after 0, 1, ... clicks, and seconds of each."""
    marks: list[Mark] = []
    mask = refiner(marks) > 0
    scores, seconds = [_dice(mask, truth)], []
    for _ in range(clicks):
        click = next_click(mask, truth)
        if click is not None:
            marks.append(click)
            start = time.perf_counter()
            mask = refiner(marks) > 0
            seconds.append(time.perf_counter() - start)
        scores.append(_dice(mask, truth))
    return scores, seconds


def measure_pictures(dataset: Path, bundle: Path, split: str, images: int, clicks: int) -> dict[str, Any]:
    """Clicks on evenly chosen images of a split."""
    predictor = BundlePredictor(bundle)
    threshold = float(predictor.config.build("threshold"))
    found = json.loads((dataset / "dataset.json").read_text())[split]
    cases = [found[round(number)] for number in np.linspace(0, len(found) - 1, min(images, len(found)))]
    scores, answers, first = [], [], []
    for case in cases:
        start = time.perf_counter()
        loaded = predictor.load(str(dataset / case["image"]))
        prediction = predictor.predict([loaded])[0]
        probabilities, labels = (make(loaded, prediction) for make in (predictor.probabilities, predictor.mask))
        refiner = refiner_of_case(predictor.preset, loaded["image"], probabilities, labels, threshold)
        first.append(time.perf_counter() - start)
        truth = np.asarray(Image.open(dataset / case["label"]).convert("L")) > 127
        one, seconds = _clicked(refiner, truth, clicks)
        scores.append(one)
        answers += seconds
    table = np.array(scores)
    return {
        "split": split,
        "images": len(cases),
        "mean_dice": table.mean(0).round(4).tolist(),
        "median_dice": np.median(table, 0).round(4).tolist(),
        "share_of_images_with_dice_from_0.9": (table >= 0.9).mean(0).round(4).tolist(),
        "images_worse_than_without_clicks": (table < table[:, :1] - 1e-6).sum(0).tolist(),
        "poorest_third_mean_dice": table[np.argsort(table[:, 0])[: len(table) // 3]].mean(0).round(4).tolist(),
        "first_inference_s": lowest_to_highest(first),
        "click_s": lowest_to_highest(answers),
        "dice_of_each_image": table.round(4).tolist(),
    }


def _balls(centers: Sequence[tuple[int, int, int]], radius: float) -> list[NDArray[np.bool_]]:
    axes = np.ogrid[tuple(slice(size) for size in VOLUME)]
    return [
        sum(((axis - c) * gap) ** 2 for axis, c, gap in zip(axes, center, SPACING, strict=True)) <= radius**2
        for center in centers
    ]


def measure_volume(clicks: int) -> dict[str, Any]:
    """Clicks in balls of a made volume: each is missed, and taken back by every third click."""
    generator = np.random.default_rng(0)
    image = 0.05 * generator.random((3, *VOLUME), dtype=np.float32)
    probabilities = np.full((CLASSES, *VOLUME), 1e-4, np.float16)
    probabilities[0] = 1
    centers = [(60 + 30 * number, 120 + 20 * number, 50) for number in range(CLASSES - 1)]
    for ball in _balls(centers, 14.0):
        image[:, ball] += 0.3
    refiner = InteractiveRefiner(probabilities, np.zeros(VOLUME, np.uint8), image, SPACING)
    marks: list[Mark] = []
    seconds = []
    for number in range(clicks):
        center = centers[number % len(centers)]
        marks.append(
            Mark(0 if number % 3 == 2 else 1 + number % len(centers), [[center[0], center[1], center[2] + number % 3]])
        )
        start = time.perf_counter()
        refiner(marks)
        seconds.append(time.perf_counter() - start)
    return {
        "shape": list(VOLUME), "spacing_mm": list(SPACING), "classes": CLASSES, "clicks": clicks,
        "click_s": lowest_to_highest(seconds), "last_click_s": seconds[-1],
    }  # fmt: skip


def main(
    dataset_dir: Annotated[Path, typer.Option(help="Folder with dataset.json, images and masks.", exists=True)],
    output: Annotated[Path, typer.Option(help="JSON file to write.")],
    bundle: Annotated[Path, typer.Option(help="The polyp bundle.")] = Path("bundles/polyp_segmentation"),
    split: Annotated[str, typer.Option(help="Split of dataset.json.")] = "test_Kvasir",
    images: Annotated[int, typer.Option(help="Images of it, evenly chosen.", min=3)] = 50,
    clicks: Annotated[int, typer.Option(help="Clicks on each.", min=1)] = 5,
) -> None:
    """Simulate the clicks; write the results."""
    result = {
        "command": f"python -m benchmarks.clicks --split {split} --images {images} --clicks {clicks}",
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load_average": list(os.getloadavg()),
        "torch": torch.__version__,
        "pictures": measure_pictures(dataset_dir, bundle, split, images, clicks),
        "volume": measure_volume(10),
    }
    output.write_text(json.dumps(result, indent=2) + "\n")
    shown = {key: value for key, value in result["pictures"].items() if key != "dice_of_each_image"}
    print(json.dumps({"pictures": shown, "volume": result["volume"]}, indent=2))


if __name__ == "__main__":
    typer.run(main)

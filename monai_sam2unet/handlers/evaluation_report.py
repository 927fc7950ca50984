# SPDX-License-Identifier: Apache-2.0
"""Dice and IoU of each image and each test set: a table, a CSV and a JSON file."""

from __future__ import annotations

import csv
import json
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.metrics import compute_dice, compute_iou
from rich.console import Console
from rich.table import Table

__all__ = ["EvaluationReport"]

COLUMNS = ("dataset", "image", "height", "width", "dice", "iou")


def _summary_of(rows: Sequence[Mapping[str, Any]]) -> dict[str, float | int]:
    dice, iou = [r["dice"] for r in rows], [r["iou"] for r in rows]
    return {
        "images": len(rows),
        "mean_dice": statistics.fmean(dice),
        "std_dice": statistics.stdev(dice) if len(dice) > 1 else 0.0,
        "mean_iou": statistics.fmean(iou),
        "std_iou": statistics.stdev(iou) if len(iou) > 1 else 0.0,
    }


class EvaluationReport:
    """Measures each image at the size that its truth has, and reports by test set.

    Writes ``metrics.csv`` with a row for each image, and ``summary.json`` with mean and standard deviation over the
    images of each set. An image without foreground counts 1 where the prediction is empty too, else 0.

    Attach it to an evaluator whose outputs are lists of dicts with binary ``pred`` and ``label``, (1, H, W), and whose
    batches hold ``dataset`` and an ``image`` with its file's name.

    Args:
        output_dir: folder to write to; it exists.
        settings: put into ``summary.json``: what was measured, and how.
    """

    def __init__(self, output_dir: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        self.output_dir = Path(output_dir)
        self.settings = dict(settings or {})
        self.rows: list[dict[str, Any]] = []

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, lambda: self.rows.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _measure(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            pred, label = (torch.as_tensor(output[key])[None].cpu() for key in ("pred", "label"))
            if pred.shape != label.shape:
                raise ValueError(f"Prediction {tuple(pred.shape)} and truth {tuple(label.shape)} differ in size.")
            self.rows.append(
                {
                    "dataset": item["dataset"],
                    "image": str(item["image"].meta["filename_or_obj"]),
                    "height": label.shape[2],
                    "width": label.shape[3],
                    "dice": float(compute_dice(pred, label, ignore_empty=False)),
                    "iou": float(compute_iou(pred, label, ignore_empty=False)),
                }
            )

    def summary(self) -> dict[str, dict[str, float | int]]:
        """Number of images, mean and standard deviation of Dice and IoU, for each set by name."""
        names = dict.fromkeys(row["dataset"] for row in self.rows)
        return {name: _summary_of([r for r in self.rows if r["dataset"] == name]) for name in names}

    def _report(self, engine: Engine) -> None:
        with (self.output_dir / "metrics.csv").open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(self.rows)
        summary = self.summary()
        content = {"settings": self.settings, "sets": summary}
        (self.output_dir / "summary.json").write_text(
            json.dumps(content, indent=2, default=str) + "\n", encoding="utf-8"
        )

        table = Table(title="Threshold 0.5, native resolution; mean (standard deviation)")
        for heading in ("test set", "images", "Dice", "IoU"):
            table.add_column(heading, justify="left" if heading == "test set" else "right")
        for name, values in summary.items():
            cells = [f"{values[f'mean_{m}']:.4f} ({values[f'std_{m}']:.4f})" for m in ("dice", "iou")]
            table.add_row(name, str(values["images"]), *cells)
        console = Console()
        console.print(table)
        console.print(f"Each image: {self.output_dir / 'metrics.csv'}", soft_wrap=True)

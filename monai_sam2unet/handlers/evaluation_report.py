# SPDX-License-Identifier: Apache-2.0
"""Scores of each image and each test set, in both readings: tables, CSV and JSON files, and a report to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Engine, Events
from monai.networks import one_hot
from rich.console import Console
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.evaluation.case_pictures import CasePictures
from monai_sam2unet.evaluation.picture_report import write_picture_report
from monai_sam2unet.evaluation.published import PublishedTable
from monai_sam2unet.evaluation.score_summary import remove_results
from monai_sam2unet.evaluation.score_table import ScoreTable
from monai_sam2unet.evaluation.volume_scores import VolumeScoreTable
from monai_sam2unet.handlers.shown_slice import shown_slice
from monai_sam2unet.metrics.empty_truth import EmptyTruth

__all__ = ["EvaluationReport"]


class EvaluationReport:
    """Measures each image at the size that its truth has, and reports by test set.

    Writes ``metrics.csv`` with a row for each image, ``summary.json`` with mean, standard deviation and 95 % interval
    over the images of each set, ``curves.csv`` over the thresholds, and ``report.html``; see
    :class:`monai_sam2unet.evaluation.ScoreTable` for the two readings. What an earlier run wrote there is removed.

    Attach it to an evaluator whose outputs are lists of dicts with ``pred``, probabilities in [0, 1] (or a mask of 0
    and 1, whose curves are flat), and a binary ``label``, both (1, H, W), and whose batches hold ``dataset`` and an
    ``image`` with its file's name, or ``filename_or_obj``, its name beside it. Images may differ in size.

    Args:
        output_dir: folder to write to; it exists.
        settings: put into ``summary.json``: what was measured, and how.
        threshold: of the clinical reading: pixels with at least this probability are foreground.
        protocol: ``"both"``, ``"sod"`` (the papers' reading alone) or ``"clinical"``.
        published: numbers to compare with, ``{SET: {COLUMN: NUMBER}}``, and perhaps a ``note`` on them; writes
            ``published.csv`` and ``published.md``.
        report: whether ``report.html`` is written.
        empty_truth: as in :class:`monai_sam2unet.evaluation.ScoreTable`.
        tolerance: as in :class:`monai_sam2unet.evaluation.ScoreTable`.
        unit: as in :class:`monai_sam2unet.evaluation.ScoreTable`; None: pixels.
        surface: as in :class:`monai_sam2unet.evaluation.ScoreTable`.
        class_names: names of the K classes, where there is more than one: ``pred`` and ``label`` are then (K, H, W), or
            (1, H, W) with class indices from 0, the background.
        centerline: as in :class:`monai_sam2unet.evaluation.ScoreTable`.
        plane: for whole volumes: the plane of the slice that the report shows, as :class:`VolumeToSlices` has it.
            ``pred`` and ``label`` are then (1, X, Y, Z) with class indices; Dice, IoU and HD95 of each class are
            measured by :class:`monai_sam2unet.evaluation.VolumeScoreTable`, in mm unless the unit is given.

    Raises:
        ConfigError: When a value is not allowed, or a plane is given without names of classes.
        DataError: When the engine runs, and predictions and truth do not have the same size, predictions are no
            probabilities, or an image comes twice.
    """

    def __init__(
        self,
        output_dir: str | Path,
        settings: Mapping[str, Any] | None = None,
        threshold: float = 0.5,
        protocol: str = "both",
        published: Mapping[str, Mapping[str, float] | str] | None = None,
        report: bool = True,
        empty_truth: EmptyTruth = 0,
        tolerance: float = 2.0,
        unit: str | None = None,
        surface: bool = True,
        class_names: Sequence[str] | None = None,
        centerline: bool = False,
        plane: str | int | None = None,
    ) -> None:
        self.output_dir = Path(output_dir)
        self.settings = dict(settings or {})
        self.plane = plane
        self.table = (
            ScoreTable(threshold, empty_truth, tolerance, unit or "pixels", surface, protocol, class_names, centerline)
            if plane is None
            else VolumeScoreTable(self._names(class_names), unit or "mm")
        )
        self.published = PublishedTable(published) if published else None
        self.pictures = CasePictures(threshold) if report else None

    @staticmethod
    def _names(class_names: Sequence[str] | None) -> Sequence[str]:
        if class_names is None:
            raise ConfigError("Volumes are measured class by class: give class_names with plane.")
        return class_names

    @property
    def rows(self) -> list[dict[str, Any]]:
        """Scores of the images measured so far."""
        return self.table.rows

    def attach(self, engine: Engine) -> None:
        """Attach to an evaluator."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._measure)
        engine.add_event_handler(Events.COMPLETED, self._report)

    def _start(self, engine: Engine) -> None:
        self.table.clear()
        if self.pictures is not None:
            self.pictures.clear()

    def _measure(self, engine: Engine) -> None:
        state: Any = engine.state
        for item, output in zip(state.batch, state.output, strict=True):
            pred, label = (torch.as_tensor(output[key]) for key in ("pred", "label"))
            # Masks of 0 and 1 may be 8 bit; to the table these would be levels of 255.
            pred = pred if pred.is_floating_point() else pred.float()
            if self.plane is None and self.table.class_names is not None:
                pred, label = (self._by_class(values, len(self.table.class_names)) for values in (pred, label))
            # Two DICOM series of one folder have one name in the metadata.
            dataset, image = item["dataset"], str(item.get("filename_or_obj") or item["image"].meta["filename_or_obj"])
            self.table.add(dataset, image, pred, label)
            if self.pictures is None:
                continue
            if self.plane is None:
                self.pictures.add(dataset, image, pred, label, picture=image)
            else:
                self.pictures.add(dataset, image, *shown_slice(pred > 0, label > 0, item["image"], self.plane))

    @staticmethod
    def _by_class(values: Tensor, classes: int) -> Tensor:
        """A mask (K, H, W) of each class, of class indices (1, H, W); masks already, they are left as they are."""
        return values if len(values) > 1 else one_hot(values[None], classes + 1)[0, 1:]

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each set by name: number of images, and mean, standard deviation and interval of each score."""
        return self.table.summary()

    def _report(self, engine: Engine) -> None:
        console, page = Console(), self.output_dir / "report.html"
        # All files before anything is printed: a pipe that is closed loses none of them.
        remove_results(self.output_dir)
        self.table.write(self.output_dir, self.settings)
        if self.published is not None:
            self.published.write(self.summary(), self.output_dir)
        if self.pictures is not None:
            write_picture_report(page, self.table, self.pictures, self.published, self.settings)
        self.table.print(console)
        if self.published is not None:
            self.published.print(self.summary(), console)
        if self.pictures is not None:
            console.print(f"To look at: {page}", soft_wrap=True, markup=False, highlight=False)
        console.print(f"Each image: {self.output_dir / 'metrics.csv'}", soft_wrap=True, markup=False, highlight=False)

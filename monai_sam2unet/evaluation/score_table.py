# SPDX-License-Identifier: Apache-2.0
"""A row of scores for each image, in both readings, and what each set's are on average."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from rich.console import Console
from torch import Tensor

from monai_sam2unet import __version__
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation.calibration import calibration_bins, expected_calibration_error
from monai_sam2unet.evaluation.case_curves import CaseCurves
from monai_sam2unet.evaluation.case_scores import (
    BOUNDARY_TOLERANCE,
    checked_batch,
    class_scores,
    clinical_scores,
    papers_scores,
    to_probabilities,
)
from monai_sam2unet.evaluation.columns import (
    CLINICAL_COLUMNS,
    IDENTITY_COLUMNS,
    MEASURED_CURVES,
    PAPERS_COLUMNS,
    PROTOCOLS,
    check_class_names,
)
from monai_sam2unet.evaluation.object_size import scores_by_size
from monai_sam2unet.evaluation.printed_scores import print_scores
from monai_sam2unet.evaluation.score_summary import CONFIDENCE, SUMMARY_RESAMPLES, summarise, write_scores
from monai_sam2unet.metrics.empty_truth import EmptyTruth, check_empty_truth
from monai_sam2unet.metrics.mask_spacing import UNITS, image_spacings

__all__ = ["ScoreTable"]

SURFACE_COLUMNS = ("hd95", "surface_dice", "boundary_f")


class ScoreTable:
    """Scores cases one by one or in batches, in two readings.

    - The papers' (``"sod"``): the probability map, min-max normalised per image, 8 bit; scores are means, or maxima,
      over the 256 thresholds.
    - The clinical (``"clinical"``): probabilities held against one threshold, at the size that is given.

    Kept are the scores of each case and its curves: about 7 kB a case, whatever its size.

    Args:
        threshold: of the clinical reading: pixels with at least this probability are foreground; in (0, 1].
        empty_truth: of the papers' reading: what 0/0 counts in images without object: 0, 1, or ``"ignore"``: such
            images do not count. In the clinical reading their Dice, IoU and clDice are 1 if nothing is predicted, else
            0.
        tolerance: of the surface Dice, in ``unit``.
        unit: of distances: ``"pixels"``; or ``"mm"``, with the spacing that the MetaTensors bring; see
            :func:`monai_sam2unet.metrics.mask_spacing.image_spacings`.
        surface: whether HD95, surface Dice and boundary F are computed.
        protocol: ``"both"``, ``"sod"`` or ``"clinical"``.
        class_names: names of the channels, where there is more than one class; clinical Dice and IoU only.
        centerline: whether clDice is computed, too, in the clinical reading; its skeletons take time.

    Raises:
        ConfigError: When a value is not allowed.

    Example:
        >>> import torch
        >>> table = ScoreTable(protocol="clinical", surface=False)
        >>> table.add("Kvasir", "1.png", torch.tensor([[[0.9, 0.6, 0.1]]]), torch.tensor([[[1, 0, 0]]]))
        >>> round(table.summary()["Kvasir"]["mean_dice"], 4)
        0.6667
    """

    #: Of one class pictures have probabilities, and no names.
    MIN_CLASSES = 2

    def __init__(
        self,
        threshold: float = 0.5,
        empty_truth: EmptyTruth = 0,
        tolerance: float = 2.0,
        unit: str = "pixels",
        surface: bool = True,
        protocol: str = "both",
        class_names: Sequence[str] | None = None,
        centerline: bool = False,
    ) -> None:
        if protocol not in PROTOCOLS:
            raise ConfigError(f"protocol must be one of {', '.join(PROTOCOLS)}, got {protocol!r}.")
        if not 0 < threshold <= 1:
            raise ConfigError(f"threshold is a probability above 0 and at most 1, got {threshold!r}.")
        if not (math.isfinite(tolerance) and tolerance >= 0):
            raise ConfigError(f"tolerance must be a distance of at least 0, got {tolerance!r}.")
        if unit not in UNITS:
            raise ConfigError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}.")
        check_empty_truth(empty_truth, defined=False)
        self.threshold = float(threshold)
        self.empty_truth = empty_truth
        self.tolerance = float(tolerance)
        self.unit = unit
        self.surface = surface
        self.centerline = centerline
        self.class_names = None if class_names is None else check_class_names(class_names, self.MIN_CLASSES)
        self.protocol = "clinical" if self.class_names else protocol
        self.rows: list[dict[str, Any]] = []
        self._cases = CaseCurves()
        self._known: set[tuple[str, str]] = set()
        self._summary: tuple[int, dict[str, dict[str, Any]]] = (0, {})

    def __len__(self) -> int:
        return len(self.rows)

    def clear(self) -> None:
        """Forget all cases."""
        self.rows.clear()
        self._cases.clear()
        self._known.clear()
        self._summary = (0, {})

    def drop(self, cases: Collection[tuple[str, str]]) -> None:
        """Forget some cases.

        Args:
            cases: set and image of each; those that are not there are passed over.
        """
        gone = set(cases)
        kept = [number for number, row in enumerate(self.rows) if (row["dataset"], row["image"]) not in gone]
        self.rows[:] = [self.rows[number] for number in kept]
        self._cases.keep(kept)
        self._known -= gone
        self._summary = (0, {})

    @property
    def settings(self) -> dict[str, Any]:
        """How the scores are made, for the record."""
        made: dict[str, Any] = {"monai_sam2unet": __version__, "protocol": self.protocol}
        if self.protocol != "sod":
            made |= {"threshold": self.threshold}
            if "hd95" in self.clinical_columns:
                made |= {"tolerance": self.tolerance, "unit": self.unit}
                made |= {"boundary_tolerance": BOUNDARY_TOLERANCE, "boundary_unit": "diagonal"}
        if self.protocol != "clinical":
            made |= {"empty_truth": self.empty_truth}
        return made | {"confidence": CONFIDENCE, "num_resamples": SUMMARY_RESAMPLES}

    @property
    def clinical_title(self) -> str:
        """What the clinical reading measures."""
        return f"Clinical: probability >= {self.threshold:g} at native size"

    @property
    def identity_columns(self) -> tuple[str, ...]:
        """The columns before the scores."""
        return IDENTITY_COLUMNS

    @property
    def clinical_columns(self) -> list[str]:
        """The score columns of the clinical reading."""
        if self.protocol == "sod":
            return []
        if self.class_names is not None:
            columns = ["dice", "iou", *(["cldice"] if self.centerline else [])]
            return [*columns, *(f"{column}_{name}" for column in columns for name in self.class_names)]
        left_out = (() if self.surface else SURFACE_COLUMNS) + (() if self.centerline else ("cldice",))
        return [name for name in CLINICAL_COLUMNS if name not in left_out]

    @property
    def papers_columns(self) -> list[str]:
        """The score columns of the papers' protocol."""
        return [] if self.protocol == "clinical" else list(PAPERS_COLUMNS)

    def add(self, dataset: str, image: str, probabilities: Tensor, truth: Tensor) -> None:
        """Score one case.

        Args:
            dataset: the set that it belongs to.
            image: its name, once in each set.
            probabilities: (1, H, W), in [0, 1]; or uint8 levels 0..255 as a file holds them. (K, H, W) with K classes.
            truth: of the same shape; above 0 is foreground.

        Raises:
            DataError: As :meth:`add_batch`.
        """
        self.add_batch([dataset], [image], probabilities[None], truth[None])

    def add_batch(self, datasets: Sequence[str], images: Sequence[str], probabilities: Tensor, truth: Tensor) -> None:
        """Score cases of one size; either all of them are added, or none.

        Args:
            datasets: B names of sets.
            images: B names of cases.
            probabilities: (B, 1, H, W), in [0, 1]; or uint8 levels 0..255. (B, K, H, W) with K classes.
            truth: of the same shape; above 0 is foreground.

        Raises:
            DataError: When shapes are others, a value is not in [0, 1] or NaN, a case is there already, or the unit is
                mm and the spacing is not known.
        """
        maps, mask = checked_batch(probabilities, truth, len(self.class_names or ("object",)))
        cases = list(zip(datasets, images, strict=True))
        if len(cases) != len(maps):
            raise DataError(f"{len(cases)} names for {len(maps)} maps.")
        self._check_new(cases)
        scores: dict[str, NDArray[np.float64]] = {}
        curves: dict[str, NDArray[np.float64]] = {}
        bins: NDArray[np.float64] | None = None
        if self.class_names is not None:
            scores = class_scores(maps, mask, self.class_names, self.threshold, self.centerline)
        elif self.protocol != "sod":
            spacings = image_spacings(probabilities, truth, "mm") if self.surface and self.unit == "mm" else None
            tolerance = self.tolerance if self.surface else None
            scores = clinical_scores(maps, mask, self.threshold, tolerance, spacings, self.centerline)
            bins = calibration_bins(to_probabilities(maps), mask)
            scores["calibration_error"] = expected_calibration_error(bins)
        if self.protocol != "clinical":
            papers, curves = papers_scores(maps, mask, self.empty_truth)
            scores |= papers
        foreground = mask.any(1).float().mean((1, 2)).tolist()
        for number, (dataset, image) in enumerate(cases):
            identity = (dataset, image, maps.shape[2], maps.shape[3], foreground[number])
            row = dict(zip(IDENTITY_COLUMNS, identity, strict=True))
            self.rows.append({**row, **{name: float(found[number]) for name, found in scores.items()}})
            own = {name: curve[number] for name, curve in curves.items()}
            self._cases.add(dataset, own, None if bins is None else bins[number])
        self._known.update(cases)

    def _check_new(self, cases: Sequence[tuple[str, str]]) -> None:
        for number, case in enumerate(cases):
            if case in self._known or case in cases[:number]:
                raise DataError(f"There are two cases {case[1]} of the set {case[0]}; each can be scored once.")

    def sets(self) -> list[str]:
        """Names of the sets, in the order in which they came."""
        return list(dict.fromkeys(row["dataset"] for row in self.rows))

    def curves(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Mean curves of each set: (256,) by name; at level t pixels from t/255 on are foreground.

        Images that do not count are left out; NaN where none does.
        """
        return self._cases.mean_curves()

    def reliability(self) -> dict[str, pd.DataFrame]:
        """Reliability curve of each set, over all its pixels; see :mod:`monai_sam2unet.evaluation.calibration`.

        Empty where the clinical reading of one class is not measured.
        """
        return self._cases.reliability()

    def frame(self) -> pd.DataFrame:
        """All cases: a row each, with the columns of ``metrics.csv``; NaN where a case does not count.

        A maximum over the thresholds is that of the set's mean curve. The case's value at the set's best threshold
        stands in its row, so that the mean of the column is the set's maximum.
        """
        frame = pd.DataFrame(self.rows)
        for name in MEASURED_CURVES if self.papers_columns else ():
            frame[f"{name}_max"] = self._cases.at_best_level(name)
        return frame.reindex(columns=[*self.identity_columns, *self.clinical_columns, *self.papers_columns])

    def summary(self) -> dict[str, dict[str, Any]]:
        """For each set: ``images``, and of each score ``mean_``, ``std_`` and ``interval_`` (95 %, over its images).

        None where no image counts, or the interval is not defined. Where some images do not count, ``images_`` and the
        score's name say how many do. ``dice_by_size``: that of small, medium and large objects, see
        :func:`monai_sam2unet.evaluation.object_size.scores_by_size`.
        """
        if self._summary[0] != len(self.rows):
            frame = self.frame()
            columns = [*self.clinical_columns, *self.papers_columns]
            own = {name: frame[frame["dataset"] == name] for name in self.sets()}
            made = {name: summarise(part, columns) for name, part in own.items()}
            if "dice" in columns and self.identity_columns == IDENTITY_COLUMNS:
                made = {name: {**values, "dice_by_size": scores_by_size(own[name])} for name, values in made.items()}
            self._summary = (len(self.rows), made)
        return self._summary[1]

    def write(self, output_dir: str | Path, settings: Mapping[str, Any] | None = None) -> None:
        """Write ``metrics.csv`` (a row an image), ``summary.json`` and, of the papers' reading, ``curves.csv``.

        Args:
            output_dir: folder to write to; it exists.
            settings: what was measured, put into ``summary.json`` beside how.
        """
        write_scores(self, Path(output_dir), settings or {})

    def print(self, console: Console | None = None) -> None:
        """Print a table for each reading: means, with 95 % intervals over the images.

        Args:
            console: where to; standard output if not given.
        """
        print_scores(self, console or Console())

# SPDX-License-Identifier: Apache-2.0
"""What is kept of each case beside its scores: curves over the thresholds, and how its probabilities fared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from monai_sam2unet.evaluation.calibration import reliability_frame
from monai_sam2unet.evaluation.score_summary import best_level, mean_curve

__all__ = ["CaseCurves"]


class CaseCurves:
    """Curves and calibration bins of cases, in the order in which they came: about 7 kB a case, whatever its size."""

    def __init__(self) -> None:
        self._datasets: list[str] = []
        self._curves: list[dict[str, NDArray[np.float32]]] = []
        self._bins: list[NDArray[np.float64] | None] = []

    def clear(self) -> None:
        """Forget all cases."""
        self.keep([])

    def keep(self, numbers: Sequence[int]) -> None:
        """Forget all cases but these, counted from 0."""
        self._datasets = [self._datasets[number] for number in numbers]
        self._curves = [self._curves[number] for number in numbers]
        self._bins = [self._bins[number] for number in numbers]

    def add(
        self, dataset: str, curves: Mapping[str, NDArray[np.float64]], bins: NDArray[np.float64] | None = None
    ) -> None:
        """Keep a case.

        Args:
            dataset: its set.
            curves: (256,) by name; none where the papers' reading is not measured.
            bins: (3, 15), as :func:`monai_sam2unet.evaluation.calibration.calibration_bins` gives them.
        """
        self._datasets.append(dataset)
        self._curves.append({name: curve.astype(np.float32) for name, curve in curves.items()})
        self._bins.append(bins)

    def mean_curves(self) -> dict[str, dict[str, NDArray[np.float64]]]:
        """Mean curves of each set, (256,) by name; empty without curves."""
        own: dict[str, list[dict[str, NDArray[np.float32]]]] = {}
        for dataset, curves in zip(self._datasets, self._curves, strict=True):
            if curves:
                own.setdefault(dataset, []).append(curves)
        return {
            dataset: {name: mean_curve(np.stack([c[name] for c in cases]).astype(np.float64)) for name in cases[0]}
            for dataset, cases in own.items()
        }

    def at_best_level(self, name: str) -> list[float]:
        """Of each case the value of a curve at the level that is best for the mean curve of its set."""
        best = {dataset: best_level(curves[name]) for dataset, curves in self.mean_curves().items()}
        return [
            float(curves[name][best[dataset]]) for dataset, curves in zip(self._datasets, self._curves, strict=True)
        ]

    def reliability(self) -> dict[str, pd.DataFrame]:
        """Reliability curve of each set, over all its pixels; empty without bins."""
        summed: dict[str, NDArray[np.float64]] = {}
        for dataset, bins in zip(self._datasets, self._bins, strict=True):
            if bins is not None:
                summed[dataset] = summed[dataset] + bins if dataset in summed else bins
        return {dataset: reliability_frame(bins) for dataset, bins in summed.items()}

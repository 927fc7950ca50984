# SPDX-License-Identifier: Apache-2.0
"""Whether probabilities are to be believed: of the pixels given 0.8, are 80 % foreground?"""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

__all__ = ["NUM_BINS", "calibration_bins", "expected_calibration_error", "reliability_frame"]

#: Bins of equal width in [0, 1]; 15 as Guo et al., "On Calibration of Modern Neural Networks", arXiv 1706.04599.
#: Theirs are of the confidence in the predicted class, these of the probability of foreground.
NUM_BINS = 15


def calibration_bins(probabilities: Tensor, truth: Tensor) -> NDArray[np.float64]:
    """Sort each map's pixels by probability.

    Args:
        probabilities: (B, 1, H, W), in [0, 1].
        truth: (B, 1, H, W), bool.

    Returns:
        (B, 3, 15): of each bin the number of pixels, the sum of their probabilities, and how many are foreground. Bins
        of several maps can be added.
    """
    # MONAI's calibration_binning adds the pixels in float32: of a million of them the second digit is wrong.
    probability = probabilities.flatten(1).double()
    index = (probability * NUM_BINS).long().clamp(max=NUM_BINS - 1)
    parts = torch.stack([torch.ones_like(probability), probability, truth.flatten(1).double()], 1)
    bins = torch.zeros(len(parts), 3, NUM_BINS, dtype=torch.float64, device=parts.device)
    summed: NDArray[np.float64] = bins.scatter_add_(2, index[:, None].expand_as(parts), parts).cpu().numpy()
    return summed


def expected_calibration_error(bins: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean distance between probability and frequency of foreground over all pixels, as Guo et al. define it.

    Args:
        bins: (..., 3, 15), as :func:`calibration_bins` gives them.

    Returns:
        (...), in [0, 1].

    Example:
        >>> sure_but_half_wrong = torch.tensor([[[[1.0, 1.0, 0.0, 0.0]]]])
        >>> truth = torch.tensor([[[[True, False, False, False]]]])
        >>> expected_calibration_error(calibration_bins(sure_but_half_wrong, truth))
        array([0.25])
    """
    counts, predicted, observed = np.moveaxis(bins, -2, 0)
    error: NDArray[np.float64] = np.abs(predicted - observed).sum(-1) / counts.sum(-1)
    return error


def reliability_frame(bins: NDArray[np.float64]) -> pd.DataFrame:
    """The reliability curve that a set's bins make.

    Args:
        bins: (3, 15), the sum over the set's maps.

    Returns:
        A row a bin that has pixels: ``low`` and ``high`` (its ends), ``pixels``, ``probability`` (mean) and
        ``frequency`` (share of foreground).
    """
    edges = np.linspace(0, 1, NUM_BINS + 1)
    counts, predicted, observed = bins
    frame = pd.DataFrame({"low": edges[:-1], "high": edges[1:], "pixels": counts.astype(np.int64)})
    frame = frame[counts > 0]
    used = frame.index
    return frame.assign(probability=predicted[used] / counts[used], frequency=observed[used] / counts[used])

# SPDX-License-Identifier: Apache-2.0
"""Pairs of masks that the metrics are compared on with independent implementations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy import ndimage


def blobs(rng: np.random.Generator, *size: int, share: float = 0.3) -> np.ndarray:
    """A few smooth shapes, some of which touch the border."""
    noise = ndimage.gaussian_filter(rng.standard_normal(size), min(size) / 10)
    return noise > np.quantile(noise, 1 - share)


@pytest.fixture(scope="session")
def shape_pairs() -> list[tuple[np.ndarray, np.ndarray]]:
    """Prediction and truth (H, W), neither empty: shapes that overlap, lie apart, fill the image; points and lines."""
    rng = np.random.default_rng(7)
    pairs = []
    for height, width in ((40, 40), (31, 64), (7, 90), (90, 5)):
        for share in (0.05, 0.3, 0.9):
            truth = blobs(rng, height, width, share=share)
            pairs.append((np.roll(truth, (2, -3), (0, 1)), truth))
            pairs.append((blobs(rng, height, width, share=share), truth))
    full, point, line = np.ones((20, 30), bool), np.zeros((20, 30), bool), np.zeros((20, 30), bool)
    point[0, 29], line[13] = True, True
    pairs += [(full, point), (point, line), (line, full), (full, full), (np.ones((1, 1), bool), np.ones((1, 1), bool))]
    return pairs


@pytest.fixture(scope="session")
def real_pairs(shared_data: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth of colonoscopy images (H, W), and a prediction that errs at the outline and finds a spot elsewhere."""
    rng = np.random.default_rng(7)
    pairs = []
    for dataset in ("Kvasir", "CVC-300"):
        for path in sorted((shared_data / "polyp" / "TestDataset" / dataset / "masks").iterdir())[:6]:
            truth = np.asarray(Image.open(path).convert("L")) > 127
            pred = ndimage.gaussian_filter(truth.astype(float), 6) + 0.2 * blobs(rng, *truth.shape, share=0.02) > 0.55
            pred[20:50, 20:50] ^= True
            pairs.append((pred, truth))
    return pairs

# SPDX-License-Identifier: Apache-2.0
"""Geodesic distances beside straight lines, and a walk of our own over all paths."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import median_filter
from scipy.sparse import lil_matrix
from scipy.sparse.csgraph import dijkstra

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers import geodesic_distances


def test_without_contrast_they_are_nearly_straight() -> None:
    distances = geodesic_distances(np.zeros((1, 31, 41)), np.array([[15, 20]]), (2.0, 2.0))
    rows, columns = np.ogrid[:31, :41]
    straight = 2 * np.hypot(rows - 15, columns - 20)
    assert (distances >= straight - 1e-4).all()
    assert (distances <= 1.0824 * straight + 1e-4).all()  # what eight directions cost at most


@pytest.mark.parametrize("spacing", [(1.0, 1.0), (0.5, 2.0)])
def test_they_are_the_shortest_paths(spacing: tuple[float, float]) -> None:
    image = np.random.default_rng(0).random((2, 9, 7)).astype(np.float32)
    starts = np.array([[1, 2], [8, 6]])
    smooth = np.stack([median_filter(channel, 3, mode="nearest") for channel in image])
    mean = smooth[:, starts[:, 0], starts[:, 1]].mean(1)
    cost = 1 + 5 * np.sqrt(((smooth - mean[:, None, None]) ** 2).mean(0))
    graph = lil_matrix((63, 63))
    for row in range(9):
        for column in range(7):
            for down, right in ((0, 1), (1, 0), (1, 1), (1, -1)):
                if row + down < 9 and 0 <= column + right < 7:
                    there = row + down, column + right
                    length = np.hypot(down * spacing[0], right * spacing[1])
                    graph[7 * row + column, 7 * there[0] + there[1]] = length * (cost[row, column] + cost[there]) / 2
    expected = dijkstra(graph.tocsr(), False, [7 * r + c for r, c in starts], min_only=True).reshape(9, 7)
    np.testing.assert_allclose(geodesic_distances(image, starts, spacing, 5.0), expected, rtol=1e-4)


def test_an_edge_is_a_long_way() -> None:
    image = np.zeros((1, 40, 40))
    image[0, :, 20:] = 0.5
    distances = geodesic_distances(image, np.array([[20, 10]]), (1.0, 1.0))
    assert distances[20, 1] < 12 < 60 < distances[20, 29]


def test_blocks_of_a_large_image_give_about_the_same() -> None:
    generator = np.random.default_rng(0)
    image = np.zeros((1, 60, 50, 21), np.float32)
    image[0, 30:, :, :] = 0.3
    image += 0.01 * generator.random(image.shape)
    pixels, spacing = np.array([[20, 20, 10]]), (1.0, 1.0, 3.0)
    exact = geodesic_distances(image, pixels, spacing)
    blocks = geodesic_distances(image, pixels, spacing, max_elements=9000)
    assert blocks.shape == exact.shape
    assert blocks[20, 20, 10] == 0
    assert np.median(np.abs(blocks - exact)) < 3
    assert np.corrcoef(blocks[exact < 40], exact[exact < 40])[0, 1] > 0.9
    assert (blocks[exact > 60] > 50).all()


def test_wrong_arguments_are_refused() -> None:
    image = np.zeros((1, 4, 4))
    with pytest.raises(ConfigError, match="sensitivity"):
        geodesic_distances(image, np.array([[0, 0]]), (1.0, 1.0), sensitivity=-1)
    with pytest.raises(DataError, match="outside"):
        geodesic_distances(image, np.array([[4, 0]]), (1.0, 1.0))
    with pytest.raises(DataError, match="2 axes"):
        geodesic_distances(image, np.array([[0, 0]]), (1.0, 1.0, 1.0))

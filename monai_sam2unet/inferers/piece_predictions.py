# SPDX-License-Identifier: Apache-2.0
"""From the network's output for part of a batch to predictions of whole slices."""

from __future__ import annotations

import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers.prediction_volumes import PredictionVolumes, RunningMoments
from monai_sam2unet.inferers.slice_stack import Piece, SliceTransform
from monai_sam2unet.inferers.window_grid import WindowBlender

__all__ = ["PiecePredictions"]


class PiecePredictions:
    """Collects the passes over one piece of a batch.

    Args:
        piece: the piece.
        spread: whether deviations from the mean are kept. Where slices come in several windows, each pass is then
            kept on its own until its windows are blended.
    """

    def __init__(self, piece: Piece, spread: bool) -> None:
        self.piece = piece
        self.spread = spread
        self._blends = piece.stack.windows > 1
        self._moments = RunningMoments(spread and not self._blends)
        self._passes: list[Tensor] = []

    def on_source_grid(self, y: Tensor, transform: SliceTransform | None) -> Tensor:
        """The network's output (N, K, h, w) on the grid of the slices or windows that were read.

        Raises:
            ConfigError: When the slice transform gives another one.
        """
        if transform is None:
            return y
        back = transform.inverse_batch(y, self.piece.state)
        wanted = (*y.shape[:2], *self.piece.stack.grid.roi)
        if tuple(back.shape) != wanted:
            raise ConfigError(f"slice_transform.inverse_batch must give {wanted} here; it gave {tuple(back.shape)}.")
        return back

    def add(self, y: Tensor) -> None:
        """Take in one pass (N, K, H, W)."""
        if self._blends and self.spread:
            self._passes.append(y)
        else:
            self._moments.add(y if self._blends else self.piece.stack.grid.crop(y))

    def hand_over(self, blender: WindowBlender, results: PredictionVolumes) -> None:
        """Write the slices that are complete."""
        stack, first, last = self.piece.stack, self.piece.first, self.piece.last
        if not self._blends:
            results.write(stack, first, last, self._moments)
            return
        passes = torch.stack(self._passes) if self._passes else self._moments.mean[None]
        for item in range(first, last):
            number, window = divmod(item, stack.windows)
            whole = blender.add((stack, number), stack.grid, window, passes[:, item - first])
            if whole is not None:
                moments = RunningMoments(self.spread)
                for y in whole:
                    moments.add(y[None])
                results.write(stack, number, number + 1, moments)

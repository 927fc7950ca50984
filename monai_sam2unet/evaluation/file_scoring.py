# SPDX-License-Identifier: Apache-2.0
"""Scores prediction maps from files: read in threads, scored in batches of equal size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch
from torch import Tensor

from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation.case_pictures import CasePictures
from monai_sam2unet.evaluation.map_files import read_pair
from monai_sam2unet.evaluation.prediction_folder import PredictionCase
from monai_sam2unet.evaluation.score_table import ScoreTable

__all__ = ["score_files"]

#: Pixels of maps that are scored at once.
BATCH_PIXELS = 2**21

Pair = tuple[Tensor, Tensor]


def _read_ahead(
    cases: Sequence[PredictionCase], read: Callable[[PredictionCase], Pair | str], num_threads: int
) -> Iterator[tuple[PredictionCase, Pair | str]]:
    """What is read of each case, in order; a few are in memory at a time."""
    waiting: deque[tuple[PredictionCase, Future[Pair | str]]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for case in cases:
            waiting.append((case, pool.submit(read, case)))
            if len(waiting) > 2 * num_threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _goes_with(batch: Sequence[tuple[PredictionCase, Pair]], pair: Pair) -> bool:
    first = batch[0][1][0]
    same = first.shape == pair[0].shape and first.dtype == pair[0].dtype
    return same and (len(batch) + 1) * first.numel() <= BATCH_PIXELS


def score_files(
    cases: Sequence[PredictionCase],
    table: ScoreTable,
    pictures: CasePictures | None = None,
    resize: bool = False,
    mask_threshold: float = 127.5,
    num_threads: int = 4,
    advance: Callable[[int], object] | None = None,
) -> list[str]:
    """Score all files that can be read.

    Maps of 8 bits are scored as they are stored, so the papers' reading is what PySODMetrics gives of the files. Maps
    of more bits, and resized ones, are first normalised and rounded to 8 bits, as the released code saves them.

    Args:
        cases: the files.
        table: where the scores go.
        pictures: where small copies go, if a report is wanted.
        resize: whether maps are brought to their masks' size; if not, another size is a problem of that file.
        mask_threshold: mask values from this one on (of 255) are foreground.
        num_threads: how many files are read at the same time.
        advance: called with the number of cases that are done, for a progress bar.

    Returns:
        A line for each case that could not be scored.

    Raises:
        DataError: When no case could be scored, or all maps hold values of 0 and 1 of 255 only.
    """
    problems: list[str] = []
    batch: list[tuple[PredictionCase, Pair]] = []
    largest = 0.0

    def score() -> None:
        if not batch:
            return
        maps, truths = (torch.stack([pair[n] for _, pair in batch]) for n in (0, 1))
        table.add_batch([case.dataset for case, _ in batch], [case.name for case, _ in batch], maps, truths)
        for case, (found, truth) in batch if pictures is not None else ():
            pictures.add(case.dataset, case.name, found, truth, case.picture)  # type: ignore[union-attr]
        if advance is not None:
            advance(len(batch))
        batch.clear()

    for case, pair in _read_ahead(cases, lambda case: read_pair(case, resize, mask_threshold), num_threads):
        if isinstance(pair, str):
            problems.append(pair)
            if advance is not None:
                advance(1)
            continue
        levels = pair[0].max() if pair[0].dtype == torch.uint8 else 255 * pair[0].max()
        largest = max(largest, float(levels))
        if batch and not _goes_with(batch, pair):
            score()
        batch.append((case, pair))
    score()
    if len(problems) == len(cases):
        raise DataError("None of the maps could be scored:\n" + "\n".join(f"  {line}" for line in problems[:10]))
    if 0 < largest <= 1 and table.protocol != "sod":
        raise DataError(
            "The largest value of all maps is 1 of 255: these look like masks of 0 and 1. Multiply them by 255, "
            "or take --protocol sod, which stretches each map."
        )
    return problems

# SPDX-License-Identifier: Apache-2.0
"""Scores prediction maps from files: read in threads, scored in batches of equal size."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

import torch

from monai_sam2unet.data.image_check import check_mask_threshold
from monai_sam2unet.errors import DataError, listing
from monai_sam2unet.evaluation.case_pictures import CasePictures
from monai_sam2unet.evaluation.map_files import MapPair, read_pair
from monai_sam2unet.evaluation.prediction_folder import PredictionCase
from monai_sam2unet.evaluation.score_table import ScoreTable

__all__ = ["score_files"]

#: Pixels of maps that are scored at once.
BATCH_PIXELS = 2**21

#: A set of maps without any value above these, by the bits of a value, was likely not saved as the reader expects.
DARK = {8: 1, 16: 255}

DARK_HINTS = {
    8: "masks of 0 and 1? Multiply them by 255; probabilities as low as that can be saved as floating point TIFF",
    16: "values of 8 bits (or masks of 0 and 1) in a file of 16 bits? Save 8-bit values with 8 bits, 255 for 1; or use "
    "the full range, 65535 for 1",
}


def _read_ahead(
    cases: Sequence[PredictionCase], read: Callable[[PredictionCase], MapPair | str], num_threads: int
) -> Iterator[tuple[PredictionCase, MapPair | str]]:
    """What is read of each case, in order; a few are in memory at a time."""
    waiting: deque[tuple[PredictionCase, Future[MapPair | str]]] = deque()
    with ThreadPoolExecutor(num_threads) as pool:
        for case in cases:
            waiting.append((case, pool.submit(read, case)))
            if len(waiting) > 2 * num_threads:
                first, future = waiting.popleft()
                yield first, future.result()
        for first, future in waiting:
            yield first, future.result()


def _goes_with(batch: Sequence[tuple[PredictionCase, MapPair]], pair: MapPair) -> bool:
    first = batch[0][1].prediction
    same = first.shape == pair.prediction.shape and first.dtype == pair.prediction.dtype
    return same and (len(batch) + 1) * first.numel() <= BATCH_PIXELS


def _named(files: Sequence[object], shown: int = 5) -> str:
    more = f" and {len(files) - shown} more" if len(files) > shown else ""
    return ", ".join(map(str, files[:shown])) + more


def _judge_dark(scored: Sequence[tuple[PredictionCase, int, float]], table: ScoreTable) -> tuple[list[str], list[str]]:
    """Take the maps of sets that are dark as a whole out of the table: a line each; and a line on single dark maps."""
    largest: dict[tuple[str, int], float] = {}
    for case, bits, value in scored:
        largest[case.dataset, bits] = max(value, largest.get((case.dataset, bits), 0.0))
    problems, warnings = [], []
    for bits, limit in DARK.items():
        whole = [case for case, own, _ in scored if own == bits and 0 < largest[case.dataset, bits] <= limit]
        table.drop([(case.dataset, case.name) for case in whole])
        told = f"above {limit} of {2**bits - 1}"
        problems += [
            f"{case.prediction}: no map of {case.dataset} holds a value {told}: {DARK_HINTS[bits]}; --protocol sod "
            "stretches each map"
            for case in whole
        ]
        single = [
            case.prediction
            for case, own, value in scored
            if own == bits and 0 < value <= limit < largest[case.dataset, bits]
        ]
        if single:
            warnings.append(
                f"{len(single)} maps hold no value {told}, others of their sets do. They are scored as they are, as "
                f"maps that show nothing; if they should: {DARK_HINTS[bits]}. {_named(single)}"
            )
    return problems, warnings


def score_files(
    cases: Sequence[PredictionCase],
    table: ScoreTable,
    pictures: CasePictures | None = None,
    resize: bool = False,
    mask_threshold: float = 127.5,
    num_threads: int = 4,
    advance: Callable[[int], object] | None = None,
) -> tuple[list[str], list[str]]:
    """Score all files that can be read.

    Maps of 8 bits are scored as they are stored, so the papers' reading is what PySODMetrics gives of the files. Maps
    of more bits, and resized ones, are first normalised and rounded to 8 bits, as the released code saves them.

    In the clinical reading, maps of 8 bits without any value above 1 in their whole set are not scored: they are masks
    of 0 and 1, most likely. So are those of 16 bits without any value above 255. Where only some maps of a set are as
    dark as that, they are scored, for a network may have found nothing in them, and a warning names them.

    Args:
        cases: the files.
        table: where the scores go.
        pictures: where small copies go, if a report is wanted.
        resize: whether maps are brought to their masks' size; if not, another size is a problem of that file.
        mask_threshold: mask values from this one on (of 255) are foreground.
        num_threads: how many files are read at the same time.
        advance: called with the number of cases that are done, for a progress bar.

    Returns:
        A line for each case that could not be scored; and a line for each thing that was scored, but looks odd.

    Raises:
        ConfigError: When the mask threshold is not above 0 and at most 255.
        DataError: When no case could be scored.
    """
    check_mask_threshold(mask_threshold)
    problems: list[str] = []
    batch: list[tuple[PredictionCase, MapPair]] = []
    scored: list[tuple[PredictionCase, int, float]] = []
    soft: list[PredictionCase] = []

    def score() -> None:
        if not batch:
            return
        maps = torch.stack([pair.prediction for _, pair in batch])
        truths = torch.stack([pair.truth for _, pair in batch])
        table.add_batch([case.dataset for case, _ in batch], [case.name for case, _ in batch], maps, truths)
        for case, pair in batch if pictures is not None else ():
            pictures.add(case.dataset, case.name, *pair[:2], case.picture)  # type: ignore[union-attr]
        if advance is not None:
            advance(len(batch))
        batch.clear()

    for case, pair in _read_ahead(cases, lambda case: read_pair(case, resize, mask_threshold), num_threads):
        if isinstance(pair, str):
            problems.append(pair)
            if advance is not None:
                advance(1)
            continue
        scored.append((case, pair.bits, pair.largest))
        soft += [case] if pair.soft else []
        if batch and not _goes_with(batch, pair):
            score()
        batch.append((case, pair))
    score()
    dark, warnings = ([], []) if table.protocol == "sod" else _judge_dark(scored, table)
    problems += dark
    if len(problems) == len(cases):
        raise DataError(f"None of the maps could be scored:\n{listing(problems)}")
    if soft:
        warnings.append(
            f"{len(soft)} of {len(cases)} true masks are soft: more than a fifth of their pixels are neither dark nor "
            f"bright. They are cut at {mask_threshold:g} of 255. Are predictions and truth swapped? "
            f"{_named([case.truth for case in soft])}"
        )
    return problems, warnings

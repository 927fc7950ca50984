# SPDX-License-Identifier: Apache-2.0
"""Keeps an evaluation from measuring on cases that its network knows."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from monai.utils import ensure_tuple

from monai_sam2unet.data import TrainingCases, case_digests
from monai_sam2unet.errors import DataError, listing

__all__ = ["refuse_known_cases"]

logger = logging.getLogger(__name__)

#: So many lines of an error name cases.
_SHOWN = 50


def refuse_known_cases(
    items: Sequence[Mapping[str, Any]],
    ckpt_path: str | Path | Sequence[str | Path],
    dataset_dir: str | Path,
    allow: bool = False,
) -> None:
    """Make sure that none of the cases to be measured was used to train the network.

    What a training used stands in a file beside its checkpoint, ``model.cases.json`` of ``model.pt``; see
    :class:`~monai_sam2unet.data.TrainingCases`. Cases are told by the bytes of their images, so that folders and names
    may be others. Of a checkpoint without such a file nothing is known, which a warning says, as it does of a network
    that the weights came from; it also names cases that are called as some of the training but have other bytes, as of
    data that were saved anew.

    Args:
        items: cases ``{"image": path}``.
        ckpt_path: checkpoint, or several.
        dataset_dir: folder of the data, or the JSON file that lists them.
        allow: only warn.

    Raises:
        CheckpointError: When the file beside a checkpoint cannot be read.
        DataError: When cases were trained on, or are those by which the best epoch was chosen; all are listed.
    """
    paths = [Path(path) for path in ensure_tuple(ckpt_path)]
    known = {path: TrainingCases.of_checkpoint(path) for path in paths if path.is_file()}
    for path in [path for path, cases in known.items() if cases is None]:
        logger.warning(
            f"What {path} was trained on is not known, for there is no {TrainingCases.path_of(path).name} beside it: "
            "make sure that it was not on the cases measured here."
        )
    for path, cases in known.items():
        if cases is not None and cases.unknown:
            logger.warning(
                f"The weights of {path} came from {', '.join(cases.unknown)}, too, and what that was trained on is not "
                "known: make sure that it was not on the cases measured here."
            )
    digests = case_digests(items, dataset_dir) if any(known.values()) else []
    offenders: set[str] = set()
    lines = []
    for path, cases in known.items():
        if cases is None:
            continue
        own = f" by {path}" if len(paths) > 1 else ""
        found = [(name, use, before) for sha256, name in digests for use, before in cases.uses_of(sha256)]
        lines += [f"{name}: {use}{own}{'' if before == name else f', there {before}'}" for name, use, before in found]
        offenders |= {name for name, _, _ in found}
        same_names = {*cases.training.values(), *cases.validation.values()} & {name for _, name in digests}
        others = sorted(same_names - {name for name, _, _ in found})
        if others:
            logger.warning(
                f"{len(others)} cases, as {others[0]}, are called as some that {path} was trained on or chosen by, but "
                "are other files. If they were only saved anew, the scores are worth nothing."
            )
    if not lines:
        return
    told = f"{len(offenders)} of the {len(items)} cases to be measured are known to "
    told += f"{'the networks' if len(paths) > 1 else paths[0]} from training"
    if allow:
        logger.warning(f"{told}: scores on them flatter.")
        return
    folds = sorted({cases.fold for cases in known.values() if cases is not None and cases.fold is not None})
    trained = f"; {'it' if len(paths) == 1 else 'they'} left out fold {', '.join(map(str, folds))}" if folds else ""
    raise DataError(
        f"{told}{trained}. Measure what the training left out (its `--fold`, with its sets, `--split_file`, "
        "`--num_folds` and `--group_pattern`), name other cases (`--test_sets`, `--split_file`), or, to measure these "
        f"all the same, give `--allow_training_cases True`:\n{listing(lines, _SHOWN)}"
    )

# SPDX-License-Identifier: Apache-2.0
"""Which patients are held out of trainings: the same ones, however many labels there are by then."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.folders import whole_file

__all__ = ["hold_out_patients"]


def _number(patient: str) -> tuple[float, str]:
    """A number in [0, 1) that a patient always has, and the digest that it is of."""
    digest = hashlib.sha256(patient.encode()).hexdigest()
    return int(digest[:13], 16) / 16**13, digest


def _read(record: Path) -> dict[str, set[str]]:
    if not record.is_file():
        return {"validation": set(), "training": set()}
    try:
        content = json.loads(record.read_text(encoding="utf-8"))
        return {side: {str(digest) for digest in content[side]} for side in ("validation", "training")}
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise DataError(
            f"{record}, which says who is held out of trainings, cannot be read: {error!r}. Remove it; the next "
            "training then chooses anew."
        ) from error


def hold_out_patients(patients: Iterable[str], fraction: float, record: Path) -> set[str]:
    """Choose the patients to validate on.

    A hash of each patient's name is a number in [0, 1); those below the fraction are held out. Where that is none, the
    one with the lowest number is, and where it is all, the one with the highest is trained on; these are noted, by
    their hashes, so that they keep their side when others come.

    Args:
        patients: their names, two at least.
        fraction: share that is held out, in (0, 1), roughly: of few patients it may be more, or less.
        record: JSON file of those noted; made when needed.

    Returns:
        The names of those held out: at least one, and never all.

    Raises:
        ConfigError: When the fraction is not in (0, 1).
        DataError: When there are fewer than two patients, or the file cannot be read.

    Example:
        >>> from tempfile import mkdtemp
        >>> record = Path(mkdtemp()) / "sides.json"
        >>> first = hold_out_patients(["anna", "ben"], 0.2, record)
        >>> first <= hold_out_patients(["anna", "ben", "carl", "dora", "emil"], 0.2, record)
        True
    """
    names = set(patients)
    if not 0 < fraction < 1:
        raise ConfigError(f"val_split must lie between 0 and 1, got {fraction}.")
    if len(names) < 2:
        raise DataError(f"There are labels of {len(names)} patients; two are needed, one of them to validate on.")
    numbers = {name: _number(name) for name in names}
    noted = _read(record)
    held_out = {
        name
        for name, (number, digest) in numbers.items()
        if digest in noted["validation"] or (number < fraction and digest not in noted["training"])
    }
    if held_out and held_out != names:
        return held_out
    side = "training" if held_out else "validation"
    # Of names whose sides are noted already all but one may have gone since.
    other = (max if held_out else min)(names, key=lambda name: numbers[name])
    noted["validation" if held_out else "training"].discard(numbers[other][1])
    noted[side].add(numbers[other][1])
    with whole_file(record) as path:
        path.write_text(json.dumps({key: sorted(digests) for key, digests in noted.items()}, indent=1))
    return held_out - {other} if held_out else {other}

# SPDX-License-Identifier: Apache-2.0
"""Measures cases in parallel, and keeps what was found for the next time."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from monai.utils import ensure_tuple

from monai_sam2unet import __version__

__all__ = ["cached_fingerprints"]


T = TypeVar("T")
#: Raised where something is measured in another way, so that what was kept before does not count.
_MEASURED_AS = 2


def _place(kind: Any, items: Sequence[Mapping[str, Any]], cache: Path) -> Path:
    """The file that holds what was found in just these files."""
    files = [Path(path) for item in items for path in (*ensure_tuple(item["image"]), *ensure_tuple(item["label"]))]
    known = [[str(path), path.stat().st_size, path.stat().st_mtime_ns] for path in files]
    measured = [__version__, _MEASURED_AS, kind.__name__, *(own.name for own in fields(kind))]
    return cache / f"{hashlib.sha256(json.dumps([measured, known]).encode()).hexdigest()[:32]}.json"


def cached_fingerprints(
    measure: Callable[[Mapping[str, Any]], T | str],
    kind: type[T],
    items: Sequence[Mapping[str, Any]],
    workers: int = 4,
    cache: Path | None = None,
    advance: Callable[[], None] = lambda: None,
) -> tuple[list[T], list[str]]:
    """Measure all cases, or take what was found in the same files before.

    Args:
        measure: gives a case's fingerprint, or a line that says why there is none.
        kind: of the fingerprints, a dataclass.
        items: cases ``{"image": path or paths, "label": path or paths}``.
        workers: processes that measure.
        cache: folder of what was found before, where nothing went wrong; None: nothing is kept.
        advance: called after each case.

    Returns:
        The fingerprints, and the lines.
    """
    kept = None if cache is None else _place(kind, items, cache)
    if kept is not None and kept.exists():
        # A file that is damaged is measured anew.
        with contextlib.suppress(ValueError, TypeError):
            return [kind(**case) for case in json.loads(kept.read_text(encoding="utf-8"))], []
    found: list[T | str] = []
    with ProcessPoolExecutor(workers) as pool:
        for case in pool.map(measure, items):
            found.append(case)
            advance()
    cases = [case for case in found if not isinstance(case, str)]
    problems = [case for case in found if isinstance(case, str)]
    # What went wrong may be mended without a trace in the files, as a permission.
    if kept is not None and not problems:
        kept.parent.mkdir(parents=True, exist_ok=True)
        part = kept.with_suffix(".part")
        told = [asdict(case) for case in cases]  # type: ignore[call-overload]
        part.write_text(json.dumps(told), encoding="utf-8")
        part.replace(kept)
    return cases, problems

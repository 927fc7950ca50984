# SPDX-License-Identifier: Apache-2.0
"""Mutated files are read or refused: no crash, no other error, no hang, no more memory than a bound."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pydicom
import pytest

FILES = 2000
SECONDS = 5
#: Resident memory of the process (GiB), its libraries among it.
MEMORY = 1.5
SCRIPT = Path(__file__).with_name("mutated_files.py")
#: Seeds are at most this long (bytes), so that most of the mutations hit what matters.
SHORT = 100_000


def seeds(shared):
    """Real files of every kind that are short, one of each size."""
    installed = Path(pydicom.__file__).parent / "data" / "test_files"
    files = [*sorted(shared.rglob("*.dcm")), *sorted(installed.glob("*.dcm"))]
    by_size = {file.stat().st_size: file for file in files if 0 < file.stat().st_size < SHORT}
    return [file for file in by_size.values() if "rtplan" not in file.name]


def run(folder, first, last, files):
    """Results by number; a process that dies or hangs gives none for the file it was at."""
    results = {}
    while first < last:
        command = [sys.executable, str(SCRIPT), str(folder), str(first), str(last), *map(str, files)]
        done = subprocess.run(command, capture_output=True, text=True)
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        assert lines, done.stderr
        death = {"problem": f"the process died or hung:\n{done.stderr[-3000:]}"}
        for asked, result in zip(lines[::2], [*lines[1::2], death], strict=False):
            results[asked["number"]] = {**asked, **result}
        first = max(results) + 1
    return results


@pytest.mark.slow
def test_mutated_files(tmp_path, shared_data):
    results = run(tmp_path, 0, FILES, seeds(shared_data / "dicom"))
    assert len(results) == FILES
    problems = [f"{r['number']} of {r['file']}: {r['problem']}" for r in results.values() if r["problem"]]
    assert not problems, "\n".join(problems[:20])
    slow = [(r["number"], r["file"], r["seconds"]) for r in results.values() if r["seconds"] > SECONDS]
    assert not slow
    assert max(r["peak"] for r in results.values()) < MEMORY
    # The mutations are of a strength that lets both happen.
    assert FILES / 10 < sum(r["read"] for r in results.values()) < FILES * 0.9

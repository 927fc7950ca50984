"""A run that is killed again and again comes to the same end as one that is left alone."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from monai_sam2unet.batch.journal_file import read_journal
from monai_sam2unet.batch.journal_row import JournalRow, State

SERIES = 40
KILLS = 30
FAKE_RUN = Path(__file__).with_name("fake_run.py")


def start(tmp_path: Path, output: Path, *seconds: float) -> subprocess.Popen[str]:
    words = [sys.executable, FAKE_RUN, tmp_path / "source", output, SERIES, *seconds]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, text=True)


def results(output: Path) -> dict[str, bytes]:
    """Files that anyone can see as results."""
    folders = [path for path in output.glob("[!.]*") if path.is_dir()]
    files = [file for folder in folders for file in folder.rglob("*") if file.is_file()]
    return {file.relative_to(output).as_posix(): file.read_bytes() for file in files}


def done_rows(output: Path) -> dict[str, JournalRow]:
    if not (output / "journal.sqlite").exists():
        return {}
    return {row.key: row for row in read_journal(output) if row.state is State.DONE}


@pytest.mark.slow
def test_killed_thirty_times_equals_unbroken(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    unbroken = start(tmp_path, whole)
    unbroken.communicate(timeout=60)
    assert unbroken.returncode == 0
    expected = results(whole)
    assert len(expected) == 3 * SERIES

    chance = random.Random(7)
    done: dict[str, JournalRow] = {}
    hit = 0
    for number in range(KILLS):
        process = start(tmp_path, killed, 0.01, 0.08, 0.04)
        if number % 5:  # else it may still be starting, and making its journal
            process.stdout.readline()
        time.sleep(chance.uniform(0, 0.25))
        hit += process.poll() is None
        process.kill()
        process.communicate(timeout=60)
        seen = results(killed)
        # Whatever is seen is whole, and what the journal calls done is there and stays as it was.
        assert seen.items() <= expected.items()
        assert not len(seen) % 3
        now = done_rows(killed)
        assert {f"{key}/{name}" for key, row in now.items() for name in row.outputs} <= set(seen)
        assert {key: now[key] for key in done} == done
        done = now
    assert hit >= KILLS - 3  # else the killing has come too late to tell anything
    assert 0 < len(done) < SERIES

    last = start(tmp_path, killed)
    last.communicate(timeout=60)
    assert last.returncode == 0
    assert results(killed) == expected
    rows = done_rows(killed)
    assert len(rows) == SERIES
    assert {row.published for row in rows.values()} == {1}
    assert {key: rows[key] for key in done} == done
    assert not (killed / ".partial").exists()

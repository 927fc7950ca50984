from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from monai_sam2unet.batch.journal_file import read_journal
from monai_sam2unet.batch.stop_signals import stop_signals

FAKE_RUN = Path(__file__).with_name("fake_run.py")


def start(tmp_path: Path, number: int, *seconds: float) -> subprocess.Popen[str]:
    words = [sys.executable, FAKE_RUN, tmp_path / "in", tmp_path / "out", number, *seconds]
    return subprocess.Popen(list(map(str, words)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(process: subprocess.Popen[str], word: str) -> None:
    while process.stdout.readline().strip() != word:
        assert process.poll() is None


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_once_finishes_what_is_in_hand(tmp_path: Path, number: signal.Signals) -> None:
    process = start(tmp_path, 30, 0, 0.2, 0)
    wait_for(process, "done")
    process.send_signal(number)
    told, errors = process.communicate(timeout=30)
    assert process.returncode == 3
    assert errors == ""
    assert "stopping" in told
    assert told.count("done") >= 1  # what was being predicted
    states = Counter(row.state.value for row in read_journal(tmp_path / "out"))
    assert states.keys() == {"done", "found"}
    assert not (tmp_path / "out" / ".partial").exists()
    process = start(tmp_path, 30)
    process.communicate(timeout=30)
    assert process.returncode == 0
    assert {row.published for row in read_journal(tmp_path / "out")} == {1}


def test_twice_stops_now(tmp_path: Path) -> None:
    process = start(tmp_path, 3, 0, 60, 0)
    wait_for(process, "all found")
    time.sleep(0.3)
    process.send_signal(signal.SIGINT)
    wait_for(process, "stopping")
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begin < 5
    assert (process.returncode, errors) == (130, "")
    assert Counter(row.state.value for row in read_journal(tmp_path / "out")) == {"found": 3}
    process = start(tmp_path, 3)
    process.communicate(timeout=30)
    assert process.returncode == 0


def test_ignored_signals_stay_ignored() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    other = signal.getsignal(signal.SIGTERM)
    try:
        with stop_signals(lambda: None):
            assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
            assert signal.getsignal(signal.SIGTERM) is not other
        assert signal.getsignal(signal.SIGTERM) is other
    finally:
        signal.signal(signal.SIGINT, before)

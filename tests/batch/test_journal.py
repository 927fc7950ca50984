from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from monai_sam2unet.batch.journal import Journal
from monai_sam2unet.batch.journal_file import FILE_NAME, JournalError, read_journal
from monai_sam2unet.batch.journal_row import State
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import ConfigError

JOB = SeriesJob("1.2.3", "1.2.3", "1.2", "CT", "Abdomen", (Path("/scans/1.dcm"),), 12, 345)


def test_states_of_a_series(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.found(JOB)
        assert journal.row("1.2.3").state is State.FOUND
        journal.start("1.2.3")
        assert (journal.row("1.2.3").state, journal.row("1.2.3").attempts) == (State.RUNNING, 1)
        journal.ready("1.2.3", "1.2.3-x", ["seg.dcm"], (1.0, 2.0, 3.0), ["predicted with the CPU"])
        assert journal.row("1.2.3").partial == "1.2.3-x"
        journal.done("1.2.3")
        row = journal.row("1.2.3")
        assert journal.row("4.5") is None
    assert (row.state, row.published, row.partial) == (State.DONE, 1, "")
    assert (row.source, row.modality, row.description, row.slices) == ("/scans", "CT", "Abdomen", 12)
    assert (row.read_s, row.predict_s, row.write_s) == (1.0, 2.0, 3.0)
    assert (row.outputs, row.notes) == (("seg.dcm",), ("predicted with the CPU",))
    assert row.started_at <= row.finished_at
    assert read_journal(tmp_path) == [row]


def test_what_was_in_hand_waits_after_closing(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.found(JOB)
        journal.start("1.2.3")
    assert read_journal(tmp_path)[0].state is State.FOUND
    with pytest.raises(JournalError, match="closed"):
        journal.fail("1.2.3", "too late")


def test_reasons_that_are_no_text(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.found(JOB)
        journal.fail("1.2.3", "\udcff.dcm is bad")
        journal.skip(Refused("\udcff.dcm", "no image"))
        journal.skip(Refused("\udcff.dcm", "a link"))
        failed, skipped = journal.rows()
    assert failed.reason == "\\udcff.dcm is bad"
    assert (skipped.state, skipped.source, skipped.reason) == (State.SKIPPED, "\\udcff.dcm", "a link")


def test_second_program_is_refused(tmp_path: Path) -> None:
    program = (
        "import sys; from monai_sam2unet.batch.journal import Journal; j = Journal(sys.argv[1]); "
        "print('open', flush=True); sys.stdin.read()"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout.readline() == "open\n"
        with pytest.raises(ConfigError, match=f"Another program works in .*process {first.pid} on .*give another"):
            Journal(tmp_path)
        assert read_journal(tmp_path) == []
        first.kill()
    Journal(tmp_path).close()


def test_other_settings_are_refused(tmp_path: Path) -> None:
    settings = {"bundle": "aa", "threshold": 0.5, "write": ["seg"]}
    Journal(tmp_path, {"threshold": 0.1}).close()  # nothing was made with it
    with Journal(tmp_path, settings) as journal:
        journal.found(JOB)
    Journal(tmp_path, dict(reversed(settings.items()))).close()
    with pytest.raises(ConfigError) as error:
        Journal(tmp_path, {"bundle": "aa", "threshold": 0.4, "send": "x"})
    told = str(error.value)
    assert "threshold: 0.5 there, 0.4 now" in told
    assert 'write: ["seg"] there, not given now' in told
    assert 'send: not given there, "x" now' in told
    assert "bundle" not in told
    Journal(tmp_path, settings).close()


def test_files_that_are_no_journals(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_text("not a database, but long enough to be looked at" * 100)
    with pytest.raises(JournalError, match="cannot be read as a journal"):
        Journal(tmp_path)
    path.unlink()
    with sqlite3.connect(path) as database:
        database.execute("PRAGMA user_version = 99")
    database.close()
    with pytest.raises(JournalError, match="version 99"):
        Journal(tmp_path)
    with pytest.raises(JournalError, match="no journal"):
        read_journal(tmp_path / "elsewhere")
    path.unlink()
    Journal(tmp_path).close()


def test_folder_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="cannot be written to"):
        Journal(tmp_path / "file")


def test_a_journal_that_is_being_made_has_no_rows_yet(tmp_path: Path) -> None:
    (tmp_path / FILE_NAME).touch()
    assert read_journal(tmp_path) == []
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        database.execute("CREATE TABLE other (name TEXT)")
    with pytest.raises(JournalError, match="no such table: series"):
        read_journal(tmp_path)

from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from monai_sam2unet.batch.batch_events import BatchEvent, BatchSummary, EventKind
from monai_sam2unet.batch.batch_runner import BatchRunner
from monai_sam2unet.batch.journal import Journal
from monai_sam2unet.batch.journal_file import JournalError, read_journal
from monai_sam2unet.batch.journal_row import State
from monai_sam2unet.batch.pipeline import PipelineLimits
from monai_sam2unet.batch.processor import Fallback
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.run_report import write_run_report
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.sources import find_jobs
from monai_sam2unet.errors import ConfigError, DataError

from .fake_run import Case, FakeProcessor, make_jobs


def run(jobs: Any, output: Path, processor: Any = None, **options: Any) -> BatchSummary:
    return BatchRunner(jobs, processor or FakeProcessor(), output, **options).run()


def states(output: Path) -> dict[str, int]:
    return dict(Counter(row.state.value for row in read_journal(output)))


def test_all_done(tmp_path: Path) -> None:
    events: list[BatchEvent] = []
    summary = run(make_jobs(tmp_path / "in", 5), tmp_path / "out", listener=events.append)
    assert summary.exit_code == 0
    assert (summary.progress.found, summary.progress.done, summary.progress.slices_done) == (5, 5, 50)
    assert summary.progress.series_per_second > 0
    assert (summary.left, summary.stopped) == (0, "")
    kinds = Counter(event.kind for event in events)
    assert kinds == {EventKind.FOUND: 5, EventKind.DONE: 5, EventKind.ALL_FOUND: 1}
    assert events[-1].progress.seconds_left == 0
    assert not (tmp_path / "out" / ".partial").exists()


def test_going_on_does_nothing_twice(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 5)
    run(jobs[:3], tmp_path / "out")
    before = read_journal(tmp_path / "out")
    summary = run(jobs, tmp_path / "out")
    assert (summary.progress.done_before, summary.progress.done) == (3, 2)
    assert read_journal(tmp_path / "out")[:3] == before


def test_bad_series_fail_alone_and_are_tried_again_on_demand(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 6)
    jobs[1].files[0].write_text("bad")
    jobs[2].files[0].write_text("fault DOE^JANE")
    jobs = [*jobs[:3], Refused("/scans/DOE/x.txt", "/scans/DOE/x.txt is no image\n  DOE"), *jobs[3:]]
    events: list[BatchEvent] = []
    summary = run(jobs, tmp_path / "out", listener=events.append)
    assert summary.exit_code == 1
    assert states(tmp_path / "out") == {"done": 4, "failed": 2, "skipped": 1}
    reasons = {row.key[-1]: row.reason for row in read_journal(tmp_path / "out") if row.state is State.FAILED}
    assert reasons["1"] == f"{jobs[1].files[0]} is bad."
    assert reasons["2"] == "A fault of the program (ZeroDivisionError, see the log): of fault DOE^JANE"
    shown_reasons = [row.shown_reason for row in read_journal(tmp_path / "out") if row.reason]
    assert shown_reasons[:2] == ["file 1 of 1 is bad.", "A fault of the program (ZeroDivisionError, see the log)"]
    assert shown_reasons[2] == "it is no image"
    assert not (tmp_path / "out" / jobs[1].key).exists()
    log = (tmp_path / "out" / "batch.log").read_text()
    assert "ZeroDivisionError" in log
    assert 'fake_run.py", line' in log
    # Neither the log nor what is shown names patients, or UIDs.
    shown = log + "".join(event.name + event.text for event in events)
    assert "file 1 of 1 is bad." in shown
    assert "it is no image" in shown
    assert not any(word in shown for word in ("DOE", "1.2.826", str(tmp_path / "in")))

    jobs[1].files[0].write_text("mended")
    again = run(jobs, tmp_path / "out")
    assert (again.progress.failed_before, again.progress.done, again.exit_code) == (2, 0, 1)
    retried = run(jobs, tmp_path / "out", retry_failed=True)
    assert (retried.progress.done, retried.progress.failed, retried.exit_code) == (1, 1, 1)
    assert {row.key[-1]: row.attempts for row in read_journal(tmp_path / "out")[:3]} == {"0": 1, "1": 2, "2": 2}


def test_identity_is_shown_when_asked_for(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 1, "fault DOE^JANE")
    run(jobs, tmp_path / "out", show_identity=True)
    log = (tmp_path / "out" / "batch.log").read_text()
    assert jobs[0].key in log
    assert "DOE^JANE" in log


def test_what_is_damaged_counts_as_failed_and_what_a_rule_leaves_does_not(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path / "in", 1)
    left = Refused("1.2.4", "rule 1 leaves it", "1.2.4")
    uid = "1.2.826.0.1.3680043.8.498.7"
    lost = Refused("/scans/DOE/7", "/scans/DOE/7 is cut off", uid, RefusalKind.LOST)
    assert run([job, left], tmp_path / "left").exit_code == 0
    events: list[BatchEvent] = []
    summary = run([job, left, lost], tmp_path / "out", listener=events.append)
    progress = summary.progress
    assert (progress.found, progress.done, progress.failed, progress.skipped) == (2, 1, 1, 1)
    assert (summary.exit_code, summary.stopped) == (1, "")
    (failed,) = [event for event in events if event.kind is EventKind.FAILED]
    (row,) = [row for row in read_journal(tmp_path / "out") if row.state is State.FAILED]
    assert (row.source, failed.name, failed.text) == ("/scans/DOE/7", row.shown_name, "it is cut off")
    page = write_run_report(tmp_path / "out", read_journal(tmp_path / "out"), 1.0, {}).read_text()
    assert row.shown_name in page
    assert "it is cut off" in page
    assert not any(word in page + failed.name for word in ("DOE", uid))
    # What was mended since is not spoken of any more.
    assert run([job], tmp_path / "out").exit_code == 0
    assert states(tmp_path / "out") == {"done": 1}


def test_a_source_without_images_cannot_start(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "notes.txt").write_text("no image")
    events: list[BatchEvent] = []
    assert run(find_jobs(tmp_path / "in"), tmp_path / "out", listener=events.append).exit_code == 2
    assert "There is no DICOM image in it" in "".join(event.text for event in events if event.kind is EventKind.NOTE)


class Fetched:
    """Files that are let go after the job; it cannot be done where the word says so."""

    def __init__(self, breaks: bool = False) -> None:
        self.breaks = breaks
        self.released: list[bool] = []

    def retrieve(self) -> tuple[Path, ...]:
        return ()

    def release(self, done: bool) -> None:
        self.released.append(done)
        if self.breaks:
            raise OSError("They cannot be removed.")


def test_files_are_let_go(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 3)
    jobs[1].files[0].write_text("bad")
    fetched = [Fetched(), Fetched(), Fetched(breaks=True)]
    jobs = [replace(job, fetch=fetch) for job, fetch in zip(jobs, fetched, strict=True)]
    for _ in range(2):  # a killed run may not have come so far: it is done once more
        summary = run(jobs, tmp_path / "out")
        assert summary.exit_code == 1
        assert [fetch.released.pop() for fetch in fetched] == [True, False, True]
        assert not any(fetch.released for fetch in fetched)
    assert "could not be let go" in (tmp_path / "out" / "batch.log").read_text()


def test_vanished_results_are_made_again(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 2)
    run(jobs, tmp_path / "out")
    shutil.rmtree(tmp_path / "out" / jobs[1].key)
    events: list[BatchEvent] = []
    assert run(jobs, tmp_path / "out", listener=events.append).exit_code == 0
    (again,) = [event for event in events if event.kind is EventKind.AGAIN]
    assert "results are gone: done again" in again.text
    assert (tmp_path / "out" / jobs[1].key / "mask.txt").exists()


def test_results_of_files_that_have_changed_do_not_outlive_a_failure(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 2)
    run(jobs, tmp_path / "out")
    jobs[1].files[0].write_text("changed and bad")
    summary = run(make_jobs(tmp_path / "in", 2), tmp_path / "out")
    assert (summary.progress.failed, summary.exit_code) == (1, 1)
    assert (tmp_path / "out" / jobs[0].key).is_dir()
    assert not (tmp_path / "out" / jobs[1].key).exists()
    assert not (tmp_path / "out" / ".partial").exists()
    assert "results of an earlier run" in read_journal(tmp_path / "out")[1].shown_reason
    jobs[1].files[0].write_text("changed and mended")
    assert run(make_jobs(tmp_path / "in", 2), tmp_path / "out").exit_code == 0


def test_other_settings_cannot_start(tmp_path: Path) -> None:
    run(make_jobs(tmp_path / "in", 1), tmp_path / "out", made_with={"threshold": 0.5})
    with pytest.raises(ConfigError, match=r"threshold: 0\.5 there, 0\.6 now"):
        run([], tmp_path / "out", made_with={"threshold": 0.6})


def test_nothing_at_once_cannot_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="readers is 0, together is 0"):
        PipelineLimits(readers=0, together=0)
    with pytest.raises(ConfigError, match="no processor"):
        BatchRunner([], [], tmp_path / "out").run()


def test_nothing_to_do(tmp_path: Path) -> None:
    assert run([], tmp_path / "out").exit_code == 2


def test_search_that_breaks_off(tmp_path: Path) -> None:
    def jobs() -> Iterator[SeriesJob]:
        yield from make_jobs(tmp_path / "in", 2)
        raise DataError("The folder cannot be read.")

    summary = run(jobs(), tmp_path / "out")
    assert (summary.progress.done, summary.exit_code) == (2, 3)
    assert "The folder cannot be read." in summary.stopped


def test_search_goes_on_while_the_first_are_done(tmp_path: Path) -> None:
    first_done = threading.Event()

    def jobs() -> Iterator[SeriesJob]:
        first, second = make_jobs(tmp_path / "in", 2)
        yield first
        assert first_done.wait(10)
        yield second

    def listen(event: BatchEvent) -> None:
        if event.kind is EventKind.DONE:
            first_done.set()

    assert run(jobs(), tmp_path / "out", listener=listen).progress.done == 2


def test_found_twice(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 1)
    summary = run(jobs * 2, tmp_path / "out")
    assert (summary.progress.done, summary.progress.skipped) == (1, 1)


def test_what_is_not_found_any_more_is_spoken_of(tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 3)
    with Journal(tmp_path / "out") as journal:
        journal.found(jobs[2])
    summary = run(jobs[:2], tmp_path / "out")
    assert (summary.left, summary.exit_code) == (1, 1)


def test_full_disk_stops_and_the_same_call_goes_on(tmp_path: Path) -> None:
    class FullDisk(FakeProcessor):
        full = True

        def write(self, job: SeriesJob, result: str, folder: Path) -> None:
            super().write(job, result, folder)
            if self.full and job.key.endswith("5"):
                raise OSError(errno.ENOSPC, "No space left on device")

    jobs = make_jobs(tmp_path / "in", 40)
    processor = FullDisk()
    events: list[BatchEvent] = []
    summary = run(jobs, tmp_path / "out", processor, listener=events.append)
    assert summary.exit_code == 3
    assert "is full" in summary.stopped
    assert "same command" in summary.stopped
    assert events[-1].kind is EventKind.STOPPING
    assert summary.progress.failed == 0
    assert states(tmp_path / "out").keys() == {"done", "found"}
    assert not (tmp_path / "out" / jobs[5].key).exists()
    processor.full = False
    assert run(jobs, tmp_path / "out", processor).exit_code == 0
    assert states(tmp_path / "out") == {"done": 40}


def test_real_disk_that_is_full(
    small_disk: tuple[Path, Callable[[str], None]], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    class Large(FakeProcessor):
        def write(self, job: SeriesJob, result: str, folder: Path) -> None:
            (folder / "large").write_bytes(bytes(100_000))

    output, resize = small_disk
    jobs = make_jobs(tmp_path / "in", 40)
    summary = run(jobs, output, Large())
    assert summary.exit_code == 3
    assert 0 < summary.progress.done < 40
    assert summary.progress.failed == 0
    # Whether a result or the journal meets the full disk first is a matter of chance.
    assert "Make room" in summary.stopped or "cannot be written" in summary.stopped
    resize("20m")
    assert run(jobs, output, Large()).exit_code == 0
    assert {(row.state, row.published) for row in read_journal(output)} == {(State.DONE, 1)}
    assert {file.stat().st_size for file in output.glob("*/large")} == {100_000}
    assert capfd.readouterr() == ("", "")


def test_journal_that_breaks_stops_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = Journal.done

    def broken(journal: Journal, key: str) -> None:
        if key.endswith("3"):
            raise JournalError("The journal cannot be written: disk I/O error.")
        done(journal, key)

    monkeypatch.setattr(Journal, "done", broken)
    summary = run(make_jobs(tmp_path / "in", 20), tmp_path / "out")
    assert summary.exit_code == 3
    assert "disk I/O error" in summary.stopped
    monkeypatch.undo()
    summary = run(make_jobs(tmp_path / "in", 20), tmp_path / "out")
    assert summary.exit_code == 0
    assert {row.published for row in read_journal(tmp_path / "out")} == {1}


def test_reader_that_hangs_is_spoken_of(tmp_path: Path) -> None:
    told = threading.Event()

    class Hanging(FakeProcessor):
        def read(self, job: SeriesJob) -> Case:
            if job.key.endswith("0"):
                assert told.wait(20)
            return super().read(job)

    def listen(event: BatchEvent) -> None:
        if event.kind is EventKind.NOTE:
            told.set()

    summary = run(make_jobs(tmp_path / "in", 3), tmp_path / "out", Hanging(), listener=listen, hung_after=0.2)
    assert summary.exit_code == 0
    log = (tmp_path / "out" / "batch.log").read_text()
    assert "Reading has taken" in log


def test_gpu_memory_is_said(tmp_path: Path) -> None:
    class OutOfMemoryError(RuntimeError):
        """As torch names it."""

    class SmallGPU(FakeProcessor):
        def predict(self, cases: list[Case]) -> list[str]:
            raise OutOfMemoryError("CUDA out of memory.")

        def fallbacks(self) -> list[Fallback]:
            return [Fallback("batches of 1 slice"), Fallback("the CPU", keep=False)]

        def predict_with(self, cases: list[Case], fallback: Fallback) -> list[str]:
            return super().predict(cases) if fallback.name == "the CPU" else self.predict(cases)

    assert run(make_jobs(tmp_path / "in", 2), tmp_path / "out", SmallGPU()).exit_code == 0
    assert all("the CPU" in row.notes[0] for row in read_journal(tmp_path / "out"))
    assert "trying the CPU" in (tmp_path / "out" / "batch.log").read_text()


def test_too_little_memory_is_the_series_failure(tmp_path: Path) -> None:
    class Small(FakeProcessor):
        def read(self, job: SeriesJob) -> Case:
            raise MemoryError

    summary = run(make_jobs(tmp_path / "in", 1), tmp_path / "out", Small())
    assert summary.exit_code == 1
    assert "too little memory" in read_journal(tmp_path / "out")[0].reason


def test_stages_overlap(tmp_path: Path) -> None:
    """Ten series of 0.1 s in each stage: 3 s one after the other, 1.2 s where the stages overlap."""
    limits = PipelineLimits(readers=1, writers=1)
    processor = FakeProcessor(0.1, 0.1, 0.1)
    summary = run(make_jobs(tmp_path / "in", 10), tmp_path / "out", processor, limits=limits)
    assert sum(summary.busy_seconds.values()) >= 2.9
    # How long the disk takes to write, only the disk knows.
    assert summary.progress.seconds < max(summary.busy_seconds.values()) + 0.6
    assert summary.device_busy > 0.3


def test_a_thread_a_device(tmp_path: Path) -> None:
    together = threading.Barrier(3)

    class Waiting(FakeProcessor):
        def predict(self, cases: list[Case]) -> list[str]:
            together.wait(30)
            return super().predict(cases)

    processors = [Waiting(predict_s=0.2) for _ in range(3)]
    summary = run(make_jobs(tmp_path / "in", 9), tmp_path / "out", processors, limits=PipelineLimits(together=1))
    assert summary.devices == 3
    assert summary.progress.done == 9
    assert summary.progress.seconds < 1.4


@pytest.mark.parametrize(
    "limits", [PipelineLimits(1, 1, waiting=3, together=4), PipelineLimits(1, 1, waiting_bytes=300, together=4)]
)
def test_memory_is_bounded(tmp_path: Path, limits: PipelineLimits) -> None:
    """A slow device: three cases of 100 bytes wait, one is in the reader's hand, and what is predicted together."""
    alive, most, mutex, enough = 0, 0, threading.Lock(), threading.Event()

    class Counting(FakeProcessor):
        def read(self, job: SeriesJob) -> Case:
            nonlocal alive, most
            with mutex:
                alive += 1
                most = max(most, alive)
                if most >= 3:
                    enough.set()
            return Case(bytes(100))

        def predict(self, cases: list[Case]) -> list[str]:
            nonlocal alive
            assert enough.wait(30)
            results = super().predict(cases)
            with mutex:
                alive -= len(cases)
            return results

    summary = run(make_jobs(tmp_path / "in", 20), tmp_path / "out", Counting(predict_s=0.02), limits=limits)
    assert summary.progress.done == 20
    assert 3 <= most <= 3 + 1 + 4


def test_cases_that_wait_are_predicted_together(tmp_path: Path) -> None:
    sizes: list[int] = []

    class Watching(FakeProcessor):
        def predict(self, cases: list[Case]) -> list[str]:
            sizes.append(len(cases))
            time.sleep(0.1)
            return super().predict(cases)

    jobs = make_jobs(tmp_path / "in", 12)
    run(jobs, tmp_path / "cases", Watching(), limits=PipelineLimits(together=3))
    assert (sum(sizes), max(sizes)) == (12, 3)
    sizes.clear()
    run(jobs, tmp_path / "slices", Watching(), limits=PipelineLimits(together_slices=29))
    assert (sum(sizes), max(sizes)) == (12, 2)  # each has ten


def test_logging_is_left_as_it_was(tmp_path: Path) -> None:
    logger = logging.getLogger("monai_sam2unet.batch")
    before = (logger.level, logger.propagate, list(logger.handlers))
    run([], tmp_path / "out")
    assert (logger.level, logger.propagate, list(logger.handlers)) == before

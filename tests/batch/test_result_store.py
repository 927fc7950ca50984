from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from monai_sam2unet.batch.journal import Journal
from monai_sam2unet.batch.journal_row import State
from monai_sam2unet.batch.publishing import DiskFullError, OutputFolder, is_disk_full
from monai_sam2unet.batch.result_store import ResultStore, Standing
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.errors import DataError

JOB = SeriesJob("1.2.3", "1.2.3", "1.2", "CT", "", (), 12, 345)


class Killed(BaseException):
    """In place of ``kill -9``: nothing of the program's own comes after it."""


def write(folder: Path, text: str = "new") -> None:
    (folder / "deep").mkdir()
    (folder / "deep" / "mask").write_text(text)
    (folder / "table").write_text(text)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[ResultStore]:
    with Journal(tmp_path) as journal:
        yield ResultStore(journal)


def begin(store: ResultStore) -> None:
    store.journal.found(JOB)
    store.journal.start(JOB.key)


def keep(store: ResultStore, text: str = "new") -> None:
    begin(store)
    store.keep(JOB, lambda folder: write(folder, text), (1.0, 2.0))


def test_keep(store: ResultStore, tmp_path: Path) -> None:
    assert store.standing(JOB) is Standing.NEW
    keep(store)
    row = store.journal.row(JOB.key)
    assert (row.state, row.published, row.outputs) == (State.DONE, 1, ("deep/mask", "table"))
    assert (tmp_path / JOB.key / "deep" / "mask").read_text() == "new"
    assert not list((tmp_path / ".partial").iterdir())
    # Others may read the results as far as the umask lets them.
    (tmp_path / "plain").mkdir()
    assert (tmp_path / JOB.key).stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_standing(store: ResultStore, tmp_path: Path) -> None:
    keep(store)
    assert store.standing(JOB) is Standing.DONE
    assert store.standing(replace(JOB, slices=13)) is Standing.CHANGED
    (tmp_path / JOB.key / "table").unlink()
    assert store.standing(JOB) is Standing.VANISHED
    keep(store, "once more")
    assert store.standing(JOB) is Standing.DONE
    assert (tmp_path / JOB.key / "table").read_text() == "once more"
    assert store.journal.row(JOB.key).published == 2
    store.journal.fail(JOB.key, "bad")
    assert store.standing(JOB) is Standing.FAILED
    assert store.standing(JOB, retry_failed=True) is Standing.RETRIED


@pytest.mark.parametrize("replaced", [False, True], ids=["first", "replacing"])
@pytest.mark.parametrize("killed_at", ["before", "between", "after"])
def test_killed_while_publishing(
    store: ResultStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, replaced: bool, killed_at: str
) -> None:
    if replaced:
        keep(store, "old")
    rename = Path.rename

    def killed_rename(path: Path, target: Path) -> Path:
        is_old = "-old-" in target.name
        if killed_at == "before" or (killed_at == "between" and not is_old):
            raise Killed
        moved = rename(path, target)
        if killed_at == "after" and not is_old:
            raise Killed
        return moved

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", killed_rename)
        # Not the cleaning that a kill would not let happen.
        patch.setattr(OutputFolder, "discard", lambda *_: None)
        begin(store)
        with pytest.raises(Killed):
            store.keep(JOB, write, (1.0, 2.0))
    assert store.journal.row(JOB.key).state is State.RUNNING
    store.recover()
    row = store.journal.row(JOB.key)
    assert (row.state, row.published, row.partial) == (State.DONE, 1 + replaced, "")
    assert (tmp_path / JOB.key / "table").read_text() == "new"
    assert not list((tmp_path / ".partial").iterdir())


def test_killed_while_writing(store: ResultStore, tmp_path: Path) -> None:
    begin(store)
    partial = store.output.new_partial(JOB.key)
    write(partial)
    assert store.recover() == (0, 1)
    assert store.standing(JOB) is Standing.NEW
    assert not (tmp_path / JOB.key).exists()


def test_failed_writing_leaves_nothing(store: ResultStore, tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        write(folder)
        raise DataError("no")

    begin(store)
    with pytest.raises(DataError):
        store.keep(JOB, fail, (1.0, 2.0))
    assert not (tmp_path / JOB.key).exists()
    assert not list((tmp_path / ".partial").iterdir())


def test_a_folder_of_others_is_not_replaced(store: ResultStore, tmp_path: Path) -> None:
    (tmp_path / JOB.key).mkdir()
    (tmp_path / JOB.key / "precious").touch()
    with pytest.raises(DataError, match="does not know it"):
        keep(store)
    assert [path.name for path in (tmp_path / JOB.key).iterdir()] == ["precious"]
    assert store.journal.row(JOB.key).state is State.FAILED
    assert not list((tmp_path / ".partial").iterdir())


@pytest.mark.parametrize("key", ["../x", ".partial", "", "a/b", "a" * 201])
def test_keys_that_lead_elsewhere(tmp_path: Path, key: str) -> None:
    with pytest.raises(DataError, match="cannot be named"):
        OutputFolder(tmp_path).new_partial(key)


def test_full_disk(small_disk: tuple[Path, Callable[[str], None]]) -> None:
    folder, _ = small_disk
    with Journal(folder) as journal:
        store = ResultStore(journal)
        begin(store)
        with pytest.raises(DiskFullError, match="is full"):
            store.keep(JOB, lambda folder: (folder / "large").write_bytes(bytes(3_000_000)), (1.0, 2.0))
        assert not list((folder / ".partial").iterdir())
        keep(store)
        assert store.standing(JOB) is Standing.DONE

        # Some libraries do not say why they could not write.
        def say_nothing(folder: Path) -> None:
            with pytest.raises(OSError, match="No space"):
                (folder / "large").write_bytes(bytes(3_000_000))
            raise RuntimeError("could not write")

        begin(store)
        with pytest.raises(DiskFullError):
            store.keep(JOB, say_nothing, (1.0, 2.0))


def test_is_disk_full() -> None:
    assert is_disk_full(OSError(errno.EDQUOT, "quota"))
    assert not is_disk_full(OSError(errno.EIO, "broken"))
    wrapped = DataError("not written")
    wrapped.__cause__ = OSError(errno.ENOSPC, "full")
    assert is_disk_full(wrapped)

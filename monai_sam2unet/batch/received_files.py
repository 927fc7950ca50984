# SPDX-License-Identifier: Apache-2.0
"""The files of jobs that were received, and what of their series was worked on: kept on disk, safe from power cuts."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path

from monai_sam2unet.errors import DataError
from monai_sam2unet.folders import sync_to_disk

__all__ = ["STATE", "STATES", "ReceivedFiles", "State", "write_safely"]

#: What of a series was worked on.
STATE = "state.json"
#: States are read, changed and written by one thread at a time: jobs of a series may be over at the same moment.
STATES = threading.Lock()


def write_safely(path: Path, content: bytes, beside: Path) -> None:
    """Write a file so that it is there whole or, after a power cut, not at all.

    Args:
        path: the file.
        content: what it holds.
        beside: where it is written first, on the same disk.

    Raises:
        OSError: When it cannot be written.
    """
    try:
        with beside.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)
    sync_to_disk(path.parent)


@dataclass(frozen=True)
class State:
    """What of a series was worked on, by the names of its files.

    Args:
        taken: those that the jobs that are out were made of; empty where none is out.
        left: those of them that belong to jobs that are not over.
        done: those that were worked on.
        failed: those of jobs that failed.
    """

    taken: frozenset[str] = frozenset()
    left: frozenset[str] = frozenset()
    done: frozenset[str] = frozenset()
    failed: frozenset[str] = frozenset()

    @classmethod
    def of(cls, folder: Path) -> State:
        """Read the state of a series.

        Args:
            folder: the series'.
        """
        try:
            read = json.loads((folder / STATE).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls()
        return cls(**{field.name: frozenset(read[field.name]) for field in fields(cls)})

    def save(self, folder: Path) -> None:
        """Write the state of a series.

        Args:
            folder: the series'.
        """
        content = {name: sorted(names) for name, names in vars(self).items()}
        write_safely(folder / STATE, json.dumps(content).encode(), folder / f"{STATE}.unfinished")

    def over(self, names: frozenset[str], done: bool) -> State:
        """The state once a job is over, or files were found to be of no job.

        Args:
            names: its files.
            done: whether it succeeded.
        """
        left = self.left - names
        return State(
            self.taken if left else frozenset(),
            left,
            self.done | names if done else self.done - names,
            self.failed - names if done else self.failed | names,
        )


@dataclass(frozen=True)
class ReceivedFiles:
    """The files of a job from an inbox.

    Args:
        folder: their series' in the inbox.
        names: the files.
    """

    folder: Path
    names: tuple[str, ...]

    @contextmanager
    def opened(self, work_folder: Path) -> Iterator[tuple[Path, ...]]:
        """The files, which are here already.

        Args:
            work_folder: not needed.

        Raises:
            DataError: When one is not there any more.
        """
        files = tuple(self.folder / name for name in self.names)
        gone = [file for file in files if not file.is_file()]
        if gone:
            raise DataError(f"{len(gone)} of {len(files)} received files are not in {self.folder} any more.")
        yield files

    def release(self, done: bool) -> None:
        """Note that the job is over. Its files are removed some time later.

        Args:
            done: whether it succeeded. Else its files stay, and are a job again after a restart.
        """
        with STATES:
            state, names = State.of(self.folder), frozenset(self.names)
            # Released a second time, as where a killed run had come that far, it changes nothing.
            if names & state.left:
                state.over(names, done).save(self.folder)

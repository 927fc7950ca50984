# SPDX-License-Identifier: Apache-2.0
"""Runs ``python -m MODULE`` in processes of their own that need not import MONAI again, which takes seconds each time.

A process imports it once, and forks for every command. A command sees its own arguments, folder, environment, output
and exit code, as one that was started afresh. What a command imports, and when, is tested with fresh processes, and so
are the bundles under ``torch.distributed`` and in the tests of Ctrl-C, a full disk and a kill.
"""

from __future__ import annotations

import atexit
import importlib
import itertools
import json
import os
import random
import runpy
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NoReturn

RUN = subprocess.run
IMPORTED = ("monai.bundle", "monai_sam2unet.bundle", "monai_sam2unet.cli", "monai_sam2unet.networks", "pandas")


class WarmPython:
    """Starts commands one at a time.

    Args:
        timeout: seconds after which a command is killed.

    Example:
        >>> with WarmPython() as python_m:  # doctest: +SKIP
        ...     python_m(["monai.bundle", "run", "training"], cwd="bundles/polyp_segmentation")
    """

    def __init__(self, timeout: float = 300) -> None:
        self.timeout = timeout
        self._files = TemporaryDirectory()
        self._numbers = itertools.count()
        self._process: subprocess.Popen[str] | None = None

    def __enter__(self) -> WarmPython:
        return self

    def __exit__(self, *error: object) -> None:
        self._end()
        self._files.cleanup()

    def _end(self) -> None:
        if self._process is not None:
            # The group: a command may still run, and others that it started.
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.communicate()
            self._process = None

    def _answer(self, command: Mapping[str, Any]) -> int:
        if self._process is None:
            self._process = subprocess.Popen(
                [sys.executable, __file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        if not select.select([self._process.stdout], [], [], self.timeout)[0]:
            raise subprocess.TimeoutExpired(command["words"], self.timeout)
        answer = self._process.stdout.readline()
        assert answer, "The process that imports MONAI for the tests has died."
        return int(answer)

    def __call__(
        self, words: Sequence[object], cwd: str | Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m``.

        Args:
            words: the module's name and its arguments.
            cwd: the folder it runs in.
            env: its environment. What is read of it at the import of MONAI or torch is that of the tests.
        """
        number = next(self._numbers)
        out, err = (Path(self._files.name) / f"{name}{number}" for name in ("stdout", "stderr"))
        command = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "files": [str(out), str(err)],
        }
        try:
            code = self._answer(command)
        except BaseException:
            # Its answer, if it still came, would be taken for the next one's.
            self._end()
            raise
        return subprocess.CompletedProcess(
            [sys.executable, "-m", *command["words"]], code, out.read_text(), err.read_text()
        )


def _exit_code(module: str) -> int:
    """Run a module to its end, as the interpreter does."""
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        print(end.code, file=sys.stderr)
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def _forked(
    words: Sequence[str], cwd: str | Path | None = None, check: bool = False, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Stands in for `subprocess.run` of a command that runs another one, which prints to the same places."""
    if list(words[:2]) != [sys.executable, "-m"] or options:
        return RUN(words, cwd=cwd, check=check, **options)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _become(words[2:], str(cwd or Path.cwd()))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if check and code:
        raise subprocess.CalledProcessError(code, words)
    return subprocess.CompletedProcess(words, code)


def _become(words: Sequence[str], cwd: str) -> NoReturn:
    """Go on as the command, in a process that was just forked."""
    subprocess.run = _forked  # type: ignore[assignment]
    os.chdir(cwd)
    random.seed()
    sys.modules["numpy"].random.seed()
    sys.path[0] = cwd
    sys.argv = list(words)
    code = _exit_code(words[0])
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    # To take down all that was imported takes two seconds.
    os._exit(code)


def _redirect(files: Sequence[str]) -> None:
    for number, path in enumerate([os.devnull, *files]):
        opened = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC if number else os.O_RDONLY)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (os.fdopen(number, mode, closefd=False) for number, mode in enumerate("rww"))


def _serve() -> None:
    for name in IMPORTED:
        importlib.import_module(name)
    answers = os.fdopen(os.dup(1), "w")
    for line in sys.stdin:
        command = json.loads(line)
        child = os.fork()
        if not child:
            _redirect(command["files"])
            os.environ.clear()
            os.environ.update(command["env"])
            _become(command["words"], command["cwd"])
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), file=answers, flush=True)


if __name__ == "__main__":
    _serve()

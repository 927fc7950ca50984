# SPDX-License-Identifier: Apache-2.0
"""Runs ``python -m MODULE`` in processes of their own that need not import MONAI again, which takes seconds each time.

A process imports it once, and forks for every command. A command sees its own arguments, folder, environment, output
and exit code, as one that was started afresh. What a command imports, and when, is tested with fresh processes.
"""

from __future__ import annotations

import atexit
import importlib
import json
import os
import random
import runpy
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

    Example:
        >>> with WarmPython() as python_m:  # doctest: +SKIP
        ...     python_m(["monai.bundle", "run", "training"], cwd="bundles/polyp_segmentation")
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._files = TemporaryDirectory()

    def __enter__(self) -> WarmPython:
        return self

    def __exit__(self, *error: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
        self._files.cleanup()

    def __call__(
        self, words: Sequence[object], cwd: str | Path | None = None, env: Mapping[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run ``python -m``.

        Args:
            words: the module's name and its arguments.
            cwd: the folder it runs in.
            env: its environment.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        out, err = (Path(self._files.name) / name for name in ("stdout", "stderr"))
        command = {
            "words": [str(word) for word in words],
            "cwd": str(cwd or Path.cwd()),
            "env": dict(os.environ if env is None else env),
            "files": [str(out), str(err)],
        }
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = self._process.stdout.readline()
        assert answer, "The process that imports MONAI for the tests has died."
        return subprocess.CompletedProcess(
            [sys.executable, "-m", *command["words"]], int(answer), out.read_text(), err.read_text()
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


def _forked(words: Sequence[str], cwd: str | Path | None = None, **options: Any) -> subprocess.CompletedProcess[str]:
    """Stands in for `subprocess.run` of a command that runs another one, which prints to the same places."""
    if list(words[:2]) != [sys.executable, "-m"] or options.keys() - {"check"}:
        return RUN(words, cwd=cwd, **options)
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if not child:
        _become(words[2:], str(cwd or Path.cwd()))
    return subprocess.CompletedProcess(words, os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))


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

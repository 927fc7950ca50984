# SPDX-License-Identifier: Apache-2.0
"""Commands of a process that has imported MONAI already end as they would by themselves."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from .warm_python import WarmPython


@pytest.fixture
def module(tmp_path: Path):
    """Writes a module that can be run from the folder of the test."""

    def write(name: str, code: str) -> str:
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write


def test_output_and_exit_code(python_m: WarmPython, module, tmp_path: Path) -> None:
    says = module("says", "import os, sys; print(sys.argv[1:], os.getcwd(), os.environ['A']); sys.exit(3)")
    done = python_m([says, 1, "b c"], cwd=tmp_path, env={**os.environ, "A": "x"})
    assert (done.returncode, done.stdout) == (3, f"['1', 'b c'] {tmp_path} x\n")
    fails = module("fails", "import atexit; atexit.register(print, 'last'); print('first'); 1 / 0")
    done = python_m([fails], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "first\nlast\n")
    assert done.stderr.rstrip().endswith("ZeroDivisionError: division by zero")
    assert python_m([module("tells", "import sys; sys.exit('no')")], cwd=tmp_path).stderr == "no\n"


def test_commands_of_commands(python_m: WarmPython, module, tmp_path: Path) -> None:
    module("inner", "import sys; print('inner'); sys.exit(5)")
    run = "import subprocess, sys; print('outer'); print(subprocess.run([sys.executable, '-m', 'inner']{}).returncode)"
    done = python_m([module("outer", run.format(""))], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "outer\ninner\n5\n")
    done = python_m([module("strict", run.format(", check=True"))], cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, "outer\ninner\n")
    assert "CalledProcessError" in done.stderr


@pytest.mark.slow
def test_the_answer_of_a_command_that_took_too_long_is_not_the_next_one_s(module, tmp_path: Path) -> None:
    with WarmPython(timeout=60) as python_m:
        assert python_m([module("quick", "print('quick')")], cwd=tmp_path).stdout == "quick\n"
        python_m.timeout = 0.5
        slow = module("slow", "import time; time.sleep(2); print('slow')")
        with pytest.raises(subprocess.TimeoutExpired):
            python_m([slow], cwd=tmp_path)
        python_m.timeout = 60
        done = python_m([module("seven", "raise SystemExit(7)")], cwd=tmp_path)
        assert (done.returncode, done.stdout) == (7, "")

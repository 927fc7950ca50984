# SPDX-License-Identifier: Apache-2.0
"""Runs a bundle as a user would, in a process of its own, and shows the command."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console

from monai_sam2unet.errors import ConfigError

__all__ = ["run_bundle"]


def run_bundle(console: Console, run_id: str, config_file: str, words: Sequence[str], folder: Path | None) -> None:
    """Run ``python -m monai.bundle run`` to its end.

    Args:
        console: where the command is shown.
        run_id: what to run, as ``inferring``.
        config_file: a config, or several as a Python list in a text.
        words: further words of the command line, ``--key`` and ``value``.
        folder: in which it runs; None: this one.

    Raises:
        ConfigError: When it fails; its own message is on the terminal already.
    """
    command = ["-m", "monai.bundle", "run", run_id, "--config_file", config_file, *words]
    into = "" if folder is None else f"$ cd {folder}\n"
    console.print(
        f"\n{into}$ python {shlex.join(command)}", style="bold", highlight=False, markup=False, soft_wrap=True
    )
    finished = subprocess.run([sys.executable, *command], cwd=folder, check=False)
    if finished.returncode != 0:
        raise ConfigError(f"The step `{run_id}` ended with exit code {finished.returncode}; its message is above.")

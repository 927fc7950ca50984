# SPDX-License-Identifier: Apache-2.0
"""Memory that one form takes, measured in a process of its own.

On a CPU it is the process's largest resident memory during a call, once warm, beyond what the process held before the
form was loaded or made: weights, working memory, and what a runtime keeps, but not the runtimes' libraries. On CUDA it
is the largest amount that torch had allocated during the first calls, with the weights; what other runtimes take there
is not seen.

    python -m benchmarks.network.memory   # reads {"setting": ..., "form": ..., "batch": ...} and prints {"mib": ...}
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import importlib
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

from benchmarks.network.every_form import FORMS
from benchmarks.network.forms import Form, Setting, Unavailable, Workbench

__all__ = ["measure_memory"]

STATUS = Path("/proc/self/status")
# Linux forgets a process's peak when 5 is written here.
CLEAR = Path("/proc/self/clear_refs")
RUNTIMES = ("onnxruntime", "openvino")
NOT_BY_TORCH = ("onnxruntime", "tensorrt")


def _resident_mib(name: str) -> float:
    lines = STATUS.read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(name + ":")) / 1024


def _give_back() -> None:
    """Have the C library give the system what was freed: what a form's making left behind is not the form's."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def measure_memory(form: Form, setting: Setting, batch: int, threads: int) -> float:
    """Measure a form in a new process.

    Args:
        form: what is measured.
        setting: its scratch folder holds the exported files already, so that their making does not count.
        batch: images of a call.
        threads: threads of the process.

    Returns:
        MiB.

    Raises:
        Unavailable: When the form cannot be measured; the text says why.
    """
    if setting.device == "cpu" and not CLEAR.exists():
        raise Unavailable("resident memory is read from Linux's /proc")
    if setting.device == "cuda" and form.key in NOT_BY_TORCH:
        raise Unavailable("not measured")
    request = json.dumps({"setting": setting.as_dict(), "form": form.key, "batch": batch, "threads": threads})
    with tempfile.TemporaryFile("w+") as errors:
        done = subprocess.run(
            [sys.executable, "-m", "benchmarks.network.memory"],
            input=request,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
            cwd=Path(__file__).parents[2],
            env={**os.environ, "OMP_NUM_THREADS": str(threads)},
        )
        if done.returncode != 0:
            errors.seek(0)
            raise Unavailable(f"its process failed: {(errors.read().strip().splitlines() or ['no message'])[-1][:200]}")
    return float(json.loads(done.stdout.splitlines()[-1])["mib"])


def main() -> None:
    """Measure what standard input names."""
    request = json.load(sys.stdin)
    torch.set_num_threads(request["threads"])
    for name in RUNTIMES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    bench = Workbench(Setting(**request["setting"]))
    on_cpu = bench.device.type == "cpu"
    images = bench.images(request["batch"])
    before = _resident_mib("VmRSS") if on_cpu else 0.0
    built = FORMS[request["form"]].build(bench, request["batch"])
    # Whoever serves a form made of the plain network lets the latter go.
    bench.__dict__.pop("plain", None)
    gc.collect()
    if on_cpu:
        _give_back()
    else:
        torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode():
        built.run(images)
        if on_cpu:
            CLEAR.write_text("5", encoding="utf-8")
            built.run(images)
            mib = _resident_mib("VmHWM") - before
        else:
            mib = torch.cuda.max_memory_allocated() / 2**20
    print(json.dumps({"mib": mib}))


if __name__ == "__main__":
    main()

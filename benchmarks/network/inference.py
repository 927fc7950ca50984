# SPDX-License-Identifier: Apache-2.0
"""Times the forms at one batch size, in turns, and says what each computes and how it agrees with the plain network."""

from __future__ import annotations

import gc
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.network.agreement import Picture, agreement, relative_difference
from benchmarks.network.forms import Built, Form, Unavailable, Workbench, first_line
from benchmarks.timing import in_turns, quartiles
from monai_sam2unet.errors import UserError

__all__ = ["gflop", "measure_inference", "new_row"]

WARM_UPS = 2  # and one before, which compiles what is compiled at the first call
PAUSE_S = 0.02
# What rounding to these types can do to logits, generously: a form that is further off computes something else.
FURTHEST = {"fp32": 0.01, "bf16": 0.25, "int8": 0.5}


def new_row(form: Form) -> dict[str, Any]:
    """A form's row before anything is measured."""
    return {
        "key": form.key,
        "label": form.label,
        "group": form.group,
        "precision": form.precision,
        "batches": {},
    }


def gflop(network: nn.Module, image: Tensor) -> float:
    """Arithmetic of one call in 1e9 operations: matrix products and convolutions, those of attention included."""
    with FlopCounterMode(display=False) as counter, sdpa_kernel(SDPBackend.MATH), torch.no_grad():
        network(image)
    return counter.get_total_flops() / 1e9


def _counts(network: nn.Module, bench: Workbench) -> dict[str, float]:
    parameters = list(network.parameters())
    return {
        "parameters_m": sum(p.numel() for p in parameters) / 1e6,
        "trained_m": sum(p.numel() for p in parameters if p.requires_grad) / 1e6,
        "gflop": gflop(network, bench.images(1)),
    }


def _prepare(
    form: Form,
    row: dict[str, Any],
    bench: Workbench,
    images: Tensor,
    expected: Callable[[], Tensor],
    pictures: list[Picture],
) -> Built:
    """Build a form and let it run once; see that it computes what it should: the plain network's logits of the images.

    Raises:
        Unavailable: When its logits are not the plain network's.
    """
    batch = len(images)
    built = form.build(bench, batch)
    # Not while building: what is made in inference mode cannot be trained or exported.
    with torch.inference_mode():
        logits = built.run(images)
        if form.same_function:
            apart = relative_difference(logits, expected())
            if not apart <= FURTHEST[form.precision]:  # NaN, too
                raise Unavailable(f"wrong: its logits differ by {apart:.1e} of the largest one")
            row["max_relative_difference"] = max(apart, row.get("max_relative_difference", 0.0))
    if form.same_function and pictures and "agreement" not in row:
        row["agreement"] = agreement(built.run, pictures, batch, bench.device)
    if built.network is not None and "gflop" not in row:
        row |= _counts(built.network, bench)
    return built


def measure_inference(
    bench: Workbench,
    rows: dict[str, dict[str, Any]],
    forms: Sequence[Form],
    batch: int,
    rounds: int,
    *,
    pictures: list[Picture],
    rates: dict[str, float],
    turn_s: float,
    say: Callable[[str], None],
) -> None:
    """Add one batch size to the rows.

    Args:
        bench: what all forms share.
        rows: key -> row; each gets ``batches[str(batch)]`` with ``ms`` and ``images_per_second`` of a call,
            ``times_as_fast`` as the first row that runs (all: median and quartiles over the rounds), ``floor_ms`` (its
            arithmetic at the device's rate of its precision) and ``matmul_share`` (the floor as a share of its time);
            or ``reason`` where it could not run.
        forms: what is measured.
        batch: images of a call.
        rounds: turns of each.
        pictures: photographs for the agreement of masks; none: left out.
        rates: precision -> 1e9 operations a second.
        turn_s: length of a turn in seconds.
        say: told what is being done.
    """
    built: dict[str, Built] = {}
    own_counts = _counts(bench.plain, bench)
    images = bench.images(batch)
    expected = cache(partial(bench.plain, images))
    for form in forms:
        say(form.label)
        try:
            built[form.key] = _prepare(form, rows[form.key], bench, images, expected, pictures)
        except (Unavailable, UserError) as reason:
            rows[form.key]["batches"][str(batch)] = {"reason": str(reason).splitlines()[0]}
        except Exception as error:  # whatever one form does, the others are still measured
            rows[form.key]["batches"][str(batch)] = {"reason": first_line(error)}
    calls = {key: partial(form.run, images) for key, form in built.items()}
    say(f"{rounds} rounds")
    with torch.inference_mode():
        times = in_turns(calls, rounds, bench.device, warm_ups=WARM_UPS, turn_s=turn_s, pause_s=PAUSE_S)
    reference = next(iter(times.values()), [])
    for key, own in times.items():
        row = rows[key]
        if "gflop" not in row:
            row |= own_counts
        entry: dict[str, Any] = {
            "ms": quartiles([1000 * t for t in own]),
            "images_per_second": quartiles([batch / t for t in own]),
            "times_as_fast": quartiles([a / b for a, b in zip(reference, own, strict=True)]),
        }
        if row["precision"] in rates:
            entry["floor_ms"] = 1000 * batch * row["gflop"] / rates[row["precision"]]
            entry["matmul_share"] = entry["floor_ms"] / entry["ms"]["median"]
        row["batches"][str(batch)] = entry
    built.clear()
    calls.clear()
    torch.compiler.reset()
    gc.collect()
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()

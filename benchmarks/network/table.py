# SPDX-License-Identifier: Apache-2.0
"""Markdown tables of what `benchmarks.network` measured.

python -m benchmarks.network.table docs/results/NAME.json
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

__all__ = ["markdown"]

Row = Mapping[str, Any]


def _number(value: float) -> str:
    """Three figures, without an exponent."""
    return f"{value:.{max(0, 2 - len(str(int(abs(value)))) + 1)}f}"


def _spread(values: Mapping[str, float]) -> str:
    low, high = _number(values["lower_quartile"]), _number(values["upper_quartile"])
    return f"{_number(values['median'])} ({low} to {high})"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in rows)


def _cells(row: Row, batch: str) -> list[str]:
    """Time at batch 1, else images a second; times as fast; share of the rate of matrix products."""
    entry = row["batches"].get(batch, {"reason": "not measured"})
    if "reason" in entry:
        said = [e.get("reason") for b, e in row["batches"].items() if int(b) < int(batch)]
        return ["" if entry["reason"] in said else entry["reason"], "", ""]
    share = entry.get("matmul_share")
    return [
        _spread(entry["ms" if batch == "1" else "images_per_second"]),
        _spread(entry["times_as_fast"]),
        "" if share is None else f"{100 * share:.0f} %",
    ]


def _inference(part: Row, batches: Sequence[str]) -> str:
    head = ["form", "M parameters", "GFLOP"]
    for batch in batches:
        head += [f"batch {batch}, {'ms' if batch == '1' else 'images/s'}", "times as fast", "of matmul rate"]
    rows = part["rows"]
    memory = any("memory" in row for row in rows)
    dice = any("agreement" in row for row in rows)
    head += [f"MiB at batch {part.get('memory_batch')}"] * memory + ["logits off by"]
    head += ["Dice with plain fp32, mean (lowest)"] * dice
    lines = []
    for row in rows:
        counts = [_number(row[name]) if name in row else "" for name in ("parameters_m", "gflop")]
        line = [row["label"], *counts, *(cell for batch in batches for cell in _cells(row, batch))]
        if memory:
            line.append(_memory(row))
        line.append(f"{row['max_relative_difference']:.0e}" if "max_relative_difference" in row else "")
        if dice:
            found = row.get("agreement")
            line.append(f"{found['dice_mean']:.4f} ({found['dice_min']:.4f})" if found else "")
        lines.append(line)
    return _table(head, lines)


def _memory(row: Row) -> str:
    found = row.get("memory", {})
    return f"{found['mib']:.0f}" if "mib" in found else found.get("reason", "")


def _training(rows: Sequence[Row], batch: int) -> str:
    peak = any("peak_mib" in row for row in rows)
    head = ["training", "M trained", f"step of {batch}, ms", "times as fast", "MiB kept for backward"]
    lines = []
    for row in rows:
        if "reason" in row:
            lines.append([row["label"], "", row["reason"], "", "", *[""] * peak])
            continue
        cells = [_spread(row["step_ms"]), _spread(row["times_as_fast"]), f"{row['saved_mib']:.0f}"]
        if peak:
            cells.append(f"{row['peak_mib']:.0f}")
        lines.append([row["label"], _number(row["trained_m"]), *cells])
    return _table([*head, *["MiB at the peak of a step"] * peak], lines)


def markdown(results: Row) -> str:
    """The tables of all sizes.

    Args:
        results: what `benchmarks.network` writes as JSON.

    Returns:
        Markdown; a heading, the table of inference and, where it was measured, that of training for each size.
    """
    parts = []
    for size, part in results["sizes"].items():
        batches = list(dict.fromkeys(batch for row in part["rows"] for batch in row["batches"]))
        parts += [f"### Encoder {size}", _inference(part, batches)]
        if "training" in part:
            parts.append(_training(part["training"]["rows"], part["training"]["batch"]))
    return "\n\n".join(parts)


def main(path: Annotated[Path, typer.Argument(help="JSON file of results.")]) -> None:
    """Print the tables of a file of results."""
    typer.echo(markdown(json.loads(path.read_text(encoding="utf-8"))))


if __name__ == "__main__":
    typer.run(main)

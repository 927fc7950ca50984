# SPDX-License-Identifier: Apache-2.0
"""The simulation of active learning: labels are revealed when asked for, seeds repeat, and a stopped run goes on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer import Typer
from typer.testing import CliRunner

from benchmarks import active_learning
from benchmarks.active_learning import Simulation, main, one_seed, summary
from monai_sam2unet.bundle import training_datalist

app = Typer()
app.command()(main)
SETTINGS = {"encoder_size": "tiny", "weights": "random", "spatial_size": [64, 64], "batch_size": 2}


@pytest.fixture(scope="module")
def simulation(phantoms: Path) -> Simulation:
    found = training_datalist(phantoms)
    cases = found["training"] + found["validation"]
    return Simulation(cases[:8], cases[8:], seed=0, steps=1, settings=SETTINGS)


def test_only_labels_that_were_asked_for_are_used(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    network = torch.nn.Conv2d(3, 1, 1).eval()
    before = simulation.scores(network, [2, 3, 4])
    assert all(0 <= score <= 1 for score in before)
    monkeypatch.setattr(simulation, "masks", 1 - simulation.masks)
    assert simulation.scores(network, [2, 3, 4]) == before
    others = [case if number < 2 else dict(case, label="missing.png") for number, case in enumerate(simulation.pool)]
    monkeypatch.setattr(simulation, "pool", others)
    start = simulation.train([0, 1], None).state_dict()
    assert not torch.equal(simulation.train([0, 1], start).head.weight, start["head.weight"])


def test_a_seed_asks_for_the_most_unsure(simulation: Simulation, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[list[int]] = []

    def train(labelled: list[int], state: object) -> torch.nn.Module:
        asked.append(sorted(labelled))
        return torch.nn.Conv2d(3, 1, 1)

    monkeypatch.setattr(simulation, "train", train)
    monkeypatch.setattr(simulation, "scores", lambda network, numbers: [float(number) for number in numbers])
    found = one_seed(simulation, [2, 4])
    first, unsure, random = asked
    rest = [number for number in range(8) if number not in first]
    assert unsure == sorted([*first, *rest[-2:]])
    assert set(first) < set(random)
    assert found["dice"]["epistemic"][0] == found["dice"]["random"][0]


def test_summary_is_the_mean_over_seeds() -> None:
    seeds = [
        {"dice": {"epistemic": [0.2, 0.6, 0.8], "random": [0.2, 0.5, 0.6]}},
        {"dice": {"epistemic": [0.4, 0.4, 0.6], "random": [0.4, 0.5, 0.6]}},
    ]
    found = summary([8, 16, 32], seeds)
    assert found["mean_dice"]["epistemic"] == pytest.approx([0.3, 0.5, 0.7])
    assert found["mean_gain_of_each_seed"] == pytest.approx([0.15, -0.05])


def test_runs_from_the_command_line_once(phantoms: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    output, picture = tmp_path / "found.json", tmp_path / "found.png"
    words = ["--dataset-dir", phantoms, "--output", output, "--weights", "random", "--pool", 6, "--test", 2]
    words += ["--labels", "2,4", "--steps", 1, "--batch-size", 2, "--size", 64, "--seeds", "0"]
    done = CliRunner().invoke(app, [*map(str, words), "--picture", str(picture)])
    assert done.exit_code == 0, done.output
    found = json.loads(output.read_text())
    assert found["settings"]["labels"] == found["summary"]["labels"] == [2, 4]
    (one,) = found["seeds"]
    assert {name: len(curve) for name, curve in one["dice"].items()} == {"epistemic": 2, "random": 2}
    assert picture.stat().st_size > 5000

    monkeypatch.setattr(active_learning, "one_seed", lambda *_: pytest.fail("the seed was run twice"))
    assert CliRunner().invoke(app, [*map(str, words)]).exit_code == 0
    other = CliRunner().invoke(app, [*map(str, words), "--steps", "2"])
    assert other.exit_code == 2
    assert "other settings" in other.output

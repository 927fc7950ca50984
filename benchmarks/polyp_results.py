# SPDX-License-Identifier: Apache-2.0
"""Trains and evaluates the polyp bundle from pretrained and from random weights, several seeds, into one JSON file.

    python -m benchmarks.polyp_results --dataset-dir DIR --work-dir WORK --output docs/results/NAME.json

Each training and evaluation is a `monai.bundle run` of its own. A run that was stopped is resumed after its last epoch
by the same command, and finished runs are not done again, so the whole can be made in pieces.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

BUNDLE = Path(__file__).parents[1] / "bundles" / "polyp_segmentation"


def bundle_command(run_id: str, config: str, **overrides: object) -> list[str]:
    """The command line of a bundle's run; paths relative to the bundle, as a user would type it."""
    words = ["python", "-m", "monai.bundle", "run", run_id, "--config_file", f"configs/{config}.yaml"]
    for key, value in overrides.items():
        words += [f"--{key}", str(value)]
    return words


def run(command: list[str]) -> None:
    """Run a command inside the bundle."""
    subprocess.run([sys.executable, *command[1:]], cwd=BUNDLE, check=True)


def one_run(work_dir: Path, training: dict[str, Any], evaluation: dict[str, Any], data: Path) -> dict[str, Any]:
    """Train and evaluate once, or go on with what was begun; its settings, commands and results."""
    checkpoints = work_dir / "models"
    train = bundle_command("training", "train", dataset_dir="DIR", ckpt_dir="models", log_dir="runs", **training)
    evaluate = bundle_command(
        "evaluating", "evaluate", dataset_dir="DIR", ckpt_path="models/model.pt", output_dir="eval", **evaluation
    )
    commands = [" ".join(train), " ".join(evaluate)]
    done = work_dir / "result.json"
    if done.exists():
        result = json.loads(done.read_text(encoding="utf-8"))
        if result["commands"] != commands:
            raise SystemExit(f"{work_dir} holds a run with other settings; give another --work-dir.")
        return result
    places = {
        "DIR": str(data),
        "models": str(checkpoints),
        "runs": str(work_dir / "runs"),
        "models/model.pt": str(checkpoints / "model.pt"),
        "eval": str(work_dir / "eval"),
    }
    resume = ["--resume", "True"] if (checkpoints / "last.pt").exists() else []
    run([places.get(word, word) for word in train] + resume)
    run([places.get(word, word) for word in evaluate])
    result = {
        "commands": commands,
        "resumed": bool(resume),
        "sets": json.loads((work_dir / "eval" / "summary.json").read_text(encoding="utf-8"))["sets"],
    }
    done.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def main(
    dataset_dir: Annotated[Path, typer.Option(help="Folder with TrainDataset/ and TestDataset/.")],
    output: Annotated[Path, typer.Option(help="JSON file to write.")],
    work_dir: Annotated[Path, typer.Option(help="Folder for checkpoints and logs; keep it to resume.")],
    weights: Annotated[str, typer.Option(help="Pretrained weights: sam2, sam2.1 or a file.")] = "sam2",
    encoder_size: Annotated[str, typer.Option(help="tiny, small, base_plus or large.")] = "tiny",
    seeds: Annotated[str, typer.Option(help="Comma-separated seeds.")] = "0,1,2",
    max_epochs: Annotated[int, typer.Option(help="Epochs.")] = 20,
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 352,
    max_cases: Annotated[
        int | None, typer.Option(help="Images to train on, held-out ones included; all if not given.")
    ] = None,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    num_workers: Annotated[int, typer.Option(help="Processes that load images.")] = 2,
    starts: Annotated[str, typer.Option(help="Encoder weights to start from.")] = "pretrained,random",
) -> None:
    """Train and evaluate; write the results."""
    runs: dict[str, Any] = {}
    start_weights = {"pretrained": weights, "random": "random"}
    for seed in seeds.split(","):
        for start in starts.split(","):
            name = f"{start}_seed{seed}"
            spatial_size = f"[{size},{size}]"
            training = {
                "encoder_size": encoder_size,
                "weights": start_weights[start],
                "spatial_size": spatial_size,
                "max_epochs": max_epochs,
                "warmup_epochs": 0,
                "clip_norm": 0,
                "precision": precision,
                "num_workers": num_workers,
                "seed": seed,
            }
            if max_cases is not None:
                training["max_cases"] = max_cases
            evaluation = {
                "encoder_size": encoder_size,
                "spatial_size": spatial_size,
                "precision": precision,
                "num_workers": num_workers,
            }
            folder = work_dir.resolve() / name
            folder.mkdir(parents=True, exist_ok=True)
            print(f"== {name}", flush=True)
            runs[name] = one_run(folder, training, evaluation, dataset_dir.resolve())
            content = {
                "machine": {
                    "device": torch.cuda.get_device_name()
                    if torch.cuda.is_available()
                    else f"CPU, {torch.get_num_threads()} threads",
                    "python": platform.python_version(),
                    "torch": torch.__version__,
                },
                "runs": runs,
            }
            output.parent.mkdir(parents=True, exist_ok=True)
            output.write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    typer.run(main)

# SPDX-License-Identifier: Apache-2.0
"""Trains bundles on a part of their data from published and from random weights, and measures on the part left out.

    python -m benchmarks.bundle_results --data-dir DATA --work-dir WORK --output docs/results/NAME

DATA holds a folder for each bundle, see :data:`DATA`. A call that was stopped is taken up by the same command.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.bundle_run import BundleRun, Commands, OutOfTime, bundle_command, files_sha256

__all__ = ["DATA", "STARTS", "BundleData", "commands_of"]


@dataclass(frozen=True)
class BundleData:
    """What a bundle is measured on.

    Attributes:
        folder: of its data, below the folder of all data.
        settings: of training and evaluation alike, as ``spatial_size``.
        epochs: length as a multiple of the run's, so that few images are seen more often, and many less.
    """

    folder: str
    settings: Mapping[str, object] = field(default_factory=dict)
    epochs: float = 1


#: What each bundle is measured on.
DATA = {
    "skin_lesion_segmentation": BundleData("isic2017"),
    "breast_ultrasound_segmentation": BundleData("busi"),
    "chest_xray_segmentation": BundleData("cxr-lungs"),
    "chest_xray_organs_segmentation": BundleData("cxr-multiclass", epochs=3),
    "nuclei_segmentation": BundleData("dsb2018"),
    "retinal_vessel_segmentation": BundleData("chasedb1"),
    "cardiac_mr_segmentation": BundleData("acdc", epochs=0.34),
    "hippocampus_mr_segmentation": BundleData("msd-hippocampus", {"spatial_size": "[128,128]"}, epochs=0.34),
}

#: Where training starts: at the published encoder, which stays frozen beside its adapters, or at random values, all of
#: which are trained.
STARTS: dict[str, dict[str, object]] = {
    "pretrained": {},
    "random": {"weights": "random", "freeze_encoder": False, "adapter_channels": 0, "learning_rate": 0.0003},
}


def commands_of(
    bundle: str, start: str, training: Mapping[str, object], network: Mapping[str, object], fold: int
) -> Commands:
    """The command lines of a training and of its evaluation.

    Args:
        bundle: its name.
        start: one of :data:`STARTS`.
        training: settings of `train.yaml`.
        network: settings that training and evaluation share.
        fold: the part that is left out.
    """
    begun = STARTS[start]
    shared = {"dataset_dir": "{DIR}", "fold": fold, **network, **DATA[bundle].settings}
    trained_in = {"ckpt_dir": "{TRAINED}/models", "log_dir": "{TRAINED}/runs"}
    measured = {"ckpt_path": "{TRAINED}/models/model.pt", "output_dir": "{FOLDER}/eval"}
    own = {key: value for key, value in begun.items() if key == "adapter_channels"}
    return Commands(
        bundle_command("training", ["configs/train.yaml"], {**shared, **trained_in, **training, **begun}),
        {"eval": bundle_command("evaluating", ["configs/evaluate.yaml"], {**shared, **measured, **own})},
    )


def main(
    data_dir: Annotated[Path, typer.Option(help="Folder with a folder for each bundle's data.", exists=True)],
    output: Annotated[Path, typer.Option(help="Folder for a folder of results of each run.")],
    work_dir: Annotated[Path, typer.Option(help="Folder for checkpoints and logs; keep it to resume.")],
    bundles: Annotated[str, typer.Option(help="Comma-separated names of bundles.")] = ",".join(DATA),
    starts: Annotated[str, typer.Option(help="Comma-separated: pretrained, random.")] = ",".join(STARTS),
    fold: Annotated[int, typer.Option(help="The part, of five, that is left out and measured on.")] = 0,
    weights: Annotated[str, typer.Option(help="Encoder weights: sam2, sam2.1 or a file.")] = "sam2.1",
    encoder_size: Annotated[str, typer.Option(help="tiny, small, base_plus or large.")] = "tiny",
    size: Annotated[int, typer.Option(help="Height and width in pixels.")] = 256,
    max_epochs: Annotated[int, typer.Option(help="Epochs.", min=1)] = 20,
    batch_size: Annotated[int, typer.Option(help="Images a step.", min=1)] = 4,
    precision: Annotated[str, typer.Option(help="auto, bf16 or fp32.")] = "auto",
    num_workers: Annotated[int, typer.Option(help="Processes that load images.")] = 2,
    minutes: Annotated[float | None, typer.Option(help="Stop after so long; the same command goes on.")] = None,
) -> None:
    """Train and evaluate; write the results."""
    until = None if minutes is None else time.monotonic() + 60 * minutes
    places = {}
    if Path(weights).is_file():
        places["{WEIGHTS}"], weights = Path(weights).resolve(), "{WEIGHTS}"
    network = {
        "encoder_size": encoder_size,
        "spatial_size": f"[{size},{size}]",
        "precision": precision,
        "num_workers": num_workers,
    }
    for bundle in bundles.split(","):
        places["{DIR}"] = (data_dir / DATA[bundle].folder).resolve()
        data_sha256 = files_sha256(places["{DIR}"])
        epochs = max(1, round(max_epochs * DATA[bundle].epochs))
        training = {"weights": weights, "max_epochs": epochs, "batch_size": batch_size}
        for start in starts.split(","):
            print(f"== {bundle}, {start}", flush=True)
            folder = work_dir.resolve() / bundle / start
            commands = commands_of(bundle, start, training, network, fold)
            try:
                run = BundleRun(bundle, commands, folder, folder, dict(places), data_sha256, until)
                run()
            except OutOfTime:
                raise SystemExit("The time is over. The same command goes on from here.") from None
            run.write(output / bundle / start, bundle=bundle, start=start, fold=fold, shared={**network, **training})


if __name__ == "__main__":
    typer.run(main)

# SPDX-License-Identifier: Apache-2.0
"""``sam2unet demo``: the whole way from images to a picture of predictions, without any download."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from monai_sam2unet.cli.bundle_run import run_bundle
from monai_sam2unet.errors import ConfigError

__all__ = ["demo"]

BUNDLE = Path(__file__).parents[2] / "bundles" / "polyp_segmentation"
# Without pretrained weights a frozen encoder would know nothing: here all of it is trained, on small images.
NETWORK = {"encoder_size": "tiny", "spatial_size": "[128,128]"}
TRAINING = {
    "weights": "random",
    "freeze_encoder": "False",
    "learning_rate": "0.0003",
    "warmup_epochs": "0",
    "batch_size": "8",
}


def _run(console: Console, run_id: str, config: str, **overrides: object) -> None:
    words = [word for key, value in overrides.items() for word in (f"--{key}", str(value))]
    run_bundle(console, run_id, f"configs/{config}.yaml", words, BUNDLE)


def demo(
    output: Annotated[Path, typer.Option(help="Folder for the images, checkpoints, results and picture.")] = Path(
        "demo"
    ),
    epochs: Annotated[int, typer.Option(min=1, help="Epochs to train; more is better and slower.")] = 8,
    images: Annotated[int, typer.Option(min=10, help="Phantoms to train on.")] = 160,
) -> None:
    """Train, evaluate and predict with the polyp bundle on phantoms made on the spot.

    The phantoms look like colonoscopy with polyps, but are computed: the result shows that everything works, and says
    nothing about real polyps. Nothing is downloaded; a few minutes on two CPU cores.
    """
    # `--help` should not wait for torch and MONAI.
    from monai_sam2unet.data import write_polyp_phantoms
    from monai_sam2unet.handlers import write_contact_sheet

    console = Console()
    if not BUNDLE.is_dir():
        raise ConfigError(
            f"The bundles are not beside the package ({BUNDLE}). The demo runs from a clone of the repository: "
            "`make demo`."
        )
    output = output.resolve()
    console.print(f"Writing {images} + 32 phantoms to {output / 'data'} ...")
    data = write_polyp_phantoms(output / "data", num_train=images, num_test=32)
    network = dict(NETWORK, num_workers=0)
    checkpoint = output / "models" / "model.pt"
    _run(
        console, "training", "train", dataset_dir=data, ckpt_dir=checkpoint.parent, log_dir=output / "runs",
        max_epochs=epochs, **network, **TRAINING,
    )  # fmt: skip
    _run(
        console, "inferring", "inference", dataset_dir=data / "TestDataset" / "Phantom" / "images",
        ckpt_path=checkpoint, output_dir=output / "predictions", **network,
    )  # fmt: skip
    _run(
        console, "evaluating", "evaluate", dataset_dir=data, ckpt_path=checkpoint, output_dir=output / "eval", **network
    )
    test_set = data / "TestDataset" / "Phantom"
    picture = write_contact_sheet(
        output / "predictions.png", test_set / "images", test_set / "masks", output / "predictions" / "masks"
    )
    console.print(f"\nImage, truth and prediction side by side: {picture}", soft_wrap=True)

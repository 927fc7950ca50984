# SPDX-License-Identifier: Apache-2.0
"""``sam2unet ensemble``: predicts, or measures, with the mean of several networks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
import yaml
from rich.console import Console

from monai_sam2unet.cli.bundle_run import run_bundle
from monai_sam2unet.cli.output_folder import make_output_folder
from monai_sam2unet.cli.settings import bundle_settings
from monai_sam2unet.errors import ConfigError

__all__ = ["ensemble"]

#: Settings that the command has other words for.
OWN = {
    "config_file": "BUNDLE and --evaluate",
    "bundle_root": "BUNDLE",
    "ckpt_path": "CHECKPOINT",
    "ckpt_paths": "CHECKPOINT",
    "dataset_dir": "--input",
    "output_dir": "--output",
}


def _split(words: list[str]) -> tuple[list[Path], list[str]]:
    """The checkpoints, and the settings after them, which must be pairs ``--key value``."""
    start = next((i for i, word in enumerate(words) if word.startswith("--")), len(words))
    checkpoints, settings = [Path(word) for word in words[:start]], words[start:]
    if not checkpoints:
        raise ConfigError(f"No checkpoint is named before {words[0]}. Name those of the folds after BUNDLE.")
    bundle_settings(settings, OWN)
    return checkpoints, settings


def _trains_on(config: Path, images: Path) -> bool:
    """Whether images without a part for tests are those that a planned bundle was made for."""
    own = yaml.safe_load(config.read_text(encoding="utf-8"))["dataset_dir"]
    return Path(own).is_absolute() and Path(own).resolve() == images.resolve() and not (images / "TestDataset").is_dir()


def ensemble(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle that the networks were trained with.")],
    checkpoints: Annotated[
        list[str], typer.Argument(metavar="CHECKPOINT", help="What the trainings wrote, as fold0.pt fold1.pt.")
    ],
    images: Annotated[Path, typer.Option("--input", help="Images or volumes, as the bundle's dataset_dir.")],
    output: Annotated[Path, typer.Option(help="Folder of the predictions, or of the measured scores.")],
    evaluate: Annotated[
        bool, typer.Option("--evaluate", help="Measure on --input, images with masks, instead of predicting.")
    ] = False,
) -> None:
    """Average the networks of several trainings, as of five folds: predict images or volumes with a bundle.

    The probabilities of the networks are averaged; all else is as the bundle's inference.yaml has it, or with
    --evaluate its evaluate.yaml. Its settings are given after the checkpoints, as `--encoder_size tiny`: all
    checkpoints must have been trained with them. It takes as many times the time as there are checkpoints.

    Measure on cases that none of the networks was trained on. What one fold leaves out, the others have seen, and cases
    that the files beside the checkpoints name are refused. Networks that left out the same fold may be given --fold.
    """
    # `--help` should not wait for torch and MONAI.
    from monai_sam2unet.bundle.ensemble import ENSEMBLE_OVERLAY
    from monai_sam2unet.data import TrainingCases

    paths, settings = _split(checkpoints)
    name, run_id = ("evaluate", "evaluating") if evaluate else ("inference", "inferring")
    config = bundle.resolve() / "configs" / f"{name}.yaml"
    if not config.is_file():
        raise ConfigError(f"{bundle} is no bundle: it has no file configs/{name}.yaml.")
    absent = [str(path) for path in paths if not path.is_file()]
    if absent:
        raise ConfigError(f"There is no checkpoint {', '.join(absent)}.")
    # Where it is known what all were trained on, the evaluation itself tells better what may be measured.
    if evaluate and not all(TrainingCases.path_of(path).is_file() for path in paths):
        told = "What one fold leaves out, the networks of the others have seen; measure on other cases."
        if any(word.partition("=")[0] == "--fold" for word in settings):
            raise ConfigError(told)
        if _trains_on(config, images):
            raise ConfigError(f"{images} is what the bundle trains on. {told}")
    make_output_folder(output)
    words = [
        *("--bundle_root", str(bundle.resolve())),
        *("--ckpt_paths", str([str(path.resolve()) for path in paths])),
        *("--dataset_dir", str(images.resolve())),
        *("--output_dir", str(output.resolve())),
        *settings,
    ]
    run_bundle(Console(), run_id, str([str(config), str(ENSEMBLE_OVERLAY)]), words, None)

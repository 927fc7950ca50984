# SPDX-License-Identifier: Apache-2.0
"""``sam2unet weights``: fetch Meta's published encoders, and take what was trained on them out of a checkpoint."""

from __future__ import annotations

from dataclasses import replace
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Weights: the published SAM 2 encoders, and what was trained on them.", no_args_is_help=True)


class Size(str, Enum):
    """Sizes of the encoder."""

    tiny = "tiny"
    small = "small"
    base_plus = "base_plus"
    large = "large"


class Version(str, Enum):
    """Versions of the published weights."""

    sam2 = "sam2"
    sam2_1 = "sam2.1"


@app.command()
def download(
    size: Annotated[Size, typer.Argument(help="Size of the encoder; the paper uses large.")],
    version: Annotated[Version, typer.Option(help="SAM 2 or SAM 2.1.")] = Version.sam2_1,
) -> None:
    """Fetch an encoder from the Hugging Face hub into its cache, or find it there.

    A connection that breaks on the way is taken up again where it broke.

    Bundles then find it by its name: `--weights sam2.1 --encoder_size SIZE`.
    """
    # `--help` should not wait for torch.
    from monai_sam2unet.networks.hub import download_weights, hub_id

    path = download_weights(hub_id(size.value, version.value))
    print(path)
    print(f"Use it as: --weights {version.value} --encoder_size {size.value}")


@app.command()
def extract(
    checkpoint: Annotated[Path, typer.Argument(help="What training wrote, such as models/model.pt.")],
    output: Annotated[Path, typer.Argument(help="The .safetensors file to write.")],
    weights: Annotated[Version, typer.Option(help="What the training started from.")],
    encoder_rank: Annotated[
        int | None, typer.Option(help="Of a trained encoder: rank to which its changes are kept, as 16.", min=1)
    ] = None,
) -> None:
    """Write what was trained, without the frozen encoder, in 16 bits: a small file to give away.

    The file names the encoder that it belongs to, which is fetched where the file is loaded. In a bundle it is given as
    --ckpt_path, with the training's --encoder_size, --spatial_size and the like. The file with the cases of the
    training, which lies beside the checkpoint, is written beside it, too.

    An encoder that was trained, too, is kept nearly: its changes are written as products of small matrices. Evaluate
    the file to see what that costs.
    """
    from monai_sam2unet.data import TrainingCases
    from monai_sam2unet.handlers.atomic_file import save_cases
    from monai_sam2unet.networks.trained_part import save_trained_part

    cases = TrainingCases.of_checkpoint(checkpoint)
    written = save_trained_part(checkpoint, output, weights.value, encoder_rank)
    save_cases(cases, written.path)
    print(f"{written.path}: {written.num_bytes / 1e6:.1f} MB, SHA-256 {written.sha256}")
    print(", ".join(f"{name} {value}" for name, value in written.choices.items()))
    if written.kept is not None:
        print(f"Of the change of the encoder's matrices {written.kept:.1%} is kept (sum of squares).")
    if cases is None:
        print(f"What {checkpoint} was trained on is not noted beside it, and so is not beside this file.")


@app.command()
def average(
    checkpoints: Annotated[list[Path], typer.Argument(help="Full checkpoints of one network, at least two.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The .pt file to write.")],
) -> None:
    """Average the weights of a network before and after it was trained further: one network, often the better one.

    Trainings that each started from random adapters are not averaged like this: their predictions are, by the bundles'
    ensemble.yaml. What the checkpoints were trained on, as noted beside them, is noted beside the average;
    settings only where all have the same.
    """
    from monai_sam2unet.data import TrainingCases
    from monai_sam2unet.errors import ConfigError
    from monai_sam2unet.handlers.atomic_file import save_with_cases
    from monai_sam2unet.networks.checkpoint_average import average_checkpoints

    if output.suffix != ".pt" or not output.parent.is_dir():
        raise ConfigError(f"The output is a .pt file in a folder that exists, got {output}.")
    mean = average_checkpoints(checkpoints)
    known = [TrainingCases.of_checkpoint(checkpoint) for checkpoint in checkpoints]
    cases = [found for found in known if found is not None]
    unknown = [checkpoint for checkpoint, found in zip(checkpoints, known, strict=True) if found is None]
    noted = TrainingCases({}, {}, unknown=tuple(checkpoint.name for checkpoint in unknown))
    together = cases[-1].with_earlier([*cases[:-1], noted]) if cases else None
    if together is not None and (unknown or any(other.settings != together.settings for other in cases)):
        together = replace(together, settings={})
    save_with_cases(mean, output, together)
    print(output)
    for checkpoint in unknown:
        print(f"What {checkpoint} was trained on is not noted beside it, so that an evaluation cannot refuse it.")


@app.callback()
def _group() -> None:
    pass

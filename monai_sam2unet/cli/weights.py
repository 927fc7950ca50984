# SPDX-License-Identifier: Apache-2.0
"""``sam2unet weights``: fetch Meta's published encoders."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

import typer

__all__ = ["app"]

app = typer.Typer(help="Fetch the published SAM 2 encoders that training starts from.", no_args_is_help=True)


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


@app.callback()
def _group() -> None:
    pass

# SPDX-License-Identifier: Apache-2.0
"""``sam2unet label``: a MONAI Label server with the bundles as its models."""

from __future__ import annotations

import importlib.util
import os
import socket
from pathlib import Path
from typing import Annotated

import typer

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import why_not_writable

__all__ = ["label"]

#: Where MONAI Label writes, unless another folder is named.
CACHE = Path.home() / ".cache" / "monai_sam2unet" / "label"
MAIN = "from monai_sam2unet.label.app import SAM2UNetApp as SAM2UNetApp\n"


def _app_folder(folder: Path) -> Path:
    """A folder for MONAI Label to write its logs to, with the app's ``main.py``."""
    reason = why_not_writable(folder)
    if reason is not None:
        raise ConfigError(f"--app: {folder} cannot be written to: {reason}. Name another folder.")
    (folder / "main.py").write_text(MAIN, encoding="utf-8")
    return folder


def _conf(words: list[str]) -> list[str]:
    pairs = [word.partition("=") for word in words]
    wrong = [word for word, (key, equals, _) in zip(words, pairs, strict=True) if not (key and equals)]
    if wrong:
        raise ConfigError(f"--conf takes KEY=VALUE, as encoder_size=tiny; got {', '.join(wrong)}.")
    return [word for key, _, value in pairs for word in ("--conf", key, value)]


def _check_port(host: str, port: int) -> None:
    try:
        with socket.create_server((host, port)):
            return
    except OSError as error:
        raise ConfigError(
            f"--port: {host}:{port} cannot be listened at: {error.strerror}. Give another one."
        ) from error


def label(
    studies: Annotated[str, typer.Option(help="Folder of images, or address of a DICOMweb store (http://...).")],
    bundle: Annotated[
        list[Path] | None, typer.Option(help="Folder of a trained bundle; may be repeated. Else all in --bundles.")
    ] = None,
    bundles: Annotated[Path, typer.Option(help="Folder of bundles: those with weights are run.")] = Path("bundles"),
    conf: Annotated[
        list[str] | None, typer.Option(help="Setting of the bundles' inference.yaml, encoder_size=tiny; repeatable.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to listen at; 0.0.0.0: for other computers, too.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port to listen at.")] = 8000,
    auth: Annotated[
        bool, typer.Option("--auth", help="Ask for tokens of the realm MONAI_LABEL_AUTH_REALM_URI: docs/labelling.md.")
    ] = False,
    app: Annotated[
        Path, typer.Option(help="Folder for MONAI Label's app and logs; made if missing.", file_okay=False)
    ] = CACHE,
) -> None:
    """Start a MONAI Label server, for viewers as 3D Slicer and OHIF, with trained bundles as its models.

    Each bundle runs as its own inference does: images of its modality in, masks on the images' own grid out. MONAI
    Label is installed beside this package by `make label`: docs/labelling.md.
    """
    if importlib.util.find_spec("monailabel") is None:
        raise ConfigError("MONAI Label is not installed here. In a clone: make label; see docs/labelling.md.")
    if not studies.startswith(("http://", "https://")) and not Path(studies).is_dir():
        raise ConfigError(f"--studies: there is no folder {studies}.")
    models = ["--conf", "models", ",".join(str(path.resolve()) for path in bundle)] if bundle else []
    settings = _conf(conf or [])

    if auth:
        # MONAI Label reads its settings when it is imported.
        os.environ["MONAI_LABEL_AUTH_ENABLE"] = "true"
    # `--help` and these mistakes should not wait for torch. What cannot be run is said before the server starts.
    from monai_sam2unet.label import compat

    compat.apply()
    from monailabel.config import settings as label_settings
    from monailabel.main import Main

    from monai_sam2unet.label.authentication import check_authentication
    from monai_sam2unet.label.find_bundles import check_settings, find_bundles

    check_authentication(label_settings)
    check_settings(find_bundles(bundles, models[-1] if models else None), settings[1::3])
    _check_port(host, port)
    main = Main(actions="start_server")
    words = ["start_server", "--app", str(_app_folder(app)), "--studies", studies, "--host", host, "--port", str(port)]
    words += ["--conf", "bundles", str(bundles.resolve()), *models, *settings]
    words += ["--uvicorn_app", "monai_sam2unet.label.server:app"]
    main.action_start_server(main.args_parser().parse_args(words))

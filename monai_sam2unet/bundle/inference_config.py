# SPDX-License-Identifier: Apache-2.0
"""Reads a bundle's inference config for programs that take parts of it, as its network and its preprocessing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from monai.bundle import ConfigParser

from monai_sam2unet.errors import ConfigError, UserError, causes

__all__ = ["parsed_content", "read_inference_config"]


def read_inference_config(
    folder: str | Path, settings: Mapping[str, Any] | None = None, overlay: str | Path | None = None
) -> ConfigParser:
    """Read a bundle's ``configs/inference.yaml`` and ``configs/metadata.json``.

    Args:
        folder: of the bundle.
        settings: for keys of the config, as on MONAI's command line: ``{"encoder_size": "tiny"}``.
        overlay: config put after it.

    Returns:
        The parser; the metadata is under ``_meta_``.

    Raises:
        ConfigError: When the folder is no bundle, or the config lacks a key.
    """
    config, metadata = Path(folder) / "configs" / "inference.yaml", Path(folder) / "configs" / "metadata.json"
    absent = [str(file) for file in (config, metadata) if not file.is_file()]
    if absent:
        raise ConfigError(f"{folder} is no bundle: there is no {' and no '.join(absent)}.")
    parser = ConfigParser()
    parser.read_config([config] if overlay is None else [config, overlay])
    parser.read_meta(metadata)
    for key, value in (settings or {}).items():
        if key not in parser:
            raise ConfigError(f"{config} has no key {key!r}. Its keys are: {', '.join(sorted(parser.get()))}.")
        parser[key] = value
    return parser


def parsed_content(parser: ConfigParser, key: str, folder: str | Path) -> Any:
    """What a key of a bundle's inference config makes.

    Args:
        parser: of :func:`read_inference_config`.
        key: as ``network_def``.
        folder: of the bundle, for the error's text.

    Raises:
        ConfigError: When it cannot be made.
        UserError: What else kept it from being made, as ``WeightsError``.
    """
    try:
        return parser.get_parsed_content(key)
    except RuntimeError as error:  # what MONAI makes of anything that goes wrong
        chain = causes(error)
        mistake = next((cause for cause in chain if isinstance(cause, UserError)), None)
        config = Path(folder) / "configs" / "inference.yaml"
        raise mistake or ConfigError(f"{key} of {config} cannot be made with these settings: {chain[-1]}") from error

# SPDX-License-Identifier: Apache-2.0
"""Writes the files of a bundle from its plan."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.metadata import bundle_metadata

__all__ = ["render_configs", "write_bundle"]

_TEMPLATES = Path(__file__).parent / "templates"


def render_configs(plan: BundlePlan) -> dict[str, str]:
    """The texts of a bundle's configs.

    Args:
        plan: what the bundle is for.

    Returns:
        Texts by file name, as ``train.yaml``; `metadata.json` among them.
    """
    folder = _TEMPLATES / "configs"
    environment = Environment(
        loader=FileSystemLoader([folder, _TEMPLATES / "parts"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    names = sorted(path.name for path in folder.iterdir())
    configs = {name: environment.get_template(name).render(plan=plan) for name in names}
    return {**configs, "metadata.json": bundle_metadata(plan)}


def write_bundle(plan: BundlePlan, folder: str | Path) -> Path:
    """Write a bundle: `configs/`, and an empty `models/`.

    Args:
        plan: what the bundle is for.
        folder: the bundle's; it is made, and must not exist.

    Returns:
        The folder.

    Raises:
        ConfigError: When the folder exists.
    """
    root = Path(folder)
    if root.exists():
        raise ConfigError(f"{root} exists already; a bundle is not written over what is there. Give another folder.")
    (root / "configs").mkdir(parents=True)
    (root / "models").mkdir()
    for name, text in render_configs(plan).items():
        (root / "configs" / name).write_text(text, encoding="utf-8")
    return root

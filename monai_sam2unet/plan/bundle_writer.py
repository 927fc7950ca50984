# SPDX-License-Identifier: Apache-2.0
"""Writes the files of a bundle from its plan."""

from __future__ import annotations

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.metadata import bundle_metadata, references_of

__all__ = ["render_configs", "render_readme", "write_bundle"]

_TEMPLATES = Path(__file__).parent / "templates" / "picture"


_README = "README.md"


def _environment() -> Environment:
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render_configs(plan: BundlePlan) -> dict[str, str]:
    """The texts of a bundle's configs.

    Args:
        plan: what the bundle is for.

    Returns:
        Texts by file name, as ``train.yaml``; ``metadata.json`` among them.
    """
    environment = _environment()
    names = sorted(path.name for path in _TEMPLATES.iterdir() if path.name != _README)
    configs = {name: environment.get_template(name).render(plan=plan) for name in names}
    return {**configs, "metadata.json": bundle_metadata(plan)}


def render_readme(plan: BundlePlan) -> str:
    """The text of a bundle's `docs/README.md`, under the headings of MONAI's model zoo.

    Args:
        plan: what the bundle is for.
    """
    return _environment().get_template(_README).render(plan=plan, references=references_of(plan))


def write_bundle(plan: BundlePlan, folder: str | Path) -> Path:
    """Write a bundle: `configs/`, `docs/README.md`, and an empty `models/`.

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
    for part in ("configs", "docs", "models"):
        (root / part).mkdir(parents=True)
    for name, text in render_configs(plan).items():
        (root / "configs" / name).write_text(text, encoding="utf-8")
    (root / "docs" / _README).write_text(render_readme(plan), encoding="utf-8")
    return root

# SPDX-License-Identifier: Apache-2.0
"""Writes the files of a bundle from its plan."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan.bundle_plan import BundlePlan
from monai_sam2unet.plan.metadata import bundle_metadata, references_of

__all__ = ["render_configs", "render_readme", "template_environment", "write_bundle"]

_TEMPLATES = Path(__file__).parent / "templates"
_README = "README.md"
_LICENSE = "LICENSE"
#: Settings that an inference has for itself: other images, and as many a step as it likes.
_NOT_OF_INFERENCE = ("dataset_dir", "batch_size")


def template_environment() -> Environment:
    """What renders the templates, by their paths below `templates/`."""
    return Environment(
        loader=FileSystemLoader(_TEMPLATES),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def _with_setting(text: str, name: str, value: object) -> str:
    """A config with another value of a setting at its top; what stands behind it stays in its column."""
    told = value if isinstance(value, str) and re.fullmatch(r"[a-z][a-z0-9_.]*", value) else json.dumps(value)

    def changed(found: re.Match[str]) -> str:
        start = f"{name}: {told}"
        return start if not found[2] else f"{start.ljust(len(found[0]) - len(found[2]) - 1)} {found[2]}"

    return re.sub(rf"^{name}: (.*?) *(#.*)?$", changed, text, count=1, flags=re.M)


def render_configs(plan: BundlePlan) -> dict[str, str]:
    """The texts of a bundle's configs.

    Args:
        plan: what the bundle is for.

    Returns:
        Texts by file name, as ``train.yaml``; ``metadata.json`` among them.

    Raises:
        ConfigError: When the plan has a setting that no config has.
    """
    environment = template_environment()
    names = sorted(path.name for path in (_TEMPLATES / "configs").iterdir())
    configs = {name: environment.get_template(f"configs/{name}").render(plan=plan) for name in names}
    for name, value in plan.settings.items():
        files = [file for file, text in configs.items() if re.search(rf"^{name}: ", text, re.M)]
        if not files:
            raise ConfigError(f"The plan {plan.name} sets {name!r}, which no config of a bundle has.")
        for file in files:
            if file != "inference.yaml" or name not in _NOT_OF_INFERENCE:
                configs[file] = _with_setting(configs[file], name, value)
    return {**configs, "metadata.json": bundle_metadata(plan)}


def render_readme(plan: BundlePlan) -> str:
    """The text of a bundle's `docs/README.md`, under the headings of MONAI's model zoo.

    Args:
        plan: what the bundle is for.
    """
    return template_environment().get_template(_README).render(plan=plan, references=references_of(plan))


def write_bundle(plan: BundlePlan, folder: str | Path) -> Path:
    """Write a bundle: `configs/`, `docs/README.md`, `LICENSE`, and an empty `models/`.

    The licence is this package's, from whose texts the configs are made. What is trained with them is not under it.

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
    shutil.copyfile(_TEMPLATES / _LICENSE, root / _LICENSE)
    return root

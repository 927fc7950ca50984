# SPDX-License-Identifier: Apache-2.0
"""Writes the configs and docs of the repository's own bundles anew, from their plans.

python -m monai_sam2unet.plan configs/plans bundles
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from monai_sam2unet.plan import BundlePlan, render_configs, render_readme


def main(
    plans: Annotated[Path, typer.Argument(help="Folder of plans, NAME.yaml.")],
    bundles: Annotated[Path, typer.Argument(help="Folder of bundles; each is written to NAME/.")],
) -> None:
    """Write configs and docs."""
    for file in sorted(plans.glob("*.yaml")):
        plan = BundlePlan.from_yaml(file)
        folder = bundles / plan.name
        texts = {Path("configs", name): text for name, text in render_configs(plan).items()}
        if plan.readme:
            texts[Path("docs", "README.md")] = render_readme(plan)
        for name, text in texts.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text, encoding="utf-8")
        typer.echo(f"{folder}: {plan.version}")


if __name__ == "__main__":
    typer.run(main)

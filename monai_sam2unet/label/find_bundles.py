# SPDX-License-Identifier: Apache-2.0
"""The bundles that a server runs."""

from __future__ import annotations

from pathlib import Path

from monai_sam2unet.bundle.bundle_config import TRAINED, has_weights
from monai_sam2unet.errors import ConfigError, listing

__all__ = ["find_bundles"]


def _is_bundle(folder: Path) -> bool:
    return (folder / "configs" / "inference.yaml").is_file()


def find_bundles(root: Path, names: str | None = None) -> list[Path]:
    """The bundles to run.

    Args:
        root: folder of bundles.
        names: of those to take, or the words before their first underscore (``"polyp,cardiac"``), or paths, commas
            between them; None: all with weights.

    Raises:
        ConfigError: When there is none, or one that is named is missing or has no weights.
    """
    known = {path.name: path for path in sorted(root.iterdir()) if _is_bundle(path)} if root.is_dir() else {}
    if names is None:
        found = [path for path in known.values() if has_weights(path)]
        if not found:
            raise ConfigError(f"No bundle in {root.absolute()} has weights ({TRAINED}). Train one, or name others.")
        return found
    found, problems = [], []
    for name in filter(None, (word.strip() for word in names.split(","))):
        fits = [path for key, path in known.items() if name in (key, key.split("_")[0])]
        fits = fits or [Path(name)] * _is_bundle(Path(name))
        if len(fits) != 1:
            problems.append(f"{name}: " + (f"may be {', '.join(path.name for path in fits)}" if fits else "no bundle"))
        elif not has_weights(fits[0]):
            problems.append(f"{name}: no weights ({fits[0] / TRAINED}); train it first")
        else:
            found += fits
    if problems:
        told = f"{root.absolute()} has {', '.join(known) or 'none'}"
        raise ConfigError(f"Not all bundles can be run; {told}:\n{listing(problems)}")
    return found

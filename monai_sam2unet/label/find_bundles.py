# SPDX-License-Identifier: Apache-2.0
"""The bundles that a server runs."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from monai.bundle import ConfigParser

from monai_sam2unet.bundle.bundle_config import TRAINED, has_weights
from monai_sam2unet.errors import ConfigError, listing

__all__ = ["check_settings", "find_bundles"]

INFERENCE = Path("configs", "inference.yaml")
#: Keys of ``--conf`` that are the app's own.
APP_KEYS = ("bundles", "models", "preload")


def _is_bundle(folder: Path) -> bool:
    return (folder / INFERENCE).is_file()


def _told_apart(found: list[Path]) -> list[Path]:
    """Refuse bundles whose models would have one name; one that is named twice is taken once."""
    found = list({path.resolve(): path for path in found}.values())
    folders: dict[str, list[Path]] = {}
    for path in found:
        for model in (path.name, *(f"{path.name}{suffix}" for suffix in ("_edit", "_scribbles"))):
            folders.setdefault(model, []).append(path)
    problems = [f"{model}: {', '.join(map(str, paths))}" for model, paths in folders.items() if len(paths) > 1]
    if problems:
        raise ConfigError(
            "Models are called as the folders of their bundles, with _edit and _scribbles those for clicks and "
            f"scribbles. Rename a folder; one name have:\n{listing(problems)}"
        )
    return found


def find_bundles(root: Path, names: str | None = None) -> list[Path]:
    """The bundles to run.

    Args:
        root: folder of bundles.
        names: of those to take, or the words before their first underscore (``"polyp,cardiac"``), or paths, commas
            between them; None: all with weights.

    Raises:
        ConfigError: When there is none, or one that is named is missing or has no weights; or when two have
            models of one name.
    """
    known = {path.name: path for path in sorted(root.iterdir()) if _is_bundle(path)} if root.is_dir() else {}
    if names is None:
        found = [path for path in known.values() if has_weights(path)]
        if not found:
            raise ConfigError(f"No bundle in {root.absolute()} has weights ({TRAINED}). Train one, or name others.")
        return _told_apart(found)
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
    return _told_apart(found)


def check_settings(folders: Iterable[Path], keys: Iterable[str]) -> None:
    """Refuse settings that no bundle has.

    Args:
        folders: of the bundles.
        keys: of the settings.

    Raises:
        ConfigError: When one is no key of any inference config, nor the app's own.
    """
    known = {*APP_KEYS, *(key for folder in folders for key in ConfigParser.load_config_file(folder / INFERENCE))}
    for key in keys:
        if key not in known:
            like = get_close_matches(key, known, 1)
            hint = f" Did you mean {like[0]}?" if like else ""
            raise ConfigError(f"--conf {key}: no bundle has this key in its {INFERENCE.name}.{hint}")

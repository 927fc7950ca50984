# SPDX-License-Identifier: Apache-2.0
"""Makes ``python -m monai.bundle run`` answer mistakes with a few lines instead of a traceback, or with silence."""

from __future__ import annotations

import ast
import difflib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle import run as bundle_run
from monai.bundle.utils import ID_SEP_KEY

from monai_sam2unet.errors import ConfigError, UserError

__all__ = ["check_arguments", "explain_user_errors"]


def _causes(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain


def _explanation(error: BaseException) -> str | None:
    """What to print in place of a traceback, for an error that the user can mend."""
    for cause in _causes(error):
        if isinstance(cause, UserError):
            return str(cause)
        if isinstance(cause, torch.OutOfMemoryError):
            return (
                "The GPU has too little memory. Try a smaller `--batch_size`, a smaller `--spatial_size` or "
                "`--encoder_size`, or `--network_def::use_checkpoint True`."
            )
    return None


def explain_user_errors() -> None:
    """From now on, end the process on a :class:`~monai_sam2unet.errors.UserError` with its text alone; exit code 1."""
    others = sys.excepthook

    def explain(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        text = _explanation(error)
        if text is None:
            others(kind, error, traceback)
        else:
            print(f"error: {text}", file=sys.stderr)

    sys.excepthook = explain


def _arguments(argv: Sequence[str]) -> dict[str, str]:
    """The ``--name value`` and ``--name=value`` pairs of a command line."""
    pairs = {}
    for i, word in enumerate(argv):
        if word.startswith("--"):
            name, equals, value = word[2:].partition("=")
            following = argv[i + 1] if i + 1 < len(argv) else ""
            pairs[name.replace("-", "_")] = value if equals else following  # as Fire reads them
    return pairs


def _config_files(value: str) -> list[str]:
    try:
        parsed = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return [value]
    return [str(f) for f in parsed] if isinstance(parsed, (list, tuple)) else [value]


def _has_parent(config: Any, parts: Sequence[str]) -> bool:
    for part in parts[:-1]:
        if isinstance(config, list) and part.isdigit() and int(part) < len(config):
            config = config[int(part)]
        elif isinstance(config, dict) and part in config:
            config = config[part]
        else:
            return False
    return len(parts) > 1 or parts[0] in config


def check_arguments(argv: Sequence[str]) -> None:
    """Refuse overrides of ``monai.bundle run`` that name nothing in the config; MONAI would add them in silence.

    A new argument of something that exists (``--network_def::dropout 0.1``) is allowed.

    Args:
        argv: the command line, the program first. Those of other programs are passed over.

    Raises:
        ConfigError: When a name is not in the config; the text gives the nearest ones.
    """
    if not argv or Path(argv[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return
    pairs = _arguments(argv[1:])
    if "config_file" not in pairs:
        return
    config = ConfigParser.load_config_files(_config_files(pairs["config_file"]))
    own = set(inspect.signature(bundle_run).parameters)
    for name in pairs:
        parts = name.replace("#", ID_SEP_KEY).split(ID_SEP_KEY)
        if name in own or parts[0] == "_meta_" or _has_parent(config, parts):
            continue
        near = difflib.get_close_matches(parts[0], list(config), n=3)
        hint = f" Did you mean {' or '.join('--' + n for n in near)}?" if near else ""
        raise ConfigError(f"The config has no key {name!r}.{hint}\nIts keys are: {', '.join(sorted(config))}.")

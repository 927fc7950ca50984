# SPDX-License-Identifier: Apache-2.0
"""Makes ``python -m monai.bundle run`` answer mistakes with a few lines instead of a traceback, or with silence."""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from monai.bundle import ConfigParser
from monai.bundle import run as bundle_run
from monai.bundle.utils import ID_SEP_KEY

from monai_sam2unet.bundle.present_device import present_device
from monai_sam2unet.errors import ConfigError, UserError, causes, text_of

TRACEBACK_VARIABLE = "SAM2UNET_TRACEBACK"
#: What begins an expression, a reference and a file in a config of MONAI.
CONFIG_MARKS = ("$", "@", "%")

__all__ = ["check_arguments", "explain_user_errors"]


def _explanation(error: BaseException) -> str | None:
    """What to print in place of a traceback, for an error that the user can mend."""
    chain = causes(error)
    for cause in chain:
        if isinstance(cause, UserError):
            return text_of(cause)
        if isinstance(cause, torch.OutOfMemoryError):
            return (
                "The GPU has too little memory. Try a smaller `--batch_size`, a smaller `--spatial_size` or "
                "`--encoder_size`, or in training `--use_checkpoint True`."
            )
        if isinstance(cause, KeyboardInterrupt):
            return "stopped. A training goes on after its last finished epoch with `--resume True`."
    refused = [re.match(r"Failed to instantiate component '([\w.]+)'", str(cause)) for cause in chain]
    if any(refused) and isinstance(chain[-1], (TypeError, ValueError)):
        name = next(match[1] for match in refused if match)
        return (
            f"{name.rpartition('.')[2]} does not take these settings: {chain[-1]}\n"
            f"Correct them in the config or on the command line ({TRACEBACK_VARIABLE}=1 shows where it happened)."
        )
    return None


def explain_user_errors() -> None:
    """From now on, end the process on an error that the user can mend with a few lines instead of a traceback.

    These are each :class:`~monai_sam2unet.errors.UserError`, settings that a component of the config refuses, too
    little GPU memory, and Ctrl-C. The environment variable ``SAM2UNET_TRACEBACK=1`` brings the traceback back.
    """
    others = sys.excepthook

    def explain(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        text = None if os.environ.get(TRACEBACK_VARIABLE) else _explanation(error)
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
    # Only what is instantiated can take an argument that the config does not have yet.
    return isinstance(config, list) or parts[-1] in config or "_target_" in config


def _check_word(name: str, value: str) -> None:
    """Refuse words that YAML knows and the command line would take for text."""
    if value in ("true", "false"):
        raise ConfigError(f"On the command line write --{name} {value.capitalize()}; {value!r} would be a text.")
    if value in ("null", "none", "None"):
        raise ConfigError(f"--{name} {value} cannot be given on the command line; set it in a config file.")


def check_arguments(argv: Sequence[str]) -> None:
    """Refuse overrides of ``monai.bundle run`` that name nothing in the config; MONAI would add them in silence.

    A new argument of something that exists (``--network_def::dropout 0.1``) is allowed.

    Args:
        argv: the command line, the program first. Those of other programs are passed over.

    Raises:
        ConfigError: When a name is not in the config (the text gives the nearest ones); or a value is ``true``,
            ``false``, ``null`` or ``none``, which would arrive as text, or ``None``, which MONAI passes over; or this
            machine does not have the ``device``.
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
        if name not in own:
            _check_word(name, pairs[name])
        if name == "device" and not pairs[name].startswith(CONFIG_MARKS):
            present_device(pairs[name])
        if name in own or parts[0] == "_meta_" or _has_parent(config, parts):
            continue
        near = difflib.get_close_matches(parts[0], list(config), n=3)
        hint = f" Did you mean {' or '.join('--' + n for n in near)}?" if near else ""
        raise ConfigError(f"The config has no key {name!r}.{hint}\nIts keys are: {', '.join(sorted(config))}.")

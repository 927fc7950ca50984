# SPDX-License-Identifier: Apache-2.0
"""Settings of a bundle's config among the words of a command line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import yaml

from monai_sam2unet.errors import ConfigError

__all__ = ["CONTEXT", "bundle_settings", "parsed_settings"]

#: Of a command that takes a bundle's own settings beside its options.
CONTEXT = {"ignore_unknown_options": True, "allow_extra_args": True}


def bundle_settings(words: Sequence[str], own: Mapping[str, str]) -> dict[str, str]:
    """Pairs ``--key value`` as a mapping, texts as they were given.

    Args:
        words: ``--key value`` or ``--key=value``, one after the other.
        own: keys that the command has other words for, and these.

    Raises:
        ConfigError: When a word is none of these, or a key is one of ``own``.

    Example:
        >>> bundle_settings(["--encoder-size", "tiny", "--flips=['rows']"], {})
        {'encoder_size': 'tiny', 'flips': "['rows']"}
    """
    settings: dict[str, str] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        key, equals, value = word.partition("=")
        if not key.startswith("--") or (not equals and (not rest or rest[0].startswith("--"))):
            raise ConfigError(f"A bundle's settings are given as `--batch_size 4`, after all else; {word!r} is none.")
        settings[key[2:].replace("-", "_")] = value if equals else rest.pop(0)
    given = [f"--{key}: {own[key]}" for key in settings if key in own]
    if given:
        raise ConfigError(f"This command has its own words for some settings: {', '.join(given)}.")
    return settings


def parsed_settings(settings: Mapping[str, str]) -> dict[str, Any]:
    """Values as MONAI's command line takes them: numbers, lists, true and false, and else texts.

    Args:
        settings: as :func:`bundle_settings` gives them.

    Raises:
        ConfigError: When a value cannot be read.

    Example:
        >>> parsed_settings({"spatial_size": "[64, 64]", "encoder_size": "tiny"})
        {'spatial_size': [64, 64], 'encoder_size': 'tiny'}
    """
    found: dict[str, Any] = {}
    for key, value in settings.items():
        try:
            found[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ConfigError(f"--{key} {value!r} cannot be read: quote it as Python and YAML have it.") from error
    return found

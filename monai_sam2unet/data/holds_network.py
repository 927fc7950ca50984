# SPDX-License-Identifier: Apache-2.0
"""Tells checkpoints of whole networks from those of encoders, without reading weights."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

__all__ = ["holds_network"]

#: Names in checkpoints of whole networks, and of what was trained of one, that published encoders do not have.
_OF_NETWORKS = ("encoder.patch_embed.proj.weight", "frozen_sha256")


def holds_network(path: Path) -> bool:
    """Whether a file holds a whole network, or what was trained of one: what only encoders lack, by its names.

    No weights are read; what cannot be read at all is told where the weights are loaded.

    Args:
        path: the file.
    """
    # What only lists and compares files should not wait for torch.
    import torch
    from safetensors import safe_open

    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                names = {*file.keys(), *(file.metadata() or {})}
        else:
            # Older files of torch are no archives, which alone can be mapped.
            names = _names(torch.load(path, "cpu", weights_only=True, mmap=zipfile.is_zipfile(path)))
    except Exception:  # the readers raise anything on bytes that are no weights
        return False
    return any(name.endswith(_OF_NETWORKS) for name in names)


def _names(content: Mapping[Any, Any]) -> set[str]:
    """Names in a checkpoint's mappings, at any depth."""
    below = [_names(value) for value in content.values() if isinstance(value, Mapping)]
    return set(map(str, content)).union(*below)

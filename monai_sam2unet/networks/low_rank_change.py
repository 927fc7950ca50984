# SPDX-License-Identifier: Apache-2.0
"""What a training changed in an encoder's weights, kept as products of two small matrices.

Fine-tuning changes a large matrix mostly in a few directions (Hu et al., arXiv 2106.09685), so that the strongest ones
of a singular value decomposition tell most of the change in a fraction of the numbers.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks.weights_fit import check_tensors

__all__ = ["Changes", "check_factors", "is_change", "low_rank_changes", "with_changes"]

#: A change is B A: A (rank, in_features), B (out_features, rank), under the weight's name and these.
_A, _B = ".change_a", ".change_b"


@dataclass(frozen=True)
class Changes:
    """What :func:`low_rank_changes` found.

    Attributes:
        tensors: factors of the changes of large matrices, and the new values of all else that was changed.
        kept: share of the matrices' changes that the factors tell, as sum of squares, 0..1; 1 where there is none.
    """

    tensors: dict[str, Tensor]
    kept: float


def is_change(name: str) -> bool:
    """Whether a tensor's name is that of a factor of a change."""
    return name.endswith((_A, _B))


def low_rank_changes(trained: Mapping[str, Tensor], before: Mapping[str, Tensor], rank: int) -> Changes:
    """Take apart what a training changed.

    Args:
        trained: tensors by name.
        before: the same, before the training.
        rank: of each matrix's change, at least 1. Matrices that it would not make smaller, vectors and convolutions are
            kept as they are.

    Raises:
        ConfigError: When ``rank`` is below 1.

    Example:
        >>> import torch
        >>> before = {"weight": torch.eye(8), "bias": torch.zeros(8)}
        >>> trained = {"weight": torch.eye(8) + torch.ones(8, 8), "bias": torch.zeros(8)}
        >>> changes = low_rank_changes(trained, before, rank=1)
        >>> {name: tuple(value.shape) for name, value in changes.tensors.items()}
        {'weight.change_a': (1, 8), 'weight.change_b': (8, 1)}
        >>> round(changes.kept, 3)
        1.0
    """
    if rank < 1:
        raise ConfigError(f"The rank of an encoder's changes must be at least 1, got {rank}.")
    found: dict[str, Tensor] = {}
    kept = whole = 0.0
    for name, old in before.items():
        new = trained[name]
        if torch.equal(new, old):
            continue
        if new.dim() != 2 or rank * sum(new.shape) >= new.numel():
            found[name] = new
            continue
        u, s, vh = torch.linalg.svd(new.double() - old.double(), full_matrices=False)
        root = s[:rank].sqrt()
        found[name + _A] = (root[:, None] * vh[:rank]).float()
        found[name + _B] = (u[:, :rank] * root).float()
        kept += float(s[:rank].square().sum())
        whole += float(s.square().sum())
    return Changes(found, kept / whole if whole else 1.0)


def check_factors(factors: Mapping[str, Tensor], matrices: Mapping[str, Tensor], path: Path) -> None:
    """Refuse factors that are not those of changes of an encoder's matrices.

    Args:
        factors: of a file, by name.
        matrices: that can have a change, and possibly other tensors.
        path: of the file.

    Raises:
        WeightsError: When a factor is missing, has no matrix, does not fit it or is not finite.
    """
    expected: dict[str, Tensor] = {}
    for name in _names(factors):
        if name in matrices and matrices[name].dim() == 2:
            rows, columns = matrices[name].shape
            first = factors.get(name + _A)
            rank = 1 if first is None or first.dim() == 0 else first.shape[0]
            expected |= {name + _A: torch.empty(rank, columns), name + _B: torch.empty(rows, rank)}
    check_tensors(factors, expected, path)


def with_changes(matrices: Mapping[str, Tensor], factors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those matrices that have a change, after it.

    Args:
        matrices: before the changes, by name.
        factors: of some of them, checked.
    """
    changed = {}
    for name in _names(factors):
        old = matrices[name]
        change = factors[name + _B].to(old.device).double() @ factors[name + _A].to(old.device).double()
        changed[name] = (old.double() + change).to(old.dtype)
    return changed


def _names(factors: Mapping[str, Tensor]) -> list[str]:
    return list(dict.fromkeys(name.removesuffix(_A).removesuffix(_B) for name in factors))

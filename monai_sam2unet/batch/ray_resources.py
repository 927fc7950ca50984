# SPDX-License-Identifier: Apache-2.0
"""Ray, and what a run takes of its cluster."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from monai_sam2unet.errors import ConfigError

__all__ = ["RayResources", "import_ray"]


def import_ray() -> Any:
    """Import Ray, or say how it is installed.

    Raises:
        ConfigError: When it is not installed.
    """
    try:
        import ray
        import ray.exceptions
    except ModuleNotFoundError as error:
        raise ConfigError("Many machines need the package ray, which is not installed: pip install ray") from error
    return ray


@dataclass(frozen=True)
class RayResources:
    """What a run takes of a Ray cluster.

    Args:
        address: of the cluster, such as ``"auto"``; None starts one on this machine, unless the program has one.
        workers: processes that hold a model; None for as many as the cluster's GPUs, or else its CPUs, have room for.
        num_gpus: GPUs that each takes; a fraction lets several share one. None: 1 where the cluster has any, else 0.
        num_cpus: CPUs that each takes.
        at_once: series that each has in hand: while one is predicted, others are read and written.
        retries: how often a series is begun anew after the machine that worked on it was lost.
    """

    address: str | None = None
    workers: int | None = None
    num_gpus: float | None = None
    num_cpus: float = 1.0
    at_once: int = 3
    retries: int = 3

    def settled(self, ray: Any) -> RayResources:
        """The same with ``num_gpus`` chosen by what the cluster has."""
        if self.num_gpus is not None:
            return self
        return replace(self, num_gpus=1.0 if ray.cluster_resources().get("GPU", 0.0) >= 1 else 0.0)

    def room(self, ray: Any) -> int:
        """How many workers the cluster has room for, one at least."""
        total, num_gpus = ray.cluster_resources(), self.settled(ray).num_gpus
        name, each = ("GPU", num_gpus) if num_gpus else ("CPU", self.num_cpus)
        return self.workers or max(1, int(total.get(name, 0.0) / each) if each else 1)

# SPDX-License-Identifier: Apache-2.0
"""Runs a processor over many series on the machines of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from monai_sam2unet.batch.batch_events import Listener
from monai_sam2unet.batch.batch_runner import BatchRunner
from monai_sam2unet.batch.processor import Processor
from monai_sam2unet.batch.ray_engine import RayEngine
from monai_sam2unet.batch.ray_resources import RayResources
from monai_sam2unet.batch.refused import Refused
from monai_sam2unet.batch.result_store import ResultStore
from monai_sam2unet.batch.series_job import SeriesJob

__all__ = ["RayRunner"]


class RayRunner(BatchRunner):
    """As :class:`~monai_sam2unet.batch.batch_runner.BatchRunner`, with workers all over a cluster.

    It needs Ray (``pip install ray``). Each worker holds the model, and predicts each series for itself. Series that
    were in the hand of a lost machine are begun anew on another one. The journal is written by this program alone, and
    either runner goes on in the other's folder. All machines must see the files and the output folder under the same
    names.

    Args:
        jobs: see BatchRunner.
        make_processor: makes a processor on a worker; it must be picklable.
        output_dir: see BatchRunner.
        resources: what is taken of the cluster.
        made_with: see BatchRunner.
        retry_failed: see BatchRunner.
        listener: see BatchRunner.
        hung_after: see BatchRunner.
        show_identity: see BatchRunner.

    Raises (``run``):
        ConfigError: When Ray is not installed, or there is no such cluster.
    """

    def __init__(
        self,
        jobs: Iterable[SeriesJob | Refused],
        make_processor: Callable[[], Processor],
        output_dir: str | Path,
        resources: RayResources | None = None,
        made_with: Mapping[str, Any] | None = None,
        retry_failed: bool = False,
        listener: Listener | None = None,
        hung_after: float = 300.0,
        show_identity: bool = False,
    ) -> None:
        super().__init__(
            jobs,
            (),
            output_dir,
            made_with=made_with,
            retry_failed=retry_failed,
            listener=listener,
            hung_after=hung_after,
            show_identity=show_identity,
        )
        self.make_processor = make_processor
        self.resources = resources or RayResources()

    def _engine(self, store: ResultStore) -> RayEngine:
        return RayEngine(self._to_do(store), self.make_processor, store, self._report, self.resources)

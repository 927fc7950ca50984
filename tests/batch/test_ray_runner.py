from __future__ import annotations

import os
import time
import warnings
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from monai_sam2unet.batch.batch_events import BatchEvent, EventKind
from monai_sam2unet.batch.batch_runner import BatchRunner
from monai_sam2unet.batch.journal_file import read_journal
from monai_sam2unet.batch.journal_row import State
from monai_sam2unet.batch.ray_resources import RayResources
from monai_sam2unet.batch.ray_runner import RayRunner
from monai_sam2unet.batch.run_log import about, kept_log, run_log, say
from monai_sam2unet.batch.series_job import SeriesJob
from monai_sam2unet.batch.series_worker import Processed
from monai_sam2unet.errors import ConfigError

from . import fake_run
from .fake_run import Case, FakeProcessor, make_jobs
from .test_kill import results

try:
    import ray
    from ray import cloudpickle
    from ray.cluster_utils import Cluster
except ModuleNotFoundError:
    ray = None

needs_ray = pytest.mark.skipif(ray is None, reason="ray is not installed")


class Deadly(FakeProcessor):
    """One series kills the process that works on it."""

    def predict(self, cases: list[Case]) -> list[str]:
        if any(b"deadly" in case for case in cases):
            os._exit(1)
        return super().predict(cases)


def no_model() -> FakeProcessor:
    raise ConfigError("There is no model.")


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A head without room for workers; the tests add nodes."""
    import sys

    # Workers do not have the tests' modules.
    for module in (fake_run, sys.modules[__name__]):
        cloudpickle.register_pickle_by_value(module)
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, "include_dashboard": False})
    ray.init(address=cluster.address, log_to_driver=False)
    yield cluster
    ray.shutdown()
    cluster.shutdown()


@needs_ray
@pytest.mark.slow
def test_a_node_is_killed_while_it_works(cluster: Any, tmp_path: Path) -> None:
    jobs = make_jobs(tmp_path / "in", 24)
    jobs[3].files[0].write_text("bad")
    BatchRunner(jobs, FakeProcessor(), tmp_path / "whole").run()
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
    killed: list[Any] = []

    def listen(event: BatchEvent) -> None:
        if event.progress.done == 5 and not killed:
            killed.append(nodes[1])
            cluster.remove_node(nodes[1], allow_graceful=False)

    make = partial(FakeProcessor, predict_s=0.3)
    summary = RayRunner(jobs, make, tmp_path / "out", RayResources(workers=2), listener=listen).run()
    assert killed
    assert (summary.devices, summary.exit_code) == (2, 1)
    assert (summary.progress.done, summary.progress.failed) == (23, 1)
    assert results(tmp_path / "out") == results(tmp_path / "whole")
    rows = read_journal(tmp_path / "out")
    assert {row.published for row in rows if row.state is State.DONE} == {1}
    assert max(row.attempts for row in rows) > 1  # the node had some in hand
    assert "A worker was lost" in (tmp_path / "out" / "batch.log").read_text()
    assert not (tmp_path / "out" / ".partial").exists()
    # Either runner goes on in the other's folder.
    again = BatchRunner(jobs, FakeProcessor(), tmp_path / "out").run()
    assert (again.progress.done_before, again.progress.failed_before) == (23, 1)
    cluster.remove_node(nodes[0])


@needs_ray
@pytest.mark.slow
def test_a_series_that_kills_its_worker_fails_alone(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    jobs = make_jobs(tmp_path / "in", 4)
    jobs[1].files[0].write_text("deadly")
    resources = RayResources(workers=1, at_once=1, retries=1)

    def slow_search() -> Iterator[SeriesJob]:
        for job in jobs:
            time.sleep(0.5)
            yield job

    summary = RayRunner(slow_search(), Deadly, tmp_path / "out", resources).run()
    assert (summary.progress.done, summary.progress.failed) == (3, 1)
    (failed,) = [row for row in read_journal(tmp_path / "out") if row.state is State.FAILED]
    assert failed.reason.startswith("The machine or process that worked on it was lost 2 times.")
    cluster.remove_node(node)


@needs_ray
@pytest.mark.slow
def test_no_model_stops_the_run(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    summary = RayRunner(make_jobs(tmp_path / "in", 2), no_model, tmp_path / "out", RayResources(workers=1)).run()
    assert summary.exit_code == 3
    assert "There is no model." in summary.stopped
    cluster.remove_node(node)


@needs_ray
@pytest.mark.slow
def test_stopping_finishes_what_is_in_hand(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    make = partial(FakeProcessor, predict_s=0.2)
    runner = RayRunner(make_jobs(tmp_path / "in", 30), make, tmp_path / "out", RayResources(workers=1))

    def listen(event: BatchEvent) -> None:
        if event.kind is EventKind.DONE:
            os.kill(os.getpid(), 2)
            time.sleep(0.1)
            runner.listener = None

    runner.listener = listen
    summary = runner.run()
    assert summary.exit_code == 3
    assert 1 < summary.progress.done < 10
    assert {row.state for row in read_journal(tmp_path / "out")} == {State.DONE, State.FOUND}
    cluster.remove_node(node)


class Warns(FakeProcessor):
    """Warns of what it reads."""

    def read(self, job: SeriesJob) -> Case:
        warnings.warn(f"{job.files[0]} of {job.series_uid} is odd.", stacklevel=1)
        return super().read(job)


@needs_ray
@pytest.mark.slow
def test_warnings_of_workers_are_in_the_log_without_identity(cluster: Any, tmp_path: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    jobs = make_jobs(tmp_path / "in", 2)
    assert RayRunner(jobs, Warns, tmp_path / "out", RayResources(workers=1)).run().exit_code == 0
    log = (tmp_path / "out" / "batch.log").read_text()
    assert log.count("file 1 of 1 of #") == 2
    assert "DOE" not in log
    assert jobs[0].series_uid not in log
    cluster.remove_node(node)


@needs_ray
@pytest.mark.slow
def test_a_worker_that_ray_ends_for_its_memory_is_replaced(cluster: Any, tmp_path: Path, monkeypatch) -> None:
    node = cluster.add_node(num_cpus=1)
    get, ended = ray.get, []

    def get_or_end(reference: Any) -> Any:
        answer = get(reference)
        if isinstance(answer, Processed) and not ended:
            ended.append(answer)
            raise ray.exceptions.OutOfMemoryError("The node is low on memory.")
        return answer

    monkeypatch.setattr(ray, "get", get_or_end)
    summary = RayRunner(make_jobs(tmp_path / "in", 4), FakeProcessor, tmp_path / "out", RayResources(workers=1)).run()
    assert ended
    assert (summary.progress.done, summary.stopped) == (4, "")
    cluster.remove_node(node)


@pytest.mark.parametrize(
    ("asked", "has", "num_gpus", "room"),
    [(None, {"CPU": 8.0, "GPU": 2.0}, 1.0, 2), (None, {"CPU": 8.0}, 0.0, 8), (0.0, {"CPU": 8.0, "GPU": 2.0}, 0.0, 8)],
)
def test_gpus_that_are_taken(asked: float | None, has: dict[str, float], num_gpus: float, room: int) -> None:
    cluster = SimpleNamespace(cluster_resources=lambda: has)
    resources = RayResources(num_gpus=asked)
    assert (resources.settled(cluster).num_gpus, resources.room(cluster)) == (num_gpus, room)


def test_what_a_worker_says_is_kept(tmp_path: Path) -> None:
    (job,) = make_jobs(tmp_path / "in", 1)
    with kept_log() as kept, warnings.catch_warnings(), about(job):
        warnings.simplefilter("always")
        warnings.warn(f"{job.files[0]} is odd.", stacklevel=1)
    said = kept.take(job)
    assert kept.take(job) == ()
    with run_log(tmp_path / "log"):
        say(said, job)
    assert "file 1 of 1 is odd." in (tmp_path / "log").read_text()


@pytest.mark.skipif(ray is not None, reason="ray is installed")
def test_without_ray(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="pip install ray"):
        RayRunner([], FakeProcessor, tmp_path / "out").run()

# SPDX-License-Identifier: Apache-2.0
"""A CPU predicts several series at once, each with its share of torch's threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from monai_sam2unet.batch.cpu_workers import cpu_workers, shared_cores


@pytest.fixture
def threads():
    """Sets how many threads torch has."""
    before = torch.get_num_threads()
    yield torch.set_num_threads
    torch.set_num_threads(before)


def _threads_of_a_new_thread() -> int:
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(torch.get_num_threads).result()


@pytest.mark.parametrize(("count", "workers"), [(1, 1), (2, 2), (16, 4)])
def test_a_cpu_has_as_many_workers_as_threads_up_to_four(threads, count, workers) -> None:
    threads(count)
    assert cpu_workers(torch.device("cpu")) == workers
    assert cpu_workers(torch.device("cuda", 1)) == 1


@pytest.mark.parametrize(("workers", "share"), [(0, 5), (1, 5), (2, 2), (8, 1)])
def test_new_threads_get_their_share(threads, workers, share) -> None:
    threads(5)
    with shared_cores(workers):
        assert _threads_of_a_new_thread() == share
    assert torch.get_num_threads() == _threads_of_a_new_thread() == 5


def test_an_error_gives_the_threads_back(threads) -> None:
    threads(3)
    with pytest.raises(KeyError), shared_cores(3):
        raise KeyError
    assert torch.get_num_threads() == 3

# SPDX-License-Identifier: Apache-2.0
"""Tests that two processes with unevenly divided images give what one process gives, for every metric."""

from __future__ import annotations

import pytest
import torch

from monai_sam2unet import metrics
from monai_sam2unet.metrics import (
    BalancedErrorRateMetric,
    BoundaryFMeasureMetric,
    CenterlineDiceMetric,
    DiceOverThresholdsMetric,
    EMeasureMetric,
    FalseAlarmRateMetric,
    FMeasureMetric,
    HausdorffDistance95Metric,
    IoUOverThresholdsMetric,
    MeanAbsoluteErrorMetric,
    NormalizedSurfaceDiceMetric,
    SMeasureMetric,
    WeightedFMeasureMetric,
)

# Of prediction maps, then of masks.
OF_MAPS = {
    "SMeasureMetric": (SMeasureMetric, [{}]),
    "EMeasureMetric": (EMeasureMetric, [{"mode": mode} for mode in ("mean", "max", "adaptive")]),
    "WeightedFMeasureMetric": (WeightedFMeasureMetric, [{}]),
    "FMeasureMetric": (FMeasureMetric, [{"mode": mode} for mode in ("mean", "max", "adaptive")]),
    "MeanAbsoluteErrorMetric": (MeanAbsoluteErrorMetric, [{}]),
    "DiceOverThresholdsMetric": (DiceOverThresholdsMetric, [{"mode": mode} for mode in ("mean", "max", "adaptive")]),
    "IoUOverThresholdsMetric": (IoUOverThresholdsMetric, [{"mode": mode} for mode in ("mean", "max", "adaptive")]),
    "BalancedErrorRateMetric": (BalancedErrorRateMetric, [{}]),
}
OF_MASKS = {
    "HausdorffDistance95Metric": (HausdorffDistance95Metric, [{"unit": "pixels", "one_empty": "ignore"}]),
    "NormalizedSurfaceDiceMetric": (NormalizedSurfaceDiceMetric, [{"tolerance": 2, "unit": "pixels"}]),
    "FalseAlarmRateMetric": (FalseAlarmRateMetric, [{}]),
    "CenterlineDiceMetric": (CenterlineDiceMetric, [{}]),
    "BoundaryFMeasureMetric": (BoundaryFMeasureMetric, [{}]),
}

PROCESS = """
import os
import sys
import torch
from torch import distributed
from monai_sam2unet import metrics

rank, rendezvous, cases, results = int(sys.argv[1]), *sys.argv[2:]
distributed.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=2)
found = []
for name, options, maps, truths in torch.load(cases):
    metric = getattr(metrics, name)(**options)
    mine = slice(0, 2) if rank == 0 else slice(2, None)
    for pred, truth in zip(maps[mine], truths[mine], strict=True):
        metric([pred], [truth])
    found.append((metric.aggregate(), metric.get_buffer()))
torch.save(found, f"{results}.{rank}")
distributed.barrier()
os._exit(0)  # an ordinary end now and then aborts, on threads of torch's that are still running
"""


def cases() -> list[tuple[str, dict, list[torch.Tensor], list[torch.Tensor]]]:
    """Each metric with each of its modes, seven images of four sizes; two of them show nothing."""
    generator = torch.Generator().manual_seed(5)
    maps, truths = [], []
    for n in range(7):
        height, width = 24 + 8 * (n % 4), 40
        truth = torch.zeros(1, height, width)
        if n not in (1, 5):
            truth[:, 4 : 10 + n, 6 : 20 + n] = 1
        # The best threshold is another one for each image, and another one for all of them.
        smooth = torch.rand(1, height, width, generator=generator)
        maps.append((truth.roll(2, -1) * (0.2 + 0.06 * n) + 0.4 * smooth) * (n != 5))
        truths.append(truth)
    masks = [(m >= 0.5).float() for m in maps]
    listed = []
    for table, preds in ((OF_MAPS, maps), (OF_MASKS, masks)):
        for name, (_, modes) in table.items():
            listed += [(name, options, preds, truths) for options in modes]
    return listed


def test_every_metric_is_among_them():
    assert {name for name in metrics.__all__ if name.endswith("Metric")} == {*OF_MAPS, *OF_MASKS}


@pytest.mark.slow
def test_two_processes_give_what_one_gives(on_two_processes, tmp_path):
    listed = cases()
    torch.save(listed, tmp_path / "cases.pt")
    on_two_processes(PROCESS, tmp_path / "cases.pt", tmp_path / "results")

    of_ranks = [torch.load(tmp_path / f"results.{rank}") for rank in range(2)]
    classes = {name: kind for name, (kind, _) in (OF_MAPS | OF_MASKS).items()}
    for (name, options, maps, truths), *found in zip(listed, *of_ranks, strict=True):
        metric = classes[name](**options)
        metric(maps, truths)
        for value, buffer in found:
            torch.testing.assert_close(value, metric.aggregate(), equal_nan=True, msg=lambda m, n=name: f"{n}: {m}")
            torch.testing.assert_close(buffer, metric.get_buffer(), equal_nan=True)
        assert not metric.aggregate().isnan().any(), f"{name} {options} compares nothing"
        half = classes[name](**options)
        half(maps[:2], truths[:2])
        if name != "FalseAlarmRateMetric":
            assert not torch.allclose(half.aggregate(), metric.aggregate()), f"{name} {options}: one part is the whole"


@pytest.mark.parametrize(
    "name", ["EMeasureMetric", "FMeasureMetric", "DiceOverThresholdsMetric", "IoUOverThresholdsMetric"]
)
def test_max_is_that_of_the_mean_curve(name):
    """Not the mean of the images' own best values, which is higher."""
    kind = OF_MAPS[name][0]
    maps, truths = cases()[0][2:]
    maps, truths = ([x for n, x in enumerate(given) if n not in (1, 5)] for given in (maps, truths))
    metric = kind(mode="max")
    metric(maps, truths)
    together = float(metric.aggregate())
    alone = []
    for pred, truth in zip(maps, truths, strict=True):
        metric.reset()
        metric([pred], [truth])
        alone.append(float(metric.aggregate()))
    assert together < sum(alone) / len(alone) - 1e-3

# SPDX-License-Identifier: Apache-2.0
"""Tests of the false alarms in images without object."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.metrics import FalseAlarmRateMetric, compute_false_alarms


def mask(count: int, *shape: int) -> torch.Tensor:
    """(1, ...) with so many pixels set."""
    values = torch.zeros(shape).flatten()
    values[:count] = 1
    return values.reshape(1, *shape)


def test_counts_images_without_object_only():
    counts = [(0, 0), (4, 0), (5, 0), (50, 0), (0, 3), (50, 3)]  # predicted and true pixels
    preds = [mask(pred, 10, 10 + n) for n, (pred, _) in enumerate(counts)]
    truths = [mask(truth, 10, 10 + n) for n, (_, truth) in enumerate(counts)]
    for min_size, alarms in ((1, [0, 1, 1, 1]), (5, [0, 0, 1, 1]), (51, [0, 0, 0, 0])):
        metric = FalseAlarmRateMetric(min_size=min_size)
        metric(preds, truths)
        each = metric.get_buffer().flatten()
        assert each[:4].tolist() == alarms
        assert each[4:].isnan().all()
        assert float(metric.aggregate()) == pytest.approx(sum(alarms) / 4)
        assert metric.aggregate("sum") == sum(alarms)

    area = FalseAlarmRateMetric(min_size=5, value="area")
    area(preds, truths)
    assert area.get_buffer().flatten()[:4].tolist() == pytest.approx([0, 0, 5 / 120, 50 / 130])
    assert float(area.aggregate()) == pytest.approx((5 / 120 + 50 / 130) / 4)


def test_no_image_without_object_gives_nan():
    metric = FalseAlarmRateMetric()
    metric([mask(9, 10, 10)], [mask(1, 10, 10)])
    for reduction in ("mean", "mean_batch", "mean_channel", "none"):
        assert metric.aggregate(reduction).isnan().all()
    assert metric.aggregate("sum") == 0
    metric.get_not_nans = True
    assert metric.aggregate()[1] == 0
    metric([mask(9, 10, 10)], [mask(0, 10, 10)])
    assert metric.aggregate() == (1, 1)


def test_each_class_counts_for_itself():
    pred = torch.cat([mask(0, 10, 10), mask(3, 10, 10), mask(3, 10, 10)])[None]
    truth = torch.cat([mask(90, 10, 10), mask(0, 10, 10), mask(10, 10, 10)])[None]
    assert compute_false_alarms(pred, truth).tolist()[0] == pytest.approx([1, np.nan], nan_ok=True)
    assert compute_false_alarms(pred, truth, include_background=True).shape == (1, 3)
    metric = FalseAlarmRateMetric(reduction="mean_batch")
    metric(pred, truth)
    assert metric.aggregate().tolist() == pytest.approx([1, np.nan], nan_ok=True)
    assert metric.aggregate("mean") == 1


def test_volumes():
    pred, truth = mask(4, 5, 5, 5)[None], mask(0, 5, 5, 5)[None]
    assert float(compute_false_alarms(pred, truth, value="area")) == pytest.approx(4 / 125)


def test_ultrasound_of_healthy_breasts(shared_data):
    paths = sorted((shared_data / "busi" / "masks").glob("*.png"))
    truths = [torch.from_numpy(np.asarray(Image.open(path).convert("L")) > 127)[None] for path in paths]
    preds = [torch.full_like(truth, bool(n % 3 == 0)) for n, truth in enumerate(truths)]
    metric = FalseAlarmRateMetric()
    metric(preds, truths)
    healthy = [n % 3 == 0 for n, path in enumerate(paths) if path.name.startswith("normal")]
    assert 0 < sum(healthy) < len(healthy) < len(paths)
    assert float(metric.aggregate()) == pytest.approx(sum(healthy) / len(healthy))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_size": 0}, "min_size must be a whole number"),
        ({"min_size": 0.5}, "min_size must be a whole number"),
        ({"value": "volume"}, "value must be one of rate, area"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ConfigError, match=message):
        FalseAlarmRateMetric(**options)


def test_probabilities_are_an_error():
    with pytest.raises(DataError, match="must be binary"):
        FalseAlarmRateMetric()([mask(4, 10, 10) * 0.3], [mask(0, 10, 10)])

# SPDX-License-Identifier: Apache-2.0
"""Tests of the metrics' handlers, selected in a config: values, one detail an image, and the files of MetricsSaver."""

from __future__ import annotations

import csv
import inspect

import pytest
import torch
from monai.bundle import ConfigParser
from monai.data import MetaTensor
from torch.nn.functional import one_hot

from monai_sam2unet import handlers, metrics
from monai_sam2unet.handlers import map_metric_handlers, mask_metric_handlers

# Handler, its options, options that differ from every default.
OF_MAPS = {
    "SMeasure": ({}, {"alpha": 0.7, "empty_truth": "ignore"}),
    "EMeasure": ({"mode": "max"}, {"mode": "fixed", "threshold": 0.3, "empty_truth": "ignore"}),
    "WeightedFMeasure": ({}, {"beta2": 0.3, "empty_truth": "ignore"}),
    "FMeasure": ({"mode": "max"}, {"mode": "adaptive", "threshold": 0.3, "beta2": 1.0, "empty_truth": "ignore"}),
    "MeanAbsoluteError": ({}, {"empty_truth": "ignore"}),
    "DiceOverThresholds": ({"mode": "mean"}, {"mode": "max", "threshold": 0.3, "empty_truth": "ignore"}),
    "IoUOverThresholds": ({"mode": "mean"}, {"mode": "max", "threshold": 0.3, "empty_truth": "ignore"}),
    "BalancedErrorRate": ({"mode": "fixed"}, {"mode": "max", "threshold": 0.3, "empty_truth": "ignore"}),
}
OF_MASKS = {
    "HausdorffDistance95": ({"unit": "pixels"}, {"unit": "pixels", "one_empty": "ignore"}),
    "NormalizedSurfaceDice": (
        {"tolerance": 2, "unit": "pixels"},
        {"tolerance": [2.0], "unit": "pixels", "one_empty": "ignore"},
    ),
    "FalseAlarmRate": ({}, {"min_size": 7, "value": "area"}),
    "CenterlineDice": ({}, {"one_empty": "ignore"}),
    "BoundaryFMeasure": ({}, {"tolerance": 3, "unit": "pixels", "one_empty": "ignore"}),
}
ALL = OF_MAPS | OF_MASKS


def images(sizes: list[tuple[int, int]]) -> list[dict]:
    """A map, as the network is to give it out, and its truth; the second shows nothing."""
    generator = torch.Generator().manual_seed(2)
    listed = []
    for n, (height, width) in enumerate(sizes):
        truth = torch.zeros(1, height, width)
        if n != 1:
            truth[:, 5:20, 4 : 12 + n] = 1
        pred = (0.7 * truth.roll(1 + n, -1) + 0.3 * torch.rand(1, height, width, generator=generator)) ** 2
        pred[:, :2, :3] = 0.9
        listed.append({"image": MetaTensor(pred, meta={"filename_or_obj": f"case {n}.png"}), "label": truth})
    return listed


def config(data: list[dict], save_dir: str, batch_size: int) -> ConfigParser:
    """An evaluator with all handlers, as a bundle's config writes it."""
    lists = batch_size == 1
    first = "[i['pred'] for i in output]" if lists else "output['pred']"
    labels = "[i['label'] for i in output]" if lists else "output['label']"
    thresholded = "[i['pred'] >= 0.5 for i in output]" if lists else "output['pred'] >= 0.5"
    chosen = {
        name: {"_target_": f"monai_sam2unet.handlers.{name}", **options, "output_transform": f"@{reads}"}
        for reads, table in (("maps", OF_MAPS), ("masks", OF_MASKS))
        for name, (options, _) in table.items()
    }
    return ConfigParser(
        {
            "imports": ["$import torch"],
            "data": data,
            "maps": f"$lambda output: ({first}, {labels})",
            "masks": f"$lambda output: ({thresholded}, {labels})",
            "evaluator": {
                "_target_": "SupervisedEvaluator",
                "device": "$torch.device('cpu')",
                "val_data_loader": {
                    "_target_": "DataLoader",
                    "dataset": {"_target_": "Dataset", "data": "@data"},
                    "batch_size": batch_size,
                },
                "network": {"_target_": "torch.nn.Identity"},
                "decollate": lists,
                "key_val_metric": {"SMeasure": chosen.pop("SMeasure")},
                "additional_metrics": chosen,
                "val_handlers": [
                    {
                        "_target_": "MetricsSaver",
                        "save_dir": save_dir,
                        "metric_details": "*",
                        "batch_transform": "$lambda batch: [i['image'].meta for i in batch]"
                        if lists
                        else "$lambda batch: batch['image'].meta",
                    }
                ],
            },
        }
    )


@pytest.mark.parametrize(
    ("sizes", "batch_size"),
    [([(24, 40), (30, 31), (40, 24), (33, 50)], 1), ([(24, 40)] * 4, 2), ([(24, 40)] * 4, 3)],
    ids=["lists of different sizes", "batches", "unequal batches"],
)
def test_in_an_evaluator_from_a_config(tmp_path, sizes, batch_size):
    data = images(sizes)
    evaluator = config(data, str(tmp_path), batch_size).get_parsed_content("evaluator")
    evaluator.run()
    with (tmp_path / "metrics.csv").open() as file:
        saved = {name: float(value) for name, value in csv.reader(file)}
    for name, (options, _) in ALL.items():
        metric = getattr(metrics, f"{name}Metric")(**options)
        for item in data:
            pred, truth = item["image"].as_tensor(), item["label"]
            metric([pred if name in OF_MAPS else pred >= 0.5], [truth])
        value = float(metric.aggregate())
        assert evaluator.state.metrics[name] == pytest.approx(value, rel=1e-6), name
        assert saved[name] == pytest.approx(value, rel=1e-6), name

        details = evaluator.state.metric_details[name]
        assert details.shape == (4, 1), name
        torch.testing.assert_close(details, metric.get_buffer(), equal_nan=True)
        with (tmp_path / f"{name}_raw.csv").open() as file:
            rows = list(csv.DictReader(file))
        assert [row["filename"] for row in rows] == [f"case {n}.png" for n in range(4)]
        written = [float(row["class0"]) for row in rows]
        assert written == pytest.approx(details.flatten().tolist(), abs=6e-5, nan_ok=True), name


def test_each_metric_has_a_handler():
    found = {name.removesuffix("Metric") for name in metrics.__all__ if name.endswith("Metric")}
    assert found == set(ALL) == {*map_metric_handlers.__all__, *mask_metric_handlers.__all__}
    assert found <= set(handlers.__all__)


@pytest.mark.parametrize("name", ALL)
def test_options_reach_the_metric(name):
    handler, metric = getattr(handlers, name), getattr(metrics, f"{name}Metric")
    own = inspect.signature(handler).parameters
    of_metric = {key: p for key, p in inspect.signature(metric).parameters.items() if key != "get_not_nans"}
    assert set(own) == {*of_metric, "output_transform", "save_details"}
    for key, parameter in of_metric.items():
        assert own[key].default == parameter.default, key
        assert own[key].annotation == parameter.annotation, key
    options = {"reduction": "mean_batch", **ALL[name][1]}
    if "normalize" in of_metric:
        options["normalize"] = not of_metric["normalize"].default
    if "include_background" in of_metric:
        options["include_background"] = True
    # Nothing may be left at its default but the unit, which no value of the others fits without.
    assert set(options) >= set(of_metric)
    built, expected = handler(**options).metric_fn, metric(**options)
    assert type(built) is type(expected)
    compared = {key: value for key, value in vars(expected).items() if not key.startswith("_")}
    assert {key: value for key, value in vars(built).items() if not key.startswith("_")} == compared


@pytest.mark.parametrize("name", ALL)
def test_a_wrong_option_is_an_error(name):
    with pytest.raises(TypeError, match="unexpected keyword argument"):
        getattr(handlers, name)(**ALL[name][0], treshold=0.3)


def test_details_can_be_left_out(tmp_path):
    parser = config(images([(24, 40)] * 4), str(tmp_path), 1)
    for name in ALL:
        place = "key_val_metric" if name == "SMeasure" else "additional_metrics"
        parser[f"evaluator::{place}::{name}::save_details"] = False
    evaluator = parser.get_parsed_content("evaluator")
    evaluator.run()
    assert not getattr(evaluator.state, "metric_details", {})
    assert set(evaluator.state.metrics) == set(ALL)


def test_a_second_run_starts_anew(tmp_path):
    evaluator = config(images([(24, 40)] * 4), str(tmp_path), 1).get_parsed_content("evaluator")
    evaluator.run()
    first = dict(evaluator.state.metrics)
    evaluator.run()
    assert evaluator.state.metrics == pytest.approx(first)
    assert evaluator.state.metric_details["SMeasure"].shape == (4, 1)


@pytest.mark.parametrize("batch_size", [1, 2])
def test_millimetres_of_each_image_reach_the_metric(tmp_path, batch_size):
    data = images([(24, 40)] * 4)
    for n, item in enumerate(data):
        affine = torch.diag(torch.tensor([0.5 + n, 0.5 + n, 1.0, 1.0], dtype=torch.float64))
        item["image"] = MetaTensor(item["label"].roll(1, -1), meta=item["image"].meta)
        item["label"] = MetaTensor(item["label"], affine=affine, meta={"original_affine": affine.numpy()})
    parser = config(data, str(tmp_path), batch_size)
    name = "evaluator::additional_metrics::HausdorffDistance95"
    parser[f"{name}::unit"] = "mm"
    evaluator = parser.get_parsed_content("evaluator")
    evaluator.run()
    # The second image shows nothing, and nothing is predicted.
    assert evaluator.state.metric_details["HausdorffDistance95"].flatten().tolist() == [0.5, 0, 2.5, 3.5]


CLASSES = ["background", "liver", "spleen"]


def test_dice_and_iou_of_each_class_by_name(tmp_path):
    """MONAI's own handlers for several classes: Dice with names; IoU without, or with one handler a class."""
    generator = torch.Generator().manual_seed(0)
    data, expected = [], {"dice": [], "iou": []}
    for n in range(3):
        highest = 3 if n else 2  # the first image shows no spleen
        classes = [torch.randint(0, h, (8, 9), generator=generator) for h in (3, highest)]
        pred, label = (one_hot(c, 3).permute(2, 0, 1).float() for c in classes)
        data.append({"image": pred, "label": label})
        both, pixels = (pred * label).sum((1, 2))[1:], (pred + label).sum((1, 2))[1:]
        there = label.sum((1, 2))[1:] > 0
        expected["dice"].append(torch.where(there, 2 * both / pixels, torch.nan))
        expected["iou"].append(torch.where(there, both / (pixels - both), torch.nan))
    evaluator = ConfigParser(
        {
            "imports": ["$import torch", "$from monai.handlers import from_engine"],
            "data": data,
            "class_names": CLASSES[1:],
            "evaluator": {
                "_target_": "SupervisedEvaluator",
                "device": "$torch.device('cpu')",
                "val_data_loader": {"_target_": "DataLoader", "dataset": "@data", "batch_size": 1},
                "network": {"_target_": "torch.nn.Identity"},
                # The one that chooses the best epoch must be a single number.
                "key_val_metric": {
                    "val_mean_dice": {
                        "_target_": "MeanDice",
                        "include_background": False,
                        "output_transform": "$from_engine(['pred', 'label'])",
                    }
                },
                "additional_metrics": {
                    "dice": {
                        "_target_": "MeanDice",
                        "include_background": False,
                        "reduction": "mean_batch",
                        "return_with_label": "$['dice_' + name for name in @class_names]",
                        "output_transform": "$from_engine(['pred', 'label'])",
                    },
                    "iou": {
                        "_target_": "MeanIoUHandler",
                        "include_background": False,
                        "reduction": "mean_batch",
                        "output_transform": "$from_engine(['pred', 'label'])",
                    },
                    "iou_spleen": {
                        "_target_": "MeanIoUHandler",
                        "output_transform": "$lambda output: "
                        "([i['pred'][2:3] for i in output], [i['label'][2:3] for i in output])",
                    },
                },
            },
        }
    ).get_parsed_content("evaluator")
    evaluator.run()
    found = evaluator.state.metrics
    dice, iou = (torch.stack(expected[name]) for name in ("dice", "iou"))
    assert {"dice_liver", "dice_spleen"} < set(found)
    assert [found["dice_liver"], found["dice_spleen"]] == pytest.approx(dice.nanmean(0).tolist(), abs=6e-5)
    assert found["dice"] == {"dice_liver": found["dice_liver"], "dice_spleen": found["dice_spleen"]}
    torch.testing.assert_close(found["iou"], iou.nanmean(0))
    assert found["iou_spleen"] == pytest.approx(float(iou.nanmean(0)[1]))
    torch.testing.assert_close(evaluator.state.metric_details["dice"], dice, equal_nan=True)

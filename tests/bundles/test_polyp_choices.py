# SPDX-License-Identifier: Apache-2.0
"""Other choices of what of the encoder is trained, set as users set them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser


def parse(bundle: Path, config: str, **settings: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(bundle / "configs" / f"{config}.yaml")
    parser.update({"encoder_size": "tiny", "weights": "random", "device": "cpu", **settings})
    return parser


@pytest.mark.parametrize(
    ("settings", "added"),
    [
        ({}, {"prompt_learn"}),
        ({"lora_rank": 4}, {"prompt_learn", "lora_a", "lora_b"}),
        ({"adapter_channels": 0, "lora_rank": 4}, {"lora_a", "lora_b"}),
        ({"adapter_channels": 0}, set()),
    ],
)
def test_training_evaluation_and_inference_build_the_same_network(bundle: Path, settings, added) -> None:
    shapes = []
    for config in ("train", "evaluate", "inference"):
        network = parse(bundle, config, **settings).get_parsed_content("network_def")
        shapes.append({name: value.shape for name, value in network.state_dict().items()})
        trained = [name for name, value in network.named_parameters() if value.requires_grad]
        parts = {part for part in ("prompt_learn", "lora_a", "lora_b") if any(f".{part}" in name for name in trained)}
        assert parts == added
    assert shapes[0] == shapes[1] == shapes[2]


def test_layer_decay_gives_each_block_its_rate(bundle: Path) -> None:
    settings = {"freeze_encoder": False, "adapter_channels": 0, "learning_rate": 0.01, "layer_decay": 0.5}
    parser = parse(bundle, "train", **settings)
    optimizer = parser.get_parsed_content("optimizer")
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01 * 0.5**i for i in range(14)])
    assert {group["weight_decay"] for group in optimizer.param_groups} == {0.0005}
    schedule = parser.get_parsed_content("lr_scheduler")
    assert schedule.optimizer is optimizer
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.001 * 0.5**i for i in range(14)])


def test_last_stage_is_trained_at_falling_rates(bundle: Path) -> None:
    settings = {"unfrozen_stages": 1, "learning_rate": 0.01, "layer_decay": 0.1}
    optimizer = parse(bundle, "train", **settings).get_parsed_content("optimizer")
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.01, 0.001, 0.0001])


def test_by_default_there_is_one_group(bundle: Path) -> None:
    optimizer = parse(bundle, "train").get_parsed_content("optimizer")
    assert [group["lr"] for group in optimizer.param_groups] == [0.001]


@pytest.mark.slow
def test_a_training_with_lora_is_resumed_and_evaluated(run, phantoms: Path, tmp_path: Path) -> None:
    """Full fine-tuning with LoRA beside it, which has all kinds of parameters and of rates."""
    choice = {"adapter_channels": 0, "lora_rank": 4}
    folders = {"dataset_dir": phantoms, "ckpt_dir": tmp_path, "log_dir": tmp_path / "runs"}
    settings = {**folders, **choice, "freeze_encoder": "False", "layer_decay": 0.8, "learning_rate": 1e-4}
    run("training", "train", max_epochs=1, **settings)
    first = torch.load(tmp_path / "last.pt", weights_only=True)
    run("training", "train", max_epochs=2, resume="True", **settings)
    second = torch.load(tmp_path / "last.pt", weights_only=True)
    assert (first["epoch"], second["epoch"]) == (1, 2)
    assert len(second["optimizer"]["param_groups"]) == 14
    for name in ("encoder.blocks.3.block.attn.qkv.lora_b", "encoder.blocks.3.block.attn.qkv.weight", "head.weight"):
        assert not torch.equal(first["network"][name], second["network"][name]), name

    measured = {"dataset_dir": phantoms, "ckpt_path": tmp_path / "model.pt", "output_dir": tmp_path / "eval"}
    run("evaluating", "evaluate", report="False", **measured, **choice)
    assert (tmp_path / "eval" / "metrics.csv").is_file()
    refused = run("evaluating", "evaluate", check=False, **measured)
    assert refused.returncode == 1
    assert "--adapter_channels 0 --lora_rank 4" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_fold_is_left_out_of_training_and_measured(bundle: Path, phantoms: Path) -> None:
    """Of the phantoms' numbers the last digit names the patient."""
    settings = {"dataset_dir": str(phantoms), "fold": 1, "num_folds": 3, "group_pattern": r"([0-9])\."}
    datalist = parse(bundle, "train", **settings).get_parsed_content("datalist")
    measured = parse(bundle, "evaluate", **settings).get_parsed_content("dataset").data
    parts = [datalist["training"], datalist["validation"], measured]
    patients = [{Path(item["image"]).stem[-1] for item in part} for part in parts]
    assert sum(len(part) for part in parts) == 12
    assert all(patients)
    assert not patients[0] & patients[1]
    assert not (patients[0] | patients[1]) & patients[2]

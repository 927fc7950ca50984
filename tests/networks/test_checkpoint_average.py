# SPDX-License-Identifier: Apache-2.0
"""Tests of the mean of several checkpoints' weights."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from monai_sam2unet.cli import app
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import UserError
from monai_sam2unet.networks import SAM2UNet, light_state_dict
from monai_sam2unet.networks.checkpoint_average import average_checkpoints


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Three states of one network, and others that are none."""
    place: Path = tmp_path_factory.mktemp("checkpoints")
    net = SAM2UNet(size="tiny", adapter_channels=4)
    for number in range(3):
        with torch.no_grad():
            for value in net.state_dict().values():
                value += number + 1
        torch.save(net.state_dict(), place / f"{number}.pt")
    torch.save(light_state_dict(net), place / "light.pt")
    torch.save(net.encoder.state_dict(), place / "encoder.pt")
    torch.save(SAM2UNet(size="tiny", adapter_channels=8).state_dict(), place / "wider.pt")
    return place


def test_it_is_the_mean_and_loads(folder, tmp_path) -> None:
    states = [torch.load(folder / f"{number}.pt", weights_only=True) for number in range(3)]
    mean = average_checkpoints([folder / f"{number}.pt" for number in range(3)])
    assert mean.keys() == states[0].keys()
    for name, value in mean.items():
        wanted = sum(state[name].double() for state in states) / 3
        torch.testing.assert_close(value.double(), wanted if value.is_floating_point() else states[0][name].double())
        assert value.dtype == states[0][name].dtype
    torch.save(mean, tmp_path / "mean.pt")
    net = SAM2UNet(size="tiny", adapter_channels=4, weights=str(tmp_path / "mean.pt"))
    assert torch.equal(net.head.bias, mean["head.bias"])


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["0.pt"], "at least two checkpoints, got 1"),
        (["0.pt", "light.pt"], "is a light checkpoint"),
        (["encoder.pt", "0.pt"], "holds no whole SAM2-UNet"),
        (["0.pt", "wider.pt"], r"It is averaged with .*0.pt"),
        (["0.pt", "nowhere.pt"], "cannot be read as weights"),
    ],
)
def test_what_cannot_be_averaged(folder, names, message) -> None:
    with pytest.raises(UserError, match=message):
        average_checkpoints([folder / name for name in names])


def test_command_notes_all_that_was_trained_on(folder, tmp_path) -> None:
    words = ["weights", "average", str(folder / "0.pt"), str(folder / "1.pt"), "-o", str(tmp_path / "mean.pt")]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert done.output.count("is not noted beside it") == 2
    assert not (tmp_path / "mean.cases.json").exists()
    settings = {"spatial_size": [64, 64]}
    (folder / "0.cases.json").write_text(TrainingCases({"ab": "1.png"}, {"cd": "2.png"}, settings=settings).as_json())
    (folder / "1.cases.json").write_text(TrainingCases({"ef": "3.png"}, {}, 0, 5, settings=settings).as_json())
    done = CliRunner().invoke(app, words)
    assert "not noted" not in done.output
    content = json.loads((tmp_path / "mean.cases.json").read_text())
    assert content["training"] == {"ef": "3.png"}
    assert content["earlier"] == {"ab": "1.png", "cd": "2.png"}
    assert content["unknown"] == []
    assert content["settings"] == settings
    (folder / "1.cases.json").unlink()
    assert "1.pt was trained on is not noted beside it" in CliRunner().invoke(app, words).output
    content = json.loads((tmp_path / "mean.cases.json").read_text())
    assert content["unknown"] == ["1.pt"]
    assert content["settings"] == {}
    (folder / "1.cases.json").write_text(TrainingCases({}, {}, settings={"spatial_size": [96, 96]}).as_json())
    CliRunner().invoke(app, words)
    assert json.loads((tmp_path / "mean.cases.json").read_text())["settings"] == {}
    words[-1] = str(tmp_path / "mean.safetensors")
    assert "The output is a .pt file" in str(CliRunner().invoke(app, words).exception)

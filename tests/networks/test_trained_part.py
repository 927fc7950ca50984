# SPDX-License-Identifier: Apache-2.0
"""Tests of the small file that holds what was trained: written, found by name, and loaded with its encoder."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from typer.testing import CliRunner

from monai_sam2unet.cli import app
from monai_sam2unet.data import TrainingCases
from monai_sam2unet.errors import UserError, WeightsError
from monai_sam2unet.networks import Hiera, SAM2UNet, load_weights
from monai_sam2unet.networks.trained_part import save_trained_part


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Holds an encoder under the name of Meta's, and what a training on it would have written."""
    place: Path = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    torch.save(Hiera("tiny").state_dict(), place / "sam2_hiera_tiny.pt")
    net = SAM2UNet(out_channels=2, size="tiny", adapter_channels=8, lora_rank=2, weights=place / "sam2_hiera_tiny.pt")
    generator = torch.Generator().manual_seed(1)
    for name, value in net.named_parameters():
        if value.requires_grad or name.startswith("side"):
            value.data.normal_(0, 0.05, generator=generator)
    net.rfb1.branch0[0].bn.running_var.fill_(1e-9)
    torch.save(net.state_dict(), place / "model.pt")
    return place


@pytest.fixture(autouse=True)
def found_in_the_folder(folder, monkeypatch) -> None:
    monkeypatch.setenv("SAM2UNET_WEIGHTS", str(folder))


@pytest.fixture(scope="module")
def trained_part(folder):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SAM2UNET_WEIGHTS", str(folder))
        return save_trained_part(folder / "model.pt", folder / "polyps.safetensors", "sam2")


CHOICES = {"out_channels": 2, "size": "tiny", "adapter_channels": 8, "lora_rank": 2}


def test_what_is_written(trained_part):
    content = trained_part.path.read_bytes()
    assert trained_part.sha256 == hashlib.sha256(content).hexdigest()
    assert trained_part.num_bytes == len(content) < 6e6
    assert trained_part.choices == {**CHOICES, "in_channels": 3, "decoder_channels": 64}
    with safe_open(trained_part.path, "pt") as file:
        header, names = file.metadata(), set(file.keys())
    assert (header["encoder_weights"], header["encoder_size"], header["lora_rank"]) == ("sam2", "tiny", "2")
    assert not any(".block." in name and ".lora_" not in name for name in names)


@pytest.mark.parametrize("source", ["polyps", "polyps.safetensors"])
def test_it_loads_by_name_with_its_encoder(folder, trained_part, source, monkeypatch):
    monkeypatch.chdir(folder)
    net = SAM2UNet(**CHOICES, weights=source)
    wanted = torch.load(folder / "model.pt", weights_only=True)
    for name, value in net.state_dict().items():
        is_stored_in_16_bits = value.dim() > 1 and not (".block." in name and ".lora_" not in name)
        tolerance = {"rtol": 1e-3, "atol": 1e-7} if is_stored_in_16_bits else {"rtol": 0, "atol": 0}
        torch.testing.assert_close(value, wanted[name], **tolerance)


def test_logits_stay(folder, trained_part):
    nets = [SAM2UNet(**CHOICES, weights=folder / name).eval() for name in ("model.pt", "polyps.safetensors")]
    image = torch.rand(1, 3, 64, 64)
    with torch.inference_mode():
        first, second = (net(image) for net in nets)
    assert (first - second).abs().max() < 0.01 * first.abs().max()


@pytest.fixture(scope="module")
def whole_trained(folder) -> Path:
    """A network whose encoder was changed in few directions, and a little in all."""
    tensors = torch.load(folder / "model.pt", weights_only=True)
    generator = torch.Generator().manual_seed(2)
    for name, value in tensors.items():
        if name.startswith("encoder.") and "prompt_learn" not in name and "lora" not in name:
            noise = 1e-5 * torch.randn(value.shape, generator=generator)
            if value.dim() == 2:
                noise += (
                    0.001
                    * torch.randn(len(value), 2, generator=generator)
                    @ torch.randn(2, value.shape[1], generator=generator)
                )
            value += noise
    torch.save(tensors, folder / "whole.pt")
    return folder / "whole.pt"


def test_a_trained_encoder_is_kept_as_changes_of_low_rank(folder, whole_trained, tmp_path):
    path = tmp_path / "whole.safetensors"
    with pytest.raises(WeightsError, match="--encoder-rank 16"):
        save_trained_part(whole_trained, path, "sam2")
    written = save_trained_part(whole_trained, path, "sam2", encoder_rank=2)
    assert written.kept is not None
    assert 0.999 < written.kept < 1
    assert written.num_bytes < 8e6
    net = SAM2UNet(**CHOICES, weights=str(path))
    wanted, before = torch.load(whole_trained, weights_only=True), torch.load(folder / "model.pt", weights_only=True)
    state = net.state_dict()
    assert state.keys() == wanted.keys()
    for name, value in wanted.items():
        value, changed = value.float(), (value.float() - before[name]).norm()
        assert (state[name] - value).norm() <= 0.05 * changed + 1e-3 * value.norm() * (value.dim() > 1)
    matrix = "encoder.blocks.5.block.mlp.layers.0.weight"
    assert (state[matrix] - wanted[matrix]).norm() < 0.05 * (wanted[matrix] - before[matrix]).norm()
    # Loaded once more, its changes are those of Meta's encoder, not of what is there.
    load_weights(net, path)
    assert all(torch.equal(value, state[name]) for name, value in net.state_dict().items())


def test_factors_that_do_not_fit_are_refused(folder, whole_trained, tmp_path):
    save_trained_part(whole_trained, tmp_path / "a.safetensors", "sam2", encoder_rank=2)
    with safe_open(tmp_path / "a.safetensors", "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    name = "encoder.blocks.5.block.mlp.layers.0.weight"
    a, b = f"{name}.change_a", f"{name}.change_b"
    broken = {
        f"missing: {b}": {k: v for k, v in tensors.items() if k != b},
        f"missing: {a}": {k: v for k, v in tensors.items() if k != a},
        f"shape of {b}": {**tensors, b: tensors[b][:, :1].contiguous()},
        f"shape of {a}": {**tensors, a: tensors[a][:, 1:].contiguous()},
        f"not finite: {a}": {**tensors, a: tensors[a] * torch.inf},
        "unexpected: head.weight.change_a": {**tensors, "head.weight.change_a": torch.zeros(1)},
    }
    net = SAM2UNet(**CHOICES)
    before = {k: v.clone() for k, v in net.state_dict().items()}
    for message, content in broken.items():
        save_file(content, tmp_path / "b.safetensors", header)
        with pytest.raises(WeightsError, match=message):
            load_weights(net, tmp_path / "b.safetensors")
    assert all(torch.equal(v, before[k]) for k, v in net.state_dict().items())
    with pytest.raises(UserError, match="rank of an encoder's changes must be at least 1"):
        save_trained_part(whole_trained, tmp_path / "c.safetensors", "sam2", encoder_rank=0)


def test_an_encoder_that_is_not_the_named_one_is_refused(folder, trained_part, tmp_path, monkeypatch):
    torch.manual_seed(5)
    torch.save(Hiera("tiny").state_dict(), tmp_path / "sam2_hiera_tiny.pt")
    monkeypatch.setenv("SAM2UNET_WEIGHTS", str(tmp_path))
    net = SAM2UNet(**CHOICES)
    before = {name: value.clone() for name, value in net.state_dict().items()}
    with pytest.raises(WeightsError, match="trained on other frozen encoder weights"):
        load_weights(net, trained_part.path)
    assert all(torch.equal(value, before[name]) for name, value in net.state_dict().items())
    with pytest.raises(WeightsError, match="is not that of sam2: give the weights that the training started"):
        save_trained_part(folder / "model.pt", tmp_path / "out.safetensors", "sam2")


def test_an_encoder_that_computes_the_same_is_taken(folder, trained_part, tmp_path, monkeypatch):
    """As the same weights come from another source: rounded, and with a constant moved between the embeddings."""
    tensors = torch.load(folder / "sam2_hiera_tiny.pt", weights_only=True)
    constant = torch.linspace(-0.1, 0.1, 96).view(1, 96, 1, 1)
    moved = {**tensors, "pos_embed": tensors["pos_embed"] + constant}
    moved["pos_embed_window"] = tensors["pos_embed_window"] - constant
    torch.save({name: value * (1 + 1e-6) for name, value in moved.items()}, tmp_path / "sam2_hiera_tiny.pt")
    monkeypatch.setenv("SAM2UNET_WEIGHTS", str(tmp_path))
    net = SAM2UNet(**CHOICES, weights=str(trained_part.path))
    assert not torch.equal(net.encoder.pos_embed, tensors["pos_embed"])
    assert float(net.head.weight.detach().std()) == pytest.approx(0.05, rel=0.3)


def test_a_file_does_not_choose_what_else_is_opened(folder, trained_part, tmp_path):
    with safe_open(trained_part.path, "pt") as file:
        header, tensors = file.metadata(), {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path = tmp_path / "other.safetensors"
    save_file(tensors, path, {**header, "encoder_weights": str(folder / "sam2_hiera_tiny.pt")})
    with pytest.raises(WeightsError, match="only Meta's are fetched"):
        load_weights(SAM2UNet(**CHOICES), path)
    for broken in ({**header, "encoder_probe": "[1, oh"}, {k: v for k, v in header.items() if k != "encoder_probe"}):
        save_file(tensors, path, broken)
        with pytest.raises(WeightsError, match="cannot be read as weights"):
            load_weights(SAM2UNet(**CHOICES), path)


@pytest.mark.parametrize(
    ("checkpoint", "output", "weights", "message"),
    [
        ("model.pt", "out.safetensors", "facebook/sam2-hiera-tiny", "one that all can fetch, sam2 or sam2.1"),
        ("model.pt", "out.pt", "sam2", "The output is a .safetensors file"),
        ("model.pt", "nowhere/out.safetensors", "sam2", "a folder that exists"),
        ("polyps.safetensors", "out.safetensors", "sam2", "is a light checkpoint"),
    ],
)
def test_what_cannot_be_written(folder, trained_part, tmp_path, checkpoint, output, weights, message):
    with pytest.raises(UserError, match=message):
        save_trained_part(folder / checkpoint, tmp_path / output, weights)
    assert not list(tmp_path.iterdir())


def test_another_size_is_named(trained_part):
    with torch.device("meta"):
        net = SAM2UNet(**{**CHOICES, "size": "small"})
    with pytest.raises(WeightsError, match=r"'tiny'.*'small'.*Set encoder_size"):
        load_weights(net, trained_part.path)


def test_an_encoder_alone_and_too_large_values_are_refused(folder, tmp_path):
    with pytest.raises(WeightsError, match="holds no whole SAM2-UNet"):
        save_trained_part(folder / "sam2_hiera_tiny.pt", tmp_path / "out.safetensors", "sam2")
    tensors = torch.load(folder / "model.pt", weights_only=True)
    tensors["head.weight"][0, 0] = 1e6
    torch.save(tensors, tmp_path / "model.pt")
    with pytest.raises(WeightsError, match="beyond 65504"):
        save_trained_part(tmp_path / "model.pt", tmp_path / "out.safetensors", "sam2")
    assert not (tmp_path / "out.safetensors").exists()


def test_other_safetensors_are_read_as_before(folder, tmp_path):
    save_file(
        torch.load(folder / "sam2_hiera_tiny.pt", weights_only=True), tmp_path / "e.safetensors", {"format": "pt"}
    )
    assert load_weights(Hiera("tiny"), tmp_path / "e.safetensors").part == "encoder"


def test_command(folder, whole_trained, tmp_path):
    words = ["weights", "extract", str(folder / "model.pt"), str(tmp_path / "a.safetensors"), "--weights", "sam2"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    sha256 = hashlib.sha256((tmp_path / "a.safetensors").read_bytes()).hexdigest()
    assert f"SHA-256 {sha256}" in done.output
    assert not (tmp_path / "a.cases.json").exists()
    assert "adapter_channels 8, lora_rank 2" in done.output
    assert "model.pt was trained on is not noted beside it" in done.output
    cases = TrainingCases({"ab": "1.png"}, {"cd": "2.png"})
    (folder / "model.cases.json").write_text(cases.as_json())
    done = CliRunner().invoke(app, words)
    assert "is not noted" not in done.output
    assert TrainingCases.of_checkpoint(tmp_path / "a.safetensors") == cases
    (folder / "model.cases.json").write_text("{}")
    assert "does not say what was trained on" in str(CliRunner().invoke(app, words).exception)
    (folder / "model.cases.json").unlink()
    done = CliRunner().invoke(app, [*words, "--encoder-rank", "2"])
    assert not (tmp_path / "a.cases.json").exists(), "of another training"
    assert "Of the change" not in done.output
    words[2] = str(whole_trained)
    done = CliRunner().invoke(app, [*words, "--encoder-rank", "2"])
    assert "Of the change of the encoder's matrices 100.0% is kept" in done.output
    words[3] = str(tmp_path / "a.pt")
    assert "The output is a .safetensors file" in str(CliRunner().invoke(app, words).exception)

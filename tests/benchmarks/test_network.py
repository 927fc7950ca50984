# SPDX-License-Identifier: Apache-2.0
"""Tests of the network's benchmark: what it counts and compares, and one short run of the whole."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.network import inference
from benchmarks.network.agreement import agreement, photographs, with_logits
from benchmarks.network.every_form import FORMS
from benchmarks.network.forms import Built, Form, Setting, Unavailable, Workbench
from benchmarks.network.inference import gflop, measure_inference, new_row
from benchmarks.network.memory import measure_memory
from benchmarks.network.peers import SEGRESNET_WIDTHS, on_transformers_encoder
from benchmarks.network.plot import draw
from benchmarks.network.roofline import roofline
from benchmarks.network.table import markdown
from benchmarks.network.training import TRAINING_FORMS, Step, TrainingForm, measure_training, saved_bytes
from monai_sam2unet.errors import DataError
from monai_sam2unet.networks import HIERA_SPECS, SAM2UNet

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def setting(tmp_path_factory) -> Setting:
    return Setting("tiny", 64, "cpu", str(tmp_path_factory.mktemp("scratch")))


@pytest.fixture(scope="module")
def bench(setting: Setting) -> Workbench:
    return Workbench(setting)


def measured(bench: Workbench, *forms: Form, batch: int = 1, rounds: int = 3) -> list[dict]:
    rows = {form.key: new_row(form) for form in forms}
    nothing = {"pictures": [], "rates": {"fp32": 100.0}, "turn_s": 0.0, "say": lambda text: None}
    measure_inference(bench, rows, forms, batch, rounds, **nothing)
    return list(rows.values())


def test_arithmetic_is_counted_by_hand() -> None:
    assert gflop(nn.Conv2d(3, 4, 3, padding=1), torch.zeros(1, 3, 8, 8)) == 2 * 3 * 9 * 4 * 64 / 1e9

    class Attention(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return F.scaled_dot_product_attention(x, x, x)

    assert gflop(Attention(), torch.zeros(1, 2, 16, 8)) == 2 * (2 * 2 * 16 * 16 * 8) / 1e9


def test_a_form_is_compared_with_the_first_round_by_round(bench: Workbench, monkeypatch) -> None:
    taken = {"plain": [0.1, 0.2, 0.4], "other": [0.2, 0.2, 0.2]}
    monkeypatch.setattr(inference, "in_turns", lambda calls, *args, **kwargs: {name: taken[name] for name in calls})
    other = Form("other", "other", "ours", "int8", lambda bench, batch: Built(bench.plain))
    rows = measured(bench, FORMS["plain"], other, batch=2)
    first, second = (row["batches"]["2"] for row in rows)
    assert first["times_as_fast"] == {"median": 1.0, "lower_quartile": 1.0, "upper_quartile": 1.0}
    assert second["times_as_fast"] == pytest.approx({"median": 1.0, "lower_quartile": 0.75, "upper_quartile": 1.5})
    assert first["ms"] == pytest.approx({"median": 200, "lower_quartile": 150, "upper_quartile": 300})
    assert first["images_per_second"]["median"] == pytest.approx(2 / 0.2)
    assert first["floor_ms"] == pytest.approx(1000 * 2 * rows[0]["gflop"] / 100)
    assert first["matmul_share"] == pytest.approx(first["floor_ms"] / 200)
    assert "floor_ms" not in second  # no rate of int8 was measured
    assert rows[1]["max_relative_difference"] == 0


@pytest.mark.parametrize("value", [0.0, float("nan")])
def test_a_form_that_is_wrong_at_one_batch_size_is_not_timed_there(bench: Workbench, value: float) -> None:
    def wrong_of_two(bench: Workbench, batch: int) -> Built:
        return Built(lambda x: bench.plain(x) if len(x) == 1 else torch.full((2, 1, 64, 64), value))

    rows = {"wrong": new_row(Form("wrong", "wrong", "ours", "bf16", wrong_of_two))}
    form = Form("wrong", "wrong", "ours", "bf16", wrong_of_two)
    for batch in (1, 2):
        measure_inference(
            *(bench, rows, [form], batch, 1), pictures=[], rates={"fp32": 1.0}, turn_s=0.0, say=lambda text: None
        )
    assert rows["wrong"]["batches"]["1"]["ms"]["median"] > 0
    assert rows["wrong"]["batches"]["2"]["reason"].startswith("wrong: its logits differ by ")
    assert rows["wrong"]["max_relative_difference"] == 0


def test_what_cannot_run_is_a_row_with_the_reason_and_the_others_run(bench: Workbench) -> None:
    def unavailable(bench: Workbench, batch: int) -> Built:
        raise Unavailable("not on a Tuesday")

    def fails(bench: Workbench, batch: int) -> Built:
        return Built(lambda x: x @ x[:, :, :-1])

    rows = measured(
        bench,
        Form("a", "A", "ours", "fp32", unavailable),
        Form("b", "B", "ours", "fp32", fails),
        FORMS["plain"],
        rounds=1,
    )
    assert rows[0]["batches"]["1"] == {"reason": "not on a Tuesday"}
    assert rows[1]["batches"]["1"]["reason"].startswith("RuntimeError: ")
    assert rows[2]["batches"]["1"]["ms"]["median"] > 0
    assert "| A |  |  | not on a Tuesday |" in markdown({"sizes": {"tiny": {"rows": rows}}})


@pytest.mark.parametrize("key", ["optimised", "bf16", "optimised-bf16", "transformers"])
def test_our_forms_and_the_peer_of_one_function_give_our_logits(bench: Workbench, key: str) -> None:
    if key == "transformers":
        pytest.importorskip("transformers.models.sam2.modeling_sam2")
    (row,) = measured(bench, FORMS[key], rounds=1)
    assert row["max_relative_difference"] < (0.05 if "bf16" in key else 1e-5)
    assert row["batches"]["1"]["ms"]["median"] > 0


@pytest.mark.slow
def test_an_exported_form_gives_our_logits(bench: Workbench) -> None:
    for name in ("openvino", "onnx", "onnxscript"):
        pytest.importorskip(name)
    (row,) = measured(bench, FORMS["openvino-f32"], rounds=1)
    assert row["max_relative_difference"] < 1e-5
    assert bench.file("openvino_1.xml").exists()  # for the process that measures memory


def test_the_encoder_of_transformers_takes_our_adapters_too() -> None:
    pytest.importorskip("transformers.models.sam2.modeling_sam2")
    torch.manual_seed(0)
    ours = SAM2UNet(size="tiny").eval()
    with torch.no_grad():
        for parameter in ours.parameters():
            parameter.add_(0.02 * torch.randn_like(parameter))
    image = torch.randn(1, 3, 64, 96)
    trained = sum(p.numel() for p in ours.parameters() if p.requires_grad)
    with torch.no_grad():
        expected = ours(image)
        theirs = on_transformers_encoder(ours)
        torch.testing.assert_close(theirs(image), expected, rtol=1e-4, atol=1e-5)
    assert type(theirs.encoder).__name__ == "TransformersEncoder"
    assert sum(p.numel() for p in theirs.parameters() if p.requires_grad) == trained


@pytest.mark.parametrize("size", list(HIERA_SPECS))
def test_a_peer_has_as_many_parameters_as_the_network_of_that_size(size: str) -> None:
    from monai.networks.nets import SegResNet

    with torch.device("meta"):
        ours, theirs = SAM2UNet(size=size), SegResNet(2, SEGRESNET_WIDTHS[size], 3, 1)
    counts = [sum(p.numel() for p in network.parameters()) for network in (ours, theirs)]
    assert counts[1] == pytest.approx(counts[0], rel=0.15)


def test_agreement_of_masks() -> None:
    """Three images, batches of two with the last one filled up: masks that are equal, half as large, and both empty."""
    images = [torch.full((1, 3, 2, 4), value) for value in (1.0, 2.0, -1.0)]

    def plain(x: Tensor) -> Tensor:
        return x[:, :1]

    def half(x: Tensor) -> Tensor:
        logits = x[:, :1].clone()
        logits[..., 2:] = torch.where(logits[..., 2:] == 2, -2.0, logits[..., 2:])
        return logits

    pictures = with_logits(images, plain, CPU)
    same = agreement(plain, pictures, 2, CPU)
    assert same == {"images": 3, "dice_mean": 1.0, "dice_min": 1.0, "max_relative_difference": 0.0}
    other = agreement(half, pictures, 2, CPU)
    assert other["dice_min"] == pytest.approx(2 * 4 / (4 + 8))
    assert other["dice_mean"] == pytest.approx((1 + 2 / 3 + 1) / 3)
    assert other["max_relative_difference"] == pytest.approx(4 / 2)


def test_photographs_are_spread_over_the_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images"):
        photographs(tmp_path, 2, 32)
    for number in range(6):
        pixels = np.full((40, 50, 3), 40 * number, np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    chosen = photographs(tmp_path, 3, 32)
    assert [tuple(image.shape) for image in chosen] == [(1, 3, 32, 32)] * 3
    levels = [float(image[0, 0].mean() * 0.229 + 0.485) * 255 for image in chosen]
    assert levels == pytest.approx([0, 80, 160], abs=1)


@pytest.mark.slow
def test_memory_is_that_of_a_process_with_the_form_alone(setting: Setting, monkeypatch) -> None:
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("Linux only")
    weights_mib = 4 * sum(p.numel() for p in SAM2UNet(size="tiny").parameters()) / 2**20
    found = measure_memory(FORMS["plain"], setting, 1, 1)
    assert weights_mib < found < 3 * weights_mib
    monkeypatch.setattr(sys, "executable", "/bin/false")
    with pytest.raises(Unavailable, match="its process failed: no message"):
        measure_memory(FORMS["plain"], setting, 1, 1)


def test_what_is_kept_for_the_backward_pass_is_counted_once() -> None:
    images, masks = torch.randn(2, 3, 32, 32), torch.ones(2, 1, 32, 32)
    convolution = nn.Conv2d(3, 1, 1)
    without = saved_bytes(Step(convolution, images, masks, bf16=False))
    with_gelu = saved_bytes(Step(nn.Sequential(convolution, nn.GELU()), images, masks, bf16=False))
    twice = saved_bytes(Step(nn.Sequential(nn.Identity(), convolution), images, masks, bf16=False))
    assert with_gelu - without == 2 * 32 * 32 * 4
    assert twice == without


def test_steps_of_training(bench: Workbench) -> None:
    def fails(bench: Workbench) -> nn.Module:
        raise RuntimeError("out of memory\nand more")

    keys = ("plain", "plain-checkpointing", "compiled-bf16", "segresnet")
    forms = [form for form in TRAINING_FORMS if form.key in keys]
    rows = measure_training(bench, [*forms, TrainingForm("broken", "broken", "peers", fails)], 2, 2, lambda text: None)
    plain, checkpointing, compiled, segresnet, broken = rows
    assert plain["times_as_fast"]["median"] == 1
    assert checkpointing["saved_mib"] < 0.4 * plain["saved_mib"]
    assert plain["trained_m"] == checkpointing["trained_m"] < 0.2 * segresnet["trained_m"]
    assert "CUDA" in compiled["reason"]
    assert broken["reason"] == "RuntimeError: out of memory"


def test_a_step_trains_only_what_is_trained(bench: Workbench) -> None:
    network = bench.trainable(deep_supervision=True)
    before = {name: value.clone() for name, value in network.named_parameters()}
    step = Step(network, bench.images(2), torch.ones(2, 1, 64, 64), bf16=True)
    step()
    step()
    changed = {name for name, value in network.named_parameters() if not torch.equal(value, before[name])}
    assert changed == {name for name, value in network.named_parameters() if value.requires_grad}


def test_roofline(monkeypatch) -> None:
    import benchmarks.network.roofline as module

    monkeypatch.setattr(module, "SIDES", {"cpu": (256,)})
    monkeypatch.setattr(module, "COPIED", {"cpu": 2**22})
    monkeypatch.setattr(module, "in_turns", lambda calls, *args, **kwargs: {name: [0.5] for name in calls})
    rates = roofline(CPU, rounds=1)
    assert rates["gflop_per_s"]["fp32"] == 2 * 256**3 / 0.5 / 1e9
    assert rates["copy_gb_per_s"] == 2 * 2**22 / 0.5 / 1e9


def test_both_products_of_the_roofline_are_the_same() -> None:
    from benchmarks.network.roofline import _products

    matmul, convolution = (call() for call in _products(CPU, torch.float32, 128).values())
    torch.testing.assert_close(convolution.permute(0, 2, 3, 1).reshape(128, 128), matmul, rtol=1e-4, atol=1e-4)


def test_keys_are_told_apart() -> None:
    assert len({form.label for form in FORMS.values()}) == len(FORMS)
    assert len({form.key for form in TRAINING_FORMS}) == len(TRAINING_FORMS)


@pytest.mark.slow
def test_a_run_of_the_whole(clone: Path, tmp_path: Path, repository: Path) -> None:
    output, plot = tmp_path / "out" / "network.json", tmp_path / "network.png"
    words = ["--pixels", "64", "--batch", "2", "--batch", "1", "--rounds", "2", "--train-batch", "2", "--no-memory"]
    words += ["--forms", "released,plain,tensorrt,segresnet", "--official", str(clone)]
    words += ["--output", str(output), "--plot", str(plot)]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.network", *words], cwd=repository, capture_output=True, text=True, check=True
    )
    results = json.loads(output.read_text(encoding="utf-8"))
    assert str(clone) not in results["command"]
    assert results["roofline"]["gflop_per_s"]["fp32"] > 1
    rows = results["sizes"]["tiny"]["rows"]
    assert [row["key"] for row in rows] == ["released", "plain", "tensorrt", "segresnet"]
    assert all(list(row["batches"]) == ["1", "2"] for row in rows)
    assert rows[0]["max_relative_difference"] < 1e-5
    assert rows[2]["batches"]["1"]["reason"] == "TensorRT needs a CUDA device"
    assert rows[0]["batches"]["2"]["times_as_fast"]["median"] == 1
    trained = results["sizes"]["tiny"]["training"]
    assert [row["key"] for row in trained["rows"]] == ["released", "plain", "segresnet"]
    assert done.stdout.strip() == markdown(results).strip()
    with Image.open(plot) as picture:
        assert picture.width > 800
        assert np.asarray(picture.convert("L")).std() > 5


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pixels", "50"], "multiple of 32"),
        (["--forms", "plain,nonesuch"], "nonesuch is not known"),
        (["--size", "huge"], "huge is not known"),
        (["--device", "tpu"], "--device must be"),
    ],
)
def test_what_is_not_allowed_is_said(words: list[str], message: str) -> None:
    import typer
    from typer.testing import CliRunner

    from benchmarks.network.__main__ import main

    app = typer.Typer()
    app.command()(main)
    result = CliRunner().invoke(app, words)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


def test_the_plot_shows_the_batch_asked_for_or_less(tmp_path: Path) -> None:
    def row(key: str, group: str, batches: dict) -> dict:
        return {**new_row(SimpleNamespace(key=key, label=key, group=group, precision="fp32")), "batches": batches}

    speed = {"median": 5.0, "lower_quartile": 4.0, "upper_quartile": 6.0}
    entry = {"images_per_second": speed, "times_as_fast": speed}
    rows = [
        {**row("plain", "ours", {"1": entry, "4": entry, "16": entry}), "gflop": 2.0},
        row("peer", "peers", {"1": {"reason": "no"}, "4": {"reason": "no"}}),
    ]
    results = {"sizes": {"tiny": {"rows": rows}}, "roofline": {"gflop_per_s": {"fp32": 20.0}}}
    figure = draw(tmp_path / "plot.png", results)
    (axes,) = figure.axes
    assert axes.get_xlabel() == "images/s, batch 4"
    assert [label.get_text() for label in axes.get_yticklabels()] == ["plain"]
    assert axes.patches[0].get_width() == 5
    limits = [line.get_xdata()[0] for line in axes.lines if line.get_linestyle() == ":"]
    assert limits == [20 / 2]

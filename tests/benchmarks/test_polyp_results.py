# SPDX-License-Identifier: Apache-2.0
"""Tests of the runs behind the polyp results: what is run, and what a second call does."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from monai.bundle import ConfigParser
from PIL import Image
from typer import Typer
from typer.testing import CliRunner

from benchmarks import bundle_run, polyp_results
from benchmarks.bundle_run import BUNDLES
from benchmarks.polyp_recipes import AVERAGE, PEERS, RECIPES
from benchmarks.polyp_results import main
from benchmarks.results_table import gain_over, markdown, reliability
from benchmarks.results_table import main as print_table
from monai_sam2unet.bundle import load_checkpoint
from monai_sam2unet.errors import CheckpointError, DataError
from monai_sam2unet.evaluation.bootstrap import bootstrap_interval
from monai_sam2unet.evaluation.statistics import holm_adjusted

POLYP = BUNDLES / "polyp_segmentation"
app, table_app = Typer(), Typer()
app.command()(main)
table_app.command()(print_table)


class Bundle:
    """In place of `monai.bundle run`: writes what the runs write, and keeps their command lines."""

    def __init__(self) -> None:
        self.commands: list[list[str]] = []
        self.stops_at: int | None = None
        self.breaks_at: int | None = None

    def __call__(self, command: list[str], **options: object) -> None:
        self.commands.append(command)
        if "average" in command:
            Path(command[-1]).write_text("mean")
            return
        values = dict(zip(command[5::2], command[6::2], strict=True))
        if "training" in command:
            Path(values["--ckpt_dir"]).mkdir(exist_ok=True)
            (Path(values["--ckpt_dir"]) / "last.pt").touch()
        if self.stops_at == len(self.commands):
            raise subprocess.TimeoutExpired(command, 1)
        if self.breaks_at == len(self.commands):
            raise subprocess.CalledProcessError(1, command)
        if "training" in command:
            (Path(values["--ckpt_dir"]) / "model.pt").write_text("trained")
        if "evaluating" in command:
            self.evaluate(Path(values["--output_dir"]), values)

    def evaluate(self, folder: Path, values: dict[str, str]) -> None:
        folder.mkdir(exist_ok=True)
        name = "Kvasir without polyp" if "crops" in folder.name else "Kvasir"
        settings = {"checkpoint": values["--ckpt_path"], "dataset_dir": values["--dataset_dir"], "threshold": 0.5}
        columns = ("dice_mean", "dice", "iou", "iou_mean", "calibration_error")
        sets = {name: {"images": 2, **{f"mean_{column}": 0.5 for column in columns}}}
        sets[name]["dice_by_size"] = {"large": {"images": 2, "mean_dice": 0.25}}
        (folder / "summary.json").write_text(json.dumps({"settings": settings, "sets": sets}))
        scores = {"dice_mean": [0.4, 0.6], "false_alarm_area": [0.0, 1.0]}
        images = [f"{values['--dataset_dir']}/{n}.png" for n in "ab"]
        pd.DataFrame({"dataset": name, "image": images, **scores}).to_csv(folder / "metrics.csv", index=False)
        bins = {"low": [0.0], "high": [0.1], "pixels": [5], "probability": [0.05], "frequency": [0.2]}
        pd.DataFrame({"dataset": [name], **bins}).to_csv(folder / "reliability.csv", index=False)


@pytest.fixture
def bundle(monkeypatch) -> Bundle:
    fake = Bundle()
    monkeypatch.setattr(bundle_run.subprocess, "run", fake)
    return fake


@pytest.fixture
def data(tmp_path) -> Path:
    """One test image, which is free of polyps at the right."""
    folder = tmp_path / "data" / "TestDataset" / "Kvasir"
    mask = np.zeros((60, 90), np.uint8)
    mask[10:50, 5:25] = 255
    for name, pixels in (("images", np.full((60, 90, 3), 150, np.uint8)), ("masks", mask)):
        (folder / name).mkdir(parents=True)
        Image.fromarray(pixels).save(folder / name / "1.png")
    return tmp_path / "data"


@pytest.fixture
def call(data, tmp_path):
    def invoke(*words: object):
        places = ("--dataset-dir", data, "--output", tmp_path / "out", "--work-dir", tmp_path / "work")
        return CliRunner().invoke(app, [str(word) for word in (*places, *words)])

    return invoke


def settings_of(file: Path) -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load(file.read_text(encoding="utf-8"))
    return content


def values_of(command: list[str]) -> dict[str, str]:
    return dict(zip(command[5::2], command[6::2], strict=True))


@pytest.mark.parametrize("name", list(RECIPES))
def test_every_recipe_sets_what_the_bundle_has(bundle, call, tmp_path, name) -> None:
    result = call("--recipes", name, "--seeds", 1)
    assert result.exit_code == 0, result.output
    recipe = RECIPES[name]
    trained = RECIPES[recipe.trained_as or name]
    *earlier, last, first, second = bundle.commands
    assert len(earlier) == len(trained.earlier)
    evaluations = [values_of(first), values_of(second)]
    if trained.average_of:
        for values in evaluations:
            assert all(values[f"--{key}"] == str(value) for key, value in recipe.evaluation.items())
            assert values["--ckpt_path"] == last[-1]
        return
    train = values_of(last)
    known = {config: settings_of(POLYP / "configs" / f"{config}.yaml").keys() for config in ("train", "evaluate")}
    for values, config in zip((train, *evaluations), ("train", "evaluate", "evaluate"), strict=True):
        assert {word[2:].split("::")[0] for word in values} - {"config_file"} <= known[config]
        for file in yaml.safe_load(values["--config_file"]):
            assert settings_of(POLYP / file).keys() <= known["train"] | known["evaluate"], file
    assert "paper.yaml" in train["--config_file"]
    assert all(train[f"--{key}"] == str(value) for key, value in trained.training.items())
    for values in evaluations:
        assert all(values[f"--{key}"] == train[f"--{key}"] == str(value) for key, value in trained.network.items())
        assert all(values[f"--{key}"] == str(value) for key, value in recipe.evaluation.items())
        assert values["--ckpt_path"] == f"{train['--ckpt_dir']}/model.pt"
    assert float(train["--max_epochs"]) == 20 * trained.epochs < float(train["--val_interval"])
    assert 0 < float(train["--val_fraction"]) < 1 / 1450
    assert evaluations[0]["--dataset_dir"] == train["--dataset_dir"] == str(tmp_path / "data")
    (crops,) = (tmp_path / "work").glob("crops_*")
    assert evaluations[1]["--dataset_dir"] == str(crops)


@pytest.mark.parametrize("file", sorted({str(recipe.peer) for recipe in PEERS.values()}))
def test_peers_are_the_same_network_in_all_configs(tmp_path, file) -> None:
    networks = []
    for config in ("train", "evaluate", "inference"):
        parser = ConfigParser()
        parser.read_config(
            [
                POLYP / "configs" / f"{config}.yaml",
                POLYP / "../../configs/peers" / file,
            ]
        )
        networks.append(parser.get_parsed_content("network_def"))
        assert type(networks[-1]).__name__ in ("FlexibleUNet", "SwinUNETR", "SegResNet")
        assert config == "train" or parser.get("optimize") is False
    torch.save(networks[0].state_dict(), tmp_path / "model.pt")
    for network in networks[1:]:
        load_checkpoint(network, tmp_path / "model.pt")
        assert all(torch.equal(value, networks[0].state_dict()[name]) for name, value in network.state_dict().items())
    torch.save({"w": torch.ones(1)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match=f"does not fit the network {type(networks[0]).__name__}"):
        load_checkpoint(networks[0], tmp_path / "other.pt")


def test_runs_are_done_once_and_gathered(bundle, call, tmp_path) -> None:
    assert call("--recipes", "baseline", "--seeds", "0,1").exit_code == 0
    assert call("--recipes", "baseline;LoRA of rank 8", "--seeds", "0").exit_code == 0
    assert len(bundle.commands) == 3 * 3
    out = tmp_path / "out"
    assert {folder.name for folder in out.iterdir()} == {"baseline_seed0", "baseline_seed1", "lora_of_rank_8_seed0"}
    content = json.loads((out / "lora_of_rank_8_seed0" / "summary.json").read_text())
    assert (content["recipe"], content["seed"], list(content["sets"])) == (
        "LoRA of rank 8", 0, ["Kvasir"],
    )  # fmt: skip
    assert content["settings"] == {"threshold": 0.5}
    assert content["trained_on"] == content["evaluated_on"]
    assert content["shared"]["max_epochs"] == 20
    for name, dataset in (("metrics.csv", "Kvasir"), ("crops/metrics.csv", "Kvasir without polyp")):
        images = pd.read_csv(out / "lora_of_rank_8_seed0" / name)
        assert images[["dataset", "image"]].values.tolist() == [[dataset, "a.png"], [dataset, "b.png"]]
    written = "".join(file.read_text() for file in out.rglob("*.*"))
    assert str(tmp_path) not in written


def test_the_same_training_serves_several_evaluations(bundle, call, tmp_path) -> None:
    assert call("--recipes", "flips at test time;baseline", "--seeds", 0).exit_code == 0
    assert ["training" in command for command in bundle.commands] == [True, False, False, False, False]
    (crops,) = (tmp_path / "work").glob("crops_*")
    assert {file.name for file in (tmp_path / "work").iterdir()} == {
        "baseline_seed0", crops.name, "flips_at_test_time_seed0",
    }  # fmt: skip


def test_a_training_goes_on_from_that_of_the_same_seed(bundle, call, tmp_path) -> None:
    name = "baseline, half as long again"
    assert call("--recipes", f"{name};baseline", "--seeds", "0,1").exit_code == 0
    assert ["training" in command for command in bundle.commands] == 2 * [True, True, False, False, False, False]
    for seed, (first, then) in enumerate([bundle.commands[:2], bundle.commands[6:8]]):
        before = tmp_path / "work" / f"baseline_seed{seed}" / "models"
        assert values_of(first)["--ckpt_dir"] == str(before)
        assert values_of(then)["--weights"] == str(before / "model.pt")
        assert values_of(then)["--ckpt_dir"] != str(before)
    written = (tmp_path / "out" / "baseline_half_as_long_again_seed0" / "summary.json").read_text()
    assert str(tmp_path) not in written


@pytest.mark.parametrize(("size", "larger"), [(352, "[480,480]"), (256, "[352,352]")])
def test_a_larger_input_is_that_of_training_and_evaluation(bundle, call, size, larger) -> None:
    name = "baseline, then larger input"
    assert call("--recipes", name, "--seeds", 0, "--size", size).exit_code == 0
    before, *own = (values_of(command)["--spatial_size"] for command in bundle.commands)
    assert before == f"[{size},{size}]"
    assert own == 3 * [larger]


def test_the_improved_recipe_is_that_of_the_results_at_the_papers_size(bundle, call) -> None:
    assert call("--recipes", "baseline, then larger input, flips", "--seeds", 0).exit_code == 0
    named = values_of(bundle.commands[1])
    for key, value in settings_of(BUNDLES.parent / "configs/recipes/improved.yaml").items():
        assert yaml.safe_load(named[f"--{key}"]) == value


@pytest.mark.parametrize(("epochs", "further"), [(1, 1), (8, 4)])
def test_a_training_goes_on_for_half_as_long(bundle, call, epochs, further) -> None:
    assert call("--recipes", "baseline, then larger input", "--seeds", 0, "--max-epochs", epochs).exit_code == 0
    assert values_of(bundle.commands[1])["--max_epochs"] == str(further)


def test_more_epochs_are_compared_with_as_many_at_the_larger_input(bundle, call) -> None:
    assert call("--recipes", "baseline, half as long again;baseline, then larger input", "--seeds", 0).exit_code == 0
    longer, larger = (values_of(bundle.commands[n]) for n in (1, 4))
    differing = {key for key in longer if longer[key] != larger[key]}
    assert differing == {"--spatial_size", "--ckpt_dir", "--log_dir"}


def test_weights_are_averaged_after_all_their_trainings(bundle, call, tmp_path) -> None:
    assert call("--recipes", AVERAGE, "--seeds", 0).exit_code == 0
    told = [next(word for word in ("training", "average", "evaluating") if word in c) for c in bundle.commands]
    assert told == ["training", "training", "average", "evaluating", "evaluating"]
    *_, first, second, _, output = bundle.commands[2]
    assert [first, second] == [f"{values_of(command)['--ckpt_dir']}/model.pt" for command in bundle.commands[:2]]
    assert output == values_of(bundle.commands[3])["--ckpt_path"]
    assert Path(output).parent.is_dir()


@pytest.mark.parametrize("stops_at", [1, 3])
def test_a_run_that_was_stopped_goes_on(bundle, call, stops_at) -> None:
    bundle.stops_at = stops_at
    result = call("--recipes", "baseline", "--seeds", 0, "--minutes", 5)
    assert result.exit_code == 1
    assert "goes on from here" in result.output
    assert call("--recipes", "baseline", "--seeds", 0).exit_code == 0
    again = bundle.commands[stops_at:]
    if stops_at == 1:
        assert again == [[*bundle.commands[0], "--resume", "True"], *again[1:]]
    assert ["evaluating" in command for command in again][-2:] == [True, True]
    assert len(again) == (3 if stops_at == 1 else 2)


def test_no_time_left(bundle, call) -> None:
    assert call("--recipes", "baseline", "--seeds", 0, "--minutes", 0).exit_code == 1
    assert not bundle.commands


def test_other_settings_and_data_are_refused(bundle, call, data, tmp_path) -> None:
    assert call("--recipes", "baseline", "--seeds", 0).exit_code == 0
    result = call("--recipes", "baseline", "--seeds", 0, "--size", 256)
    assert "holds a run with other settings" in result.output
    assert "spatial_size [256,256], spatial_size [352,352]" in result.output
    moved = shutil.copytree(data, tmp_path / "moved")
    assert call("--recipes", "baseline", "--seeds", 0, "--dataset-dir", moved).exit_code == 0
    assert len(bundle.commands) == 3
    for name in ("images", "masks"):
        folder = moved / "TestDataset" / "Kvasir" / name
        shutil.copy(folder / "1.png", folder / "2.png")
    result = call("--recipes", "baseline", "--seeds", 0, "--dataset-dir", moved)
    assert "holds a run whose data were changed" in result.output
    assert len(bundle.commands) == 3


def test_other_configs_and_weights_are_refused(bundle, call, tmp_path, monkeypatch) -> None:
    weights = tmp_path / "mine.pt"
    weights.write_text("one")
    words = ("--recipes", "baseline, then larger input", "--seeds", 0, "--weights", weights)
    folder = shutil.copytree(BUNDLES / "polyp_segmentation", tmp_path / "bundles" / "polyp_segmentation")
    paper = shutil.copytree(BUNDLES.parent / "configs", tmp_path / "configs") / "recipes" / "paper.yaml"
    monkeypatch.setattr(bundle_run, "BUNDLES", folder.parent)
    assert call(*words).exit_code == 0
    done = len(bundle.commands)
    paper.write_text(f"# Another comment.\n{paper.read_text()}")
    assert call(*words).exit_code == 0
    settings = paper.read_text()
    trained = tmp_path / "work" / "baseline_seed0" / "models" / "model.pt"
    for file, text in ((weights, "another"), (paper, f"{settings}\nclip_norm: 2\n"), (trained, "anew")):
        before = file.read_text()
        file.write_text(text)
        assert "holds a run whose configs or weights were changed" in call(*words).output, file
        file.write_text(before)
    assert call(*words).exit_code == 0
    assert len(bundle.commands) == done


def test_crops_are_those_of_the_data(bundle, call, data) -> None:
    folder = data / "TestDataset" / "Kvasir"
    assert call("--recipes", "baseline", "--seeds", 0).exit_code == 0
    for name in ("images", "masks"):
        shutil.copy(folder / name / "1.png", folder / name / "2.png")
    assert call("--recipes", "baseline", "--seeds", 1).exit_code == 0
    crops = [Path(values_of(bundle.commands[n])["--dataset_dir"]) for n in (2, 5)]
    assert [len(list(place.rglob("images/*.png"))) for place in crops] == [1, 2]


def test_evaluations_of_a_training_that_was_made_anew_are_refused(bundle, call, tmp_path) -> None:
    assert call("--recipes", f"flips at test time;{AVERAGE}", "--seeds", 0).exit_code == 0
    for folder in (tmp_path / "work").glob("baseline*"):
        shutil.rmtree(folder)
    other = ("--seeds", 0, "--max-epochs", 10)
    for name in ("flips at test time", AVERAGE):
        result = call("--recipes", name, *other)
        assert "holds a run with other settings" in result.output, name


def test_the_commands_of_all_trainings_are_written(bundle, call, tmp_path) -> None:
    assert call("--recipes", AVERAGE, "--seeds", 0).exit_code == 0
    (folder,) = (tmp_path / "out").iterdir()
    told = json.loads((folder / "summary.json").read_text())["commands"]
    words = ("training", "average", "evaluating")
    assert [next(w for w in words if w in line.split()) for line in told] == ["training", *words]


def test_a_run_that_fails_does_not_stop_the_others(bundle, call, tmp_path) -> None:
    bundle.breaks_at = 1
    result = call("--recipes", "baseline;multi-scale", "--seeds", 0)
    assert result.exit_code == 1
    assert "baseline, seed 0: exit code 1" in result.output
    assert [folder.name for folder in (tmp_path / "out").iterdir()] == ["multi_scale_seed0"]
    assert call("--recipes", "baseline;multi-scale", "--seeds", 0).exit_code == 0
    assert len(bundle.commands) == 1 + 3 + 3


def test_another_run_in_its_place_does_not_stop_the_others(bundle, call, tmp_path) -> None:
    assert call("--recipes", "baseline", "--seeds", 0, "--size", 256).exit_code == 0
    result = call("--recipes", "baseline;multi-scale", "--seeds", 0)
    assert result.exit_code == 1
    assert "baseline, seed 0: " in result.output
    assert "tries them again" not in result.output
    assert (tmp_path / "out" / "multi_scale_seed0").is_dir()


def test_crops_are_whole_or_not_there(bundle, call, tmp_path, monkeypatch) -> None:
    def stops(_, output):
        left = output / "Old set" / "images"
        left.mkdir(parents=True)
        (left / "old.png").touch()
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(polyp_results, "write_crops", stops)
        call("--recipes", "baseline", "--seeds", 0)
    assert not list((tmp_path / "work").glob("crops_*"))
    assert call("--recipes", "baseline", "--seeds", 0).exit_code == 0
    assert len(list((tmp_path / "work").glob("crops_*/**/*.png"))) == 2


def test_crops_of_runs_that_begin_together_are_whole(data, tmp_path, monkeypatch) -> None:
    work, write_crops = tmp_path / "work", polyp_results.write_crops
    with monkeypatch.context() as patch:
        # The other run begins and ends while this one has made its first crops.
        def first(dataset_dir, output):
            (output / "Kvasir without polyp" / "images").mkdir(parents=True)
            patch.setattr(polyp_results, "write_crops", write_crops)
            polyp_results._crops(dataset_dir, work)
            return write_crops(dataset_dir, output)

        patch.setattr(polyp_results, "write_crops", first)
        crops = polyp_results._crops(data, work)
    assert len(list(crops.rglob("*.png"))) == 2
    assert list(work.iterdir()) == [crops]


def test_a_file_of_weights_is_a_place(bundle, call, tmp_path) -> None:
    (tmp_path / "mine.pt").touch()
    assert call("--recipes", "baseline", "--seeds", 0, "--weights", tmp_path / "mine.pt").exit_code == 0
    assert values_of(bundle.commands[0])["--weights"] == str(tmp_path / "mine.pt")
    assert str(tmp_path) not in (tmp_path / "out" / "baseline_seed0" / "summary.json").read_text()


def test_unknown_recipes_are_refused(call) -> None:
    result = call("--recipes", "magic")
    assert result.exit_code == 2
    assert "magic is not known" in result.output


@pytest.mark.parametrize(("option", "value"), [("--size", 350), ("--size", 0), ("--seeds", "0,a"), ("--seeds", "")])
def test_sizes_and_seeds_that_are_none_are_refused(bundle, call, option, value) -> None:
    result = call(option, value)
    assert result.exit_code == 2
    assert option in result.output
    assert not bundle.commands


def test_table_is_printed_in_the_order_of_recipes(bundle, call, tmp_path) -> None:
    assert call("--recipes", "multi-scale;baseline", "--seeds", "0,1").exit_code == 0
    plot = tmp_path / "plot.png"
    lines = CliRunner().invoke(table_app, [str(tmp_path / "out"), "--plot", str(plot)]).output.splitlines()
    assert Image.open(plot).width > 500
    assert lines[0].startswith("| recipe | seeds | Kvasir (2) | mean of the sets | points gained |")
    assert lines[2] == "| baseline | 2 | 0.500 ± 0.000 | 0.500 ± 0.000 |  |  |  | 0.500 ± 0.000 |"
    assert lines[3].startswith("| multi-scale | 2 | 0.500 ± 0.000 | 0.500 ± 0.000 | +0.0 |")
    assert (
        lines[5]
        == "| recipe | set | Dice at 0.5 | IoU at 0.5 | small polyps | medium | large | mIoU | calibration error |"
    )
    assert lines[7].startswith("| baseline | Kvasir | 0.500 ± 0.000 | 0.500 ± 0.000 |  |  | 0.250 ± 0.000 (2) | 0.500")
    file = tmp_path / "out" / "baseline_seed1" / "summary.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, "shared": {**content["shared"], "max_epochs": 1}}))
    assert "differ in more than recipe and seed" in str(
        CliRunner().invoke(table_app, [str(tmp_path / "out")]).exception
    )


def run(recipe, seed, scores, alarms=(0, 0)):
    images = pd.DataFrame([{"dataset": name, "image": f"{n}.png", "dice_mean": value} for name, n, value in scores])
    means = images.groupby("dataset")["dice_mean"].mean()
    sets = {
        name: {"images": int((images["dataset"] == name).sum()), "mean_dice_mean": means[name]} for name in means.index
    }
    return {
        "recipe": recipe,
        "seed": seed,
        "sets": sets,
        "images": images,
        "crops": pd.DataFrame({"false_alarm_area": alarms}),
        "shared": {},
        "data_sha256": "",
    }


def test_gain_is_that_of_the_same_seeds() -> None:
    better = [(name, n, 0.5 + 0.01 * n) for name in "AB" for n in range(6)]
    scores = {"A": 0.02, "B": 0.04}
    runs = [run("baseline", 0, better)]
    runs += [run("baseline", 1, [(name, n, value + 0.1) for name, n, value in better])]
    runs += [run("ours", 0, [(name, n, value + scores[name]) for name, n, value in better], alarms=(1, 0))]
    cells = markdown(runs).splitlines()[3].split(" | ")
    assert cells[:2] == ["| ours", "1"]
    assert cells[5:] == ["+3.0 (seed 0)", "+3.0 to +3.0", "<0.001", "0.500 |"]


def test_gain_and_its_interval_are_of_the_mean_of_the_sets() -> None:
    """A large set that gains a little and a small one that loses much."""
    generator = np.random.default_rng(0)
    before = [("A", n, 0.7) for n in range(60)] + [("B", n, 0.7) for n in range(380)]
    lost = {"A": -0.06, "B": 0.02}
    after = [(name, n, value + lost[name] + generator.normal(0, 0.02)) for name, n, value in before]
    gain, (low, high), p = gain_over([run("baseline", 0, before)], [run("ours", 0, after)])
    assert gain == pytest.approx(-0.02, abs=0.002)
    assert low < gain < high < 0
    assert p < 0.001


def test_intervals_are_those_of_sam2unet_compare() -> None:
    """Of one set the mean of the sets is the mean."""
    generator = np.random.default_rng(2)
    gains = generator.exponential(0.1, 12) ** 2  # so uneven that a percentile interval would be far off
    before = [("A", n, 0.5) for n in range(12)]
    after = [("A", n, 0.5 + gain) for n, gain in enumerate(gains)]
    _, interval, _ = gain_over([run("baseline", 0, before)], [run("ours", 0, after)])
    assert interval == pytest.approx(bootstrap_interval(gains), rel=0.05)
    _, interval, _ = gain_over([run("baseline", 0, before[:1])], [run("ours", 0, after[:1])])
    assert np.isnan(interval).all()


def test_reliability_is_over_all_pixels() -> None:
    columns = ["low", "high", "pixels", "probability", "frequency"]
    frames = [[(0.0, 0.5, 100, 0.2, 0.1), (0.5, 1.0, 10, 0.9, 1.0)], [(0.0, 0.5, 300, 0.4, 0.3)]]
    runs = [{"recipe": "ours", "reliability": pd.DataFrame(rows, columns=columns)} for rows in frames]
    found = reliability(runs)["ours"]
    assert found["pixels"].tolist() == [400, 10]
    assert found["probability"].tolist() == pytest.approx([0.35, 0.9])
    assert found["frequency"].tolist() == pytest.approx([0.25, 1.0])


def test_sets_are_drawn_apart_from_one_another() -> None:
    """Two sets of one size with opposite gains: drawn alike, their mean would never move."""
    before = [(name, n, 0.5) for name in "AB" for n in range(20)]
    after = [(name, n, value + (0.01 * n if name == "A" else -0.01 * n)) for name, n, value in before]
    gain, (low, high), _ = gain_over([run("baseline", 0, before)], [run("ours", 0, after)])
    assert gain == pytest.approx(0)
    assert high - low > 0.02


def test_runs_on_other_images_and_seeds_are_refused() -> None:
    scores = [("A", n, 0.5 + 0.01 * n) for n in range(6)]
    baseline = [run("baseline", 0, scores)]
    for own, message in ((run("ours", 0, scores[1:]), "same images"), (run("ours", 1, scores), "no seed")):
        with pytest.raises(DataError, match=message):
            gain_over(baseline, [own])
    with pytest.raises(DataError, match="same images"):
        markdown([*baseline, run("ours", 0, scores[1:])])


def test_p_values_are_adjusted_as_one_family() -> None:
    generator = np.random.default_rng(1)
    scores = [("A", n, 0.5 + 0.01 * n) for n in range(12)]
    runs = [run("baseline", 0, scores)]
    for name in ("one", "two", "three"):
        runs.append(run(name, 0, [(a, n, value + generator.normal(0.01, 0.02)) for a, n, value in scores]))
    alone = [float(markdown([runs[0], own]).splitlines()[3].split(" | ")[6]) for own in runs[1:]]
    together = [float(line.split(" | ")[6]) for line in markdown(runs).splitlines()[3:]]
    assert min(together) == pytest.approx(min(1, 3 * min(alone)), abs=0.002)
    assert len(set(alone)) == 3
    assert together == pytest.approx(holm_adjusted(alone).tolist(), abs=0.002)

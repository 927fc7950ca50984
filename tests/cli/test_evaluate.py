# SPDX-License-Identifier: Apache-2.0
"""Tests of ``sam2unet evaluate``: files in, tables and report out, and what it says to mistakes."""

from __future__ import annotations

import json
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from typer.testing import CliRunner

from monai_sam2unet import cli
from monai_sam2unet.errors import ConfigError, DataError


def invoke(*words):
    """Run the command in this process; gives its result and all that was printed in one line."""
    result = CliRunner(env={"COLUMNS": "160"}).invoke(cli.app, ["evaluate", *map(str, words)])
    return result, " ".join(re.sub(r"\x1b\[[0-9;]*m|[│┃]", " ", result.output).split())


@pytest.fixture
def folders(tmp_path):
    """Two sets of three maps, with images beside the masks of one."""
    generator = np.random.default_rng(0)
    for dataset in ("CAMO", "NC4K"):
        for number in range(3):
            mask = np.zeros((30, 40), bool)
            mask[5 + number : 20, 8:30] = True
            soft = gaussian_filter(np.roll(mask, 2, 1).astype(float), 2) * generator.uniform(0.7, 1)
            pictures = {
                f"maps/{dataset}": (255 * soft).astype(np.uint8),
                f"truth/{dataset}/GT": mask.astype(np.uint8) * 255,
            }
            if dataset == "CAMO":
                pictures[f"truth/{dataset}/Imgs"] = generator.integers(0, 256, (30, 40, 3), dtype=np.uint8)
            for folder, pixels in pictures.items():
                (tmp_path / folder).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(tmp_path / folder / f"{number}.png")
    return tmp_path


def test_tables_files_and_report(folders):
    result, text = invoke(folders / "maps", folders / "truth", "--output", folders / "out" / "deep")
    assert result.exit_code == 0
    frame = pd.read_csv(folders / "out" / "deep" / "metrics.csv")
    assert frame[["dataset", "image"]].values.tolist() == [[d, f"{n}.png"] for d in ("CAMO", "NC4K") for n in range(3)]
    pred, truth = (np.asarray(Image.open(folders / p / "1.png")) > 127 for p in ("maps/CAMO", "truth/CAMO/GT"))
    assert frame["dice"][1] == pytest.approx(2 * (pred & truth).sum() / (pred.sum() + truth.sum()))
    content = json.loads((folders / "out" / "deep" / "summary.json").read_text())
    assert set(content["sets"]) == {"CAMO", "NC4K"}
    assert content["settings"]["not_scored"] == []
    for told in ("Clinical: probability >= 0.5", "Papers' protocol", f"{frame['s_measure'][:3].mean():.4f}"):
        assert told in text
    page = (folders / "out" / "deep" / "report.html").read_text(encoding="utf-8")
    assert "0.png: image" in page
    assert "3 of 3 of NC4K" in page


@pytest.mark.parametrize(("protocol", "absent"), [("sod", "dice"), ("clinical", "s_measure")])
def test_one_reading(folders, protocol, absent):
    result, _ = invoke(
        folders / "maps", folders / "truth", "--protocol", protocol, "--output", folders / "out", "--no-report"
    )
    assert result.exit_code == 0
    assert absent not in pd.read_csv(folders / "out" / "metrics.csv")
    assert not (folders / "out" / "report.html").exists()


@pytest.mark.parametrize("asked", [True, False])
def test_centerline_dice_is_measured_where_it_is_asked_for(folders, asked):
    out = ("--output", folders / "out", "--protocol", "clinical", "--no-report")
    result, text = invoke(folders / "maps", folders / "truth", *out, *(["--centerline"] if asked else []))
    assert result.exit_code == 0
    assert ("clDice" in text) == asked
    frame = pd.read_csv(folders / "out" / "metrics.csv")
    assert ("cldice" in frame) == asked
    if asked:
        assert frame["cldice"].between(0.2, 1).all()


def test_published_numbers_stand_beside(folders):
    (folders / "cod.yaml").write_text("published: {CAMO: {s_measure: 0.884}}\n")
    result, text = invoke(
        folders / "maps", folders / "truth", "--output", folders / "out", "--published", folders / "cod.yaml"
    )
    assert result.exit_code == 0
    assert "0.884" in text
    assert "0.884" in (folders / "out" / "published.csv").read_text()
    (folders / "cod.yaml").write_text("other: 1\n")
    result, _ = invoke(folders / "maps", folders / "truth", "--published", folders / "cod.yaml")
    assert "no key `published`" in str(result.exception)


def test_another_size_is_an_error_unless_resized(folders):
    path = folders / "maps" / "CAMO" / "1.png"
    Image.open(path).resize((20, 15)).save(path)
    out = ("--output", folders / "out")
    result, _ = invoke(folders / "maps", folders / "truth", *out)
    assert isinstance(result.exception, DataError)
    assert "the map is 20x15 pixels, its mask 40x30" in str(result.exception)
    assert not (folders / "out").exists()
    result, _ = invoke(folders / "maps", folders / "truth", *out, "--resize")
    assert result.exit_code == 0
    assert json.loads((folders / "out" / "summary.json").read_text())["settings"]["resize"] is True


def test_what_does_not_pair_is_an_error_unless_allowed(folders):
    (folders / "maps" / "CAMO" / "1.png").unlink()
    out = ("--output", folders / "out")
    result, _ = invoke(folders / "maps", folders / "truth", *out)
    assert "CAMO/GT/1.png: no map" in str(result.exception)
    result, text = invoke(folders / "maps", folders / "truth", *out, "--allow-unpaired")
    assert result.exit_code == 0
    assert "1 files or folders without a partner" in text
    content = json.loads((folders / "out" / "summary.json").read_text())
    assert len(content["settings"]["left_out"]) == 1
    assert content["sets"]["CAMO"]["images"] == 2


def test_an_unreadable_map_is_named_at_the_end(folders):
    (folders / "maps" / "CAMO" / "1.png").write_bytes(b"nothing")
    words = ["evaluate", folders / "maps", folders / "truth", "--output", folders / "out"]
    done = subprocess.run(
        [sys.executable, "-m", "monai_sam2unet", *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "error: 1 of 6 maps could not be scored" in done.stderr
    assert "CAMO/1.png" in done.stderr
    assert "Traceback" not in done.stderr
    assert len(pd.read_csv(folders / "out" / "metrics.csv")) == 5
    assert "CAMO/1.png" in (folders / "out" / "report.html").read_text(encoding="utf-8")


def test_what_images_without_object_count(folders):
    for number in range(3):
        Image.fromarray(np.zeros((30, 40), np.uint8)).save(folders / "truth" / "NC4K" / "GT" / f"{number}.png")
    found = {}
    for choice in ("0", "1", "ignore"):
        out = folders / choice
        invoke(folders / "maps", folders / "truth", "--output", out, "--empty-truth", choice, "--no-report")
        found[choice] = pd.read_csv(out / "metrics.csv")["dice_mean"][3:]
    assert found["ignore"].isna().all()
    assert (found["1"] >= found["0"]).all()


def test_a_set_of_zero_and_one_is_named_and_the_rest_scored(folders):
    for path in (folders / "maps" / "NC4K").iterdir():
        Image.fromarray((np.asarray(Image.open(path)) > 127).astype(np.uint8)).save(path)
    result, _ = invoke(folders / "maps", folders / "truth", "--output", folders / "out")
    assert isinstance(result.exception, DataError)
    assert "3 of 6 maps could not be scored" in str(result.exception)
    content = json.loads((folders / "out" / "summary.json").read_text())
    assert list(content["sets"]) == ["CAMO"]
    assert len(content["settings"]["not_scored"]) == 3


def test_swapped_folders_make_a_warning(folders):
    for path in (folders / "maps").rglob("*.png"):
        Image.fromarray(np.tile(np.linspace(0, 255, 40), (30, 1)).astype(np.uint8)).save(path)
    for dataset in ("CAMO", "NC4K"):
        (folders / "truth" / dataset / "GT").rename(folders / "truth" / f"{dataset} masks")
    for dataset in ("CAMO", "NC4K"):
        (folders / "turned" / dataset).parent.mkdir(exist_ok=True)
        (folders / "truth" / f"{dataset} masks").rename(folders / "turned" / dataset)
    result, text = invoke(folders / "turned", folders / "maps", "--output", folders / "out", "--no-report")
    assert result.exit_code == 0
    assert "warning: 6 of 6 true masks are soft" in text
    [warning] = json.loads((folders / "out" / "summary.json").read_text())["settings"]["warnings"]
    assert "swapped?" in warning


def test_a_second_run_into_the_same_folder_leaves_nothing_of_the_first(folders):
    (folders / "cod.yaml").write_text("published: {CAMO: {s_measure: 0.884}}\n")
    given = (folders / "maps", folders / "truth", "--output", folders / "out")
    invoke(*given, "--published", folders / "cod.yaml")
    assert len(list((folders / "out").iterdir())) == 7
    invoke(*given, "--protocol", "clinical", "--no-report")
    left = sorted(path.name for path in (folders / "out").iterdir())
    assert left == ["metrics.csv", "reliability.csv", "summary.json"]


def test_the_summary_tells_what_was_given(folders):
    (folders / "cod.yaml").write_text("published: {CAMO: {s_measure: 0.884}}\n")
    given = {"images": folders / "truth", "published": folders / "cod.yaml", "mask-threshold": 100.0}
    options = [word for name, value in given.items() for word in (f"--{name}", value)]
    out = folders / "out"
    result, _ = invoke(folders / "maps", folders / "truth", "--output", out, "--allow-unpaired", *options)
    assert result.exit_code == 0
    settings = json.loads((out / "summary.json").read_text())["settings"]
    assert (settings["predictions"], settings["truth"]) == (str(folders / "maps"), str(folders / "truth"))
    assert (settings["images"], settings["published"]) == (str(folders / "truth"), str(folders / "cod.yaml"))
    assert (settings["mask_threshold"], settings["allow_unpaired"], settings["name"]) == (100, True, None)


def test_the_name_of_a_set_without_a_folder(folders):
    (folders / "cod.yaml").write_text("published: {CAMO-test: {s_measure: 0.884}}\n")
    given = (folders / "maps" / "CAMO", folders / "truth" / "CAMO", "--output", folders / "out")
    given += ("--published", folders / "cod.yaml")
    _, text = invoke(*given)
    assert "Measured: CAMO." in text
    assert "--name" in text
    result, text = invoke(*given, "--name", "CAMO-test")
    assert result.exit_code == 0
    assert "0.884" in text
    assert "Measured:" not in text


@pytest.mark.parametrize("value", ["nan", "0", "-1", "256"])
def test_mask_thresholds_that_are_refused(folders, value):
    result, _ = invoke(folders / "maps", folders / "truth", f"--mask-threshold={value}", "--output", folders / "out")
    assert isinstance(result.exception, ConfigError)
    assert "above 0 and at most 255" in str(result.exception)
    assert not (folders / "out").exists()


def test_files_are_written_before_anything_is_printed(folders, monkeypatch):
    def broken(*_):
        raise BrokenPipeError

    monkeypatch.setattr("monai_sam2unet.evaluation.score_table.print_scores", broken)
    (folders / "cod.yaml").write_text("published: {CAMO: {s_measure: 0.884}}\n")
    invoke(folders / "maps", folders / "truth", "--output", folders / "out", "--published", folders / "cod.yaml")
    assert (folders / "out" / "report.html").exists()
    assert (folders / "out" / "published.md").exists()


def test_help_tells_the_options_without_waiting_for_torch():
    program = (
        "import sys; from monai_sam2unet import cli\n"
        "try: cli.app(['evaluate', '--help'])\n"
        "finally: assert not {'torch', 'pandas', 'matplotlib'} & set(sys.modules), 'loaded'\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, env={"COLUMNS": "160"}
    )
    assert done.returncode == 0, done.stderr
    for word in (
        "pred_dir",
        "truth_dir",
        "--protocol",
        "both|clinical|sod",
        "--resize",
        "--allow-unpaired",
        "--images",
        "--name",
    ):
        assert word in done.stdout.lower()

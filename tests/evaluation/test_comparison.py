# SPDX-License-Identifier: Apache-2.0
"""Tests of the comparison of two tables: which cases pair, what is refused, and the numbers."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.evaluation.case_pairs import pair_cases, pair_names, read_scores
from monai_sam2unet.evaluation.comparison import ALL_SETS, compare_scores, write_comparison


def table(rows, *scores):
    return pd.DataFrame(rows, columns=["dataset", "image", "height", "width", *scores])


def write(path, rows, *scores):
    path.parent.mkdir(parents=True, exist_ok=True)
    table(rows, *scores).to_csv(path, index=False)
    return path


@pytest.fixture
def two_files(tmp_path):
    """Two evaluations of 20 + 12 images on two machines, B in another order and better by 0.02 on average."""
    rng = np.random.default_rng(0)
    rows_a, rows_b = [], []
    for name, number in (("Kvasir", 20), ("CVC-300", 12)):
        for i in range(number):
            dice, distance = rng.uniform(0.5, 0.9), rng.uniform(1, 9)
            rows_a.append([name, f"/data/{name}/images/{i}.jpg", 100, 120, dice, distance, 1.0])
            gain = rng.normal(0.02, 0.05)
            rows_b.append([name, f"D:\\sets\\{name}\\images\\{i}.png", 100, 120, dice + gain, distance - gain, 2.0])
    rows_a[2][5] = rows_b[5][5] = rows_a[7][5] = rows_b[7][5] = None
    rng.shuffle(rows_b)
    a = write(tmp_path / "a" / "metrics.csv", rows_a, "dice", "hd95", "own_a")
    return a, write(tmp_path / "b" / "metrics.csv", rows_b, "dice", "hd95", "own_b")


def test_names_of_two_machines_pair():
    pairs = pair_names(["/x/images/1.png", "/x/images/2.png"], ["E:\\y\\2.jpg", "E:\\y\\1.jpg"])
    assert pairs == [(0, 1), (1, 0)]


def test_as_many_folders_as_tell_images_apart():
    a = ["/x/p1/series/1.png", "/x/p2/series/1.png", "/x/p2/series/2.png"]
    b = ["/y/p2/series/2.png", "/y/p2/series/1.png", "/y/p1/series/1.png"]
    assert pair_names(a, b) == [(0, 2), (1, 1), (2, 0)]
    assert pair_names(["/x/p1/1.png", "/x/p2/1.png"], ["1.png"]) == []
    assert pair_names(["/x/p1/1.png", "/x/p2/1.png"], ["/y/p2/1.png"]) == [(1, 0)]


def test_suffixes_count_where_nothing_else_tells_images_apart():
    assert pair_names(["/x/1.png", "/x/1.jpg"], ["/y/x/1.jpg", "/y/x/1.png"]) == [(0, 1), (1, 0)]
    assert pair_names(["case.12", "case.13"], ["case.13", "case.12"]) == [(0, 1), (1, 0)]
    assert pair_names(["scan.nii.gz"], ["scan.dcm"]) == [(0, 0)]


def test_two_spellings_of_one_file():
    with pytest.raises(DataError, match="two spellings"):
        pair_names(["x/1.png", "./x//1.png"], ["1.png"])


def test_numbers_of_a_comparison(two_files):
    result = compare_scores(*two_files, num_resamples=500)
    a, b = (pd.read_csv(path) for path in two_files)
    for one in (a, b):
        one["stem"] = one["image"].str.extract(r"(\d+)\.\w+$")
    both = a.merge(b, on=["dataset", "stem"], suffixes=("_a", "_b"))
    found = result.table.set_index(["dataset", "metric"])
    assert list(found.index) == [(s, m) for s in ("Kvasir", "CVC-300", ALL_SETS) for m in ("dice", "hd95")]
    for (name, metric), row in found.iterrows():
        chosen = both if name == ALL_SETS else both[both["dataset"] == name]
        chosen = chosen[[f"{metric}_a", f"{metric}_b"]].dropna()
        change = (chosen[f"{metric}_b"] - chosen[f"{metric}_a"]).to_numpy()
        assert row["n"] == len(chosen)
        assert row["mean_a"] == pytest.approx(chosen[f"{metric}_a"].mean())
        assert row["difference"] == pytest.approx(change.mean())
        assert row["p_value"] == pytest.approx(stats.wilcoxon(change).pvalue)
        assert row["better"] == ((change < 0) if metric == "hd95" else (change > 0)).sum()
        assert row["low"] < row["difference"] < row["high"]
    assert found["in_one_only"].tolist() == [0, 2, 0, 0, 0, 2]
    assert found["lower_is_better"].tolist() == [False, True] * 3
    assert result.settings["tests_in_family"] == 6
    smallest = found["p_value"].idxmin()
    assert found.loc[smallest, "p_holm"] == pytest.approx(6 * found.loc[smallest, "p_value"])
    assert (result.pairs.only_a, result.pairs.only_b) == (["own_a"], ["own_b"])


def test_one_set_has_no_row_over_all(tmp_path):
    files = [write(tmp_path / f"{x}.csv", [["S", "1.png", 2, 2, 0.5], ["S", "2.png", 2, 2, x]], "dice") for x in (1, 2)]
    assert compare_scores(*files).table["dataset"].tolist() == ["S"]


def test_metrics_can_be_chosen(two_files):
    assert set(compare_scores(*two_files, ["hd95"]).table["metric"]) == {"hd95"}
    assert compare_scores(*two_files, ["dice", "dice"]).table["metric"].tolist() == ["dice"] * 3
    with pytest.raises(ConfigError, match=r"mae can not be compared\. The scores of both are dice, hd95"):
        compare_scores(*two_files, ["mae", "dice"])


def test_directions_of_own_scores(two_files):
    plain = compare_scores(*two_files, ["dice"]).table.iloc[0]
    turned = compare_scores(*two_files, ["dice"], lower_is_better=["dice"]).table.iloc[0]
    assert (plain["better"], plain["worse"]) == (turned["worse"], turned["better"])
    with pytest.raises(ConfigError, match="assd is not compared"):
        compare_scores(*two_files, lower_is_better=["assd"])


def test_unpaired_cases_are_listed_or_left_out(two_files):
    a, b = two_files
    text = b.read_text().splitlines()
    b.write_text("\n".join(line for line in text if "Kvasir\\images\\3.png" not in line) + "\n")
    with pytest.raises(DataError, match="1 cases have no partner") as told:
        compare_scores(a, b)
    assert "only in A: Kvasir: /data/Kvasir/images/3.jpg" in str(told.value)
    result = compare_scores(a, b, allow_unpaired=True)
    assert result.table["n"].iloc[0] == 19
    assert result.pairs.unpaired_a == ["Kvasir: /data/Kvasir/images/3.jpg"]
    assert result.pairs.unpaired_b == []


def test_sets_of_other_names_do_not_pair():
    a, b = table([["S", "1.png", 2, 2, 0.5]], "dice"), table([["T", "1.png", 2, 2, 0.5]], "dice")
    with pytest.raises(DataError, match=r"No case of A is in B(?s:.*)Sets of A: S\nSets of B: T\n"):
        pair_cases(a, b, allow_unpaired=True)


def test_a_flat_run_against_one_by_sets():
    """Both sets and the images of both are named, however many one of the two has."""
    by_sets = table([[name, f"{i}.png", 2, 2, 0.5] for name in ("S", "T") for i in range(20)], "dice")
    flat = table([["maps", f"{i}.png", 2, 2, 0.5] for i in range(20)], "dice")
    with pytest.raises(DataError) as told:
        pair_cases(by_sets, flat)
    for words in ("Sets of A: S, T\n", "Sets of B: maps\n", "S: 0.png", "maps: 0.png"):
        assert words in str(told.value)


def test_images_of_one_name_but_other_sizes_are_not_one():
    a, b = table([["S", "1.png", 20, 30, 0.5]], "dice"), table([["S", "1.png", 30, 20, 0.5]], "dice")
    with pytest.raises(DataError, match=r"1.png \(20x30\) and 1.png \(30x20\)"):
        pair_cases(a, b)


def test_folders_are_taken(two_files):
    a, b = two_files
    assert compare_scores(a.parent, b.parent).table.equals(compare_scores(a, b).table)


def test_names_are_no_numbers(tmp_path):
    """Sets called NA or 007 keep their names; an empty cell, or nan, is no score."""
    path = write(tmp_path / "m.csv", [["NA", "007", 2, 2, 0.5, "ok"], ["NA", "008", 2, 2, None, "bad"]], "dice", "note")
    found = read_scores(path)
    assert found[["dataset", "image"]].to_numpy().tolist() == [["NA", "007"], ["NA", "008"]]
    assert found["dice"].isna().tolist() == [False, True]
    assert found["note"].tolist() == ["ok", "bad"]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("dataset,image,dice\nS,1.png,0.5\nS,1.png,0.6\n", "names cases twice"),
        ("dataset,image,hd95\nS,1.png,inf\n", "hd95 is infinite, first of 1.png"),
        ("image,dice\n1.png,0.5\n", "has no column dataset"),
        ("dataset,image,dice\n", "holds no case"),
        ("", "is no table"),
        ('dataset,image\n"S,1.png\n', "is no table"),
    ],
)
def test_wrong_tables_are_told(tmp_path, content, told):
    path = tmp_path / "metrics.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=told):
        read_scores(tmp_path)


def test_missing_files_are_told(tmp_path):
    with pytest.raises(DataError, match=r"There is no .*metrics.csv"):
        read_scores(tmp_path)


def test_no_score_in_common():
    with pytest.raises(DataError, match="no score in common: dice against iou"):
        pair_cases(table([["S", "1", 2, 2, 0.5]], "dice"), table([["S", "1", 2, 2, 0.5]], "iou"))


def test_written_files(two_files, tmp_path):
    result = compare_scores(*two_files, names=("base", "new"), num_resamples=200)
    csv, js, png = write_comparison(result, tmp_path / "new folder" / "out")
    assert pd.read_csv(csv)["p_holm"].to_numpy() == pytest.approx(result.table["p_holm"].to_numpy())
    content = json.loads(js.read_text())
    assert content["names"] == {"A": "base", "B": "new"}
    assert content["settings"]["num_resamples"] == 200
    assert content["rows"][1]["metric"] == "hd95"
    assert content["rows"][1]["low"] == pytest.approx(result.table["low"][1])
    assert content["not_compared"] == {"A": ["own_a"], "B": ["own_b"]}
    with Image.open(png) as picture:
        colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
    assert len(colours) > 20


def test_scores_that_no_case_has_get_no_row(tmp_path):
    """Neither in the table nor in the picture; where it is asked for, and in no set, there is nothing to compare."""
    rows = [[name, f"{i}.png", 2, 2, 0.1 * i, None, 1.0 if name == "T" else None] for name in "ST" for i in range(4)]
    files = [write(tmp_path / f"{x}.csv", rows, "dice", "false_alarm", "hd95") for x in "ab"]
    result = compare_scores(*files)
    found = result.table[["dataset", "metric", "n"]].to_numpy().tolist()
    assert found == [["S", "dice", 4], ["T", "dice", 4], ["T", "hd95", 4], [ALL_SETS, "dice", 8], [ALL_SETS, "hd95", 4]]
    assert "Left out, for no image has the score in both: false_alarm; hd95 (S)." in result.notes
    _, js, _ = write_comparison(result, tmp_path / "out")
    assert json.loads(js.read_text())["notes"] == result.notes
    assert result.settings["tests_in_family"] == 5
    with pytest.raises(DataError, match="No image has a score in both A and B of false_alarm"):
        compare_scores(*files, ["dice", "false_alarm"])
    assert len(compare_scores(*files, ["hd95"]).table) == 2


def test_a_score_of_one_side_is_told_where_its_row_is_left_out(tmp_path):
    files = [
        write(tmp_path / f"{x}.csv", [["S", f"{i}.png", 2, 2, 0.5, value] for i in range(3)], "dice", "hd95")
        for x, value in (("a", None), ("b", 4.0))
    ]
    result = compare_scores(*files)
    assert "the score in both: hd95 (3 images have it in one of the two)." in result.notes[-1]
    assert result.table["metric"].tolist() == ["dice"]


def test_no_score_at_all(tmp_path):
    files = [write(tmp_path / f"{x}.csv", [["S", "1.png", 2, 2, None]], "dice") for x in "ab"]
    with pytest.raises(DataError, match="nothing to compare"):
        compare_scores(*files)


def test_a_set_called_as_the_rows_over_all(tmp_path):
    rows = [[name, f"{i}.png", 2, 2, 0.1 * i] for name, number in ((ALL_SETS, 2), ("S", 3)) for i in range(number)]
    files = [write(tmp_path / f"{x}.csv", rows, "dice") for x in "ab"]
    result = compare_scores(*files)
    found = dict(zip(result.table["dataset"], result.table["n"], strict=True))
    assert found == {ALL_SETS: 2, "S": 3, f"{ALL_SETS} together": 5}


def test_names_with_dollars_are_drawn(two_files, tmp_path):
    result = compare_scores(*two_files, ["dice"], names=("$\\nix$", "b"), num_resamples=10)
    assert write_comparison(result, tmp_path)[2].stat().st_size > 1000


def test_maxima_have_no_row_over_sets_with_other_thresholds(tmp_path):
    rows = [[name, f"{i}.png", 9, 9, 0.1 * i, 0.1 * i] for name in ("x", "y") for i in range(5)]
    paths = [write(tmp_path / run / "metrics.csv", rows, "dice", "dice_max") for run in "ab"]
    found = compare_scores(*paths).table
    assert set(found.loc[found["metric"] == "dice", "dataset"]) == {"x", "y", ALL_SETS}
    assert set(found.loc[found["metric"] == "dice_max", "dataset"]) == {"x", "y"}


def test_unknown_sizes_are_no_other_sizes():
    known = table([["x", "1.png", 9, 9, 0.5], ["x", "2.png", 9, 9, 0.5]], "dice")
    unknown = table([["x", "1.png", None, None, 0.5], ["x", "2.png", 9, 9, 0.5]], "dice")
    assert len(pair_cases(known, unknown).cases) == len(pair_cases(unknown, unknown).cases) == 2
    unknown.loc[1, "height"] = 8
    with pytest.raises(DataError, match=r"2\.png"):
        pair_cases(known, unknown)

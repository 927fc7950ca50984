# SPDX-License-Identifier: Apache-2.0
"""Tests of the lists of cases that the bundles' configs ask for, on real files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.bundle import evaluation_datalist, fail_on_rejected, inference_datalist, training_datalist
from monai_sam2unet.errors import ConfigError, DataError, UserError


def write_set(folder: Path, count: int) -> Path:
    """Images and masks of 8x8 pixels, named 0 onwards."""
    for kind, shape in (("images", (8, 8, 3)), ("masks", (8, 8))):
        (folder / kind).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full(shape, 255, np.uint8)).save(folder / kind / f"{number}.png")
    return folder


def stems(items):
    return [Path(item["image"]).stem for item in items]


@pytest.fixture(scope="module")
def twenty(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("sets") / "Twenty", 20)


@pytest.fixture(scope="module")
def two_sets(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    write_set(folder / "A", 3)
    write_set(folder / "B", 4)
    return folder


@pytest.fixture(scope="module")
def pranet(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pranet")
    write_set(folder / "TrainDataset", 5)
    write_set(folder / "TestDataset" / "Kvasir", 2)
    write_set(folder / "TestDataset" / "CVC-300", 3)
    return folder


# ---- training


@pytest.mark.parametrize(
    ("fraction", "held_out"), [(0.1, 2), (0.5, 10), (0.26, 5), (0.001, 1), (0.999, 19), (0.33, 7), (0.9, 18)]
)
def test_split_is_disjoint_and_complete(twenty, fraction, held_out):
    found = training_datalist(twenty, val_fraction=fraction)
    assert list(found) == ["training", "validation"]
    assert len(found["validation"]) == held_out
    assert sorted(stems(found["training"] + found["validation"]), key=int) == [str(n) for n in range(20)]
    for item in found["training"] + found["validation"]:
        assert Path(item["image"]) == twenty / "images" / Path(item["label"]).name
        assert Path(item["label"]).parent == twenty / "masks"
        assert item["dataset"] == "Twenty"


@pytest.mark.parametrize("fraction", [0.1, 0.5, 0.9])
def test_two_cases_are_enough(twenty, fraction):
    found = training_datalist(twenty, val_fraction=fraction, max_cases=2)
    assert [len(found[part]) for part in ("training", "validation")] == [1, 1]


def test_seed_fixes_the_split(twenty):
    first, again, other = (training_datalist(twenty, 0.3, seed=seed) for seed in (1, 1, 2))
    assert first == again
    assert set(stems(first["validation"])) != set(stems(other["validation"]))


def test_some_cases_only(twenty):
    def drawn(**options):
        found = training_datalist(twenty, 0.25, **options)
        return set(stems(found["training"])), set(stems(found["validation"]))

    training, validation = drawn(max_cases=8)
    assert (len(training), len(validation), len(training | validation)) == (6, 2, 8)
    assert drawn(max_cases=8) == (training, validation)
    assert drawn(max_cases=8, seed=1) != (training, validation)
    assert drawn(max_cases=100) == drawn()


def test_only_chosen_cases_are_read(tmp_path):
    folder = write_set(tmp_path / "data", 4)
    (folder / "images" / "3.png").write_bytes(b"no image")
    (tmp_path / "split.txt").write_text("2\n0.png\n1\n")
    found = training_datalist(folder, split_file=tmp_path / "split.txt")
    assert sorted(stems(found["training"] + found["validation"])) == ["0", "1", "2"]
    with pytest.raises(DataError, match=r"1 problems(.|\n)*3.png: cannot be read"):
        training_datalist(folder)


@pytest.mark.parametrize(
    ("sets", "expected"), [(None, ["A"] * 3 + ["B"] * 4), (["B"], ["B"] * 4), ("A", ["A"] * 3), (["B", "A"], None)]
)
def test_chosen_sets(two_sets, sets, expected):
    found = training_datalist(str(two_sets), 0.3, sets=sets)
    names = sorted(item["dataset"] for item in found["training"] + found["validation"])
    assert names == (expected or ["A"] * 3 + ["B"] * 4)


def test_pranet_layout_takes_its_training_part(pranet):
    found = training_datalist(pranet)
    assert {item["dataset"] for item in found["training"] + found["validation"]} == {"TrainDataset"}
    assert len(found["training"] + found["validation"]) == 5


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"val_fraction": 0}, ConfigError, "val_fraction must lie between 0 and 1, got 0"),
        ({"val_fraction": 1.0}, ConfigError, "val_fraction must lie between 0 and 1"),
        ({"max_cases": 1}, ConfigError, "max_cases must be at least 2, got 1"),
        ({"sets": ["C", "A", "D"]}, DataError, r"no set C, D in .*It has: A, B\."),
        ({"sets": "Kvasir"}, DataError, r"no set Kvasir in .*It has: A, B\."),
        ({"split_file": "nowhere.txt"}, DataError, "no split file nowhere.txt"),
    ],
)
def test_wrong_requests(two_sets, options, error, message):
    with pytest.raises(error, match=message):
        training_datalist(two_sets, **options)


def test_one_image_cannot_be_split(tmp_path):
    with pytest.raises(DataError, match="There is only one image"):
        training_datalist(write_set(tmp_path / "data", 1))


# ---- evaluation


def test_evaluation_goes_set_by_set(pranet, two_sets, tmp_path):
    assert [item["dataset"] for item in evaluation_datalist(pranet)] == ["CVC-300"] * 3 + ["Kvasir"] * 2
    assert [item["dataset"] for item in evaluation_datalist(pranet, sets=["Kvasir"])] == ["Kvasir"] * 2
    assert [item["dataset"] for item in evaluation_datalist(two_sets)] == ["A"] * 3 + ["B"] * 4
    (tmp_path / "split.txt").write_text("2\n0\n")
    assert stems(evaluation_datalist(two_sets, ["A"], tmp_path / "split.txt")) == ["2", "0"]
    with pytest.raises(DataError, match=r"no set TrainDataset in .*It has: CVC-300, Kvasir"):
        evaluation_datalist(pranet, sets=["TrainDataset"])


def test_evaluation_checks_the_files(tmp_path):
    folder = write_set(tmp_path / "data", 2)
    Image.fromarray(np.zeros((8, 9), np.uint8)).save(folder / "masks" / "1.png")
    with pytest.raises(DataError, match=r"1.png: the mask is 9x8 pixels, its image 8x8"):
        evaluation_datalist(folder)


# ---- inference


def test_inference_takes_what_can_be_read(two_sets, tmp_path):
    folder = write_set(tmp_path / "data", 2) / "images"
    (folder / "bad.jpg").write_bytes(b"junk")
    found = inference_datalist(folder)
    assert found["cases"] == [{"image": str(folder / "0.png")}, {"image": str(folder / "1.png")}]
    assert len(found["rejected"]) == 1
    assert found["rejected"][0].startswith(f"{folder / 'bad.jpg'}: cannot be read")
    assert len(inference_datalist(two_sets)["cases"]) == 14
    assert inference_datalist(folder / "1.png") == {"cases": [{"image": str(folder / "1.png")}], "rejected": []}


def test_what_inference_passes_over_is_told(tmp_path, caplog):
    folder = write_set(tmp_path, 2) / "images"
    inference_datalist(folder)
    assert caplog.text == ""
    for name in ("a.webp", "below/b.GIF", "below/c.webp", ".hidden/d.txt"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()
    assert stems(inference_datalist(folder)["cases"]) == ["0", "1"]
    for name in ("a.webp", "below/b.GIF", "below/c.webp"):
        assert str(folder / name) in caplog.text
    assert "d.txt" not in caplog.text
    for number in range(99):
        (folder / f"{number}.5.17").touch()
    caplog.clear()
    inference_datalist(folder, tmp_path / "out")
    assert "and 92 more" in caplog.text


def test_inference_without_images(tmp_path):
    with pytest.raises(DataError, match="no folder"):
        inference_datalist(tmp_path / "nowhere")
    with pytest.raises(DataError, match="no images"):
        inference_datalist(tmp_path)
    (tmp_path / "bad.png").write_bytes(b"junk")
    with pytest.raises(DataError, match=r"None of the images (.|\n)*bad.png"):
        inference_datalist(tmp_path)
    with pytest.raises(DataError, match=r"None of the images (.|\n)*bad.png"):
        inference_datalist(tmp_path / "bad.png")


def test_rejected_images_fail_a_run_at_its_end():
    fail_on_rejected([])
    with pytest.raises(UserError, match=r"2 could not be read:\n  a\n  b"):
        fail_on_rejected(["a", "b"])


def test_a_split_may_name_images_of_several_sets(two_sets, tmp_path):
    split = tmp_path / "split.txt"
    split.write_text("3\n0\n")  # 3 is in B only
    found = evaluation_datalist(two_sets, split_file=split)
    assert [(item["dataset"], Path(item["image"]).stem) for item in found] == [("A", "0"), ("B", "3"), ("B", "0")]
    split.write_text("3\n9\n")
    with pytest.raises(DataError, match="none of the sets:\n  9"):
        evaluation_datalist(two_sets, split_file=split)


def test_predictions_of_an_earlier_run_are_not_predicted_on(tmp_path):
    write_set(tmp_path, 2)
    for folder in ("masks", "overlays"):
        (tmp_path / "images" / "out" / folder).mkdir(parents=True)
        Image.new("L", (8, 8)).save(tmp_path / "images" / "out" / folder / "0.png")
    found = inference_datalist(tmp_path / "images", tmp_path / "images" / "out")
    assert stems(found["cases"]) == ["0", "1"]


# ---- sets given by their folders


def write_pairs(root: Path, images: str, masks: str, count: int, image_suffix: str = ".jpg") -> None:
    for folder, suffix, shape in ((images, image_suffix, (8, 8, 3)), (masks, ".png", (8, 8))):
        (root / folder).mkdir(parents=True)
        for number in range(count):
            Image.fromarray(np.full(shape, 255, np.uint8)).save(root / folder / f"{number}{suffix}")


FOLDERS = {
    "CAMO": {"images": "TestDataset/CAMO/Imgs", "masks": "TestDataset/CAMO/GT"},
    "ECSSD": {"images": "ECSSD/images", "masks": "ECSSD/ground_truth_mask"},
    "absent": {"images": "absent/images", "masks": "absent/masks"},
}


@pytest.fixture
def foreign(tmp_path):
    """Two sets in layouts that are not found by their names."""
    for name, count in (("CAMO", 3), ("ECSSD", 2)):
        write_pairs(tmp_path, FOLDERS[name]["images"], FOLDERS[name]["masks"], count)
    return tmp_path


def test_sets_of_any_layout(foreign):
    present = {name: FOLDERS[name] for name in ("CAMO", "ECSSD")}
    found = evaluation_datalist(foreign, folders=present)
    assert [item["dataset"] for item in found] == ["CAMO"] * 3 + ["ECSSD"] * 2
    assert Path(found[0]["image"]) == foreign / "TestDataset/CAMO/Imgs/0.jpg"
    assert Path(found[0]["label"]) == foreign / "TestDataset/CAMO/GT/0.png"
    parts = training_datalist(foreign, 0.4, folders=present)
    assert sorted(i["dataset"] for i in parts["training"] + parts["validation"]) == ["CAMO"] * 3 + ["ECSSD"] * 2
    assert len(parts["validation"]) == 2


def test_only_chosen_sets_need_their_folders(foreign):
    assert {i["dataset"] for i in evaluation_datalist(foreign, ["ECSSD"], folders=FOLDERS)} == {"ECSSD"}
    assert {i["dataset"] for i in evaluation_datalist(foreign, "CAMO", folders=FOLDERS)} == {"CAMO"}
    with pytest.raises(DataError, match=r"not there(.|\n)*`--test_sets`") as error:
        evaluation_datalist(foreign, folders=FOLDERS)
    for kind in ("images", "masks"):
        assert f"{kind} of absent: {foreign / 'absent' / kind}" in str(error.value)
    assert "CAMO" not in str(error.value)
    with pytest.raises(DataError, match=r"no set PASCAL-S in .*It has: CAMO, ECSSD, absent"):
        evaluation_datalist(foreign, ["PASCAL-S"], folders=FOLDERS)
    with pytest.raises(ConfigError, match="folders of the set A"):
        training_datalist(foreign, folders={"A": {"image": "a", "mask": "b"}})


def test_images_without_masks_are_errors_in_any_layout(foreign):
    (foreign / FOLDERS["CAMO"]["masks"] / "1.png").unlink()
    with pytest.raises(DataError, match=r"CAMO/Imgs/1.jpg: no mask of this name"):
        evaluation_datalist(foreign, ["CAMO"], folders=FOLDERS)


def test_given_folders_are_read_to_the_bottom(tmp_path):
    for part in ("ADE20K", "NYUD"):
        write_pairs(tmp_path, f"PMD/test/image/{part}", f"PMD/test/mask/{part}", 2)
    folders = {"PMD": {"images": "PMD/test/image", "masks": "PMD/test/mask"}}
    found = evaluation_datalist(tmp_path, folders=folders)
    assert [Path(i["image"]).relative_to(tmp_path / "PMD/test/image").as_posix() for i in found] == [
        "ADE20K/0.jpg", "ADE20K/1.jpg", "NYUD/0.jpg", "NYUD/1.jpg",
    ]  # fmt: skip
    for line in ("NYUD/1\n", "NYUD/1.jpg\n"):
        (tmp_path / "split.txt").write_text(line)
        assert [i["label"] for i in evaluation_datalist(tmp_path, None, tmp_path / "split.txt", folders=folders)] == [
            str(tmp_path / "PMD/test/mask/NYUD/1.png")
        ]


def test_gray_masks_count_from_the_threshold_on(foreign):
    mask = np.full((8, 8), 128, np.uint8)
    Image.fromarray(mask).save(foreign / FOLDERS["CAMO"]["masks"] / "0.png")
    assert len(evaluation_datalist(foreign, ["CAMO"], folders=FOLDERS)) == 3
    with pytest.raises(DataError, match="largest value is 128"):
        evaluation_datalist(foreign, ["CAMO"], mask_threshold=128.5, folders=FOLDERS)


# ---- folds


def test_a_fold_is_measured_and_not_trained_on(twenty):
    measured = []
    for fold in range(4):
        found = training_datalist(twenty, fold=fold, num_folds=4, val_fraction=0.2)
        own = stems(evaluation_datalist(twenty, fold=fold, num_folds=4))
        assert len(own) == 5
        assert [len(found[part]) for part in ("training", "validation")] == [12, 3]
        assert not set(own) & set(stems(found["training"] + found["validation"]))
        measured += own
    assert sorted(measured, key=int) == [str(n) for n in range(20)]


def test_a_fold_is_of_the_data_for_training(pranet):
    items = [item for fold in range(2) for item in evaluation_datalist(pranet, fold=fold, num_folds=2)]
    assert {item["dataset"] for item in items} == {"TrainDataset"}
    assert len(items) == 5


def test_patients_are_kept_together(twenty):
    """Of the numbers the last digit names the patient."""
    options = {"fold": 0, "num_folds": 5, "group_pattern": r"(\d)\."}
    found = training_datalist(twenty, val_fraction=0.25, **options)
    parts = [found["training"], found["validation"], evaluation_datalist(twenty, **options)]
    patients = [{stem[-1] for stem in stems(part)} for part in parts]
    assert [len(own) for own in patients] == [6, 2, 2]
    assert len(set.union(*patients)) == 10

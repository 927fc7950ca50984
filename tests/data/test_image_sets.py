# SPDX-License-Identifier: Apache-2.0
"""Tests of finding and pairing images and masks in the layouts of public data sets."""

from __future__ import annotations

from pathlib import Path

import pytest

from monai_sam2unet.data import find_sets, given_sets, list_images, pair_by_stem, read_split, stem_below
from monai_sam2unet.errors import ConfigError, DataError


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def names_of(pairs: list[dict[str, str]]) -> list[tuple[str, str]]:
    return [(Path(p["image"]).name, Path(p["label"]).name) for p in pairs]


def split_file(folder: Path, text: str) -> Path:
    path = folder / "split.txt"
    path.write_text(text, encoding="utf-8")
    return path


# ---- folders


def test_images_are_listed_by_path_without_hidden_and_other_files(tmp_path):
    names = ["b.PNG", "a.jpg", "c.tif", "d.tiff", "e.bmp", "f.jpeg"]
    touch(tmp_path, *names, ".a.png", "._b.png", "notes.txt", "Thumbs.db", "folder.png/x.png")
    assert [p.name for p in list_images(tmp_path)] == sorted(names)


def test_images_of_folders_below(tmp_path):
    touch(tmp_path, "b.png", "a/z.png", "a/b/c.jpg", ".cache/d.png", "a/.e.png")
    found = [str(p.relative_to(tmp_path)) for p in list_images(tmp_path, recursive=True)]
    assert found == ["a/b/c.jpg", "a/z.png", "b.png"]
    assert [p.name for p in list_images(tmp_path)] == ["b.png"]


def test_a_hidden_folder_may_be_asked_for(tmp_path):
    touch(tmp_path, ".data/a.png")
    assert [p.name for p in list_images(tmp_path / ".data", recursive=True)] == ["a.png"]


def test_missing_and_empty_folders(tmp_path):
    with pytest.raises(DataError, match=r"There is no folder .*nowhere.*`--dataset_dir`"):
        list_images(tmp_path / "nowhere")
    touch(tmp_path, "a.txt")
    with pytest.raises(DataError, match=r"no images in .*Known are the file types .png, .jpg"):
        list_images(str(tmp_path))


# ---- layouts


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("images", "masks"),  # Kvasir-SEG
        ("Original", "Ground Truth"),  # CVC-ClinicDB
        ("image", "mask"),
        ("images", "labels"),
        ("IMAGES", "Masks"),
    ],
)
@pytest.mark.parametrize("part", [None, "TrainDataset", "TestDataset"])
def test_one_set(tmp_path, images, masks, part):
    root = touch(tmp_path / "Kvasir-SEG", f"{images}/1.jpg", f"{masks}/1.jpg", "bbox/1.csv")
    assert find_sets(root, part) == {"Kvasir-SEG": (root / images, root / masks)}


@pytest.mark.parametrize("part", [None, "TestDataset"])
def test_a_set_is_named_after_its_folder_however_it_is_reached(tmp_path, monkeypatch, part):
    monkeypatch.chdir(touch(tmp_path / "CVC-300", "images/1.png", "masks/1.png"))
    assert list(find_sets(".", part)) == ["CVC-300"]


@pytest.mark.parametrize(("images", "masks"), [("image", "mask"), ("images", "masks"), ("image", "masks")])
def test_pranet_layout(tmp_path, images, masks):
    train = touch(tmp_path / "TrainDataset", f"{images}/1.png", f"{masks}/1.png")
    test = tmp_path / "TestDataset"
    for name in ("Kvasir", "CVC-300"):
        touch(test / name, "images/1.png", "masks/1.png")
    assert find_sets(tmp_path, "TrainDataset") == {"TrainDataset": (train / images, train / masks)}
    expected = {name: (test / name / "images", test / name / "masks") for name in ("CVC-300", "Kvasir")}
    assert find_sets(tmp_path, "TestDataset") == expected
    assert find_sets(test, "TestDataset") == expected


def test_the_other_part_of_pranets_layout_is_not_taken_instead(tmp_path):
    touch(tmp_path / "TrainDataset" / "images", "a.png")
    touch(tmp_path / "TrainDataset" / "masks", "a.png")
    with pytest.raises(DataError, match="no folder TestDataset"):
        find_sets(tmp_path, "TestDataset")


@pytest.mark.parametrize("part", [None, "TrainDataset", "TestDataset"])
def test_several_sets_side_by_side(tmp_path, part):
    touch(tmp_path / "Kvasir-SEG", "images/1.jpg", "masks/1.jpg")
    touch(tmp_path / "CVC-ClinicDB", "Original/1.tif", "Ground Truth/1.tif")
    touch(tmp_path, "papers/a.pdf", "readme.txt", "only/images/1.png")
    found = find_sets(tmp_path, part)
    assert list(found) == ["CVC-ClinicDB", "Kvasir-SEG"]
    assert found["CVC-ClinicDB"] == (tmp_path / "CVC-ClinicDB/Original", tmp_path / "CVC-ClinicDB/Ground Truth")


def test_no_set(tmp_path):
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        find_sets(tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"`images` and `masks`(.|\n)*  nothing"):
        find_sets(tmp_path)
    touch(tmp_path, "photos/1.png", "images/1.png")
    with pytest.raises(DataError, match=r"It holds:\n  images\n  photos$"):
        find_sets(tmp_path, "TrainDataset")


def test_sets_given_by_their_folders(tmp_path):
    folders = {
        "DUTS-TE": {"images": "DUTS-TE/DUTS-TE-Image", "masks": "DUTS-TE/DUTS-TE-Mask"},
        "elsewhere": {"masks": tmp_path / "b", "images": str(tmp_path / "a")},
    }
    root = tmp_path / "data"
    root.mkdir()
    assert given_sets(str(root), folders) == {
        "DUTS-TE": (root / "DUTS-TE/DUTS-TE-Image", root / "DUTS-TE/DUTS-TE-Mask"),
        "elsewhere": (tmp_path / "a", tmp_path / "b"),
    }
    with pytest.raises(DataError, match=r"no folder .*nowhere"):
        given_sets(tmp_path / "nowhere", folders)


@pytest.mark.parametrize(
    ("folders", "message"),
    [
        ({}, r"given as \{\}"),
        (["A"], r"given as \['A'\]"),
        ({"A": {"images": "a"}}, "folders of the set A"),
        ({"A": {"images": "a", "masks": "b", "edges": "c"}}, "folders of the set A"),
        ({"B": {"images": "a", "masks": "b"}, "A": {"images": "a", "masks": None}}, "folders of the set A"),
        ({"A": "folder"}, "folders of the set A"),
    ],
)
def test_sets_given_wrongly(tmp_path, folders, message):
    with pytest.raises(ConfigError, match=message + r"(.|\n)*Expected is \{NAME: \{images: FOLDER, masks: FOLDER\}"):
        given_sets(tmp_path, folders)


# ---- pairs


@pytest.mark.parametrize(
    ("path", "stem"), [("1.png", "1"), ("case.12.jpg", "case.12"), ("ADE20K/1.png", "ADE20K/1"), ("a/b/c", "a/b/c")]
)
def test_what_a_file_is_called(path, stem):
    assert stem_below(Path("set/images") / path, Path("set/images")) == stem


def test_pairs_in_folders_below_have_the_same_place(tmp_path):
    touch(tmp_path, "image/a/1.jpg", "image/b/1.jpg", "image/2.jpg", "mask/a/1.png", "mask/b/1.png", "mask/2.png")
    pairs = pair_by_stem(tmp_path / "image", tmp_path / "mask", recursive=True)
    below = [tuple(Path(p[k]).relative_to(tmp_path).as_posix() for k in ("image", "label")) for p in pairs]
    assert below == [
        ("image/2.jpg", "mask/2.png"),
        ("image/a/1.jpg", "mask/a/1.png"),
        ("image/b/1.jpg", "mask/b/1.png"),
    ]
    assert len(pair_by_stem(tmp_path / "image", tmp_path / "mask")) == 1
    assert names_of(pair_by_stem(tmp_path / "image", tmp_path / "mask", ["b/1"], recursive=True)) == [
        ("1.jpg", "1.png")
    ]
    (tmp_path / "mask" / "b" / "1.png").rename(tmp_path / "mask" / "1.png")
    with pytest.raises(DataError, match="2 files cannot be paired") as error:
        pair_by_stem(tmp_path / "image", tmp_path / "mask", recursive=True)
    assert "b/1.jpg: no mask of this name" in str(error.value)


def test_pairs_by_stem_whatever_the_suffix(tmp_path):
    touch(tmp_path, "images/b.jpg", "images/a.png", "images/case.12.jpg", "masks/a.png", "masks/b.tif")
    touch(tmp_path, "masks/case.12.png", "masks/.hidden.png", "masks/notes.txt")
    pairs = pair_by_stem(tmp_path / "images", str(tmp_path / "masks"))
    assert names_of(pairs) == [("a.png", "a.png"), ("b.jpg", "b.tif"), ("case.12.jpg", "case.12.png")]
    assert all(Path(path).is_file() for pair in pairs for path in pair.values())


def test_all_files_without_a_partner_are_named_at_once(tmp_path):
    touch(tmp_path, "images/both.jpg", "images/1.jpg", "images/2.jpg", "masks/both.png", "masks/3.png")
    with pytest.raises(DataError, match=r"^3 files cannot be paired") as error:
        pair_by_stem(tmp_path / "images", tmp_path / "masks")
    text = str(error.value)
    for name, missing in (("images/1.jpg", "no mask"), ("images/2.jpg", "no mask"), ("masks/3.png", "no image")):
        assert f"{tmp_path / name}: {missing}" in text
    assert "both" not in text


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_a_stem_must_not_be_there_twice(tmp_path, kind):
    touch(tmp_path, "images/a.jpg", "masks/a.jpg", f"{kind}/a.png")
    with pytest.raises(DataError, match=r"1 files.*\n.*a.png: a.jpg has the same stem"):
        pair_by_stem(tmp_path / "images", tmp_path / "masks")


def test_chosen_stems_keep_their_order_and_need_no_others(tmp_path):
    touch(tmp_path, "images/a.jpg", "images/b.jpg", "images/c.jpg", "images/d.jpg", "masks/a.png", "masks/c.png")
    pairs = pair_by_stem(tmp_path / "images", tmp_path / "masks", ["c", "a"])
    assert names_of(pairs) == [("c.jpg", "c.png"), ("a.jpg", "a.png")]
    with pytest.raises(DataError, match="2 files") as error:
        pair_by_stem(tmp_path / "images", tmp_path / "masks", ["a", "b", "z"])
    assert "b.jpg: no mask" in str(error.value)
    assert "z: named in the split, but there is no such image" in str(error.value)


def test_a_folder_without_images_or_masks(tmp_path):
    touch(tmp_path, "images/a.jpg")
    with pytest.raises(DataError, match=r"no folder .*masks"):
        pair_by_stem(tmp_path / "images", tmp_path / "masks")
    (tmp_path / "masks").mkdir()
    with pytest.raises(DataError, match=r"no images in .*masks"):
        pair_by_stem(tmp_path / "images", tmp_path / "masks")


# ---- splits


@pytest.mark.parametrize(
    "text",
    [
        "b\na\ncase.12\n",
        "b.jpg\na.PNG\ncase.12.tif\n",
        "\n  b.jpg \r\n\na\r\ncase.12",
        "\ufeffb\na\ncase.12\n",  # as Windows editors save it
    ],
)
def test_split_of_stems_or_names(tmp_path, text):
    assert read_split(split_file(tmp_path, text)) == ["b", "a", "case.12"]


def test_a_split_names_images_with_their_folders(tmp_path):
    text = "part/1.png\n1.png\npart/case.12.tif\npart/2\n./3.png\npart/4.nii.gz\n"
    assert read_split(split_file(tmp_path, text)) == ["part/1", "1", "part/case.12", "part/2", "3", "part/4"]


def test_split_missing_empty_or_with_doubles(tmp_path):
    with pytest.raises(DataError, match=r"There is no split file .*split.txt"):
        read_split(tmp_path / "split.txt")
    with pytest.raises(DataError, match="is empty"):
        read_split(split_file(tmp_path, "\n \n"))
    with pytest.raises(DataError, match=r"names some images twice:\n  a\n  b$"):
        read_split(split_file(tmp_path, "b\na.png\nc\nb.jpg\na\n"))

# SPDX-License-Identifier: Apache-2.0
"""Tests of the search for duplicates: copies that must be found, look-alikes that must not, and real colonoscopies."""

from __future__ import annotations

import csv
import json
import shutil
import time
from dataclasses import replace

import imagehash
import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageEnhance, ImageOps
from scipy.ndimage import binary_erosion, gaussian_filter

from monai_sam2unet.data import duplicates, list_images
from monai_sam2unet.data.duplicate_audit import audit_sets, image_folders, write_audit
from monai_sam2unet.data.duplicates import HASH_SIZE, TURNS, find_duplicates
from monai_sam2unet.data.fingerprints import MIN_CONTRAST, fingerprint_images
from monai_sam2unet.data.phantoms import make_polyp_phantom
from monai_sam2unet.errors import ConfigError, DataError


def cropped(image, share):
    width, height = image.size
    return image.crop(
        (round(width * share), round(height * share), round(width * (1 - share)), round(height * (1 - share)))
    )


CHANGES = {
    "resized": lambda x: x.resize((200, 200), Image.Resampling.BICUBIC),
    "brighter": lambda x: ImageEnhance.Brightness(x).enhance(1.25),
    "darker": lambda x: ImageEnhance.Brightness(x).enhance(0.6),
    "gray": lambda x: x.convert("L"),
    "black border": lambda x: ImageOps.expand(x, (40, 10, 20, 6), 0),
    "cropped": lambda x: cropped(x, 0.02),
    "mirrored left-right": ImageOps.mirror,
    "mirrored top-bottom": ImageOps.flip,
    "turned by 180": lambda x: x.rotate(180),
    "turned by 90": lambda x: x.rotate(-90, expand=True),
    "turned by 270": lambda x: x.rotate(90, expand=True),
    "mirrored at the diagonal": lambda x: x.transpose(Image.Transpose.TRANSPOSE),
    "mirrored at the other diagonal": lambda x: x.transpose(Image.Transpose.TRANSVERSE),
}


def read(*paths):
    prints, rejected = fingerprint_images(paths)
    assert rejected == []
    return prints


@pytest.fixture(scope="module")
def originals(tmp_path_factory):
    """Six phantoms of different scenes."""
    folder = tmp_path_factory.mktemp("originals")
    for seed in range(6):
        image, _ = make_polyp_phantom(seed, 240, 300)
        Image.fromarray(np.asarray(image)).save(folder / f"{seed}.png")
    return folder


@pytest.mark.parametrize("change", CHANGES)
def test_changed_copies_are_found(originals, tmp_path, change):
    for path in list_images(originals):
        with Image.open(path) as image:
            CHANGES[change](image.convert("RGB")).save(tmp_path / f"{path.stem} copy.png")
    found = find_duplicates(read(*list_images(originals)), read(*list_images(tmp_path)))
    assert [(d.first.stem, d.second.stem) for d in sorted(found, key=lambda d: d.first)] == [
        (str(i), f"{i} copy") for i in range(6)
    ]
    for duplicate in found:
        assert duplicate.kind == "near"
        assert duplicate.turn == (change if change in TURNS else "none")
        assert duplicate.similarity > 0.9


def test_different_scenes_are_no_duplicates(originals):
    assert find_duplicates(read(*list_images(originals))) == []


def test_the_frame_of_the_endoscope_is_no_likeness(tmp_path):
    """Fine structure of its own in one and the same black frame and light."""
    height, width = np.mgrid[0:200, 0:260]
    frame = np.hypot((height - 100) / 100, (width - 130) / 110) < 0.95
    light = 190 - 90 * np.hypot(height - 60, width - 100) / 200
    for seed in range(8):
        noise = np.random.default_rng(seed).normal(0, 1, (25, 32))
        texture = np.asarray(Image.fromarray(noise).resize((260, 200), Image.Resampling.BICUBIC))
        gray = np.where(frame, np.clip(light + 18 * texture, 0, 255), 4).astype(np.uint8)
        Image.fromarray(gray).save(tmp_path / f"{seed}.png")
    prints = read(*list_images(tmp_path))
    plain = prints.thumbnails[:, 0].reshape(8, -1).astype(float)
    assert np.corrcoef(plain).min() > 0.9  # a plain correlation would take all of them for one
    assert find_duplicates(prints) == []


def test_exact_duplicates(originals, tmp_path):
    shutil.copy(originals / "0.png", tmp_path / "same bytes.png")
    with Image.open(originals / "1.png") as image:
        image.convert("RGB").save(tmp_path / "same pixels.bmp")
    found = find_duplicates(read(*list_images(originals)), read(*list_images(tmp_path)))
    assert [(d.first.name, d.second.name, d.kind, d.distance, d.similarity) for d in found] == [
        ("0.png", "same bytes.png", "identical file", 0, 1.0),
        ("1.png", "same pixels.bmp", "identical pixels", 0, 1.0),
    ]


def test_jpeg_copies_and_the_nearest_first(originals, tmp_path):
    with Image.open(originals / "2.png") as image:
        for quality in (90, 15):
            image.convert("RGB").save(tmp_path / f"{quality}.jpg", quality=quality)
    found = find_duplicates(read(originals / "2.png"), read(*list_images(tmp_path)))
    assert [d.second.stem for d in found] == ["90", "15"]
    assert found[0].similarity >= found[1].similarity > 0.9


def test_distance_is_that_of_imagehash(originals, tmp_path):
    with Image.open(originals / "3.png") as image:
        image.convert("RGB").save(tmp_path / "copy.jpg", quality=10)
    prints = read(originals / "3.png"), read(tmp_path / "copy.jpg")
    (found,) = find_duplicates(*prints)
    distances = [
        imagehash.dhash(Image.fromarray(prints[0].thumbnails[0, view]), HASH_SIZE)
        - imagehash.dhash(Image.fromarray(prints[1].thumbnails[0, view]), HASH_SIZE)
        for view in range(2)
    ]
    assert found.distance == min(distances)


def test_within_a_set_each_pair_once(originals, tmp_path):
    for name in ("a", "b", "c"):
        shutil.copy(originals / "4.png", tmp_path / f"{name}.png")
    found = find_duplicates(read(*list_images(tmp_path)))
    assert [(d.first.stem, d.second.stem) for d in found] == [("a", "b"), ("a", "c"), ("b", "c")]


def test_images_without_contrast_are_only_exact_duplicates(tmp_path):
    for value, size in ((0, 40), (0, 50), (90, 40), (90, 50), (200, 40)):
        Image.new("L", (size, size), value).save(tmp_path / f"{value} {size}.png")
    Image.new("L", (40, 40), 90).save(tmp_path / "again.bmp")
    found = find_duplicates(read(*list_images(tmp_path)))
    assert [(d.first.name, d.second.name, d.kind) for d in found] == [("90 40.png", "again.bmp", "identical pixels")]


def compared_pairs(monkeypatch):
    """A list that takes the ways in which pairs' thumbnails are compared, a call."""
    counted = []
    original = duplicates._similarities

    def counting(first, second, ways):
        counted.append(ways.tolist())
        return original(first, second, ways)

    monkeypatch.setattr(duplicates, "_similarities", counting)
    return counted


def test_blank_images_are_not_compared_with_others(originals, tmp_path, monkeypatch):
    noise = np.random.default_rng(0)
    for value in (0, 120, 248):
        gray = value + noise.integers(0, MIN_CONTRAST, (64, 64))
        Image.fromarray(gray.astype(np.uint8)).save(tmp_path / f"{value}.png")
    blank = read(*list_images(tmp_path))
    assert not blank.has_contrast.any()
    assert read(*list_images(originals)).has_contrast.all()
    counted = compared_pairs(monkeypatch)
    assert find_duplicates(blank, max_distance=256, min_similarity=-1) == []
    assert find_duplicates(read(*list_images(originals)), blank, max_distance=256, min_similarity=-1) == []
    assert not any(counted)


def test_faint_images_are_not_blank(tmp_path):
    gray = np.full((64, 64), 100, np.uint8)
    gray[20:40, 20:40] += MIN_CONTRAST
    Image.fromarray(gray).save(tmp_path / "faint.png")
    assert read(tmp_path / "faint.png").has_contrast.all()


def test_the_nearest_way_is_tried_first_and_few_in_all(originals, tmp_path, monkeypatch):
    with Image.open(originals / "0.png") as image:
        ImageOps.mirror(image.convert("RGB")).save(tmp_path / "copy.jpg")
    counted = compared_pairs(monkeypatch)
    (found,) = find_duplicates(read(originals / "0.png"), read(tmp_path / "copy.jpg"), max_distance=256)
    assert found.turn == "mirrored left-right"
    assert [way % 8 for (way,) in counted] == [list(TURNS).index(found.turn)]
    counted.clear()
    assert find_duplicates(read(originals / "0.png"), read(originals / "1.png"), max_distance=256) == []
    assert [len(ways) for ways in counted] == [1] * duplicates.MOST_TRIES
    assert len({way for (way,) in counted}) == duplicates.MOST_TRIES


def test_ways_with_far_hashes_are_not_tried(originals, monkeypatch):
    prints = read(originals / "0.png"), read(originals / "1.png")
    (nearest,) = find_duplicates(*prints, max_distance=256, min_similarity=-1)
    counted = compared_pairs(monkeypatch)
    assert find_duplicates(*prints, max_distance=nearest.distance) == []
    assert sum(len(ways) for ways in counted) == 1


def test_images_without_border_are_compared_as_a_whole_only(tmp_path, monkeypatch):
    """What is inside their borders is all of them, and would be tried a second time."""
    for seed in range(2):
        noise = np.random.default_rng(seed).integers(60, 200, (64, 64), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / f"{seed}.png")
    counted = compared_pairs(monkeypatch)
    assert find_duplicates(read(*list_images(tmp_path)), max_distance=256) == []
    assert len(counted) == duplicates.MOST_TRIES
    assert all(way < len(TURNS) for (way,) in counted)


def test_very_near_hashes_need_less_similarity(originals, tmp_path, monkeypatch):
    with Image.open(originals / "0.png") as image:
        image.convert("RGB").save(tmp_path / "copy.jpg", quality=60)
    prints = read(originals / "0.png"), read(tmp_path / "copy.jpg")
    (found,) = find_duplicates(*prints, min_similarity=1)
    assert found.distance <= 32
    assert 0.92 <= found.similarity < 1
    monkeypatch.setattr(duplicates, "SURE_DISTANCE", found.distance - 1)
    assert find_duplicates(*prints, min_similarity=1) == []


def test_blocks_do_not_matter(originals, tmp_path, monkeypatch):
    """More images than are compared at once: the same pairs, between sets and within one."""
    for path in list_images(originals):
        with Image.open(path) as image:
            image.convert("RGB").rotate(180).save(tmp_path / f"{path.stem}.jpg")
        shutil.copy(path, tmp_path)
    prints, others = read(*list_images(originals)), read(*list_images(tmp_path))
    expected = find_duplicates(prints, others), find_duplicates(others)
    monkeypatch.setattr(duplicates, "ROWS_AT_ONCE", 3)
    monkeypatch.setattr(duplicates, "PAIRS_AT_ONCE", 2)
    between, within = find_duplicates(prints, others), find_duplicates(others)
    for found, known in zip((between, within), expected, strict=True):
        assert {replace(d, similarity=0) for d in found} == {replace(d, similarity=0) for d in known}
    assert sorted((d.first.stem, d.second.name) for d in between) == [
        (str(i), f"{i}.{suffix}") for i in range(6) for suffix in ("jpg", "png")
    ]
    assert sorted((d.first.name, d.second.name) for d in within) == [(f"{i}.jpg", f"{i}.png") for i in range(6)]


def reference_similarity(first, second):
    """The correlation of one pair of thumbnails by the filters of SciPy, in float64."""
    a, b = (t.astype(float).reshape(32, 2, 32, 2).mean((1, 3)) for t in (first, second))
    seen = (a > 32) & (b > 32)
    inside = binary_erosion(seen, border_value=1)
    if seen.sum() < ((a > 32) | (b > 32)).sum() / 2 or inside.sum() < 50:
        return 0.0

    def even(values, sigma):
        share = gaussian_filter(seen.astype(float), sigma, mode="nearest")
        return gaussian_filter(values * seen, sigma, mode="nearest") / np.maximum(share, 1e-6)

    details = [even(x - even(x, 6), 1)[inside] for x in (a, b)]
    return 0.0 if min(np.std(x) for x in details) < 1e-6 else np.corrcoef(*details)[0, 1]


def test_similarity_is_that_of_single_pairs():
    """Pictures in frames of many widths, in all turns; also black ones, and ones without structure."""
    rng = np.random.default_rng(4)
    rows, columns = np.mgrid[-1:1:64j, -1:1:64j]
    thumbnails = np.empty((24, 2, 64, 64), np.uint8)
    for picture in thumbnails.reshape(-1, 64, 64):
        gray = 120 + 40 * columns * rng.normal() + gaussian_filter(rng.normal(0, 120, (64, 64)), 3)
        frame = np.hypot(rows - rng.normal(0, 0.3), columns) < rng.uniform(0.2, 1.6)
        picture[:] = np.where(frame, np.clip(gray, 0, 255), 6)
    thumbnails[0] = 3
    thumbnails[1] = thumbnails[2] = np.where(np.hypot(rows, columns) < 0.8, 150, 6)
    first, second = (x.ravel() for x in np.meshgrid(range(24), range(24)))
    ways = rng.integers(0, 16, len(first))
    halves = duplicates._halved(thumbnails)
    found = duplicates._similarities(halves[first], halves[second], ways)
    turns = list(TURNS.values())
    expected = [
        reference_similarity(thumbnails[i, way // 8], turns[way % 8](thumbnails[j, way // 8]))
        for i, j, way in zip(first, second, ways, strict=True)
    ]
    assert 0.1 < np.mean(np.equal(expected, 0)) < 0.9
    assert found == pytest.approx(expected, abs=1e-4)


def test_objects_on_white_take_no_long_time(tmp_path):
    """Nearly all their hashes are near: one at a time, these 2400 pairs took ten seconds."""
    rng = np.random.default_rng(0)
    for number in range(100):
        image = Image.new("L", (96, 96), 255)
        angles = np.linspace(0, 6, 9)
        reach = rng.uniform(8, 24, 2) * rng.uniform(0.6, 1, (9, 2))
        corners = rng.uniform(34, 62, 2) + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
        ImageDraw.Draw(image).polygon([tuple(c) for c in corners], fill=int(rng.integers(0, 200)))
        image.save(tmp_path / f"{number}.png")
    prints = read(*list_images(tmp_path)[:60]), read(*list_images(tmp_path)[60:])
    start = time.process_time()
    find_duplicates(*prints)
    assert time.process_time() - start < 4


def test_images_of_other_size_have_other_pixels(tmp_path):
    """The same bytes in the same order, but not the same picture."""
    gray = np.arange(0, 240, 15, dtype=np.uint8)
    Image.fromarray(gray.reshape(2, 8)).save(tmp_path / "wide.png")
    Image.fromarray(gray.reshape(4, 4)).save(tmp_path / "square.png")
    wide, square = read(tmp_path / "wide.png"), read(tmp_path / "square.png")
    assert wide.pixel_digests != square.pixel_digests
    assert [d for d in find_duplicates(wide, square) if d.kind != "near"] == []


def test_photographs_are_compared_upright(originals, tmp_path):
    with Image.open(originals / "5.png") as image:
        exif = Image.Exif()
        exif[0x0112] = 6  # the camera was turned by 90 degrees
        image.convert("RGB").rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    (found,) = find_duplicates(read(originals / "5.png"), read(tmp_path / "turned.png"))
    assert (found.kind, found.turn) == ("identical pixels", "none")


def test_bounds_are_kept(originals, tmp_path):
    with Image.open(originals / "0.png") as image:
        cropped(image.convert("RGB"), 0.03).save(tmp_path / "crop.png")
    prints = read(originals / "0.png"), read(tmp_path / "crop.png")
    (found,) = find_duplicates(*prints, max_distance=256, min_similarity=0)
    assert found.distance > 0
    assert find_duplicates(*prints, max_distance=found.distance - 1, min_similarity=found.similarity) == []
    assert find_duplicates(*prints, max_distance=256, min_similarity=1) == []


@pytest.mark.parametrize("bounds", [(-1, 0.9), (257, 0.9), (60, 1.1), (60, -1.1)])
def test_wrong_bounds_are_told(originals, bounds):
    with pytest.raises(ConfigError, match=r"must lie between"):
        find_duplicates(read(originals / "0.png"), None, *bounds)


def test_unreadable_files_are_named(originals, tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "cut.png").write_bytes((originals / "0.png").read_bytes()[:500])
    Image.fromarray(np.zeros((9, 9), np.uint16)).save(tmp_path / "deep.png")
    counted = []
    files = [*list_images(tmp_path), originals / "0.png"]
    prints, rejected = fingerprint_images(files, on_image=lambda: counted.append(1))
    assert prints.paths == [originals / "0.png"]
    assert len(counted) == 4
    assert [line.split(": ")[0] for line in rejected] == [str(p) for p in list_images(tmp_path)]


def test_image_folders(phantoms, originals, tmp_path):
    assert image_folders(phantoms, "TrainDataset") == {"TrainDataset": phantoms / "TrainDataset" / "images"}
    (name,) = image_folders(phantoms, "TestDataset")
    assert image_folders(phantoms / "TestDataset")[name].name == "images"
    assert image_folders(originals) == {originals.name: originals}
    shutil.copytree(originals, tmp_path / "Kvasir" / "images")
    assert image_folders(tmp_path / "Kvasir" / "images") == {"Kvasir": tmp_path / "Kvasir" / "images"}
    (tmp_path / "empty").mkdir()
    for folder in ("empty", "missing"):
        with pytest.raises(DataError, match=folder):
            image_folders(tmp_path / folder)


def test_audit_and_its_files(originals, tmp_path):
    test = tmp_path / "test"
    test.mkdir()
    shutil.copy(originals / "0.png", test / "x.png")
    with Image.open(originals / "1.png") as image:
        ImageOps.mirror(image.convert("RGB")).save(test / "y.jpg", quality=60)
    image, _ = make_polyp_phantom(77, 240, 300)
    Image.fromarray(np.asarray(image)).save(test / "z.png")
    sets = {"train": read(*list_images(originals))}, {"test": read(*list_images(test))}
    between, *within = audit_sets(*sets, within=True)
    assert between.summary() == {
        "first": "train",
        "second": "test",
        "within": False,
        "images_first": 6,
        "images_second": 3,
        "exact": 1,
        "near": 1,
        "affected": 2,
        "share": 0.6667,
    }
    assert [(pair.first, pair.within, pair.duplicates) for pair in within] == [("train", True, []), ("test", True, [])]
    assert len(audit_sets(*sets)) == 1

    files = write_audit(tmp_path / "out", [between, *within], ["bad.png: cannot be read"], 64)
    assert [file.name for file in files] == ["duplicates.csv", "duplicates.json", "duplicates.png"]
    with files[0].open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["first"], row["second"], row["kind"], row["turn"]) for row in rows] == [
        (str(originals / "0.png"), str(test / "x.png"), "identical file", "none"),
        (str(originals / "1.png"), str(test / "y.jpg"), "near", "mirrored left-right"),
    ]
    content = json.loads(files[1].read_text())
    assert content["settings"]["max_distance"] == 64
    assert content["sets"][0] == between.summary()
    assert content["rejected"] == ["bad.png: cannot be read"]
    with Image.open(files[2]) as picture:
        assert picture.width > picture.height > 100


def test_without_duplicates_there_is_no_picture(originals, tmp_path):
    pairs = audit_sets({"a": read(originals / "0.png")}, {"b": read(originals / "1.png")})
    assert [file.name for file in write_audit(tmp_path, pairs, [], 64)] == ["duplicates.csv", "duplicates.json"]


def test_colonoscopies_of_two_hospitals_are_no_duplicates(shared_data):
    """No image of one hospital is taken for one of another."""
    test = shared_data / "polyp" / "TestDataset"
    kvasir = list_images(test / "Kvasir" / "images")[:60]
    clinic = list_images(test / "CVC-ClinicDB" / "images")
    assert find_duplicates(read(*kvasir), read(*clinic)) == []


def test_copies_of_real_colonoscopies(shared_data, tmp_path):
    files = list_images(shared_data / "polyp" / "TestDataset" / "Kvasir" / "images")[:40]
    for path in files[:20]:
        with Image.open(path) as image:
            changed = ImageOps.mirror(cropped(image.convert("RGB"), 0.02)).resize((352, 352), Image.Resampling.BILINEAR)
        ImageEnhance.Brightness(changed).enhance(1.1).save(tmp_path / f"{path.stem}.jpg", quality=70)
    found = find_duplicates(read(*files), read(*list_images(tmp_path)))
    assert {d.first.stem for d in found if d.first.stem == d.second.stem} == {path.stem for path in files[:20]}
    assert len(found) == 20


def test_known_duplicates_of_public_sets(shared_data):
    """Two frames of CVC-300 are in it twice; two images of Kvasir's test set are in its training set, with a border."""
    polyp = shared_data / "polyp"
    found = find_duplicates(read(*list_images(polyp / "TestDataset" / "CVC-300" / "images")))
    exact = [(d.first.stem, d.second.stem) for d in found if d.kind == "identical file"]
    assert exact == [("183", "198"), ("190", "203")]
    training, test = polyp / "TrainDataset" / "images", polyp / "TestDataset" / "Kvasir" / "images"
    for one, two in (
        ("cjyzlw7f9faqr070129au64sq", "cju5y4hgqmk0i08180rjhbwvp"),
        ("cjyzk8qieoboa0848ogj51wwm", "cju3tp94kfstl08181awh6z49"),
    ):
        assert len(find_duplicates(read(training / f"{one}.jpg"), read(test / f"{two}.jpg"))) == 1

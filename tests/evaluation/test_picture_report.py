# SPDX-License-Identifier: Apache-2.0
"""Tests of the report: it stands alone, says what the table says, and nothing in a name can break it."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import torch
from PIL import Image

from monai_sam2unet.errors import DataError
from monai_sam2unet.evaluation import CasePictures, ScoreTable, write_picture_report
from monai_sam2unet.evaluation.published import PublishedTable

EMPTY_TAGS = {"meta", "img", "br"}
NASTY = '<script>alert("1")</script> & $x_1$'


class Page(HTMLParser):
    """Reads a page; complains about tags that do not close."""

    def __init__(self, text):
        super().__init__()
        self.text, self.images, self.tags, self._open = [], [], set(), []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        if tag == "img":
            self.images.append(dict(attrs))
        for name, value in attrs:
            assert name not in ("href", "onclick", "onload")
            assert name != "src" or value.startswith("data:image/")
        if tag not in EMPTY_TAGS:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.text.append(data)

    def words(self):
        return " ".join(" ".join(self.text).split())


def case(seed, size=(32, 48)):
    generator = torch.Generator().manual_seed(seed)
    truth = torch.zeros(1, *size)
    truth[:, 8:20, 10:30] = 1
    return (0.6 * truth.roll(seed % 9, 2) + 0.4 * torch.rand(1, *size, generator=generator)), truth


def fill(sets, protocol="both", picture=None):
    table, pictures = ScoreTable(protocol=protocol), CasePictures()
    for name, images in sets.items():
        for number in range(images):
            pair = case(number)
            table.add(name, f"{number}.png", *pair)
            pictures.add(name, f"{number}.png", *pair, picture)
    return table, pictures


def test_the_report_says_what_the_table_says(tmp_path):
    photo = tmp_path / "photo.png"
    Image.fromarray(np.full((32, 48, 3), 90, np.uint8)).save(photo)
    table, pictures = fill({"Kvasir": 12, "CVC-300": 2}, picture=photo)
    published = PublishedTable({"Kvasir": {"dice_mean": 0.928, "mae": 0.9}, "ETIS": {"dice_mean": 0.796}})
    settings = {"checkpoint": "models/model.pt"}
    path = write_picture_report(tmp_path / "report.html", table, pictures, published, settings, ["x.png: broken"])
    page = Page(path.read_text(encoding="utf-8"))
    words, summary = page.words(), table.summary()
    for told in (
        "14 images of 2 sets: Kvasir, CVC-300.", "Clinical: probability >= 0.5 at native size",
        "Papers' protocol: maps min-max normalised per image, 8 bit, mean over 256 thresholds",
        f"{summary['Kvasir']['mean_dice']:.4f}", f"{summary['CVC-300']['mean_s_measure']:.4f}",
        "checkpoint models/model.pt", "scores: threshold 0.5", "x.png: broken", "1 file could not be scored",
        f"{summary['Kvasir']['mean_dice_mean']:.3f} 0.928", "not measured here: ETIS; measured: Kvasir, CVC-300.",
        "For research", "The worst 14 of all sets", "large (at least 10 %)",
        f"{summary['Kvasir']['dice_by_size']['large']['mean_dice']:.4f} n=12",
        "boundary F allows outlines to lie 0.008 of the image's diagonal apart", "scores: boundary_tolerance 0.008",
        "nor an image that is all object counts for the balanced error rate",
    ):  # fmt: skip
        assert told in words, told
    low, high = summary["Kvasir"]["interval_dice"]
    assert f"{low:.3f}-{high:.3f}" in words
    # Three figures; of 12 images 3 worst, median and best, of 2 both, and once more the worst of all 14; three pictures
    # each.
    assert len(page.images) == 3 + 3 * (9 + 2 + 14)
    assert page.tags.isdisjoint({"script", "link", "iframe", "object"})


def test_the_cases_shown_are_the_worst_median_and_best(tmp_path):
    table, pictures = fill({"A": 25})
    page = Page(write_picture_report(tmp_path / "r.html", table, pictures).read_text(encoding="utf-8"))
    order = table.frame().sort_values("dice", kind="stable")["image"].tolist()
    shown = re.findall(r"(worst|median|best)\s*: \S+, (\d+\.png)", page.words())
    assert [name for _, name in shown] == order[:3] + order[11:14] + order[-3:]
    assert [place for place, _ in shown] == ["worst"] * 3 + ["median"] * 3 + ["best"] * 3


@pytest.mark.parametrize("count", [1, 3, 8])
def test_of_few_images_all_are_shown_once_from_the_best_on(tmp_path, count):
    table, pictures = fill({"A": count})
    page = Page(write_picture_report(tmp_path / "r.html", table, pictures).read_text(encoding="utf-8"))
    order = table.frame().sort_values("dice", kind="stable")["image"].tolist()[::-1]
    shown = re.findall(r"(\d of \d|worst|median|best)\s*: \d\.\d+, (\d+\.png)", page.words())
    assert shown == [(f"{n + 1} of {count}", name) for n, name in enumerate(order)]


def test_the_note_of_published_numbers_is_shown(tmp_path):
    table, _ = fill({"A": 2})
    published = PublishedTable({"A": {"mae": 0.1}})
    published.note = NASTY  # as a file of published numbers gives it
    page = Page(write_picture_report(tmp_path / "r.html", table, None, published).read_text(encoding="utf-8"))
    assert NASTY in page.words()


def test_every_picture_decodes_and_says_what_it_shows(tmp_path):
    table, pictures = fill({"A": 4})
    page = Page(write_picture_report(tmp_path / "r.html", table, pictures).read_text(encoding="utf-8"))
    for image in page.images:
        kind, content = re.fullmatch(r"data:image/(png|jpeg);base64,([\w+/=]+)", image["src"]).groups()
        opened = Image.open(io.BytesIO(base64.b64decode(content, validate=True)))
        opened.load()
        assert opened.format == kind.upper()
        if "width" in image:
            assert opened.size == (int(image["width"]), int(image["height"]))
        assert len(image["alt"]) > 20
    assert any("4 of 4 of A" in image["alt"] and "truth" in image["alt"] for image in page.images)


def test_names_are_text_whatever_they_hold(tmp_path):
    table, pictures = ScoreTable(), CasePictures()
    for number in range(3):
        table.add(NASTY, f"{number}{NASTY}", *case(number))
        pictures.add(NASTY, f"{number}{NASTY}", *case(number))
    path = write_picture_report(tmp_path / "r.html", table, pictures, None, {NASTY: NASTY}, [NASTY])
    page = Page(path.read_text(encoding="utf-8"))
    assert "script" not in page.tags
    assert page.words().count(NASTY) > 6
    assert any(NASTY in image["alt"] for image in page.images)


def test_the_worst_of_all_sets_are_shown_worst_first(tmp_path):
    table, pictures = fill({"A": 14, "B": 13})
    # One that is worse than all others, and lies in the middle of the second set.
    nothing, truth = torch.zeros(1, 32, 48), case(0)[1]
    table.add("B", "missed.png", nothing, truth)
    pictures.add("B", "missed.png", nothing, truth)
    page = Page(write_picture_report(tmp_path / "r.html", table, pictures).read_text(encoding="utf-8"))
    words = page.words()
    worst = words[words.index("The worst 20 of all sets") :]
    assert worst.index("1, B : 0.0000, missed.png") < worst.index("2, ")
    assert "20, " in worst
    assert "21, " not in worst
    shown = re.findall(r"\d+, [AB] : (\d\.\d+)", worst)
    assert [float(score) for score in shown] == sorted(float(score) for score in table.frame()["dice"].round(4))[:20]


@pytest.mark.parametrize(("protocol", "figures"), [("clinical", 2), ("sod", 2)])
def test_one_reading_alone(tmp_path, protocol, figures):
    table, _ = fill({"A": 3}, protocol)
    page = Page(write_picture_report(tmp_path / "r.html", table).read_text(encoding="utf-8"))
    assert len(page.images) == figures
    assert ("Papers' protocol" in page.words()) == (protocol == "sod")
    assert ("Clinical" in page.words()) == (protocol == "clinical")


def test_several_classes_and_a_single_image(tmp_path):
    table, pictures = ScoreTable(class_names=["left", "right"]), CasePictures()
    maps, truth = (torch.cat([a, b]) for a, b in zip(case(1), case(2), strict=True))
    table.add("A", "1", maps, truth)
    pictures.add("A", "1", maps, truth)
    page = Page(write_picture_report(tmp_path / "r.html", table, pictures).read_text(encoding="utf-8"))
    assert "dice left ↑" in page.words()
    assert "1 image of 1 set: A" in page.words()


def test_images_without_object(tmp_path):
    table = ScoreTable(empty_truth="ignore")
    for number in range(2):
        table.add("A", str(number), torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))
    page = Page(write_picture_report(tmp_path / "r.html", table).read_text(encoding="utf-8"))
    assert "S-measure ↑" not in page.words()  # no image counts
    assert "false alarm rate ↓ 0.0000" in page.words()


@pytest.mark.parametrize(
    ("sets", "left_out"), [(10, None), (20, "Of set 16, set 17, set 18, set 19 no images are shown")]
)
def test_the_file_stays_small(tmp_path, sets, left_out):
    """Noise is what JPEG makes the largest files of."""
    noise = tmp_path / "noise.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)).save(noise)
    table, pictures = ScoreTable(protocol="clinical", surface=False), CasePictures()
    pair = (torch.rand(1, 256, 256), torch.rand(1, 256, 256) > 0.5)
    for dataset in range(sets):
        for number in range(9):
            table.add(f"set {dataset}", str(number), *pair)
            pictures.add(f"set {dataset}", str(number), *pair, noise)
    path = write_picture_report(tmp_path / "r.html", table, pictures)
    assert path.stat().st_size < 20e6
    page = Page(path.read_text(encoding="utf-8"))
    assert len(page.images) <= 2 + 3 * 90
    assert left_out is None or left_out in page.words()


def test_nothing_to_report(tmp_path):
    with pytest.raises(DataError, match="No image was scored"):
        write_picture_report(tmp_path / "r.html", ScoreTable())

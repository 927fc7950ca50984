# SPDX-License-Identifier: Apache-2.0
"""Tests of decoding photographs and masks of every mode, and of the check of a whole set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from monai_sam2unet.data import check_pairs, split_readable, to_gray, to_rgb
from monai_sam2unet.errors import ConfigError, DataError

ORIENTATION = 0x0112


def photograph(height: int = 24, width: int = 32) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 8, columns * 7, rows * 0 + 90], axis=2).astype(np.uint8)


def disc(height: int = 24, width: int = 32, value: int = 255) -> np.ndarray:
    rows, columns = np.mgrid[:height, :width]
    return ((rows - 12) ** 2 + (columns - 12) ** 2 < 50).astype(np.uint8) * np.uint8(value)


def save(pixels: np.ndarray, path: Path, **options: object) -> str:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return str(path)


def pair(folder: Path, name: str, image: np.ndarray | None = None, mask: np.ndarray | None = None) -> dict[str, str]:
    image, mask = (photograph() if image is None else image), (disc() if mask is None else mask)
    return {"image": save(image, folder / "images" / name), "label": save(mask, folder / "masks" / name)}


def truncate(path: str, share: float = 0.6) -> None:
    content = Path(path).read_bytes()
    Path(path).write_bytes(content[: int(len(content) * share)])


def opened(path: str, convert=to_rgb) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(convert(image))


# ---- a whole set


@pytest.mark.parametrize("threads", [1, 4])
def test_a_good_set_passes(tmp_path, threads):
    items = [pair(tmp_path, name) for name in ("a.png", "b.jpg", "c.tif", "d.bmp")]
    items.append(pair(tmp_path, "empty.png", mask=disc(value=0)))
    items.append(pair(tmp_path, "full.png", mask=np.full((24, 32), 255, np.uint8)))
    check_pairs(items, threads)
    check_pairs([])


def test_everything_wrong_is_named_at_once(tmp_path):
    items = {name: pair(tmp_path, name) for name in ("good.png", "cut.png", "cut.jpg", "junk.png", "cutmask.png")}
    truncate(items["cut.png"]["image"])
    truncate(items["cut.jpg"]["image"])
    truncate(items["cutmask.png"]["label"])
    Path(items["junk.png"]["image"]).write_text("<html>404 Not Found</html>")
    items["size"] = pair(tmp_path, "size.png", mask=disc(24, 30))
    items["ones"] = pair(tmp_path, "ones.png", mask=disc(value=1))
    items["deep"] = pair(tmp_path, "deep.png", image=photograph()[..., 0].astype(np.uint16) * 200)
    items["gone"] = {"image": str(tmp_path / "images" / "gone.png"), "label": items["good.png"]["label"]}
    with pytest.raises(DataError, match=r"^8 problems with images or masks; mend or remove these files:") as error:
        check_pairs(list(items.values()))
    text = str(error.value)
    assert len(text.splitlines()) == 9
    for name in ("cut.png", "cut.jpg", "junk.png", "deep.png", "gone.png"):
        assert f"  {tmp_path / 'images' / name}: cannot be read (" in text
    assert f"  {tmp_path / 'masks' / 'cutmask.png'}: cannot be read (" in text
    assert f"{items['size']['label']}: the mask is 30x24 pixels, its image 32x24" in text
    assert f"{items['ones']['label']}: the mask's largest value is 1, foreground is 127.5 up" in text
    assert "8 bits a channel are expected, this one has the mode I;16" in text
    assert "good.png" not in text


def test_a_large_number_of_problems_is_cut_short(tmp_path):
    with pytest.raises(DataError, match=r"^30 problems") as error:
        check_pairs([{"image": str(tmp_path / f"{i}.png"), "label": str(tmp_path / f"{i}m.png")} for i in range(15)])
    assert str(error.value).endswith("... and 20 more")


def test_a_size_is_compared_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    item = {
        "image": save(photograph(24, 32), tmp_path / "a.jpg", exif=exif),
        "label": save(disc(32, 24), tmp_path / "a.png"),
    }
    check_pairs([item])


@pytest.mark.parametrize(("orientation", "size"), [(3, (24, 32)), (2, (24, 32)), (6, (24, 24))])
def test_a_turn_that_the_size_does_not_show_is_told(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    image, label = save(photograph(*size), tmp_path / "a.jpg", exif=exif), save(disc(*size), tmp_path / "a.png")
    with pytest.raises(DataError, match="EXIF turns it"):
        check_pairs([{"image": image, "label": label}])


def test_a_mask_of_zeros_and_ones_passes_with_its_threshold(tmp_path):
    item = {
        "image": save(photograph(24, 32), tmp_path / "a.png"),
        "label": save(disc(24, 32) // 255, tmp_path / "m.png"),
    }
    check_pairs([item], mask_threshold=0.5)
    with pytest.raises(DataError, match="largest value is 1"):
        check_pairs([item])


def test_readable_images_are_split_from_others(tmp_path):
    good = [pair(tmp_path, name)["image"] for name in ("b.png", "a.jpg")]
    bad = pair(tmp_path, "c.png")["image"]
    truncate(bad, 0.3)
    (tmp_path / "empty.jpg").touch()
    readable, reasons = split_readable([good[0], Path(bad), tmp_path / "empty.jpg", good[1]], num_threads=2)
    assert readable == good
    assert [reason.split(": cannot be read (")[0] for reason in reasons] == [bad, str(tmp_path / "empty.jpg")]
    assert split_readable([]) == ([], [])


# ---- modes of images


@pytest.mark.parametrize("orientation", range(1, 9))
def test_photographs_come_upright(tmp_path, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = photograph()
    # The camera stores what the inverse of the orientation makes of the upright picture.
    undo = {
        1: lambda p: p,
        2: lambda p: p[:, ::-1],
        3: lambda p: p[::-1, ::-1],
        4: lambda p: p[::-1],
        5: lambda p: p.transpose(1, 0, 2),
        6: lambda p: np.rot90(p),
        7: lambda p: p[::-1, ::-1].transpose(1, 0, 2),
        8: lambda p: np.rot90(p, -1),
    }
    stored = np.ascontiguousarray(undo[orientation](upright))
    path = save(stored, tmp_path / "a.jpg", exif=exif, quality=95, subsampling=0)
    found = opened(path)
    assert found.shape == upright.shape
    np.testing.assert_allclose(found.astype(int), upright, atol=12)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_8_bit_mode_becomes_rgb_and_gray(tmp_path, mode):
    path = tmp_path / {"CMYK": "a.jpg", "YCbCr": "a.tif"}.get(mode, "a.png")
    Image.fromarray(disc()).convert("RGB").convert(mode).save(path)
    with Image.open(path) as image:
        assert image.mode in (mode, "RGB")
        rgb, gray = to_rgb(image), to_gray(image)
    assert (rgb.mode, gray.mode) == ("RGB", "L")
    np.testing.assert_allclose(np.asarray(gray, int), disc(), atol=40 if mode == "CMYK" else 1)
    np.testing.assert_allclose(np.asarray(rgb, int), disc()[..., None].repeat(3, 2), atol=40 if mode == "CMYK" else 1)


def test_a_palette_is_looked_up(tmp_path):
    image = Image.fromarray((disc() > 0).astype(np.uint8))
    image.putpalette([10, 20, 30, 200, 100, 50])
    image.save(tmp_path / "a.png")
    found = opened(str(tmp_path / "a.png"))
    assert found[0, 0].tolist() == [10, 20, 30]
    assert found[12, 12].tolist() == [200, 100, 50]


@pytest.mark.parametrize(
    ("dtype", "suffix"), [(np.uint16, "png"), (np.uint16, "tif"), (np.int32, "tif"), (np.float32, "tif")]
)
@pytest.mark.parametrize("convert", [to_rgb, to_gray])
def test_more_than_8_bits_are_refused(tmp_path, dtype, suffix, convert):
    path = save(disc().astype(dtype), tmp_path / f"a.{suffix}")
    with pytest.raises(DataError, match="8 bits a channel are expected, this one has the mode"):
        opened(path, convert)


@pytest.mark.parametrize("mask_threshold", [0, -5, 256, float("nan")])
def test_a_threshold_that_tells_no_values_apart_is_refused(mask_threshold):
    with pytest.raises(ConfigError, match="above 0 and at most 255"):
        check_pairs([], mask_threshold=mask_threshold)


# ---- class indices, and images of 16 bits


def test_classes_are_checked_by_their_number(tmp_path):
    item = pair(tmp_path, "a.png", mask=disc(value=3))
    check_pairs([item], mask_threshold=None, num_classes=3)
    with pytest.raises(DataError, match="largest value is 3, its classes are 0, the background, to 2"):
        check_pairs([item], mask_threshold=None, num_classes=2)


@pytest.mark.parametrize("options", [{"mask_threshold": None}, {"num_classes": 2}])
def test_masks_are_of_one_kind(options):
    with pytest.raises(ConfigError, match="have a mask_threshold, or hold class indices"):
        check_pairs([], **options)


def test_gray_images_may_have_sixteen_bits(tmp_path):
    item = pair(tmp_path, "a.png", image=photograph()[..., 0].astype(np.uint16) * 200)
    check_pairs([item], picture="gray")
    assert split_readable([item["image"]], picture="gray")[0] == [item["image"]]
    assert "16" in split_readable([item["image"]])[1][0]

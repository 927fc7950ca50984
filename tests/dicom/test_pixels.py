# SPDX-License-Identifier: Apache-2.0
"""Values of pixels: parity with pydicom and Pillow, made images of each kind, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from PIL import Image
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.pixels import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGLSLossless,
    RLELossless,
)

from monai_sam2unet.dicom import Frame, PixelReader, frames_of, read_volume
from monai_sam2unet.errors import ConfigError, DataError

ROWS, COLUMNS = 6, 5


def ramp(low, dtype=np.int16):
    return (np.arange(ROWS * COLUMNS).reshape(ROWS, COLUMNS) + low).astype(dtype)


def values_of(path, **options):
    return read_volume(path, **options).pixels[0]


def every_image(root):
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        try:
            dataset = pydicom.dcmread(path)
            pixels = dataset.pixel_array
        except Exception:
            continue
        kind = UID(dataset.get("SOPClassUID", "")).name
        if pixels.size and not any(word in kind for word in ("Segmentation", "Dose")):
            yield path, dataset, pixels


def check_gray(root):
    """Gray values are pydicom's ``apply_modality_lut``, exactly."""
    checked = 0
    for path, dataset, pixels in every_image(root):
        gray = dataset.PhotometricInterpretation == "MONOCHROME2" and "PerFrameFunctionalGroupsSequence" not in dataset
        if gray and dataset.file_meta.get("TransferSyntaxUID"):
            expected = apply_modality_lut(pixels, dataset)
            expected = expected if (expected == np.round(expected)).all() else expected.astype(np.float32)
            volume = read_volume(path, mask_padding=False)
            assert volume.pixels.dtype.kind == ("f" if expected.dtype == np.float32 else "i")
            np.testing.assert_array_equal(volume.pixels, expected.reshape(volume.pixels.shape), err_msg=str(path))
            checked += 1
    return checked


@pytest.mark.filterwarnings("ignore")
def test_gray_samples_of_pydicom_have_its_values(samples):
    assert check_gray(samples) >= 45


@pytest.mark.filterwarnings("ignore")
def test_gray_shared_files_have_pydicoms_values(shared_data):
    assert check_gray(shared_data / "dicom") >= 100


@pytest.mark.filterwarnings("ignore")
def test_monochrome1_is_turned_over(shared_data):
    checked = 0
    for path, dataset, pixels in every_image(shared_data / "dicom" / "monochrome1"):
        assert dataset.PhotometricInterpretation == "MONOCHROME1"
        assert "RescaleSlope" not in dataset or (dataset.RescaleSlope, dataset.RescaleIntercept) == (1, 0)
        np.testing.assert_array_equal(values_of(path, mask_padding=False), 2**dataset.BitsStored - 1 - pixels)
        checked += 1
    assert checked == 3


# Pillow's decoder and the plug-in's differ by rounding in the inverse DCT and in the interpolation of chroma.
@pytest.mark.parametrize(
    ("name", "photometric"),
    [
        ("SC_rgb_jpeg_dcmtk.dcm", "YBR_FULL"),
        ("SC_rgb_small_odd_jpeg.dcm", "YBR_FULL"),
        ("SC_rgb_dcmtk_+eb+cy+n1.dcm", None),
        ("SC_rgb_dcmtk_+eb+cy+np.dcm", None),
        ("SC_rgb_dcmtk_+eb+cr.dcm", "RGB"),
        ("examples_ybr_color.dcm", None),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_jpeg_colours_are_pillows(samples, name, photometric):
    path = samples / "test_files" / name
    dataset = pydicom.dcmread(path)
    if not dataset.file_meta.TransferSyntaxUID.is_encapsulated:
        pytest.skip(f"{name} is not compressed")
    assert photometric in (None, dataset.PhotometricInterpretation)
    try:
        stream = next(generate_frames(dataset.PixelData, number_of_frames=int(dataset.get("NumberOfFrames", 1))))
        picture = Image.open(io.BytesIO(stream))
        expected = np.asarray(picture.convert("RGB"))
    except OSError:
        pytest.skip("Pillow reads no such stream")
    difference = np.abs(values_of(path).astype(int) - expected)
    assert difference.mean() < 2


@pytest.mark.filterwarnings("ignore")
def test_one_picture_in_many_encodings(samples):
    """Files that pydicom's authors made of one picture: the colours must agree, however they are encoded."""
    root = samples / "test_files"
    truth = values_of(root / "SC_rgb_rle.dcm").astype(int)
    assert truth.std() > 50
    checked = 0
    for path in sorted(root.glob("SC_*.dcm")):
        values = read_volume(path).pixels[0]
        if values.shape == truth.shape and values.dtype == np.uint8:
            # Chroma in halves blurs the edges between the test pattern's colours.
            assert np.median(np.abs(values - truth)) <= 2, path.name
            assert np.abs(values - truth).mean() < 6, path.name
            checked += 1
    assert checked >= 12


@pytest.mark.filterwarnings("ignore")
def test_ultrasound_colours_agree_across_transfer_syntaxes(shared_data):
    root = shared_data / "dicom" / "colour"
    plain = values_of(root / "US1_UNCR.dcm").astype(int)
    np.testing.assert_array_equal(values_of(root / "US1_J2KR.dcm"), plain)
    assert np.abs(values_of(root / "US1_J2KI.dcm") - plain).mean() < 2
    np.testing.assert_array_equal(values_of(root / "color-pl.dcm"), values_of(root / "color-px.dcm"))


@pytest.mark.filterwarnings("ignore")
def test_palettes_are_expanded_as_by_pydicom(shared_data, samples):
    paths = [samples / "test_files" / "examples_palette.dcm", *(shared_data / "dicom" / "colour").glob("OBXXXX1A_*")]
    for path in paths:
        dataset = pydicom.dcmread(path)
        assert dataset.PhotometricInterpretation == "PALETTE COLOR"
        expected = apply_color_lut(dataset.pixel_array, dataset)
        volume = read_volume(path)
        assert expected.dtype == np.uint16
        np.testing.assert_array_equal(volume.pixels, (expected >> 8).reshape(volume.pixels.shape))
        assert volume.pixels.max() > 200
    assert len(paths) == 3


@pytest.mark.parametrize(("bits", "scale"), [(16, 257), (16, 1), (8, 1)])
def test_palettes_of_each_depth(tmp_path, make_image, bits, scale):
    """16 bits as the standard has it, 16 bits of which some writers use the lower 8, and 8 bits."""
    table = np.random.default_rng(0).permuted(np.tile(np.arange(256), (3, 1)), axis=1)
    attributes = {"PhotometricInterpretation": "PALETTE COLOR"}
    for colour, entries in zip(("Red", "Green", "Blue"), table, strict=True):
        attributes[f"{colour}PaletteColorLookupTableDescriptor"] = [256, 0, bits]
        data = (entries * scale).astype(np.uint16 if bits == 16 else np.uint8).tobytes()
        attributes[f"{colour}PaletteColorLookupTableData"] = data
    pixels = ramp(100, np.uint8)
    path = make_image(tmp_path / "a.dcm", pixels, **attributes)
    np.testing.assert_array_equal(values_of(path), table[:, pixels].transpose(1, 2, 0))
    assert read_volume(path).pixels.dtype == np.uint8


def test_a_palette_image_without_palette(tmp_path, make_image):
    path = make_image(tmp_path / "a.dcm", ramp(0, np.uint8), PhotometricInterpretation="PALETTE COLOR")
    with pytest.raises(DataError, match=r"a.dcm: the palette is missing or damaged"):
        read_volume(path)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.int32])
@pytest.mark.parametrize("ends", ["low", "high"])
def test_every_depth_keeps_its_ends(tmp_path, make_image, dtype, ends):
    info = np.iinfo(dtype)
    pixels = ramp(info.min if ends == "low" else info.max - 29, dtype)
    volume = read_volume(make_image(tmp_path / "a.dcm", pixels))
    np.testing.assert_array_equal(volume.pixels[0].astype(np.int64), pixels.astype(np.int64))
    assert volume.pixels.dtype.kind == "i"


@pytest.mark.parametrize(
    "syntax",
    [
        ImplicitVRLittleEndian,
        ExplicitVRBigEndian,
        DeflatedExplicitVRLittleEndian,
        RLELossless,
        JPEGLSLossless,
        JPEG2000Lossless,
    ],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16])
def test_made_transfer_syntaxes_agree(tmp_path, make_image, syntax, dtype):
    low = -500 if dtype is np.int16 else 0
    pixels = np.random.default_rng(0).integers(low, 256 if dtype is np.uint8 else 1500, (64, 48)).astype(dtype)
    options = {"BitsStored": 8, "HighBit": 7} if dtype is np.uint8 else {"BitsStored": 12, "HighBit": 11}
    if syntax.is_encapsulated:
        path = make_image(tmp_path / "a.dcm", pixels, compress=syntax, **options)
    else:
        dtype_there = np.dtype(dtype).newbyteorder(">" if syntax == ExplicitVRBigEndian else "<")
        path = make_image(tmp_path / "a.dcm", pixels.astype(dtype_there), syntax=syntax, **options)
    np.testing.assert_array_equal(values_of(path), pixels)


@pytest.mark.parametrize(
    ("slope", "intercept", "kind"),
    [
        ("1", "-1024", "int16"),
        ("2", "-1000", "int16"),
        ("100", "0", "int32"),
        ("-1", "5", "int16"),
        ("0.5", "0", "float32"),
        ("1", "0.25", "float32"),
        ("1e8", "0", "int64"),
        ("1.22100122100", "-7.5", "float32"),
    ],
)
def test_rescale(tmp_path, make_image, slope, intercept, kind):
    pixels = ramp(-15)
    options = {"RescaleSlope": slope, "RescaleIntercept": intercept, "BitsStored": 12, "HighBit": 11}
    path = make_image(tmp_path / "a.dcm", pixels, **options)
    volume = read_volume(path)
    assert volume.pixels.dtype == kind
    expected = apply_modality_lut(pixels, pydicom.dcmread(path))
    np.testing.assert_array_equal(volume.pixels[0], expected.astype(kind))


@pytest.mark.parametrize(
    ("slope", "intercept"), [("0", "1"), (b"nan ", "1"), (b"inf ", "1"), (b"x   ", "1"), (["1", "2"], "1")]
)
def test_impossible_rescale(tmp_path, make_image, slope, intercept):
    junk = isinstance(slope, bytes)
    # With a sign, which no UID has.
    path = make_image(tmp_path / "a.dcm", ramp(0), RescaleSlope="+7.7" if junk else slope, RescaleIntercept=intercept)
    if junk:
        assert path.read_bytes().count(b"+7.7") == 1
        path.write_bytes(path.read_bytes().replace(b"+7.7", slope))
    with pytest.raises(DataError, match=r"a.dcm"):
        read_volume(path)


def test_each_slice_has_its_own_rescale(tmp_path, make_series):
    slopes = ["1", "0.5", "3"]
    make_series(
        tmp_path, range(3), each=lambda i: {"RescaleSlope": slopes[i], "RescaleIntercept": "0", "pixels": ramp(1)}
    )
    volume = read_volume(tmp_path)
    assert volume.pixels.dtype == np.float32
    np.testing.assert_array_equal(volume.pixels, [ramp(1) * float(slope) for slope in slopes])


def test_slices_of_different_types_are_held_by_one(tmp_path, make_series):
    pixels = [ramp(30000, np.uint16) * 2, ramp(-100, np.int16)]
    make_series(tmp_path, range(2), each=lambda i: {"pixels": pixels[i], "PixelRepresentation": i})
    volume = read_volume(tmp_path)
    assert volume.pixels.dtype == np.int32
    np.testing.assert_array_equal(volume.pixels, [p.astype(int) for p in pixels])


def lut(first, entries, bits=16, vr="US"):
    item = Dataset()
    item.add_new("LUTDescriptor", "SS" if first < 0 else "US", [len(entries) % 2**16, first, bits])
    if vr == "OW":
        item.add_new("LUTData", "OW", np.asarray(entries, dtype=np.uint16).tobytes())
    else:
        item.add_new("LUTData", "US", [int(value) for value in entries])
    return item


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("first", [0, 110, -5])
def test_modality_lut(tmp_path, make_image, vr, first):
    entries = np.random.default_rng(0).integers(0, 2**16, 20)
    pixels = ramp(first - 4)
    path = make_image(tmp_path / "a.dcm", pixels, ModalityLUTSequence=[lut(first, entries, vr=vr)])
    volume = read_volume(path)
    np.testing.assert_array_equal(volume.pixels[0], apply_modality_lut(pixels, pydicom.dcmread(path)))
    np.testing.assert_array_equal(volume.pixels[0], entries[np.clip(pixels - first, 0, 19)])
    assert volume.pixels.dtype == np.int32


def test_modality_lut_over_the_whole_signed_range(tmp_path, make_image):
    """A difference from the first entry that is more than 16 bits hold."""
    entries = np.arange(2**16)[::-1]
    pixels = np.array([[-(2**15), -1, 0, 2**15 - 1]], dtype=np.int16)
    path = make_image(tmp_path / "a.dcm", pixels, ModalityLUTSequence=[lut(-(2**15), entries, vr="OW")])
    np.testing.assert_array_equal(values_of(path), [[65535, 32768, 32767, 0]])


def test_modality_lut_of_monochrome1(tmp_path, make_image):
    entries = [40000, 50000, 65535]
    options = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 2, "HighBit": 1}
    pixels = np.array([[0, 1, 2, 3]], dtype=np.uint8)
    path = make_image(tmp_path / "a.dcm", pixels, ModalityLUTSequence=[lut(0, entries)], **options)
    np.testing.assert_array_equal(values_of(path), [[65535, 55535, 40000, 40000]])


@pytest.mark.parametrize("item", [lut(0, [1, 2, 300], bits=8), lut(0, [1, 2, 3])])
def test_damaged_luts(tmp_path, make_image, item):
    if item.LUTDescriptor[2] == 16:
        item.LUTDescriptor = [9, 0, 16]
    with pytest.raises(DataError, match=r"a.dcm.*LUTData must be"):
        read_volume(make_image(tmp_path / "a.dcm", ramp(0), ModalityLUTSequence=[item]))


@pytest.mark.parametrize(
    "attributes",
    [
        {"WindowCenter": 12, "WindowWidth": 20},
        {"WindowCenter": 12, "WindowWidth": 20, "VOILUTFunction": "LINEAR"},
        {"WindowCenter": 12, "WindowWidth": 20, "VOILUTFunction": "LINEAR_EXACT"},
        {"WindowCenter": 12, "WindowWidth": 20, "VOILUTFunction": "SIGMOID"},
        {"WindowCenter": -1000, "WindowWidth": 1},
        {"WindowCenter": 12.5, "WindowWidth": 0.5, "VOILUTFunction": "LINEAR_EXACT"},
    ],
)
@pytest.mark.parametrize("rescale", [None, ("1", "-10"), ("0.5", "3")])
def test_windows_are_pydicoms(tmp_path, make_image, attributes, rescale):
    """pydicom's result runs over the image's own range; ours is that, scaled to [0, 1]."""
    scale = {} if rescale is None else {"RescaleSlope": rescale[0], "RescaleIntercept": rescale[1]}
    path = make_image(tmp_path / "a.dcm", ramp(0), **attributes, **scale)
    dataset = pydicom.dcmread(path)
    expected = apply_voi_lut(apply_modality_lut(dataset.pixel_array, dataset), dataset)
    slope, intercept = (float(value) for value in rescale or (1, 0))
    low, high = (slope * end + intercept for end in (-(2**15), 2**15 - 1))
    volume = read_volume(path, voi=0)
    assert volume.pixels.dtype == np.float32
    np.testing.assert_allclose(volume.pixels[0], (expected - low) / (high - low), atol=1e-4)
    assert 0 <= volume.pixels.min() <= volume.pixels.max() <= 1


def test_linear_window_by_the_formula(tmp_path, make_image):
    """PS3.3 C.11.2.1.2.1, with its half a pixel."""
    values = values_of(make_image(tmp_path / "a.dcm", ramp(0), WindowCenter=10, WindowWidth=8), voi=0)
    np.testing.assert_allclose(values, np.clip((ramp(0) - 9.5) / 7 + 0.5, 0, 1), atol=1e-4)


def test_windows_are_chosen_by_number(tmp_path, make_image):
    path = make_image(tmp_path / "a.dcm", ramp(0), WindowCenter=[10, 20], WindowWidth=[8, 4])
    single = make_image(tmp_path / "b.dcm", ramp(0), WindowCenter=20, WindowWidth=4)
    np.testing.assert_array_equal(values_of(path, voi=1), values_of(single, voi=0))
    assert not np.array_equal(values_of(path, voi=1), values_of(path, voi=0))
    with pytest.raises(DataError, match="has 2 VOI LUTs or windows; voi=2 is not among them"):
        read_volume(path, voi=2)


@pytest.mark.parametrize(
    ("attributes", "text"),
    [
        ({}, "has 0 VOI LUTs or windows"),
        ({"WindowCenter": 10}, "not as many of WindowWidth"),
        ({"WindowCenter": [10, 20], "WindowWidth": [5]}, "not as many of WindowWidth"),
        ({"WindowCenter": 10, "WindowWidth": 0}, "Window 0 of"),
        ({"WindowCenter": 10, "WindowWidth": 5, "VOILUTFunction": "OTHER"}, "Window 0 of"),
    ],
)
def test_impossible_windows(tmp_path, make_image, attributes, text):
    path = make_image(tmp_path / "a.dcm", ramp(0), **attributes)
    with pytest.raises(DataError, match=text) as error:
        read_volume(path, voi=0)
    assert "a.dcm" in str(error.value)
    np.testing.assert_array_equal(values_of(path), ramp(0))


@pytest.mark.parametrize("number", [-1, True])
def test_voi_is_a_number(number):
    with pytest.raises(ConfigError, match="voi must be"):
        PixelReader(voi=number)


@pytest.mark.parametrize("vr", ["US", "OW"])
@pytest.mark.parametrize("bits", [8, 10, 16])
def test_voi_lut_is_pydicoms(tmp_path, make_image, vr, bits):
    entries = np.random.default_rng(0).integers(0, 2**bits, 16)
    items = [lut(0, [0, 1]), lut(5, entries, bits, vr)]
    path = make_image(tmp_path / "a.dcm", ramp(0), VOILUTSequence=items, WindowCenter=3, WindowWidth=2)
    expected = apply_voi_lut(ramp(0), pydicom.dcmread(path), index=1)
    np.testing.assert_allclose(values_of(path, voi=1), expected / (2**bits - 1), rtol=1e-6)


def test_voi_lut_of_8_bits_with_many_entries(tmp_path, make_image):
    entries = np.arange(1024) // 4
    pixels = ramp(0) * 30
    path = make_image(tmp_path / "a.dcm", pixels, VOILUTSequence=[lut(0, entries, 8)])
    np.testing.assert_allclose(values_of(path, voi=0), entries[pixels] / 255, rtol=1e-6)


def test_voi_lut_in_hounsfield_units_without_vrs(tmp_path, make_image):
    """Stored pixels are unsigned, so without VRs in the file the first entry, -1024, is read as 64512."""
    options = {"RescaleSlope": "1", "RescaleIntercept": "-1024", "BitsStored": 12, "HighBit": 11}
    item = lut(-1024, np.arange(2000), vr="OW")
    path = make_image(
        tmp_path / "a.dcm", ramp(500, np.uint16), syntax=ImplicitVRLittleEndian, VOILUTSequence=[item], **options
    )
    assert pydicom.dcmread(path).VOILUTSequence[0].LUTDescriptor[1] == 64512
    np.testing.assert_allclose(values_of(path, voi=0), ramp(500) / 65535, rtol=1e-6)


def test_windows_of_monochrome1_are_turned_over(tmp_path, make_image):
    options = {"WindowCenter": 10, "WindowWidth": 8}
    plain = make_image(tmp_path / "a.dcm", ramp(0), **options)
    turned = make_image(tmp_path / "b.dcm", ramp(0), PhotometricInterpretation="MONOCHROME1", **options)
    np.testing.assert_allclose(values_of(turned, voi=0), 1 - values_of(plain, voi=0), atol=1e-6)


@pytest.mark.parametrize(("stored", "dtype"), [(10, np.uint16), (12, np.int16)])
def test_monochrome1_turns_over_the_stored_range(tmp_path, make_image, stored, dtype):
    options = {"BitsStored": stored, "HighBit": stored - 1, "RescaleSlope": "2", "RescaleIntercept": "-100"}
    path = make_image(tmp_path / "a.dcm", ramp(3, dtype), PhotometricInterpretation="MONOCHROME1", **options)
    low, high = (0, 2**stored - 1) if dtype is np.uint16 else (-(2 ** (stored - 1)), 2 ** (stored - 1) - 1)
    np.testing.assert_array_equal(values_of(path), (low + high - ramp(3).astype(int)) * 2 - 100)


def with_padding(vr, value, limit=None):
    def edit(dataset):
        dataset["PixelPaddingValue"] = DataElement(0x00280120, vr, value)
        if limit is not None:
            dataset["PixelPaddingRangeLimit"] = DataElement(0x00280121, vr, limit)

    return edit


def padded(value, dtype):
    pixels = ramp(7, dtype)
    pixels[:2] = np.asarray(value).astype(dtype)
    return pixels


@pytest.mark.parametrize(
    ("dtype", "value", "edit", "options"),
    [
        (np.int16, -2000, with_padding("SS", -2000), {}),
        # The VR that does not go with PixelRepresentation: the same 16 bits.
        (np.int16, -2000, with_padding("US", 63536), {}),
        (np.uint16, 63536, with_padding("SS", -2000), {}),
        (np.uint16, 0, with_padding("US", 0), {}),
        (np.uint8, 255, with_padding("US", 255), {}),
        # Outside what BitsStored holds.
        (np.uint16, 0xF830, with_padding("US", 0xF830), {"BitsStored": 12, "HighBit": 11}),
        (np.int16, -32768, with_padding("SS", -32768), {"BitsStored": 12, "HighBit": 11}),
        # The bits above BitsStored say nothing.
        (np.int16, 0x0830, with_padding("SS", -2000), {"BitsStored": 12, "HighBit": 11}),
        (np.int16, -1999, with_padding("SS", -2000, -1990), {}),
        (np.int16, -1999, with_padding("SS", -1990, -2000), {}),
    ],
)
def test_padding_has_the_lowest_other_value(tmp_path, make_image, dtype, value, edit, options):
    pixels = padded(value, dtype)
    scale = {"RescaleSlope": "1", "RescaleIntercept": "-1024"}
    path = make_image(tmp_path / "a.dcm", pixels, edit=edit, **options, **scale)
    values = values_of(path)
    np.testing.assert_array_equal(values[2:], pixels[2:].astype(int) - 1024)
    np.testing.assert_array_equal(values[:2], pixels[2, 0].astype(int) - 1024)
    kept = values_of(path, mask_padding=False)
    np.testing.assert_array_equal(kept[2:], values[2:])
    assert (kept[:2] != values[:2]).all()


def test_an_empty_limit_is_no_limit(tmp_path, make_image):
    def edit(dataset):
        with_padding("SS", -2000)(dataset)
        dataset.PixelPaddingRangeLimit = None

    values = values_of(make_image(tmp_path / "a.dcm", padded(-2000, np.int16), edit=edit))
    assert values.min() == 17


def test_padding_of_monochrome1_is_dark(tmp_path, make_image):
    options = {"PhotometricInterpretation": "MONOCHROME1", "BitsStored": 12, "HighBit": 11}
    path = make_image(tmp_path / "a.dcm", padded(0, np.uint16), edit=with_padding("US", 0), **options)
    assert (values_of(path)[:2] == 4095 - 36).all()
    path = make_image(
        tmp_path / "b.dcm", padded(0, np.uint16), edit=with_padding("US", 0), WindowCenter=20, WindowWidth=10, **options
    )
    assert (values_of(path, voi=0)[:2] == values_of(path, voi=0)[2:].min()).all()


def test_padding_takes_the_lowest_value_of_the_whole_volume(tmp_path, make_series):
    """Of the slices that are there: neither of those to be filled in, nor of one that is nothing but padding."""
    pixels = [padded(-2000, np.int16) + np.int16(100) * (i == 9) for i in range(3)]
    pixels[1] = np.full_like(pixels[1], -2000)
    make_series(tmp_path, [0, 1, 3], each=lambda i: {"pixels": pixels[i], "PixelPaddingValue": -2000})
    with pytest.warns(UserWarning, match="1 slices are missing"):
        volume = read_volume(tmp_path, fill_gaps=True)
    assert volume.pixels.min() == 17
    assert (volume.pixels[1] == 17).all()


def test_a_slice_of_nothing_but_padding(tmp_path, make_image):
    path = make_image(tmp_path / "a.dcm", np.full((3, 4), -2000, np.int16), edit=with_padding("SS", -2000))
    assert (values_of(path) == 0).all()


def test_values_of_a_frame_that_was_made_by_hand(tmp_path, make_image):
    path = make_image(tmp_path / "a.dcm", ramp(0))
    (frame,) = frames_of(path, pydicom.dcmread(path))
    assert isinstance(frame, Frame)
    values, padding = PixelReader().values(frame)
    np.testing.assert_array_equal(values, ramp(0))
    assert padding is None


@pytest.mark.parametrize("missing", ["RescaleSlope", "RescaleIntercept"])
def test_half_a_rescale_is_not_passed_over(tmp_path, make_slice, missing):
    """HU would be off by the intercept, and nobody would see it."""
    rescale = {"RescaleSlope": 2, "RescaleIntercept": -1024}
    del rescale[missing]
    path = make_slice(tmp_path / "a.dcm", **rescale)
    with pytest.raises(DataError, match="one is missing"):
        read_volume(path)

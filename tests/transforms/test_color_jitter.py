# SPDX-License-Identifier: Apache-2.0
"""Tests of the colour jitter: what each strength does on its own, and MONAI's conventions."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from monai.transforms import Compose
from monai.utils import set_determinism
from PIL import Image, ImageEnhance

from monai_sam2unet.errors import DataError
from monai_sam2unet.transforms import RandColorJitter, RandColorJitterd

OFF = {"brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0}
LUMA = np.array([0.299, 0.587, 0.114])
TO_IQ = np.array([[0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
BYTES = {"max_value": 255.0}
STRENGTHS = {"brightness": 0.8, "contrast": 0.8, "saturation": 0.8, "hue": 0.4}


def picture(low=0, high=256, seed=0):
    """A colour image (3, H, W) of whole numbers, more red than green and more green than blue."""
    top = low + (high - low) * np.array([1.0, 0.6, 0.3]).reshape(3, 1, 1)
    return np.random.default_rng(seed).integers(low, top, (3, 20, 24)).astype(np.float32)


def only(seed=0, **strength):
    """A jitter of one kind, always done, with its draw fixed."""
    return RandColorJitter(prob=1.0, **{**OFF, **BYTES, **strength}).set_random_state(seed)


def jittered(image, seed=0, **strength):
    return np.asarray(only(seed, **strength)(torch.from_numpy(image)))


def line_through(image, out):
    """Slope and intercept of what was done to values that were not clipped."""
    inside = (out > 0) & (out < 255)
    return np.polyfit(image[inside], out[inside].astype(np.float64), 1)


def with_pil(enhancer, image, factor):
    opened = Image.fromarray(image.astype(np.uint8).transpose(1, 2, 0))
    return np.asarray(enhancer(opened).enhance(factor)).transpose(2, 0, 1).astype(np.float32)


def test_probability_decides():
    image = torch.from_numpy(picture())
    assert RandColorJitter(prob=0.0)(image) is image
    always = RandColorJitter(prob=1.0, **BYTES)
    assert all(not torch.equal(torch.as_tensor(always(image)), image) for _ in range(20))
    sometimes = RandColorJitter(prob=0.3, **BYTES).set_random_state(0)
    assert 60 < sum(sometimes(image) is not image for _ in range(300)) < 120


def test_random_state_fixes_the_draws():
    image = picture()
    draws = [[np.asarray(jitter(image)) for _ in range(3)] for jitter in (only(5, **STRENGTHS), only(5, **STRENGTHS))]
    np.testing.assert_array_equal(*draws)
    assert not np.array_equal(draws[0][0], draws[0][1])
    assert not np.array_equal(draws[0][0], jittered(image, 6, **STRENGTHS))


def test_the_last_draw_can_be_repeated():
    image, jitter = picture(), only(**STRENGTHS)
    first = jitter(image)
    torch.testing.assert_close(jitter(image, randomize=False), first, rtol=0, atol=0)
    assert not torch.equal(jitter(image), first)


def test_without_strengths_nothing_changes():
    np.testing.assert_allclose(jittered(picture()), picture(), atol=1e-3)


@pytest.mark.parametrize("seed", range(4))
def test_brightness_multiplies_and_clips(seed):
    image = picture()
    out = jittered(image, seed, brightness=0.8)
    factor, offset = line_through(image, out)
    assert abs(offset) < 1e-2
    assert 0.2 <= factor <= 1.8
    np.testing.assert_allclose(out, np.clip(image * factor, 0, 255), atol=0.05)


@pytest.mark.parametrize("seed", range(4))
def test_contrast_is_that_of_pil(seed):
    image = picture()
    out = jittered(image, seed, contrast=0.8)
    factor, _ = line_through(image, out)
    assert 0.2 <= factor <= 1.8
    # Pillow rounds the mean luma, and the result.
    np.testing.assert_allclose(out, with_pil(ImageEnhance.Contrast, image, factor), atol=1.6)


@pytest.mark.parametrize("seed", range(4))
def test_saturation_is_that_of_pil(seed):
    image = picture()
    out = jittered(image, seed, saturation=0.8)
    inside = ((out > 0) & (out < 255)).all(0) & (np.abs(image[0] - image[2]) > 20)
    factor = np.median((out[0] - out[2])[inside] / (image[0] - image[2])[inside])
    assert 0.2 <= factor <= 1.8
    np.testing.assert_allclose(out, with_pil(ImageEnhance.Color, image, factor), atol=1.6)


@pytest.mark.parametrize("seed", range(4))
def test_hue_turns_all_colours_by_one_angle_and_keeps_luma(seed):
    image = picture(100, 156)  # no colour is clipped
    out = jittered(image, seed, hue=0.5)
    np.testing.assert_allclose(np.tensordot(LUMA, out, 1), np.tensordot(LUMA, image, 1), atol=1e-3)
    before, after = (np.einsum("cj,jhw->chw", TO_IQ, x) for x in (image, out))
    before, after = before[0] + 1j * before[1], after[0] + 1j * after[1]
    turn = after[0, 0] / before[0, 0]
    np.testing.assert_allclose(after, turn * before, atol=1e-2)
    assert abs(abs(turn) - 1) < 1e-3
    assert abs(np.angle(turn)) > 0.01


@pytest.mark.parametrize("strength", [{"saturation": 1.0}, {"hue": 0.5}])
def test_gray_stays_gray(strength):
    gray = np.repeat(picture()[:1], 3, axis=0)
    np.testing.assert_allclose(jittered(gray, **strength), gray, atol=0.05)


@pytest.mark.parametrize("kind", OFF)
def test_each_strength_changes_something_within_range(kind):
    image = picture()
    out = jittered(image, **{kind: STRENGTHS[kind]})
    assert np.abs(out - image).max() > 5
    assert out.min() >= 0
    assert out.max() <= 255


def test_largest_value_is_one_unless_told():
    image = picture() / 255
    jitter = RandColorJitter(prob=1.0, **{**OFF, "brightness": 1.0}).set_random_state(1)
    out = torch.stack([torch.as_tensor(jitter(image)) for _ in range(5)])
    assert out.max() == 1


@pytest.mark.parametrize("kind", OFF)
def test_images_in_0_1_change_as_bytes_do(kind):
    strength = {**OFF, kind: STRENGTHS[kind]}
    for make in (RandColorJitter, lambda **k: RandColorJitterd("a", **k)):
        ours = make(prob=1.0, **strength).set_random_state(3)
        image = torch.from_numpy(picture() / 255)
        out = ours(image) if isinstance(ours, RandColorJitter) else ours({"a": image})["a"]
        assert out.std() > 0.05
        assert out.max() <= 1
    np.testing.assert_allclose(
        np.asarray(only(3, **strength, max_value=1.0)(image)) * 255, jittered(picture(), 3, **strength), atol=0.05
    )


def test_bytes_where_0_1_is_expected_are_refused():
    with pytest.raises(DataError, match=r"values in \[0, 1\], got up to 2\d\d. Give max_value=255"):
        RandColorJitter(prob=1.0)(picture())


def test_result_is_float32_and_keeps_metadata():
    image = MetaTensor(torch.from_numpy(picture()).byte(), affine=torch.diag(torch.tensor([2.0, 3, 1, 1])))
    image.meta["filename_or_obj"] = "a.png"
    before = image.clone()
    out = RandColorJitter(prob=1.0, **BYTES)(image)
    assert isinstance(out, MetaTensor)
    assert out.dtype == torch.float32
    assert out.meta["filename_or_obj"] == "a.png"
    torch.testing.assert_close(out.affine, image.affine)
    assert torch.equal(image, before)


def test_dictionary_version_changes_keys_alike():
    image = picture()
    items = {"a": image, "b": image.copy(), "label": image.copy()}
    jitter = RandColorJitterd(["a", "b"], prob=1.0, **BYTES).set_random_state(2)
    out = jitter(items)
    assert torch.equal(out["a"], out["b"])
    assert not np.array_equal(out["a"], image)
    assert out["label"] is items["label"]
    assert not torch.equal(jitter(items)["a"], out["a"])


def test_dictionary_version_passes_over():
    items = {"a": picture()}
    assert RandColorJitterd("a", prob=0.0)(items)["a"] is items["a"]
    assert set(RandColorJitterd(["a", "b"], prob=1.0, allow_missing_keys=True, **BYTES)(items)) == {"a"}
    with pytest.raises(KeyError, match="b"):
        RandColorJitterd(["a", "b"], prob=1.0, **BYTES)(items)


def test_dictionary_version_forwards_strengths():
    image = picture()
    out = RandColorJitterd("a", prob=1.0, **{**OFF, **BYTES, "hue": 0.5}).set_random_state(0)({"a": image})["a"]
    np.testing.assert_array_equal(out, jittered(image, hue=0.5))


def run_composed(compose):
    return torch.stack([torch.as_tensor(compose({"a": picture()})["a"]) for _ in range(8)])


def test_composed_with_a_random_state():
    composes = [Compose([RandColorJitterd("a", prob=0.5, **BYTES)]).set_random_state(3) for _ in range(2)]
    assert torch.equal(*(run_composed(c) for c in composes))


def test_composed_under_set_determinism():
    outputs = []
    for seed in (7, 7, 8):
        set_determinism(seed)
        outputs.append(run_composed(Compose([RandColorJitterd("a", prob=0.5, **BYTES)])))
    set_determinism(None)
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])


@pytest.mark.parametrize("kind", OFF)
@pytest.mark.parametrize("value", [-0.1, 1.1])
@pytest.mark.parametrize("make", [RandColorJitter, lambda **k: RandColorJitterd("a", **k)])
def test_strengths_out_of_range(kind, value, make):
    with pytest.raises(ValueError, match=f"{kind} must lie in"):
        make(**{kind: value})


def test_hue_turns_half_the_circle_at_most():
    with pytest.raises(ValueError, match=r"hue must lie in \[0, 0.5\], got 0.6"):
        RandColorJitter(hue=0.6)


@pytest.mark.parametrize("channels", [1, 4])
def test_colour_images_only(channels):
    with pytest.raises(ValueError, match=r"\(3, H, W\), got shape \(" + str(channels)):
        RandColorJitter(prob=0.0)(torch.zeros(channels, 8, 8))

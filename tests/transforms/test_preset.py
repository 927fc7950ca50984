# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.data import CacheDataset, DataLoader, Dataset, decollate_batch
from monai.transforms import RandCropByPosNegLabeld, RandFlipd, SpatialPadd
from PIL import Image

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.inferers import SliceWiseInferer
from monai_sam2unet.transforms import MODALITIES, Preset

PICTURES = [name for name, modality in MODALITIES.items() if not modality.is_volume]
VOLUMES = [name for name, modality in MODALITIES.items() if modality.is_volume]


@pytest.fixture
def pictures(tmp_path):
    """Two pictures of different sizes with masks."""
    rng = np.random.default_rng(0)
    items = []
    for number, (height, width) in enumerate([(60, 80), (50, 44)]):
        image = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        mask = np.zeros((height, width), np.uint8)
        mask[10:35, 8:30] = 255
        paths = {"image": tmp_path / f"image{number}.png", "label": tmp_path / f"label{number}.png"}
        Image.fromarray(image).save(paths["image"])
        Image.fromarray(mask).save(paths["label"])
        items.append({key: str(path) for key, path in paths.items()})
    return items


@pytest.fixture
def volume(tmp_path):
    """A volume that is not RAS, with two classes; its label is stored in another order of axes."""
    rng = np.random.default_rng(0)
    affine = np.array([[0, 0, -4.0, 20], [0, -1.0, 0, 30], [1.0, 0, 0, -9], [0, 0, 0, 1]])
    image = nib.Nifti1Image(rng.normal(40, 200, (30, 40, 7)).astype(np.float32), affine)
    label = np.zeros((30, 40, 7), np.uint8)
    label[5:20, 8:30, 2:5] = 1
    label[12:25, 10:20, 3:6] = 2
    nib.save(image, tmp_path / "image.nii.gz")
    nib.save(nib.as_closest_canonical(nib.Nifti1Image(label, affine)), tmp_path / "label.nii.gz")
    return {"image": str(tmp_path / "image.nii.gz"), "label": str(tmp_path / "label.nii.gz")}, label, affine


@pytest.mark.parametrize("modality", PICTURES)
def test_training_evaluation_and_inference_give_the_network_one_and_the_same_input(pictures, modality):
    preset = Preset(modality, spatial_size=(64, 96), mask_threshold=127.5)
    trained, evaluated, predicted = (
        transform(pictures[0]) for transform in (preset.training(), preset.evaluation(), preset.inference())
    )
    assert trained["image"].shape == (3, 64, 96)
    for item in (evaluated, predicted):
        assert torch.allclose(trained["image"], item["image"].as_tensor(), atol=1e-5)
    assert trained["label"].shape == (1, 64, 96)
    assert evaluated["label"].shape == (1, 60, 80)
    assert set(evaluated["label"].unique().tolist()) == {0.0, 1.0}


@pytest.mark.parametrize("modality", PICTURES)
@pytest.mark.parametrize("keep_aspect", [False, True])
def test_predictions_come_back_to_each_pictures_own_grid(pictures, modality, keep_aspect):
    preset = Preset(modality, spatial_size=(64, 96), mask_threshold=127.5, keep_aspect=keep_aspect)
    loader = DataLoader(Dataset(pictures, preset.evaluation()), batch_size=1, num_workers=1)
    finish = preset.postprocessing(activation=None, threshold=0.5)
    for source, batch in zip(pictures, loader, strict=True):
        fitted = preset.slice_transform.fit(decollate_batch(batch)[0]["label"].clone())
        batch["pred"] = fitted.as_tensor()[None]
        batch["pred"] = type(batch["image"])(batch["pred"]).copy_meta_from(batch["image"])
        item = finish(decollate_batch(batch)[0])
        mask = np.asarray(Image.open(source["label"])) > 127
        assert item["pred"].dtype == torch.uint8
        assert item["pred"].shape == (1, *mask.shape)
        assert (item["pred"][0].numpy() != mask).mean() < 0.02


def test_augmentation_stands_between_the_fit_and_the_normalisation(pictures):
    seen = []

    def spy(item):
        seen.append(item["image"].clone())
        return item

    item = Preset("endoscopy", spatial_size=64, mask_threshold=127.5).training([spy])(pictures[0])
    assert seen[0].shape == (3, 64, 64)
    assert seen[0].min() >= 0
    assert seen[0].max() <= 1
    assert item["image"].min() < -1


def test_what_is_not_random_is_cached(pictures):
    preset = Preset("endoscopy", spatial_size=64, mask_threshold=127.5)
    flip = RandFlipd(["image", "label"], prob=1.0, spatial_axis=0)
    dataset = CacheDataset(pictures, preset.training([flip]), progress=False)
    cached = dataset._cache[0]
    assert cached["image"].shape == (3, 64, 64)
    assert torch.equal(dataset[0]["label"].flip(1), cached["label"].as_tensor())


@pytest.mark.parametrize("modality", PICTURES)
def test_without_a_size_pictures_keep_their_own_grid(pictures, modality):
    """Values pixel on pixel, so that the network's grid is the file's; and predictions come back to it unchanged."""
    preset = Preset(modality, spatial_size=None, mask_threshold=127.5)
    resized = Preset(modality, spatial_size=(60, 80), mask_threshold=127.5)  # the first picture's own size
    assert torch.equal(preset.inference()(pictures[0])["image"], resized.inference()(pictures[0])["image"])
    for source, (height, width) in zip(pictures, [(60, 80), (50, 44)], strict=True):
        trained, evaluated, predicted = (
            transform(source) for transform in (preset.training(), preset.evaluation(), preset.inference())
        )
        for item in (trained, evaluated, predicted):
            assert item["image"].shape == (3, height, width)
        assert torch.equal(trained["label"], evaluated["label"].as_tensor())
        logits = torch.randn(1, height, width)
        mask = preset.postprocessing(squeeze_channel=False)({**predicted, "pred": logits})["pred"]
        assert torch.equal(mask.as_tensor().bool(), logits >= 0)
        found = preset.probabilities()({**predicted, "pred": logits})["pred"]
        assert torch.equal(found.as_tensor(), logits.sigmoid())


def test_windows_are_drawn_from_pictures_in_training(pictures):
    """Each is a piece of the picture, of the size asked for, also where the picture is smaller; label on image."""
    preset = Preset("fundus", spatial_size=None, mask_threshold=127.5)
    both = ["image", "label"]
    windows = [
        SpatialPadd(both, (64, 64), mode="edge"),
        RandCropByPosNegLabeld(both, label_key="label", spatial_size=(64, 64), num_samples=3),
    ]
    dataset = CacheDataset(pictures, preset.training(windows), progress=False)
    assert dataset._cache[0]["image"].shape == (3, 64, 80)  # what is random is drawn anew each time
    batch = next(iter(DataLoader(dataset, batch_size=2)))
    assert batch["image"].shape == (6, 3, 64, 64)
    assert batch["label"].shape == (6, 1, 64, 64)
    padded = Preset("fundus", spatial_size=None, mask_threshold=127.5).training(windows[:1])(pictures[0])
    for image, label in zip(batch["image"][:3], batch["label"][:3], strict=True):
        places = [n for n in range(17) if torch.equal(padded["image"][:, :, n : n + 64], image)]
        assert places
        assert torch.equal(padded["label"][:, :, places[0] : places[0] + 64], label)


@pytest.mark.parametrize("modality", VOLUMES)
def test_volumes_are_cut_for_training_with_image_and_label_together(volume, modality):
    item, label, affine = volume
    preset = Preset(modality, spatial_size=64, keep_aspect=True)
    loaded = preset.volumes()(item)
    assert np.allclose(loaded["image"].affine, affine)
    assert np.array_equal(loaded["label"][0].numpy(), label)
    assert loaded["image"].min() >= 0
    assert loaded["image"].max() <= 1
    cut = preset.slices()(loaded)
    assert len(cut) == 30  # the first array axis runs to the head
    dataset = Dataset(cut, preset.training())
    slices = next(iter(DataLoader(dataset, batch_size=30)))
    assert slices["image"].shape == (30, 3, 64, 64)
    per_slice = [int((label[index] > 0).sum() > 0) for index in range(30)]
    assert [int((one > 0).any()) for one in slices["label"]] == per_slice
    kept = preset.slices(keep_empty=0.0)(loaded)
    assert len(kept) == sum(per_slice)


@pytest.mark.parametrize("modality", VOLUMES)
@pytest.mark.parametrize("plane", ["axial", "coronal", "sagittal"])
def test_volumes_are_predicted_on_their_own_grid(volume, modality, plane):
    item, _, affine = volume
    preset = Preset(modality, spatial_size=64, plane=plane)
    batch = next(iter(DataLoader(Dataset([{"image": item["image"]}], preset.inference()), batch_size=1)))

    def network(x):  # a threshold on the normalised first channel
        assert x.shape[1:] == (3, 64, 64)
        return x[:, :1]

    inferer = SliceWiseInferer.from_preset(preset)
    batch["pred"] = inferer(batch["image"], network)
    item = preset.postprocessing(activation="sigmoid")(decollate_batch(batch)[0])
    out, image = item["pred"], item["image"]
    assert out.shape == image.shape
    assert np.allclose(out.affine, affine)
    expected = image.as_tensor() > 0.485
    assert float((out.as_tensor().bool() == expected).float().mean()) > 0.9


def test_2_5d(volume):
    item, _, _ = volume
    preset = Preset("mr", spatial_size=64, in_channels=5, neighbours=2)
    cut = preset.slices()(preset.volumes()(item))
    assert preset.training()(cut[3])["image"].shape == (5, 64, 64)
    assert preset.slice_transform.forward_batch(cut[3]["image"].as_tensor()[None])[0].shape == (1, 5, 64, 64)


def test_ct_windows_are_channels(volume):
    item, _, _ = volume
    preset = Preset("ct", spatial_size=64, windows=["lung", "soft_tissue", "bone"])
    assert preset.inference()(item)["image"].shape == (3, 30, 40, 7)
    gray = Preset("ct", spatial_size=64, in_channels=1)
    cut = gray.slices()(gray.volumes()(item))
    assert gray.training()(cut[0])["image"].shape == (1, 64, 64)


def test_training_leaves_the_volume_as_it_is(volume):
    """Three windows at the network's own size: nothing has to be resized, and nothing may be written to."""
    item, _, _ = volume
    preset = Preset("ct", spatial_size=(30, 40), plane=2, windows=["lung", "soft_tissue", "bone"], keep_aspect=True)
    loaded = preset.volumes()(item)
    before = loaded["image"].clone()
    dataset = Dataset(preset.slices()(loaded), preset.training())
    first, again = dataset[3]["image"], dataset[3]["image"]
    assert torch.equal(first, again)
    assert torch.equal(loaded["image"], before)


def test_activated_predictions_are_not_activated_again(volume):
    item, _, _ = volume
    preset = Preset("mr", spatial_size=64)
    image = preset.inference()(item)["image"]
    inferer = SliceWiseInferer.from_preset(preset, flips=["columns"], activation="sigmoid")
    pred = inferer(image[None], lambda x: x[:, :1] - 1.0)[0]
    mask = preset.postprocessing(threshold=0.5)({"pred": pred})["pred"]
    assert torch.equal(mask.bool().as_tensor(), pred.as_tensor() >= 0.5)
    assert 0 < mask.float().mean() < 0.5


def test_the_largest_logit_is_the_class_however_large_all_are(volume):
    item, _, _ = volume
    preset = Preset("mr", spatial_size=64)
    image = preset.inference()(item)["image"]
    logits = torch.tensor([0.0, 18.0, 30.0]).view(3, 1, 1, 1).expand(3, *image.shape[1:])
    mask = preset.postprocessing(argmax=True)({"pred": type(image)(logits).copy_meta_from(image)})["pred"]
    assert mask.unique().tolist() == [2]


def test_a_prediction_that_cannot_be_brought_back_is_an_error(pictures):
    preset = Preset("endoscopy", spatial_size=64)
    image = preset.inference()(pictures[0])["image"]
    assert preset.postprocessing()({"pred": torch.zeros(1, 64, 64), "image": image})["pred"].shape == (1, 60, 80)
    with pytest.raises(DataError, match=r"preset\.inference"):
        preset.postprocessing()({"pred": torch.zeros(1, 64, 64), "image": image.as_tensor()})
    with pytest.raises(DataError, match="must be a prediction"):
        preset.postprocessing()({"pred": {"mean": 1}, "image": image})


def test_errors_come_as_they_are_not_wrapped_by_compose(pictures):
    preset = Preset("endoscopy")
    with pytest.raises(DataError, match="no file or folder"):
        preset.inference()({"image": "nowhere.png"})
    with pytest.raises(DataError, match="values up to 255, which are those of a mask"):
        preset.training()(pictures[0])
    Image.new("L", (80, 61)).save(pictures[0]["label"])
    with pytest.raises(DataError, match=r"\(1, 61, 80\), \(1, 60, 80\) is expected"):
        preset.training()(pictures[0])


def test_a_palettes_indices_are_classes_unless_a_threshold_is_asked_for(pictures):
    indices = np.zeros((60, 80), np.uint8)
    indices[10:30, 10:30] = 2
    palette = Image.fromarray(indices).convert("P")
    palette.putdata(indices.ravel().tolist())
    palette.putpalette([0, 0, 0, 255, 0, 0, 255, 255, 255])
    palette.save(pictures[0]["label"])
    assert Preset("endoscopy").evaluation()(pictures[0])["label"].unique().tolist() == [0, 2]
    assert Preset("endoscopy", mask_threshold=127.5).evaluation()(pictures[0])["label"].unique().tolist() == [0, 1]


def test_dicom_of_another_modality_is_refused(shared_data):
    dicom = shared_data / "dicom"
    with pytest.raises(DataError, match="Modality MR"):
        Preset("ct").inference()({"image": dicom / "mr_series_t1post_oblique10deg"})
    with pytest.raises(DataError, match="Modality CT"):
        Preset("mr").inference()({"image": dicom / "ct_series_j2k_with_seg" / "ct"})
    with pytest.raises(DataError, match="Modality CR"):
        Preset("ct").inference()({"image": dicom / "monochrome1" / "RG3_J2KI.dcm"})
    assert Preset("mr", any_modality=True).inference()({"image": dicom / "seg" / "ct-3slice"})["image"].shape[-1] == 3
    with pytest.raises(DataError, match="channels"):
        Preset("mr").inference()({"image": dicom / "mr_rgb_j2k"})


def test_time_points_are_no_channels(tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 5, 6, 3), np.float32), np.eye(4)), tmp_path / "a.nii")
    with pytest.raises(DataError, match="3 channels"):
        Preset("mr").inference()({"image": tmp_path / "a.nii"})
    assert Preset("mr", channels=3).inference()({"image": tmp_path / "a.nii"})["image"].shape == (3, 4, 5, 6)


def test_what_cannot_be_is_told():
    with pytest.raises(ConfigError, match="endoscopy, dermoscopy"):
        Preset("colonoscopy")
    for option in ({"neighbours": 1}, {"plane": "axial"}, {"windows": "lung"}, {"percentiles": (1, 99)}):
        with pytest.raises(ConfigError, match="does not go with endoscopy"):
            Preset("endoscopy", **option)
    with pytest.raises(ConfigError, match="does not go with ct"):
        Preset("ct", percentiles=(1, 99))
    with pytest.raises(ConfigError, match="Percentiles"):
        Preset("mr", percentiles=(99, 1))
    with pytest.raises(ConfigError, match="plane"):
        Preset("ct", plane="transversal")
    for name, options in (
        ("ct", {"windows": ["lung", "bone"]}),
        ("mr", {"neighbours": 2}),
        ("xray", {"in_channels": 7}),
    ):
        with pytest.raises(ConfigError, match="Set in_channels"):
            Preset(name, **options)
    with pytest.raises(ConfigError, match="voi"):
        Preset("ct", dicom={"voi": 0})
    with pytest.raises(ConfigError, match="pictures"):
        Preset("xray").slices()
    with pytest.raises(ConfigError, match="pictures"):
        Preset("xray").volumes()
    with pytest.raises(ConfigError, match="activation"):
        Preset("xray").postprocessing(activation="relu")


def test_volumes_without_labels_are_cut_too(volume):
    item, _, _ = volume
    preset = Preset("mr", spatial_size=64)
    cut = preset.slices(labelled=False)(preset.volumes(labelled=False)({"image": item["image"]}))
    assert len(cut) == 30
    assert set(cut[0]) >= {"image"}


def test_a_picture_of_a_deep_palette_is_as_bright_as_its_colours(shared_data, tmp_path):
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.dcmread(shared_data / "dicom" / "colour" / "OBXXXX1A_rle.dcm")
    dataset.decompress()
    dataset.PixelData = dataset.pixel_array.astype(np.uint16).tobytes()
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
    dataset["PixelData"].VR = "OW"
    dataset.save_as(tmp_path / "deep.dcm")
    images = [
        Preset("ultrasound").inference()({"image": path})["image"]
        for path in (tmp_path / "deep.dcm", shared_data / "dicom" / "colour" / "OBXXXX1A_rle.dcm")
    ]
    assert torch.equal(images[0].as_tensor(), images[1].as_tensor())


@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
@pytest.mark.parametrize("modality", ["mr", "ct"])
def test_everything_after_reading_is_computed_on_the_device(volume, modality, device):
    item, label, affine = volume
    preset = Preset(modality, spatial_size=64, device=device)
    loaded = preset.volumes()(item)
    plain = Preset(modality, spatial_size=64).volumes()(item)
    for key in ("image", "label"):
        assert loaded[key].device.type == device
        assert torch.allclose(loaded[key].cpu().as_tensor(), plain[key].as_tensor(), atol=1e-4)
        assert np.allclose(loaded[key].affine.cpu(), affine)
    slices = preset.training()(preset.slices()(loaded)[7])
    expected = Preset(modality, spatial_size=64).training()(preset.slices()(plain)[7])
    assert slices["image"].device.type == device
    assert torch.allclose(slices["image"].cpu(), expected["image"], atol=1e-4)
    pred = SliceWiseInferer.from_preset(preset, precision="fp32")(loaded["image"][None], lambda x: x[:, :1])
    assert pred.device.type == device
    mask = preset.postprocessing()({"pred": pred[0]})["pred"]
    assert mask.device.type == device
    assert mask.shape == (1, *label.shape)

# SPDX-License-Identifier: Apache-2.0
"""What trainings from a viewer are made of: submitted labels, the cases held out, the weights that are published."""

from __future__ import annotations

import io
import shutil
import sys
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch
from monai.utils import set_determinism
from PIL import Image

from monai_sam2unet.bundle import BundleConfig, BundlePredictor, load_checkpoint, training_datalist
from monai_sam2unet.data import TrainingCases, make_polyp_phantom, write_polyp_phantoms
from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.label import compat
from monai_sam2unet.networks import light_state_dict
from monai_sam2unet.networks.trained_part import save_trained_part
from monai_sam2unet.transforms import Preset

pytestmark = pytest.mark.label
CARDIAC, POLYP = "cardiac_mr_segmentation", "polyp_segmentation"
HEART_IDS = {"RV": 1, "MYO": 2, "LV": 3}


@pytest.fixture(scope="module", autouse=True)
def mended() -> None:
    compat.apply()


class Submitted:
    """A real datastore with images and final labels."""

    def __init__(self, folder: Path) -> None:
        from monailabel.datastore.local import LocalDatastore

        self.folder = folder / "studies"
        self.folder.mkdir()
        self.files = folder / "files"
        self.files.mkdir()
        patterns = ["*.png", "*.nii.gz", "*.nrrd", "*.mha"]
        self.store = LocalDatastore(str(self.folder), extensions=patterns)

    def picture(
        self, name: str, label: np.ndarray, suffix: str = ".png", image: np.ndarray | None = None, **info: Any
    ) -> None:
        picture = self.files / f"{name}.png"
        Image.fromarray(np.zeros((72, 104, 3), np.uint8) if image is None else image).save(picture)
        self.store.add_image(name, str(picture), {})
        file = self.files / f"label{suffix}"
        if suffix == ".png":
            Image.fromarray(label).save(file)
        else:
            nib.save(nib.Nifti1Image(label.T[..., None], np.diag([-1, -1, 1, 1])), file)
        self.store.save_label(name, str(file), "final", info)

    def volume(
        self, name: str, label: np.ndarray, patient: str | None = None, suffix: str = ".nii.gz", **info: Any
    ) -> None:
        import SimpleITK as sitk

        image = self.files / f"{name}.nii.gz"
        affine = np.diag([-1.5, -2.0, 8.0, 1.0])
        nib.save(nib.Nifti1Image(label.astype(np.int16), affine), image)
        self.store.add_image(name, str(image), {} if patient is None else {"PatientID": patient})
        file = self.files / f"label{suffix}"
        sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(image)), sitk.sitkUInt8), str(file))
        self.store.save_label(name, str(file), "final", info)


@pytest.fixture
def submitted(tmp_path: Path) -> Submitted:
    return Submitted(tmp_path)


def prepared(submitted: Submitted, preset: Preset, label_ids: dict[str, int]) -> dict[str, str]:
    from monai_sam2unet.label.label_preparation import LabelPreparation
    from monai_sam2unet.label.submitted_labels import submitted_labels

    labels = submitted_labels(submitted.store, preset.is_volume, label_ids)
    preparation = LabelPreparation(preset, label_ids)
    preparation.check(labels)
    cases = preparation.write(labels, submitted.files / "written")
    return {Path(case["image"]).name.split(".")[0]: case["label"] for case in cases}


def test_masks_of_pictures_are_read_whatever_the_viewer_writes(submitted: Submitted) -> None:
    mask = make_polyp_phantom(0, 72, 104)[1]
    submitted.picture("ones", mask // 255)
    submitted.picture("white", mask)
    submitted.picture("empty", mask * 0)
    submitted.picture(
        "slicer", mask // 255 * 4, ".nii.gz", label_info=[{"name": "LV", "idx": 3}, {"name": "polyp", "idx": 4}]
    )
    submitted.volume("heart", np.zeros((4, 4, 4), np.uint8))
    found = prepared(submitted, Preset("endoscopy", mask_threshold=127.5), {"polyp": 1})
    assert found.keys() == {"ones", "white", "empty", "slicer"}
    for name, path in found.items():
        np.testing.assert_array_equal(np.asarray(Image.open(path)), mask * (name != "empty"))


def test_numbers_in_volumes_are_taken_by_the_names_that_came_with_them(submitted: Submitted) -> None:
    label = np.arange(4 * 4 * 4, dtype=np.uint8).reshape(4, 4, 4) % 4
    names = [{"name": name, "idx": 4 - number} for name, number in HEART_IDS.items()]
    submitted.volume("plain", label)
    submitted.volume("named", label, label_info=names)
    submitted.volume("nrrd", label, suffix=".nrrd", label_info=names)
    submitted.picture("frame", np.zeros((72, 104), np.uint8))
    found = prepared(submitted, Preset("mr"), HEART_IDS)
    assert found.keys() == {"plain", "named", "nrrd"}
    # What the bundle reads as it is is not written again.
    assert Path(found["plain"]).parent == submitted.folder / "labels" / "final"
    expected = (4 - label) % 4
    for name in ("named", "nrrd"):
        written = nib.load(found[name])
        np.testing.assert_array_equal(np.asarray(written.dataobj), expected)
        np.testing.assert_allclose(written.affine, np.diag([-1.5, -2.0, 8.0, 1.0]))


def test_labels_that_are_none_of_the_bundle_are_told_all_at_once(submitted: Submitted) -> None:
    mask = make_polyp_phantom(0, 72, 104)[1] // 255
    submitted.picture("several", mask * 2)
    submitted.picture("other", mask, label_info=[{"name": "tumour", "idx": 1}])
    submitted.picture("good", mask)
    with pytest.raises(DataError) as error:
        prepared(submitted, Preset("endoscopy", mask_threshold=127.5), {"polyp": 1})
    for part in (
        "2 submitted labels cannot be trained on. The classes are polyp (1);",
        "several: The label holds 2, which is no class; the classes are 1 polyp.",
        "other: The label holds 1 (tumour), which is no class; the classes are 1 polyp.",
    ):
        assert part in str(error.value)


def test_patients_are_told_by_patient_id_by_the_pattern_or_by_image(submitted: Submitted) -> None:
    from monai_sam2unet.label.submitted_labels import by_patient, submitted_labels

    empty = np.zeros((4, 4, 4), np.uint8)
    for name in ("patient1_a", "patient1_b", "patient2_a"):
        submitted.volume(name, empty)
    labels = submitted_labels(submitted.store, True, HEART_IDS)
    assert {key: len(own) for key, own in by_patient(labels, "patient([0-9])").items()} == {"1": 2, "2": 1}
    assert len(by_patient(labels, "case([0-9])")) == 3
    submitted.volume("heart", empty)
    with pytest.raises(DataError, match="finds no patient in the name of heart"):
        by_patient(submitted_labels(submitted.store, True, HEART_IDS), "patient([0-9])")
    for name in ("patient1_a", "patient1_b", "patient2_a", "heart"):
        submitted.volume(name, empty, patient="anna" if name == "heart" else name[:8])
    labels = submitted_labels(submitted.store, True, HEART_IDS)
    assert sorted(map(len, by_patient(labels, None).values())) == [1, 1, 2]


def test_who_is_held_out_stays_so_when_labels_come(tmp_path: Path) -> None:
    from monai_sam2unet.label.held_out import hold_out_patients

    names = [f"patient{number}" for number in range(60)]
    before: set[str] = set()
    for count in range(2, 61):
        held_out = hold_out_patients(names[:count], 0.2, tmp_path / "held_out.json")
        assert before <= held_out < set(names[:count])
        assert held_out
        assert not (held_out - before) & set(names[: count - 1]) or count == 2  # nobody who was trained on
        before = held_out
    assert 5 <= len(before) <= 20
    # Names of patients are not written.
    assert not (tmp_path / "held_out.json").exists() or "patient" not in (tmp_path / "held_out.json").read_text()
    for count in range(2, 61):
        assert 0 < len(hold_out_patients(names[:count], 0.97, tmp_path / "other.json")) < count
    with pytest.raises(DataError, match="labels of 1 patients; two are needed"):
        hold_out_patients(["anna"], 0.2, tmp_path / "held_out.json")


def test_a_training_at_another_size_is_told(
    small_bundles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from monai_sam2unet.label.fine_tuning import FineTuning
    from monai_sam2unet.label.train_request import TrainRequest

    # Bundles set their own excepthook, and read the command line.
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)
    monkeypatch.setattr(sys, "argv", ["train"])
    folder = shutil.copytree(small_bundles / POLYP, tmp_path / POLYP)
    data = training_datalist(write_polyp_phantoms(tmp_path / "data", num_train=4, num_test=1))
    request = TrainRequest("train_01", 0.5, False, "cpu", {"num_workers": 0})
    for size in (64, 96):
        noted = TrainingCases({}, {}, settings={"spatial_size": [size, size], "sliding_window": False})
        (folder / "models" / "model.cases.json").write_text(noted.as_json())
        FineTuning(weights_of(folder), request, data["training"], data["validation"], tmp_path / f"train{size}")
        assert ("spatial_size [96, 96], now [64, 64]" in caplog.text) == (size == 96)
    set_determinism(None)


@pytest.fixture
def cases(tmp_path: Path) -> Path:
    """File of a training's cases, of which there are none."""
    path = tmp_path / "cases.json"
    path.write_text(TrainingCases({}, {}).as_json())
    return path


def weights_of(folder: Path, **settings: Any) -> Any:
    from monai_sam2unet.label.published_weights import PublishedWeights

    return PublishedWeights(BundleConfig.for_inference(folder, settings), "ckpt_path" in settings)


def changed_network(folder: Path, **settings: Any) -> Any:
    """The network in use, with another bias of its last layer."""
    config = BundleConfig.for_inference(folder, settings)
    network = config.build("network_def")
    load_checkpoint(network, config.build("ckpt_path"))
    torch.nn.init.constant_(network.head.bias, 2.5)
    return network


def bias_in_use(folder: Path, **settings: Any) -> float:
    return float(BundlePredictor(folder, {**settings, "device": "cpu", "optimize": False}).network.head.bias.item())


def test_light_weights_are_replaced_by_light_ones(
    small_bundles: Path, tiny_weights: Path, tmp_path: Path, cases: Path
) -> None:
    folder = shutil.copytree(small_bundles / POLYP, tmp_path / POLYP)
    network = BundleConfig(folder, {"weights": str(tiny_weights)}).build("network_def")
    torch.save(light_state_dict(network), folder / "models" / "model.pt")
    size = (folder / "models" / "model.pt").stat().st_size
    settings = {"weights": str(tiny_weights)}
    weights_of(folder, **settings).replace(changed_network(folder, **settings), cases)
    assert bias_in_use(folder, **settings) == 2.5
    assert (folder / "models" / "model.pt").stat().st_size < 1.1 * size
    assert (folder / "models" / "model.cases.json").read_text() == cases.read_text()
    assert (folder / "models" / "model.previous.pt").stat().st_size == size


def test_an_encoder_that_was_trained_is_published_whole(
    repository: Path, tiny_weights: Path, tmp_path: Path, cases: Path
) -> None:
    """Light weights would leave it to Meta's, which it no longer is."""
    folder = tmp_path / POLYP
    shutil.copytree(repository / "bundles" / POLYP, folder, ignore=shutil.ignore_patterns("*.pt", "published*"))
    network = changed_network(folder)
    matrix = "encoder.blocks.3.block.mlp.layers.0.weight"
    with torch.no_grad():
        network.get_parameter(matrix).add_(0.01)
    torch.save(network.state_dict(), tmp_path / "whole.pt")
    save_trained_part(tmp_path / "whole.pt", folder / "models" / "polyp_tiny.safetensors", "sam2", encoder_rank=1)
    weights_of(folder).replace(changed_network(folder), cases)
    predictor = BundlePredictor(folder, {"device": "cpu", "optimize": False})
    assert Path(BundleConfig.for_inference(folder).build("ckpt_path")).name == "published.pt"
    torch.testing.assert_close(
        predictor.network.get_parameter(matrix), network.get_parameter(matrix), atol=1e-4, rtol=0
    )


def test_weights_that_came_with_the_bundle_stay_and_published_ones_are_run(
    repository: Path, tiny_weights: Path, tmp_path: Path, cases: Path
) -> None:
    from monai_sam2unet.label.bundle_infer_task import BundleInferTask

    folder = tmp_path / POLYP
    shutil.copytree(repository / "bundles" / POLYP, folder, ignore=shutil.ignore_patterns("*.pt", "published*"))
    released = (folder / "models" / "polyp_tiny.safetensors").read_bytes()
    task = BundleInferTask(folder, {})
    before = task._get_network("cpu", None)
    weights_of(folder).replace(changed_network(folder), cases)
    assert (folder / "models" / "polyp_tiny.safetensors").read_bytes() == released
    config = BundleConfig.for_inference(folder)
    assert Path(config.build("ckpt_path")) == folder / "models" / "published.pt"
    assert (config.build("encoder_size"), config.build("spatial_size")) == ("tiny", [256, 256])
    assert bias_in_use(folder) == 2.5
    with task.in_turn():
        after = task._get_network("cpu", None)
        assert after is not before
        assert task._get_network("cpu", None) is after
    # The next ones take the place of these.
    again = weights_of(folder)
    assert again.target == folder / "models" / "published.pt"
    with pytest.raises(ConfigError, match="as its ckpt_path says, which trainings do not replace"):
        weights_of(folder, ckpt_path=str(folder / "models" / "polyp_tiny.safetensors"), encoder_size="tiny")
    # A training of one's own goes before all of them, with the settings of the config itself.
    assert task.get_path(validate=False) == str(folder / "models" / "published.pt")
    shutil.copy(folder / "models" / "published.pt", folder / "models" / "model.pt")
    with task.in_turn():
        assert task.checkpoint == folder / "models" / "model.pt"
        assert task.preset.fit["spatial_size"] == [352, 352]
    assert task.get_path() == str(folder / "models" / "model.pt")


def test_scores_are_made_with_the_settings_of_the_weights_in_use(repository: Path, tmp_path: Path) -> None:
    from monai_sam2unet.label.bundle_infer_task import BundleInferTask
    from monai_sam2unet.label.epistemic_scoring import EpistemicScoring

    folder = tmp_path / POLYP
    shutil.copytree(repository / "bundles" / POLYP, folder, ignore=shutil.ignore_patterns("*.pt", "published*"))
    scoring = EpistemicScoring(BundleInferTask(folder, {}))

    def size() -> list[int]:
        with scoring.task.in_turn():
            preset, *_ = scoring._parts()
            assert scoring._parts()[0] is preset
            return preset.fit["spatial_size"]

    assert size() == [256, 256]
    # A training of one's own goes before the weights that came with the bundle.
    (folder / "models" / "model.pt").touch()
    assert size() == [352, 352]


def test_weights_that_are_sent_go_beside_those_that_came_with_the_bundle(repository: Path, tmp_path: Path) -> None:
    from monai_sam2unet.label.bundle_infer_task import BundleInferTask

    folder = tmp_path / POLYP
    shutil.copytree(repository / "bundles" / POLYP, folder, ignore=shutil.ignore_patterns("*.pt", "published*"))
    task = BundleInferTask(folder, {})
    assert task.get_path() == str(folder / "models" / "polyp_tiny.safetensors")
    assert task.get_path(validate=False) == str(folder / "models" / "model.pt")


@pytest.mark.slow
def test_pictures_are_trained_on(small_bundles: Path, submitted: Submitted, tmp_path: Path) -> None:
    from monai_sam2unet.label.bundle_train_task import BundleTrainTask

    folder = shutil.copytree(small_bundles / POLYP, tmp_path / POLYP)
    for number in range(3):
        image, mask = make_polyp_phantom(number, 72, 104)
        submitted.picture(f"frame{number}", mask // 255, image=image)
    task, weights = BundleTrainTask(folder, {}), (folder / "models" / "model.pt").read_bytes()
    result = task({"max_epochs": 1, "num_workers": 0, "learning_rate": 0.01}, submitted.store)
    assert result["num_training"] + result["num_validation"] == 3
    assert result["published"] is (result["dice_after"] >= result["dice_before"] and result["dice_after"] > 0)
    assert ((folder / "models" / "model.pt").read_bytes() != weights) is result["published"]
    assert task.stats() == result
    # BatchNorm keeps what it knows of the images of the trainings before; all else learns.
    before = torch.load(io.BytesIO(weights), weights_only=True)
    after = torch.load(folder / "models" / "train_01" / "model.pt", weights_only=True)["state_dict"]
    statistics = {name for name in after if "running_" in name or name.endswith("num_batches_tracked")}
    assert statistics
    for name in statistics:
        assert torch.equal(after[name], before[name]), name
    assert not torch.equal(after["head.weight"], before["head.weight"])


def test_trained_weights_are_trained_further_with_a_tenth_of_the_learning_rate(small_bundles: Path) -> None:
    from monai_sam2unet.label.bundle_train_task import BundleTrainTask

    task = BundleTrainTask(small_bundles / POLYP, {})
    assert task.config()["learning_rate"] == pytest.approx(1e-4)
    assert task._asked({}).settings["learning_rate"] == pytest.approx(1e-4)
    assert task._asked({"learning_rate": 0.01}).settings["learning_rate"] == 0.01
    # The config itself is as it was.
    assert task._config().parser["learning_rate"] == 0.001


def test_an_error_of_a_training_is_told_where_viewers_look(
    small_bundles: Path, submitted: Submitted, tmp_path: Path
) -> None:
    from monai_sam2unet.label.bundle_train_task import BundleTrainTask

    folder = shutil.copytree(small_bundles / POLYP, tmp_path / POLYP)
    submitted.picture("good", np.zeros((72, 104), np.uint8))
    submitted.picture("small", np.zeros((70, 104), np.uint8))
    task = BundleTrainTask(folder, {})
    with pytest.raises(DataError, match="the mask is 104x70 pixels, its image 104x72"):
        task({"max_epochs": 1, "device": "cpu"}, submitted.store)
    assert "the mask is 104x70 pixels" in task.stats()["error"]
    assert not task.is_running()
    with task._lock():
        assert task.is_running()
        with pytest.raises(ConfigError, match="Another training of polyp_segmentation is at work"):
            task({"max_epochs": 1}, submitted.store)

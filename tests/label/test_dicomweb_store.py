# SPDX-License-Identifier: Apache-2.0
"""What the images and labels of a PACS are, told by what it lists; no PACS is asked."""

from __future__ import annotations

import doctest
import shutil
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from monai_sam2unet.batch.identity import hashed_uid
from monai_sam2unet.label import compat

pytestmark = pytest.mark.label
FIRST, SECOND = "1.2.3", "1.2.4"


@pytest.fixture(scope="module", autouse=True)
def mended() -> None:
    compat.apply()


def series(uid: str) -> Dataset:
    found = Dataset()
    found.SeriesInstanceUID = uid
    return found


def header(image: str, written: str, *labels: str, algorithm: str = "SEMIAUTOMATIC") -> Dataset:
    """Of a segmentation."""
    found = Dataset()
    found.StudyInstanceUID, found.SeriesInstanceUID, found.SOPInstanceUID = "1.2", f"{image}.{written}", f"9.{written}"
    found.ContentDate, found.ContentTime = "20260101", written
    found.ReferencedSeriesSequence = [series(image)]
    found.SegmentSequence = [Dataset() for _ in labels]
    for segment, label in zip(found.SegmentSequence, labels, strict=True):
        segment.SegmentLabel, segment.SegmentAlgorithmType = label, algorithm
    return found


class Listed:
    """Stands in for the archive: what it lists is given."""

    def __init__(self, server: Any, images: list[str], *headers: Dataset) -> None:
        from monai_sam2unet.label.archive import ArchivedSegmentation

        self.server, self.images = server, images
        self.found = [ArchivedSegmentation.of(one) for one in headers]
        self.asked = 0

    def series(self, conditions: Mapping[str, Any]) -> list[Dataset]:
        return [series(uid) for uid in self.images]

    def find(self, uid: str) -> Dataset | None:
        return None

    def segmentations(self) -> list[Any]:
        self.asked += 1
        return self.found


def store_of(folder: Path, images: list[str], *headers: Dataset) -> Any:
    from monai_sam2unet.label.dicomweb_store import DicomwebStore
    from monai_sam2unet.label.model_classes import ModelClasses

    models = [ModelClasses("heart", {"RV": 1, "LV": 2}, {}, Path)]
    store = DicomwebStore("http://127.0.0.1:9/dicom-web", models, {}, str(folder))
    store.archive = store.lists.archive = Listed(store.archive.server, images, *headers)  # type: ignore[assignment]
    return store


def test_what_an_algorithm_made_is_no_label(tmp_path: Path) -> None:
    corrected, predicted = header(FIRST, "1000", "RV"), header(FIRST, "1100", "RV", algorithm="AUTOMATIC")
    store = store_of(
        tmp_path, [FIRST, SECOND], corrected, predicted, header(SECOND, "1200", "LV", algorithm="AUTOMATIC")
    )
    assert store.get_labeled_images() == [FIRST]
    assert store.get_unlabeled_images() == [SECOND]
    assert store.json()["objects"][FIRST]["labels"]["final"]["info"]["SOPInstanceUID"] == corrected.SOPInstanceUID


def test_trainings_take_labels_of_their_own_classes_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_sam2unet.label.locked_store import LockedStore
    from monai_sam2unet.label.submitted_labels import submitted_labels

    store = store_of(tmp_path / "cache", [FIRST, SECOND])
    pairs = []
    for uid, names in ((FIRST, ("RV", "LV")), (SECOND, ("Anterior", "Posterior"))):
        nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), file := tmp_path / "file.nii.gz")
        LockedStore.add_image(store, uid, str(file), {})
        info = {"label_info": [{"name": name, "idx": number} for number, name in enumerate(names, 1)]}
        LockedStore.save_label(store, uid, str(file), "final", info)
        local = (LockedStore.get_image_uri(store, uid), LockedStore.get_label_uri(store, uid, "final"))
        pairs.append(dict(zip(("image", "label"), local, strict=True)))
    monkeypatch.setattr(store, "datalist", lambda: pairs)
    (label,) = submitted_labels(store, True, {"RV": 1, "MYO": 2, "LV": 3})
    assert (label.id, label.names) == (FIRST, {1: "RV", 2: "LV"})


def test_labels_that_were_not_fetched_are_scored_by_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_sam2unet.label.dice_scoring import DiceScoring
    from monai_sam2unet.label.locked_store import LockedStore

    store = store_of(tmp_path / "cache", [FIRST, SECOND], header(FIRST, "1000", "RV"))
    assert (store.get_labels_by_image_id(FIRST), store.get_labels_by_image_id(SECOND)) == ({"final": FIRST}, {})
    nib.save(nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), np.eye(4)), file := tmp_path / "file.nii.gz")

    def fetch(image: str, tag: str) -> str:
        LockedStore.add_image(store, image, str(file), {})
        LockedStore.save_label(store, image, str(file), tag, {"label_info": [{"name": "LV", "idx": 1}]})
        return str(file)

    monkeypatch.setattr(type(store), "get_label_uri", lambda _, image, tag: fetch(image, tag))
    scoring = DiceScoring({"heart": SimpleNamespace(dimension=3, labels={"RV": 1, "LV": 2})})  # type: ignore[dict-item]
    assert scoring._saved(store, FIRST, "final", "heart").unique().tolist() == [2]


def test_images_are_removed_in_the_pacs(tmp_path: Path) -> None:
    from monai_sam2unet.errors import DataError

    with pytest.raises(DataError, match="remove them there"):
        store_of(tmp_path, [FIRST]).remove_image(FIRST)


def test_a_saved_label_counts_though_the_archive_listed_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from monai_sam2unet.label import dicomweb_store

    store = store_of(tmp_path, [FIRST, SECOND], header(SECOND, "1000", "RV"))
    made = header(FIRST, "1100", "RV")
    monkeypatch.setattr(made, "save_as", lambda path: None, raising=False)
    label = SimpleNamespace(grid=SimpleNamespace(in_patient_space=False))
    monkeypatch.setattr(dicomweb_store, "segmentation_of", lambda *given: (made, label))
    monkeypatch.setattr(store, "fetch", lambda image: tmp_path)
    with ThreadPoolExecutor() as pool:
        answer, asked = threading.Event(), threading.Event()
        listed = store.archive.segmentations
        monkeypatch.setattr(store.archive, "segmentations", lambda: (asked.set(), answer.wait(20), listed())[-1])
        monkeypatch.setattr(store.archive, "store", lambda path: None, raising=False)
        first = pool.submit(store.get_labeled_images)
        assert asked.wait(20)
        saved = pool.submit(store._save_final, FIRST, "label.nii.gz", {})
        answer.set()
        assert (first.result(), saved.result()) == ([SECOND], None)
    assert store.get_labeled_images() == [SECOND, FIRST]


def test_what_cannot_be_read_is_noted_and_not_tried_again(
    small_bundles: Path, phantom_series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_sam2unet.errors import DataError
    from monai_sam2unet.label.bundle_infer_task import BundleInferTask
    from monai_sam2unet.label.epistemic_scoring import EpistemicScoring
    from monai_sam2unet.label.epistemic_strategy import EpistemicStrategy

    broken = shutil.copytree(phantom_series, tmp_path / "broken")
    sorted(broken.iterdir())[4].unlink()
    store, fetched = store_of(tmp_path, [FIRST]), []
    monkeypatch.setattr(store, "fetch", lambda image: (fetched.append(image), broken)[-1])
    scoring = EpistemicScoring(BundleInferTask(small_bundles / "cardiac_mr_segmentation", {}))
    first, second = scoring({"device": "cpu"}, store), scoring({"device": "cpu"}, store)
    assert "1 slices are missing" in first["failed"][FIRST]
    assert (first["executed"], second["executed"], second["skipped"], fetched) == (1, 0, 1, [FIRST])
    for own in (store, store_of(tmp_path, [FIRST])):
        known = own.get_image_info(FIRST)["epistemic"]["cardiac_mr_segmentation"]
        assert known["reason"] == first["failed"][FIRST]
        assert own.json()["objects"][FIRST]["image"]["info"]["epistemic"]["cardiac_mr_segmentation"] == known
        with pytest.raises(DataError, match=r"can read none of the 1 images.*1 slices are missing"):
            EpistemicStrategy(scoring)({"strategy": "epistemic"}, own)


def test_series_that_cannot_be_read_hold_up_nobody(
    phantom_series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monailabel.tasks.activelearning.first import First

    from monai_sam2unet.errors import DataError
    from monai_sam2unet.label import dicomweb_images

    broken = shutil.copytree(phantom_series, tmp_path / "broken")
    sorted(broken.iterdir())[4].unlink()
    read: list[int] = []
    original = dicomweb_images.read_volume
    monkeypatch.setattr(dicomweb_images, "read_volume", lambda files: (read.append(len(files)), original(files))[-1])
    store = store_of(tmp_path, [FIRST, SECOND])
    monkeypatch.setattr(store, "fetch", lambda image: broken if image == FIRST else phantom_series)
    assert First()({}, store) == {"id": FIRST}
    for _ in range(2):
        with pytest.raises(DataError, match="1 slices are missing"):
            store.get_image_uri(FIRST)
    assert read == [9]
    assert "1 slices are missing" in store.get_image_info(FIRST)["reason"]
    assert First()({}, store) == {"id": SECOND}
    assert Path(store.get_image_uri(SECOND)).is_file()
    # Where no other is left, it is told why.
    assert First()({}, store_of(tmp_path, [FIRST, SECOND], header(SECOND, "1000", "RV"))) == {"id": FIRST}


def test_series_that_are_fetched_anew_are_looked_at_anew(
    phantom_series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from monai_sam2unet.errors import DataError

    store = store_of(tmp_path, [FIRST])
    brought = [shutil.copytree(phantom_series, tmp_path / name) for name in ("broken", "still", "whole")]
    for number in (0, 1):
        sorted(brought[number].iterdir())[4 + number].unlink()
    monkeypatch.setattr(store.archive, "find", series)
    monkeypatch.setattr(
        store.archive, "fetch", lambda found, folder: shutil.copytree(brought.pop(0), folder), raising=False
    )
    for _ in range(2):
        with pytest.raises(DataError, match="1 slices are missing"):
            store.get_image_uri(FIRST)
    store.update_image_info(FIRST, {"seen": True, "epistemic": {"heart": {"score": None, "reason": "broken"}}})
    assert len(brought) == 2
    shutil.rmtree(store.fetch(FIRST))
    with pytest.raises(DataError, match="1 slices are missing"):
        store.get_image_uri(FIRST)
    assert store.get_image_info(FIRST).keys() == {"seen", "reason"}
    shutil.rmtree(store.fetch(FIRST))
    assert Path(store.get_image_uri(FIRST)).is_file()
    assert "reason" not in store.get_image_info(FIRST)
    assert store.get_image_info(FIRST)["seen"] is True


def test_notes_go_when_a_series_was_read_after_all(
    phantom_series: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = store_of(tmp_path, [FIRST])
    monkeypatch.setattr(store, "fetch", lambda image: phantom_series)
    store.update_image_info(FIRST, {"epistemic": {"heart": {"score": None}}})
    store.get_image_uri(FIRST)
    assert "epistemic" not in store.get_image_info(FIRST)
    # What is noted by another process meanwhile is added to what is known, not replaced by it.
    store._notes.add(FIRST, {"epistemic": {"heart": 1, "liver": 2}})
    store.update_image_info(FIRST, {"epistemic": {"heart": 3}})
    assert store.get_image_info(FIRST)["epistemic"] == {"heart": 3, "liver": 2}


def test_notes_are_of_series_that_are_listed(tmp_path: Path) -> None:
    from monailabel.interfaces.exception import ImageNotFoundException

    store = store_of(tmp_path, [FIRST])
    store.update_image_info(FIRST, {"PatientID": "MRN-0815", "seen": True})
    assert store.get_image_info(FIRST) == {"PatientID": hashed_uid("MRN-0815"), "seen": True}
    with pytest.raises(ImageNotFoundException):
        store.update_image_info(SECOND, {"seen": True})


def test_notes_of_several_writers_are_all_kept(tmp_path: Path) -> None:
    from monai_sam2unet.errors import DataError
    from monai_sam2unet.label import image_notes

    path = tmp_path / "notes.json"
    with ThreadPoolExecutor(8) as writers:
        list(writers.map(lambda n: image_notes.ImageNotes(path).add(FIRST, {"epistemic": {str(n): n}}), range(40)))
    notes = image_notes.ImageNotes(path)
    assert notes.of(FIRST) == {"epistemic": {str(n): n for n in range(40)}}
    # What is handed out may be changed.
    notes.of(FIRST)["epistemic"].clear()
    assert len(notes.of(FIRST)["epistemic"]) == 40
    image_notes.ImageNotes(path).add(SECOND, {"seen": True})
    assert notes.of(SECOND) == {"seen": True}
    path.write_text("[1]")
    with pytest.raises(DataError, match=r"cannot be read.*Remove it"):
        notes.of(FIRST)
    assert doctest.testmod(image_notes).failed == 0


def test_viewers_and_logs_do_not_get_the_patient(phantom_series: Path, tmp_path: Path) -> None:
    store = store_of(tmp_path, [FIRST])
    files = sorted(phantom_series.iterdir())
    store.fetch = lambda image: phantom_series
    path = Path(store.get_image_uri(FIRST))
    patient = store.get_image_info(FIRST)["PatientID"]
    assert patient == hashed_uid(dcmread(files[0]).PatientID)
    assert "StudyDate" not in store.get_image_info(FIRST)
    # What MONAI Label's own store left is not taken for ours.
    assert path.relative_to(tmp_path).parts[0] == "sam2unet"

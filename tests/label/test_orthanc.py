# SPDX-License-Identifier: Apache-2.0
"""A PACS as the server's studies: a real Orthanc, filled by STOW, asked by QIDO and WADO, given labels as DICOM SEG."""

from __future__ import annotations

import gzip
import io
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import highdicom as hd
import nibabel as nib
import numpy as np
import pydicom
import pytest
import requests
from monai.bundle import create_workflow

pytestmark = [pytest.mark.label, pytest.mark.orthanc]
Start = Callable[..., AbstractContextManager[str]]
Infer = Callable[..., requests.Response]
Restarted = tuple[str, dict[str, nib.Nifti1Image]]
REAL = "mr_series_t1post_oblique10deg"
CARDIAC, ABDOMINAL = "cardiac_mr_segmentation", "abdominal_ct_segmentation"
#: Class id in the abdominal bundle.
LIVER = 6
#: Wildcards of QIDO-RS: all of two letters, and so no SEG.
CT_AND_MR = "??"
PATIENTS = ("MRN-0815", "MRN-4711")


@pytest.fixture(scope="module", params=["phantom", REAL])
def series(request: pytest.FixtureRequest, archived_series: dict[str, Path]) -> Path:
    if request.param not in archived_series:
        request.getfixturevalue("shared_data")
    return archived_series[request.param]


@pytest.fixture(scope="module")
def own(small_bundles: Path, series: Path, tmp_path_factory: pytest.TempPathFactory) -> nib.Nifti1Image:
    """What the bundle's own inference makes of the series."""
    bundle, output = small_bundles / CARDIAC, tmp_path_factory.mktemp("own")
    workflow = create_workflow(
        "ConfigWorkflow", config_file=str(bundle / "configs" / "inference.yaml"), workflow_type="inference",
        bundle_root=str(bundle), dataset_dir=str(series), output_dir=str(output), num_workers=0, device="cpu",
    )  # fmt: skip
    workflow.run()
    workflow.finalize()
    (written,) = output.glob("*.nii.gz")
    mask = nib.load(written)
    assert len(np.unique(mask.dataobj)) > 2
    return mask


def uid_of(series: Path) -> str:
    return str(pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True).SeriesInstanceUID)


@pytest.fixture(scope="module")
def name(series: Path) -> str:
    return uid_of(series)


def assert_same(content: bytes, mask: nib.Nifti1Image, folder: Path) -> None:
    (folder / "mask.nii.gz").write_bytes(content)
    found = nib.load(folder / "mask.nii.gz")
    np.testing.assert_array_equal(np.asarray(found.dataobj), np.asarray(mask.dataobj))
    np.testing.assert_allclose(found.affine, mask.affine, atol=1e-4)


def errors_of(file: Path) -> list[str]:
    program = shutil.which("dciodvfy")
    if program is None:
        pytest.skip("dciodvfy is not installed (Debian: dicom3tools)")
    told = subprocess.run([program, file], capture_output=True, text=True).stderr
    return [line for line in told.splitlines() if line.startswith("Error")]


def check_segmentation(content: bytes, series: Path, mask: nib.Nifti1Image, folder: Path) -> hd.seg.Segmentation:
    """By a checker and a reader that are not ours."""
    (folder / "label.dcm").write_bytes(content)
    assert not errors_of(folder / "label.dcm")
    found = hd.seg.segread(folder / "label.dcm")
    described = [found.get_segment_description(number) for number in (1, 2, 3)]
    assert [(item.segment_label, item.segmented_property_type.value) for item in described] == [
        ("Right ventricle", "53085002"),
        ("Left ventricular myocardium", "49848007"),
        ("Left ventricle", "87878005"),
    ]
    files = [pydicom.dcmread(file, stop_before_pixels=True) for file in series.iterdir()]
    to_index = np.linalg.inv(mask.affine) @ np.diag([-1, -1, 1, 1])
    files.sort(key=lambda image: float(to_index[2] @ [*image.ImagePositionPatient, 1]))
    assert found.PatientID == files[0].PatientID
    uids = [image.SOPInstanceUID for image in files]
    pixels = found.get_pixels_by_source_instance(
        uids, combine_segments=True, assert_missing_frames_are_empty=True, ignore_spatial_locations=True
    )
    np.testing.assert_array_equal(pixels, np.asarray(mask.dataobj).T)
    return found


def written(content: bytes) -> str:
    """When a DICOM object was made."""
    header = pydicom.dcmread(io.BytesIO(content), stop_before_pixels=True)
    return header.ContentDate + header.ContentTime


def test_the_list_is_that_of_the_archive(archive_server: str, archived_series: dict[str, Path]) -> None:
    total = len(archived_series)
    assert requests.get(f"{archive_server}/datastore/", timeout=60).json() == {
        "total": total,
        "completed": 0,
        "label_tags": {},
    }
    objects = requests.get(f"{archive_server}/datastore/?output=all", timeout=60).json()["objects"]
    assert set(objects) == {uid_of(folder) for folder in archived_series.values()}
    assert requests.post(f"{archive_server}/activelearning/first", timeout=60).json()["id"] in objects


def test_masks_are_as_the_bundle_predicts_them(
    archive_server: str, infer: Infer, name: str, own: nib.Nifti1Image, tmp_path: Path
) -> None:
    answer = infer(archive_server, CARDIAC, name)
    assert answer.status_code == 200, answer.text
    assert_same(answer.content, own, tmp_path)


def test_viewers_get_the_image_on_its_own_grid(
    archive_server: str, name: str, series: Path, own: nib.Nifti1Image, tmp_path: Path
) -> None:
    answer = requests.get(f"{archive_server}/datastore/image", params={"image": name}, timeout=60)
    (tmp_path / "image.nii.gz").write_bytes(answer.content)
    image = nib.load(tmp_path / "image.nii.gz")
    np.testing.assert_allclose(image.affine, own.affine, atol=1e-4)
    values = {pydicom.dcmread(file).pixel_array.tobytes() for file in series.iterdir()}
    kind = pydicom.dcmread(next(series.iterdir())).pixel_array.dtype
    assert {np.asarray(image.dataobj)[..., k].T.astype(kind).tobytes() for k in range(image.shape[2])} == values


def test_dicom_seg_is_our_own(
    archive_server: str, infer: Infer, name: str, series: Path, own: nib.Nifti1Image, tmp_path: Path
) -> None:
    answer = infer(archive_server, CARDIAC, name, output="dicom_seg")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/dicom"
    found = check_segmentation(answer.content, series, own, tmp_path)
    assert found.get_segment_description(1).algorithm_type.value == "AUTOMATIC"
    assert found.StudyInstanceUID == pydicom.dcmread(next(series.iterdir())).StudyInstanceUID


def save(archive_server: str, name: str, content: bytes, *labels: str) -> requests.Response:
    """As 3D Slicer saves a label."""
    info = {"label_info": [{"name": label, "idx": number} for number, label in enumerate(labels, 1)]}
    return requests.put(
        f"{archive_server}/datastore/label", params={"image": name, "tag": "final"}, data={"params": json.dumps(info)},
        files={"label": ("label.nii.gz", content)}, timeout=120,
    )  # fmt: skip


def test_labels_go_to_the_archive(
    running_orthanc, archive_server: str, infer: Infer, name: str, series: Path, own: nib.Nifti1Image, tmp_path: Path
) -> None:
    mask = infer(archive_server, CARDIAC, name).content
    refused = save(archive_server, name, mask, "RV", "MYO", "liver")
    assert refused.status_code == 400
    assert "The label shows RV, MYO, liver (label_info), not all of which one model has" in refused.json()["detail"]
    # Of two the newest counts.
    before = requests.get(f"{archive_server}/datastore/", timeout=60).json()["completed"]
    assert save(archive_server, name, mask, "LV", "MYO", "RV").status_code == 200
    assert save(archive_server, name, mask, "RV", "MYO", "LV").status_code == 200
    assert requests.get(f"{archive_server}/datastore/", timeout=60).json()["completed"] == before + 1

    study = pydicom.dcmread(next(series.iterdir()), stop_before_pixels=True).StudyInstanceUID
    asked = {"Level": "Instance", "Query": {"Modality": "SEG", "StudyInstanceUID": study}}
    uids = running_orthanc.ask("POST", "tools/find", json=asked).json()
    _, newest = sorted((running_orthanc.ask("GET", f"instances/{uid}/file").content for uid in uids), key=written)
    found = check_segmentation(newest, series, own, tmp_path)
    assert found.get_segment_description(1).algorithm_type.value == "SEMIAUTOMATIC"
    label = requests.get(f"{archive_server}/datastore/label", params={"label": name, "tag": "final"}, timeout=60)
    assert_same(label.content, own, tmp_path)


@pytest.fixture(scope="module")
def ct_series(
    running_orthanc,
    archive: str,
    make_dicom_volume: Callable[..., list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> dict[str, np.ndarray]:
    """By the names of two CT series in the archive, of two patients, the liver that a bright block stands for."""
    folder, generator, livers = tmp_path_factory.mktemp("ct"), np.random.default_rng(0), {}
    for patient in PATIENTS:
        liver = np.zeros((40, 32, 6), np.uint8)
        row, column = generator.integers(4, 12, 2)
        liver[row : row + 16, column : column + 12, 1:5] = 1
        values = liver * 150 + generator.normal(0, 20, liver.shape)
        files = make_dicom_volume(folder / patient, values, np.diag([-4.0, -4.0, 5.0, 1.0]))
        running_orthanc.upload(files)
        livers[uid_of(folder / patient)] = liver
    return livers


@pytest.fixture(scope="module")
def series_with_gap(
    running_orthanc,
    archive: str,
    make_dicom_volume: Callable[..., list[Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> str:
    """The name of a CT series in the archive that lacks a slice."""
    folder = tmp_path_factory.mktemp("ct") / "gap"
    files = make_dicom_volume(folder, np.zeros((40, 32, 6)), np.diag([-4.0, -4.0, 5.0, 1.0]))
    running_orthanc.upload([*files[:3], *files[4:]])
    return uid_of(folder)


@pytest.fixture(scope="module")
def restarted(
    start_for_archive: Start,
    volume_bundles: Path,
    archived_series: dict[str, Path],
    ct_series: dict[str, np.ndarray],
    series_with_gap: str,
    infer: Infer,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Restarted]:
    """A server that was stopped and lost its cache, and the final labels that were saved before, by class ids."""
    folder, cache, labels = tmp_path_factory.mktemp("labels"), tmp_path_factory.mktemp("kept"), {}
    with start_for_archive(volume_bundles, CT_AND_MR, cache) as first:
        for series in archived_series.values():
            uid = uid_of(series)
            (folder / f"{uid}.nii.gz").write_bytes(infer(first, CARDIAC, uid).content)
            # As an annotator may have ordered them.
            saved = save(first, uid, (folder / f"{uid}.nii.gz").read_bytes(), "LV", "RV", "MYO")
            assert saved.status_code == 200, saved.text
            mask = nib.load(folder / f"{uid}.nii.gz")
            labels[uid] = nib.Nifti1Image(np.array([0, 3, 1, 2], np.uint8)[np.asarray(mask.dataobj)], mask.affine)
        for uid, liver in ct_series.items():
            (folder / f"{uid}.nii.gz").write_bytes(infer(first, ABDOMINAL, uid).content)
            # The annotator corrects what the model found.
            mask = nib.load(folder / f"{uid}.nii.gz")
            nib.save(nib.Nifti1Image(liver, mask.affine), folder / "corrected.nii.gz")
            saved = save(first, uid, (folder / "corrected.nii.gz").read_bytes(), "liver")
            assert saved.status_code == 200, saved.text
            labels[uid] = nib.Nifti1Image(liver * LIVER, mask.affine)
    assert list(cache.rglob("*.nii.gz"))
    shutil.rmtree(cache)
    with start_for_archive(volume_bundles, CT_AND_MR, cache) as url:
        yield url, labels


def test_a_server_that_lost_its_cache_trains_from_the_archive(
    restarted: Restarted,
    ct_series: dict[str, np.ndarray],
    volume_bundles: Path,
    infer: Infer,
) -> None:
    server, labels = restarted
    assert requests.get(f"{server}/datastore/", timeout=60).json()["label_tags"] == {"final": len(labels)}
    models = volume_bundles / ABDOMINAL / "models"
    weights, mask = (models / "model.pt").read_bytes(), infer(server, ABDOMINAL, next(iter(ct_series))).content
    asked = {"max_epochs": 1, "learning_rate": 0.01, "num_workers": 0, "train_batch_size": 4, "device": "cpu"}
    answer = requests.post(f"{server}/train/{ABDOMINAL}", params={"run_sync": True}, json=asked, timeout=300)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert (told["num_training"], told["num_validation"]) == (1, 1)
    sides = json.loads((models / "train_01" / "cases.json").read_text())
    assert sorted(name for side in sides.values() for name in side) == sorted(ct_series)
    # Names of patients stay in the archive.
    assert not any(word in path.read_text() for path in models.rglob("*.json") for word in PATIENTS)
    assert told["published"] is (told["dice_after"] >= told["dice_before"] and told["dice_after"] > 0), told
    assert told["result"].startswith("Published: Dice" if told["published"] else "Not published")
    assert ((models / "model.pt").read_bytes() != weights) is told["published"]
    if told["published"]:
        assert (models / "model.previous.pt").read_bytes() == weights
        assert gzip.decompress(infer(server, ABDOMINAL, next(iter(ct_series))).content) != gzip.decompress(mask)


def test_labels_come_back_to_a_server_that_lost_its_cache(restarted: Restarted, tmp_path: Path) -> None:
    server, labels = restarted
    objects = requests.get(f"{server}/datastore/?output=all", timeout=60).json()["objects"]
    pairs = requests.get(f"{server}/datastore/?output=train", timeout=60).json()
    assert len(pairs) == len(labels)
    for uid, expected in labels.items():
        assert objects[uid]["labels"]["final"]["info"]["SOPInstanceUID"]
        label = requests.get(f"{server}/datastore/label", params={"label": uid, "tag": "final"}, timeout=60)
        assert_same(label.content, expected, tmp_path)
        (pair,) = [pair for pair in pairs if uid in pair["label"]]
        assert_same(Path(pair["label"]).read_bytes(), expected, tmp_path)
        assert nib.load(pair["image"]).shape == expected.shape


def test_series_that_cannot_be_read_are_told(restarted: Restarted, series_with_gap: str) -> None:
    server, _ = restarted
    scoring = f"{server}/scoring/{ABDOMINAL}_epistemic?run_sync=true"
    first, second = (requests.post(scoring, json={}, timeout=120).json() for _ in range(2))
    assert first["failed"].keys() == {series_with_gap}
    assert "1 slices are missing" in first["failed"][series_with_gap]
    assert (first["executed"], second["executed"], second["skipped"]) == (1, 0, 1)
    info = requests.get(f"{server}/datastore/image/info", params={"image": series_with_gap}, timeout=60).json()
    assert info["epistemic"][ABDOMINAL]["reason"] == first["failed"][series_with_gap]
    # All others have labels.
    refused = requests.post(f"{server}/activelearning/{ABDOMINAL}_epistemic", timeout=60)
    assert refused.status_code == 400
    assert f"can read none of the 1 images. {series_with_gap}: " in refused.json()["detail"]


def test_an_archive_that_is_down_is_told(archive_server: str, infer: Infer, cable, phantom_series: Path) -> None:
    unknown = "1.2.3.4"
    assert infer(archive_server, CARDIAC, unknown).status_code == 404
    cable.cut = True
    try:
        refused = infer(archive_server, CARDIAC, unknown)
        assert refused.status_code == 502
        assert "could not list its series: there is no connection, or it broke" in refused.json()["detail"]
        assert save(archive_server, uid_of(phantom_series), b"no image", "RV").status_code == 400
        assert requests.get(f"{archive_server}/proxy/dicom/qido/studies", timeout=60).status_code == 502
        # What was fetched before is still there.
        assert infer(archive_server, CARDIAC, uid_of(phantom_series)).status_code == 200
    finally:
        cable.cut = False
    assert infer(archive_server, CARDIAC, unknown).status_code == 404


@pytest.mark.parametrize("name", ["heart9", "../../etc", "1..2", ""])
def test_what_is_no_series_is_not_looked_for(archive_server: str, infer: Infer, name: str) -> None:
    refused = infer(archive_server, CARDIAC, name)
    assert refused.status_code == (404 if name else 400)
    assert refused.json()["detail"]

# SPDX-License-Identifier: Apache-2.0
"""What holds the bundles together: the same files and settings, and each trains, measures, predicts and exports."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import monai.bundle
import nibabel as nib
import numpy as np
import pytest
import torch
from monai.bundle import ConfigParser, create_workflow
from monai.utils import set_determinism
from PIL import Image

from monai_sam2unet.bundle import known_settings
from monai_sam2unet.bundle.bundle_predictor import BundlePredictor
from monai_sam2unet.errors import DataError, causes
from monai_sam2unet.networks import SAM2UNet
from monai_sam2unet.plan import BundlePlan

REPOSITORY = Path(__file__).parents[2]
NAMES = sorted(path.name for path in (REPOSITORY / "bundles").iterdir())
#: In a bundle by its nature: what came with it, and how to use that.
EXTRAS = {
    "polyp_segmentation": {
        "configs/released.yaml",
        "configs/released_352.yaml",
        "docs/model_card.md",
        "models/polyp_tiny.cases.json",
        "models/polyp_tiny.safetensors",
        "models/polyp_tiny_352.cases.json",
        "models/polyp_tiny_352.safetensors",
    },
    "abdominal_ct_segmentation": {"configs/totalsegmentator.yaml"},
}
#: Of each kind one whose settings all others of the kind have.
FIRST = {True: "cardiac_mr_segmentation", False: "polyp_segmentation"}
SMALL: dict[str, Any] = {"encoder_size": "tiny", "spatial_size": [64, 64], "num_workers": 0, "device": "cpu"}


@pytest.fixture(params=NAMES)
def plan(request: pytest.FixtureRequest) -> BundlePlan:
    return BundlePlan.from_yaml(REPOSITORY / "configs" / "plans" / f"{request.param}.yaml")


@pytest.fixture
def folder(plan: BundlePlan) -> Path:
    return REPOSITORY / "bundles" / plan.name


def labelled(plan: BundlePlan, number: int) -> np.ndarray:
    """A label map (70, 130) with a block for each class."""
    label = np.zeros((70, 130), np.uint8)
    values = range(1, len(plan.classes) + 1) if plan.classes else [255]
    for place, value in enumerate(values):
        row, column = divmod(place, 7)
        label[8 + 30 * row + number : 28 + 30 * row + number, 18 * column + 2 : 18 * column + 15] = value
    return label


@pytest.fixture
def cases(plan: BundlePlan, tmp_path: Path) -> Path:
    """Four pictures or volumes with bright blocks, one for each class, of a patient each."""
    data = tmp_path / "data"
    folders = [data / "images", data / ("labels" if plan.is_volume else "masks")]
    for folder in folders:
        folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    for number in range(4):
        label, name = labelled(plan, number), f"patient{number:03}"
        image = (generator.integers(0, 80, label.shape) + 40 * (label > 0) + 7 * (label % 16)).astype(np.uint8)
        if plan.is_volume:
            affine = np.diag([-1.5, 1.5, 8.0, 1.0])
            for values, folder in zip((image.astype(np.int16), label), folders, strict=True):
                nib.save(nib.Nifti1Image(np.stack([values] * 3, -1), affine), folder / f"{name}.nii.gz")
        else:
            shown = Image.fromarray(image)
            (shown.convert("RGB") if plan.picture == "rgb" else shown).save(folders[0] / f"{name}.png")
            Image.fromarray(label).save(folders[1] / f"{name}.png")
    return data


def start(folder: Path, config: str, kind: str, **settings: object) -> Any:
    path = str(folder / "configs" / f"{config}.yaml")
    return create_workflow("ConfigWorkflow", config_file=path, workflow_type=kind, **{**SMALL, **settings})


def files_of(bundle: Path) -> set[str]:
    made = {"models/.gitkeep"}
    return {str(path.relative_to(bundle)) for path in bundle.rglob("*") if path.is_file()} - made


def test_all_have_the_same_files(folder: Path) -> None:
    polyp = "polyp_segmentation"
    expected = files_of(REPOSITORY / "bundles" / polyp) - EXTRAS[polyp]
    assert files_of(folder) - EXTRAS.get(folder.name, set()) == expected


@pytest.mark.parametrize("config", ["train", "evaluate", "inference"])
def test_all_of_a_kind_have_the_same_settings(plan: BundlePlan, config: str) -> None:
    own, first = (
        ConfigParser.load_config_file(REPOSITORY / "bundles" / name / "configs" / f"{config}.yaml")
        for name in (plan.name, FIRST[plan.is_volume])
    )
    assert own.keys() == first.keys()


def test_all_have_the_headings_of_the_zoo(folder: Path) -> None:
    text, polyp = (
        (REPOSITORY / "bundles" / name / "docs" / "README.md").read_text(encoding="utf-8")
        for name in (folder.name, "polyp_segmentation")
    )
    assert re.findall("^## .*$", text, re.M) == re.findall("^## .*$", polyp, re.M)
    assert (folder / "LICENSE").read_text() == (REPOSITORY / "LICENSE").read_text()


def test_metadata(folder: Path, zoo_schema: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    meta = str(folder / "configs" / "metadata.json")
    monai.bundle.verify_metadata(meta_file=meta, filepath=str(zoo_schema))
    metadata = json.loads(Path(meta).read_text())
    assert metadata["version"] in metadata["changelog"]
    monkeypatch.chdir(folder)
    monai.bundle.verify_net_in_out(
        "network_def", meta_file=meta, config_file="configs/inference.yaml", encoder_size="tiny", n=2
    )


def test_it_trains_measures_predicts_and_exports(
    plan: BundlePlan, folder: Path, cases: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # bundles set their own
    monkeypatch.chdir(folder)
    warned: list[str] = []  # MONAI's workflows put other handlers in place of pytest's
    monkeypatch.setattr(known_settings.logger, "warning", warned.append)
    out = {name: tmp_path / name for name in ("models", "runs", "eval", "predictions")}
    places = {"ckpt_dir": str(out["models"]), "log_dir": str(out["runs"]), "dataset_dir": str(cases)}
    training = start(folder, "train", "train", **places, weights="random", max_epochs=1, batch_size=3)
    assert training.check_properties() == []
    training.run()
    checkpoint = str(out["models"] / "model.pt")
    measured = {"dataset_dir": str(cases), "ckpt_path": checkpoint, "output_dir": str(out["eval"])}
    with pytest.raises(RuntimeError) as error:
        start(folder, "evaluate", "infer", **measured)
    refused = next(str(cause) for cause in causes(error.value) if isinstance(cause, DataError))
    assert "4 of the 4 cases to be measured are known" in refused
    assert (refused.count(": trained on"), refused.count(": chosen by")) == (3, 1)
    start(folder, "evaluate", "infer", **measured, allow_training_cases=True).run()
    summary = json.loads((out["eval"] / "summary.json").read_text())
    assert {values["images"] for values in summary["sets"].values()} == {4}
    predicted = {"dataset_dir": str(cases / "images"), "output_dir": str(out["predictions"])}
    start(folder, "inference", "infer", **predicted, ckpt_path=checkpoint).run()
    predictor = BundlePredictor(folder, {**SMALL, "ckpt_path": checkpoint})
    assert warned == []
    windows = {} if plan.is_volume else {"sliding_window": not plan.sliding_window}
    other = {"ckpt_path": checkpoint, "spatial_size": [96, 64], **windows}
    start(folder, "evaluate", "infer", **{**measured, **other}, allow_training_cases=True)
    start(folder, "inference", "infer", **predicted, **other)
    BundlePredictor(folder, {**SMALL, **other})
    assert len(warned) == 3
    assert all("spatial_size [64, 64], now [96, 64]" in text for text in warned)
    assert all(("sliding_window" in text) == bool(windows) for text in warned)
    allowed = set(range(plan.out_channels)) if plan.classes else {0, 255}
    for image in (cases / "images").iterdir():
        if plan.is_volume:
            found = nib.load(out["predictions"] / image.name)
            assert np.array_equal(found.affine, nib.load(image).affine)
            mask, shape = np.asarray(found.dataobj), (70, 130, 3)
        else:
            with Image.open(out["predictions"] / "masks" / image.name) as opened:
                mask, shape = np.asarray(opened), (70, 130)
        assert mask.shape == shape
        assert set(np.unique(mask)) <= allowed
        case = predictor.load(image)
        own = predictor.mask(case, predictor.predict([case])[0])[0].numpy()
        assert np.array_equal(own, mask if plan.classes else mask // 255)
    monai.bundle.ckpt_export(
        "network_def", filepath=str(tmp_path / "model.ts"), ckpt_file=checkpoint, config_file="configs/inference.yaml",
        meta_file="configs/metadata.json", encoder_size="tiny",
    )  # fmt: skip
    network = SAM2UNet(size="tiny", out_channels=plan.out_channels, deep_supervision=True)
    bundles = tmp_path / "zoo" / folder.name / "models"
    bundles.mkdir(parents=True)
    Path(checkpoint).rename(bundles / "model.pt")
    loaded = monai.bundle.load(folder.name, model=network, bundle_dir=str(tmp_path / "zoo"), device="cpu").eval()
    image = torch.randn(2, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(torch.jit.load(tmp_path / "model.ts")(image), loaded(image), rtol=1e-4, atol=1e-5)
    set_determinism(None)

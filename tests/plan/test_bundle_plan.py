# SPDX-License-Identifier: Apache-2.0
"""Tests of plans: what pictures and volumes have in common, and plans that are refused."""

from __future__ import annotations

import json

import pytest
import yaml
from monai.bundle import ConfigParser
from pydicom.sr.codedict import codes

from monai_sam2unet.dicom.segments import read_segments
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.plan import BundlePlan, render_configs, write_bundle

PICTURES = {
    "name": "x_segmentation", "title": "X", "object": "x", "objects": "xs", "images": "pictures",
    "modality": "endoscopy", "data_source": "nowhere",
}  # fmt: skip
VOLUMES = {**PICTURES, "modality": "ct", "classes": ("liver", "spleen")}


def test_pictures_and_volumes_differ_only_where_they_must():
    """What network and optimisation are is one text; so are the files that know nothing of the images."""
    picture, volume = (render_configs(BundlePlan(**options)) for options in (PICTURES, VOLUMES))
    for name in ("multi_gpu_train.yaml", "onnx_export.yaml", "trt_export.yaml", "logging.conf"):
        assert picture[name] == volume[name]
    first, second = (yaml.safe_load(configs["train.yaml"]) for configs in (picture, volume))
    assert set(first) - set(second) == {"mask_threshold", "sliding_window", "num_samples", "sw_overlap"}
    assert set(second) - set(first) == {"label_ids", "keep_empty"}
    for key in ("optimizer", "lr_scheduler", "average", "max_epochs", "learning_rate", "encoder_size", "run"):
        assert first[key] == second[key]
    assert first["train"]["handlers"] == second["train"]["handlers"]
    assert first["train"]["trainer"] == second["train"]["trainer"]


def test_metadata_of_volumes(repository):
    plan = BundlePlan.from_yaml(repository / "configs" / "plans" / "abdominal_ct_segmentation.yaml")
    content = json.loads(render_configs(plan)["metadata.json"])
    assert (content["data_type"], content["image_classes"]) == ("nifti", "volume of one channel, Hounsfield units")
    assert content["label_classes"].startswith("one channel of class indices, 0 everything else, 1 spleen, 2 kidney_")
    data = content["network_data_format"]
    assert data["inputs"]["image"]["channel_def"] == {"0": "soft_tissue", "1": "liver", "2": "mediastinum"}
    assert data["outputs"]["pred"]["num_channels"] == 14
    assert data["outputs"]["pred"]["channel_def"]["13"] == "adrenal_gland_left"


def test_metadata_say_what_classes_are_in_dicom():
    plan = BundlePlan(**VOLUMES, segments=({"type": "Liver"}, {"type": "Spleen", "rgb": [1, 2, 3]}))
    liver, spleen = read_segments(json.loads(render_configs(plan)["metadata.json"]))
    assert (liver.label, liver.type, spleen.type) == ("Liver", codes.SCT.Liver, codes.SCT.Spleen)
    assert spleen.colour == (1, 2, 3)
    # Of data of one's own no more is known than what a class is called.
    [unknown] = read_segments(json.loads(render_configs(BundlePlan(**PICTURES))["metadata.json"]))
    assert (unknown.label, unknown.type, unknown.region) == ("X", codes.SCT.Tissue, None)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({**PICTURES, "modality": "sonar"}, "The modality must be one of .*, got 'sonar'"),
        ({**PICTURES, "classes": ("one",)}, "One class has no list"),
        ({**PICTURES, "num_samples": 13}, "1 to 12, got 13"),
        ({**VOLUMES, "sliding_window": True}, "sliding_window: for pictures only; ct"),
        ({**PICTURES, "plane": "coronal"}, "plane: for volumes only; endoscopy"),
        ({**PICTURES, "windows": "liver", "keep_empty": 0.5}, "windows, keep_empty: for volumes only"),
        ({**VOLUMES, "classes": ()}, "Volumes have one class or more, by name; got none"),
        ({**VOLUMES, "windows": "spine"}, "A CT window is one of"),
        ({**VOLUMES, "windows": ("liver", "bone")}, "the network takes 3"),
        ({**VOLUMES, "plane": "oblique"}, "oblique"),
        ({**VOLUMES, "keep_empty": 2}, "keep_empty"),
        ({**VOLUMES, "modality": "mr", "windows": "liver"}, "windows does not go with mr"),
        ({**VOLUMES, "segments": ({"type": "Liver"},)}, "describes 1 classes; there are 2: liver, spleen"),
        ({**PICTURES, "segments": ({"type": "Livre"},)}, "'Livre' is no keyword"),
    ],
)
def test_plans_that_are_refused(options, told):
    with pytest.raises(ConfigError, match=told):
        BundlePlan(**options)


def test_a_plan_is_read_and_written(tmp_path):
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({**VOLUMES, "classes": ["liver", "spleen"], "plane": "coronal"}))
    plan = BundlePlan.from_yaml(tmp_path / "plan.yaml")
    folder = write_bundle(plan, tmp_path / "made")
    config = ConfigParser.load_config_file(folder / "configs" / "inference.yaml")
    assert config["preset"]["plane"] == "coronal"
    assert (folder / "configs" / "metadata.json").exists()
    with pytest.raises(ConfigError, match="exists already"):
        write_bundle(plan, folder)
    (tmp_path / "plan.yaml").write_text(yaml.safe_dump({"name": "x", "colour": "red"}))
    with pytest.raises(ConfigError, match="unknown or missing: colour, title"):
        BundlePlan.from_yaml(tmp_path / "plan.yaml")

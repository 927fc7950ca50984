# SPDX-License-Identifier: Apache-2.0
"""Tests of building the released network out of a clone, which here only looks like one."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.network.official import copy_weights, load_released
from monai_sam2unet.errors import ConfigError
from monai_sam2unet.networks import SAM2UNet

FAMILIES = ("SAM2UNet", "sam2", "sam2_configs", "hydra", "iopath", "omegaconf")


@pytest.fixture(scope="module")
def ours() -> SAM2UNet:
    torch.manual_seed(0)
    network = SAM2UNet(size="tiny").eval()
    with torch.no_grad():
        for parameter in network.parameters():  # adapters start at zero, and would hide a mistake
            parameter.add_(0.02 * torch.randn_like(parameter))
    return network


def same_output(ours: nn.Module, released: nn.Module) -> None:
    image = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        logits, (main, side1, side2) = ours(image), released.eval()(image)
    assert logits.std() > 1e-3
    torch.testing.assert_close(main, logits, rtol=1e-4, atol=1e-5)
    assert side1.shape == side2.shape == main.shape


def test_the_clones_network_with_our_weights_gives_our_logits(clone: Path, ours: SAM2UNet) -> None:
    released = load_released(clone, "tiny")
    copy_weights(ours, released)
    same_output(ours, released)


def test_a_real_clone(ours: SAM2UNet) -> None:
    if "SAM2UNET_OFFICIAL" not in os.environ:
        pytest.skip("set SAM2UNET_OFFICIAL to a clone of the released code")
    released = load_released(Path(os.environ["SAM2UNET_OFFICIAL"]), "tiny")
    copy_weights(ours, released)
    same_output(ours, released)


def test_python_is_left_as_it_was(clone: Path) -> None:
    """Also where packages of the clone's names are imported already; and twice works, as each time is the first."""
    mine = type(sys)("sam2")
    sys.modules["sam2"] = mine
    try:
        path, finders = list(sys.path), list(sys.meta_path)
        others = {name for name in sys.modules if name.split(".")[0] in FAMILIES}
        for _ in range(2):
            load_released(clone, "tiny")
            assert sys.path == path
            assert sys.meta_path == finders
            assert {name for name in sys.modules if name.split(".")[0] in FAMILIES} == others
            assert sys.modules["sam2"] is mine
    finally:
        del sys.modules["sam2"]


def test_a_package_that_is_installed_is_not_stood_in_for(clone: Path, tmp_path: Path, monkeypatch) -> None:
    package = tmp_path / "site" / "iopath" / "common"
    package.mkdir(parents=True)
    (package / "file_io.py").write_text("g_pathmgr = 'the real one'", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path / "site")
    with (clone / "sam2/modeling/backbones/hieradet.py").open("a", encoding="utf-8") as file:
        file.write("assert g_pathmgr == 'the real one'\n")
    load_released(clone, "tiny")
    for name in [name for name in sys.modules if name.split(".")[0] == "iopath"]:
        del sys.modules[name]


@pytest.mark.parametrize("name", ["SAM2UNet.py", "sam2/modeling/backbones/hieradet.py"])
def test_a_folder_without_the_code_is_refused(clone: Path, name: str) -> None:
    (clone / name).unlink()
    with pytest.raises(ConfigError, match=f"{name} is not there") as raised:
        load_released(clone, "tiny")
    assert "git clone https://github.com/WZH0120/SAM2-UNet" in str(raised.value)


def test_a_size_without_configuration_is_refused(clone: Path) -> None:
    with pytest.raises(ConfigError, match=r"has no sam2_hiera_l\.yaml"):
        load_released(clone, "large")
    with pytest.raises(ConfigError, match="'huge' is not known"):
        load_released(clone, "huge")


def test_a_configuration_of_something_else_is_refused(clone: Path) -> None:
    (clone / "sam2_configs" / "sam2_hiera_t.yaml").write_text("model: {}", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"has no model\.image_encoder\.trunk"):
        load_released(clone, "tiny")


def test_code_that_cannot_be_imported_is_refused(clone: Path) -> None:
    (clone / "SAM2UNet.py").write_text("import a_package_that_nobody_has", encoding="utf-8")
    with pytest.raises(ConfigError, match="a_package_that_nobody_has"):
        load_released(clone, "tiny")


def test_other_parameters_are_refused(clone: Path, ours: SAM2UNet) -> None:
    released = load_released(clone, "tiny")
    released.extra = nn.Linear(1, 1)
    with pytest.raises(ConfigError, match=r"only theirs: extra\.weight"):
        copy_weights(ours, released)
    del released.extra, released.side1
    with pytest.raises(ConfigError, match=r"only ours: side1\.weight"):
        copy_weights(ours, released)
    released.side1 = nn.Conv2d(64, 2, 1)
    with pytest.raises(ConfigError, match="do not fit"):
        copy_weights(ours, released)

# SPDX-License-Identifier: Apache-2.0
"""Tests of what is said of checkpoints that are not there."""

from __future__ import annotations

from pathlib import Path

import pytest
from torch import nn

from monai_sam2unet.bundle import load_checkpoint
from monai_sam2unet.errors import CheckpointError


def test_a_checkpoint_that_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(CheckpointError) as error:
        load_checkpoint(nn.Identity(), "models/model.pt")
    assert f"There is no checkpoint models/model.pt below {tmp_path}, where a bundle's own folder" in str(error.value)
    assert "configs/released.yaml" in str(error.value)
    with pytest.raises(CheckpointError, match=r"There is no checkpoint .*model\.pt\. Train first"):
        load_checkpoint(nn.Identity(), tmp_path / "model.pt")

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import subprocess
import sys

import pytest

from monai_sam2unet import evaluation


def test_every_public_name_is_found():
    assert sorted(evaluation.MODULES) == evaluation.__all__
    for name in evaluation.__all__:
        assert getattr(evaluation, name).__name__ == name
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        evaluation.nothing  # noqa: B018


def test_comparing_does_not_wait_for_torch():
    code = "import sys, monai_sam2unet.evaluation.comparison; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"

# SPDX-License-Identifier: Apache-2.0
"""Whether a file can be written is seen before the work."""

from __future__ import annotations

import pytest

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.export.output_file import check_output_file


def test_paths_are_tried_first(tmp_path) -> None:
    assert check_output_file(tmp_path / "a" / "b.onnx", ".onnx").parent.is_dir()
    with pytest.raises(ConfigError, match=r"must end in \.onnx"):
        check_output_file(tmp_path / "model", ".onnx")
    (tmp_path / "folder.onnx").mkdir()
    with pytest.raises(ConfigError, match="it is a folder"):
        check_output_file(tmp_path / "folder.onnx", ".onnx")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written"):
        check_output_file(tmp_path / "file" / "model.onnx", ".onnx")

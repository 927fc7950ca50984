# SPDX-License-Identifier: Apache-2.0
"""Files are written whole or not at all."""

from __future__ import annotations

import pytest

from monai_sam2unet.folders import whole_file


def test_a_failure_leaves_the_old_file(tmp_path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("old")

    def write_and_fail() -> None:
        with whole_file(path) as unfinished:
            unfinished.write_text("half")
            raise OSError

    with pytest.raises(OSError):  # noqa: PT011
        write_and_fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_files_beside_it_come_along_and_first(tmp_path) -> None:
    path = tmp_path / "model.xml"
    path.write_text("old")
    with whole_file(path) as unfinished:
        unfinished.write_text("new")
        unfinished.with_suffix(".bin").write_text("weights")
        assert path.read_text() == "old"
    assert {file.name: file.read_text() for file in tmp_path.iterdir()} == {"model.xml": "new", "model.bin": "weights"}

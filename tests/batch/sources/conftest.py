# SPDX-License-Identifier: Apache-2.0
"""The fixtures that make DICOM files, as the reader's tests have them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

_SPEC = importlib.util.spec_from_file_location("dicom_fixtures", Path(__file__).parents[2] / "dicom" / "conftest.py")
_FIXTURES = importlib.util.module_from_spec(_SPEC)
_SPEC.loader.exec_module(_FIXTURES)
make_image, make_slice, make_series = _FIXTURES.make_image, _FIXTURES.make_slice, _FIXTURES.make_series
make_enhanced, make_cine, samples = _FIXTURES.make_enhanced, _FIXTURES.make_cine, _FIXTURES.samples

# SPDX-License-Identifier: Apache-2.0
"""How hypothesis looks for counterexamples here: the same ones at each run, and not for long."""

from __future__ import annotations

from hypothesis import settings

settings.register_profile("transforms", settings.get_profile("same"), max_examples=40)
settings.load_profile("transforms")

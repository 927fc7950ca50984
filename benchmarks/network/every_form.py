# SPDX-License-Identifier: Apache-2.0
"""All forms by their keys, in the table's order; the first that runs is what the others are compared with."""

from __future__ import annotations

from benchmarks.network.exported_forms import EXPORTED_FORMS
from benchmarks.network.forms import Form
from benchmarks.network.own_forms import OWN_FORMS, RELEASED_FORMS
from benchmarks.network.peers import PEERS

__all__ = ["FORMS"]

FORMS: dict[str, Form] = {form.key: form for form in (*RELEASED_FORMS, *OWN_FORMS, *EXPORTED_FORMS, *PEERS)}

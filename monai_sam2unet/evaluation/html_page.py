# SPDX-License-Identifier: Apache-2.0
"""Pages of HTML that hold all they need in one file: looks and small parts that reports share."""

from __future__ import annotations

import base64
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

__all__ = ["page_environment"]


def page_environment(folder: Path | None = None) -> Environment:
    """Templates of pages; each extends ``page_template.html``, which wants a ``title``.

    Values are escaped. The filter ``b64`` makes text of bytes, for pictures within the page.

    Args:
        folder: of further templates; None: this package's own only.
    """
    own = Path(__file__).parent
    made = Environment(
        loader=FileSystemLoader([own] if folder is None else [folder, own]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["b64"] = lambda content: base64.b64encode(content).decode("ascii")
    return made

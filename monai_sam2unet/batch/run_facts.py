# SPDX-License-Identifier: Apache-2.0
"""What an output folder remembers beside its journal, so that who goes on makes the same objects."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.folders import whole_file

__all__ = ["begin_run", "end_run"]

#: Environment variable with the secret of de-identification, for several runs to make the same of the same patient.
SECRET = "SAM2UNET_DEIDENTIFY_SECRET"
RUN = "run.json"


def _read(path: Path) -> dict[str, str]:
    try:
        return {str(name): str(value) for name, value in json.loads(path.read_text(encoding="utf-8")).items()}
    except FileNotFoundError:
        return {}
    except (ValueError, AttributeError) as error:
        raise ConfigError(f"{path} cannot be read: {error}. Give another output folder.") from error


def _write(path: Path, facts: Mapping[str, str]) -> None:
    with whole_file(path) as unfinished:
        unfinished.touch(mode=0o600)
        unfinished.write_text(json.dumps(dict(facts)), encoding="utf-8")


def begin_run(output_dir: Path, deidentify: bool) -> tuple[datetime, str]:
    """When the run began, and the secret that its UIDs and pseudonyms are made with.

    Who goes on after a run that was cut off has the time of that run, so that the same objects come of it.

    Args:
        output_dir: of the run.
        deidentify: whether the secret is used.

    Raises:
        ConfigError: When what the folder remembers cannot be read, or it was de-identified with another secret.
        OSError: When it cannot be written.
    """
    path, given = output_dir / RUN, os.environ.get(SECRET)
    known = _read(path)
    if deidentify and given and known.get("secret", given) != given:
        raise ConfigError(
            f"{output_dir} was de-identified with another secret than that of {SECRET}. Give another output folder."
        )
    facts = {"created": datetime.now().astimezone().isoformat(), "secret": given or secrets.token_hex(32), **known}
    if facts != known:
        _write(path, facts)
    return datetime.fromisoformat(facts["created"]), facts["secret"]


def end_run(output_dir: Path) -> None:
    """Let the next run have a time of its own, since this one left nothing to go on with.

    Args:
        output_dir: of the run.

    Raises:
        ConfigError: When what the folder remembers cannot be read.
        OSError: When it cannot be written.
    """
    facts = _read(output_dir / RUN)
    _write(output_dir / RUN, {name: value for name, value in facts.items() if name != "created"})

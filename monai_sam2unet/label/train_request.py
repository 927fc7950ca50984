# SPDX-License-Identifier: Apache-2.0
"""What a viewer may ask of a training: MONAI Label's parameters, and keys of the bundle's ``train.yaml``."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from monai_sam2unet.errors import ConfigError, listing
from monai_sam2unet.label.requested_device import requested_device

__all__ = ["TrainRequest", "settable_keys"]

#: Keys of ``train.yaml`` that are not asked for: the app says what is trained on and where it goes, the weights in use
#: what the network is.
_FIXED = {
    *("bundle_root", "dataset_dir", "train_sets", "train_folders", "split_file", "max_cases", "val_fraction", "fold"),
    *("num_folds", "mask_threshold", "class_names", "label_ids", "allow_unlabelled", "encoder_size", "weights"),
    *("freeze_encoder", "unfrozen_stages", "adapter_channels", "zero_init_adapters", "lora_rank", "spatial_size"),
    *("sliding_window", "ckpt_dir", "log_dir", "light_checkpoints", "resume", "device"),
}
#: MONAI Label's own names of them.
_ALIASES = {"train_batch_size": "batch_size"}
#: What MONAI Label and its clients add to each request.
_PASSED_OVER = {"model", "client_id", "local_rank", "gpus", "description"}
#: Parameters of MONAI Label's other apps, with the values that ask for nothing that is not done here.
_NEUTRAL: dict[str, tuple[Any, ...]] = {
    "pretrained": (True,),
    "multi_gpu": (False,),
    "early_stop_patience": (-1, 0),
    "tracking": ("", "None", "none", None),
}
_NAME = re.compile(r"\w[\w-]{0,63}")


def _is_plain(value: Any) -> bool:
    """Whether a value is none of MONAI's expressions and references, nor a part of the config."""
    if isinstance(value, list):
        return all(_is_plain(one) for one in value)
    return not isinstance(value, dict) and not (isinstance(value, str) and value.lstrip()[:1] in ("$", "@", "%"))


def settable_keys(config: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of a ``train.yaml`` that a request may set, with their values.

    Args:
        config: its content.
    """
    return {key: value for key, value in config.items() if key not in _FIXED and _is_plain(value) and key != "imports"}


def _kind(value: Any) -> str:
    kinds = ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (list, "a list"))
    return next((told for kind, told in kinds if isinstance(value, kind)), "a text")


def _as_default(key: str, value: Any, default: Any) -> Any:
    """A value of the kind that the config has."""
    problem = ConfigError(f"{key} must be {_kind(default)}, as {default!r}; got {value!r}.")
    if not _is_plain(value):
        raise problem
    if isinstance(default, bool) or isinstance(value, bool):
        fits = isinstance(default, bool) and isinstance(value, bool)
    elif isinstance(default, float):
        fits = isinstance(value, (int, float))
        value = float(value) if fits else value
    elif isinstance(default, list):
        fits = isinstance(value, list) and all(isinstance(one, (int, float)) for one in value)
    elif default is None:
        fits = value is None or isinstance(value, str)
    else:
        fits = isinstance(value, type(default))
    if not fits:
        raise problem
    return value


@dataclass(frozen=True)
class TrainRequest:
    """What is asked of a training.

    Attributes:
        name: of the training, and of its folder.
        val_split: share of the patients that is held out, in (0, 1).
        resume: whether the training of that name is gone on with.
        device: where it runs; None: where the config says.
        settings: for keys of ``train.yaml``.
    """

    name: str
    val_split: float
    resume: bool
    device: str | None
    settings: dict[str, Any]

    @classmethod
    def of(cls, request: Mapping[str, Any], keys: Mapping[str, Any], val_split: float) -> TrainRequest:
        """Check a request.

        Args:
            request: as MONAI Label hands it on.
            keys: what of the config may be set, with its values: :func:`settable_keys`.
            val_split: where the request has none.

        Raises:
            ConfigError: When it has keys that are not known, or values that are not allowed; the text lists them all.
        """
        problems: list[str] = []

        def told(function: Any, *args: Any) -> Any:
            try:
                return function(*args)
            except ConfigError as error:
                problems.append(str(error))

        settings: dict[str, Any] = {}
        own: dict[str, Any] = {"name": "train_01", "val_split": val_split, "resume": False, "device": None}
        for given, value in request.items():
            key = _ALIASES.get(given, given)
            if given in own:
                own[given] = value
            elif key in keys:
                settings[key] = told(_as_default, given, value, keys[key])
            elif given in _NEUTRAL:
                if value not in _NEUTRAL[given]:
                    problems.append(f"{given} {value!r} is not done here; leave it out.")
            elif given not in _PASSED_OVER:
                problems.append(cls._unknown(given, keys))
        device = told(requested_device, own["device"]) if own["device"] else None
        problems += cls._problems(own, settings)
        if problems:
            raise ConfigError(f"The training cannot be run as asked for:\n{listing(problems)}")
        return cls(str(own["name"]), float(own["val_split"]), bool(own["resume"]), device, settings)

    @staticmethod
    def _unknown(key: str, keys: Mapping[str, Any]) -> str:
        if key in _FIXED:
            return f"{key} is not set by a request: it is that of the weights in use, or of the labels."
        known = ["name", "device", "val_split", "resume", *_ALIASES, *keys]
        near = difflib.get_close_matches(key, known, n=1)
        return f"There is no parameter {key!r}." + (
            f" Did you mean {near[0]}?" if near else f" There are {', '.join(known)}."
        )

    @staticmethod
    def _problems(own: Mapping[str, Any], settings: Mapping[str, Any]) -> list[str]:
        problems = []
        if not (isinstance(own["name"], str) and _NAME.fullmatch(own["name"])):
            problems.append(f"name must be a word of letters, digits, '_' and '-', got {own['name']!r}.")
        share = own["val_split"]
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share < 1:
            problems.append(
                f"val_split must lie between 0 and 1, got {share!r}: new weights are only taken when they are measured."
            )
        if not isinstance(own["resume"], bool):
            problems.append(f"resume must be true or false, got {own['resume']!r}.")
        for key in ("max_epochs", "batch_size", "val_interval"):
            if settings.get(key) is not None and settings[key] < 1:
                problems.append(f"{key} must be at least 1, got {settings[key]}.")
        return problems

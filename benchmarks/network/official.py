# SPDX-License-Identifier: Apache-2.0
"""Builds the released SAM2-UNet from a user's clone of https://github.com/WZH0120/SAM2-UNet, which is only imported.

The released network is built by hydra, for the size Large only. Here its own class and its own encoder are put together
for any size, without hydra: what building does not need is stood in for where it is not installed.
"""

from __future__ import annotations

import importlib
import sys
import types
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock

import yaml
from torch import nn

from monai_sam2unet.errors import ConfigError, listing

__all__ = ["copy_weights", "load_released"]

REPOSITORY = "https://github.com/WZH0120/SAM2-UNet"
CODES = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
CONFIG_FOLDERS = ("sam2_configs", "sam2/configs/sam2", "sam2/configs", "sam2")
NEEDED = ("SAM2UNet.py", "sam2/modeling/backbones/hieradet.py")
OWN = ("SAM2UNet", "sam2", "sam2_configs")
# hydra always: it may be initialised only once in a process, and a clone does so whenever it is imported.
ALWAYS_STOOD_IN_FOR = ("hydra",)
STOOD_IN_FOR = ("omegaconf", "iopath")


class _StandIn(types.ModuleType):
    """A module of which anything can be imported, and nothing used in earnest."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__path__ = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return MagicMock(name=f"{self.__name__}.{name}")


class _Finder(MetaPathFinder, Loader):
    """Gives stand-ins for some packages and all that is in them."""

    def __init__(self, packages: Sequence[str]) -> None:
        self.packages = packages

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Answer for the packages that are stood in for."""
        return ModuleSpec(fullname, self, is_package=True) if _belongs(fullname, self.packages) else None

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """Make the stand-in."""
        return _StandIn(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Nothing to run."""


class _Assembled:
    """What the released constructor takes the encoder out of; it deletes the other parts, which were never made."""

    def __init__(self, trunk: nn.Module) -> None:
        self.image_encoder = types.SimpleNamespace(trunk=trunk, neck=None)

    def __delattr__(self, name: str) -> None:
        """Let the parts that are not there be deleted."""


def _belongs(name: str, packages: Sequence[str]) -> bool:
    return name.split(".")[0] in packages


@contextmanager
def _importing_from(clone: Path) -> Iterator[None]:
    """Import from the clone; afterwards Python's lists of modules, paths and finders are as before."""
    families = (*OWN, *ALWAYS_STOOD_IN_FOR, *STOOD_IN_FOR)
    path, finders = list(sys.path), list(sys.meta_path)
    before = {name: module for name, module in sys.modules.items() if _belongs(name, families)}
    for name in before:
        if _belongs(name, (*OWN, *ALWAYS_STOOD_IN_FOR)):
            del sys.modules[name]
    sys.path.insert(0, str(clone))
    sys.meta_path.insert(0, _Finder(ALWAYS_STOOD_IN_FOR))
    sys.meta_path.append(_Finder(STOOD_IN_FOR))
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:], sys.meta_path[:] = path, finders
        for name in [name for name in sys.modules if _belongs(name, families)]:
            real = not _belongs(name, OWN) and not isinstance(sys.modules[name], _StandIn)
            if not real:
                del sys.modules[name]
        sys.modules.update(before)


def _trunk_arguments(clone: Path, size: str) -> dict[str, Any]:
    """The encoder's arguments, from the clone's own configuration of SAM 2."""
    if size not in CODES:
        raise ConfigError(f"size {size!r} is not known; choose one of {', '.join(CODES)}.")
    name = f"sam2_hiera_{CODES[size]}.yaml"
    places = [clone / folder / name for folder in CONFIG_FOLDERS]
    file = next((place for place in places if place.is_file()), None)
    if file is None:
        looked = listing([str(place.relative_to(clone)) for place in places])
        raise ConfigError(f"{clone} has no {name}. Looked for:\n{looked}\nClone {REPOSITORY} anew.")
    try:
        arguments = dict(yaml.safe_load(file.read_text(encoding="utf-8"))["model"]["image_encoder"]["trunk"])
    except (KeyError, TypeError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{file} has no model.image_encoder.trunk, as SAM 2's configurations have.") from error
    arguments.pop("_target_", None)
    return arguments


def load_released(clone: Path, size: str = "large") -> nn.Module:
    """Build the released network for one size of the encoder, with random weights.

    The clone's classes are imported and left as they are; only the four RFBs are made anew, by their own class, for the
    channels of a smaller encoder.

    Args:
        clone: folder of a clone of https://github.com/WZH0120/SAM2-UNet.
        size: ``"tiny"``, ``"small"``, ``"base_plus"`` or ``"large"``.

    Returns:
        The network: image (B, 3, H, W), H and W multiples of 32, to three maps of logits (B, 1, H, W), main first.

    Raises:
        ConfigError: When the folder is no such clone, lacks a file, or its code cannot be imported.
    """
    missing = [name for name in NEEDED if not (clone / name).is_file()]
    if missing:
        raise ConfigError(
            f"{clone} is no clone of the released code: {', '.join(missing)} is not there.\n"
            f"`git clone {REPOSITORY}` and give the folder that it makes."
        )
    arguments = _trunk_arguments(clone, size)
    with _importing_from(clone.resolve()):
        try:
            trunk = importlib.import_module("sam2.modeling.backbones.hieradet").Hiera(**arguments)
            builder = types.ModuleType("sam2.build_sam")
            builder.build_sam2 = lambda *args, **kwargs: _Assembled(trunk)  # type: ignore[attr-defined]
            sys.modules["sam2.build_sam"] = builder
            network: nn.Module = importlib.import_module("SAM2UNet").SAM2UNet()
        except (ImportError, AttributeError, TypeError) as error:
            raise ConfigError(f"The code in {clone} cannot be used: {type(error).__name__}: {error}") from error
    for number, channels in enumerate(reversed(trunk.channel_list), 1):
        setattr(network, f"rfb{number}", type(network.rfb1)(channels, 64))
    return network


def copy_weights(ours: nn.Module, released: nn.Module) -> None:
    """Give the released network the weights of ours.

    Args:
        ours: a :class:`monai_sam2unet.networks.SAM2UNet` of the same size, three channels in and one out.
        released: what :func:`load_released` made.

    Raises:
        ConfigError: When anything but the released network's unused ``up4`` is left over on either side.
    """
    try:
        result = released.load_state_dict(ours.state_dict(), strict=False)
    except RuntimeError as error:  # shapes
        raise ConfigError(f"Our weights do not fit the clone's network: {error}") from error
    left = [name for name in result.missing_keys if not name.startswith("up4.")]
    if left or result.unexpected_keys:
        names = listing([*(f"only theirs: {n}" for n in left), *(f"only ours: {n}" for n in result.unexpected_keys)])
        raise ConfigError(f"The clone's network has other parameters than ours:\n{names}")

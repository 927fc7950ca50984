# SPDX-License-Identifier: Apache-2.0
"""The labels of volumes as class indices, whatever numbers or files a set has for them."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import KeysCollection, PathLike
from monai.data import MetaTensor
from monai.transforms import MapTransform
from monai.utils import ensure_tuple
from torch import Tensor

from monai_sam2unet.errors import ConfigError, DataError
from monai_sam2unet.transforms.load_any_image import LoadAnyImage
from monai_sam2unet.transforms.same_grid import check_same_grid
from monai_sam2unet.transforms.tensors import plain

__all__ = ["LabelClasses", "LoadLabelClassesd"]

BACKGROUND = "background"
#: In the place of the background's ids: all that are no class.
OTHERS = "others"

Ids = int | Sequence[int]


def _shown(values: Sequence[float]) -> str:
    more = f" and {len(values) - 10} more" if len(values) > 10 else ""
    return ", ".join(f"{value:g}" for value in values[:10]) + more


class LabelClasses:
    """Which numbers in label files are which class; what is not said to be one is an error, and never dropped.

    Args:
        class_names: names of the classes, from index 1 on; 0 is the background.
        label_ids: of each class, by name, the number it has in files, or a list of numbers; and ``background``: further
            numbers that are background, as 0 is, or ``"others"``: all that are no class. None, or the background only:
            class 1 has the number 1, class 2 the number 2, and so on.

    Where each class has a file of its own, called as the class, their names count instead of numbers; other files are
    refused unless the background is ``"others"``.

    Raises:
        ConfigError: When names are not different texts, ``label_ids`` has other names or leaves a class out, or a
            number is not whole or of two classes.

    Example:
        >>> classes = LabelClasses(["spleen", "liver"], {"spleen": 1, "liver": [5, 6], "background": [2]})
        >>> classes.to_classes(torch.tensor([0, 1, 2, 5, 6])).tolist()
        [0, 1, 0, 2, 2]
        >>> classes.to_classes(torch.tensor([7]), "label.nii.gz")
        Traceback (most recent call last):
        ...
        monai_sam2unet.errors.DataError: label.nii.gz holds the numbers 7, which are no class...
    """

    def __init__(self, class_names: Sequence[str], label_ids: Mapping[str, Ids | str] | None = None) -> None:
        names = tuple(class_names)
        if isinstance(class_names, str) or not names or len({BACKGROUND, *names}) < len(names) + 1:
            raise ConfigError(f"class_names must be different names, none of them {BACKGROUND}, got {class_names!r}.")
        given = dict(label_ids or {})
        background = given.pop(BACKGROUND, ())
        wrong = [*(name for name in given if name not in names), *(n for n in names if given and n not in given)]
        if wrong:
            raise ConfigError(
                f"label_ids has the wrong names, or lacks some: {', '.join(wrong)}. It takes the number of each class, "
                f"{', '.join(names)}, or of none; and {BACKGROUND}."
            )
        self.class_names = names
        self.drops_others = background == OTHERS
        numbers = {name: given.get(name, index) for index, name in enumerate(names, 1)}
        self.ids: dict[int, int] = {0: 0}
        for index, (name, own) in enumerate([(BACKGROUND, () if self.drops_others else background), *numbers.items()]):
            for number in self._numbers(name, own):
                if self.ids.get(number, index) != index:
                    raise ConfigError(f"label_ids: {number} is that of two classes, one of them {name}.")
                self.ids[number] = index

    @staticmethod
    def _numbers(name: str, given: Any) -> tuple[int, ...]:
        numbers = ensure_tuple(given)
        if isinstance(given, str) or not all(isinstance(n, int) and not isinstance(n, bool) for n in numbers):
            expected = f"a whole number or a list of such{f', or {OTHERS!r}' if name == BACKGROUND else ''}"
            raise ConfigError(f"label_ids: {name} must be {expected}, got {given!r}.")
        return numbers

    def to_classes(self, values: Tensor, name: str = "The label") -> Tensor:
        """Class indices of the numbers in a file.

        Args:
            values: numbers of any shape.
            name: the file's, for the error.

        Returns:
            Indices of the same shape and type.

        Raises:
            DataError: When it holds NaN or broken numbers, or numbers that are no class and not said to be background.
        """
        found = torch.unique(values).tolist()
        broken = [value for value in found if not float(value).is_integer()]
        if broken:
            raise DataError(f"{name} holds broken numbers, {_shown(broken)}, which are no classes.")
        unknown = [value for value in found if int(value) not in self.ids]
        if unknown and not self.drops_others:
            raise DataError(
                f"{name} holds the numbers {_shown(unknown)}, which are no class. The classes are "
                f"{', '.join(self.class_names)}; say with label_ids which number is which, and which are "
                f"{BACKGROUND} ({OTHERS!r}: all others)."
            )
        if all(self.ids.get(int(value)) == value for value in found):
            return values
        classes = torch.zeros_like(values)
        for value in found:
            if index := self.ids.get(int(value), 0):
                classes[values == value] = index
        return classes

    def of_files(self, paths: Sequence[PathLike]) -> dict[int, Path]:
        """The file of each class, where each has its own.

        Args:
            paths: the files.

        Returns:
            Files by class index.

        Raises:
            DataError: When a class has no file; or a file is called as no class, and others are not background.
        """
        files = {re.sub(r"\.nii(\.gz)?$", "", Path(path).name): Path(path) for path in paths}
        others = [name for name in files if name not in self.class_names]
        missing = [name for name in self.class_names if name not in files]
        folder = Path(paths[0]).parent
        if missing:
            raise DataError(f"{folder} has no file for the classes {', '.join(missing)}.")
        if others and not self.drops_others:
            raise DataError(
                f"{folder} has files that are no class, as {', '.join(others[:5])}. If they are background, say so: "
                f"label_ids {{{BACKGROUND}: {OTHERS}}}."
            )
        return {index: files[name] for index, name in enumerate(self.class_names, 1)}


class LoadLabelClassesd(MapTransform):
    """Load the labels of volumes as class indices (1, X, Y, Z).

    Args:
        keys: keys of a label's file, or of the list of its files, one a class.
        classes: what is which class.
        require_orientation: as in :class:`monai_sam2unet.transforms.LoadAnyImage`.
        allow_missing_keys: whether a missing key is passed over.
    """

    def __init__(
        self,
        keys: KeysCollection,
        classes: LabelClasses,
        require_orientation: bool = True,
        allow_missing_keys: bool = False,
    ) -> None:
        super().__init__(keys, allow_missing_keys)
        self.classes = classes
        self.load = LoadAnyImage("label", None, require_orientation)

    def _load(self, label: PathLike | Sequence[PathLike]) -> MetaTensor:
        if isinstance(label, (list, tuple)):
            return self._joined(label)
        found = self.load(label)
        return MetaTensor(self.classes.to_classes(plain(found), str(label))).copy_meta_from(found)

    def _joined(self, paths: Sequence[PathLike]) -> MetaTensor:
        files = self.classes.of_files(paths)
        first = self.load(files[1])
        classes = torch.zeros_like(plain(first))
        for index, path in files.items():
            part = first if index == 1 else self.load(path)
            check_same_grid({str(files[1]): first, str(path): part})
            mask = plain(part) > 0
            if bool(classes[mask].any()):
                raise DataError(f"{path} overlaps with another class: a voxel has one class only.")
            classes[mask] = index
        return MetaTensor(classes).copy_meta_from(first)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Load what is under the keys.

        Raises:
            DataError: As :class:`monai_sam2unet.transforms.LoadAnyImage` and :class:`LabelClasses`; or when the files
                of the classes do not lie on one grid, or overlap.
        """
        d = dict(data)
        for key in self.key_iterator(d):
            d[key] = self._load(d[key])
        return d

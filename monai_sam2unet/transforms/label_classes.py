# SPDX-License-Identifier: Apache-2.0
"""Which numbers, files or segments in the labels of volumes are which class."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from monai.config import PathLike
from monai.utils import ensure_tuple
from torch import Tensor

from monai_sam2unet.dicom import DicomSegmentation
from monai_sam2unet.errors import ConfigError, DataError

__all__ = ["LabelClasses"]

BACKGROUND = "background"
#: In the place of the background's ids: all that are no class.
OTHERS = "others"

Ids = int | str | Sequence[int | str]


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

    Where each class has a file of its own, or is a segment of a DICOM segmentation, their names count instead of
    numbers: the class's own, or those that ``label_ids`` has for it, beside numbers or alone, as
    ``{"kidneys": ["Left kidney", "Right kidney"]}``. Other files and segments are refused unless they are background.

    Raises:
        ConfigError: When names are not different texts, ``label_ids`` has other names or leaves a class out, or a
            number is not whole, or a number or name is of two classes.

    Example:
        >>> classes = LabelClasses(["spleen", "liver"], {"spleen": 1, "liver": [5, 6], "background": [2]})
        >>> classes.to_classes(torch.tensor([0, 1, 2, 5, 6])).tolist()
        [0, 1, 0, 2, 2]
        >>> classes.to_classes(torch.tensor([7]), "label.nii.gz")
        Traceback (most recent call last):
        ...
        monai_sam2unet.errors.DataError: label.nii.gz holds the numbers 7, which are no class...
    """

    def __init__(self, class_names: Sequence[str], label_ids: Mapping[str, Ids] | None = None) -> None:
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
        told = {BACKGROUND: () if self.drops_others else background, **{name: given.get(name, ()) for name in names}}
        ids = [self._ids(name, own) for name, own in told.items()]
        numbers = [[own for own in listed if isinstance(own, int)] for listed in ids]
        if not any(numbers[1:]):
            numbers[1:] = [[index] for index in range(1, len(names) + 1)]
        texts = [[own for own in listed if isinstance(own, str)] for listed in ids]
        texts[1:] = [own or [name] for own, name in zip(texts[1:], names, strict=True)]
        self.ids: dict[int, int] = {0: 0}
        self.names: dict[str, int] = {}
        for index, name in enumerate(told):
            twice = [str(one) for one in numbers[index] if self.ids.setdefault(one, index) != index]
            twice += [one for one in texts[index] if self.names.setdefault(one, index) != index]
            if twice:
                raise ConfigError(f"label_ids: {twice[0]} is that of two classes, one of them {name}.")

    @staticmethod
    def _ids(name: str, given: Any) -> tuple[int | str, ...]:
        ids = ensure_tuple(given)
        # A number in quotes is meant as a number.
        texts = [own for own in ids if isinstance(own, str) and own.strip() and not own.strip().isdigit()]
        if not all(own in texts or (isinstance(own, int) and not isinstance(own, bool)) for own in ids) or (
            name == BACKGROUND and isinstance(given, str)
        ):
            kinds = f"a list of such{f', or {OTHERS!r}' if name == BACKGROUND else ', or names of files or segments'}"
            raise ConfigError(f"label_ids: {name} must be a whole number or {kinds}, got {given!r}.")
        return ids

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

    def of_files(self, paths: Sequence[PathLike]) -> dict[Path, int]:
        """The class of each file, where each class has its own.

        Args:
            paths: the files.

        Returns:
            Class indices, in their order; files that are background are left out.

        Raises:
            DataError: When a class has no file; or a file is called as no class, and others are not background.
        """
        files = {re.sub(r"\.nii(\.gz)?$", "", Path(path).name): Path(path) for path in paths}
        folder = Path(paths[0]).parent
        found = {files[name]: index for name, index in self._of_names(list(files), f"{folder} has files").items()}
        missing = [name for index, name in enumerate(self.class_names, 1) if index not in found.values()]
        if missing:
            raise DataError(f"{folder} has no file for the classes {', '.join(missing)}.")
        return dict(sorted(found.items(), key=lambda item: item[1]))

    def of_segments(self, segmentation: DicomSegmentation) -> dict[int, int]:
        """The class of each segment of a DICOM segmentation, by SegmentLabel; a class may have none, or several.

        Args:
            segmentation: whose segments they are.

        Returns:
            Class indices by SegmentNumber; segments that are background are left out.

        Raises:
            DataError: When a segment is called as no class, and others are not background; or none is a class.
        """
        segments = [segment for segment in segmentation.segments.values() if not segment.is_background]
        indices = self._of_names([segment.label for segment in segments], f"{segmentation.path} has segments")
        found = {segment.number: indices[segment.label] for segment in segments if segment.label in indices}
        if not found:
            raise DataError(
                f"{segmentation.path} has no segment that is a class. Its segments are "
                f"{', '.join(segment.label for segment in segments) or 'none'}; the classes {', '.join(self.names)}."
            )
        return found

    def _of_names(self, found: Sequence[str], where: str) -> dict[str, int]:
        """Class indices of names, without those that are background."""
        others = [name for name in found if name not in self.names]
        if others and not self.drops_others:
            raise DataError(
                f"{where} that are no class, as {', '.join(others[:5])}. The classes are called "
                f"{', '.join(name for name, index in self.names.items() if index)}; say with label_ids which of them "
                f"these are, {{CLASS: NAME}}, or that they are background: label_ids {{{BACKGROUND}: {OTHERS}}}."
            )
        return {name: index for name in found if (index := self.names.get(name, 0))}

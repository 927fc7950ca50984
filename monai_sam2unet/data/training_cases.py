# SPDX-License-Identifier: Apache-2.0
"""What a network was trained on, chosen by and given: kept beside its checkpoint, where evaluations look."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from monai_sam2unet.data.holds_network import holds_network
from monai_sam2unet.errors import CheckpointError
from monai_sam2unet.weights_folder import local_weights

__all__ = ["TrainingCases", "case_digests", "case_sha256"]

logger = logging.getLogger(__name__)

#: Of the parts of :class:`TrainingCases`, what they mean for a case.
_PARTS = {
    "training": "trained on",
    "validation": "chosen by (validation)",
    "earlier": "known to the weights that the training started from",
}
_CHUNK = 2**20
_NUM_THREADS = 8


def case_sha256(image: str | Path | Sequence[str | Path]) -> str:
    """Tell an image by the bytes of its file, wherever it lies and whatever it is called.

    Args:
        image: a file; the folder of a DICOM series; or several.

    Returns:
        SHA-256, 64 hexadecimal digits; of several files, that of their sorted digests. An image that was saved anew, in
        another format say, has another one.

    Raises:
        OSError: When a file cannot be read.
    """
    digests = [
        _file_sha256(file)
        for path in map(Path, [image] if isinstance(image, (str, Path)) else image)
        for file in ([found for found in path.rglob("*") if found.is_file()] if path.is_dir() else [path])
    ]
    return digests[0] if len(digests) == 1 else hashlib.sha256("".join(sorted(digests)).encode()).hexdigest()


def _file_sha256(file: Path) -> str:
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while chunk := opened.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()


def _name(item: Mapping[str, Any], root: Path) -> str:
    """What a case is called: its path below the folder of the data, or its set and file where it lies elsewhere."""
    image = item["image"]
    path = Path(os.path.normpath(image if isinstance(image, (str, Path)) else image[0]))
    for folder, file in ((root, path), (root.resolve(), path.resolve())):
        if file.is_relative_to(folder):
            return file.relative_to(folder).as_posix()
    return f"{item.get('dataset', path.parent.name)}/{path.name}"


@dataclass(frozen=True)
class TrainingCases:
    """The cases of a training.

    Attributes:
        training: names of the cases trained on, by SHA-256 of their images; names are paths below the folder of the
            data. Files of the same bytes are one case.
        validation: the same of the cases held out, by which the best epoch was chosen.
        fold: which part was left out; None: none.
        num_folds: number of such parts; None: none was left out.
        earlier: as ``training``, all cases of the checkpoint that the training started from, where it was one of ours.
        unknown: names of the networks' files that the weights came from and that have no such file beside them: these
            cases are then not all that the weights know.
        settings: how images came to the network, which predictions repeat: ``spatial_size`` and the like, by the keys
            of the bundles' configs; empty where that was not noted.
    """

    training: dict[str, str]
    validation: dict[str, str]
    fold: int | None = None
    num_folds: int | None = None
    earlier: dict[str, str] = field(default_factory=dict)
    unknown: tuple[str, ...] = ()
    settings: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_items(
        cls,
        training: Sequence[Mapping[str, Any]],
        validation: Sequence[Mapping[str, Any]],
        dataset_dir: str | Path,
        fold: int | None = None,
        num_folds: int | None = None,
        weights: str | Path | None = None,
        settings: Mapping[str, Any] | None = None,
    ) -> TrainingCases:
        """Read the images of a training once, and note what they are.

        Args:
            training: cases with ``image``, a path or several.
            validation: the same.
            dataset_dir: folder of the data, or the JSON file that lists them.
            fold: as in :class:`TrainingCases`.
            num_folds: number of the parts, whether one is left out or not.
            weights: what the training starts from, as networks take it; where it is a checkpoint with such a file, its
                cases are known, too. Of a network without one a warning says that they are not.
            settings: as in :class:`TrainingCases`.

        Raises:
            CheckpointError: When the file beside the weights cannot be read.
            OSError: When an image cannot be read.
        """
        first, second = (dict(case_digests(items, dataset_dir)) for items in (training, validation))
        # The file that the network loads, too.
        start = None if weights in (None, "random") else local_weights(weights)
        before = None if start is None else cls.of_checkpoint(start)
        unknown = start is not None and before is None and holds_network(start)
        if start is not None and unknown:
            logger.warning(
                f"What {start} was trained on is not known, for there is no {cls.path_of(start).name} beside it: an "
                "evaluation of what is trained from it cannot refuse those cases."
            )
        names = (start.name,) if start is not None and unknown else ()
        left_out = None if fold is None else num_folds
        cases = cls(first, second, fold, left_out, unknown=names, settings=dict(settings or {}))
        return cases if before is None else cases.with_earlier([before])

    @classmethod
    def from_content(cls, content: Any, source: str | Path) -> TrainingCases:
        """What :meth:`content` gave.

        Args:
            content: a mapping.
            source: file that it is from, for the error's text.

        Raises:
            CheckpointError: When it is none of ours.
        """
        try:
            parts = {part: {str(key): str(name) for key, name in content[part].items()} for part in _PARTS}
            # Earlier versions noted neither what is unknown nor settings.
            unknown, settings = tuple(map(str, content.get("unknown", ()))), dict(content.get("settings", {}))
            return cls(
                **parts, fold=content["fold"], num_folds=content["num_folds"], unknown=unknown, settings=settings
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{source} does not say what was trained on ({type(error).__name__}). Train again, or take the file "
                "away."
            ) from error

    def with_earlier(self, others: Iterable[TrainingCases]) -> TrainingCases:
        """The same, of weights that came from those of other trainings, too.

        Example:
            >>> TrainingCases({"ab": "1.png"}, {}).with_earlier([TrainingCases({}, {"cd": "2.png"})]).earlier
            {'cd': '2.png'}
        """
        earlier, unknown = dict(self.earlier), self.unknown
        for other in others:
            earlier |= {**other.earlier, **other.validation, **other.training}
            unknown += other.unknown
        return replace(self, earlier=earlier, unknown=tuple(dict.fromkeys(unknown)))

    def content(self) -> dict[str, Any]:
        """As plain mappings, to be saved."""
        return asdict(self)

    @staticmethod
    def path_of(checkpoint: str | Path) -> Path:
        """The file with the cases of a checkpoint: beside it, and called as it is.

        Example:
            >>> TrainingCases.path_of("models/model.pt").as_posix()
            'models/model.cases.json'
        """
        return Path(checkpoint).with_suffix(".cases.json")

    @classmethod
    def of_checkpoint(cls, checkpoint: str | Path) -> TrainingCases | None:
        """The cases of a checkpoint; None where it has no such file, as those of older trainings.

        Raises:
            CheckpointError: When the file cannot be read.
        """
        path = cls.path_of(checkpoint)
        if not path.is_file():
            return None
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{path}, which says what {checkpoint} was trained on, cannot be read: {error}. Train again, or take "
                "the file away."
            ) from error
        return cls.from_content(content, path)

    def as_json(self) -> str:
        """The text of the file beside a checkpoint."""
        return json.dumps(self.content(), indent=1, ensure_ascii=False) + "\n"

    def uses_of(self, sha256: str) -> list[tuple[str, str]]:
        """How a case was used, and what it was called: nothing for a new one.

        Example:
            >>> TrainingCases({"ab": "images/1.png"}, {"cd": "images/2.png"}).uses_of("cd")
            [('chosen by (validation)', 'images/2.png')]
        """
        return [(told, getattr(self, part)[sha256]) for part, told in _PARTS.items() if sha256 in getattr(self, part)]

    def differences(self, now: TrainingCases) -> list[str]:
        """What another training has otherwise, a line each; none where the fold and the cases are the same.

        What they started from and were given does not count.

        Args:
            now: the other training's.

        Example:
            >>> TrainingCases({"ab": "1.png"}, {}).differences(TrainingCases({}, {"ab": "1.png"}, 0, 5))
            ['fold: none then, 0 of 5 now', '1.png: trained on then, chosen by (validation) now']
        """

        def left_out(cases: TrainingCases) -> str:
            return "none" if cases.fold is None else f"{cases.fold} of {cases.num_folds}"

        def use(cases: TrainingCases, sha256: str) -> str:
            own = [_PARTS[part] for part in ("training", "validation") if sha256 in getattr(cases, part)]
            return " and ".join(own) or "not used"

        names = {**now.training, **now.validation, **self.training, **self.validation}
        told = [(name, use(self, sha256), use(now, sha256)) for sha256, name in names.items()]
        lines = [("fold", left_out(self), left_out(now)), *sorted(told)]
        return [f"{name}: {before} then, {after} now" for name, before, after in lines if before != after]


def case_digests(items: Sequence[Mapping[str, Any]], dataset_dir: str | Path) -> list[tuple[str, str]]:
    """SHA-256 and name of each case.

    Args:
        items: cases with ``image``, a path or several.
        dataset_dir: folder of the data, below which names begin, or the JSON file that lists them.

    Raises:
        OSError: When an image cannot be read.
    """
    root = Path(os.path.normpath(dataset_dir))
    root = root.parent if root.is_file() else root
    with ThreadPoolExecutor(_NUM_THREADS) as pool:
        digests: Iterable[str] = pool.map(lambda item: case_sha256(item["image"]), items)
        return [(digest, _name(item, root)) for digest, item in zip(digests, items, strict=True)]

# SPDX-License-Identifier: Apache-2.0
"""Makes jobs of images as they are found, and says when no more of a series are to be expected."""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from monai_sam2unet.batch.guards import printable
from monai_sam2unet.batch.refused import RefusalKind, Refused
from monai_sam2unet.batch.series_job import SeriesJob, safe_key
from monai_sam2unet.batch.sources.headers import SAME_DIRECTION, BadFile, Header
from monai_sam2unet.errors import listing

__all__ = ["SeriesGroups", "orientation"]

#: A plane is the body's where its normal is within 30 degrees of that axis.
MAIN_AXIS = float(np.cos(np.radians(30)))
PLANES = ("sagittal", "coronal", "axial")


@dataclass
class _Draft:
    """What was found of a series so far; ``last`` counts the files looked at until its newest one."""

    uid: str
    last: int = 0
    images: list[Header] = field(default_factory=list)
    sizes: dict[str, int] = field(default_factory=dict)
    bad: list[BadFile] = field(default_factory=list)


class SeriesGroups:
    """Images by series, handed out as jobs once a series is whole.

    A series may be spread over folders and archives. It counts as whole once ``lookahead`` files were looked at after
    its newest one, so that the first jobs come early. But where images of one series lie in folders that have nothing
    to do with one another, the tree is not ordered by study (as the storage of some archives), and all series wait for
    the end.

    Args:
        lookahead: after how many files without one of its own a series is whole; None for the end only.
        passed_over: counts copies of images.
    """

    def __init__(self, lookahead: int | None, passed_over: Counter[str]) -> None:
        self.lookahead = lookahead
        self.passed_over = passed_over
        self.looked_at = 0
        self.scattered = False
        self.drafts: OrderedDict[tuple[str, Path | None], _Draft] = OrderedDict()
        # Of what was handed out: the images, so that a copy is told from a part that is late.
        self.done: dict[tuple[str, Path | None], frozenset[int]] = {}
        self.late: set[tuple[str, Path | None]] = set()
        self.before: tuple[Path, _Draft] | None = None
        # Bad files that say not which series they belong to, and whether the image before them is of one.
        self.stray: list[tuple[BadFile, bool]] = []
        self.reported: set[Path] = set()

    def add(self, item: Header | BadFile) -> Iterator[SeriesJob | Refused]:
        """Take what was found.

        Args:
            item: an image, or a file that should be one, in the order of the walk.

        Yields:
            What is refused for it.
        """
        if isinstance(item, BadFile):
            yield from self._add_bad(item)
            return
        key = (item.series_uid, None if item.series_uid else item.path.parent)
        if key in self.done:
            yield from self._add_late(key, item)
            return
        draft = self.drafts.setdefault(key, _Draft(item.series_uid))
        self.drafts.move_to_end(key)
        draft.last = self.looked_at
        if item.instance_uid and draft.sizes.get(item.instance_uid) == item.size:
            self.passed_over["a copy of an image"] += 1
        else:
            draft.sizes[item.instance_uid] = item.size
            if draft.images and not _near(draft.images[0].path.parent, item.path.parent):
                self.scattered = True
            draft.images.append(item)
        if self.stray and self.stray[-1][0].path.parent == item.path.parent:
            if self.before is None or self.before[1] is not draft:
                draft.bad += [bad for bad, _ in self.stray]
            self.stray = []
        else:
            yield from self._leave_stray()
        self.before = (item.path.parent, draft)

    def looked(self) -> Iterator[SeriesJob | Refused]:
        """Count one more file, of any kind.

        Yields:
            Jobs of series that are whole now.
        """
        self.looked_at += 1
        if self.lookahead is None or self.scattered:
            return
        while self.drafts:
            key, draft = next(iter(self.drafts.items()))
            if self.looked_at - draft.last <= self.lookahead:
                return
            del self.drafts[key]
            yield from self._hand_out(key, draft)

    def finish(self) -> Iterator[SeriesJob | Refused]:
        """All files were looked at.

        Yields:
            Jobs of the series that are left.
        """
        yield from self._leave_stray()
        while self.drafts:
            yield from self._hand_out(*self.drafts.popitem(last=False))

    def _add_bad(self, item: BadFile) -> Iterator[Refused]:
        if item.series_uid:
            key = (item.series_uid, None)
            if key in self.done:
                yield Refused(printable(item.path), item.reason, item.series_uid, RefusalKind.LOST)
                return
            draft = self.drafts.setdefault(key, _Draft(item.series_uid))
            self.drafts.move_to_end(key)
            draft.last = self.looked_at
            draft.bad.append(item)
            return
        if self.stray and self.stray[-1][0].path.parent != item.path.parent:
            yield from self._leave_stray()
        # The images before and after it in its folder show which series it may belong to.
        owned = self.before is not None and self.before[0] == item.path.parent
        if self.before is not None and owned:
            self.before[1].bad.append(item)
        self.stray.append((item, owned))

    def _leave_stray(self) -> Iterator[Refused]:
        """Bad files after which there is no image in their folder."""
        for item, owned in self.stray:
            if not owned:
                yield Refused(printable(item.path), item.reason, kind=RefusalKind.LOST)
        self.stray = []

    def _add_late(self, key: tuple[str, Path | None], item: Header) -> Iterator[Refused]:
        if hash(item.instance_uid) in self.done[key]:
            self.passed_over["a copy of an image"] += 1
        elif key not in self.late:
            self.late.add(key)
            yield Refused(
                printable(item.path),
                "It belongs to a series that was taken for whole before, since its files lie far apart: what was made "
                "of that series lacks slices. Look through all files first: --whole-tree (lookahead=None).",
                item.series_uid,
                RefusalKind.LOST,
            )

    def _hand_out(self, key: tuple[str, Path | None], draft: _Draft) -> Iterator[SeriesJob | Refused]:
        self.done[key] = frozenset(hash(uid) for uid in draft.sizes)
        if self.before is not None and self.before[1] is draft:
            self.before = None
        volume = [image for image in draft.images if image.normal]
        # No volume is made of slices and overviews; where there are overviews only, they are the series.
        mixed = not all(image.is_localizer for image in volume)
        alone = [image for image in draft.images if not image.normal or (mixed and image.is_localizer)]
        if mixed:
            volume = [image for image in volume if not image.is_localizer]
        if draft.bad and volume:
            first = draft.bad[0]
            why = first.reason.replace(printable(first.path), "it").partition("\n")[0]
            yield Refused(
                _shown(volume[0]),
                f"{len(draft.bad)} of its files cannot be read, so that slices would be missing; take them away if "
                f"they do not belong to it. Of the first one: {why}\n" + listing([item.reason for item in draft.bad]),
                draft.uid,
                RefusalKind.LOST,
            )
        else:
            for item in (item for item in draft.bad if item.path not in self.reported):
                self.reported.add(item.path)
                yield Refused(printable(item.path), item.reason, item.series_uid, RefusalKind.LOST)
            if volume:
                yield _job(volume, safe_key(draft.uid, "" if draft.uid else str(volume[0].path.parent)))
        keys: set[str] = set()
        for image in alone:
            name = safe_key(draft.uid, image.instance_uid or str(image.path))
            if name in keys:
                # The same UID for images that differ: one of them is wrong, but which is not known.
                name = safe_key(draft.uid, f"{image.instance_uid} {image.path}")
            keys.add(name)
            yield _job([image], name)


def _near(one: Path, other: Path) -> bool:
    """Whether folders are the same, lie side by side, or one in the other."""
    return one == other or one.parent == other.parent or one == other.parent or other == one.parent


def _shown(image: Header) -> str:
    return image.series_uid or printable(image.path.parent)


def orientation(normals: Sequence[Sequence[float]]) -> str:
    """The plane of images.

    Args:
        normals: of each image, the unit vector (3,) in LPS at right angles to it.

    Returns:
        One of :data:`monai_sam2unet.batch.series_job.ORIENTATIONS`.

    Example:
        >>> orientation([(0.0, 0.0, 1.0), (0.0, 0.1, 0.995)])
        'mixed'
    """
    first = np.array(normals[0])
    if not all(first @ normal > SAME_DIRECTION for normal in normals):
        return "mixed"
    axis = int(np.argmax(np.abs(first)))
    return PLANES[axis] if abs(first[axis]) >= MAIN_AXIS else "oblique"


def _job(images: list[Header], key: str) -> SeriesJob:
    first = images[0]
    plane = orientation([image.normal for image in images]) if first.normal else ""
    return SeriesJob(
        key=key,
        series_uid=first.series_uid,
        study_uid=first.study_uid,
        modality=first.modality,
        description=first.description,
        files=tuple(image.path for image in images),
        slices=sum(image.frames for image in images),
        size_bytes=sum(image.size for image in images),
        orientation=plane if all(image.same_normal for image in images) else "mixed",
        image_type=first.image_type,
        body_part=first.body_part,
        archives=tuple(dict.fromkeys(image.archive for image in images if image.archive is not None)),
    )

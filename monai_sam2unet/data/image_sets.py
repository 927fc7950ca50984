# SPDX-License-Identifier: Apache-2.0
"""Finds sets of images and masks in the folder layouts of public data sets, and pairs them by stem."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from monai_sam2unet.errors import ConfigError, DataError, listing

__all__ = [
    "IMAGE_SUFFIXES",
    "files_by_stem",
    "find_sets",
    "given_sets",
    "list_images",
    "match_by_stem",
    "other_files",
    "pair_by_stem",
    "read_split",
    "stem_below",
]

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")
# Kvasir-SEG and PraNet; PraNet's training set; CVC-ClinicDB as distributed; common in others.
IMAGE_FOLDERS = ("images", "image", "original")
PARTS = ("TrainDataset", "TestDataset")
MASK_FOLDERS = ("masks", "mask", "ground truth", "labels")


def _existing(folder: str | Path) -> Path:
    # An argument without a value arrives as True.
    if not isinstance(folder, (str, Path)) or not Path(folder).is_dir():
        raise DataError(f"There is no folder {folder}. Check the path (`--dataset_dir` of a bundle).")
    return Path(folder)


def list_images(folder: str | Path, recursive: bool = False) -> list[Path]:
    """List the image files of a folder, sorted by path, hidden ones left out.

    Args:
        folder: where to look.
        recursive: whether to look in the folders below, too.

    Raises:
        DataError: When there is no such folder, or no image in it.
    """
    folder = _existing(folder)
    images = _files(folder, recursive, known=True)
    if not images:
        raise DataError(f"There are no images in {folder}. Known are the file types {', '.join(IMAGE_SUFFIXES)}.")
    return images


def other_files(folder: str | Path) -> list[Path]:
    """List the files at any depth of a folder that :func:`list_images` passes over, hidden ones left out.

    Raises:
        DataError: When there is no such folder.
    """
    return _files(_existing(folder), recursive=True, known=False)


def _files(folder: Path, recursive: bool, known: bool) -> list[Path]:
    """The files of a folder, images or all others, sorted by path, hidden ones left out."""
    found = folder.rglob("*") if recursive else folder.iterdir()
    return sorted(
        path
        for path in found
        if (path.suffix.lower() in IMAGE_SUFFIXES) == known
        and not any(name.startswith(".") for name in path.relative_to(folder).parts)
        and not path.is_dir()
    )


def stem_below(path: Path, folder: Path) -> str:
    """What an image is called in pairs and splits: its path below a folder, without suffix.

    Example:
        >>> stem_below(Path("set/images/case.12.jpg"), Path("set/images"))
        'case.12'
        >>> stem_below(Path("set/images/part/1.png"), Path("set/images"))
        'part/1'
    """
    return path.relative_to(folder).with_suffix("").as_posix()


def files_by_stem(folder: Path, recursive: bool = False) -> tuple[dict[str, Path], list[str]]:
    """The images of a folder by what they are called in pairs, and a line for each that has another's stem.

    Args:
        folder: where to look.
        recursive: whether to look in the folders below, too.

    Raises:
        DataError: When there is no such folder, or no image in it.
    """
    files: dict[str, Path] = {}
    problems = []
    for path in list_images(folder, recursive):
        stem = stem_below(path, folder)
        if stem in files:
            problems.append(f"{path}: {files[stem].name} has the same stem")
        files[stem] = path
    return files, problems


def match_by_stem(
    image_dir: str | Path, mask_dir: str | Path, stems: Sequence[str] | None = None, recursive: bool = False
) -> tuple[list[dict[str, str]], list[str]]:
    """Pair images and masks whose file names agree up to the suffix, and name those that have no partner.

    Args:
        image_dir: folder of the images.
        mask_dir: folder of the masks.
        stems: which pairs to take, in this order; all, by name, if None. With it, other files may lack a partner.
        recursive: whether to look in the folders below, too; a mask then lies where its image lies.

    Returns:
        Items ``{"image": path, "label": path}``, and a line for each file without a partner, and for each stem that is
        there twice or not at all.

    Raises:
        DataError: When a folder is missing or empty.
    """
    images, problems = files_by_stem(Path(image_dir), recursive)
    masks, mask_problems = files_by_stem(Path(mask_dir), recursive)
    problems += mask_problems
    wanted = sorted(images.keys() | masks.keys()) if stems is None else list(stems)
    for stem in wanted:
        if stem not in images and stem not in masks:
            problems.append(f"{stem}: named in the split, but there is no such image")
        elif stem not in masks:
            problems.append(f"{images[stem]}: no mask of this name in {mask_dir}")
        elif stem not in images:
            problems.append(f"{masks[stem]}: no image of this name in {image_dir}")
    pairs = [stem for stem in wanted if stem in images and stem in masks]
    return [{"image": str(images[stem]), "label": str(masks[stem])} for stem in pairs], problems


def pair_by_stem(
    image_dir: str | Path, mask_dir: str | Path, stems: Sequence[str] | None = None, recursive: bool = False
) -> list[dict[str, str]]:
    """Pair images and masks whose file names agree up to the suffix; all of them, or none.

    Args:
        image_dir: as in :func:`match_by_stem`.
        mask_dir: as there.
        stems: as there.
        recursive: as there.

    Returns:
        Items ``{"image": path, "label": path}``.

    Raises:
        DataError: When a folder is missing or empty, a file has no partner, a stem is there twice or not at all; all
            such files are listed.
    """
    pairs, problems = match_by_stem(image_dir, mask_dir, stems, recursive)
    if problems:
        raise DataError(
            f"{len(problems)} files cannot be paired. Add what is missing, or take them away:\n" + listing(problems)
        )
    return pairs


def _stem(name: str) -> str:
    """A name without its suffix, with its folders, as :func:`stem_below` has it.

    Only a known suffix is taken off: names such as "case.12" have dots of their own.
    """
    if Path(name).suffix.lower() in IMAGE_SUFFIXES:
        return Path(name).with_suffix("").as_posix()
    return name.removesuffix(".gz").removesuffix(".nii") if name.endswith((".nii", ".nii.gz")) else name


def read_split(path: str | Path) -> list[str]:
    """Read a split file: one stem or file name a line, empty lines left out.

    What lies in folders below that of the images is named with them, as ``part/1.png``.

    Raises:
        DataError: When the file is missing, empty or no text, or names a stem twice.
    """
    path = Path(path)
    if not path.is_file():
        raise DataError(f"There is no split file {path}.")
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8-sig").splitlines()]
    except UnicodeDecodeError as error:
        raise DataError(f"The split file {path} is no UTF-8 text.") from error
    stems = [_stem(line) for line in lines if line]
    if not stems:
        raise DataError(f"The split file {path} is empty; it should hold one file name or stem a line.")
    twice = sorted({s for s in stems if stems.count(s) > 1}) if len(set(stems)) < len(stems) else []
    if twice:
        raise DataError(f"The split file {path} names some images twice:\n{listing(twice)}")
    return stems


def _pair_folders(folder: Path) -> tuple[Path, Path] | None:
    """The folders of images and of masks directly below a folder, if there are both."""
    below = {p.name.lower(): p for p in sorted(folder.iterdir()) if p.is_dir()}
    images = [below[name] for name in IMAGE_FOLDERS if name in below]
    masks = [below[name] for name in MASK_FOLDERS if name in below]
    return (images[0], masks[0]) if images and masks else None


def find_sets(dataset_dir: str | Path, part: str | None = None) -> dict[str, tuple[Path, Path]]:
    """Find the sets of images and masks in a folder.

    Known are a folder of images beside one of masks (``images`` or ``image`` or ``Original``; ``masks`` or ``mask`` or
    ``Ground Truth`` or ``labels``), as Kvasir-SEG and CVC-ClinicDB are distributed; several such sets, each in a folder
    of its own; and PraNet's layout, ``TrainDataset/image|images, mask|masks`` beside
    ``TestDataset/<set>/images, masks``.

    Args:
        dataset_dir: the folder.
        part: ``"TrainDataset"`` or ``"TestDataset"``: which part to take where the folder has PraNet's layout.

    Returns:
        For each set, by name, its folder of images and its folder of masks.

    Raises:
        DataError: When the folder is missing, there is no such set in it, or it has only the other part of PraNet's
            layout.
    """
    root = _existing(dataset_dir)
    folder = root / part if part is not None and (root / part).is_dir() else root
    if part is not None and folder == root and any((root / other).is_dir() for other in PARTS):
        raise DataError(f"{root} has PraNet's layout, but no folder {part}, which is wanted here.")
    own = _pair_folders(folder)
    if own is not None:
        return {folder.name if folder != root else root.resolve().name: own}
    sets = {p.name: pair for p in sorted(folder.iterdir()) if p.is_dir() and (pair := _pair_folders(p)) is not None}
    if not sets:
        below = sorted(p.name for p in folder.iterdir())
        raise DataError(
            f"There are no images with masks in {folder}. Expected are the folders `images` and `masks` in it, or in "
            "folders below it, or PraNet's `TrainDataset` and `TestDataset`. It holds:"
            f"\n{listing(below or ['nothing'])}"
        )
    return sets


def given_sets(
    dataset_dir: str | Path, folders: Mapping[str, Mapping[str, str | Path]]
) -> dict[str, tuple[Path, Path]]:
    """Sets whose folders are named one by one, for the layouts that :func:`find_sets` does not know.

    Args:
        dataset_dir: the folder that the others are below.
        folders: for each set, by name, ``{"images": FOLDER, "masks": FOLDER}``. They need not exist: not every set is
            used in every run.

    Returns:
        For each set, by name, its folder of images and its folder of masks.

    Raises:
        ConfigError: When there is no set, or one has not exactly these two folders.
        DataError: When ``dataset_dir`` is missing.

    Example:
        >>> given_sets(".", {"ECSSD": {"images": "ECSSD/images", "masks": "ECSSD/ground_truth_mask"}})["ECSSD"][1]
        PosixPath('ECSSD/ground_truth_mask')
    """
    root = _existing(dataset_dir)
    expected = "Expected is {NAME: {images: FOLDER, masks: FOLDER}, ...}."
    if not isinstance(folders, Mapping) or not folders:
        raise ConfigError(f"The folders of the sets are given as {folders!r}. {expected}")
    for name, pair in folders.items():
        given = isinstance(pair, Mapping) and set(pair) == {"images", "masks"}
        if not given or not all(isinstance(folder, (str, Path)) for folder in pair.values()):
            raise ConfigError(f"The folders of the set {name} are given as {pair!r}. {expected}")
    return {name: (root / pair["images"], root / pair["masks"]) for name, pair in folders.items()}

# SPDX-License-Identifier: Apache-2.0
"""Where published weights are found: a file, a folder of one's own, or the Hugging Face hub and its cache."""

from __future__ import annotations

import os
import re
from pathlib import Path

from monai_sam2unet.errors import WeightsError
from monai_sam2unet.networks.hiera import HIERA_SPECS
from monai_sam2unet.weights_folder import VERSIONS, WEIGHTS_VARIABLE, local_weights, weights_folder

__all__ = ["VERSIONS", "WEIGHTS_VARIABLE", "download_weights", "find_weights", "hub_id", "weights_folder"]

SUFFIXES = (".pt", ".pth", ".safetensors")
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
META_ID = re.compile(r"facebook/(sam2(?:\.1)?)-hiera-([\w-]+)")


def hub_id(size: str, version: str = "sam2.1") -> str:
    """Name of Meta's repository on the Hugging Face hub.

    Args:
        size: ``"tiny"``, ``"small"``, ``"base_plus"`` or ``"large"``.
        version: ``"sam2"`` or ``"sam2.1"``.

    Raises:
        WeightsError: When ``size`` or ``version`` is not one of these.

    Example:
        >>> hub_id("base_plus")
        'facebook/sam2.1-hiera-base-plus'
    """
    if size not in HIERA_SPECS:
        raise WeightsError(f"There are no weights of size {size!r}; choose one of {', '.join(HIERA_SPECS)}.")
    if version not in VERSIONS:
        raise WeightsError(f"There are no weights of version {version!r}; choose one of {', '.join(VERSIONS)}.")
    return f"facebook/{version}-hiera-{size.replace('_', '-')}"


def download_weights(repo_id: str) -> Path:
    """Fetch a hub repository's weights into the hub's cache, or find them there.

    The file is ``model.safetensors``; Meta's repositories that lack it have the same weights as ``sam2_hiera_SIZE.pt``.
    A connection that closes too early is taken up where it broke; what else breaks off is fetched anew by the next
    call. ``HF_HOME`` moves the cache, ``HF_ENDPOINT`` names a mirror.

    Args:
        repo_id: ``owner/name`` on the Hugging Face hub.

    Returns:
        The path of the file in the cache.

    Raises:
        WeightsError: When the file is neither cached nor can be fetched; the text says how to go on without a network.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    meta = META_ID.fullmatch(repo_id)
    try:
        try:
            return Path(hf_hub_download(repo_id, "model.safetensors"))
        except EntryNotFoundError as error:
            if meta is None:
                raise
            checkpoint = f"{meta[1]}_hiera_{meta[2].replace('-', '_')}.pt"
            if not isinstance(error, LocalEntryNotFoundError):
                return Path(hf_hub_download(repo_id, checkpoint))
            cached = try_to_load_from_cache(repo_id, checkpoint)
            if not isinstance(cached, str):
                raise
            return Path(cached)
    except Exception as error:  # the hub's client passes on its HTTP library's errors, which differ between versions
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise WeightsError(
            f"The weights {repo_id} could not be fetched from the Hugging Face hub ({reason}).\n"
            "Without a network, bring the file by other means and give its path in place of the name,\n"
            f"or set the environment variable {WEIGHTS_VARIABLE} to that file or to the folder it is in\n"
            "(as sam2.1_hiera_SIZE.pt, sam2_hiera_SIZE.pt, or the same with .safetensors)."
        ) from error


def find_weights(source: str | Path, size: str) -> Path:
    """Turn what a user gives as ``weights`` into a file.

    Args:
        source: a file's path; or ``"sam2"`` or ``"sam2.1"``, Meta's encoder of the given size, from
            ``SAM2UNET_WEIGHTS``, ``~/.cache/monai_sam2unet`` or the hub; or the name of a ``.safetensors`` file in that
            folder; or a hub repository, ``owner/name``.
        size: the encoder's size.

    Returns:
        The path of an existing file.

    Raises:
        WeightsError: When no file is found; the text names the places.
    """
    name = str(source)
    if name in VERSIONS:
        repo_id = hub_id(size, name)
        folder = weights_folder()
        if WEIGHTS_VARIABLE in os.environ and not folder.exists():
            raise WeightsError(f"{WEIGHTS_VARIABLE} names {folder}, which does not exist. Correct or unset it.")
        if folder.is_file():
            return folder
        for suffix in SUFFIXES:
            candidate = folder / f"{name}_hiera_{size}{suffix}"
            if candidate.is_file():
                return candidate
        return download_weights(repo_id)
    path = local_weights(source)
    if path is not None:
        return path
    if HUB_ID.fullmatch(name) and Path(name).suffix not in SUFFIXES:
        return download_weights(name)
    raise WeightsError(
        f"There is no weights file {name}. Give the path of a file ({', '.join(SUFFIXES)}), one of the names "
        f"{', '.join(VERSIONS)}, that of a .safetensors file in {weights_folder()}, or a repository of the Hugging "
        "Face hub such as facebook/sam2.1-hiera-large. To start from random weights, give `random`."
    )

# SPDX-License-Identifier: Apache-2.0
# ruff: noqa: E402
"""The MONAI Label app: a model for each bundle. An app folder's ``main.py`` imports :class:`SAM2UNetApp` from here."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser

from monai_sam2unet.label import compat

# The process of a training loads the app without the server, which applies it, too.
compat.apply()

from monailabel.config import settings
from monailabel.datastore.dicom import DICOMWebDatastore
from monailabel.datastore.local import LocalDatastore
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.utils.async_tasks.utils import tasks as background_tasks

from monai_sam2unet import __version__
from monai_sam2unet.bundle.bundle_config import TRAINED, has_weights
from monai_sam2unet.errors import ConfigError, listing
from monai_sam2unet.label.bundle_infer_task import BundleInferTask
from monai_sam2unet.label.dice_scoring import DiceScoring
from monai_sam2unet.label.epistemic_scoring import EpistemicScoring
from monai_sam2unet.label.epistemic_strategy import EpistemicStrategy

__all__ = ["SAM2UNetApp", "find_bundles"]

#: Files of a studies folder that MONAI Label's settings do not name, but the presets read.
MORE_FILES = ("*.jpeg", "*.tiff", "*.bmp", "*.mha", "*.dcm")


def _is_bundle(folder: Path) -> bool:
    return (folder / "configs" / "inference.yaml").is_file()


def find_bundles(root: Path, names: str | None = None) -> list[Path]:
    """The bundles to run.

    Args:
        root: folder of bundles.
        names: of those to take, or the words before their first underscore (``"polyp,cardiac"``), or paths, commas
            between them; None: all with weights.

    Raises:
        ConfigError: When there is none, or one that is named is missing or has no weights.
    """
    known = {path.name: path for path in sorted(root.iterdir()) if _is_bundle(path)} if root.is_dir() else {}
    if names is None:
        found = [path for path in known.values() if has_weights(path)]
        if not found:
            raise ConfigError(f"No bundle in {root.absolute()} has weights ({TRAINED}). Train one, or name others.")
        return found
    found, problems = [], []
    for name in filter(None, (word.strip() for word in names.split(","))):
        fits = [path for key, path in known.items() if name in (key, key.split("_")[0])]
        fits = fits or [Path(name)] * _is_bundle(Path(name))
        if len(fits) != 1:
            problems.append(f"{name}: " + (f"may be {', '.join(path.name for path in fits)}" if fits else "no bundle"))
        elif not has_weights(fits[0]):
            problems.append(f"{name}: no weights ({fits[0] / TRAINED}); train it first")
        else:
            found += fits
    if problems:
        told = f"{root.absolute()} has {', '.join(known) or 'none'}"
        raise ConfigError(f"Not all bundles can be run; {told}:\n{listing(problems)}")
    return found


class SAM2UNetApp(MONAILabelApp):
    """Bundles as models of MONAI Label: pictures and volumes.

    Args:
        app_dir: the app's folder.
        studies: folder of images, or the address of a DICOMweb store.
        conf: MONAI Label's ``--conf``: ``bundles``, a folder of bundles (else ``bundles``); ``models``, as the names of
            :func:`find_bundles`; and keys of the bundles' inference configs (``encoder_size tiny``), for all that have
            the key.

    Raises:
        ConfigError: When there is no bundle to run, or one cannot be run.
    """

    def __init__(self, app_dir: str, studies: str, conf: Mapping[str, str]) -> None:
        self.folders = find_bundles(Path(conf.get("bundles", "bundles")), conf.get("models"))
        super().__init__(
            app_dir=app_dir,
            studies=studies,
            conf=dict(conf),
            name=f"SAM2-UNet ({__version__})",
            description="Segmentation of medical images by SAM2-UNet",
            version=__version__,
        )
        # MONAI Label would run all scoring tasks when it starts and at each image; ours run when they are of use.
        self._auto_update_scoring = False

    def init_datastore(self) -> Datastore:
        """The studies, a folder or a DICOMweb store."""
        if self.studies.startswith(("http://", "https://")):
            return super().init_datastore()
        return LocalDatastore(
            self.studies,
            extensions=[*settings.MONAI_LABEL_DATASTORE_FILE_EXT, *MORE_FILES],
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def _download_dcmqi_tools(self) -> None:
        """Takes from its package what MONAI Label would download, to send labels to a DICOMweb store."""
        import dcmqi

        os.environ["PATH"] += os.pathsep + str(Path(dcmqi.__file__).parent / "bin")

    def init_infers(self) -> dict[str, InferTask]:
        """One for each bundle, called as its folder."""
        return {folder.name: BundleInferTask(folder, self._settings(folder)) for folder in self.folders}

    def _settings(self, folder: Path) -> dict[str, Any]:
        keys = ConfigParser.load_config_file(folder / "configs" / "inference.yaml")
        return {key: yaml.safe_load(value) for key, value in self.conf.items() if key in keys}

    def init_strategies(self) -> dict[str, Strategy]:
        """Which image comes next: a random one, the first without a label, or that which a bundle is most unsure of."""
        unsure = {name: EpistemicStrategy(scoring) for name, scoring in self._epistemic.items()}
        return {"random": Random(), "first": First(), **unsure}

    @cached_property
    def _epistemic(self) -> dict[str, EpistemicScoring]:
        names = [folder.name for folder in self.folders]
        return {f"{name}_epistemic": EpistemicScoring(self._infers[name]) for name in names}

    def init_scoring_methods(self) -> dict[str, ScoringMethod]:
        """Dice of the models' masks; and for each bundle how unsure it is of the images."""
        tasks = {folder.name: self._infers[folder.name] for folder in self.folders}
        return {"dice": DiceScoring(tasks), **self._epistemic}

    def next_sample(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """The image to label next; scores that a strategy lacks are made in the background.

        Raises:
            MONAILabelException: When there is no such strategy.
            UserError: When the bundle of the strategy can read no image, or has no weights that fit.
        """
        strategy = request.get("strategy") or "random"
        if strategy not in self._strategies:
            told = f"There is no strategy {strategy!r}; there are {', '.join(self._strategies)}."
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, told)
        found: dict[str, Any] = super().next_sample({**request, "strategy": strategy})
        wanted = settings.MONAI_LABEL_AUTO_UPDATE_SCORING and self._server_mode
        if found.get("unscored") and wanted and not self._is_scoring(strategy):
            self.async_scoring(strategy)
        return found

    @staticmethod
    def _is_scoring(method: str) -> bool:
        under_way = [task for task in background_tasks("scoring") if task["status"] in ("SUBMITTED", "RUNNING")]
        return any(task["request"].get("method") == method for task in under_way)

    def scoring(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a scoring task.

        Raises:
            MONAILabelException: When there is none of this name.
            UserError: As the task says.
        """
        method = request.get("method")
        if method not in self._scoring_methods:
            told = f"There is no scoring task {method!r}; there are {', '.join(self._scoring_methods)}."
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, told)
        found: dict[str, Any] = super().scoring(request, datastore)
        return found

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Masks of an image, as MONAI Label asks for them.

        Raises:
            MONAILabelException: When there is no such model.
            ImageNotFoundException: When there is no such image.
            UserError: When the image cannot be read, or the weights do not fit.
        """
        model, image = request.get("model"), request.get("image")
        if model not in self._infers:
            told = f"There is no model {model!r}; there are {', '.join(self._infers)}."
            raise MONAILabelException(MONAILabelError.INVALID_INPUT, told)
        if isinstance(image, str) and not Path(image).exists():
            self._check_image(image, datastore or self.datastore())
        return super().infer(request, datastore)

    @staticmethod
    def _check_image(image: str, store: Datastore) -> None:
        if isinstance(store, DICOMWebDatastore):
            # Viewers may ask for series that the search filter leaves out of the list.
            if not store._client.search_for_series(search_filters={"SeriesInstanceUID": image}):
                raise ImageNotFoundException(f"There is no series {image!r} in the DICOMweb store.")
        elif not store.get_image_uri(image):
            raise ImageNotFoundException(f"There is no image {image!r} among the {len(store.list_images())} studies.")

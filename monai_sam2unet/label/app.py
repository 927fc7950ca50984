# SPDX-License-Identifier: Apache-2.0
"""The MONAI Label app: a model for each bundle. An app folder's ``main.py`` imports :class:`SAM2UNetApp` from here."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import yaml
from monai.bundle import ConfigParser
from monailabel.config import settings
from monailabel.interfaces.app import MONAILabelApp
from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.exception import ImageNotFoundException, MONAILabelError, MONAILabelException
from monailabel.interfaces.tasks.infer_v2 import InferTask, InferType
from monailabel.interfaces.tasks.scoring import ScoringMethod
from monailabel.interfaces.tasks.strategy import Strategy
from monailabel.interfaces.tasks.train import TrainTask
from monailabel.tasks.activelearning.first import First
from monailabel.tasks.activelearning.random import Random
from monailabel.utils.async_tasks.utils import tasks as background_tasks
from monailabel.utils.others.generic import strtobool

from monai_sam2unet import __version__
from monai_sam2unet.errors import ConfigError, UserError
from monai_sam2unet.label.archive import share_account
from monai_sam2unet.label.bundle_infer_task import KEPT, BundleInferTask
from monai_sam2unet.label.bundle_train_task import BundleTrainTask
from monai_sam2unet.label.dice_scoring import DiceScoring
from monai_sam2unet.label.dicomweb_store import DicomwebStore
from monai_sam2unet.label.epistemic_scoring import EpistemicScoring
from monai_sam2unet.label.epistemic_strategy import EpistemicStrategy
from monai_sam2unet.label.find_bundles import find_bundles
from monai_sam2unet.label.folder_store import FolderStore
from monai_sam2unet.label.interactive_infer_task import InteractiveInferTask
from monai_sam2unet.label.known_images import KnownImages
from monai_sam2unet.label.model_classes import ModelClasses

__all__ = ["SAM2UNetApp"]

logger = logging.getLogger(__name__)

#: Files of a studies folder that MONAI Label's settings do not name, but the presets read.
MORE_FILES = ("*.jpeg", "*.tiff", "*.bmp", "*.mha", "*.dcm")

#: Series of a PACS that are scored after one request for the next image.
SCORED_OF_PACS = 20


def _check_known(kind: str, name: Any, known: Collection[str], purpose: str = "") -> None:
    if name not in known:
        told = f"There is no {kind} {name!r}{purpose}; there are {', '.join(known) or 'none'}."
        raise MONAILabelException(MONAILabelError.INVALID_INPUT, told)


class SAM2UNetApp(MONAILabelApp):
    """Bundles as models of MONAI Label: pictures and volumes.

    Args:
        app_dir: the app's folder.
        studies: folder of images, or the address of a DICOMweb store.
        conf: MONAI Label's ``--conf``: ``bundles``, a folder of bundles (else ``bundles``); ``models``, as the names of
            :func:`find_bundles`; ``preload``, ``true`` to load all weights at the start; and keys of the bundles'
            inference configs (``encoder_size tiny``), for all that have the key.

    Raises:
        ConfigError: When there is no bundle to run, or one cannot be run.
    """

    studies: str

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
            self.studies = self.studies.rstrip("/")
            return self.init_remote_datastore()
        return FolderStore(
            self.studies,
            self._classes(),
            extensions=[*settings.MONAI_LABEL_DATASTORE_FILE_EXT, *MORE_FILES],
            auto_reload=settings.MONAI_LABEL_DATASTORE_AUTO_RELOAD,
            read_only=settings.MONAI_LABEL_DATASTORE_READ_ONLY,
        )

    def _init_dicomweb_datastore(self) -> Datastore:
        share_account(settings)
        return DicomwebStore(
            self.studies,
            self._classes(),
            settings.MONAI_LABEL_DICOMWEB_SEARCH_FILTER,
            settings.MONAI_LABEL_DICOMWEB_CACHE_PATH.strip() or None,
        )

    def _classes(self) -> list[ModelClasses]:
        return [ModelClasses.of(folder, self._settings(folder)) for folder in self.folders]

    def init_infers(self) -> dict[str, InferTask]:
        """For each bundle one called as its folder, and two that follow clicks (``_edit``) and ``_scribbles``."""
        try:
            preload = strtobool(self.conf.get("preload"))
        except ValueError as error:
            raise ConfigError(f"preload must be true or false, got {self.conf['preload']!r}.") from error
        tasks: dict[str, InferTask] = {}
        for folder in self.folders:
            task, known = BundleInferTask(folder, self._settings(folder), preload), KnownImages()
            tasks[folder.name] = task
            tasks[f"{folder.name}_edit"] = InteractiveInferTask(task, known, InferType.DEEPEDIT)
            tasks[f"{folder.name}_scribbles"] = InteractiveInferTask(task, known, InferType.SCRIBBLES)
        return tasks

    def init_trainers(self) -> dict[str, TrainTask]:
        """One for each bundle, called as its folder."""
        return {folder.name: BundleTrainTask(folder, self._settings(folder)) for folder in self.folders}

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
        _check_known("strategy", strategy, self._strategies)
        found: dict[str, Any] = super().next_sample({**request, "strategy": strategy})
        wanted = settings.MONAI_LABEL_AUTO_UPDATE_SCORING and self._server_mode
        if found.get("unscored") and wanted and not self._is_scoring(strategy):
            # Of a PACS all that is scored is fetched first.
            bound = {"max_samples": SCORED_OF_PACS} if isinstance(self.datastore(), DicomwebStore) else {}
            self.async_scoring(strategy, {strategy: bound})
        return found

    @staticmethod
    def _is_scoring(method: str) -> bool:
        under_way = [task for task in background_tasks("scoring") if task["status"] in ("SUBMITTED", "RUNNING")]
        return any(task["request"].get("method") == method for task in under_way)

    def check_scoring(self, method: Any, params: Mapping[str, Any] | None = None) -> None:
        """Look whether there is a scoring task, and can be run as asked for, as far as that is known before.

        Args:
            method: its name.
            params: of the task.

        Raises:
            MONAILabelException: When there is none.
            ConfigError: When a parameter is not as it must be.
        """
        _check_known("scoring task", method, self._scoring_methods)
        task = self._scoring_methods[method]
        if isinstance(task, DiceScoring):
            task.check(params or {}, self.datastore())

    def scoring(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Run a scoring task.

        Raises:
            MONAILabelException: When there is none of this name.
            UserError: As the task says.
        """
        self.check_scoring(request.get("method"))
        found: dict[str, Any] = super().scoring(request, datastore)
        return found

    def trainer(self, model: str) -> TrainTask:
        """What trains a model.

        Args:
            model: its name.

        Raises:
            MONAILabelException: When there is none.
        """
        _check_known("model", model, self._trainers, " to train")
        return self._trainers[model]

    def info(self) -> dict[str, Any]:
        """What viewers are told; of the trainings the latest comes first, for 3D Slicer shows that one."""
        found: dict[str, Any] = super().info()
        stats = sorted(found["train_stats"].items(), key=lambda item: -item[1].get("start_ts", 0))
        return {**found, "train_stats": dict(stats)}

    def check_model(self, model: Any) -> None:
        """Look whether there is a model.

        Args:
            model: its name.

        Raises:
            MONAILabelException: When there is none.
        """
        _check_known("model", model, self._infers)

    def infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Masks of an image, as MONAI Label asks for them.

        Raises:
            MONAILabelException: When there is no such model.
            ImageNotFoundException: When there is no such image.
            UserError: When the image cannot be read, the weights do not fit, or there is no device as is asked for.
        """
        image, store = request.get("image"), datastore or self.datastore()
        self.check_model(request.get("model"))
        # What a client has sent lies at an absolute path, and so do images of sessions.
        if not isinstance(image, str) or Path(image).is_absolute():
            return dict(super().infer(request, store))
        # Of a PACS the files as they are: to make viewers' NIfTI of them would take longer than to make the mask.
        source = str(store.fetch(image)) if isinstance(store, DicomwebStore) else store.get_image_uri(image)
        if not source:
            raise ImageNotFoundException(f"There is no image {image!r} among the {len(store.list_images())} studies.")
        # MONAI Label itself would take a file of the server that is called like the image.
        asked = {**request, "image": source, KEPT: bool(request.get("save_label"))}
        result: dict[str, Any] = super().infer(asked, store)
        if request.get("save_label") and result["file"]:
            info = {"model": self._infers[request["model"]].folder.name, "params": result["params"]}
            result["label"] = store.save_label(image, result["file"], request.get("label_tag", result["tag"]), info)
        return result

    def batch_infer(self, request: Mapping[str, Any], datastore: Datastore | None = None) -> dict[str, Any]:
        """Masks of many images, saved as labels; of those that fail it is told why.

        Raises:
            MONAILabelException: When there is no such model.
        """

        def infer(one: Mapping[str, Any], store: Datastore) -> dict[str, Any]:
            try:
                return self.infer(one, store)
            except UserError as error:
                logger.warning("%s has no mask: %s", one["image"], error)
                return {"error": str(error)}

        self.check_model(request.get("model"))
        found: dict[str, Any] = self._batch_infer(request, datastore or self.datastore(), infer)
        return found

# SPDX-License-Identifier: Apache-2.0
"""Asks next for the image that a bundle's network is most unsure of."""

from __future__ import annotations

import random
import time
from collections.abc import Iterable, Mapping
from typing import Any

from monailabel.interfaces.datastore import Datastore
from monailabel.interfaces.tasks.strategy import Strategy

from monai_sam2unet.errors import DataError
from monai_sam2unet.label.epistemic_scoring import EpistemicScoring, at_most

__all__ = ["EpistemicStrategy"]

#: An image that was given out, and got no label, is given out again after so many seconds.
SERVED_S = 24 * 60 * 60


class EpistemicStrategy(Strategy):
    """Gives the image without a label that has the highest epistemic score.

    Scores are those that :class:`~monai_sam2unet.label.epistemic_scoring.EpistemicScoring` left in the datastore. Where
    there is none of the present weights, those of earlier weights count, and where there is none at all, an image is
    taken at random; the answer says so. One that was given out in the last day comes after all others, so that
    annotators who work side by side get different ones.

    Args:
        scoring: of the bundle.
    """

    def __init__(self, scoring: EpistemicScoring) -> None:
        super().__init__(f"Get the image that {scoring.name} is most unsure of")
        self.scoring = scoring

    def info(self) -> dict[str, Any]:
        """For viewers: what it does, and its option."""
        return {**super().info(), "config": {"max_samples": 0}}

    def __call__(self, request: Mapping[str, Any], datastore: Datastore) -> dict[str, Any] | None:
        """Choose an image.

        Args:
            request: ``max_samples``: so many images that have no score of the present weights are scored first, which
                the annotator waits for; ``device``.
            datastore: the studies.

        Returns:
            ``id``, the image; its ``score``, None if it has none; ``scored`` and ``unscored``, numbers of images
            without a label that have a score of the present weights, and that may still get one; ``note``, by what it
            was chosen. None when all have labels.

        Raises:
            ConfigError: When ``max_samples`` is no number.
            DataError: When the bundle can read none of the images without a label.
            CheckpointError: When it has no weights.
            WeightsError: When they do not fit the network.
        """
        images = datastore.get_unlabeled_images(request.get("label_tag"), request.get("labels"))
        if not images:
            return None
        if at_most(request):
            self.scoring(request, datastore)
        weights = self.scoring.weights()
        known = {image: score for image in images if (score := self.scoring.known(datastore, image)) is not None}
        current = {image: score for image, score in known.items() if score.weights == weights}
        refused = {image: score for image, score in current.items() if score.score is None}
        if len(refused) == len(images):
            first, why = next(iter(refused.items()))
            raise DataError(f"{self.scoring.name} can read none of the {len(images)} images. {first}: {why.reason}")
        left = [image for image in images if image not in refused]
        fresh = {image: current[image].score for image in left if image in current}
        old = {image: known[image].score for image in left if image in known and known[image].score is not None}
        asked = [image for image in left if image in (fresh or old)] or left
        image = self._chosen(asked, fresh or old, request["strategy"], datastore)
        missing = len(left) - len(fresh)
        if fresh:
            note = f"The highest of {len(fresh)} scores" + (f"; {missing} images have none yet." if missing else ".")
        elif old:
            note = f"The highest of {len(old)} scores of earlier weights: there is none of the present ones yet."
        else:
            note = f"At random: none of the {missing} images has a score yet."
        return {
            "id": image,
            "score": (fresh or old).get(image),
            "scored": len(fresh),
            "unscored": missing,
            "note": note,
        }

    @staticmethod
    def _chosen(images: Iterable[str], scores: Mapping[str, float | None], strategy: str, datastore: Datastore) -> str:
        now = time.time()

        def order(image: str) -> tuple[float, float, float]:
            served = datastore.get_image_info(image).get("strategy", {}).get(strategy, {}).get("ts", 0)
            # Of those given out lately that which was first.
            return served if now - served < SERVED_S else 0, -(scores.get(image) or 0.0), random.random()

        return min(images, key=order)

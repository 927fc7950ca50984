# SPDX-License-Identifier: Apache-2.0
"""Asks next for the image that a bundle's network is most unsure of."""

from __future__ import annotations

import random
import time
from collections.abc import Mapping, Sequence
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
        scores = fresh or old
        image, note = self._chosen([image for image in left if image in scores] or left, scores, request, datastore)
        missing = len(left) - len(fresh)
        if not fresh and old:
            note += "; scores are those of earlier weights, for there is none of the present ones yet"
        elif fresh and missing:
            note += f"; {missing} images have no score yet"
        return {
            "id": image,
            "score": scores.get(image),
            "scored": len(fresh),
            "unscored": missing,
            "note": f"{note}.",
        }

    @staticmethod
    def _chosen(
        images: Sequence[str], scores: Mapping[str, float | None], request: Mapping[str, Any], datastore: Datastore
    ) -> tuple[str, str]:
        """The image, and by what it was chosen."""
        now = time.time()
        served = {
            image: datastore.get_image_info(image).get("strategy", {}).get(request["strategy"], {}).get("ts", 0)
            for image in images
        }
        waiting = [image for image in images if now - served[image] >= SERVED_S]
        if not waiting:
            return min(
                images, key=served.__getitem__
            ), f"All {len(images)} were given out in the last day, this one first"
        if not scores:
            return random.choice(waiting), f"At random: none of the {len(images)} images has a score yet"
        lately = len(images) - len(waiting)
        note = f"The highest of {len(images)} scores" + (
            f" but for {lately} given out in the last day" if lately else ""
        )
        return max(waiting, key=lambda image: scores[image] or 0.0), note

# SPDX-License-Identifier: Apache-2.0
"""How unsure a network is of a whole image: one number, by which active learning chooses the next image to label."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers.flips_and_scales import FlipsAndScales
from monai_sam2unet.inferers.uncertainty import normalised_entropy

__all__ = ["UncertaintyMaps", "epistemic_score"]


class UncertaintyMaps(nn.Module):
    """Wraps a network: gives maps of its uncertainty under test-time augmentation, instead of classes.

    What runs networks on pictures or volumes runs this, too: windows, slices, and their way back to the image's grid
    are then as in the inference. Give the inferer no flips or scales of its own, and no activation (of
    :class:`~monai_sam2unet.inferers.SliceWiseInferer`: ``"identity"``).

    Args:
        network: gives logits (N, K, H, W), in evaluation mode.
        activation: ``"sigmoid"``, or ``"softmax"``, whose channel 0 is the background.
        flips: passes beside the plain one, as of :class:`~monai_sam2unet.inferers.AutocastInferer`.
        scales: factors on height and width at which the image is predicted.

    Raises:
        ConfigError: When these make fewer than two passes, a flip or scale is not allowed, or the activation is neither
            of these.
    """

    def __init__(
        self, network: nn.Module, activation: str, flips: Sequence[str] = (), scales: Sequence[float] = (1.0,)
    ) -> None:
        super().__init__()
        if activation not in ("sigmoid", "softmax"):
            raise ConfigError(f"activation must be sigmoid or softmax, got {activation!r}.")
        self.network = network
        self.activation = activation
        self.augmentation = FlipsAndScales(flips, scales)
        if len(self.augmentation) < 2:
            raise ConfigError("One pass does not say how unsure the network is: add flips or scales.")
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        """Predict.

        Args:
            x: images or slices (N, C, H, W).

        Returns:
            (N, 2, H, W), float32: the entropy of the mean probabilities over all passes, in [0, 1] as of
            :func:`~monai_sam2unet.inferers.normalised_entropy` (of several ``"sigmoid"`` channels their mean); and 1
            where any pass holds a pixel for foreground, else 0.

        Raises:
            ConfigError: When ``"softmax"`` meets a single channel.
        """
        predicted = [y.float() for y in self.augmentation.predictions(x, self.network)]
        if self.activation == "softmax":
            passes = [torch.softmax(y, 1) for y in predicted]
            found = [p.argmax(1, keepdim=True) > 0 for p in passes]
        else:
            passes = [torch.sigmoid(y) for y in predicted]
            found = [(p >= 0.5).any(1, keepdim=True) for p in passes]
        entropy = normalised_entropy(torch.stack(passes).mean(0), self.activation, channel_dim=1)
        return torch.cat([entropy.mean(1, keepdim=True), torch.stack(found).any(0).float()], 1)


def epistemic_score(maps: Tensor) -> float:
    """The mean predictive entropy over the foreground: with H the entropy and f the foreground, sum(f H) / sum(f).

    The entropy of the mean over passes is the score of entropy sampling (Settles, "Active Learning Literature Survey",
    2009), which MONAI Label's own epistemic scoring takes over passes with dropout. Here the passes are those of
    test-time augmentation (Wang et al., "Aleatoric uncertainty estimation with test-time augmentation for medical image
    segmentation with convolutional neural networks", 2019, arXiv:1807.07356), since the network needs no dropout. It is
    high where passes disagree, and where they agree that a pixel could be either. Background is left out: a mean over
    the whole image would say how large the object is, not how well it is known.

    Where no pass finds anything it is the largest entropy of any pixel: how near the network came to finding something.

    Args:
        maps: (2, ...), H and f, as :class:`UncertaintyMaps` gives for an image or volume.

    Returns:
        In [0, 1]: of one class in bits a pixel, of K classes as a share of log K; 0: certain.

    Example:
        >>> epistemic_score(torch.tensor([[0.5, 0.25, 0.0], [1.0, 1.0, 0.0]]))
        0.375
        >>> epistemic_score(torch.tensor([[0.5, 0.25, 0.0], [0.0, 0.0, 0.0]]))
        0.5
    """
    entropy, foreground = maps.double()
    total = foreground.sum()
    return float((entropy * foreground).sum() / total if total > 0 else entropy.max())

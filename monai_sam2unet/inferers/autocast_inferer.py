# SPDX-License-Identifier: Apache-2.0
"""Runs a network in mixed precision on any device."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SimpleInferer
from torch import Tensor

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers.flips_and_scales import FlipsAndScales
from monai_sam2unet.transforms.tensors import plain

__all__ = ["AutocastInferer"]

PRECISIONS = {"bf16": torch.bfloat16, "fp16": torch.float16}


def _to_float(output: Any) -> Any:
    if isinstance(output, Tensor):
        return output.float()
    if not isinstance(output, (list, tuple)):
        raise ConfigError(f"The network must give a tensor or a list of tensors, got {type(output).__name__}.")
    return [_to_float(item) for item in output]


class AutocastInferer(Inferer):
    """One pass through the network under ``torch.autocast``, with float32 results.

    MONAI's engines offer mixed precision for CUDA only; this serves them on the CPU too. The network sees plain
    tensors, since each operation on a ``MetaTensor`` costs time; a single result gets the input's metadata back, so
    that ``Invertd`` can bring it to the source's geometry.

    With ``flips`` or ``scales`` (test-time augmentation) the result is the mean of the logits of all passes: as many
    times the time for, as a rule, a somewhat better mask.

    With ``inferer`` the network is run by that: over windows by MONAI's ``SlidingWindowInferer``, which keep thin
    structures at the image's own resolution. Each pass is then one over all windows of the flipped or resized image;
    windows are blended in float32, whatever the network computes in.

    Args:
        precision: ``"fp32"``; ``"bf16"``; ``"fp16"`` (for inference: gradients would need a scaler); or ``"auto"``,
            which is bf16 on a GPU that computes it and fp32 elsewhere.
        flips: ``"rows"`` (upside down), ``"columns"`` (left to right) and ``"both"``: predicted, too.
        scales: factors on height and width at which the image is predicted.
        inferer: what runs the network on a batch, as ``SlidingWindowInferer(roi_size=(352, 352), mode="gaussian")``;
            None: the whole images at once.

    Raises:
        ConfigError: When ``precision`` is none of these, a flip is not known, or a scale is not above 0.

    Example:
        >>> from monai.inferers import SlidingWindowInferer
        >>> windows = SlidingWindowInferer(roi_size=(32, 32), mode="gaussian", padding_mode="replicate")
        >>> image = torch.rand(1, 3, 50, 20)
        >>> tuple(AutocastInferer("fp32", flips=["columns"], inferer=windows)(image, lambda x: x[:, :1]).shape)
        (1, 1, 50, 20)
    """

    def __init__(
        self,
        precision: str = "auto",
        flips: Sequence[str] = (),
        scales: Sequence[float] = (1.0,),
        inferer: Inferer | None = None,
    ) -> None:
        super().__init__()
        allowed = ("auto", "fp32", *PRECISIONS)
        if precision not in allowed:
            raise ConfigError(f"precision must be one of {', '.join(allowed)}, got {precision!r}.")
        self.precision = precision
        self.augmentation = FlipsAndScales(flips, scales)
        self.inferer = SimpleInferer() if inferer is None else inferer

    def dtype(self, device: torch.device) -> torch.dtype | None:
        """The type that the precision means on a device; None for float32."""
        if self.precision == "auto":
            return torch.bfloat16 if device.type == "cuda" and torch.cuda.is_bf16_supported(False) else None
        return PRECISIONS.get(self.precision)

    def _mean(self, inputs: Tensor, predict: Callable[[Tensor], Any]) -> Tensor:
        def single(x: Tensor) -> Tensor:
            found = predict(x)
            if not isinstance(found, Tensor):
                raise ConfigError("flips and scales are for networks that give one tensor; put it into eval mode.")
            return found

        return reduce(torch.add, self.augmentation.predictions(inputs, single)) / len(self.augmentation)

    def __call__(self, inputs: Tensor, network: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run the network.

        Args:
            inputs: images (B, C, H, W).
            network: takes the images and gives a tensor or a list of tensors.
            args: given on to the network.
            kwargs: given on to the network.

        Returns:
            The network's output, in float32.

        Raises:
            ConfigError: When the precision is fp16 and gradients are computed; or there are flips or scales, and the
                network gives more than one tensor.
        """

        def in_float(x: Tensor, *args: Any, **kwargs: Any) -> Any:
            # Here, before windows are weighted and added up: in 16 bits that would be done in their few digits.
            return _to_float(network(x, *args, **kwargs))

        def predict(x: Tensor) -> Any:
            return self.inferer(x, in_float, *args, **kwargs)

        dtype = self.dtype(inputs.device)
        if dtype == torch.float16 and torch.is_grad_enabled():
            raise ConfigError("precision fp16 is for inference: small gradients would vanish. Train in bf16 or fp32.")
        with torch.autocast(inputs.device.type, dtype=dtype, enabled=dtype is not None):
            output = self._mean(plain(inputs), predict) if len(self.augmentation) > 1 else predict(plain(inputs))
        if isinstance(inputs, MetaTensor) and isinstance(output, Tensor):
            output = MetaTensor(output).copy_meta_from(inputs)
        return output

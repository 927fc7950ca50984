# SPDX-License-Identifier: Apache-2.0
"""Runs a 2D network over the slices of volumes, in full batches."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from monai.inferers import Inferer
from torch import Tensor, nn
from tqdm import tqdm

from monai_sam2unet.errors import ConfigError
from monai_sam2unet.inferers.autocast_inferer import AutocastInferer
from monai_sam2unet.inferers.checked_network import CheckedNetwork
from monai_sam2unet.inferers.flips_and_scales import FlipsAndScales
from monai_sam2unet.inferers.piece_predictions import PiecePredictions
from monai_sam2unet.inferers.prediction_volumes import PredictionVolumes
from monai_sam2unet.inferers.slice_settings import SliceSettings
from monai_sam2unet.inferers.slice_stack import SliceStack, SliceTransform, full_batches
from monai_sam2unet.inferers.volume_cases import VolumeCases
from monai_sam2unet.inferers.window_grid import WindowBlender
from monai_sam2unet.transforms.preset import Preset

__all__ = ["SliceWiseInferer"]


def _network_device(network: Any, otherwise: torch.device) -> torch.device:
    if isinstance(network, nn.Module):
        for tensor in itertools.chain(network.parameters(), network.buffers()):
            return tensor.device
    return otherwise


class SliceWiseInferer(Inferer):
    """A 2D network over volumes, slice by slice, as MONAI's ``SliceInferer`` does, and more.

    Slices of all volumes given make one stream of full batches. They are seen along one plane, or along several whose
    predictions are averaged (three views), in display orientation; each whole, or in overlapping windows. Every batch
    can be predicted flipped and resized too. What is averaged are probabilities: ``activation`` makes them. A network
    that was trained with a preset is best given to :meth:`from_preset`.

    Pictures (B, C, H, W) are volumes of one slice each: ``inferer(pictures[..., None], network)[..., 0]`` with
    ``spatial_dim=2``.

    No gradients are computed. The network is given plain float32 tensors. Beside input and results, memory does not
    grow with the number of slices.

    Args:
        spatial_dim: the plane: ``"axial"``, ``"coronal"`` or ``"sagittal"``, told by the affine of a ``MetaTensor``;
            or the array axis 0, 1 or 2 along which the slices are numbered. A list of planes, or of axes: their
            predictions are averaged.
        sw_batch_size: slices or windows in a batch.
        roi_size: height and width of windows, in pixels of the slices as they are (before ``slice_transform``); a
            value not above 0 stands for the slice's own. None: whole slices, which is cheaper while they fit.
        overlap: share of a window that the next one covers too, in [0, 1); one number, or one for rows and columns.
        mode: ``"gaussian"``: windows count less towards their borders; or ``"constant"``.
        sigma_scale: standard deviation of this Gaussian, as a share of the window.
        padding_mode: how slices smaller than a window are continued: ``"constant"``, ``"reflect"``, ``"replicate"``
            or ``"circular"``.
        cval: the value of constant padding. For CT in HU take -1024: 0 is water.
        slice_transform: makes the network's input of slices or windows and brings its output back, such as
            :class:`monai_sam2unet.transforms.HieraInput`. Logits are brought back, and activated then.
        neighbours: slices on each side that the network sees as further channels (2.5D), in the plane's order; the
            first and last slice are repeated beyond the ends.
        flips: passes in addition to the plain one: ``"rows"`` (upside down), ``"columns"`` (left to right), ``"both"``.
        scales: factors on the height and width of the network's input; sizes are rounded to a multiple of 32. Every
            flip is predicted at every scale.
        activation: ``"sigmoid"``, ``"softmax"``, or ``"identity"`` where the network gives probabilities itself. None:
            what the network gives is returned as it is, which only one pass along one plane allows. A result that is a
            ``MetaTensor`` (the mean, not the uncertainty) has it as ``meta["activation"]``, so that
            :class:`monai_sam2unet.transforms.FinaliseSegmentation` takes it for the probabilities that it is.
        uncertainty: ``"variance"``: population variance of the probabilities over all passes, for each channel.
            ``"entropy"``: of the mean probabilities, as a share of the largest possible
            (:func:`monai_sam2unet.inferers.normalised_entropy`).
        precision: as in :class:`AutocastInferer`.
        sw_device: where the network runs; None: where its parameters are, else where the input is.
        device: where results are kept; None: where the input is.
        max_device_bytes: results of one call that take more bytes are kept on the CPU. None: no bound.
        output_dtype: type of the results: float32; or float16 or bfloat16, where neither planes are averaged nor the
            variance is asked for.
        argmax: whether results are classes, uint8 in one channel, the number of the one with the largest probability:
            K times less memory in float32, for which K is at most 256. Of one plane only, and without uncertainty.
            Their ``meta["activation"]`` is ``"argmax"``, so that ``FinaliseSegmentation(argmax=True)`` takes them.
        progress: whether to show a progress bar.

    Raises:
        ConfigError: When a value is not allowed, or does not go with another one.

    Example:
        >>> network = torch.nn.Conv2d(1, 2, 3, padding=1).eval()
        >>> SliceWiseInferer(spatial_dim=2)(torch.zeros(1, 1, 30, 20, 5), network).shape
        torch.Size([1, 2, 30, 20, 5])
    """

    def __init__(
        self,
        spatial_dim: int | str | Sequence[int | str] = "axial",
        sw_batch_size: int = 8,
        roi_size: int | Sequence[int] | None = None,
        overlap: float | Sequence[float] = 0.25,
        mode: str = "gaussian",
        sigma_scale: float = 0.125,
        padding_mode: str = "constant",
        cval: float = 0.0,
        slice_transform: SliceTransform | None = None,
        neighbours: int = 0,
        flips: Sequence[str] = (),
        scales: Sequence[float] = (1.0,),
        activation: str | None = None,
        uncertainty: str | None = None,
        precision: str = "auto",
        sw_device: torch.device | str | None = None,
        device: torch.device | str | None = None,
        max_device_bytes: int | None = None,
        output_dtype: torch.dtype = torch.float32,
        argmax: bool = False,
        progress: bool = False,
    ) -> None:
        super().__init__()
        self.augmentation = FlipsAndScales(flips, scales)
        self.settings = SliceSettings(
            spatial_dim=spatial_dim,
            sw_batch_size=sw_batch_size,
            roi_size=roi_size,
            overlap=overlap,
            mode=mode,
            sigma_scale=sigma_scale,
            padding_mode=padding_mode,
            cval=cval,
            slice_transform=slice_transform,
            neighbours=neighbours,
            activation=activation,
            uncertainty=uncertainty,
            max_device_bytes=max_device_bytes,
            output_dtype=output_dtype,
            argmax=argmax,
            passes=len(self.augmentation),
        )
        self.autocast = AutocastInferer(precision)
        self.sw_device = None if sw_device is None else torch.device(sw_device)
        self.device = None if device is None else torch.device(device)
        self.progress = progress

    @classmethod
    def from_preset(cls, preset: Preset, **options: Any) -> SliceWiseInferer:
        """An inferer that shows the network the slices that the preset shows it in training.

        The plane, its neighbours and the slice transform are the preset's.

        Args:
            preset: how CT or MR volumes become the network's input.
            options: further arguments of :class:`SliceWiseInferer`. ``spatial_dim`` may add views to the preset's
                plane, as ``["axial", "coronal", "sagittal"]``.

        Raises:
            ConfigError: When it is no preset or one of pictures; when ``slice_transform`` or ``neighbours`` is given,
                or a ``spatial_dim`` without the preset's plane; and as :class:`SliceWiseInferer`.

        Example:
            >>> inferer = SliceWiseInferer.from_preset(
            ...     Preset("ct", plane="coronal"), flips=["rows"], activation="sigmoid"
            ... )
            >>> inferer.settings.planes
            ('coronal',)
        """
        if not isinstance(preset, Preset):
            raise ConfigError(f"from_preset takes a monai_sam2unet.transforms.Preset, got {preset!r}.")
        if not preset.is_volume:
            raise ConfigError(
                f"{preset.modality} images are pictures and have no slices: run the network on what preset.inference() "
                "gives with AutocastInferer; preset.postprocessing() brings its output back."
            )
        twice = [name for name in ("slice_transform", "neighbours") if name in options]
        if twice:
            raise ConfigError(f"{' and '.join(twice)} of slices are the preset's: set them there, not here.")
        planes = options.pop("spatial_dim", preset.plane)
        if preset.plane not in (planes if isinstance(planes, (list, tuple)) else [planes]):
            raise ConfigError(
                f"The preset cuts slices by {preset.plane!r}, and spatial_dim {planes!r} leaves that out: the network "
                "would see only planes that it was not trained on. Set the preset's plane, or add further ones to it."
            )
        return cls(planes, slice_transform=preset.slice_transform, neighbours=preset.neighbours, **options)

    def __call__(
        self, inputs: Tensor | Sequence[Tensor], network: Callable[..., Any], *args: Any, **kwargs: Any
    ) -> Any:
        """Predict volumes.

        Args:
            inputs: (B, C, X, Y, Z); or a list of different cases (C, X, Y, Z) or (1, C, X, Y, Z) of any sizes.
            network: takes slices (N, C', h, w) and gives one tensor (N, K, h, w); in evaluation mode.
            args: given on to the network.
            kwargs: given on to the network.

        Returns:
            (B, K, X, Y, Z), or a list of (K, X, Y, Z) or (1, K, X, Y, Z), as the inputs were (K is 1 with ``argmax``);
            with the metadata of inputs that are a ``MetaTensor``. With ``uncertainty``, a dictionary with ``"mean"``
            and ``"uncertainty"`` (one channel for the entropy of softmax, else K), or a list of such; MONAI's
            ``FlattenSubKeysd`` makes them keys of their own after an engine.

        Raises:
            DataError: When the inputs have other shapes, or planes by name meet inputs whose affine is not known: plain
                tensors, a ``MetaTensor`` that was never given one, or images without a place in the patient; or when
                classes are asked for and the network gives NaN or infinity.
            ConfigError: When the network is in training mode or takes another number of channels; when it or the slice
                transform does not give what is said above.
        """
        cases = VolumeCases.of(inputs)
        source = cases.volumes[0].device
        sw_device = self.sw_device or _network_device(network, source)
        results = PredictionVolumes(
            [x.shape[1:] for x in cases.volumes],
            cases.stacked,
            self.settings.uncertainty,
            self.settings.activation,
            self.settings.output_dtype,
            self.device or source,
            self.settings.max_device_bytes,
            self.settings.argmax,
        )
        with torch.no_grad():
            # Of one prediction the largest logit has the largest probability.
            keeps_logits = self.settings.argmax and self.settings.one_prediction
            checked = CheckedNetwork(network, self.autocast, self.settings.activation, args, kwargs, keeps_logits)
            self._predict(self.settings.stacks(cases), sw_device, checked, results)
            mean, uncertainty = results.finish(len(self.augmentation) * len(self.settings.planes))
        found = cases.like_given(mean, "argmax" if self.settings.argmax else self.settings.activation)
        if uncertainty is None:
            return found
        spread = cases.like_given(uncertainty)
        if cases.stacked:
            return {"mean": found, "uncertainty": spread}
        return [{"mean": m, "uncertainty": u} for m, u in zip(found, spread, strict=True)]

    def _predict(
        self, stacks: list[SliceStack], device: torch.device, network: CheckedNetwork, results: PredictionVolumes
    ) -> None:
        settings = self.settings
        blender = WindowBlender(settings.mode, settings.sigma_scale)
        batches = full_batches(stacks, settings.sw_batch_size, settings.slice_transform, device)
        with tqdm(total=sum(map(len, stacks)), disable=not self.progress, unit="slice") as bar:
            for batch in batches:
                x = batch[0].x if len(batch) == 1 else torch.cat([piece.x for piece in batch])
                sizes = [piece.last - piece.first for piece in batch]
                collected = [PiecePredictions(piece, settings.uncertainty == "variance") for piece in batch]
                for y in self.augmentation.predictions(x, network):
                    for piece, part in zip(collected, y.split(sizes), strict=True):
                        piece.add(network.activated(piece.on_source_grid(part, settings.slice_transform)))
                for piece in collected:
                    piece.hand_over(blender, results)
                results.settle()
                bar.update(sum(sizes))

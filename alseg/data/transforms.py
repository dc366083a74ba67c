"""What happens to an image and its maps between the disk and the network."""

import math
import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.core.images import VOID
from alseg.data.rotation import random_degrees, rotated

#: Mean and standard deviation of ImageNet, RGB, for images in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: Value around maps where a crop is larger than the image: no region, no label, not the picture.
PADDING = {"regions": -1, "target": VOID, "inside": 0}

#: Channels that OpenCV surrounds with a colour.
_MOST_FILLED = 4

#: Name of the map that says where a crop shows nothing of the picture, while a batch travels.
_OUTSIDE = "outside"

_SIDES = ("pad_top", "pad_bottom", "pad_left", "pad_right")

Numbers = tuple[float, ...]
Sample = tuple[Tensor, dict[str, Tensor]]


def imagenet_normalization(channels: int = 3) -> tuple[Numbers, Numbers]:
    """Mean and standard deviation of ImageNet for images of any number of channels.

    Beyond three they begin anew, as the first layer of pretrained networks is repeated.

    >>> imagenet_normalization(4)[0]
    (0.485, 0.456, 0.406, 0.485)
    """
    order = [channel % 3 for channel in range(channels)]
    return tuple(IMAGENET_MEAN[i] for i in order), tuple(IMAGENET_STD[i] for i in order)


@dataclass(frozen=True)
class TrainTransform:
    """Random scale, crop, flip and colours, then normalisation.

    Scale, crop and flip are those of mulquery (arXiv 2309.09319, section 4), the colours those of
    PixelPick (arXiv 2104.06394).

    The image is scaled by one factor for both axes, padded where it is smaller than the crop,
    cropped at a uniform position, mirrored along its width, and normalised. Growing is bilinear;
    shrinking averages areas, so that it does not alias; maps take the nearest pixel by centres, as
    the image does.

    Everything random follows from the seed of the call alone: the same sample with the same seed
    is the same tensor in any process, on any worker, in any order.

    Attributes:
        crop: Height and width of the result; None for the whole scaled image.
        scale: Smallest and largest factor, drawn uniformly.
        scale_step: Only factors so far apart are drawn, from the smallest on; None for any.
        rotate: Turned by a whole number of degrees, up to so many to either side, before all else.
        flip: Probability of the mirror image.
        jitter: Largest change of brightness, contrast, saturation and hue, with probability 0.8.
        grayscale: Probability of a picture without colours.
        blur: Probability of a Gaussian blur.
        blur_sigma: Smallest and largest sigma of it, in pixels.
        mean: Mean per channel of images in [0, 1].
        std: Standard deviation per channel.
        pad_value: Colour around images smaller than the crop, 0..255 per channel; None for the
            mean itself, which normalisation turns into exactly 0.
        pad_position: Where a smaller image lies: ``center``, ``top_left`` or another corner.
        pad_maps: Value around each map by its name; by default those the loop knows.
    """

    crop: tuple[int, int] | None
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    jitter: tuple[float, float, float, float] = (0.0, 0.0, 0.0, 0.0)
    grayscale: float = 0.0
    blur: float = 0.0
    mean: Numbers = IMAGENET_MEAN
    std: Numbers = IMAGENET_STD
    pad_value: tuple[int, ...] | None = (124, 116, 104)
    pad_position: str = "center"
    pad_maps: Mapping[str, int] = field(default_factory=lambda: dict(PADDING))
    scale_step: float | None = None
    rotate: int = 0
    blur_sigma: tuple[float, float] = (0.1, 2.0)

    def __post_init__(self) -> None:
        if self.crop is not None and min(self.crop) < 1:
            raise ValueError(f"crop must be positive, not {self.crop}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high, not {self.scale}")
        if self.scale_step is not None and not self.scale_step > 0:
            raise ValueError(f"scale_step must be positive, not {self.scale_step}")
        if not 0 <= self.flip <= 1:
            raise ValueError(f"flip must be a probability, not {self.flip}")

    def __call__(
        self, image: NDArray[np.uint8], maps: Mapping[str, NDArray[Any]], seed: int
    ) -> Sample:
        """Transform an image and its maps alike.

        Args:
            image: (H, W, C), uint8.
            maps: Integer maps by name, (H, W) each; values are kept exactly up to int64.
            seed: Seed of this sample, at least 0.

        Returns:
            The image, (C, h, w), float32, and the maps, (h, w), int64.
        """
        return self.widened(*self.narrow(image, maps, seed))

    def narrow(
        self, image: NDArray[np.uint8], maps: Mapping[str, NDArray[Any]], seed: int
    ) -> Sample:
        """What `__call__` returns as it travels from a loader process to the device.

        Args:
            image: (H, W, C), uint8, of which only what is shown is read.
            maps: Integer maps by name, (H, W) each.
            seed: Seed of this sample, at least 0.

        Returns:
            The image, (C, h, w), uint8, and the maps, (h, w), in the narrowest type that holds
            them; `widened` makes of them, or of batches of them, what `__call__` returns.
        """
        missing = maps.keys() - self.pad_maps.keys()
        if self.crop is not None and missing:
            raise ValueError(f"pad_maps has no value for {', '.join(sorted(missing))}")
        # One shared stream: `set_random_seed` would start every step of the pipeline from the same
        # state, so that the scale, the position of the crop and the flip would be one number.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(int(seed)))
        if self.rotate:
            image, maps = rotated(image, maps, random_degrees(self.rotate, seed))
        result = self._pipeline(image=image)
        rows, columns = _sources(
            (image.shape[0], image.shape[1]), result["image"].shape, result["applied_transforms"]
        )
        moved = {}
        for name, values in maps.items():
            taken = _taken(_same_size(name, values, image), rows, columns, self.pad_maps.get(name))
            known = name in self.travelling
            moved[name] = torch.from_numpy(_narrowed(taken) if known else taken.astype(np.int64))
        if self._fills_late:
            outside = (rows < 0)[:, None] | (columns < 0)
            moved[_OUTSIDE] = torch.from_numpy(outside.astype(np.uint8))
        return _to_tensor(result["image"]), moved

    def widened(self, images: Tensor, maps: Mapping[str, Tensor]) -> Sample:
        """Normalise what `narrow` returned, on whatever device it is.

        Args:
            images: (..., C, h, w), uint8.
            maps: (..., h, w).

        Returns:
            The images, float32, and the maps, int64.
        """
        normalised = normalized(images, self.mean, self.std)
        if _OUTSIDE in maps:
            outside = maps[_OUTSIDE].bool().unsqueeze(-3)
            color = torch.zeros(len(self.mean))
            if self.pad_value is not None:
                mean, std = torch.tensor(self.mean), torch.tensor(self.std)
                color = (torch.tensor(self.pad_value) / 255 - mean) / std
            normalised = torch.where(outside, color.to(normalised)[:, None, None], normalised)
        return normalised, {name: m.long() for name, m in maps.items() if name != _OUTSIDE}

    @property
    def travelling(self) -> frozenset[str]:
        """Names of the maps that `narrow` makes narrow and `widened` expects."""
        return frozenset({*self.pad_maps, _OUTSIDE})

    @property
    def _fills_late(self) -> bool:
        """Whether the colour around the picture is no colour of 8 bits, or too long for OpenCV."""
        filled = self.pad_value is not None and len(self.pad_value) <= _MOST_FILLED
        return self.crop is not None and not filled

    @cached_property
    def _pipeline(self) -> Any:
        albumentations, cv2 = _import_albumentations()
        steps: list[Any] = []
        if tuple(self.scale) != (1.0, 1.0):
            ranges = [self.scale]
            if self.scale_step is not None:
                ranges = [(factor, factor) for factor in scale_factors(self.scale, self.scale_step)]
            scales = [
                albumentations.RandomScale(
                    (low - 1, high - 1),
                    interpolation=cv2.INTER_LINEAR,
                    area_for_downscale="image",
                    p=1.0,
                )
                for low, high in ranges
            ]
            steps.append(scales[0] if len(scales) == 1 else albumentations.OneOf(scales, p=1.0))
        if self.crop is not None:
            fill = self.pad_value
            if fill is not None and len(fill) > _MOST_FILLED:
                fill = None  # filled in the end
            pad = albumentations.PadIfNeeded(
                *self.crop,
                position=self.pad_position,
                border_mode=cv2.BORDER_CONSTANT,
                fill=0 if fill is None else fill,
            )
            steps += [pad, albumentations.RandomCrop(*self.crop)]
        steps.append(albumentations.HorizontalFlip(p=self.flip))
        if any(self.jitter):
            steps.append(albumentations.ColorJitter(*self.jitter, p=0.8))
        if self.grayscale:
            steps.append(albumentations.ToGray(p=self.grayscale))
        if self.blur:
            steps.append(albumentations.GaussianBlur(sigma_limit=self.blur_sigma, p=self.blur))
        return albumentations.Compose(steps, save_applied_params=True)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pipeline"}


def scale_factors(scale: tuple[float, float], step: float) -> list[float]:
    """Factors from the smallest to the largest, a step apart.

    >>> scale_factors((0.5, 2), 0.25)
    [0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0]
    """
    low, high = scale
    count = math.floor((high - low) / step + 1e-9)
    return [low + number * step for number in range(count + 1)]


@dataclass(frozen=True)
class EvalTransform:
    """Normalisation alone, so that every pixel keeps its place.

    Attributes:
        mean: Mean per channel of images in [0, 1].
        std: Standard deviation per channel.
    """

    mean: Numbers = IMAGENET_MEAN
    std: Numbers = IMAGENET_STD

    def __call__(
        self, image: NDArray[np.uint8], maps: Mapping[str, NDArray[Any]], seed: int = 0
    ) -> Sample:
        """Normalise an image; the maps become tensors.

        Args:
            image: (H, W, C), uint8.
            maps: Integer maps by name, (H, W) each.
            seed: Unused; nothing here is random.

        Returns:
            The image, (C, H, W), float32, and the maps, (H, W), int64.
        """
        return self.widened(*self.narrow(image, maps))

    def narrow(
        self, image: NDArray[np.uint8], maps: Mapping[str, NDArray[Any]], seed: int = 0
    ) -> Sample:
        """See `TrainTransform.narrow`; here nothing is changed."""
        tensors = {}
        for name, values in maps.items():
            known = name in self.travelling
            same = _same_size(name, values, image)
            tensors[name] = torch.from_numpy(_narrowed(same) if known else same.astype(np.int64))
        return _to_tensor(image), tensors

    @property
    def travelling(self) -> frozenset[str]:
        """See `TrainTransform.travelling`."""
        return frozenset(PADDING)

    def widened(self, images: Tensor, maps: Mapping[str, Tensor]) -> Sample:
        """See `TrainTransform.widened`."""
        wide = {name: values.long() for name, values in maps.items()}
        return normalized(images, self.mean, self.std), wide


def normalized(images: Tensor, mean: Numbers, std: Numbers) -> Tensor:
    """Images of 0..255 as networks take them.

    Args:
        images: (..., C, H, W), uint8.
        mean: Mean per channel of images in [0, 1].
        std: Standard deviation per channel.

    Returns:
        ``(image / 255 - mean) / std``, float32. A subtraction and a multiplication, each rounded to
        float32: the same bits on every device, and those of albumentations' ``Normalize``.
    """
    shift, scale = (torch.tensor(numbers, dtype=torch.float32) * 255 for numbers in (mean, std))
    shift, scale = (part.to(images.device)[:, None, None] for part in (shift, scale.reciprocal()))
    return torch.sub(images, shift).mul_(scale)


def _sources(
    size: tuple[int, int], result: tuple[int, ...], applied: Sequence[tuple[str, dict[str, Any]]]
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Which row and column of the image each row and column of the result shows.

    Args:
        size: Height and width of the image.
        result: Those of the result.
        applied: What the pipeline did, in order, as albumentations records it.

    Returns:
        (h,) and (w,), int64, -1 around the picture.
    """
    done = dict(applied)
    pad = done.get("PadIfNeeded", {"shape": result} | dict.fromkeys(_SIDES, 0))
    scaled = pad["shape"][:2]
    box = done.get("RandomCrop", {}).get("crop_coords", (0, 0, None, None))
    sides = []
    for axis, (before, behind) in enumerate((_SIDES[:2], _SIDES[2:])):
        places = nearest(size[axis], scaled[axis])
        places = np.pad(places, (pad[before], pad[behind]), constant_values=-1)
        sides.append(places[box[1 - axis] : box[3 - axis]])
    rows, columns = sides
    return rows, columns[::-1] if "HorizontalFlip" in done else columns


def nearest(length: int, target: int) -> NDArray[np.int64]:
    """Source pixel of each target pixel along an axis: the one whose centre is nearest.

    OpenCV itself says so, by the mode that goes with its other ways to resize (its plain nearest
    mode takes the corner of a source pixel, not its centre).

    Args:
        length: Pixels of the source.
        target: Pixels of the target.

    >>> nearest(3, 6).tolist(), nearest(4, 2).tolist()
    ([0, 0, 1, 1, 2, 2], [1, 3])
    """
    places = np.arange(length, dtype=np.int32)
    if length != target:
        _, cv2 = _import_albumentations()
        places = cv2.resize(places[None], (target, 1), interpolation=cv2.INTER_NEAREST_EXACT)[0]
    return places.astype(np.int64)


def _taken(
    values: NDArray[Any], rows: NDArray[np.int64], columns: NDArray[np.int64], around: int | None
) -> NDArray[Any]:
    """The rows and columns of a map, (h, w), with a value where they are -1."""
    first = max(0, int(columns.max(initial=0)) + 1)
    left = int(np.where(columns < 0, first, columns).min(initial=first))
    near = values[:, left:first][np.maximum(rows, 0)]  # only what is shown is read
    taken = np.take(near, np.maximum(columns - left, 0), axis=1)
    if (rows < 0).any() or (columns < 0).any():
        if np.result_type(taken, np.min_scalar_type(around or 0)) != taken.dtype:
            taken = taken.astype(np.int64)
        taken[rows < 0] = around
        taken[:, columns < 0] = around
    return taken


def _narrowed(values: NDArray[Any]) -> NDArray[Any]:
    """Integers in the narrowest type that holds them, among those that torch computes with."""
    if values.dtype.itemsize == 1:
        kind = np.uint8 if values.dtype == bool else values.dtype
        return np.require(values, requirements=["C", "W"]).view(kind)
    low, high = int(values.min(initial=0)), int(values.max(initial=0))
    kinds = (np.uint8, np.int16, np.int32)
    fits = (k for k in kinds if np.iinfo(k).min <= low and high <= np.iinfo(k).max)
    return np.require(values, next(fits, np.int64), ["C", "W"])


def _same_size(name: str, values: NDArray[Any], image: NDArray[np.uint8]) -> NDArray[Any]:
    if values.shape != image.shape[:2]:
        raise ValueError(f"map {name!r} is {values.shape}, its image {image.shape[:2]}")
    return values


def _to_tensor(image: NDArray[np.uint8]) -> Tensor:
    return torch.from_numpy(np.require(image.transpose(2, 0, 1), requirements=["C", "W"]))


def _import_albumentations() -> tuple[Any, Any]:
    # Without this, the import asks the network for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    return albumentations, cv2

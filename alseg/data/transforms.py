"""What happens to an image and its maps between the disk and the network."""

import os
import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.core.images import VOID

#: Mean and standard deviation of ImageNet, RGB, for images in [0, 1].
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)

#: Value around maps where a crop is larger than the image: no region, no label, not the picture.
PADDING = {"regions": -1, "target": VOID, "inside": 0}

#: Channels that OpenCV surrounds with a colour.
_MOST_FILLED = 4

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
        flip: Probability of the mirror image.
        jitter: Largest change of brightness, contrast, saturation and hue, with probability 0.8.
        grayscale: Probability of a picture without colours.
        blur: Probability of a Gaussian blur with a sigma of 0.1 to 2 pixels.
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

    def __post_init__(self) -> None:
        if self.crop is not None and min(self.crop) < 1:
            raise ValueError(f"crop must be positive, not {self.crop}")
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ValueError(f"scale must be (low, high) with 0 < low <= high, not {self.scale}")
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
        height, width = image.shape[:2]
        missing = maps.keys() - self.pad_maps.keys()
        if self.crop is not None and missing:
            raise ValueError(f"pad_maps has no value for {', '.join(sorted(missing))}")
        # One shared stream: `set_random_seed` would start every step of the pipeline from the same
        # state, so that the scale, the position of the crop and the flip would be one number.
        self._pipeline.set_random_state(np.random.default_rng(seed), random.Random(int(seed)))
        # One map of pixel positions goes through the pipeline in place of the maps: it holds int32
        # exactly, costs one resize for all maps, and lets each have its own value in the padding.
        positions = np.arange(height * width, dtype=np.int32).reshape(height, width)
        result = self._pipeline(image=image, mask=positions)
        source = result["mask"]
        outside = source < 0
        moved = {}
        for name, values in maps.items():
            taken = _same_size(name, values, image).ravel()[source].astype(np.int64)
            taken[outside] = self.pad_maps.get(name, 0)
            moved[name] = torch.from_numpy(taken)
        tensor = _to_tensor(result["image"])
        if self.pad_value is None:
            tensor[:, torch.from_numpy(outside)] = 0
        elif len(self.pad_value) > _MOST_FILLED:
            color = (torch.tensor(self.pad_value) / 255 - torch.tensor(self.mean)) / torch.tensor(
                self.std
            )
            tensor[:, torch.from_numpy(outside)] = color[:, None]
        return tensor, moved

    @cached_property
    def _pipeline(self) -> Any:
        albumentations, cv2 = _import_albumentations()
        low, high = self.scale
        steps: list[Any] = []
        if (low, high) != (1.0, 1.0):
            steps.append(
                albumentations.RandomScale(
                    (low - 1, high - 1),
                    interpolation=cv2.INTER_LINEAR,
                    # The plain nearest mode takes the corner of a source pixel, not its centre.
                    mask_interpolation=cv2.INTER_NEAREST_EXACT,
                    area_for_downscale="image",
                    p=1.0,
                )
            )
        if self.crop is not None:
            fill = self.pad_value
            if fill is not None and len(fill) > _MOST_FILLED:
                fill = None  # filled in the end
            pad = albumentations.PadIfNeeded(
                *self.crop,
                position=self.pad_position,
                border_mode=cv2.BORDER_CONSTANT,
                fill=0 if fill is None else fill,
                fill_mask=-1,
            )
            steps += [pad, albumentations.RandomCrop(*self.crop)]
        steps.append(albumentations.HorizontalFlip(p=self.flip))
        if any(self.jitter):
            steps.append(albumentations.ColorJitter(*self.jitter, p=0.8))
        if self.grayscale:
            steps.append(albumentations.ToGray(p=self.grayscale))
        if self.blur:
            steps.append(albumentations.GaussianBlur(sigma_limit=(0.1, 2.0), p=self.blur))
        steps.append(albumentations.Normalize(self.mean, self.std))
        return albumentations.Compose(steps)

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_pipeline"}


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
        albumentations, _ = _import_albumentations()
        normalize = albumentations.Normalize(self.mean, self.std)
        tensors = {
            name: torch.from_numpy(_same_size(name, values, image).astype(np.int64))
            for name, values in maps.items()
        }
        return _to_tensor(normalize(image=image)["image"]), tensors


def _same_size(name: str, values: NDArray[Any], image: NDArray[np.uint8]) -> NDArray[Any]:
    if values.shape != image.shape[:2]:
        raise ValueError(f"map {name!r} is {values.shape}, its image {image.shape[:2]}")
    return values


def _to_tensor(image: NDArray[np.float32]) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))


def _import_albumentations() -> tuple[Any, Any]:
    # Without this, the import asks the network for a newer version.
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
    import albumentations
    import cv2

    return albumentations, cv2

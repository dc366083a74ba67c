"""What a network sees in the regions of an image: mean features, and the class it predicts most."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.badge import pooled_gradients
from alseg.acquisition.statistics import (
    class_histogram,
    region_counts,
    region_majority,
    side_by_side,
)
from alseg.core.errors import UserError
from alseg.nn.segmenter import Segmenter


def shrunken(images: Tensor, scale: float) -> Tensor:
    """Images at the size they are predicted at, bicubic with antialiasing, as Pillow has it.

    Args:
        images: (B, C, H, W), float.
        scale: Factor on both sides, which are rounded, and at least 1.
    """
    if scale == 1:
        return images
    size = [max(1, round(scale * side)) for side in images.shape[-2:]]
    return F.interpolate(images, size=size, mode="bicubic", antialias=True)


def region_grid(
    regions: Tensor, cells: tuple[int, int], canvas: tuple[int, int], aligned: bool
) -> Tensor:
    """The regions on a network's own grid: each cell reads the pixel at its centre.

    Args:
        regions: Region id of each pixel, (..., H, W), integer, -1 = in no region.
        cells: Height h and width w of the grid.
        canvas: Height and width in pixels of what the grid covers, at least those of the image.
        aligned: The outermost cells lie on the outermost pixels, see `alseg.nn.segmenter.upsample`.

    Returns:
        (..., h, w), -1 also for cells outside the image.
    """
    height, width = regions.shape[-2:]
    rows = _centers(cells[0], canvas[0], height, aligned, regions.device)
    columns = _centers(cells[1], canvas[1], width, aligned, regions.device)
    outside = ~(rows[1][:, None] & columns[1][None])
    return regions[..., rows[0][:, None], columns[0]].masked_fill(outside, -1)


def _centers(
    cells: int, canvas: int, size: int, aligned: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pixel under the centre of each cell of a grid over a canvas, and whether it is inside."""
    if aligned:
        place = torch.linspace(0, canvas - 1, cells, device=device).round().long()
    else:
        place = ((torch.arange(cells, device=device) + 0.5) * canvas / cells).long()
    return place.clamp(max=size - 1), place < size


class BatchUnits(NamedTuple):
    """The regions of a batch that have a pixel, image by image."""

    row: Tensor
    """Ids among all regions of the batch, (n,), int64, ascending."""
    pixels: Tensor
    """Pixels of each, (n,), int64."""
    regions: Tensor
    """Ids of this kind by pixel, -1 = in no region, (B, H, W)."""
    stride: int
    """Ids that an image has."""

    @classmethod
    def of(cls, regions: Tensor, num_regions: int | None = None) -> "BatchUnits":
        """Of region ids or -1, (B, H, W); `num_regions` as in `FeatureTap`."""
        joined, stride = side_by_side(regions, num_regions)
        pixels = region_counts(joined, len(regions) * stride)
        row = pixels.nonzero().squeeze(1)
        return cls(row, pixels[row], joined, stride)

    @property
    def num_regions(self) -> int:
        """No id is so high."""
        return len(self.regions) * self.stride

    @property
    def image(self) -> Tensor:
        """Position in the batch of each unit's image, (n,)."""
        return self.row // self.stride

    @property
    def unit(self) -> Tensor:
        """Region id of each unit within its image, (n,)."""
        return self.row % self.stride


def unit_rows(index: Tensor, image: Tensor, unit: Tensor, **columns: Tensor) -> dict[str, Tensor]:
    """The table of a batch's units.

    Args:
        index: Image index of each position in the batch, (B,).
        image: Position in the batch of each unit's image, (n,).
        unit: Unit id, (n,).
        **columns: Other columns, (n, ...).

    Returns:
        Columns ``image`` and ``unit``, int32, and the others.
    """
    of = index.to(image.device, non_blocking=True)[image]
    return {"image": of.int(), "unit": unit.int(), **columns}


class FeatureTap:
    """Reads the features of a network while its module scores the pool.

    Nothing is computed twice where the module shows the network each image of a batch once; else
    the batch is shown to it once more.

    Args:
        module: Has a `Segmenter` somewhere, of which the first one is tapped; or its
            ``predict_step`` returns a table ``diversity`` of its own, and nothing is tapped.
        num_regions: No image has a region id so high; None = look, for which the host waits for a
            GPU in every batch.
    """

    def __init__(self, module: L.LightningModule, num_regions: int | None = None) -> None:
        self.num_regions = num_regions
        found = (part for part in module.modules() if isinstance(part, Segmenter))
        self.network = next(found, None)
        self._seen: list[tuple[Tensor, Tensor]] = []
        self._handle = (
            self.network.classifier.register_forward_hook(self._see) if self.network else None
        )

    def _see(self, module: Any, inputs: Any, outputs: tuple[Tensor, Tensor]) -> None:
        self._seen.append((outputs[0].detach(), outputs[1].detach()))

    def close(self) -> None:
        """Stop reading."""
        if self._handle is not None:
            self._handle.remove()

    def table(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """What was seen of a batch.

        Args:
            batch: ``index`` (B,), ``image`` (B, 3, H, W), ``regions`` (B, H, W).

        Returns:
            Columns ``image`` and ``unit`` (n,), int32, ``features`` (n, D), float16, and ``label``
            (n,), int32, -1 for regions too thin for the network's grid.

        Raises:
            UserError: If the module has no `Segmenter`.
        """
        if self.network is None:
            raise no_features()
        seen, self._seen = self._seen, []
        images = batch["image"]
        if sum(len(scores) for scores, _ in seen) != len(images):
            self.network(images)
            seen, self._seen = self._seen, []
        scores, features = (torch.cat(parts) for parts in zip(*seen, strict=True))
        units = BatchUnits.of(batch["regions"], self.num_regions)
        canvas = self.network.canvas(images.shape[-2], images.shape[-1])
        cells = (scores.shape[-2], scores.shape[-1])
        grid = region_grid(units.regions, cells, canvas, self.network.align_corners)
        mean = pooled_gradients(scores, features, grid, units.num_regions)[1]
        label = _majority(scores, grid, units)
        columns = {"features": mean[units.row].half(), "label": label}
        return unit_rows(batch["index"], units.image, units.unit, **columns)


def no_features() -> UserError:
    """The sentence for a module whose features nobody can read."""
    return UserError(
        "this diversity compares features, and the module has no alseg network (such as "
        "alseg.Segmentation has) to read them from; return tables 'units' and 'diversity', "
        "the latter with the columns image, unit, features and label, from predict_step, "
        "or choose diversity='power' or 'spread'."
    )


def predicted_labels(
    logits: Tensor, batch: Mapping[str, Tensor], num_regions: int | None = None
) -> dict[str, Tensor]:
    """The class that is predicted most in each region of a batch.

    Args:
        logits: (B, C, H, W).
        batch: ``index`` (B,) and ``regions`` (B, H, W).
        num_regions: See `FeatureTap`.

    Returns:
        Columns ``image``, ``unit`` and ``label``, (n,), int32.
    """
    units = BatchUnits.of(batch["regions"], num_regions)
    label = _majority(logits, units.regions, units)
    return unit_rows(batch["index"], units.image, units.unit, label=label)


def _majority(logits: Tensor, regions: Tensor, units: BatchUnits) -> Tensor:
    """The class that is predicted most in each unit, -1 without a pixel, (n,), int32."""
    best = logits.argmax(dim=1)
    histogram = class_histogram(best, regions, units.num_regions, logits.shape[1])
    return region_majority(histogram)[units.row].int()

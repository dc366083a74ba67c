"""What a network sees in the regions of an image: mean features, and the class it predicts most."""

from collections.abc import Mapping
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
from torch import Tensor

from alseg.acquisition.badge import pooled_gradients
from alseg.acquisition.statistics import class_histogram, region_counts
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
        regions: Region id of each pixel, (H, W), integer, -1 = in no region.
        cells: Height and width of the grid.
        canvas: Height and width in pixels of what the grid covers, at least those of the image.
        aligned: The outermost cells lie on the outermost pixels, see `alseg.nn.segmenter.upsample`.

    Returns:
        (h, w), -1 also for cells outside the image.
    """
    height, width = regions.shape
    rows = _centers(cells[0], canvas[0], height, aligned, regions.device)
    columns = _centers(cells[1], canvas[1], width, aligned, regions.device)
    outside = ~(rows[1][:, None] & columns[1][None])
    return regions[rows[0]][:, columns[0]].masked_fill(outside, -1)


def _centers(
    cells: int, canvas: int, size: int, aligned: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pixel under the centre of each cell of a grid over a canvas, and whether it is inside."""
    if aligned:
        place = torch.linspace(0, canvas - 1, cells, device=device).round().long()
    else:
        place = ((torch.arange(cells, device=device) + 0.5) * canvas / cells).long()
    return place.clamp(max=size - 1), place < size


class FeatureTap:
    """Reads the features of a network while its module scores the pool.

    Nothing is computed twice where the module shows the network each image of a batch once; else
    the batch is shown to it once more.

    Args:
        module: Has a `Segmenter` somewhere, of which the first one is tapped; or its
            ``predict_step`` returns a table ``diversity`` of its own, and nothing is tapped.
    """

    def __init__(self, module: L.LightningModule) -> None:
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
        canvas = self.network.canvas(images.shape[-2], images.shape[-1])
        columns: list[tuple[Tensor, ...]] = []
        maps = [pair for scores, features in seen for pair in zip(scores, features, strict=True)]
        for index, regions, (scores, features) in zip(
            batch["index"], batch["regions"], maps, strict=True
        ):
            count = int(regions.max()) + 1
            unit = region_counts(regions, count).nonzero().squeeze(1)
            grid = region_grid(regions, scores.shape[-2:], canvas, self.network.align_corners)
            histogram = class_histogram(scores.argmax(dim=0), grid, count, len(scores))
            label = histogram.argmax(dim=1)
            label = torch.where(histogram.sum(dim=1) > 0, label, -1)[unit]
            mean = pooled_gradients(scores, features, grid, count)[1][unit]
            columns.append((torch.full_like(unit, int(index)), unit, mean.half(), label))
        image, unit, features, label = (torch.cat(parts) for parts in zip(*columns, strict=True))
        return {
            "image": image.int(),
            "unit": unit.int(),
            "features": features,
            "label": label.int(),
        }


def no_features() -> UserError:
    """The sentence for a module whose features nobody can read."""
    return UserError(
        "this diversity compares features, and the module has no alseg network (such as "
        "alseg.Segmentation has) to read them from; return tables 'units' and 'diversity', "
        "the latter with the columns image, unit, features and label, from predict_step, "
        "or choose diversity='power' or 'spread'."
    )


def predicted_labels(logits: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The class that is predicted most in each region of a batch.

    Args:
        logits: (B, C, H, W).
        batch: ``index`` (B,) and ``regions`` (B, H, W).

    Returns:
        Columns ``image``, ``unit`` and ``label``, (n,), int32.
    """
    columns: list[tuple[Tensor, ...]] = []
    for index, regions, one in zip(batch["index"], batch["regions"], logits, strict=True):
        count = int(regions.max()) + 1
        unit = region_counts(regions, count).nonzero().squeeze(1)
        histogram = class_histogram(one.argmax(dim=0), regions, count, len(one))
        label = histogram.argmax(dim=1)[unit]
        columns.append((torch.full_like(unit, int(index)), unit, label))
    image, unit, label = (torch.cat(parts) for parts in zip(*columns, strict=True))
    return {"image": image.int(), "unit": unit.int(), "label": label.int()}

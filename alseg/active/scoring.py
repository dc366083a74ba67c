"""Scores of units from a network's outputs, and the module that brings them."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition import badge, scores
from alseg.acquisition.fused import (
    SUMMED,
    GridSums,
    Kernel,
    grid_scores,
    grid_sums,
    has_kernel,
)
from alseg.acquisition.pixels import draw_pixels, exclude_pixels
from alseg.acquisition.randomized import power_noise
from alseg.acquisition.scores import most_probable
from alseg.acquisition.statistics import (
    class_histogram,
    region_counts,
    region_majority,
    side_by_side,
)
from alseg.acquisition.units import (
    Reduce,
    UnitScores,
    batch_region_scores,
    top_pixels,
    units_of_sums,
)
from alseg.active.choose import most_units
from alseg.active.context import Asking
from alseg.active.dropout import DropoutCommittee
from alseg.active.features import BatchUnits, region_grid, shrunken, unit_rows
from alseg.active.module import CrossEntropyModule
from alseg.active.transfer import host_array, image_indices, kept_on_host, on_host
from alseg.core.images import VOID
from alseg.core.seeds import derive
from alseg.labels.tables import PIXELS, AnswerKind, UnitKind
from alseg.regions.geometry import resample_corners

Score = Callable[[Tensor], Tensor]

#: Scores of one pass by name: logits (B, C, H, W) to scores (B, H, W), higher = asked first. A
#: score of your own is a function and an entry here.
SCORES: dict[str, Score] = {
    "entropy": scores.entropy,
    "least_confidence": scores.least_confidence,
    "margin": scores.margin,
    "bvsb": scores.best_vs_second_best,
}
#: Scores that are no function of the logits alone.
SPECIAL_SCORES = ("class", "bvsb_and_class", "features", "gradients", "error")

_USUAL: dict[UnitKind, AnswerKind] = {
    "pixel": "class",
    "patch": "mask",
    "region": "dominant",
    "image": "mask",
}


def usual_answer(kind: UnitKind) -> AnswerKind:
    """What is asked about a unit unless somebody says otherwise.

    >>> usual_answer("region")
    'dominant'
    """
    return _USUAL[kind]


@dataclass(frozen=True)
class UnitScorer:
    """Turns the scores of pixels into the scores of an image's units.

    Attributes:
        most: Pixels returned per image, where pixels are the units.
        reduce: How pixel scores become a region's: ``mean``, ``sum`` or ``max``.
        power: Exponent of power-law noise, None for none.
        seed: Seed of everything random here; each image has a generator of its own.
        asked: Pixels asked so far by image, where pixels are the units.
        top_share: Draw the `most` pixels from this share of the best, None for the best.
        reverse: Draw that share at random instead, and take the best `most` of it.
        num_regions: No image has a region id so high; None = look, for which the host waits for a
            GPU in every batch.
    """

    most: int
    reduce: Reduce = "mean"
    power: float | None = None
    seed: int = 0
    asked: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    top_share: float | None = None
    reverse: bool = False
    num_regions: int | None = None

    @classmethod
    def of(cls, asking: Asking, answer: AnswerKind | None = None, **options: Any) -> Self:
        """For the next question about a pool.

        Args:
            asking: Of the round that asks.
            answer: What is asked; None = the usual question about these units.
            **options: See the attributes.
        """
        pool, highest = asking.pool, asking.num_regions
        asked, most = {}, 1
        if asking.kind == "pixel":
            asked = {image: pool.asked(PIXELS, image) for image in range(len(pool))}
            most = most_units(asking, answer or usual_answer(asking.kind))
        return cls(**{"most": most, "asked": asked, "num_regions": highest, **options})

    def table(self, scored: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Units of a batch.

        Args:
            scored: Pixel scores, (B, H, W), float.
            batch: ``index`` (B,) and, unless pixels are the units, ``regions`` (B, H, W).

        Returns:
            Columns ``image``, ``unit``, ``pixels``, int32, and ``score``, float32.
        """
        if "regions" not in batch:
            return self._pixels(scored, batch)
        regions = batch["regions"]
        return self.rows(
            *batch_region_scores(scored, regions, self.reduce, self.num_regions), batch["index"]
        )

    def rows(self, image: Tensor, units: UnitScores, index: Tensor) -> dict[str, Tensor]:
        """Columns of regions that have a score, which noise is added to where there is any.

        Args:
            image: Position in the batch of each unit's image, (n,).
            units: The units, image by image.
            index: Image index of each position, (B,).
        """
        columns = {"pixels": units.pixels.int(), "score": units.score.float()}
        table = unit_rows(index, image, units.unit, **columns)
        if self.power is None:
            return table
        table = on_host({"units": table})["units"]  # where the generator is
        of, score = table["image"].numpy(), table["score"].numpy().copy()
        ends = np.flatnonzero(np.diff(of, append=-1)) + 1
        for part in np.split(np.arange(len(of)), ends[:-1]) if len(of) else []:
            score[part] = self._noisy(score[part], int(of[part[0]]))
        return {**table, "score": torch.from_numpy(score)}

    def _pixels(self, scored: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The open pixels the images offer."""
        index = host_array(batch, "index")
        if self.power is not None:
            scored = scored.cpu()  # where the generator is
        offers = [
            self._offers(one, image)
            for one, image in zip(scored.flatten(1).float(), index.tolist(), strict=True)
        ]
        position = torch.arange(len(offers), device=scored.device)
        count = [len(offer.unit) for offer in offers]
        image = torch.cat([p.expand(n) for p, n in zip(position, count, strict=True)])
        unit, score, pixels = (torch.cat(parts) for parts in zip(*offers, strict=True))
        of = torch.from_numpy(index)
        return unit_rows(of, image, unit, pixels=pixels.int(), score=score)

    def _offers(self, flat: Tensor, index: int) -> UnitScores:
        """The open pixels an image offers; pixel scores are flat."""
        if self.power is not None:
            flat = torch.from_numpy(self._noisy(flat.numpy(), index))
        asked = torch.as_tensor(self.asked.get(index, np.zeros(0, np.int64)), device=flat.device)
        left = flat.numel() - len(asked)
        flat = exclude_pixels(flat, asked)
        if self.top_share is None:
            return top_pixels(flat, min(self.most, left))
        rng = np.random.default_rng(derive(self.seed, "draw", index))
        return draw_pixels(flat, self.most, self.top_share, rng, self.reverse, left)

    def _noisy(self, score: NDArray[np.floating[Any]], index: int) -> NDArray[np.float32]:
        rng = np.random.default_rng(derive(self.seed, "noise", index))
        return power_noise(score, float(self.power or 0.0), rng).astype(np.float32)


class ScoringModule(CrossEntropyModule):
    """Learns label maps; ``predict_step`` returns the table ``units``.

    Args:
        score: What is measured: a name of `SCORES`, with several passes of
            `alseg.acquisition.committee.COMMITTEE_SCORES`, or of `SPECIAL_SCORES` (of which
            ``error`` needs batches with ``target``), or a function from logits (B, C, H, W) to
            scores (B, H, W).
        scorer: How pixel scores become units.
        passes: Stochastic passes of a committee; 1 = one pass without dropout.
        scale: Factor on the size of images for ``bvsb_and_class``; regions are then measured on
            the smaller grid, and those too thin for it are left out.
        **shared: See `alseg.active.module.CrossEntropyModule`.

    Raises:
        UserError: If a committee is asked for and the network has no dropout.
    """

    def __init__(
        self,
        score: str | Score,
        scorer: UnitScorer,
        passes: int = 1,
        scale: float = 1.0,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.scale = scale
        self.score = score
        self.scorer = scorer
        self.passes = passes
        self._committee = DropoutCommittee(self.network, passes, str(score)) if passes > 1 else None

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """Keep on the host what is worked with there.

        Which images these are, from which follows what is random and what was asked, and the
        regions where they are resized.
        """
        if self.trainer.predicting:
            return kept_on_host(batch, "index", *(["regions"] if self.scale != 1 else []))
        return super().on_before_batch_transfer(batch, dataloader_idx)

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int
    ) -> dict[str, dict[str, Tensor]]:
        """Table ``units``: image, unit, pixels and score, features or gradients."""
        if self.score in ("features", "gradients"):
            return {"units": self._vectors(batch)}
        if self.score == "bvsb_and_class":
            return {"units": self._doubt_and_class(batch)}
        if self.score == "class" and "regions" in batch:
            return {"units": self.scorer.rows(*self._dominant(batch), batch["index"])}
        if self.score == "class":
            labels = self._labels(batch["image"]).float()
            return {"units": self.scorer.table(labels, batch)}
        if self.score == "error":
            labels = self._labels(batch["image"], self.num_classes)
            return {"units": self.scorer.table(_wrong(labels, batch["target"]), batch)}
        if "regions" in batch and (sums := self._region_sums(batch)) is not None:
            return {"units": self.scorer.rows(*self._units(sums), batch["index"])}
        return {"units": self.scorer.table(self._pixel_scores(batch), batch)}

    def _logits(self, images: Tensor) -> Iterator[Tensor]:
        """Logits of a batch, part by part."""
        for part in _parts(images):
            yield self.network(part).float()

    def _labels(self, images: Tensor, classes: int | None = None) -> Tensor:
        """The most probable of the first classes at each pixel, (B, H, W), uint8."""
        if has_kernel(images.device):
            grid = self.network.grid(images)
            return grid_scores(grid._replace(logits=grid.logits[:, :classes]), ["top1"])["top1"]
        return torch.cat([most_probable(z[:, :classes]) for z in self._logits(images)])

    def _pixel_scores(self, batch: Mapping[str, Tensor]) -> Tensor:
        """Pixel scores of a batch, (B, H, W)."""
        images = batch["image"]
        if self._committee is not None:
            return torch.cat([self._committee.scores(*one) for one in self._seeded(batch)])
        if self.score in SUMMED and has_kernel(images.device):
            return grid_scores(self.network.grid(images), [str(self.score)])[str(self.score)]
        score = SCORES[self.score] if isinstance(self.score, str) else self.score
        return torch.cat([score(logits) for logits in self._logits(images)])

    def _region_sums(self, batch: Mapping[str, Tensor]) -> GridSums | None:
        """Sums of scores over the regions of a batch; None where maps have to be written first."""
        images, regions, score = batch["image"], batch["regions"], self.score
        kernel: Kernel = "sums" if self._committee is None else "committee"
        known = self._committee is not None or score in SUMMED
        if self.scorer.reduce == "max" or not known or not has_kernel(images.device, kernel):
            return None
        highest = self._num_regions(regions)
        if self._committee is None:
            return grid_sums(self.network.grid(images), str(score), regions, highest)
        each = zip(self._seeded(batch), regions.split(1), strict=True)
        found = [self._committee.sums(*one, ids, highest) for one, ids in each]
        return GridSums(*(torch.cat(parts) for parts in zip(*found, strict=True)))

    def _seeded(self, batch: Mapping[str, Tensor]) -> list[tuple[Tensor, int]]:
        """The images of a batch, each (1, 3, H, W), with a seed of its own."""
        seeds = [derive(self.scorer.seed, index) for index in image_indices(batch)]
        return list(zip(batch["image"].split(1), seeds, strict=True))

    def _num_regions(self, regions: Tensor) -> int:
        return self.scorer.num_regions or max(1, int(regions.max()) + 1)

    def _units(self, found: GridSums) -> tuple[Tensor, UnitScores]:
        reduce = self.scorer.reduce
        assert reduce != "max"
        return units_of_sums(found.sums, found.pixels, reduce)

    def _doubt_and_class(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Uncertainty and dominant class of the regions of a batch."""
        images = shrunken(batch["image"], self.scale)
        scorer, regions = self.scorer, batch["regions"]
        if self.scale != 1:
            size = (images.shape[-2], images.shape[-1])
            maps = host_array(batch, "regions").astype(np.int64)
            small = np.stack([resample_corners(one, *size) for one in maps])
            regions = torch.from_numpy(small).to(regions.device, non_blocking=True)
        if scorer.reduce != "max" and has_kernel(images.device, "sums"):
            found, histogram = self._class_sums(images, regions)
            image, units = self._units(found)
        else:
            parts = [scores.best_two(logits) for logits in self._logits(images)]
            doubt, labels = (torch.cat([part[k] for part in parts]) for k in (0, 1))
            image, units = batch_region_scores(doubt, regions, scorer.reduce, scorer.num_regions)
            histogram = self._histogram(labels, regions)
        label = _majority(histogram, image, units.unit)
        pixels = units.pixels
        if self.scale != 1:  # those a person would see
            joined, stride = side_by_side(batch["regions"], scorer.num_regions)
            whole = region_counts(joined, len(batch["index"]) * stride)
            pixels = whole[image * stride + units.unit]
        columns = {"pixels": pixels.int(), "score": units.score, "label": label}
        return unit_rows(batch["index"], image, units.unit, **columns)

    def _dominant(self, batch: Mapping[str, Tensor]) -> tuple[Tensor, UnitScores]:
        """The most frequent label of every region of a batch as its score."""
        images, regions = batch["image"], batch["regions"]
        if has_kernel(images.device, "sums"):
            found, histogram = self._class_sums(images, regions)
            image, units = units_of_sums(found.sums, found.pixels)
        else:
            labels = self._labels(images)
            highest = self.scorer.num_regions
            image, units = batch_region_scores(labels, regions, num_regions=highest)
            histogram = self._histogram(labels, regions)
        return image, units._replace(score=_majority(histogram, image, units.unit).float())

    def _class_sums(self, images: Tensor, regions: Tensor) -> tuple[GridSums, Tensor]:
        """Best versus second best summed over regions, and their pixels of each class, (B, R, C).

        By the kernel.
        """
        highest = self._num_regions(regions)
        found = grid_sums(self.network.grid(images), "bvsb", regions, highest, by_class=True)
        histogram = found.pixels[..., : self.num_classes]
        return found._replace(sums=found.sums.sum(2), pixels=found.pixels.sum(2)), histogram

    def _histogram(self, labels: Tensor, regions: Tensor) -> Tensor:
        """Pixels of each class in each region, (B, R, C)."""
        joined, stride = side_by_side(regions, self.scorer.num_regions)
        found = class_histogram(labels, joined, len(regions) * stride, self.num_classes)
        return found.view(len(regions), stride, -1)

    def _vectors(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Mean features, and mean prediction error, of the regions of a batch."""
        units = BatchUnits.of(batch["regions"], self.scorer.num_regions)
        found = []
        for images, ids in zip(_parts(batch["image"]), _parts(units.regions), strict=True):
            logits, features, canvas = self.network.features(images)
            cells = (logits.shape[-2], logits.shape[-1])
            grid = region_grid(ids, cells, canvas, self.network.align_corners)
            found.append(badge.pooled_gradients(logits, features, grid, units.num_regions))
        # of a region that a part has not seen both are 0 there
        error, mean = (torch.stack(parts).sum(0) for parts in zip(*found, strict=True))
        columns = {"pixels": units.pixels.int(), "features": mean[units.row]}
        if self.score == "gradients":
            columns["error"] = error[units.row]
        return unit_rows(batch["index"], units.image, units.unit, **columns)


def _parts(images: Tensor) -> tuple[Tensor, ...]:
    """The images of a batch that a network is shown together.

    On a CPU an image is a part: nothing is gained by more, and its bits do not depend on the images
    beside it.
    """
    return images.split(1 if images.device.type == "cpu" else len(images))


def _majority(histogram: Tensor, image: Tensor, unit: Tensor) -> Tensor:
    """The most frequent label of some regions, (n,), int32."""
    most = region_majority(histogram.flatten(0, 1))
    return most[image * histogram.shape[1] + unit].int()


def _wrong(labels: Tensor, truth: Tensor) -> Tensor:
    """1 where the label is not the true one, 0 where it is or the truth is void, (B, H, W)."""
    return ((labels != truth) & (truth != VOID)).float()

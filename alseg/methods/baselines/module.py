"""The network of a baseline, and how it scores."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alseg.acquisition import badge, committee, scores
from alseg.acquisition.pixels import draw_pixels, exclude_pixels
from alseg.acquisition.randomized import power_noise
from alseg.acquisition.statistics import class_histogram, region_majority
from alseg.acquisition.units import UnitScores, region_scores, top_pixels
from alseg.active.module import CrossEntropyModule
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.core.seeds import derive

#: Scores of one pass, (B, C, H, W) logits to (B, H, W).
SINGLE: dict[str, Callable[[Tensor], Tensor]] = {
    "entropy": scores.entropy,
    "least_confidence": scores.least_confidence,
    "margin": scores.margin,
    "bvsb": scores.best_vs_second_best,
    "class": lambda logits: logits.argmax(dim=1).float(),
}
#: Scores of several passes; those of `SINGLE` are of the mean probabilities.
SEVERAL: dict[str, Callable[[committee.CommitteeSums], Tensor]] = {
    "entropy": committee.predictive_entropy,
    "least_confidence": committee.least_confidence,
    "margin": committee.margin,
    "bald": committee.bald,
    "vote_entropy": committee.vote_entropy,
}


class ScoringModule(CrossEntropyModule):
    """Learns label maps; ``predict_step`` returns the table ``units``.

    Args:
        score: What is measured: a name of `SINGLE` or `SEVERAL`, ``classbal``, ``features``,
            ``gradients``, or ``error`` where batches have ``target``.
        reduce: How pixel scores become a unit's: ``mean``, ``sum`` or ``max``.
        most: Pixels returned per image, where pixels are the units.
        power: Exponent of power-law noise, None for none.
        seed: Seed of everything random here; each image has a generator of its own.
        asked: Pixels asked so far by image, where pixels are the units.
        passes: Stochastic passes of a committee; 1 = one pass without dropout.
        top_share: Draw the ``most`` pixels from this share of the best, None for the best.
        reverse: Draw that share at random instead, and take the best ``most`` of it.
        **shared: See `alseg.active.module.CrossEntropyModule`.

    Raises:
        UserError: If a committee is asked for and the network has no dropout.
    """

    def __init__(
        self,
        score: str,
        reduce: str,
        most: int,
        power: float | None,
        seed: int,
        asked: Mapping[int, NDArray[np.int64]],
        passes: int = 1,
        top_share: float | None = None,
        reverse: bool = False,
        **shared: Any,
    ) -> None:
        super().__init__(**shared)
        self.score = score
        self.reduce = reduce
        self.most = most
        self.power = power
        self.seed = seed
        self.asked = asked
        self.passes = passes
        self.top_share = top_share
        self.reverse = reverse
        self._dropouts = [
            m for m in self.network.modules() if isinstance(m, nn.modules.dropout._DropoutNd)
        ]
        if passes > 1 and not any(m.p > 0 for m in self._dropouts):
            raise UserError(
                "this method asks a committee of dropout masks, and the network has no dropout; "
                "choose an architecture with dropout, such as DeepLabV3Plus, or give "
                "network.options one (e.g. decoder_aspp_dropout, dropout)."
            )

    def predict_step(
        self, batch: dict[str, Tensor], batch_idx: int
    ) -> dict[str, dict[str, Tensor]]:
        """Table ``units``: image, unit, pixels and score, features or gradients."""
        parts = [self._image(batch, item) for item in range(len(batch["index"]))]
        return {"units": {name: torch.cat([p[name] for p in parts]) for name in parts[0]}}

    def _image(self, batch: dict[str, Tensor], item: int) -> dict[str, Tensor]:
        image, index = batch["image"][item : item + 1], int(batch["index"][item])
        regions = batch["regions"][item] if "regions" in batch else None
        if self.score in ("features", "gradients"):
            assert regions is not None  # the method refuses pixels
            return self._vectors(image, index, regions)
        if self.score == "classbal":
            assert regions is not None  # the method refuses pixels
            return self._doubt_and_class(image, index, regions)
        if self.score == "error":
            scored = _wrong(self.network(image)[0, : self.num_classes], batch["target"][item])
        else:
            scored = self._maps(image, index)[0]
        if regions is None:
            units = self._pixels(scored, index)
        elif self.score == "class":
            units = _majority(scored, regions, self.num_classes)
        else:
            units = region_scores(scored, regions, self.reduce)  # type: ignore[arg-type]
        score = units.score
        if self.power is not None and regions is not None:
            score = self._noisy(score, index)
        return _rows(index, units.unit, units.pixels, score=score.float())

    def _maps(self, image: Tensor, index: int) -> Tensor:
        """Pixel scores of an image, (1, H, W)."""
        if self.passes == 1:
            return SINGLE[self.score](self.network(image).float())
        sums: committee.CommitteeSums | None = None
        with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
            torch.manual_seed(derive(self.seed, index))  # not what the batch's others drew
            for module in self._dropouts:
                module.train()
            for _ in range(self.passes):
                logits = self.network(image).float()
                if sums is None:
                    sums = committee.CommitteeSums.of(logits)
                else:
                    sums.add(logits)
            for module in self._dropouts:
                module.eval()
        assert sums is not None
        return SEVERAL[self.score](sums)

    def _pixels(self, scored: Tensor, index: int) -> UnitScores:
        """The open pixels this image offers."""
        flat = scored.reshape(-1).float()
        if self.power is not None:
            flat = self._noisy(flat, index)
        asked = torch.as_tensor(self.asked.get(index, np.zeros(0, np.int64)), device=flat.device)
        flat = exclude_pixels(flat, asked)
        if self.top_share is None:
            return top_pixels(flat, min(self.most, flat.numel() - len(asked)))
        rng = np.random.default_rng(derive(self.seed, "draw", index))
        return draw_pixels(flat, self.most, self.top_share, rng, self.reverse)

    def _noisy(self, score: Tensor, index: int) -> Tensor:
        rng = np.random.default_rng(derive(self.seed, "noise", index))
        noisy = power_noise(score.cpu().numpy(), float(self.power or 0.0), rng)
        return torch.as_tensor(noisy, dtype=torch.float32, device=score.device)

    def _doubt_and_class(self, image: Tensor, index: int, regions: Tensor) -> dict[str, Tensor]:
        """Uncertainty and dominant class of the regions of an image."""
        scored = scores.pixel_scores(self.network(image).float())
        units = region_scores(scored.bvsb[0], regions, self.reduce)  # type: ignore[arg-type]
        label = _majority(scored.top1[0].float(), regions, self.num_classes).score.int()
        return _rows(index, units.unit, units.pixels, score=units.score, label=label)

    def _vectors(self, image: Tensor, index: int, regions: Tensor) -> dict[str, Tensor]:
        """Mean features, and mean prediction error, of the regions of an image."""
        logits, features, canvas = self.network.features(image)
        height, width = regions.shape
        # the regions on the decoder's grid: each cell reads the pixel at its centre
        aligned, device = self.network.align_corners, regions.device
        rows = _centers(logits.shape[-2], canvas[0], height, aligned, device)
        columns = _centers(logits.shape[-1], canvas[1], width, aligned, device)
        coarse = regions[rows[0]][:, columns[0]].masked_fill(
            ~(rows[1][:, None] & columns[1][None]), -1
        )
        num_regions = int(regions.max()) + 1
        error, mean = badge.pooled_gradients(logits[0], features[0].float(), coarse, num_regions)
        every = region_scores(torch.zeros_like(regions, dtype=torch.float32), regions)
        vectors = {"features": mean[every.unit]}
        if self.score == "gradients":
            vectors["error"] = error[every.unit]
        return _rows(index, every.unit, every.pixels, **vectors)


def _wrong(logits: Tensor, truth: Tensor) -> Tensor:
    """1 where the best class is not the true one, 0 where it is or the truth is void, (H, W)."""
    return ((logits.argmax(dim=0) != truth) & (truth != VOID)).float()


def _rows(index: int, unit: Tensor, pixels: Tensor, **columns: Tensor) -> dict[str, Tensor]:
    image = torch.full_like(unit, index)
    return {"image": image.int(), "unit": unit.int(), "pixels": pixels.int(), **columns}


def _majority(labels: Tensor, regions: Tensor, num_classes: int) -> UnitScores:
    """The most frequent label of every region as its score."""
    every = region_scores(labels, regions)
    histogram = class_histogram(labels.long(), regions, int(regions.max()) + 1, num_classes)
    return UnitScores(every.unit, region_majority(histogram)[every.unit].float(), every.pixels)


def _centers(
    cells: int, canvas: int, size: int, aligned: bool, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Pixel under the centre of each cell of a grid over a canvas, and whether it is inside."""
    if aligned:  # the outermost centres lie on the outermost pixels
        place = torch.linspace(0, canvas - 1, cells, device=device).round().long()
    else:
        place = ((torch.arange(cells, device=device) + 0.5) * canvas / cells).long()
    return place.clamp(max=size - 1), place < size

"""Scores of units from a network's outputs, and the module that brings them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from alseg.acquisition import badge, committee, scores
from alseg.acquisition.pixels import draw_pixels, exclude_pixels
from alseg.acquisition.randomized import power_noise
from alseg.acquisition.statistics import class_histogram, region_majority
from alseg.acquisition.units import Reduce, UnitScores, region_scores, top_pixels
from alseg.active.choose import most_units
from alseg.active.context import Asking
from alseg.active.features import region_grid
from alseg.active.module import CrossEntropyModule
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.core.seeds import derive
from alseg.labels.tables import PIXELS, AnswerKind, UnitKind

Score = Callable[[Tensor], Tensor]

#: Scores of one pass by name: logits (B, C, H, W) to scores (B, H, W), higher = asked first. A
#: score of your own is a function and an entry here.
SCORES: dict[str, Score] = {
    "entropy": scores.entropy,
    "least_confidence": scores.least_confidence,
    "margin": scores.margin,
    "bvsb": scores.best_vs_second_best,
}
#: Scores of several passes with dropout; those of `SCORES` are of the mean probabilities.
COMMITTEE_SCORES: dict[str, Callable[[committee.CommitteeSums], Tensor]] = {
    "entropy": committee.predictive_entropy,
    "least_confidence": committee.least_confidence,
    "margin": committee.margin,
    "bald": committee.bald,
    "vote_entropy": committee.vote_entropy,
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
    """

    most: int
    reduce: Reduce = "mean"
    power: float | None = None
    seed: int = 0
    asked: Mapping[int, NDArray[np.int64]] = field(default_factory=dict)
    top_share: float | None = None
    reverse: bool = False

    @classmethod
    def of(cls, asking: Asking, answer: AnswerKind | None = None, **options: Any) -> Self:
        """For the next question about a pool.

        Args:
            asking: Of the round that asks.
            answer: What is asked; None = the usual question about these units.
            **options: See the attributes.
        """
        pool, asked = asking.pool, {}
        if asking.kind == "pixel":
            asked = {image: pool.asked(PIXELS, image) for image in range(len(pool))}
        most = most_units(asking, answer or usual_answer(asking.kind))
        return cls(**{"most": most, "asked": asked, **options})

    def table(self, scored: Tensor, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Units of a batch.

        Args:
            scored: Pixel scores, (B, H, W), float.
            batch: ``index`` (B,) and, unless pixels are the units, ``regions`` (B, H, W).

        Returns:
            Columns ``image``, ``unit``, ``pixels``, int32, and ``score``, float32.
        """
        regions: Sequence[Tensor | None] = [None] * len(scored)
        if "regions" in batch:
            regions = list(batch["regions"])
        return stacked(
            [
                self.units(one, int(index), ids)
                for one, index, ids in zip(scored, batch["index"], regions, strict=True)
            ]
        )

    def units(self, scored: Tensor, index: int, regions: Tensor | None) -> dict[str, Tensor]:
        """Units of an image, see `table`.

        Args:
            scored: Pixel scores, (H, W), float.
            index: Image index.
            regions: Region ids, (H, W), -1 = in no region; None = pixels are the units.
        """
        if regions is None:
            units = self._pixels(scored, index)
        else:
            units = region_scores(scored, regions, self.reduce)
        return self.rows(units, index, regions is not None)

    def rows(self, units: UnitScores, index: int, noisy: bool) -> dict[str, Tensor]:
        """Columns of units that have a score, which noise may be added to."""
        score = units.score
        if self.power is not None and noisy:
            score = self._noisy(score, index)
        return unit_rows(index, units.unit, units.pixels, score=score.float())

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


class ScoringModule(CrossEntropyModule):
    """Learns label maps; ``predict_step`` returns the table ``units``.

    Args:
        score: What is measured: a name of `SCORES`, `COMMITTEE_SCORES` or `SPECIAL_SCORES` (of
            which ``error`` needs batches with ``target``), or a function from logits
            (B, C, H, W) to scores (B, H, W).
        scorer: How pixel scores become units.
        passes: Stochastic passes of a committee; 1 = one pass without dropout.
        **shared: See `alseg.active.module.CrossEntropyModule`.

    Raises:
        UserError: If a committee is asked for and the network has no dropout.
    """

    def __init__(
        self, score: str | Score, scorer: UnitScorer, passes: int = 1, **shared: Any
    ) -> None:
        super().__init__(**shared)
        self.score = score
        self.scorer = scorer
        self.passes = passes
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
        return {"units": stacked([self._image(batch, i) for i in range(len(batch["index"]))])}

    def _image(self, batch: dict[str, Tensor], item: int) -> dict[str, Tensor]:
        image, index = batch["image"][item : item + 1], int(batch["index"][item])
        regions = batch["regions"][item] if "regions" in batch else None
        if self.score in ("features", "gradients"):
            assert regions is not None  # the method refuses pixels
            return self._vectors(image, index, regions)
        if self.score == "bvsb_and_class":
            assert regions is not None  # the method refuses pixels
            return self._doubt_and_class(image, index, regions)
        if self.score == "class" and regions is not None:
            label = self.network(image).float().argmax(dim=1)[0].float()
            units = _majority(label, regions, self.num_classes)
            return self.scorer.rows(units, index, noisy=True)
        if self.score == "error":
            scored = _wrong(self.network(image)[0, : self.num_classes], batch["target"][item])
        elif self.score == "class":
            scored = self.network(image).float().argmax(dim=1)[0].float()
        else:
            scored = self._pixel_scores(image, index)[0]
        return self.scorer.units(scored, index, regions)

    def _pixel_scores(self, image: Tensor, index: int) -> Tensor:
        """Pixel scores of an image, (1, H, W)."""
        if self.passes == 1:
            score = SCORES[self.score] if isinstance(self.score, str) else self.score
            return score(self.network(image).float())
        assert isinstance(self.score, str)
        sums: committee.CommitteeSums | None = None
        with torch.random.fork_rng(devices=[image.device] if image.is_cuda else []):
            torch.manual_seed(derive(self.scorer.seed, index))  # not what the batch's others drew
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
        return COMMITTEE_SCORES[self.score](sums)

    def _doubt_and_class(self, image: Tensor, index: int, regions: Tensor) -> dict[str, Tensor]:
        """Uncertainty and dominant class of the regions of an image."""
        scored = scores.pixel_scores(self.network(image).float())
        units = region_scores(scored.bvsb[0], regions, self.scorer.reduce)
        label = _majority(scored.top1[0].float(), regions, self.num_classes).score.int()
        return unit_rows(index, units.unit, units.pixels, score=units.score, label=label)

    def _vectors(self, image: Tensor, index: int, regions: Tensor) -> dict[str, Tensor]:
        """Mean features, and mean prediction error, of the regions of an image."""
        logits, features, canvas = self.network.features(image)
        cells = (logits.shape[-2], logits.shape[-1])
        grid = region_grid(regions, cells, canvas, self.network.align_corners)
        num_regions = int(regions.max()) + 1
        error, mean = badge.pooled_gradients(logits[0], features[0].float(), grid, num_regions)
        every = region_scores(torch.zeros_like(regions, dtype=torch.float32), regions)
        vectors = {"features": mean[every.unit]}
        if self.score == "gradients":
            vectors["error"] = error[every.unit]
        return unit_rows(index, every.unit, every.pixels, **vectors)


def stacked(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Tables of equal columns under each other."""
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def unit_rows(index: int, unit: Tensor, pixels: Tensor, **columns: Tensor) -> dict[str, Tensor]:
    """The table of one image's units: ``image``, ``unit`` and ``pixels``, int32, and others."""
    image = torch.full_like(unit, index)
    return {"image": image.int(), "unit": unit.int(), "pixels": pixels.int(), **columns}


def _wrong(logits: Tensor, truth: Tensor) -> Tensor:
    """1 where the best class is not the true one, 0 where it is or the truth is void, (H, W)."""
    return ((logits.argmax(dim=0) != truth) & (truth != VOID)).float()


def _majority(labels: Tensor, regions: Tensor, num_classes: int) -> UnitScores:
    """The most frequent label of every region as its score."""
    every = region_scores(labels, regions)
    histogram = class_histogram(labels.long(), regions, int(regions.max()) + 1, num_classes)
    return UnitScores(every.unit, region_majority(histogram)[every.unit].float(), every.pixels)

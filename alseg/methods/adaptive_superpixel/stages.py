"""The one stage of adaptive superpixels: a fit from scratch on sieved answers."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from alseg.active.affordable import PART
from alseg.active.checkpoints import load_network
from alseg.active.stage import Preparation, Stage
from alseg.core.errors import UserError
from alseg.labels.pool import LabelPool
from alseg.labels.supervision import LabelFiles, LabelMaps
from alseg.labels.tables import PIXELS, plural
from alseg.methods.adaptive_superpixel.module import Merger, Predictions, Sieve
from alseg.regions.merged import MergedMaps

if TYPE_CHECKING:
    from alseg.methods.adaptive_superpixel.method import AdaptiveSuperpixel


@dataclass(frozen=True, kw_only=True)
class Train(Stage):
    """Learns the answers; from round 1 on those that the network before thinks are right."""

    method: "AdaptiveSuperpixel"

    def predictions(self, round: int) -> Predictions:
        """Logits the pass before a round's query left."""
        return Predictions(self.context.ledger.round(round) / "predictions")

    def module(self) -> Merger:
        """A fresh network that also merges and scores."""
        context, method = self.context, self.method
        pool = context.pool
        check_answers(pool)
        return Merger(
            num_regions=np.asarray(pool.maps[context.regions].num_regions),
            eps=method.eps,
            limit=method.limit,
            scale=method.prediction_scale,
            predictions=self.predictions(context.round + 1) if method.sieve else None,
            asked={int(i): asked_base(pool, int(i), context.regions) for i in pool.images()},
            network=context.network.build(pool.num_classes),
            num_classes=pool.num_classes,
            steps=self.fit.steps,
            recipe=method.recipe(),
        )

    @property
    def sieves(self) -> bool:
        """Whether the answers are sieved: in round 0 no network is there to do it."""
        return bool(self.context.round) and self.method.sieve

    @property
    def min_pixels(self) -> int:
        """Size from which on regions are sieved."""
        pixels = units = 0
        for _, _, sizes in self.context.pool.units_in_parts(self.context.regions, PART):
            pixels, units = pixels + int(sizes.sum()), units + len(sizes)
        return round(self.method.sieve_above * pixels / units)

    def supervision(self) -> LabelFiles | LabelMaps:
        """The answers as they are in round 0, later the sieved ones."""
        pool = self.context.pool
        return LabelFiles(self.folder / "labels", pool.images()) if self.sieves else LabelMaps(pool)

    def prepare(self) -> Preparation | None:
        """Sieve all answers by the network of the round before."""
        labels, context = self.supervision(), self.context
        if isinstance(labels, LabelMaps) or not len(missing := labels.missing()):
            return None
        network = context.network.build(context.pool.num_classes)
        load_network(network, self.method.train(context.before).checkpoint)
        sieve = Sieve(
            network=network,
            predictions=self.predictions(context.round),
            scale=self.method.prediction_scale,
            pool=context.pool,
            labels=labels,
            min_pixels=self.min_pixels,
            steps=self.method.sieve_steps,
        )
        return Preparation(sieve, missing)


def check_answers(pool: LabelPool) -> None:
    """Refuse answers of another run, which may be repeated, that this method cannot learn from.

    Raises:
        UserError: Naming the first round that asked for something else.
    """
    for answers in pool.known:
        if answers.label is None or answers.regions == PIXELS:
            raise UserError(
                f"round {answers.round} asked for the {answers.answer} of {plural(answers.kind)}, "
                f"and method=adaptive_superpixel learns dominant classes of superpixels; repeat a "
                f"run that asked for these."
            )


def asked_base(pool: LabelPool, image: int, regions: str) -> NDArray[np.int64]:
    """Base superpixels of an image that some answer is about, whatever the map it was about.

    Args:
        pool: The answers.
        image: Image index.
        regions: Version of the base superpixels.
    """
    found = []
    for answers, rows in pool.answers(image):
        maps, units = pool.maps[answers.regions], answers.unit[rows]
        if isinstance(maps, MergedMaps):
            units = np.flatnonzero(np.isin(maps.roots[image], units))
        elif answers.regions != regions:  # of another run
            inside = np.isin(maps[image], units)
            base = pool.maps[regions][image][inside]
            units = np.unique(base[base >= 0]).astype(np.int64)
        found.append(units)
    return np.unique(np.concatenate(found)) if found else np.zeros(0, dtype=np.int64)

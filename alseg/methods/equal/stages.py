"""The stages of EquAL: a pass or some in every round, and the final training from scratch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from alseg.active.stage import Stage
from alseg.labels.supervision import LabelMaps
from alseg.methods.equal.module import TwoViews
from alseg.methods.equal.recipe import recipe

if TYPE_CHECKING:
    from alseg.methods.equal.method import Equal


@dataclass(frozen=True, kw_only=True)
class Train(Stage):
    """One round: the weights and the optimiser of the round before go on (F7, F8)."""

    takes_single: ClassVar[bool] = True  # the image is doubled

    method: "Equal"

    def module(self) -> TwoViews:
        """A fresh network with one output more than there are classes."""
        return self._module(self.method.consistency, final=False)

    def _module(self, consistency: bool, final: bool) -> TwoViews:
        num_classes, method = self.context.pool.num_classes, self.method
        return TwoViews(
            consistency=consistency,
            one_pass=method.one_pass,
            grid=method.grid(self.context),
            scale=1.0 if final else method.round_scale,
            void_wins=method.void_wins,
            network=self.context.network.build(num_classes + 1),
            num_classes=num_classes,
            steps=self.fit.steps,
            recipe=recipe(method, final, self.fit.epoch_batches),
        )

    def supervision(self) -> LabelMaps:
        """The patches labelled so far, on the images that own one (F12)."""
        return LabelMaps(self.context.pool)


@dataclass(frozen=True, kw_only=True)
class Final(Train):
    """The last network of a run, trained from scratch on all labels."""

    def module(self) -> TwoViews:
        """A fresh network."""
        return self._module(self.method.final_consistency, final=True)

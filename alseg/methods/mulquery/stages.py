"""The two stages of mulquery: on class sets (section 3), and on pseudo labels (section 4)."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from alseg.active.stage import Preparation, Stage
from alseg.labels.supervision import LabelFiles
from alseg.methods.mulquery.module import PseudoLabeller
from alseg.methods.mulquery.module import StageOne as StageOneModule
from alseg.methods.mulquery.module import StageTwo as StageTwoModule
from alseg.methods.mulquery.supervision import ClassSets
from alseg.nn.recipe import Recipe

if TYPE_CHECKING:
    from alseg.methods.mulquery.method import MulQuery


@dataclass(frozen=True, kw_only=True)
class _Stage(Stage):
    """What both stages share: the cosine classifier, and the images with class sets."""

    method: "MulQuery"

    def sets(self) -> ClassSets:
        """The class sets answered so far."""
        return ClassSets.of(self.context.pool, self.context.regions, self.method.undefined_class)

    def training(self, lr: float) -> dict[str, Any]:
        """Keyword arguments of the modules."""
        num_classes, method = self.context.pool.num_classes, self.method
        outputs = num_classes + method.undefined_class
        return {
            "network": self.context.network.build(outputs, cosine=True),
            "num_classes": num_classes,
            "steps": self.fit.steps,
            "recipe": Recipe(lr, method.head_factor, weight_decay=method.weight_decay),
            "temperature": method.temperature,
        }


@dataclass(frozen=True, kw_only=True)
class StageOne(_Stage):
    """Learns the class sets, and scores the pool."""

    def module(self) -> StageOneModule:
        """A fresh network with the losses of stage 1 (L1 to L3)."""
        method = self.method
        weights = (method.single_weight, method.merged_weight, method.prototype_weight)
        highest = int(self.context.pool.num_units(self.context.regions).max(initial=0))
        return StageOneModule(
            weights=weights,
            num_regions=highest or None,
            score_centre=method.score_centre,
            **self.training(method.lr),
        )

    def supervision(self) -> ClassSets:
        """The class sets answered so far."""
        return self.sets()


@dataclass(frozen=True, kw_only=True)
class StageTwo(_Stage):
    """Learns pseudo labels of pixels that the network of stage 1 wrote.

    Attributes:
        one: Stage 1 of the same round.
    """

    one: StageOne

    def module(self) -> StageTwoModule:
        """A fresh network with cross-entropy."""
        return StageTwoModule(**self.training(self.method.stage_two_lr))

    def supervision(self) -> LabelFiles:
        """The pseudo labels that `prepare` wrote."""
        return LabelFiles(self.folder / "labels", self.sets().images)

    def prepare(self) -> Preparation | None:
        """Write the pseudo labels that are missing, by the network of stage 1."""
        sets, labels, method = self.sets(), self.supervision(), self.method
        missing = labels.missing()
        if not len(missing):
            return None
        labeller = PseudoLabeller(
            network=self.one.trained().network,
            sets=sets,
            labels=labels,
            variant=method.pseudo_labels,
            proto_temperature=method.proto_temperature,
            threshold=method.threshold,
            strict=method.strict,
            scales=method.pseudo_scales,
            flip=method.pseudo_flip,
        )
        return Preparation(labeller, missing)

"""MADBAL (Yazdani, Li & Monga, BMVC 2023, arXiv 2308.14904) as a method of the loop."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import check_budget
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.stage import KEEPS, Fit, Stage, Start
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import ImageSet, require_rgb
from alseg.core.seeds import derive
from alseg.labels.budget import Budget
from alseg.labels.imagefiles import ImageFiles
from alseg.labels.tables import PIXELS, AnswerKind, Answers, Query, Table, UnitKind
from alseg.methods.madbal.cells import cell_query, random_cells
from alseg.methods.madbal.clustering import SuperpixelClusters, feature_files
from alseg.methods.madbal.measures import (
    NO_CLUSTER,
    clicks_by_cluster,
    cluster_map,
    hardness,
    void_clicks,
)
from alseg.nn.recipe import Recipe

if TYPE_CHECKING:  # torch takes seconds to import
    from alseg.methods.madbal.stages import Segment, Support

READINGS = ("image_mean", "pixel_reversed", "pixel_js", "none")
FEATURES = ("vgg16", "encoder")
REPAIRS = ("room", "random")
SCHEDULES = ("as_written", "intended")


@dataclass(frozen=True)
class Madbal(Method):
    """A budget that flows from clusters to superpixels to pixels (Yazdani et al., BMVC 2023).

    arXiv 2308.14904. Every round asks for the class of the same number of pixels in each image,
    budget / images: round 0 at random, later what the clusters of superpixels are worth. Phase I
    trains the network on all answers; phase II freezes it and trains classifiers at three depths
    and a detector of hard pixels, which score the pool. `README.md` has the rest.

    Attributes:
        grid: Pixels along a side of a cell. One cell is asked as one pixel, its top left one, and
            learnt as a whole; the paper has 4 on Cityscapes. Cut superpixels with
            ``regions.shrink`` of the same number, for them to follow the cells.
        clusters: Clusters of superpixels in the whole pool.
        features: What superpixels are clustered by: ``vgg16``, as the paper, or ``encoder``, the
            last features of the network trained in round 0, which needs no other weights.
        feature_weights: Of VGG-16: ``imagenet`` (downloaded once), a path to a state dict, or null
            for random ones, by which clusters mean little.
        reading: How depths disagree: ``image_mean``, as the paper's code does, ``pixel_reversed``,
            as it seems to mean, or ``pixel_js``, the Jensen-Shannon divergence. ``none`` scores
            pixels by their entropy alone: what phase II is to be measured against.
        repair: Where an image has too few superpixels of a cluster, their share goes where most
            superpixels are left (``room``), or as in the paper's code, partly at random
            (``random``).
        edges_as_written: Find edges as the paper's code, which takes red for blue and does not
            count the strongest ones.
        frozen_dropout: The frozen network drops features while phase II trains, as in the paper's
            code.
        skip_void: Never ask for pixels that are truly void. Reads ground truth nobody was asked
            for.
        steps: Training batches of phase I, from scratch.
        batch_size: Images per batch.
        support_steps: Training batches of phase II, which the last round leaves out.
        support_batch_size: Images per batch.
        lr: Learning rate of both phases.
        head_factor: Learning rate of decoder and classifier, as a multiple of the encoder's.
        optimizer: ``sgd`` with momentum 0.9, ``adam`` or ``adamw``, see `alseg.nn.recipe.Recipe`.
        weight_decay: Of the optimiser.
        schedule: ``as_written``: phase I falls polynomially to 0 but begins an epoch late, phase II
            is constant, as in the paper's code; ``intended``: both fall from the first step on.
        keep: ``last`` or ``best`` checkpoint of phase I on the validation images.
        epoch_steps: Batches between two checkpoints of phase I.
        support_epoch_steps: Batches between two checkpoints of phase II.
        validate_every: Checkpoints of phase I between two validations, with ``best``.
        short_batches: The last batch of a pass over the images is as small as what is left of
            them; by default it is filled up from the next pass.
        support_blur: Whether pictures are blurred in phase II as they are in phase I, see
            ``augment.blur``.
    """

    #: The units are what it finds pixels by; what it asks is the class of these pixels.
    kept: ClassVar[Mapping[str, int]] = {"clusters.npz": 0, "superpixel_features": 0}
    asks: ClassVar[Mapping[UnitKind, tuple[AnswerKind, ...]]] = {
        "region": ("class",),
        "patch": ("class",),
    }
    defaults: ClassVar[Mapping[str, str]] = {
        "regions": "seeds_published",
        "budget.rule": "within",
    }
    small: ClassVar[Mapping[str, str]] = {
        "method.steps": "120",
        "method.support_steps": "60",
        "method.lr": "0.001",
        "method.optimizer": "adamw",
        "method.schedule": "intended",
        "method.epoch_steps": "40",
        "method.support_epoch_steps": "30",
        "method.features": "encoder",
        "regions": "seeds",
        "regions.region_size": "128",
        "budget.amount": "1000",
    }
    ranks: ClassVar[bool] = False

    grid: int = 1
    clusters: int = 9
    features: str = "vgg16"
    feature_weights: str | None = "imagenet"
    reading: str = "image_mean"
    repair: str = "room"
    edges_as_written: bool = True
    frozen_dropout: bool = False
    skip_void: bool = False
    steps: int = 40_000
    batch_size: int = 6
    support_steps: int = 9_000
    support_batch_size: int = 10
    lr: float = 0.01
    head_factor: float = 1.0
    optimizer: str = "sgd"
    weight_decay: float = 1e-4
    schedule: str = "as_written"
    keep: str = "last"
    epoch_steps: int = 500
    support_epoch_steps: int = 300
    validate_every: int = 1
    short_batches: bool = False
    support_blur: bool = True

    def __post_init__(self) -> None:
        for option, known in (
            ("features", FEATURES),
            ("reading", READINGS),
            ("repair", REPAIRS),
            ("schedule", SCHEDULES),
            ("keep", KEEPS),
        ):
            if getattr(self, option) not in known:
                raise unknown_name(f"method.{option}", getattr(self, option), known)
        if not 1 <= self.clusters < NO_CLUSTER:
            raise UserError(
                f"method.clusters is {self.clusters}; give 1 to {NO_CLUSTER - 1}, such as 9."
            )
        lengths = ("steps", "batch_size", "epoch_steps")
        for option in (
            "grid",
            "validate_every",
            *lengths,
            *(f"support_{name}" for name in lengths),
        ):
            if getattr(self, option) < 1:
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be >= 1.")
        self.recipe()

    @property
    def reads_truth(self) -> bool:
        """With `skip_void`."""
        return self.skip_void

    def learns(self, answers: Answers, own: bool) -> bool:
        """The class of pixels, whatever found them."""
        return answers.answer == "class" and answers.regions == PIXELS

    def check(self, images: ImageSet, budget: Budget) -> None:
        """Find out early whether the feature network can be had and reads these images."""
        from alseg.methods.madbal.patches import check_feature_weights

        require_rgb(images, "method=madbal")
        if self.features == "vgg16":
            check_feature_weights(self.feature_weights)

    # Training

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """Phase I and, unless this is the last round, phase II."""
        segment = self.segment(context)
        last = context.round == context.rounds - 1
        return [segment] if last else [segment, self.support(context)]

    def segment(self, context: RoundContext) -> "Segment":
        """Phase I of a round."""
        from alseg.methods.madbal.stages import Segment

        fit = Fit(
            self.steps,
            self.batch_size,
            self.epoch_steps,
            self.short_batches,
            keep=self.keep,
            validate_every=self.validate_every,
        )
        return Segment(name="segment", fit=fit, context=context, method=self)

    def support(self, context: RoundContext) -> "Support":
        """Phase II of a round."""
        from alseg.methods.madbal.stages import Support

        return Support(
            name="support",
            fit=Fit(
                self.support_steps,
                self.support_batch_size,
                self.support_epoch_steps,
                self.short_batches,
                augment={} if self.support_blur else {"blur": 0.0},
            ),
            start=Start("segment"),
            evaluate=False,
            context=context,
            method=self,
            segment=self.segment(context),
        )

    def recipe(self) -> Recipe:
        """Optimiser of both phases."""
        return Recipe(
            lr=self.lr,
            head_factor=self.head_factor,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            floor=0.0,
        )

    # Asking

    def ask(self, context: RoundContext) -> Query | Scoring:
        """Random cells first, then those that phase II finds in a pass over the whole pool.

        Images with nothing left to ask are scored as well: what a cluster is worth is measured on
        all of its superpixels.
        """
        if context.round == 0:
            check_budget(context, "class")
            image, cells = random_cells(context, self.each(context), self.grid, self.skip_void)
            return cell_query(context, self.grid, image, cells, np.zeros(len(image)))
        return Scoring(
            "support",
            pick=lambda tables: self.pick(context, tables),
            images=np.arange(len(context.pool)),
        )

    def each(self, context: RoundContext) -> int:
        """Pixels asked in every image.

        Raises:
            UserError: If the budget does not reach one per image.
        """
        price = float(context.budget.least_cost("class", np.ones(1, np.int64))[0])
        each = int(context.budget.amount / price / len(context.pool)) if price else 0
        if each < 1:
            raise UserError(
                f"budget.amount is {context.budget.amount:g} {context.budget.axis} for "
                f"{len(context.pool)} images; method=madbal needs at least one pixel in each."
            )
        return each

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Quotas of the clusters, filled by the best superpixels of each image (step 2)."""
        from alseg.methods.madbal.budget import choose_superpixels

        rows = {name: np.asarray(column) for name, column in tables["superpixels"].items()}
        image, unit = rows["image"].astype(np.int64), rows["unit"].astype(np.int64)
        rng = context.rng("repair")
        chosen = choose_superpixels(
            rows["score"],
            rows["pixels"],
            rows["label"],
            image,
            self.clusters_of(context).of(image, unit),
            unit,
            self.each(context),
            num_images=len(context.pool),
            num_classes=context.pool.num_classes,
            num_clusters=self.clusters,
            draw=(lambda m: int(rng.integers(m))) if self.repair == "random" else None,
        )
        best = rows["top"].astype(np.int64)[chosen]
        return cell_query(context, self.grid, image[chosen], best, rows["score"][chosen])

    def clusters_of(self, context: RoundContext) -> SuperpixelClusters:
        """The clusters of superpixels, which are formed when they are first asked for (F6)."""
        clusters = SuperpixelClusters.kept(context)
        if clusters is None:
            seed = derive(context.seed, "clusters")
            features = self.superpixel_features(context)
            clusters = SuperpixelClusters.formed(features, len(context.pool), self.clusters, seed)
            clusters.keep(context)
        return clusters

    def superpixel_features(self, context: RoundContext) -> ImageFiles:
        """What superpixels are clustered by, one file per image."""
        weights = self.feature_weights if self.features == "vgg16" else None
        return feature_files(context, weights, self.grid)

    # Reporting

    def measures(self, context: RoundContext, truth: ImageSet | None) -> Mapping[str, float]:
        """Clicks on void so far, and from round 1 on, what this round's clicks went to."""
        clusters = SuperpixelClusters.kept(context)
        counts = clicks_by_cluster(context, clusters, self.clusters)
        return {
            "void_clicks": float(void_clicks(context)),
            **{f"clicks_by_cluster/{k}": float(count) for k, count in enumerate(counts)},
        }

    def show(self, context: RoundContext, image: int) -> Mapping[str, NDArray[Any]]:
        """Superpixels, their clusters, and how hard the detector finds each pixel."""
        regions = context.pool.maps[context.regions][image]
        maps: dict[str, NDArray[Any]] = {"superpixels": regions}
        clusters = SuperpixelClusters.kept(context)
        if clusters is not None:
            maps["clusters"] = cluster_map(regions, image, clusters)
        support = self.support(context)
        if support.checkpoint.exists():
            maps["hard pixels"] = hardness(support, context.images.image(image))
        return maps

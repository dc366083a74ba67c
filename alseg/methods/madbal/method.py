"""MADBAL as a method of the loop."""

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from alseg.active.choose import check_budget
from alseg.active.context import RoundContext
from alseg.active.method import Method, Scoring
from alseg.active.stage import Preparation, Stage, Start
from alseg.core.errors import UserError, unknown_name
from alseg.core.images import VOID, ImageSet
from alseg.core.seeds import derive
from alseg.labels.budget import Budget
from alseg.labels.supervision import Supervision
from alseg.labels.tables import PIXELS, Query, Table, load_arrays
from alseg.methods.madbal.files import ImageFiles, write_arrays
from alseg.methods.madbal.labels import (
    CellLabels,
    asked_cells,
    check_answers,
    labelled_pixels,
    pixels_of_cells,
)
from alseg.methods.madbal.schedule import phase_one_lr, phase_two_lr
from alseg.nn.recipe import Recipe
from alseg.regions.cells import grid_labels, grid_of

if TYPE_CHECKING:  # torch takes seconds to import
    import lightning as L
    from torch import nn

    from alseg.methods.madbal.disagreement import Reading
    from alseg.methods.madbal.module import PhaseTwo

log = logging.getLogger(__name__)

READINGS = ("image_mean", "pixel_reversed", "pixel_js", "none")
FEATURES = ("vgg16", "encoder")
REPAIRS = ("room", "random")
SCHEDULES = ("as_written", "intended")
#: No cluster, in pictures.
_NONE = np.iinfo(np.uint16).max


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
    """

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

    def __post_init__(self) -> None:
        for option, known in (
            ("features", FEATURES),
            ("reading", READINGS),
            ("repair", REPAIRS),
            ("schedule", SCHEDULES),
            ("keep", ("last", "best")),
        ):
            if getattr(self, option) not in known:
                raise unknown_name(f"method.{option}", getattr(self, option), known)
        if not 1 <= self.clusters < _NONE:
            raise UserError(f"method.clusters is {self.clusters}; give 1 or more, such as 9.")
        positive = ("grid", "steps", "batch_size", "support_steps", "support_batch_size")
        for option in positive:
            if getattr(self, option) < 1:
                raise UserError(f"method.{option} is {getattr(self, option)}; it must be >= 1.")
        self._recipe()

    @property
    def reads_truth(self) -> bool:
        """With `skip_void`."""
        return self.skip_void

    def check(self, images: ImageSet, budget: Budget) -> None:
        """Find out early whether the feature network can be had."""
        from alseg.methods.madbal.patches import check_feature_weights

        if self.features == "vgg16":
            check_feature_weights(self.feature_weights)

    def _recipe(self) -> Recipe:
        return Recipe(
            lr=self.lr,
            head_factor=self.head_factor,
            optimizer=self.optimizer,
            weight_decay=self.weight_decay,
            floor=0.0,
        )

    def each(self, context: RoundContext) -> int:
        """Pixels asked in every image.

        Raises:
            UserError: If the run has no superpixels, or the budget does not reach one per image.
        """
        if context.kind == "pixel":
            raise UserError(
                "method=madbal finds its pixels by superpixels; give regions=seeds_published, "
                "seeds, slic or files."
            )
        price = float(context.budget.least_cost("class", np.ones(1, np.int64))[0])
        each = int(context.budget.amount / price / len(context.pool)) if price else 0
        if each < 1:
            raise UserError(
                f"budget.amount is {context.budget.amount:g} {context.budget.axis} for "
                f"{len(context.pool)} images; method=madbal needs at least one pixel in each."
            )
        return each

    def stages(self, context: RoundContext) -> Sequence[Stage]:
        """Phase I and, unless this is the last round, phase II."""
        phases = [
            Stage(
                "segment",
                steps=self.steps,
                batch_size=self.batch_size,
                epoch_steps=self.epoch_steps,
                keep=self.keep,
            )
        ]
        if context.round < context.rounds - 1:
            phases.append(
                Stage(
                    "support",
                    steps=self.support_steps,
                    batch_size=self.support_batch_size,
                    epoch_steps=self.support_epoch_steps,
                    start=Start("segment"),
                    evaluate=False,
                )
            )
        return phases

    def module(self, stage: Stage, context: RoundContext) -> "L.LightningModule":
        """A fresh network, with support modules in phase II."""
        import torch

        from alseg.methods.madbal.losses import class_weights
        from alseg.methods.madbal.module import PhaseOne, PhaseTwo
        from alseg.methods.madbal.supported import Supported

        check_answers(context.pool)
        network = context.network.build(context.pool.num_classes)
        shared: dict[str, Any] = {
            "num_classes": context.pool.num_classes,
            "steps": stage.steps,
            "recipe": self._recipe(),
            "class_weights": class_weights(torch.from_numpy(labelled_pixels(context.pool))),
            "rate": self._rate(stage),
        }
        if stage.name == "segment":
            return PhaseOne(network=network, **shared)
        return PhaseTwo(
            network=Supported(network, context.pool.num_classes, self.frozen_dropout),
            class_losses=self._class_losses(context),
            images=context.pool.images(),
            reading=None if self.reading == "none" else cast("Reading", self.reading),
            edges_as_written=self.edges_as_written,
            grid=self.grid,
            asked=partial(asked_cells, context.pool, grid=self.grid),
            void=VOID if self.skip_void else None,
            **shared,
        )

    def _rate(self, stage: Stage) -> Callable[[int, float], float] | None:
        if self.schedule == "intended":
            return None
        if stage.name == "support":
            return lambda step, base: phase_two_lr(step, stage.epochs, stage.epoch_batches, base)
        # the paper's code leaves out the last epoch of its schedule
        epochs = stage.epochs + 1
        return lambda step, base: phase_one_lr(step, epochs, stage.epoch_batches, base)

    def supervision(self, stage: Stage, context: RoundContext) -> Supervision:
        """Everything answered so far."""
        return CellLabels(context.pool, self.grid)

    # Between the phases

    def _class_losses(self, context: RoundContext) -> ImageFiles:
        return ImageFiles(context.stage_folder("support") / "class_losses")

    def _features(self, context: RoundContext) -> ImageFiles:
        """In the run folder, or, where other runs would find the same ones, in the cache."""
        if self.features == "encoder" or self.feature_weights is None:
            return ImageFiles(context.ledger.root / "superpixel_features")
        from alseg.methods.madbal.patches import feature_weights_name

        made_of = f"vgg16-{feature_weights_name(self.feature_weights)}-{context.regions}"
        images = context.images
        prints = tuple(images.fingerprint(image) for image in range(len(images)))
        return ImageFiles(context.cache / f"{made_of}-grid{self.grid}", prints)

    def _clusters(self, context: RoundContext) -> Path:
        return context.ledger.root / "clusters.npz"

    def prepare(self, stage: Stage, context: RoundContext) -> Preparation | None:
        """Losses per class of the trained network (F11) and, once, features of superpixels."""
        if stage.name != "support":
            return None
        labelled = context.pool.images()
        class_losses, features = self._class_losses(context), self._features(context)
        missing = class_losses.missing(labelled)
        clustered = self._clusters(context).exists()
        if not clustered:
            every = np.arange(len(context.pool), dtype=np.int64)
            missing = np.union1d(missing, features.missing(every))
        if not len(missing):
            return None
        import torch

        from alseg.methods.madbal.module import Between

        network = context.network.build(context.pool.num_classes)
        path = context.checkpoint(self.stages(context)[0])
        state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
        prefix = "network."
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
        )
        between = Between(
            network=network,
            labels=CellLabels(context.pool, self.grid),
            class_losses=class_losses,
            labelled=labelled,
            features=None if clustered else features,
            patch_network=None if clustered else self._patch_network(context),
            grid=self.grid,
        )
        return Preparation(between, missing)

    def _patch_network(self, context: RoundContext) -> "nn.Module | None":
        from alseg.methods.madbal.patches import feature_network

        if self.features == "encoder":
            return None
        if self.feature_weights is None:
            log.warning(
                "Superpixels are clustered by a VGG-16 with random weights: such clusters mean "
                "little. Give method.feature_weights=imagenet or a path, or method.features="
                "encoder."
            )
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive(context.seed, "vgg16"))  # the same wherever it is made
            return feature_network(self.feature_weights)

    # Choosing

    def first_query(self, context: RoundContext) -> Query:
        """The same number of random cells in every image (PixelPick, arXiv 2104.06394)."""
        check_budget(context, "class")
        each, cells = self.each(context), []
        for image, (height, width) in enumerate(context.pool.sizes.tolist()):
            rng = np.random.default_rng(derive(context.seed, "first", image))
            rows, columns = grid_of(height, width, self.grid)
            left = np.arange(rows * columns)
            if self.skip_void:
                truth = grid_labels(context.images.truth(image), self.grid)
                left = np.flatnonzero(truth != VOID)
            cells.append(rng.choice(left, min(each, len(left)), replace=False))
        counts = [len(chosen) for chosen in cells]
        images = np.repeat(np.arange(len(cells), dtype=np.int64), counts)
        return self._query(context, images, np.concatenate(cells), np.zeros(len(images)))

    def _query(
        self,
        context: RoundContext,
        image: NDArray[np.int64],
        cells: NDArray[np.int64],
        score: NDArray[np.floating[Any]],
    ) -> Query:
        unit = np.zeros(len(image), dtype=np.int64)
        for index in np.unique(image).tolist():
            rows = image == index
            height, width = context.pool.sizes[index].tolist()
            unit[rows] = pixels_of_cells(cells[rows], (height, width), self.grid)
        return Query(
            round=context.round,
            kind="pixel",
            answer="class",
            regions=PIXELS,
            image=image,
            unit=unit,
            score=score.astype(np.float32),
        )

    def scorer(self, context: RoundContext) -> Scoring:
        """Phase II, on the whole pool: clusters are worth what all of their superpixels are."""
        return Scoring("support", np.arange(len(context.pool)))

    def pick(self, context: RoundContext, tables: Mapping[str, Table]) -> Query:
        """Quotas of the clusters, filled by the best superpixels of each image (step 2)."""
        from alseg.methods.madbal.budget import choose_superpixels

        rows = {name: np.asarray(column) for name, column in tables["superpixels"].items()}
        image, unit = rows["image"].astype(np.int64), rows["unit"].astype(np.int64)
        of_superpixel = self._cluster_of(context)
        rng = context.rng("repair")
        chosen = choose_superpixels(
            rows["score"],
            rows["pixels"],
            rows["label"],
            image,
            of_superpixel(image, unit),
            unit,
            self.each(context),
            num_images=len(context.pool),
            num_classes=context.pool.num_classes,
            num_clusters=self.clusters,
            draw=(lambda m: int(rng.integers(m))) if self.repair == "random" else None,
        )
        top = rows["top"].astype(np.int64)[chosen]
        return self._query(context, image[chosen], top, rows["score"][chosen])

    def _cluster_of(
        self, context: RoundContext
    ) -> Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int64]]:
        """Clusters by image and superpixel; formed once, when they are first asked for."""
        path = self._clusters(context)
        if not path.exists():
            write_arrays(path, **self._form_clusters(context))
        stored = load_arrays(path)
        image, unit = stored["image"].astype(np.int64), stored["unit"].astype(np.int64)
        width = int(unit.max(initial=0)) + 1
        key, cluster = image * width + unit, stored["cluster"].astype(np.int64)

        def look_up(images: NDArray[np.int64], units: NDArray[np.int64]) -> NDArray[np.int64]:
            return cluster[np.searchsorted(key, images * width + units)]

        return look_up

    def _form_clusters(self, context: RoundContext) -> dict[str, NDArray[Any]]:
        """k-means of all superpixels of the pool (F6), by FAISS."""
        from alseg.acquisition.clustering import kmeans

        files = [self._features(context).read(image) for image in range(len(context.pool))]
        image = np.repeat(np.arange(len(files)), [len(file["unit"]) for file in files])
        unit = np.concatenate([file["unit"] for file in files])
        features = np.concatenate([file["features"] for file in files]).astype(np.float32)
        if len(unit) < self.clusters:
            raise UserError(
                f"method.clusters is {self.clusters}, but the pool has {len(unit)} superpixels; "
                f"give fewer clusters, or smaller superpixels."
            )
        log.info("clustering %d superpixels by %d features", *features.shape)
        _, cluster = kmeans(
            features, self.clusters, np.arange(len(unit)), derive(context.seed, "clusters")
        )
        return {
            "image": image.astype(np.int32),
            "unit": unit.astype(np.int32),
            "cluster": cluster.astype(np.uint16),
        }

    # Looking

    def measures(self, context: RoundContext, truth: ImageSet | None) -> Mapping[str, float]:
        """Clicks on void so far, and from round 1 on, what this round's clicks went to."""
        history = context.pool.history[: context.round + 1]
        answers = history[-1]
        labels = [said.label for said in history if said.label is not None]
        found = {"void_clicks": float(sum(int((label == VOID).sum()) for label in labels))}
        clusters = np.zeros(self.clusters, dtype=np.int64)
        if self._clusters(context).exists():
            regions = context.pool.maps[context.regions]
            asked = np.zeros(len(answers), dtype=np.int64)
            for image in np.unique(answers.image).tolist():
                rows = answers.image == image
                asked[rows] = regions[image].ravel()[answers.unit[rows]]
            cluster = self._cluster_of(context)(answers.image[asked >= 0], asked[asked >= 0])
            clusters = np.bincount(cluster, minlength=self.clusters)
        return found | {f"clicks_by_cluster/{k}": float(count) for k, count in enumerate(clusters)}

    def show(self, context: RoundContext, image: int) -> Mapping[str, NDArray[Any]]:
        """Superpixels, their clusters, and how hard the detector finds each pixel."""
        regions = context.pool.maps[context.regions][image]
        found: dict[str, NDArray[Any]] = {"superpixels": regions}
        if self._clusters(context).exists():
            inside = regions >= 0
            unit = regions[inside].astype(np.int64)
            clusters = np.full(regions.shape, _NONE, dtype=np.uint16)
            clusters[inside] = self._cluster_of(context)(np.full_like(unit, image), unit)
            found["clusters"] = clusters
        path = context.stage_folder("support") / "last.ckpt"
        if path.exists():
            found["hard pixels"] = self._hardness(context, path, context.images.image(image))
        return found

    def _hardness(
        self, context: RoundContext, path: Path, image: NDArray[np.uint8]
    ) -> NDArray[np.float32]:
        """Probability that a pixel is hard, (H, W): the detector's of its kind of pixel (F20)."""
        import torch

        from alseg.active.module import DESCRIPTION
        from alseg.data.transforms import EvalTransform
        from alseg.methods.madbal.edges import edge_mask

        stage = next(s for s in self.stages(context) if s.name == "support")
        module = cast("PhaseTwo", self.module(stage, context))
        state = torch.load(path, map_location="cpu", weights_only=True)
        module.load_state_dict(state["state_dict"])
        module.eval()
        about = state[DESCRIPTION]["images"]
        normalised, _ = EvalTransform(tuple(about["mean"]), tuple(about["std"]))(image, {})
        with torch.inference_mode():
            hard = module.network(normalised[None])[1].hard_logits[0].sigmoid()
            colors = torch.from_numpy(image).permute(2, 0, 1)[None]
            edges = edge_mask(colors, self.edges_as_written)[0]
            return torch.where(edges, hard[0], hard[1]).float().numpy()

"""The active loop as a callback: a predict run over the pool becomes the next query."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from alseg.acquisition.diversity import DIVERSITIES, Diversity
from alseg.active.choose import check_answer, query_from_scores
from alseg.active.context import Asking, RoundContext
from alseg.active.features import FeatureTap, no_features, predicted_labels
from alseg.active.module import LoopDataModule
from alseg.active.promised import TableQueue
from alseg.active.ranks import on_rank_zero
from alseg.active.scoring import SCORES, UnitScorer, usual_answer
from alseg.active.segmentation import Segmentation
from alseg.active.shards import NotFiniteError, ShardWriter, read_shards
from alseg.core.errors import UserError, unknown_name
from alseg.labels.kinds import KINDS
from alseg.labels.pool import LabelPool
from alseg.labels.tables import AnswerKind, Query, Table

if TYPE_CHECKING:
    from alseg.active.method import Method, Scoring

#: Told of a finished choice: the query, seconds of scoring, seconds of choosing. On rank 0.
Record = Callable[[Query, float, float], None]


class ActiveLoop(L.Callback):
    """Turns a predict run over the pool into the next query, on one device or many.

    Give it to ``Trainer(callbacks=[loop]).predict(model, datamodule)`` between two fits;
    ``loop.query`` then is what to ask. What the module's ``predict_step`` may return:

    - a table of units: tensors of one length by column, with ``image``, ``unit``, ``score`` and,
      for regions, ``pixels``;
    - logits, (B, C, H, W), which `score` turns into such a table;
    - tables by name: ``units`` as above, others where `method` or `pick` knows what to do with
      them. A diversity that compares features takes them from the module's alseg network, or from a
      table ``diversity`` with the columns ``image``, ``unit``, ``features`` and ``label``;
    - a `concurrent.futures.Future` of either kind of tables, for work on the host that runs beside
      the next batch (see `alseg.active.promised`).

    Tables go to disk batch by batch, rank 0 joins them and chooses, and every rank gets the query;
    the choice does not depend on the number of processes.

    Args:
        pool: What is known. A pool made by `LabelPool.of` knows what is asked about; else an
            `Asking` says it.
        answer: What is asked about a unit; None = the usual question about this kind of unit.
        score: Of logits: a name of `alseg.active.scoring.SCORES`, or a function from logits
            (B, C, H, W) to scores (B, H, W), higher = asked first. Takes the place of the score of
            a `Segmentation`; not for other modules that return tables.
        diversity: How like units are kept apart, a name of
            `alseg.acquisition.diversity.DIVERSITIES`; None = the highest scores.
        method: A method that chooses, such as ``MulQuery()``: its module has to be the one that
            scores.
        pick: A function from the joined tables (arrays by table and column) to the query, in place
            of a method.
        images: Images that are scored, ascending; None = all that have something left to ask.
        folder: Where the tables grow; None = a temporary folder, on one machine only.
        record: See `Record`.
        seed: Of whatever is random in the choice.

    Attributes:
        query: What to ask next, once the predict run has ended.
        where: What scores, for messages; None = the round alone.

    Raises:
        UserError: For an unknown name, options that exclude each other, or a pool that does not
            say what is asked about.
    """

    def __init__(
        self,
        pool: LabelPool | Asking,
        answer: AnswerKind | None = None,
        score: str | Callable[[Tensor], Tensor] | None = None,
        diversity: str | None = None,
        method: "Method | None" = None,
        pick: Callable[[Mapping[str, Table]], Query] | None = None,
        images: NDArray[np.int64] | None = None,
        folder: Path | None = None,
        record: Record | None = None,
        seed: int = 0,
    ) -> None:
        if isinstance(score, str) and score not in SCORES:
            raise unknown_name("score", score, SCORES)
        if diversity is not None and diversity not in DIVERSITIES:
            raise unknown_name("diversity", diversity, DIVERSITIES)
        check_answer(answer)
        if sum(given is not None for given in (score, method, pick)) > 1:
            raise UserError("give ActiveLoop one of score, method and pick.")
        self.asking = pool if isinstance(pool, Asking) else None
        self.pool = pool.pool if isinstance(pool, Asking) else pool
        self.answer = answer
        self.score = SCORES[score] if isinstance(score, str) else score
        self.diversity = diversity
        self.method = method
        self.pick = pick
        self.images = images
        self.folder = folder
        self.record = record
        self.seed = seed
        self.query: Query | None = None
        self.where: str | None = None
        self._folder: Path | None = None
        self._queue: TableQueue | None = None
        self._tap: FeatureTap | None = None
        if self.asking is None and method is None:
            Asking.of(self.pool)  # a pool that cannot be asked about is found out now

    def __repr__(self) -> str:
        how = self.diversity or "highest scores"
        found = "no query yet" if self.query is None else repr(self.query)
        return f"ActiveLoop({how}, {found})"

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Refused: a fit does not go over the pool.

        Raises:
            UserError: Always.
        """
        raise UserError(
            "ActiveLoop turns a predict run into a query and does nothing in a fit; give it to a "
            "Trainer of its own after training: Trainer(callbacks=[loop]).predict(model, data)."
        )

    def setup(self, trainer: L.Trainer, pl_module: L.LightningModule, stage: str) -> None:
        """Find out what is asked about, and which images the loader has to bring."""
        if stage != "predict":
            return
        self.query = None
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, LoopDataModule) and data.pool is not self.pool:
            raise UserError(
                "this ActiveLoop asks about another pool than the data module serves; give both "
                "the same pool."
            )
        asking = self._asking()
        if self.diversity is not None and asking.diversity is None:
            asking = replace(asking, diversity=Diversity(self.diversity))
        if asking.diversity is not None and asking.diversity.measured and asking.kind == "pixel":
            raise UserError(
                f"diversity={asking.diversity.name} compares regions, and this pool asks about "
                f"pixels; take superpixels, or diversity='power' or 'spread'."
            )
        if self.score is not None and isinstance(pl_module, Segmentation):
            pl_module.score, pl_module.passes, self.score = self.score, 1, None
        self._now = asking
        self._pass = self._scoring(asking)

    def _asking(self) -> Asking:
        if self.asking is not None:
            return self.asking
        asking = Asking.of(self.pool, self.seed)
        if self.method is None:
            return asking
        return _round_context(asking, self.folder)

    def _scoring(self, asking: Asking) -> "Scoring | None":
        """What a method wants scored; None where this callback chooses by itself."""
        if self.method is None:
            return None
        assert isinstance(asking, RoundContext)
        asked = self.method.ask(asking)
        if isinstance(asked, Query):
            raise UserError(
                f"{type(self.method).__name__} chooses this query without scoring the pool; call "
                f"its ask(context) instead of a predict run."
            )
        return asked

    def _expected(self) -> NDArray[np.int64]:
        images = self.images
        if images is None and self._pass is not None:
            images = self._pass.images
        return self.pool.open_images(self._now.regions) if images is None else images

    def on_predict_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Open this process's shard."""
        self._since = time.perf_counter()

        def make() -> Path:
            return self.folder or Path(tempfile.mkdtemp(prefix="alseg-scores-"))

        self._folder = folder = on_rank_zero(make)
        shard = ShardWriter(folder / f"rank_{trainer.global_rank}")
        self._queue = TableQueue(shard, self._promised)
        diversity = self._now.diversity
        if diversity is not None and diversity.measured:
            self._tap = FeatureTap(pl_module, self._now.num_regions)
        self._scorer: UnitScorer | None = None

    def on_predict_batch_start(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append what the batch before promised, if it is finished."""
        assert self._queue is not None
        with self._explained():
            self._queue.look()

    def on_predict_batch_end(
        self,
        trainer: L.Trainer,
        pl_module: L.LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Append the tables of a batch, or those the batch before promised."""
        tables = outputs if isinstance(outputs, Future) else self._tables(outputs, batch)
        beside = {"scored": {"image": batch["index"]}, **self._seen(outputs, tables, batch)}
        assert self._queue is not None
        with self._explained():
            self._queue.append(tables, beside)

    def _seen(self, outputs: Any, tables: Any, batch: Any) -> dict[str, dict[str, Tensor]]:
        """The table ``diversity`` of a batch, where the module does not make it itself."""
        if self._tap is None or (isinstance(tables, Mapping) and "diversity" in tables):
            return {}
        if self._tap.network is None and isinstance(outputs, Tensor):
            return {"diversity": predicted_labels(outputs, batch, self._now.num_regions)}
        if self._tap.network is None and isinstance(outputs, Future):
            return {}  # it may be among what is promised
        return {"diversity": self._tap.table(batch)}

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Says which images have scores that are not finite."""
        try:
            yield
        except NotFiniteError as error:
            raise self._not_finite(error) from error

    def _not_finite(self, error: NotFiniteError) -> UserError:
        data, images = self.pool.data, error.images
        shown = ", ".join(str(i) if data is None else data.names[i] for i in images[:5])
        where = self.where or f"round {self._now.round}"
        return UserError(
            f"{where}: scoring the pool gave a {error.column} (table {error.table!r}) that "
            f"is not finite, on the images {shown}"
            f"{', ...' if len(images) > 5 else ''}; the trained weights are broken, or these "
            f"images: look at the losses of the round before, lower method.lr or train with "
            f"trainer.precision=32-true, in another run_dir (labels_from=THIS_RUN_DIR there owns "
            f"what was answered here)."
        )

    def _tables(self, outputs: Any, batch: Mapping[str, Tensor]) -> dict[str, dict[str, Tensor]]:
        if isinstance(outputs, Tensor):
            size = tuple(batch["image"].shape[-2:])
            if outputs.ndim != 4 or tuple(outputs.shape[-2:]) != size:
                raise UserError(
                    f"predict_step returned {tuple(outputs.shape)} for images of {size}; return "
                    f"logits (B, C, {size[0]}, {size[1]})."
                )
            score = self.score or SCORES["entropy"]
            if self._scorer is None:
                self._scorer = UnitScorer.of(self._now, self.answer)
            return {"units": self._scorer.table(score(outputs.float()), batch)}
        return self._named(outputs)

    def _named(self, outputs: Any) -> dict[str, dict[str, Tensor]]:
        if self.score is not None:
            raise UserError(
                "ActiveLoop(score=...) is for modules whose predict_step returns logits, and this "
                "one returns a table; leave out score."
            )
        if not isinstance(outputs, Mapping):
            raise UserError(
                f"predict_step returned {type(outputs).__name__}; return logits (B, C, H, W), or a "
                f"table with the columns image, unit, score and pixels."
            )
        if "image" in outputs:  # one table
            return {"units": dict(outputs)}
        return dict(outputs)

    def _promised(self, outputs: Any) -> dict[str, dict[str, Tensor]]:
        tables = self._named(outputs)
        if self._tap is not None and self._tap.network is None and "diversity" not in tables:
            raise no_features()
        return tables

    def on_predict_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Join, choose, record; every rank gets the query."""
        assert self._queue is not None
        with self._explained():
            self._queue.close()
        self._close_tap()
        trainer.strategy.barrier("shards-on-disk")
        self.query = on_rank_zero(lambda: self._choose(trainer.world_size))
        if trainer.is_global_zero and self._folder is not None:
            shutil.rmtree(self._folder)  # hundreds of MB on a large pool; the query is what counts

    def on_exception(
        self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException
    ) -> None:
        """Leave no temporary folder behind, nothing promised, and the network as it was."""
        self._close_tap()
        if self._queue is not None:
            self._queue.drop()
        if self.folder is None and self._folder is not None and trainer.is_global_zero:
            shutil.rmtree(self._folder, ignore_errors=True)

    def _close_tap(self) -> None:
        if self._tap is not None:
            self._tap.close()
            self._tap = None

    def _choose(self, world: int) -> Query:
        assert self._folder is not None
        tables = joined([self._folder / f"rank_{rank}" for rank in range(world)], self._expected())
        start = time.perf_counter()
        measured = tables.pop("diversity", None)
        if self._now.diversity is not None and measured is not None:
            self._now.diversity.table = measured
        query = self._picked(tables)
        if self.record is not None:
            self.record(query, start - self._since, time.perf_counter() - start)
        return query

    def _picked(self, tables: Mapping[str, Table]) -> Query:
        if self.pick is not None:
            return self.pick(tables)
        if self._pass is not None:
            return self._pass.pick(tables)
        units = tables["units"]
        answer = self.answer or usual_answer(self._now.kind)
        needed = ("unit", "score", *(["suggested"] if KINDS[answer].suggests else []))
        lacking = [name for name in needed if name not in units]
        if lacking:
            raise UserError(
                f"the table of predict_step has no column {lacking[0]!r}; it has "
                f"{', '.join(units)}."
            )
        return query_from_scores(
            self._now,
            answer,
            units["image"],
            units["unit"],
            units["score"],
            units.get("pixels"),
            suggested=units["suggested"] if KINDS[answer].suggests else None,
        )


def joined(folders: Sequence[Path], expected: NDArray[np.int64]) -> dict[str, dict[str, Any]]:
    """The tables of all processes, each image once, rows sorted by image.

    Args:
        folders: One per process, see `alseg.active.shards`.
        expected: Images that must have been scored, ascending.

    Raises:
        RuntimeError: If others were.
    """
    tables = read_shards(list(folders))
    scored = np.unique(tables.pop("scored")["image"])
    if not np.array_equal(scored, expected):
        raise RuntimeError(f"scored {len(scored)} of {len(expected)} pool images")
    return tables


def _round_context(asking: Asking, folder: Path | None) -> RoundContext:
    """What a method may know of a loop that has no run folder."""
    from alseg.active.ledger import Ledger
    from alseg.core.images import WithoutTruth
    from alseg.nn.network import Network

    if asking.pool.data is None:
        raise UserError(
            "ActiveLoop(method=...) needs a pool that knows its images; make it by "
            "LabelPool.of(images, regions, budget)."
        )
    root = folder or Path(tempfile.gettempdir()) / "alseg-loop"
    return RoundContext(
        **{field.name: getattr(asking, field.name) for field in fields(asking)},
        rounds=asking.round + 2,
        images=WithoutTruth(asking.pool.data),
        network=Network(weights=None),
        ledger=Ledger(root, writes=False),
        cache=root / "cache",
    )

"""The order of things: answers, stages, evaluation, query, and round again.

Nothing here remembers whether something was done: each step asks the run folder for its file and
makes it if it is not there. A run can be killed at any instant and continued by the same call.
"""

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import ModelCheckpoint, TQDMProgressBar
from lightning.pytorch.loggers import CSVLogger, Logger

from alseg.active.ledger import Ledger
from alseg.active.loop import ActiveLoop, Reseed, Stopwatch, is_rank_zero, on_rank_zero
from alseg.active.method import Method, RoundContext, Stage
from alseg.active.module import LoopDataModule
from alseg.active.oracle import AwaitingAnswersError, Oracle
from alseg.active.pool import LabelPool
from alseg.active.seeds import derive
from alseg.active.tables import PIXELS, Answers, Query, UnitKind
from alseg.errors import UserError
from alseg.images import DataSplits, WithoutTruth
from alseg.nn.network import Network

log = logging.getLogger(__name__)


class Observer(Protocol):
    """Is told what happened; draws pictures, writes pages, sends numbers elsewhere."""

    def waiting(self, query: Query, pool: LabelPool, folder: Path) -> None:
        """A person has to answer the query."""
        ...

    def round_closed(self, round: int, pool: LabelPool, rows: Sequence[Mapping[str, Any]]) -> None:
        """A round is evaluated; ``rows`` are those of ``rounds.csv`` so far."""
        ...


@dataclass
class Run:
    """Everything a run is made of; `drive` sets it in motion.

    Attributes:
        method: How to train, score and pick.
        splits: Pool and validation images.
        datamodule: Serves them, see `alseg.data.datamodule.ActiveDataModule`.
        pool: Empty; filled by replaying the folder.
        regions: Version of the maps whose regions are asked about, or `PIXELS`.
        kind: What one region of these maps is.
        oracle: Answers.
        network: Builds segmentation networks.
        root: The run folder.
        rounds: Rounds to train.
        seed: Decides everything random.
        trainer: Makes the keyword arguments of one `lightning.Trainer` from those a stage needs.
        loggers: Loggers besides CSV.
        observers: See `Observer`.
        replay: Folder of another run whose purchases are repeated instead of choosing.
    """

    method: Method
    splits: DataSplits
    datamodule: LoopDataModule
    pool: LabelPool
    regions: str
    kind: UnitKind
    oracle: Oracle
    network: Network
    root: Path
    rounds: int
    seed: int
    trainer: Callable[[Mapping[str, Any]], dict[str, Any]]
    loggers: list[Logger] = field(default_factory=list)
    observers: list[Observer] = field(default_factory=list)
    replay: Path | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise UserError(f"rounds is {self.rounds}; a run needs at least 1.")
        self.ledger = Ledger(self.root, writes=is_rank_zero())

    def context(self, round: int) -> RoundContext:
        """What the method may know in a round."""
        return RoundContext(
            round=round,
            rounds=self.rounds,
            seed=self.seed,
            pool=self.pool,
            images=WithoutTruth(self.splits.train),
            regions=self.regions,
            kind=self.kind,
            network=self.network,
            ledger=self.ledger,
        )


def drive(run: Run) -> list[dict[str, Any]]:
    """Do what is left to do of a run.

    Returns:
        One row per finished round, as in ``rounds.csv``.

    Raises:
        AwaitingAnswersError: If a person has to answer before it can go on.
        UserError: For settings or answers that cannot be used.
    """
    rows: list[dict[str, Any]] = []
    published = False
    for round in range(run.rounds):
        if not buy(run, round):
            log.info("round %d: nothing is left to ask", round)
            break
        context = run.context(round)
        metrics = on_rank_zero(lambda r=round: run.ledger.metrics(r))  # type: ignore[misc]
        following = on_rank_zero(lambda r=round: run.ledger.query(r + 1))  # type: ignore[misc]
        asked = following is not None or round == run.rounds - 1
        published = metrics is not None and asked
        if metrics is None or not asked:
            modules = train(run, context)
            if metrics is None:
                metrics = evaluate(run, context, modules)
            if not asked:
                ask(run, context, modules)
        rows.append(_row(run, round, metrics))
        if not published:
            publish(run, rows)
    if published:  # nothing was left to do, but a kill may have come before the last page
        publish(run, rows)
    return rows


def publish(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``rounds.csv`` and tell the observers."""
    run.ledger.write_rounds(rows)
    if run.ledger.writes:
        for observer in run.observers:
            observer.round_closed(int(rows[-1]["round"]), run.pool, rows)


def buy(run: Run, round: int) -> bool:
    """Have the query of a round answered and commit the answers; False if there is nothing to ask.

    Raises:
        AwaitingAnswersError: If a person has to answer first.
        UserError: If the folder's query and answers do not belong together.
    """

    def decide() -> Answers | None:
        query, answers = run.ledger.query(round), run.ledger.answers(round)
        if query is None and run.replay is not None:
            query, answers = _replayed(run, round)
        elif query is None and round == 0:
            query = run.method.first_query(run.context(0))
            run.ledger.write_query(query)
        if query is None or not len(query):
            return None
        if answers is None:
            answers = _answered(run, query)
            run.ledger.write_answers(answers)
        head = query.head(len(answers))
        same = np.array_equal(head.image, answers.image) and np.array_equal(head.unit, answers.unit)
        if not same:
            raise UserError(
                f"{run.ledger.round(round)} holds a query and answers that do not belong together; "
                f"restore one of them from a copy, or give another run_dir."
            )
        return answers

    if any(bought.round == round for bought in run.pool.history):
        return True  # this run was driven before, in this process
    answers = on_rank_zero(decide)
    if answers is None:
        return False
    cost = run.pool.commit(answers)
    log.info(
        "round %d: %d %ss answered for %g clicks (%.1f h); %g clicks in all",
        round,
        len(answers),
        answers.kind,
        cost.clicks,
        cost.seconds / 3600,
        run.pool.spent().clicks,
    )
    return True


def _answered(run: Run, query: Query) -> Answers:
    folder = run.ledger.round(query.round)
    try:
        return run.oracle.answer(query, run.pool, run.splits.train, folder)
    except AwaitingAnswersError:
        if run.ledger.writes:
            for observer in run.observers:
                observer.waiting(query, run.pool, folder)
        raise


def _replayed(run: Run, round: int) -> tuple[Query | None, Answers | None]:
    """The purchases of another run in this round, copied here."""
    source = Ledger(run.replay, writes=False) if run.replay else None
    query = source.query(round) if source else None
    answers = source.answers(round) if source else None
    if query is None or answers is None:
        return None, None
    known = query.regions == PIXELS or query.regions in run.pool.maps
    if not known or answers.num_classes != run.pool.num_classes:
        raise UserError(
            f"{run.replay} asked about other regions or classes ({query.regions}, "
            f"{answers.num_classes} classes); give the same data and regions as there."
        )
    run.ledger.write_query(query)
    run.ledger.write_answers(answers)
    return query, answers


def train(run: Run, context: RoundContext) -> dict[str, L.LightningModule]:
    """Train the stages of a round, or load those that are finished; modules by stage name."""
    modules: dict[str, L.LightningModule] = {}
    for stage in run.method.stages(context):
        key = (run.seed, context.round, stage.name)
        L.seed_everything(derive(*key), workers=True, verbose=False)
        module = modules[stage.name] = run.method.module(stage, context)
        folder = context.stage_folder(stage.name)
        done = on_rank_zero(lambda f=folder: _epochs_done(f))  # type: ignore[misc]
        if done < stage.epochs:
            _prepare(run, context, stage)
            _start(run, context, stage, module)
            _fit(run, context, stage, module, resume=done > 0)
        _load(module, folder / f"{stage.keep}.ckpt")
    return modules


def _epochs_done(folder: Path) -> int:
    """Epochs in a stage's last checkpoint, 0 without one."""
    path = folder / "last.ckpt"
    if not path.exists():
        return 0
    return int(torch.load(path, map_location="cpu", mmap=True, weights_only=True)["epoch"]) + 1


def _load(module: L.LightningModule, path: Path) -> None:
    state = torch.load(path, map_location="cpu", weights_only=True)["state_dict"]
    module.load_state_dict(state)


def _prepare(run: Run, context: RoundContext, stage: Stage) -> None:
    preparation = run.method.prepare(stage, context)
    if preparation is None or not len(preparation.images):
        return
    run.datamodule.begin_pass(preparation.images, run.regions)
    trainer = _trainer(run, context.stage_folder(stage.name), f"{stage.name}: preparing", [])
    trainer.predict(preparation.module, datamodule=run.datamodule, return_predictions=False)
    trainer.strategy.barrier("prepared")


def _start(run: Run, context: RoundContext, stage: Stage, module: L.LightningModule) -> None:
    """Load the weights a stage starts from, unless it starts from scratch."""
    start = stage.start
    round = context.round - 1 if start and start.previous_round else context.round
    if start is None or round < 0:
        return
    _load(module, run.ledger.stage(round, start.stage) / "last.ckpt")


class _CarryOptimizer(L.Callback):
    """Gives a fresh fit the optimiser states of another checkpoint."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        states = torch.load(self.path, map_location="cpu", weights_only=True)["optimizer_states"]
        for optimizer, state in zip(trainer.optimizers, states, strict=True):
            optimizer.load_state_dict(state)


def _fit(
    run: Run, context: RoundContext, stage: Stage, module: L.LightningModule, resume: bool
) -> None:
    folder = context.stage_folder(stage.name)
    key = (run.seed, context.round, stage.name)
    supervision = run.method.supervision(stage, context)
    if not len(supervision.images):
        raise UserError(
            f"round {context.round}: nothing answered so far can train stage {stage.name!r} (every "
            f"unit asked is void); raise budget.amount, or look at the answers in {run.root}."
        )
    run.datamodule.begin_stage(stage, supervision, key)
    best = stage.keep == "best"
    callbacks: list[L.Callback] = [Reseed(key), Stopwatch()]
    start = stage.start
    if start and start.optimizer and not (start.previous_round and context.round == 0):
        round = context.round - 1 if start.previous_round else context.round
        if not resume:
            callbacks.append(_CarryOptimizer(run.ledger.stage(round, start.stage) / "last.ckpt"))
    if best:
        callbacks.append(
            ModelCheckpoint(
                folder,
                filename="best",
                monitor="val/miou",
                mode="max",
                save_weights_only=True,
                enable_version_counter=False,
            )
        )
    callbacks.append(  # the last callback, so that the others' states are those after the epoch
        ModelCheckpoint(
            folder,
            filename="last",
            every_n_epochs=1,
            save_on_train_epoch_end=not best,  # after validation where there is one
            enable_version_counter=False,
        )
    )
    trainer = _trainer(
        run,
        folder,
        f"round {context.round} {stage.name}",
        callbacks,
        stage.trainer,
        **{
            # not max_steps: Lightning resumes an epoch late when a fit is counted in steps
            "max_epochs": stage.epochs,
            "limit_val_batches": 1.0 if best else 0,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": min(50, max(1, stage.steps // 10)),
        },
    )
    last = folder / "last.ckpt"
    trainer.fit(module, datamodule=run.datamodule, ckpt_path=last if resume else None)


def evaluate(
    run: Run, context: RoundContext, modules: Mapping[str, L.LightningModule]
) -> dict[str, Any]:
    """Measure the evaluated stages of a round on the validation images and record it.

    Returns:
        The content of ``metrics.json``: ``miou`` and ``iou`` per class of the last evaluated
        stage, ``stages`` with the mIoU of each, and ``train_s``.
    """
    metrics: dict[str, Any] = {"miou": None, "iou": [], "stages": {}}
    seconds = 0.0
    for stage in run.method.stages(context):
        folder = context.stage_folder(stage.name)
        if stage.evaluate and len(run.splits.val):
            title = f"round {context.round} {stage.name}: evaluating"
            trainer = _trainer(run, folder, title, [])
            trainer.test(modules[stage.name], datamodule=run.datamodule, verbose=False)
            values = {name: float(v) for name, v in trainer.callback_metrics.items()}
            iou = [values[f"iou/{c}"] for c in range(run.pool.num_classes)]
            metrics["miou"] = values["miou"]
            metrics["iou"] = [None if np.isnan(v) else v for v in iou]
            metrics["stages"][stage.name] = values["miou"]
            log.info("round %d: %s mIoU %.4f", context.round, stage.name, values["miou"])
        state = torch.load(folder / "last.ckpt", map_location="cpu", mmap=True, weights_only=True)
        seconds += float(state["callbacks"]["Stopwatch"]["seconds"])
    metrics["train_s"] = _hundredths(seconds)
    run.ledger.write_json(run.ledger.round(context.round) / "metrics.json", metrics)
    return metrics


def ask(run: Run, context: RoundContext, modules: Mapping[str, L.LightningModule]) -> Query | None:
    """Score the pool with this round's model and record the next round's query."""
    following = run.context(context.round + 1)
    if run.replay is not None:
        return None  # `buy` copies what the other run asked
    expected = run.pool.open_images(run.regions)
    if not len(expected):  # an empty predict run would skip its hooks
        return _empty_query(run, following)
    folder = run.ledger.round(context.round)

    def write(query: Query, score_s: float, select_s: float) -> None:
        times = {"score_s": _hundredths(score_s), "select_s": _hundredths(select_s)}
        run.ledger.write_json(folder / "scoring.json", times)
        run.ledger.write_query(query)

    scorer = run.method.scorer(context)
    if scorer is None:

        def choose() -> Query:
            start = time.perf_counter()
            query = run.method.pick(following, {})
            write(query, 0.0, time.perf_counter() - start)
            return query

        return on_rank_zero(choose)
    loop = ActiveLoop(
        folder / "scoring",
        expected,
        pick=lambda tables: run.method.pick(following, tables),
        write=write,
    )
    run.datamodule.begin_pass(expected, run.regions)
    trainer = _trainer(run, folder / "scoring", f"round {context.round}: scoring", [loop])
    trainer.predict(modules[scorer], datamodule=run.datamodule, return_predictions=False)
    if loop.query is None:
        raise RuntimeError("the scoring pass ended without a query")
    return loop.query


def _empty_query(run: Run, context: RoundContext) -> Query:
    none = np.zeros(0, dtype=np.int64)
    first = run.ledger.query(0)
    if first is None:
        raise RuntimeError("a round without a first query")
    query = Query(
        context.round, first.kind, first.answer, run.regions, none, none, none.astype(np.float32)
    )
    run.ledger.write_query(query)
    return query


class _Progress(TQDMProgressBar):
    """Lightning's bar, named after what it is doing."""

    def __init__(self, title: str) -> None:
        super().__init__(refresh_rate=1)
        self.title = title

    @property
    def predict_description(self) -> str:
        return self.title

    @property
    def test_description(self) -> str:
        return self.title

    def on_train_epoch_start(self, trainer: L.Trainer, *args: Any) -> None:
        super().on_train_epoch_start(trainer, *args)
        self.train_progress_bar.set_description(
            f"{self.title} {trainer.current_epoch + 1}/{trainer.max_epochs}"
        )


def _trainer(
    run: Run,
    folder: Path,
    title: str,
    callbacks: Sequence[L.Callback],
    needs: Mapping[str, Any] | None = None,
    **settings: Any,
) -> L.Trainer:
    """A fresh Trainer; re-using one would train zero steps in its second fit."""
    options = run.trainer(needs or {})
    if options.get("enable_progress_bar", True):
        callbacks = [_Progress(title), *callbacks]
    fitting = "max_epochs" in settings
    return L.Trainer(
        default_root_dir=folder,
        callbacks=list(callbacks),
        logger=[CSVLogger(folder, name="log"), *run.loggers] if fitting else False,
        enable_checkpointing=fitting,
        enable_model_summary=False,
        use_distributed_sampler=False,
        **settings,
        **options,
    )


def _row(run: Run, round: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a round; costs are those of everything bought up to it."""
    spent = run.pool.spent(round + 1)
    images = {int(i) for answers in run.pool.history[: round + 1] for i in np.unique(answers.image)}
    times = run.ledger.read_json(run.ledger.round(round) / "scoring.json") or {}
    names = run.splits.train.classes.names
    others = list(metrics["stages"].items())[:-1]
    return {
        "round": round,
        "images": len(images),
        "units": spent.units,
        "pixels": spent.pixels,
        "clicks": spent.clicks,
        "seconds": spent.seconds,
        "miou": metrics["miou"],
        **{f"miou_{stage}": miou for stage, miou in others},
        "train_s": metrics["train_s"],
        "score_s": times.get("score_s"),
        "select_s": times.get("select_s"),
        **{f"iou_{name}": v for name, v in zip(names, metrics["iou"], strict=False)},
    }


def _hundredths(seconds: float) -> float:
    """Seconds to the hundredth: what a clock on a busy machine is worth."""
    return float(f"{seconds:.2f}")

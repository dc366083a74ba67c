"""The order of things: answers, stages, evaluation, query, and round again.

Nothing here remembers whether something was done: each step asks the run folder for its file and
makes it if it is not there. A run can be killed at any instant and continued by the same call.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
from numpy.typing import NDArray

from alseg.active.checkpoints import clear_partial, load_weights, read_checkpoint
from alseg.active.choose import whole_images
from alseg.active.context import RoundContext
from alseg.active.corrections import go_back
from alseg.active.finite import FiniteNumbers
from alseg.active.fits import made, make_trainer, place, predict, train
from alseg.active.ledger import Ledger
from alseg.active.loop import ActiveLoop
from alseg.active.method import Scoring
from alseg.active.ranks import on_rank_zero
from alseg.active.run import Run
from alseg.core.errors import UserError
from alseg.core.seeds import derive
from alseg.labels.human import keep_seen, told_changes
from alseg.labels.kinds import KINDS
from alseg.labels.oracle import AwaitingAnswersError
from alseg.labels.owned import OwnedAnswers, asked_nobody
from alseg.labels.pool import rows_by_image
from alseg.labels.tables import PIXELS, Answers, Query, Table, plural

log = logging.getLogger(__name__)

Images = NDArray[np.int64]


def drive(run: Run) -> list[dict[str, Any]]:
    """Do what is left to do of a run.

    Returns:
        One row per finished round, as in ``rounds.csv``.

    Raises:
        AwaitingAnswersError: If a person has to answer before it can go on.
        UserError: For settings or answers that cannot be used.
    """
    if run.ledger.writes:
        clear_partial(run.ledger.root)
    if run.changed != "tell":
        on_rank_zero(lambda: correct(run))
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
                run.asked = ask(run, context, modules)
        rows.append(_row(run, round, metrics))
        if not published:
            publish(run, rows)
        forget(run, round)
    if published:  # nothing was left to do, but a kill may have come before the last page
        publish(run, rows)
    return rows


def correct(run: Run) -> None:
    """Go back to the round whose answers have changed, or remember that the change was seen."""
    if run.changed == "recompute":
        kept = run.method.kept
        round = go_back(run.ledger, lambda r: _read_again(run, r), kept, run.untaken)
        if round is not None:
            log.info("round %d is computed again with its corrected answers", round)
    elif run.ledger.writes:
        for folder in sorted(run.ledger.root.glob("round_*")):
            if told_changes(folder):
                keep_seen(folder)


def _read_again(run: Run, round: int) -> None:
    """Take the answers of a round as they are now, for them to be owned."""
    query = run.ledger.query(round)
    # regions that a method makes of its networks will be others: what was said of them is not used
    if query is not None and query.regions in (PIXELS, run.regions):
        run.ledger.write_answers(_answered(run, query))


def publish(run: Run, rows: Sequence[dict[str, Any]]) -> None:
    """Write ``rounds.csv`` and tell the observers."""
    run.ledger.write_rounds(rows)
    if run.ledger.writes:
        for observer in run.observers:
            observer.round_closed(int(rows[-1]["round"]), run.pool, rows)


def forget(run: Run, round: int) -> None:
    """Delete the checkpoints of rounds that are further back than `Run.keep_rounds`."""
    if run.keep_rounds is None or not run.ledger.writes:
        return
    for old in range(round - run.keep_rounds + 1):
        for checkpoint in run.ledger.round(old).glob("*/*.ckpt"):
            checkpoint.unlink()


def buy(run: Run, round: int) -> bool:
    """Have the query of a round answered and commit the answers; False if there is nothing to ask.

    Raises:
        AwaitingAnswersError: If a person has to answer first.
        UserError: If the folder's query and answers do not belong together.
    """
    # a round that asks nothing, for all is owned, may have one behind it that asks something else
    prescribed = run.method.rounds_of(run.splits.train) is not None

    def decide() -> Answers | None:
        query, answers = run.ledger.query(round), run.ledger.answers(round)
        if query is None and run.asked is not None and run.asked.round == round:
            query = run.asked  # processes have not met, and rank 0 has not written it yet
        if query is None or not (len(query) or (run.pool.owned and (round == 0 or prescribed))):
            return None
        if query.regions != PIXELS and query.regions not in run.pool.maps:
            raise UserError(
                f"{run.ledger.round(round)} asks about the regions {query.regions!r}, which this "
                f"run does not have; give the data, regions and, where it makes its own, method "
                f"they were chosen with."
            )
        if answers is None:
            answers = _answered(run, query)
            run.ledger.write_answers(answers)
        elif told := told_changes(run.ledger.round(round)):
            log.warning("%s", told)
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
    if run.replay is not None:
        on_rank_zero(lambda: _repeat(run, round))
    elif round == 0:
        _ask_first(run)
    if not round or on_rank_zero(lambda: run.ledger.query(round)) is not None:
        maps = run.method.regions(run.context(round))
        if maps is not None and maps.version not in run.pool.maps:
            run.pool.add_maps(maps)
    answers = on_rank_zero(decide)
    if answers is None:
        return False
    cost = run.pool.commit(answers)
    log.info(
        "round %d: %d %s answered for %g clicks (%.1f h); %g clicks in all",
        round,
        len(answers),
        plural(answers.kind),
        cost.clicks,
        cost.seconds / 3600,
        run.pool.spent().clicks,
    )
    return True


def _answered(run: Run, query: Query) -> Answers:
    """Answers to a query; what was answered in rounds that were set aside is asked nobody again."""
    if not len(query):  # of a round that learns what is owned
        return Answers.of_rows(query, run.pool.num_classes, [])
    folder, pool = run.ledger.round(query.round), run.pool
    # maps that a method made of its networks may have the same name and other regions now
    owned = OwnedAnswers.set_aside(run.root, (PIXELS, run.regions))
    known = asked_nobody(folder, query, owned, writes=run.ledger.writes)
    left = query.rows(np.flatnonzero(~known)) if known.any() else query
    if known.any():
        head = owned.merged(query.rows(np.flatnonzero(known)), None)
        log.info("round %d: %d answers are owned already", query.round, len(head))
        if not len(left):
            return owned.merged(query, None)
        cost = pool.budget.cost(head, pool.unit_pixels(head)).total()
        rest = pool.budget.amount - float(getattr(cost, pool.budget.axis))
        pool = copy(pool)
        pool.budget = replace(pool.budget, amount=max(rest, 1e-9))
    try:
        new = run.oracle.answer(left, pool, run.splits.train, folder)
    except AwaitingAnswersError:
        if run.ledger.writes:
            for observer in run.observers:
                observer.waiting(left, run.pool, folder)
        raise
    return owned.merged(query, new) if known.any() else new


def _repeat(run: Run, round: int) -> None:
    """Copy the purchases of another run in this round, unless they are here."""
    if run.replay is None or run.ledger.query(round) is not None:
        return
    source = Ledger(run.replay, writes=False)
    query, answers, scores = source.query(round), source.answers(round), source.scores(round)
    if query is None or answers is None:
        return
    of_pixels = KINDS[answers.answer].covers_pixels
    if of_pixels and answers.num_classes != run.pool.num_classes:
        raise UserError(
            f"{run.replay} has answers for {answers.num_classes} classes and not for "
            f"{run.pool.num_classes}; give the same data as there."
        )
    if scores is not None:
        run.ledger.write_scores(round, scores)
    run.ledger.write_answers(answers)
    run.ledger.write_query(query)


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
        folder = stage.folder
        if stage.evaluate and len(run.splits.val):
            title = f"round {context.round} {stage.name}: evaluating"
            check = FiniteNumbers(place(run, context.round, stage.name))
            trainer = make_trainer(run, folder, title, [check])
            trainer.test(modules[stage.name], datamodule=run.datamodule, verbose=False)
            values = {name: float(v) for name, v in trainer.callback_metrics.items()}
            iou = [values[f"iou/{c}"] for c in range(run.pool.num_classes)]
            metrics["miou"] = values["miou"]
            metrics["iou"] = [None if np.isnan(v) else v for v in iou]
            metrics["stages"][stage.name] = values["miou"]
            log.info("round %d: %s mIoU %.4f", context.round, stage.name, values["miou"])
        state = read_checkpoint(folder / "last.ckpt", mmap=True)
        seconds += float(state["callbacks"]["Stopwatch"]["seconds"])
    metrics["train_s"] = _hundredths(seconds)
    truth = run.splits.train if run.splits.train.has_truth else None
    measures = on_rank_zero(lambda: dict(run.method.measures(context, truth)))
    metrics["measures"] = {k: None if np.isnan(v) else v for k, v in measures.items()}
    run.ledger.write_json(run.ledger.round(context.round) / "metrics.json", metrics)
    return metrics


def ask(run: Run, context: RoundContext, modules: Mapping[str, L.LightningModule]) -> Query | None:
    """Choose with this round's modules, and record the query of the next round."""
    if run.replay is not None:
        return None  # `buy` copies what the other run asked
    following = run.context(context.round + 1)
    if not len(run.pool.open_images(run.regions)):  # an empty predict run would skip its hooks
        return _empty_query(run, following)
    return _choose(run, following, modules, run.ledger.round(context.round) / "scoring")


def _ask_first(run: Run) -> None:
    """Choose before anything is trained; a network that scores then is as it was made."""
    if on_rank_zero(lambda: run.ledger.query(0)) is not None:
        return
    context = run.context(0)
    planned = run.method.plans_rounds or run.method.rounds_of(context.images) is not None
    if run.pool.owned and not planned and run.listed is None:
        # whoever has labels has a network that chooses better than chance
        run.asked = _empty_query(run, context)
        return
    run.asked = _choose(run, context, {}, run.ledger.round(0) / "first_scoring")


def _choose(
    run: Run, asking: RoundContext, modules: Mapping[str, L.LightningModule], folder: Path
) -> Query:
    """The query of a round, on every rank; tables of a scoring pass grow in ``folder``."""
    start = time.perf_counter()
    if run.listed is not None:
        asked: Query | Scoring = whole_images(asking, run.listed)
    else:
        asked = run.method.ask(asking)
    if isinstance(asked, Scoring) and asked.images is not None and not len(asked.images):
        return _empty_query(run, asking)
    if isinstance(asked, Scoring):
        return _scored(run, asking, asked, modules, folder)
    query: Query = on_rank_zero(lambda: not_owned(run, asking, asked))
    if asking.round:
        _record(run, query, folder.with_suffix(".json"), 0.0, time.perf_counter() - start)
    else:
        run.ledger.write_query(query)
    return query


def _scored(
    run: Run,
    asking: RoundContext,
    scoring: Scoring,
    modules: Mapping[str, L.LightningModule],
    folder: Path,
) -> Query:
    """The query of a round from a predict pass."""
    module = modules.get(scoring.stage)
    if module is None:  # before anything is trained
        stage = next(s for s in run.method.stages(asking) if s.name == scoring.stage)
        L.seed_everything(derive(*stage.key), workers=True, verbose=False)
        module = made(run, stage)
    elif scoring.last:
        load_weights(module, asking.before.stage_folder(scoring.stage) / "last.ckpt")
    images = scoring.images
    if images is None:
        images = run.pool.open_images(run.regions)

    def pick(tables: Mapping[str, Table]) -> Query:
        kept = {name: tables[name] for name in scoring.keep}
        if kept:
            run.ledger.write_scores(asking.round, kept)
        return not_owned(run, asking, scoring.pick(tables))

    def record(query: Query, score_s: float, select_s: float) -> None:
        _record(run, query, folder.with_suffix(".json"), score_s, select_s)

    loop = ActiveLoop(asking, pick=pick, images=images, folder=folder, record=record)
    run.datamodule.begin_pass(images, run.regions, truth=run.method.reads_truth)
    title = f"scoring for round {asking.round}"
    where = f"{place(run, max(asking.round - 1, 0), scoring.stage)}, {title}"
    loop.where = where
    predict(run, module, folder, title, where, [loop])
    if loop.query is None:
        raise RuntimeError("the scoring pass ended without a query")
    return loop.query


def not_owned(run: Run, asking: RoundContext, query: Query) -> Query:
    """A query without what is owned, whatever a method chooses.

    That are units that were answered, and regions each pixel of which was, by an answer that says
    its class or is of the kind that is asked.
    """
    pool = run.pool
    if not pool.owned or not len(query):
        return query
    ask = pool.is_open(query.regions, query.image, query.unit)
    maps = pool.maps.get(query.regions)
    if maps is None and query.regions != PIXELS:
        maps = run.method.regions(asking)
    if maps is not None and maps.version == query.regions:
        for image, rows in rows_by_image(query.image):
            ask[rows] &= ~pool.answered(maps, image, query.answer)[query.unit[rows]]
    if not ask.all():
        log.info("round %d: %d questions are owned already", asking.round, int((~ask).sum()))
    return query.rows(np.flatnonzero(ask))


def _record(run: Run, query: Query, path: Path, score_s: float, select_s: float) -> None:
    times = {"score_s": _hundredths(score_s), "select_s": _hundredths(select_s)}
    run.ledger.write_json(path, times)
    run.ledger.write_query(query)


def _empty_query(run: Run, context: RoundContext) -> Query:
    none = np.zeros(0, dtype=np.int64)
    first = run.ledger.query(0)
    kind = run.kind if first is None else first.kind
    answer = getattr(run.method, "answer", None) or run.method.asks[run.kind][0]
    answer = answer if first is None else first.answer
    suggested = none.astype(np.uint8) if KINDS[answer].suggests else None
    query = Query(
        context.round, kind, answer, run.regions, none, none, none.astype(np.float32), suggested
    )
    run.ledger.write_query(query)
    return query


def _row(run: Run, round: int, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """The row of a round; costs are those of everything bought up to it."""
    spent = run.pool.spent(round + 1)
    times = run.ledger.times(round)
    names = run.splits.train.classes.names
    others = list(metrics["stages"].items())[:-1]
    return {
        "round": round,
        "images": run.pool.num_images(round + 1),
        "units": spent.units,
        "pixels": spent.pixels,
        "clicks": spent.clicks,
        "seconds": spent.seconds,
        **({"owned": sum(map(len, run.pool.owned))} if run.pool.owned else {}),
        **_unsure(run.pool.history[: round + 1]),
        "miou": metrics["miou"],
        **{f"miou_{stage}": miou for stage, miou in others},
        **metrics.get("measures", {}),
        "train_s": metrics["train_s"],
        "score_s": times.get("score_s"),
        "select_s": times.get("select_s"),
        **{f"iou_{name}": v for name, v in zip(names, metrics["iou"], strict=False)},
    }


def _unsure(history: Sequence[Answers]) -> dict[str, int]:
    """Answers of which the annotator could not tell, where annotators were people."""
    if all(answers.seconds is None and answers.unsure is None for answers in history):
        return {}
    return {"unsure": sum(int(answers.content.unsure.sum()) for answers in history)}


def _hundredths(seconds: float) -> float:
    """Seconds to the hundredth: what a clock on a busy machine is worth."""
    return float(f"{seconds:.2f}")

"""The command: ``python -m alseg.run method=… data=… run_dir=…``.

`alseg.cli.compose` makes frozen dataclasses of the words; from here on there are plain objects and
keyword arguments.
"""

import logging
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alseg.active.ledger import Ledger
from alseg.cli import command
from alseg.cli.command import WAITING
from alseg.cli.compose import Options, options
from alseg.cli.feasible import check_shared_memory, check_stages
from alseg.cli.finished import is_finished, waits_for
from alseg.cli.help import help_text
from alseg.cli.identity import claim, look
from alseg.cli.logs import logged, quieten
from alseg.cli.peers import Peers
from alseg.cli.world import FolderLock
from alseg.core.errors import UserError
from alseg.label.session import say_browser
from alseg.labels.human import check_waiting
from alseg.labels.oracle import HumanOracle, awaiting
from alseg.methods import METHODS

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np
    from numpy.typing import NDArray

    from alseg.active.method import Method
    from alseg.active.run import Run
    from alseg.core.images import DataSplits, ImageSet

log = logging.getLogger(__name__)


def run_dir(options: Options) -> Path:
    """The run folder of a command."""
    if options.values["run_dir"] is not None:
        return Path(options.values["run_dir"])
    name = f"{options.choices['data']}_{options.choices['method']}_seed{options.values['seed']}"
    return Path("runs") / name


def build(options: Options) -> "Run":
    """Make the objects of a run; whatever can be checked before long work is checked.

    Raises:
        UserError: For input that cannot be used.
    """
    plan = check(options)
    options.components["network"].check()
    splits = open_images(options, plan)
    return claimed(options, plan, splits)


def claimed(options: Options, plan: "Plan", splits: "DataSplits") -> "Run":
    """The run, and its folder made its own.

    Raises:
        UserError: For a network that there is not, or as `assemble` and `look`.
    """
    from alseg.cli.labels_from import inherit

    run = assemble(options, plan, splits)
    found = look(
        options, splits, run.ledger, run.rounds, plan.cache, plan.progress, listed=run.listed
    )
    claim(run, found)
    inherit(options, run, found.owner, plan.cache)
    return run


class Plan(NamedTuple):
    """What a command asks for besides its components.

    Attributes:
        root: The run folder.
        cache: Folder that runs share.
        progress: Show progress bars.
        replay: Folder of a run whose purchases are repeated.
        list_file: File of the images whose masks are bought.
    """

    root: Path
    cache: Path
    progress: bool
    replay: Path | None
    list_file: Path | None


def check(options: Options) -> Plan:
    """Check what can be checked without an image.

    Raises:
        UserError: For options that cannot be used, or not with each other.
    """
    from alseg.active.method import check_question
    from alseg.active.ranks import is_rank_zero
    from alseg.cli.labels_from import check_sources

    part, values = options.components, options.values
    method, unit = part["method"], part["regions"].unit
    part["trainer"].world()
    replay, list_file = _given_query(values["query"])
    if list_file and not (unit == "image" and "mask" in method.asks.get("image", ())):
        able = ", ".join(n for n in METHODS if "mask" in METHODS.resolve(n).asks.get("image", ()))
        raise UserError(
            f"query={values['query']} names images that are labelled whole, which this method with "
            f"these regions does not learn from; leave it out, or give regions=image and one of "
            f"the methods {able}."
        )
    check_question(method, unit)
    check_sources(options, run_dir(options))
    part["logger"].check()
    return Plan(
        root=run_dir(options),
        cache=cache_folder(values["cache"]),
        progress=part["trainer"].enable_progress_bar and is_rank_zero(),
        replay=replay,
        list_file=list_file,
    )


def open_images(options: Options, plan: Plan) -> "DataSplits":
    """Find and check the images, and that they can be asked about.

    Raises:
        UserError: For files that cannot be used.
    """
    part = options.components
    splits = _splits(options, plan)
    part["oracle"].check(splits.train)
    part["regions"].check(splits.train)
    if plan.list_file is None:  # else nothing is chosen or cut off
        part["method"].check(splits.train, part["budget"])
    return splits


def _splits(options: Options, plan: Plan) -> "DataSplits":
    """The images, of a data set that may be somebody's own."""
    name = options.choices["data"]
    splits: Any = options.components["data"].splits(progress=plan.progress, cache=plan.cache)
    if not (hasattr(splits, "train") and hasattr(splits, "val")):
        raise UserError(
            f"data={name}: splits() returned a {type(splits).__name__}; return alseg.ArrayImages "
            f"or alseg.core.images.DataSplits(train, val)."
        )
    if not len(splits.train):
        raise UserError(
            f"data={name} gave no images to train on; look at data.root, and at what is held out."
        )
    checked: DataSplits = splits
    return checked


def assemble(options: Options, plan: Plan, splits: "DataSplits") -> "Run":
    """Put the parts of a run together; nothing is cut into regions yet.

    Raises:
        UserError: For stages that these images cannot feed, or weights that cannot be had.
    """
    import numpy as np

    from alseg.active.compiled import require_compiler
    from alseg.active.run import Run
    from alseg.cli.labels_from import untaken
    from alseg.core.images import channels_of
    from alseg.data.datamodule import ActiveDataModule
    from alseg.label.session import SessionWriter
    from alseg.labels.pool import LabelPool
    from alseg.labels.tables import PIXELS
    from alseg.regions.base import reads_truth
    from alseg.report.observer import Reporter

    part, images = options.components, splits.train
    listed = None if plan.list_file is None else _listed(plan.list_file, images.names)
    rounds = _rounds(options.values["rounds"], part["method"], images, plan.list_file)
    values = {**options.values, "rounds": rounds}
    sizes = np.array([images.size(index) for index in range(len(images))])
    pool = LabelPool(sizes, len(images.classes), part["budget"], [])
    network = part["network"].reading(channels_of(images))
    datamodule = ActiveDataModule(
        splits,
        pool,
        part["augment"].build(images),
        part["augment"].plain(channels_of(images)),
        workers=values["workers"],
        eval_batch_size=values["eval_batch_size"],
    )
    run = Run(
        method=part["method"],
        splits=splits,
        datamodule=datamodule,
        pool=pool,
        regions=PIXELS,
        kind=part["regions"].unit,
        oracle=part["oracle"],
        network=network,
        root=plan.root,
        rounds=rounds,
        seed=values["seed"],
        trainer=part["trainer"].keywords,
        channels_last=part["trainer"].channels_last,
        compile=part["trainer"].compile,
        loggers=part["logger"].build(plan.root, values),
        replay=plan.replay,
        listed=listed,
        keep_rounds=values["keep_rounds"],
        cache=plan.cache,
        changed=values["answers"] or "tell",
        untaken=untaken,
    )
    # weights that cannot be had, and a compiler that is not there, are found out now
    if run.compile:
        require_compiler(part["trainer"].device())
    built = network.build(len(images.classes))
    check_stages(run, built, datamodule, part["trainer"])
    check_shared_memory(run, datamodule, part["trainer"])
    reporter = Reporter(
        plan.root,
        splits,
        options.choices,
        values,
        part["oracle"],
        run.loggers,
        reads_truth=part["method"].reads_truth or reads_truth(part["regions"]),
        show=lambda round, image: run.method.show(run.context(round), image),
    )
    partial = getattr(part["oracle"], "accept_partial", False)
    run.observers += [reporter, SessionWriter(images, partial)]
    return run


def _given_query(query: str | None) -> tuple[Path | None, Path | None]:
    """Folder of a run whose purchases are to be repeated, or file with a list of images."""
    if query is None:
        return None, None
    kind, _, given = query.partition(":")
    path = Path(given)
    if kind == "list" and given:
        return None, path
    if kind != "replay":
        raise UserError(
            f"cannot read query={query}; write query=replay:RUN_DIR or query=list:FILE, or leave "
            f"it out."
        )
    if not (path / "round_000" / "answers.npz").exists():
        raise UserError(f"query={query}: {path} holds no answers to repeat.")
    return path, None


def _listed(path: Path, names: Sequence[str]) -> "NDArray[np.int64]":
    """The images a file lists."""
    import numpy as np

    from alseg.data.checks import Problems
    from alseg.data.find import read_list

    problems = Problems(f"query=list:{path}")
    given = set(read_list(path, names, problems))
    problems.raise_any()
    if not given:
        raise UserError(f"query=list:{path}: the file lists no image; write one name per line.")
    return np.array([i for i, name in enumerate(names) if name in given], dtype=np.int64)


def _rounds(given: int | None, method: "Method", images: "ImageSet", listed: Path | None) -> int:
    """How many rounds the run has."""
    prescribed = 1 if listed else method.rounds_of(images)
    if given is None and prescribed is None:
        raise UserError("rounds is null, but this method prescribes no number; give one.")
    if given is not None and given < 1:
        raise UserError(f"rounds is {given}; give at least 1.")
    if None not in (given, prescribed) and given != prescribed:
        raise UserError(
            f"rounds is {given}, but what is to be bought takes {prescribed}; leave it out."
        )
    return int(given or prescribed or 1)


def cache_folder(given: str | None) -> Path:
    """Where region maps are kept between runs."""
    if given is not None:
        return Path(given)
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(home) / "alseg"


def run(options: Options) -> int:
    """Do a run, or what is left of it.

    Returns:
        Exit status: 0, `WAITING` for a person's answers, or that of a signal, see
        `alseg.active.stopping`.

    Raises:
        UserError: For input that cannot be used.
    """
    # first of all: two processes must not both believe to be the one that writes
    options.components["trainer"].world()
    root = run_dir(options)
    if isinstance(options.components["oracle"], HumanOracle):
        check_waiting(root)  # a person learns of mistakes before torch is imported
    from alseg.active.ranks import global_rank, is_rank_zero
    from alseg.active.stopping import StoppedError, stoppable
    from alseg.labels.oracle import AwaitingAnswersError

    first, rank = is_rank_zero(), global_rank()
    quieten(first)
    devices, nodes = options.components["trainer"].world()
    with FolderLock(root, first) as lock, logged(root, rank) as said:
        try:
            with stoppable(), Peers(root, rank, devices * nodes, lock.job, _statuses):
                _do(options)
        except AwaitingAnswersError as waiting:
            if first:
                said.say(str(waiting))
            return WAITING
        except StoppedError as stopped:
            if first:
                said.say(str(stopped), sys.stderr)
            return stopped.status
        finally:
            options.components["logger"].close()
        if first:
            said.say(f"Report: {root / 'report.html'}")
    return 0


def _statuses() -> Mapping[int, int | None]:
    """Exit statuses of the processes that Lightning started, without importing it for that."""
    launch = sys.modules.get("alseg.active.launch")
    return {} if launch is None else launch.statuses()


def _do(options: Options) -> None:
    """Do what is left of a run; torch is not imported where nothing is, or but to wait."""
    plan = check(options)
    given = options.values["rounds"]
    if is_finished(options, plan.root, given):
        splits = open_images(options, plan)
        rounds = _rounds(given, options.components["method"], splits.train, plan.list_file)
        ledger = Ledger(plan.root, writes=False)
        if is_finished(options, plan.root, rounds):
            look(options, splits, ledger, rounds, plan.cache, plan.progress)
            return
    if waits_for(options, plan.root, given) is not None:
        splits = open_images(options, plan)
        rounds = _rounds(given, options.components["method"], splits.train, plan.list_file)
        ledger = Ledger(plan.root, writes=False)
        query = waits_for(options, plan.root, rounds)
        found = look(options, splits, ledger, rounds, plan.cache, plan.progress)
        # a folder without answers may become another run's, and is asked anew then
        if query is not None and ledger.is_claimed(found.owner, found.contents):
            say_browser(plan.root)
            raise awaiting(query, ledger.round(query.round))
    from alseg.active.driver import drive

    drive(build(options))


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""
    if arguments is not None:  # Lightning starts the other processes with these words
        sys.argv = [sys.argv[0], *arguments]
    return command.main(arguments, help_text, lambda words: run(options(*words)), needs_words=False)

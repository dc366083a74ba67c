"""The command: ``python -m alseg.run method=… data=… run_dir=…``.

`alseg.cli.compose` makes frozen dataclasses of the words; from here on there are plain objects and
keyword arguments.
"""

import hashlib
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from alseg.cli import command
from alseg.cli.command import WAITING
from alseg.cli.compose import GROUPS, Options, options
from alseg.cli.help import help_text
from alseg.cli.logs import logged, note, quieten
from alseg.cli.peers import Peers
from alseg.cli.words import defaults_of
from alseg.cli.world import FolderLock
from alseg.core.errors import UserError
from alseg.core.typed import plain
from alseg.labels.human import check_waiting
from alseg.labels.oracle import HumanOracle
from alseg.methods import METHODS

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np
    from numpy.typing import NDArray

    from alseg.active.method import Method
    from alseg.active.run import Run
    from alseg.cli.options import TrainerOptions
    from alseg.core.images import DataSplits, ImageSet
    from alseg.nn.segmenter import Segmenter

log = logging.getLogger(__name__)


def run_dir(options: Options) -> Path:
    """The run folder of a command."""
    if options.values["run_dir"] is not None:
        return Path(options.values["run_dir"])
    name = f"{options.choices['data']}_{options.choices['method']}_seed{options.values['seed']}"
    return Path("runs") / name


def identity(options: Options) -> dict[str, Any]:
    """Everything that decides the result of a run, flat, see `alseg.core.options.FREE`."""
    chosen = {name: choice for name, choice in options.choices.items() if GROUPS[name].identity}
    return chosen | _deciding(options, options.values)


def default_identity(options: Options) -> dict[str, Any]:
    """The defaults of what decides the result of a run.

    The folder of a run of an older release knows nothing of options that are new in this one; what
    they do by default is what that release did.
    """
    values: dict[str, Any] = {}
    for name, component in options.components.items():
        defaults = plain(defaults_of(type(component)))
        values |= defaults if name == "run" else {name: defaults}
    return _deciding(options, values)


def _deciding(options: Options, values: Mapping[str, Any]) -> dict[str, Any]:
    """Values of the options that belong to the identity of a run, entries of dictionaries flat."""
    flat: dict[str, Any] = {}

    def walk(name: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{name}.{key}", inner)
        else:
            flat[name] = value

    for name, component in options.components.items():
        if name in GROUPS and not GROUPS[name].identity:
            continue
        for option in fields(component):
            if option.metadata.get("identity", True):
                of_run = name == "run"
                full = option.name if of_run else f"{name}.{option.name}"
                walk(full, (values if of_run else values[name])[option.name])
    return flat


def build(options: Options) -> "Run":
    """Make the objects of a run; whatever can be checked before long work is checked.

    Raises:
        UserError: For input that cannot be used.
    """
    plan = check(options)
    splits = open_images(options, plan)
    run = assemble(options, plan, splits)
    claim(run, options, plan)
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
    part["logger"].check()
    part["network"].check()
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

    from alseg.active.run import Run
    from alseg.core.images import channels_of
    from alseg.data.datamodule import ActiveDataModule
    from alseg.label.session import SessionWriter
    from alseg.labels.pool import LabelPool
    from alseg.labels.tables import PIXELS
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
        loggers=part["logger"].build(plan.root, values),
        replay=plan.replay,
        listed=listed,
        keep_rounds=values["keep_rounds"],
        cache=plan.cache,
    )
    # weights that cannot be had are found out now
    built = network.build(len(images.classes))
    _check_stages(run, built, datamodule.train_transform.crop, part["trainer"])
    devices, nodes = part["trainer"].world()
    _check_shared_memory(
        run,
        datamodule.train_transform.crop,
        values["workers"],
        values["eval_batch_size"],
        devices * nodes,
    )
    reporter = Reporter(
        plan.root,
        splits,
        options.choices,
        values,
        part["oracle"],
        run.loggers,
        reads_truth=part["method"].reads_truth,
        show=lambda round, image: run.method.show(run.context(round), image),
    )
    partial = getattr(part["oracle"], "accept_partial", False)
    run.observers += [reporter, SessionWriter(images, partial)]
    return run


def claim(run: "Run", options: Options, plan: Plan) -> None:
    """Cut the images into regions, and make the folder this run's own.

    Raises:
        UserError: If it belongs to another run.
    """
    from alseg.active.contents import contents_of, digest_of
    from alseg.core.masks import table_of
    from alseg.regions.maps import extract_regions

    part, splits = options.components, run.splits
    owner, defaults = identity(options), default_identity(options)
    if run.method.plans_rounds:
        owner["rounds"] = run.rounds
    if run.listed is not None:
        owner["query.images"] = hashlib.blake2b(run.listed.tobytes()).hexdigest()[:16]
    table = table_of(splits.train).summary()
    run.ledger.check_owner(owner | {"masks": table}, defaults | {"masks": table})
    contents = contents_of(splits)
    run.ledger.check_contents(contents)
    owner |= {"train": _content(splits.train), "val": _content(splits.val)}
    truth = {name: digest_of(contents[name]) for name in ("train_masks", "val_masks")}
    owner |= truth | {"masks": table}
    defaults |= truth | {"masks": table}  # folders of release 0.1 know nothing of masks
    run.ledger.check_owner(owner, defaults)
    if run.kind != "pixel":  # pixels need no map
        workers = options.values["workers"]
        maps = extract_regions(part["regions"], splits.train, plan.cache, workers, plan.progress)
        run.pool.add_maps(maps)
        run.regions = maps.version
        # answers name regions by their ids: maps cut by another release must not slip in
        owner["regions.counts"] = hashlib.blake2b(maps.num_regions.tobytes()).hexdigest()[:16]
    run.ledger.claim(owner, defaults)
    run.ledger.claim_contents(contents)


def _check_stages(
    run: "Run", network: "Segmenter", crop: tuple[int, int] | None, trainer: "TrainerOptions"
) -> None:
    """Refuse stages that these images, or so few of them at a time, cannot feed."""
    from alseg.nn.batches import takes_one_image

    devices, nodes = trainer.world()
    world, channels = devices * nodes, getattr(run.splits.train, "channels", 3)
    shared = trainer.sync_batchnorm and world > 1
    for round in {0, run.rounds - 1}:  # some stages come in the end only
        for stage in run.method.stages(run.context(round)):
            if stage.fit.keep == "best" and not len(run.splits.val):
                raise UserError(
                    f"stage {stage.name} keeps the weights that are best on the validation images, "
                    f"and there are none; give some, or let it keep the last weights."
                )
            single = stage.fit.batch_size <= world and not shared
            if single and crop and not takes_one_image(network, channels, crop):
                raise UserError(
                    f"stage {stage.name} trains with one image at a time (batch_size is "
                    f"{stage.fit.batch_size} on {world} devices), but {run.network.architecture} "
                    f"pools an image to one value per channel and normalises that over the batch, "
                    f"which takes two images; raise the batch_size of the stage, such as "
                    f"method.batch_size={2 * world}, or give another network, such as "
                    f"network.architecture=FPN."
                )


def _check_shared_memory(
    run: "Run", crop: tuple[int, int] | None, workers: int, whole: int, world: int
) -> None:
    """Refuse loader processes whose batches the shared memory cannot hold, even as bytes.

    Args:
        run: The run.
        crop: Of training images.
        workers: Loader processes.
        whole: Whole images per batch where all have one size.
        world: Processes of the run.
    """
    from alseg.core.images import channels_of
    from alseg.data.workers import require_shared_memory

    height, width = crop or (0, 0)
    fits = [s.fit for r in {0, run.rounds - 1} for s in run.method.stages(run.context(r))]
    trained = max((fit.batch_size for fit in fits), default=0) // world * height * width
    sizes = {(int(h), int(w)) for h, w in run.pool.sizes}
    scored = max(h * w for h, w in sizes) * (whole if len(sizes) == 1 else 1)
    bytes_per_pixel = channels_of(run.splits.train) + 1
    require_shared_memory(workers, max(trained, scored) * bytes_per_pixel)


def _content(images: Any) -> str:
    """Digest of the pixels of a split."""
    prints = "".join(images.fingerprint(index) for index in range(len(images)))
    return hashlib.blake2b(prints.encode(), digest_size=16).hexdigest()


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
    from alseg.active.driver import drive
    from alseg.active.launch import statuses
    from alseg.active.ranks import global_rank, is_rank_zero
    from alseg.active.stopping import StoppedError, stoppable
    from alseg.labels.oracle import AwaitingAnswersError

    first, rank = is_rank_zero(), global_rank()
    quieten(first)
    devices, nodes = options.components["trainer"].world()
    with FolderLock(root, first) as lock, logged(root, rank):
        try:
            with stoppable(), Peers(root, rank, devices * nodes, lock.job, statuses):
                drive(build(options))
        except AwaitingAnswersError as waiting:
            if first:
                note(str(waiting))
            return WAITING
        except StoppedError as stopped:
            if first:
                note(str(stopped), sys.stderr)
            return stopped.status
        finally:
            options.components["logger"].close()
        if first:
            note(f"Report: {root / 'report.html'}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; the exit status, see `alseg.cli.command.main`."""
    if arguments is not None:  # Lightning starts the other processes with these words
        sys.argv = [sys.argv[0], *arguments]
    return command.main(arguments, help_text, lambda words: run(options(*words)), needs_words=False)

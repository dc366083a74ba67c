"""The command: ``python -m alseg.run method=… data=… run_dir=…``.

Hydra composes the options of the components into frozen dataclasses (`alseg.cli.compose`); from
here on there are plain objects and keyword arguments.
"""

import hashlib
import inspect
import logging
import os
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from alseg.cli.compose import CHOICES, GROUPS, NODES, ROOT, Options, composed, expand, options_of
from alseg.core.errors import UserError
from alseg.methods import METHODS

if TYPE_CHECKING:  # torch takes seconds to import
    import numpy as np
    from numpy.typing import NDArray

    from alseg.active.method import Method
    from alseg.active.run import Run
    from alseg.core.images import ImageSet

log = logging.getLogger(__name__)

#: Options that may change between two starts of one run: where things are, how fast they go, what
#: is shown, and how many rounds there are to be.
FREE = (
    "run_dir",
    "cache",
    "rounds",
    "workers",
    "eval_batch_size",
    "keep_rounds",
    "pictures",
    "logger",
    "trainer",
    "data.root",
    "oracle.accept_partial",
    "oracle.annotators",
    "oracle.open_browser",
    "oracle.port",
)
#: ... except those that change the numbers a run computes.
BOUND = ("trainer.precision", "trainer.gradient_clip")

#: Exit status of a run that waits for a person's answers.
WAITING = 3


def run_dir(options: Options) -> Path:
    """The run folder of a command."""
    if options.values["run_dir"] is not None:
        return Path(options.values["run_dir"])
    name = f"{options.choices['data']}_{options.choices['method']}_seed{options.values['seed']}"
    return Path("runs") / name


def identity(options: Options) -> dict[str, Any]:
    """Everything that decides the result of a run, flat."""
    flat: dict[str, Any] = {k: v for k, v in options.choices.items() if k != "logger"}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk(f"{prefix}.{key}" if prefix else key, inner)
        elif prefix in BOUND or not any(
            prefix == free or prefix.startswith(f"{free}.") for free in FREE
        ):
            flat[prefix] = value

    walk("", options.values)
    return flat


def build(options: Options) -> "Run":
    """Make the objects of a run; whatever can be checked before long work is checked.

    Raises:
        UserError: For input that cannot be used.
    """
    import numpy as np

    from alseg.active.loop import is_rank_zero
    from alseg.active.run import Run
    from alseg.data.datamodule import ActiveDataModule
    from alseg.label.session import SessionWriter
    from alseg.labels.pool import LabelPool
    from alseg.labels.tables import PIXELS
    from alseg.regions.maps import extract_regions
    from alseg.report.observer import Reporter

    part, values, root = options.components, options.values, run_dir(options)
    source, cache = part["regions"], cache_folder(values["cache"])
    progress = bool(values["trainer"]["enable_progress_bar"]) and is_rank_zero()
    for option, least in (("workers", 0), ("eval_batch_size", 1), ("pictures", 0)):
        if values[option] < least:
            raise UserError(f"{option} is {values[option]}; give at least {least}.")
    replay, list_file = _given_query(values["query"])
    if list_file and not (part["method"].takes_list and source.unit == "image"):
        able = ", ".join(name for name in METHODS if METHODS.resolve(name).takes_list)
        raise UserError(
            f"query={values['query']} names images that are labelled whole, which this method with "
            f"these regions does not learn from; leave it out, or give regions=image and one of "
            f"the methods {able}."
        )
    part["network"].check()
    splits = part["data"].splits(progress=progress, cache=cache)
    images = splits.train
    part["oracle"].check(images)
    source.check(images)
    if list_file is None:  # else nothing is chosen or cut off
        part["method"].check(images, part["budget"])
    listed = None if list_file is None else _listed(list_file, images.names)
    values = {**values, "rounds": _rounds(values["rounds"], part["method"], images, list_file)}
    sizes = np.array([images.size(index) for index in range(len(images))])
    pool = LabelPool(sizes, len(images.classes), part["budget"], [])
    loggers = part["logger"].build(root, values)
    reporter = Reporter(
        root,
        splits,
        options.choices,
        values,
        part["oracle"],
        loggers,
        reads_truth=part["method"].reads_truth,
        show=lambda round, image: work.method.show(work.context(round), image),
    )
    work = Run(
        method=part["method"],
        splits=splits,
        datamodule=ActiveDataModule(
            splits,
            pool,
            part["augment"].build(images),
            part["augment"].plain(),
            workers=values["workers"],
            eval_batch_size=values["eval_batch_size"],
        ),
        pool=pool,
        regions=PIXELS,
        kind=source.unit,
        oracle=part["oracle"],
        network=part["network"],
        root=root,
        rounds=values["rounds"],
        seed=values["seed"],
        trainer=part["trainer"].keywords,
        loggers=loggers,
        observers=[reporter, SessionWriter(images, values["oracle"].get("accept_partial", False))],
        replay=replay,
        listed=listed,
        keep_rounds=values["keep_rounds"],
        cache=cache,
    )
    for round in {0, work.rounds - 1}:  # some stages come in the end only
        for stage in work.method.stages(work.context(round)):
            if stage.keep == "best" and not len(splits.val):
                raise UserError(
                    f"stage {stage.name} keeps the weights that are best on the validation images, "
                    f"and there are none; give some, or let it keep the last weights."
                )
    part["network"].build(len(images.classes))  # weights that cannot be had are found out now
    contents = {name: _content(split) for name, split in (("train", images), ("val", splits.val))}
    owner = {**identity(options), **contents}
    if part["method"].plans_rounds:
        owner["rounds"] = values["rounds"]
    if listed is not None:
        owner["query.images"] = hashlib.blake2b(listed.tobytes()).hexdigest()[:16]
    work.ledger.check_owner(owner)
    if source.unit != "pixel":  # pixels need no map
        maps = extract_regions(source, images, cache, values["workers"], progress)
        pool.add_maps(maps)
        work.regions = maps.version
        # answers name regions by their ids: maps cut by another release must not slip in
        owner["regions.counts"] = hashlib.blake2b(maps.num_regions.tobytes()).hexdigest()[:16]
    work.ledger.claim(owner)
    return work


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
        Exit status: 0, or `WAITING` for a person's answers.

    Raises:
        UserError: For input that cannot be used.
    """
    import warnings

    from filelock import FileLock, Timeout

    from alseg.active.driver import drive
    from alseg.active.loop import is_rank_zero
    from alseg.labels.oracle import AwaitingAnswersError

    logging.basicConfig(format="%(message)s")
    logging.getLogger("alseg").setLevel(logging.INFO if is_rank_zero() else logging.WARNING)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for noise in (
        ".*does not have many workers.*",
        ".*have no `validation_step`.*",  # not every stage is evaluated
        ".*exists and is not empty.*",  # a stage folder holds more than its checkpoint
        ".*predict returned None.*",  # pseudo labels go to files
        ".*LeafSpec.*",  # between Lightning and torch
        ".*find_unused_parameters=True was specified.*",
        ".*in eval mode at the start of training.*",  # methods freeze parts on purpose
        ".*recommended to use `self.log.*sync_dist.*",  # the metric is the same on every device
    ):
        warnings.filterwarnings("ignore", noise)
    root = run_dir(options)
    root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(root / ".lock")
    if is_rank_zero():
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise UserError(f"another process is at work in {root}; wait for it.") from error
    try:
        drive(build(options))
    except AwaitingAnswersError as waiting:
        if is_rank_zero():
            print(waiting)
        return WAITING
    finally:
        lock.release()
        options.components["logger"].close()
    if is_rank_zero():
        print(f"Report: {root / 'report.html'}")
    return 0


def help_text(arguments: Sequence[str]) -> str:
    """What ``--help`` prints; with ``method=NAME`` and the like, the options of that component."""
    asked = [a.partition("=") for a in arguments if a.partition("=")[0] in GROUPS]
    if asked:
        return "\n".join(
            f"{group}={name}\n{_described(GROUPS[group].resolve(name), group)}"
            for group, _, name in asked
        )
    lines = [
        "usage: python -m alseg.run [method=NAME] [data=NAME] [run_dir=FOLDER] [option=value ...]",
        "",
        "Runs active learning, or what is left of a run: the same command goes on where it was",
        "stopped. Without options, mulquery learns the embedded synthetic scenes.",
        "",
        "Choose by name (default first named); add --help to see the options of a choice:",
    ]
    for group, registry in GROUPS.items():
        names = [CHOICES[group], *(name for name in registry if name != CHOICES[group])]
        lines.append(f"  {group + '=':10}{', '.join(names)}")
    lines += ["", "Options of the run:"]
    lines += [_option(name, value, text) for name, (value, text) in ROOT.items()]
    lines.append(_option("preset", None, "A YAML file of options, e.g. one under experiments/."))
    for name, cls in NODES.items():
        lines += ["", _described(cls, name)]
    lines += [
        "",
        "examples:",
        "  python -m alseg.run method=mulquery run_dir=runs/first",
        "  python -m alseg.run method=mulquery --help",
        "  python -m alseg.run data=camvid data.root=CamVid network.encoder=mobilenet_v2 "
        "budget.amount=500",
        "  python -m alseg.run -m seed=0,1,2    (Hydra's sweeps)",
    ]
    return "\n".join(lines)


def option_texts(cls: type[Any]) -> dict[str, str]:
    """What the docstrings of a component, and of those it extends, say of its options."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, attributes = (inspect.cleandoc(base.__doc__ or "")).partition("Attributes:")
        name = ""
        for line in attributes.splitlines():
            key, colon, text = line.strip().partition(": ")
            if line.startswith("    ") and not line.startswith("     ") and colon:
                name, texts[key] = key, text
            elif name:
                texts[name] += f" {line.strip()}"
    return {name: text.replace("`", "").strip() for name, text in texts.items()}


def _described(cls: type[Any], prefix: str) -> str:
    """Summary of a component's docstring and its options."""
    texts = option_texts(cls)
    lines = [(inspect.getdoc(cls) or prefix).splitlines()[0]]
    for field in fields(cls):
        default = field.default
        if field.default_factory is not MISSING:
            default = field.default_factory()
        lines.append(_option(f"{prefix}.{field.name}", default, texts.get(field.name, "")))
    return "\n".join(lines)


def _option(name: str, default: Any, text: str) -> str:
    shown = {None: "null", True: "true", False: "false"}.get(default, default) if isinstance(
        default, bool | None
    ) else default  # fmt: skip
    shown = list(shown) if isinstance(shown, tuple) else shown
    head = f"  {name} = {'(required)' if default is MISSING else shown}"
    return "\n".join([head, *textwrap.wrap(text, 92, initial_indent=" " * 6,
                                           subsequent_indent=" " * 6)])  # fmt: skip


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 0, 2 for bad input, or `WAITING`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        if {"-h", "--help"} & set(given):
            print(help_text([a for a in given if not a.startswith("-")]))
            return
        overrides = expand(given)
        composed([o for o in overrides if "," not in o or "[" in o or "{" in o])  # not a sweep's
        sys.exit(_under_hydra(overrides))
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def _under_hydra(overrides: Sequence[str]) -> int:
    """Run as a Hydra job, so that ``-m`` and launchers work; the job's exit status."""
    import hydra
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import DictConfig

    status = 0

    def job(config: DictConfig) -> None:
        nonlocal status
        task = list(HydraConfig.get().overrides.task)
        try:
            status = max(status, run(options_of(config, task)))
        except UserError as error:  # Hydra would print a traceback
            print(f"error: {error}", file=sys.stderr)
            status = 2

    # Lightning starts the other processes of a ddp run with these arguments
    sys.argv = [sys.argv[0], *overrides]
    hydra.main(version_base="1.3", config_path=None, config_name="alseg")(job)()
    return status

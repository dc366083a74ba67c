"""``labels_from=RUN_DIR``: a run owns the answers of others, see `alseg.active.inheritance`."""

import json
import logging
import time
from dataclasses import dataclass
from functools import cached_property
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from alseg.active.context import RoundContext
from alseg.active.inheritance import Heir, Source, settle
from alseg.active.ledger import Ledger
from alseg.active.owned import OWNED, about_owned, drop_owned, own, write_owned
from alseg.cli.compose import Options, options
from alseg.cli.world import is_taken
from alseg.core.errors import UserError
from alseg.core.files import read_json
from alseg.core.images import ImageSet, WithoutTruth
from alseg.data.some import SomeImages
from alseg.label.board import Board
from alseg.label.journal import read_lines
from alseg.label.session import read_session
from alseg.labels.human import waiting_answers
from alseg.labels.pool import LabelPool
from alseg.labels.tables import Answers
from alseg.regions.base import Maps
from alseg.regions.kept import KeptMaps
from alseg.regions.maps import extract_regions
from alseg.regions.reindexed import Reindexed

if TYPE_CHECKING:
    from alseg.active.run import Run

log = logging.getLogger(__name__)

#: Options of another run that say how it cut its images.
_ABOUT = ("method", "regions", "plugins")


def check_sources(options: Options, root: Path) -> None:
    """Find out early whether the folders of ``labels_from`` can be read.

    A run that has copied what it owns needs them no more.

    Args:
        options: Those of the command.
        root: The run folder.

    Raises:
        UserError: Naming what is wrong with them.
    """
    sources = [Path(folder) for folder in options.components["run"].sources]
    if not sources or about_owned(root) is not None:
        return
    for source in sources:
        if not source.is_dir():
            raise UserError(f"labels_from={source}: there is no such folder; give a run_dir.")
        if source.resolve() == root.resolve():
            raise UserError(f"labels_from={source} is the run_dir itself; give another run_dir.")
        if is_taken(source):
            raise UserError(
                f"labels_from={source}: another process is at work there, and may take more "
                f"answers; wait for it, or stop it."
            )
        Source.read(source, untaken)
    if len({source.resolve() for source in sources}) < len(sources):
        raise UserError("labels_from names a folder twice; leave one of them out.")


def inherit(options: Options, run: "Run", owner: dict[str, Any], cache: Path) -> None:
    """Give the pool of a run what it owns, which is copied into its folder first.

    Args:
        options: Those of the command.
        run: The run, whose folder is claimed.
        owner: What it was claimed with.
        cache: Folder of region maps.

    Raises:
        UserError: If there is nothing to own, or nothing that can be.
    """
    folders = options.components["run"].sources
    if not folders:
        return
    maps = run.method.regions(run.context(0))
    if maps is not None and maps.version not in run.pool.maps:
        run.pool.add_maps(maps)
    claim = blake2b(json.dumps(owner, sort_keys=True).encode(), digest_size=16).hexdigest()
    if not run.ledger.writes:
        while (about_owned(run.root) or {}).get("claim") != claim:
            time.sleep(0.2)  # the first process writes it, or this one is ended with it
    elif (about_owned(run.root) or {}).get("claim") != claim:
        if any(run.root.glob("round_*/answers.npz")):
            raise UserError(
                f"{run.root / 'owned'} is gone, or is that of another run, and this one goes on "
                f"with it; restore it from a copy."
            )
        copy_answers(options, run, [Path(folder) for folder in folders], cache, claim)
    own(run.root, run.pool)


def copy_answers(
    options: Options, run: "Run", folders: list[Path], cache: Path, claim: str
) -> None:
    """Copy the answers of other runs, as they are here, into the folder of a run."""
    images, method = run.splits.train, options.choices["method"]
    heir = Heir(images, dict(run.pool.maps), run.method.learns, options.values["labels_as"], method)
    drop_owned(run.root)
    found: list[tuple[Answers, Maps | None]] = []
    names: set[str] = set()
    for folder in folders:
        source = Source.read(folder, untaken)
        names.update(source.classes)
        cutter = Cutter(source, images, cache, options.values["workers"])
        why = differences(cutter, options)
        found += heir.take(source, cutter.maps, why)
    unused = [name for name in heir.said_as if name not in names]
    if unused:
        raise UserError(f"labels_as names {unused[0]!r}, which is no class of labels_from.")
    tables, maps = settle(found, heir)
    count, about = sum(map(len, tables)), {int(i) for t in tables for i in np.unique(t.image)}
    account = [
        f"{count} answers about {len(about)} images are owned, from "
        f"{' and '.join(map(str, folders))}; they cost nothing here",
        *heir.told,
        *(f"{number} answers {reason}: left out" for reason, number in heir.left.items() if number),
    ]
    if not count:
        raise UserError(f"labels_from: nothing can be owned. {'. '.join(account[1:])}.")
    for sentence in account:
        log.info("%s", sentence)
    content = {"from": [str(folder) for folder in folders], "answers": count, "account": account}
    write_owned(run.ledger, tables, maps, {"claim": claim, **content})


def untaken(folder: Path) -> Answers | None:
    """Answers of a round that its run has not taken yet, from a page or a file.

    Args:
        folder: Folder of a round without answers.

    Raises:
        UserError: If they are damaged.
    """
    lines, _ = read_lines(folder / "answers.jsonl")
    if not lines:
        return waiting_answers(folder)
    board = Board(read_session(folder))
    if lines[0].get("digest") != board.session.digest:
        return None  # answers to other questions than those that were asked in the end
    for line in lines[1:]:
        board.apply(line)
    return board.all_answers()


@dataclass(frozen=True)
class Cutter:
    """Cuts images of this run as another run did.

    Attributes:
        source: The other run.
        images: The images of this run.
        cache: Folder of region maps.
        workers: Processes that cut.
    """

    source: Source
    images: ImageSet
    cache: Path
    workers: int

    @cached_property
    def options(self) -> Options:
        """Method and regions of the other run.

        Raises:
            UserError: If this release cannot make them.
        """
        path = self.source.root / "run.json"
        words = [
            f"{name}={value if isinstance(value, str) else json.dumps(value)}"
            for name, value in read_json(path).items()
            if name.partition(".")[0] in _ABOUT and name != "regions.counts"
        ]
        try:
            return options(*words)
        except UserError as error:
            raise UserError(
                f"{path} names a method or regions that cannot be made: {error}"
            ) from error

    def maps(self, version: str, images: NDArray[np.int64]) -> Maps | None:
        """The other run's maps of a version, over the images of this one.

        Args:
            version: Which maps.
            images: Images that need one.
        """
        if version.startswith(f"{OWNED}-"):
            return self._kept(version)
        source = self.options.components["regions"]
        if source.unit == "pixel":
            return None
        some = SomeImages(self.images, tuple(images.tolist()))
        made = extract_regions(source, some, self.cache, self.workers, len(images) >= 1000)
        places = {image: place for place, image in enumerate(images.tolist())}
        base = Reindexed.of(made, places, len(self.images))
        # maps of files are called by all files of a folder; whether one is the same is seen later
        return base if version == self.source.regions else self._made(base, version)

    def _kept(self, version: str) -> Maps | None:
        """Maps that the other run has of a third one."""
        about, root = about_owned(self.source.root), self.source.root
        if about is None or version not in about["maps"]:
            return None
        sizes = np.zeros((len(self.source.images), 2), dtype=np.int64)
        for there, here in self.here.items():
            sizes[there] = self.images.size(here)
        counts = {int(index): int(count) for index, count in about["maps"][version].items()}
        kept = KeptMaps(root / OWNED / version, version, counts, sizes)
        return Reindexed.of(kept, self.there, len(self.images))

    def _made(self, base: Maps, version: str) -> Maps | None:
        """Maps that the method of the other run made, of what it kept in its folder."""
        part, images = self.options.components, self.source.images
        counts = np.array([count for *_, count in images], dtype=np.int64)
        there = Reindexed(base, self.here, counts)
        pool = LabelPool(np.ones((len(images), 2), np.int64), 1, part["budget"], [there])
        rounds = len(list(self.source.root.glob("round_*")))
        for round in range(rounds):
            context = RoundContext(
                round=round,
                rounds=rounds,
                seed=0,
                pool=pool,
                regions=base.version,
                kind=part["regions"].unit,
                images=WithoutTruth(self.images),
                network=part["network"],
                ledger=Ledger(self.source.root, writes=False),
                cache=self.cache,
            )
            try:
                made = part["method"].regions(context)
            except ValueError:  # an earlier release does not say how many regions images have
                return None
            if made is not None and made.version == version:
                return Reindexed.of(made, self.there, len(self.images))
        return None

    @cached_property
    def here(self) -> dict[int, int]:
        """Image here by image there."""
        known = {self.images.fingerprint(i)[:16]: i for i in range(len(self.images))}
        prints = enumerate(digest for _, digest, *_ in self.source.images)
        return {there: known[digest] for there, digest in prints if digest in known}

    @cached_property
    def there(self) -> dict[int, int]:
        """Image there by image here."""
        known = {digest: index for index, (_, digest, *_) in enumerate(self.source.images)}
        prints = ((i, self.images.fingerprint(i)[:16]) for i in range(len(self.images)))
        return {here: known[digest] for here, digest in prints if digest in known}


def differences(cutter: Cutter, options: Options) -> str:
    """What is different about the regions of two runs, in words."""
    here = options
    try:
        there = cutter.options
    except UserError:
        return "by a method or regions that are not to be had here"
    names = (there.choices["regions"], here.choices["regions"])
    if names[0] != names[1]:
        return f"regions={names[0]} there, {names[1]} here"
    values = (there.values["regions"], here.values["regions"])
    told = [
        f"regions.{name}: {values[0].get(name)!r} there, {value!r} here"
        for name, value in values[1].items()
        if values[0].get(name) != value
    ]
    return ", ".join(told) or "another release or other files cut them"

"""What a run takes over of other runs: their answers about images that are here too, by content.

The other folders are only read, once: `alseg.active.owned` keeps what was taken over.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.active.owned import OWNED
from alseg.core.errors import UserError
from alseg.core.files import read_json
from alseg.core.images import ImageSet
from alseg.labels.kinds import KINDS
from alseg.labels.owned import ASIDE
from alseg.labels.pool import rows_by_image
from alseg.labels.renaming import Renaming, last_of_each, picked, times_said
from alseg.labels.tables import PIXELS, Answers, plural
from alseg.regions.base import Maps, runs_of, sizes_of

#: File of a run folder with what its answers are about.
POOL = "pool.json"
_NAMED = 5


def describe_pool(images: ImageSet, maps: Maps | None) -> dict[str, Any]:
    """What another run has to know of a pool to own answers about it.

    Args:
        images: The pool's images.
        maps: How they are cut; None where pixels are asked about.

    Returns:
        ``classes`` and ``scenes``, the names in the order of their ids; ``regions``, the version of
        the maps; ``images``, for each its name, a digest of its pixels, and of its regions a digest
        of their sizes and the number of their ids.
    """
    listed: list[list[str | int]] = []
    for index, name in enumerate(images.names):
        regions = ("", 0)
        if maps is not None:
            regions = sizes_digest(maps, index), int(maps.num_regions[index])
        listed.append([name, images.fingerprint(index)[:16], *regions])
    return {
        "classes": list(images.classes.names),
        "scenes": list(images.scenes),
        "regions": PIXELS if maps is None else maps.version,
        "images": listed,
    }


def sizes_digest(maps: Maps, index: int) -> str:
    """Digest of the sizes of the regions of an image."""
    sizes = np.ascontiguousarray(sizes_of(maps, index), dtype=np.int64)
    return blake2b(sizes.tobytes(), digest_size=8).hexdigest()


@dataclass(frozen=True)
class Source:
    """A run whose answers are taken.

    Attributes:
        root: Its folder, which is only read.
        classes: Names of its classes.
        scenes: Names of its scenes.
        images: Of each image its name, and digest of its pixels, digest and number of its regions.
        regions: Version of its maps, or `PIXELS`.
        tables: Its answers, the oldest first.
        strange: Answers about maps that nobody has any more.
    """

    root: Path
    classes: tuple[str, ...]
    scenes: tuple[str, ...]
    images: tuple[tuple[str, str, str, int], ...]
    regions: str
    tables: tuple[Answers, ...]
    strange: int = 0

    @classmethod
    def read(cls, root: Path, waiting: Callable[[Path], Answers | None]) -> "Source":
        """Read a run folder.

        Args:
            root: The folder.
            waiting: Answers of the folder of a round that the run has not taken yet.

        Raises:
            UserError: If it is no run folder, has no answers, or is damaged.
        """
        about = _about(root)
        tables = [Answers.load(path) for path in sorted((root / OWNED).glob("*.npz"))]
        aside = [Answers.load(p) for p in sorted(root.glob(f"{ASIDE}/*/round_*/answers.npz"))]
        known = [table for table in aside if table.regions in (PIXELS, about["regions"])]
        tables += known
        for folder in sorted(root.glob("round_*")):
            path = folder / "answers.npz"
            found = Answers.load(path) if path.exists() else waiting(folder)
            if found is not None and len(found):
                tables.append(found)
        images = tuple((str(n), str(p), str(r), int(k)) for n, p, r, k in about["images"])
        if any(len(t) and t.image.max() >= len(images) for t in tables):
            raise UserError(f"{root} has answers about images it does not know; {_RESTORE}")
        if not any(map(len, tables)):
            raise UserError(f"labels_from={root}: nothing has been answered there yet.")
        strange = sum(map(len, aside)) - sum(map(len, known))
        return cls(
            root, tuple(about["classes"]), tuple(about["scenes"]), images, str(about["regions"]),
            tuple(tables), strange,
        )  # fmt: skip


_RESTORE = "restore the folder from a copy."


def _about(root: Path) -> dict[str, Any]:
    """What the answers of a run folder are about."""
    if not (root / "run.json").is_file():
        raise UserError(
            f"labels_from={root} is no run folder: there is no run.json in it; give the run_dir of "
            f"another run."
        )
    path = root / POOL
    if path.exists():
        about: dict[str, Any] = read_json(path)
        fits = all(isinstance(about.get(n), list) for n in ("classes", "scenes", "images"))
        if not fits or any(not isinstance(i, list) or len(i) != 4 for i in about["images"]):
            raise UserError(f"{path} does not describe the images of a run; {_RESTORE}")
        return about
    # a release that did not write it; windows of files are named by none of its files
    contents, report = root / "images.json", root / "report.json"
    names = set(read_json(root / "run.json"))
    if not contents.exists() or not report.exists() or "data.window" in names:
        raise UserError(
            f"{root} does not say which images its answers are about: {POOL} is missing; give the "
            f"command of that run again with this release, which writes it."
        )
    train, classes = read_json(contents).get("train", {}), read_json(report)["classes"]
    tables = [Answers.load(path) for path in root.glob("round_*/answers.npz")]
    regions = next((t.regions for t in tables if t.regions != PIXELS), PIXELS)
    images = [[name, digest, "", 0] for name, digest in train.items()]
    return {"classes": classes, "scenes": [], "regions": regions, "images": images}


@dataclass
class Heir:
    """A run that is to own answers of others.

    Attributes:
        images: Its pool images.
        maps: Maps it asks about, by version; the first is how it cuts images.
        learns: Whether its method learns from answers; the second argument is whether they are
            about maps of its own.
        said_as: What a class is called here by its name there.
        method: Name of its method.
        left: How many answers are left out, by reason.
        told: Sentences about the sources.
    """

    images: ImageSet
    maps: Mapping[str, Maps]
    learns: Callable[[Answers, bool], bool]
    said_as: Mapping[str, str]
    method: str
    left: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def take(
        self, source: Source, foreign: Callable[[str, NDArray[np.int64]], Maps | None], why: str
    ) -> Iterator[tuple[Answers, Maps | None]]:
        """The answers of a source that are owned, with the maps they are about where not own.

        Args:
            source: The other run.
            foreign: Its maps of a version, over the images of this run; None if they cannot be
                made. The second argument are the images that need one.
            why: How its regions differ from those of this run.

        Raises:
            UserError: For answers that say a class that is none here.
        """
        targets = self._targets(source)
        if source.strange:
            self.left["are about regions of networks that are no more"] += source.strange
        for table in self._here(source, targets):
            renamed = self._renaming(source, table)(table)
            yield from self._placed(source, renamed, targets, foreign, why)

    def _targets(self, source: Source) -> list[list[int]]:
        """The images here that have the content of each image there."""
        here: dict[str, list[int]] = {}
        for index in range(len(self.images)):
            here.setdefault(self.images.fingerprint(index)[:16], []).append(index)
        targets = [here.get(digest, []) for _, digest, *_ in source.images]
        names = [self.images.names[found[0]] if found else None for found in targets]
        pairs = list(zip(source.images, names, strict=True))
        same = sum(name == now for (name, *_), now in pairs)
        gone = [name for (name, *_), now in pairs if now is None]
        changed = [name for name in gone if name in set(self.images.names)]
        new = len(self.images) - len({b for found in targets for b in found})
        told = f"of its {len(pairs)} images {same} are here"
        renamed = len(pairs) - same - len(gone)
        told += f", {renamed} under another name" if renamed else ""
        told += f", {len(gone) - len(changed)} are gone" if len(gone) > len(changed) else ""
        told += f", {len(changed)} have other pixels ({_some(changed)})" if changed else ""
        self.told.append(f"{source.root}: {told}; {new} images here are new to it")
        return targets

    def _here(self, source: Source, targets: Sequence[Sequence[int]]) -> Iterator[Answers]:
        """Answers about images that are here; a class of them must be one here, too."""
        said: Counter[str] = Counter()
        kept = []
        for table in source.tables:
            here = np.array([bool(found) for found in targets], dtype=bool)[table.image]
            self.left["are about images that are not here"] += int((~here).sum())
            rows = np.flatnonzero(here)
            if len(rows):
                kept.append(picked(table, rows))
                renaming = self._renaming(source, kept[-1])
                times = times_said(kept[-1], renaming.gone)
                gone = zip(renaming.gone.tolist(), times.tolist(), strict=True)
                said.update({renaming.old[number]: n for number, n in gone if n})
        if said:
            listed = ", ".join(f"{name!r} ({n} answers)" for name, n in sorted(said.items()))
            raise UserError(
                f"labels_from={source.root}: its answers say {listed}, and no class here is called "
                f"so; say what it is now: labels_as.{min(said)}=CLASS, or void where it is none."
            )
        yield from kept

    def _renaming(self, source: Source, table: Answers) -> Renaming:
        scenes = not KINDS[table.answer].covers_pixels
        old, new = (source.scenes, self.images.scenes) if scenes else (
            source.classes, self.images.classes.names)  # fmt: skip
        if len(old) != table.num_classes:
            raise UserError(
                f"{source.root} has answers for {table.num_classes} classes and names {len(old)}; "
                f"{_RESTORE}"
            )
        return Renaming(old, tuple(new), self.said_as)

    def _placed(
        self,
        source: Source,
        table: Answers,
        targets: Sequence[Sequence[int]],
        foreign: Callable[[str, NDArray[np.int64]], Maps | None],
        why: str,
    ) -> Iterator[tuple[Answers, Maps | None]]:
        """A table in numbers of images of this run, about maps it has or gets."""
        parts = [
            (rows, there, here)
            for there, rows in rows_by_image(table.image)
            for here in targets[there]
        ]
        what = f"the {table.answer} of {plural(table.kind)}"
        version, own = table.regions, table.regions in {PIXELS, *self.maps}
        apart = self.learns(table, False)
        # maps of files are others as soon as the folder has one more
        alike = version.startswith("files-") and any(v.startswith("files-") for v in self.maps)
        if not self.learns(table, True) or not (own or apart or alike):
            reason = (
                f"are {what}, of regions that are cut in another way here ({why})"
                if self.learns(table, True)
                else f"are {what}, which method={self.method} does not learn"
            )
            self.left[reason] += len(table)
            return
        theirs = None
        if not own:
            theirs = foreign(version, np.unique([here for _, _, here in parts]))
        groups: dict[str, list[tuple[NDArray[np.int64], int]]] = {}
        for rows, there, here in parts:
            digest = source.images[there][2] if version == source.regions else ""
            maps = self.maps.get(version) if own else theirs
            wrong = maps is not None and digest not in ("", sizes_digest(maps, here))
            if (maps is None and version != PIXELS) or wrong:
                self.left[f"are {what}, of regions that cannot be cut again ({why})"] += len(rows)
                continue
            place = version
            if not own and maps is not None:
                place = self._same(maps, here) or ""
                if not place and not apart:
                    self.left[f"are {what}, of regions that are others here ({why})"] += len(rows)
                    continue
            groups.setdefault(place, []).append((rows, here))
        for place, found in groups.items():
            rows = np.concatenate([part for part, _ in found])
            image = np.repeat([here for _, here in found], [len(part) for part, _ in found])
            order = np.argsort(rows, kind="stable")
            moved = replace(picked(table, rows[order]), image=image[order].astype(np.int64))
            yield replace(moved, regions=place or version), None if place else theirs

    def _same(self, maps: Maps, index: int) -> str | None:
        """The own maps that cut an image as others do."""
        runs = runs_of(maps, index)
        for version, own in self.maps.items():
            mine = runs_of(own, index)
            if np.array_equal(mine.ids, runs.ids) and np.array_equal(mine.lengths, runs.lengths):
                return version
        return None


def settle(
    found: Sequence[tuple[Answers, Maps | None]], heir: Heir
) -> tuple[list[Answers], dict[str, Maps]]:
    """Tables no two rows of which are about one unit, and the maps that they bring with them.

    Args:
        found: Answers as `Heir.take` gives them, the oldest first.
        heir: Keeps the account.
    """
    names: dict[tuple[int, str], str] = {}
    brought: dict[str, Maps] = {}
    tables: list[Answers] = []
    for table, maps in found:
        if maps is not None:
            version = names.setdefault((id(maps), table.regions), f"{OWNED}-{len(names):03d}")
            brought[version] = maps
            table = replace(table, regions=version)
        tables.append(table)
    rows, replaced = last_of_each(tables)
    differing = sum(not _alike(tables[a], i, tables[b], j) for a, i, b, j in replaced)
    if len(replaced) - differing:
        heir.left["say what a later answer about the same says, too"] += len(replaced) - differing
    if differing:
        heir.left["say something else than a later answer about the same, which counts"] += (
            differing
        )
    settled = [picked(table, keep) for table, keep in zip(tables, rows, strict=True) if len(keep)]
    return settled, {v: m for v, m in brought.items() if any(t.regions == v for t in settled)}


def _alike(one: Answers, row: int, other: Answers, other_row: int) -> bool:
    """Whether two answers of a kind say the same."""
    unsure = [
        t.unsure is not None and bool(t.unsure[r]) for t, r in ((one, row), (other, other_row))
    ]
    return unsure[0] == unsure[1] and np.array_equal(one.said[row], other.said[other_row])


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMED]) + ", ..." * (len(names) > _NAMED)

"""What is known about every pixel, and what was paid for it: a replay of the answers on disk."""

import atexit
import shutil
from collections.abc import Container, Iterator, Sequence
from functools import cache as once
from itertools import chain, groupby
from pathlib import Path
from tempfile import mkdtemp
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from alseg.core.images import VOID, ImageSet
from alseg.labels.budget import Budget, Cost
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Units
from alseg.labels.sortedids import SortedIds
from alseg.labels.tables import PIXELS, AnswerKind, Answers, Query, UnitKind, plural
from alseg.regions.base import Maps, RegionSource, runs_of, sizes_of
from alseg.regions.maps import extract_regions
from alseg.regions.runs import Runs


class LabelPool:
    """All answers of a run. Holds no truth of its own: replaying the answers rebuilds it.

    Args:
        sizes: Height and width of every pool image, (N, 2).
        num_classes: C.
        budget: Prices the answers.
        maps: Region maps the answers refer to, by version.

    Attributes:
        owned: Answers that were there before anything was bought, the oldest first: they cost
            nothing here, and nobody is asked them again.
        history: Answers that were bought, round by round.
        regions: Version of the maps whose units are asked about next, or `PIXELS`; None where
            whoever asks says it.
        kind: What one of these units is.
        data: The images, where the pool was made of them.
    """

    regions: str | None = None
    kind: UnitKind | None = None
    data: ImageSet | None = None

    @classmethod
    def of(
        cls,
        images: ImageSet,
        source: RegionSource,
        budget: Budget,
        cache: Path | None = None,
        workers: int = 0,
    ) -> Self:
        """A pool of images that are cut into units, about which nothing is known yet.

        Args:
            images: The images.
            source: How they are cut, such as ``Seeds(256)``; see `alseg.regions`.
            budget: What a round may spend, and the prices.
            cache: Where region maps are kept between runs; None = in memory of this pool's
                temporary folder, which goes when the process ends.
            workers: Processes that cut images.

        Raises:
            UserError: For images that cannot be cut.
        """
        source.check(images)
        sizes = np.array([images.size(index) for index in range(len(images))])
        pool = cls(sizes, len(images.classes), budget, [])
        pool.data, pool.kind, pool.regions = images, source.unit, PIXELS
        if source.unit != "pixel":
            folder = cache or Path(_temporary_folder())
            maps = extract_regions(source, images, folder, workers, len(images) >= 1000)
            pool.add_maps(maps)
            pool.regions = maps.version
        return pool

    def __repr__(self) -> str:
        asked = sum(len(answers) for answers in self.history)
        units = ""
        if self.regions is not None and self.kind is not None:
            count = int(self.num_units(self.regions).sum())
            units = f"{count:,} {plural(self.kind)}, ".replace(",", " ", f"{count:,}".count(","))
        return f"LabelPool({len(self)} images, {units}{asked} answered)"

    def __init__(
        self,
        sizes: NDArray[np.int64],
        num_classes: int,
        budget: Budget,
        maps: Sequence[Maps],
    ) -> None:
        self.sizes = np.asarray(sizes, dtype=np.int64).reshape(-1, 2)
        self.num_classes = num_classes
        self.budget = budget
        self.maps: dict[str, Maps] = {m.version: m for m in maps}
        self.owned: list[Answers] = []
        self.history: list[Answers] = []
        self.costs: list[Cost] = []
        self._rows: dict[int, list[tuple[Answers, NDArray[np.int64]]]] = {}  # by image
        self._new_images: list[int] = []  # by batch: images asked about for the first time
        self._asked: dict[tuple[str, int], SortedIds] = {}  # (regions, image): units
        self._owned: dict[int, list[tuple[Answers, NDArray[np.int64]]]] = {}  # by image
        self._covered: dict[int, Runs] = {}  # by image, see `_covering`

    def __len__(self) -> int:
        return len(self.sizes)

    def add_maps(self, maps: Maps) -> None:
        """Make another version of the region maps known, e.g. one a method merged."""
        if maps.version in self.maps:
            raise ValueError(f"region maps {maps.version!r} are already in the pool")
        self.maps[maps.version] = maps

    def num_units(self, regions: str) -> NDArray[np.int64]:
        """Number of unit ids per image in a map version or in `PIXELS`, (N,), int64."""
        if regions == PIXELS:
            return np.asarray(self.sizes.prod(axis=1))
        return np.asarray(self.maps[regions].num_regions)

    @property
    def known(self) -> list[Answers]:
        """Everything that was answered: what is owned, then what was bought."""
        return [*self.owned, *self.history]

    def own(self, tables: Sequence[Answers]) -> None:
        """Add answers that somebody gave before; they count as asked, and cost nothing.

        A unit of the maps that are known is not open either where all of its pixels were answered,
        be it as units of other maps.

        Args:
            tables: Answers, the oldest first. No two of a kind are about one unit.

        Raises:
            ValueError: If something was bought or owned before, or as `commit`.
        """
        if self.history or self.owned:
            raise ValueError("answers can be owned only by a pool that has none")
        for answers in tables:
            self._check(answers)
        for answers in tables:
            for image, rows in rows_by_image(answers.image):
                self._owned.setdefault(image, []).append((answers, rows))
                self._close(answers.regions, image, np.unique(answers.unit[rows]))
        self.owned = list(tables)
        for image, parts in self._owned.items():
            for version in self.maps:
                if any(answers.regions != version for answers, _ in parts):
                    answered = self.answered(self.maps[version], image)
                    self._close(version, image, np.flatnonzero(answered))

    def _close(self, regions: str, image: int, units: NDArray[np.int64]) -> None:
        """Count units, ascending, as asked."""
        asked = self._asked.setdefault((regions, image), SortedIds())
        new = units[~asked.holds(units)]
        if len(new):
            asked.add(new)

    def answered(self, maps: Maps, image: int, answer: AnswerKind = "") -> NDArray[np.bool_]:
        """Regions of a map all of whose pixels owned answers speak of, (R,), bool.

        Args:
            maps: The maps; they need not be in the pool.
            image: Image index.
            answer: See `covered`.
        """
        covered = self.covered(image, answer)
        sizes = sizes_of(maps, image)
        inside = maps[image][covered]
        counts = np.bincount(inside[inside >= 0], minlength=len(sizes))
        return np.asarray((sizes > 0) & (counts == sizes))

    def covered(self, image: int, answer: AnswerKind = "") -> NDArray[np.bool_]:
        """Pixels of an image whose class an owned answer says, be it void or unsure, (H, W), bool.

        Args:
            image: Image index.
            answer: A kind of answer that counts too, though it says no pixel's class, such as the
                dominant class of a region.
        """
        height, width = (int(side) for side in self.sizes[image])
        covered = np.zeros((height, width), dtype=bool)
        for answers, rows in self._owned.get(image, []):
            if answers.sets is not None:
                rows = rows[answers.members(rows).sum(axis=1) == 1]
            elif answers.regions != PIXELS and answers.masks is None and answers.answer != answer:
                continue
            units = self.units_of(answers.regions, image, answers.unit[rows])
            if units.runs is None:
                covered.reshape(-1)[units.unit] = True
                continue
            table = np.zeros(units.num_regions + 1, dtype=bool)
            table[units.unit] = True
            covered |= units.runs.spread(table[units.runs.ids])
        return covered

    def _covering(self, image: int) -> Runs | None:
        """`covered` as runs of 0 where it is and -1 elsewhere; None where only pixels are owned."""
        parts = self._owned.get(image, [])
        if image not in self._covered and any(a.regions != PIXELS for a, _ in parts):
            self._covered[image] = Runs.of(self.covered(image).astype(np.int32) - 1)
        return self._covered.get(image)

    def commit(self, answers: Answers) -> Cost:
        """Add the answers of one round.

        Returns:
            What they cost in total.

        Raises:
            ValueError: For a map version or unit the pool does not have, a unit asked twice, a
                class out of range, a mask of the wrong length, or rounds out of order.
        """
        if self.history and answers.round <= self.history[-1].round:
            raise ValueError(
                f"answers of round {answers.round} after those of round {self.history[-1].round}, "
                f"which are in the pool already"
            )
        pixels = self._check(answers)
        groups = rows_by_image(answers.image)
        asked = [np.sort(answers.unit[rows]) for _, rows in groups]
        for (image, _), units in zip(groups, asked, strict=True):
            before = self._asked.get((answers.regions, image))
            twice = (units[1:] == units[:-1]).any()
            if twice or (before is not None and before.holds(units).any()):
                raise ValueError(f"a unit of image {image} is asked twice")
        cost = self.budget.cost(answers, pixels).total()
        # nothing above changed the pool: a refused commit leaves it as it was
        self._new_images.append(sum(image not in self._rows for image, _ in groups))
        for (image, rows), units in zip(groups, asked, strict=True):
            self._rows.setdefault(image, []).append((answers, rows))
            self._asked.setdefault((answers.regions, image), SortedIds()).add(units)
        self.history.append(answers)
        self.costs.append(cost)
        return cost

    def _check(self, answers: Answers) -> NDArray[np.int64]:
        """Refuse what cannot be about this pool; the pixels of each unit, (n,)."""
        num_classes = self._num_classes(answers)
        if answers.num_classes != num_classes:
            raise ValueError(f"answers for {answers.num_classes} classes, not {num_classes}")
        if answers.regions != PIXELS and answers.regions not in self.maps:
            raise ValueError(f"region maps {answers.regions!r} are not in the pool")
        if len(answers) and not 0 <= answers.image.min() <= answers.image.max() < len(self):
            raise ValueError("an image is not in the pool")
        units = self.num_units(answers.regions)
        if (answers.unit < 0).any() or (answers.unit >= units[answers.image]).any():
            raise ValueError(f"a unit is not in {answers.regions!r}")
        pixels = self.unit_pixels(answers)
        KINDS[answers.answer].check(answers.said, num_classes, pixels)
        return pixels

    def _num_classes(self, answers: Answers) -> int:
        """Classes there are for answers of a kind; those of whole images have their own table."""
        if KINDS[answers.answer].covers_pixels:
            return self.num_classes
        before = [a.num_classes for a in self.known if a.answer == answers.answer]
        return before[0] if before else answers.num_classes

    def unit_pixels(self, answers: Answers | Query) -> NDArray[np.int64]:
        """Pixels each unit of a table covers, (n,), int64."""
        pixels = np.ones(len(answers), dtype=np.int64)
        if answers.regions != PIXELS:
            for image, rows in rows_by_image(answers.image):
                sizes = self.region_sizes(answers.regions, image)
                pixels[rows] = sizes[answers.unit[rows]]
        return pixels

    def region_sizes(self, regions: str, image: int) -> NDArray[np.int64]:
        """Pixels of every region of an image, (R,), int64; 0 for ids without a pixel."""
        return sizes_of(self.maps[regions], image)

    def units(self, regions: str) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
        """Every region that has a pixel: image, region id and size, (n,) each.

        Not for `PIXELS`, of which there are too many to list; for very many regions see
        `units_in_parts`.
        """
        none = np.zeros(0, np.int32), np.zeros(0, np.int32), np.zeros(0, np.int64)
        parts = [none, *self.units_in_parts(regions, 1 << 20)]
        image, unit, size = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        return image, unit, size

    def units_in_parts(
        self, regions: str, length: int
    ) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]]:
        """What `units` lists, image by image, about so many rows at a time.

        Args:
            regions: Version of the maps.
            length: Rows at which a part ends.
        """
        unit: list[NDArray[np.int32]] = []
        size: list[NDArray[np.int64]] = []
        first, rows = 0, 0
        for image in range(len(self)):
            pixels = self.region_sizes(regions, image)
            present = np.flatnonzero(pixels)
            unit.append(present.astype(np.int32))
            size.append(pixels[present])
            rows += len(present)
            if rows >= length or image == len(self) - 1:
                images = np.arange(first, image + 1, dtype=np.int32)
                lengths = [len(one) for one in unit]
                yield np.repeat(images, lengths), np.concatenate(unit), np.concatenate(size)
                unit, size, first, rows = [], [], image + 1, 0

    def spent(self, rounds: int | None = None) -> Cost:
        """Total cost of the first ``rounds`` commits (None: all)."""
        costs = self.costs[:rounds] or [Cost(0.0, 0.0, 0.0, 0.0)]
        return Cost(*(float(np.sum(axis)) for axis in zip(*costs, strict=True)))

    def num_images(self, rounds: int | None = None) -> int:
        """Images with at least one answer in the first ``rounds`` commits (None: all)."""
        return sum(self._new_images[:rounds])

    def images(self, kinds: Container[AnswerKind] | None = None) -> NDArray[np.int64]:
        """Images with at least one answer of certain kinds (None: any), ascending, int64."""
        found = {
            image
            for image, parts in chain(self._owned.items(), self._rows.items())
            if kinds is None or any(answers.answer in kinds for answers, _ in parts)
        }
        return np.array(sorted(found), dtype=np.int64)

    def asked(self, regions: str, image: int) -> NDArray[np.int64]:
        """Unit ids of an image asked so far, in order of purchase, int64.

        Pixels that are not open because of regions that are owned come first.
        """
        parts = [a.unit[rows] for a, rows in self.answers(image) if a.regions == regions]
        covering = self._covering(image) if regions == PIXELS else None
        if covering is not None:
            covered = np.flatnonzero(covering.dense().ravel() == 0)
            parts = [covered, *(part[~np.isin(part, covered)] for part in parts)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *parts])

    def num_asked(self, regions: str, image: int) -> int:
        """Number of units of an image asked so far."""
        asked = self._asked.get((regions, image))
        return 0 if asked is None else len(asked)

    def round_of(self, regions: str, image: int) -> NDArray[np.int16]:
        """Round of purchase of every unit of an image, (R,), int16, -1 = not bought."""
        rounds = np.full(int(self.num_units(regions)[image]), -1, dtype=np.int16)
        for answers, rows in self._rows.get(image, []):
            if answers.regions == regions:
                rounds[answers.unit[rows]] = answers.round
        return rounds

    def answers(self, image: int) -> list[tuple[Answers, NDArray[np.int64]]]:
        """Answers about an image in order: each table, owned ones first, and the row numbers."""
        return [*self._owned.get(image, []), *self._rows.get(image, [])]

    def is_open(
        self, regions: str, image: NDArray[np.integer[Any]], unit: NDArray[np.integer[Any]]
    ) -> NDArray[np.bool_]:
        """Whether units have not been asked, for columns of unit ids, (n,), bool."""
        is_open = np.ones(len(image), dtype=bool)
        for index, rows in rows_by_image(image):
            asked = self._asked.get((regions, index))
            if asked is not None:
                is_open[rows] = ~asked.holds(unit[rows])
            covering = self._covering(index) if regions == PIXELS else None
            if covering is not None:
                is_open[rows] &= covering.dense().ravel()[unit[rows]] != 0
        return is_open

    def open_images(self, regions: str) -> NDArray[np.int64]:
        """Images that still have a unit to ask about, ascending, int64."""
        if regions == PIXELS:
            left = self.num_units(PIXELS)
        else:
            every = range(len(self))
            present = [np.count_nonzero(self.region_sizes(regions, image)) for image in every]
            left = np.array(present, dtype=np.int64)
        for (version, image), asked in self._asked.items():
            if version == regions:
                left[image] -= len(asked)
        if regions == PIXELS:
            for image in self._owned:
                left[image] = int(self.sizes[image].prod()) - len(self.asked(PIXELS, image))
        return np.flatnonzero(left > 0)

    def render(self, image: int, kinds: Container[AnswerKind] | None = None) -> NDArray[np.uint8]:
        """Label map of an image from everything that was answered, VOID where nothing is known.

        Later answers paint over earlier ones; the answer "void" paints nothing. Of a class set
        only sets of one class give a label; the scene of an image says nothing of its pixels.

        Args:
            image: Image index.
            kinds: Kinds of answers that count; None = all.

        Returns:
            (H, W), uint8.
        """
        height, width = (int(side) for side in self.sizes[image])
        target = np.full((height, width), VOID, dtype=np.uint8)
        counted = [
            (answers, rows)
            for answers, rows in self.answers(image)
            if kinds is None or answers.answer in kinds
        ]
        # no unit of a map is asked twice, so that the rounds of one map are painted at once
        for (regions, answer), rounds in groupby(counted, lambda a: (a[0].regions, a[0].answer)):
            kind, parts = KINDS[answer], list(rounds)
            if kind.covers_pixels:
                unit = np.concatenate([answers.unit[rows] for answers, rows in parts])
                said = [answers.said_in(rows) for answers, rows in parts]
                column = list(chain(*said)) if kind.column == "masks" else np.concatenate(said)
                kind.paint(target, self.units_of(regions, image, unit), column, self.num_classes)
        return target

    def units_of(self, regions: str, image: int, unit: NDArray[np.int64]) -> Units:
        """Units of an image with the map they belong to.

        Args:
            regions: Version of the map, or `PIXELS`.
            image: Image index.
            unit: Unit ids, (n,).
        """
        if regions == PIXELS:
            return Units(image, unit, None, 0)
        maps = self.maps[regions]
        return Units(image, unit, runs_of(maps, image), int(maps.num_regions[image]))


def rows_by_image(image: NDArray[np.integer[Any]]) -> list[tuple[int, NDArray[np.int64]]]:
    """Row numbers per image, images ascending, rows in their order."""
    order = np.argsort(image, kind="stable")
    cuts = np.flatnonzero(np.diff(image[order])) + 1
    return [(int(image[rows[0]]), rows) for rows in np.split(order, cuts) if len(rows)]


@once
def _temporary_folder() -> str:
    """A folder for region maps that goes when the process ends."""
    folder = mkdtemp(prefix="alseg-regions-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder

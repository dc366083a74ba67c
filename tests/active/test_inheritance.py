"""A run that owns the answers of others."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from alseg.active.driver import drive
from alseg.active.inheritance import Heir, Source, describe_pool, settle
from alseg.active.ledger import Ledger
from alseg.active.owned import about_owned, own, write_owned
from alseg.core.errors import UserError
from alseg.core.images import VOID, ClassTable
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle
from alseg.labels.tables import PIXELS, Answers
from alseg.methods.baselines.random import Random
from alseg.methods.baselines.uncertainty import Margin
from tests.toys import COLORS, BlockMaps, ToyImages, toy_run


@dataclass(frozen=True)
class Renamed(ToyImages):
    """Some toy images under other names, in another order; -1 is one more."""

    order: tuple[int, ...] = ()
    titles: tuple[str, ...] = ()

    @property
    def names(self):
        return list(self.titles)

    def __len__(self):
        return len(self.order)

    def image(self, index):
        return ToyImages(99, seed=7).image(0) if self.order[index] < 0 else self._of(index)

    def _of(self, index):
        return ToyImages(99).image(self.order[index])

    def truth(self, index):
        return ToyImages(99).truth(max(self.order[index], 0))


def source(root: Path, tables, images, maps, names=("red", "green", "blue"), **about) -> Source:
    """The folder of a run that was answered so."""
    ledger = Ledger(root)
    ledger.write_json(root / "run.json", {"method": "margin", "regions": "grid"})
    described = describe_pool(images, maps) | {"classes": list(names)} | about
    ledger.write_json(root / "pool.json", described)
    for table in tables:
        ledger.write_answers(table)
    return Source.read(root, lambda folder: None)


def dominant(round, image, unit, label, regions="blocks", kind="region", answer="dominant"):
    return Answers(
        round, kind, answer, regions, 3, np.array(image), np.array(unit),
        label=np.array(label, np.uint8), unsure=np.array([c == VOID for c in label]),
    )  # fmt: skip


def heir(images, maps, learns=lambda answers, own: own, said_as=None) -> Heir:
    return Heir(images, {m.version: m for m in maps}, learns, said_as or {}, "margin")


def no_maps(version, images):
    return None


SIZES = np.array([(32, 48)] * 6)
OLD = ToyImages(4)
NEW = Renamed(5, order=(3, 0, -1, 2), titles=("cat", "toy_00", "new", "zoo"))


def test_images_are_found_by_what_they_show(tmp_path):
    tables = [dominant(0, [0, 1], [4, 5], [1, 2]), dominant(1, [2, 3, 3], [0, 1, 2], [0, VOID, 2])]
    there = source(tmp_path, tables, OLD, BlockMaps(SIZES[:4]))
    here = heir(NEW, [BlockMaps(SIZES[:4])])
    found, maps = settle(list(here.take(there, no_maps, "")), here)
    rows = [
        (int(i), int(u), int(c), bool(s))
        for t in found
        for i, u, c, s in zip(t.image, t.unit, t.label, t.content.unsure, strict=True)
    ]
    assert rows == [(1, 4, 1, False), (3, 0, 0, False), (0, 1, VOID, True), (0, 2, 2, False)]
    assert maps == {}
    assert here.told == [
        f"{tmp_path}: of its 4 images 1 are here, 2 under another name, 1 are gone; 1 images here "
        f"are new to it"
    ]
    assert +here.left == {"are about images that are not here": 1}


def test_an_image_that_is_here_twice_owns_its_answers_twice(tmp_path):
    there = source(tmp_path, [dominant(0, [0], [4], [1])], OLD, BlockMaps(SIZES[:4]))
    twice = Renamed(2, order=(0, 0), titles=("a", "b"))
    here = heir(twice, [BlockMaps(SIZES[:2])])
    (found,) = settle(list(here.take(there, no_maps, "")), here)[0]
    assert found.image.tolist() == [0, 1]
    assert found.unit.tolist() == [4, 4]


def test_classes_are_found_by_name_and_one_that_is_gone_has_to_be_explained(tmp_path):
    tables = [dominant(0, [0, 1, 2], [4, 5, 6], [0, 1, VOID])]
    there = source(tmp_path, tables, OLD, BlockMaps(SIZES[:4]), names=("red", "bus", "blue"))

    def labels(said_as):
        here = heir(OLD, [BlockMaps(SIZES[:4])], said_as=said_as)
        return settle(list(here.take(there, no_maps, "")), here)[0][0].label.tolist()

    with pytest.raises(UserError, match=r"say 'bus' \(1 answers\).*labels_as.bus=CLASS, or void"):
        labels({})
    assert labels({"bus": "blue"}) == [0, 2, VOID]
    assert labels({"bus": "void"}) == [0, VOID, VOID]
    more = ClassTable(("sky", "red", "green", "blue"), COLORS[[0, 0, 1, 2]])
    here = heir(ToyImages(4, classes=more), [BlockMaps(SIZES[:4])], said_as={"bus": "sky"})
    (found,) = settle(list(here.take(there, no_maps, "")), here)[0]
    assert found.label.tolist() == [1, 0, VOID]
    assert found.num_classes == 4


def test_regions_of_another_map_come_with_it_or_are_left_out_with_a_reason(tmp_path):
    coarse = BlockMaps(SIZES[:4], 16, "coarse")
    there = source(tmp_path / "a", [dominant(0, [0, 2], [1, 3], [1, 2], "coarse")], OLD, coarse)
    own_only = heir(OLD, [BlockMaps(SIZES[:4])])
    assert not list(own_only.take(there, lambda v, i: coarse, "side: 16 there, 8 here"))
    (reason,) = +own_only.left
    assert reason == (
        "are the dominant of regions, of regions that are cut in another way here (side: 16 there, "
        "8 here)"
    )
    free = heir(OLD, [BlockMaps(SIZES[:4])], learns=lambda answers, own: True)
    found, maps = settle(list(free.take(there, lambda v, i: coarse, "")), free)
    assert maps == {"owned-000": coarse}
    run = toy_run(tmp_path / "b", method=Random(steps=2, batch_size=2, epoch_steps=2))
    write_owned(run.ledger, found, maps, {"account": []})
    own(run.root, run.pool)
    target = np.full((32, 48), VOID, np.uint8)
    target[:16, 16:32] = 1
    assert np.array_equal(run.pool.render(0), target)
    assert run.pool.maps["owned-000"].num_regions.tolist() == [6, 0, 6, 0, 0, 0]
    # maps of the same regions are the run's own, whatever they are called
    same = heir(OLD, [BlockMaps(SIZES[:4], 16, "mine")], learns=lambda answers, own: True)
    found, maps = settle(list(same.take(there, lambda v, i: coarse, "")), same)
    assert [t.regions for t in found] == ["mine"]
    assert maps == {}
    # and regions that another release cuts differently are none of those that were asked about
    other = heir(OLD, [BlockMaps(SIZES[:4], 8, "coarse")])
    assert not list(other.take(there, no_maps, "another release"))
    assert "cannot be cut again (another release)" in next(iter(+other.left))


def test_of_several_answers_the_last_counts_and_conflicts_are_told(tmp_path):
    maps = BlockMaps(SIZES[:4])
    first = source(tmp_path / "a", [dominant(0, [0, 0], [1, 2], [1, 2])], OLD, maps)
    second = source(tmp_path / "b", [dominant(0, [0, 0], [2, 1], [2, 0])], OLD, maps)
    here = heir(OLD, [maps])
    found = [*here.take(first, no_maps, ""), *here.take(second, no_maps, "")]
    (settled,) = settle(found, here)[0]
    assert dict(zip(settled.unit.tolist(), settled.label.tolist(), strict=True)) == {2: 2, 1: 0}
    assert +here.left == {
        "say what a later answer about the same says, too": 1,
        "say something else than a later answer about the same, which counts": 1,
    }


def units(run):
    tables = run.pool.history
    pairs = [zip(t.image.tolist(), t.unit.tolist(), strict=True) for t in tables]
    return [pair for table in pairs for pair in table]


def test_a_run_learns_what_it_owns_first_and_asks_nothing_of_it(tmp_path):
    method = Margin(steps=2, batch_size=2, epoch_steps=2)
    first = toy_run(tmp_path / "a", rounds=2, method=method, amount=6.0)
    drive(first)
    ledger = first.ledger
    ledger.write_json(first.root / "run.json", {"method": "margin"})
    ledger.write_json(first.root / "pool.json", describe_pool(first.splits.train, BlockMaps(SIZES)))
    run = toy_run(tmp_path / "b", rounds=3, method=method, amount=9.0, seed=5)
    here = heir(run.splits.train, [run.pool.maps["blocks"]], learns=method.learns)
    there = Source.read(first.root, lambda folder: None)
    tables, maps = settle(list(here.take(there, no_maps, "")), here)
    write_owned(run.ledger, tables, maps, {"account": ["x"], "claim": "c"})
    own(run.root, run.pool)
    rows = drive(run)
    assert [row["owned"] for row in rows] == [14, 14, 14]
    assert [row["clicks"] for row in rows] == [0, 10, 20]
    before, asked = units(first), units(run)
    assert len(before) == 14
    assert len(asked) == len(set(asked)) == 20
    assert not set(before) & set(asked)
    again = toy_run(tmp_path / "c", method=method)
    own(run.root, again.pool)
    for image in range(6):  # what round 0 was trained on, painted answer by answer
        target = np.full((32, 48), VOID, np.uint8)
        for table in first.pool.history:
            for i, unit, label in zip(table.image, table.unit, table.label, strict=True):
                if i == image and label != VOID:
                    target[first.pool.maps["blocks"][image] == unit] = label
        assert np.array_equal(again.pool.render(image), target)
    # started again the folder alone is read
    rerun = toy_run(tmp_path / "b", rounds=3, method=method, amount=9.0, seed=5)
    own(rerun.root, rerun.pool)
    assert drive(rerun) == rows


def test_a_person_is_asked_only_what_is_not_owned(tmp_path):
    run = toy_run(tmp_path, rounds=2, method=Margin(steps=2, batch_size=2, epoch_steps=2))
    whole = dominant(0, [0] * 24 + [1] * 23, [*range(24), *range(23)], [1] * 47)
    write_owned(run.ledger, [whole], {}, {"account": []})
    own(run.root, run.pool)
    run.oracle = HumanOracle()
    with pytest.raises(AwaitingAnswersError, match="Round 1 waits"):
        drive(run)
    lines = (tmp_path / "round_001/questions.csv").read_text().splitlines()[1:]
    asked = {tuple(line.split(",")[1:3]) for line in lines}
    assert asked
    assert not asked & {("toy_00", str(u)) for u in range(24)}
    assert not asked & {("toy_01", str(u)) for u in range(23)}


def test_a_method_that_asks_again_is_held_back(tmp_path, monkeypatch):
    """Whatever a method of somebody's own chooses."""
    method = Random(steps=2, batch_size=2, epoch_steps=2)
    run = toy_run(tmp_path, rounds=2, method=method, amount=6.0)
    write_owned(run.ledger, [dominant(0, [0] * 3, [1, 2, 3], [1, 1, 1])], {}, {"account": []})
    own(run.root, run.pool)
    chosen = Random.ask

    def stubborn(self, context):
        query = chosen(self, context)
        unit, image = query.unit.copy(), query.image.copy()
        image[0], unit[0] = 0, 2
        return type(query)(query.round, query.kind, query.answer, query.regions, image, unit,
                           query.score)  # fmt: skip

    monkeypatch.setattr(Random, "ask", stubborn)
    drive(run)
    bought = run.pool.history[1]
    assert len(bought) == 6  # of seven, with which the budget is exceeded
    assert (0, 2) not in set(zip(bought.image.tolist(), bought.unit.tolist(), strict=True))


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda root: (root / "run.json").unlink(), "is no run folder: there is no run.json"),
        (lambda root: (root / "pool.json").write_text("{"), "pool.json cannot be read"),
        (lambda root: (root / "pool.json").write_text("{}"), "does not describe the images"),
        (lambda root: (root / "pool.json").unlink(), "does not say which images"),
        (lambda root: (root / "round_000/answers.npz").write_bytes(b"PK"), "is not a table"),
        (lambda root: (root / "round_000/answers.npz").unlink(), "nothing has been answered"),
    ],
)
def test_a_folder_that_cannot_be_used_is_named(tmp_path, spoil, sentence):
    source(tmp_path, [dominant(0, [0], [4], [1])], OLD, BlockMaps(SIZES[:4]))
    spoil(tmp_path)
    with pytest.raises(UserError, match=sentence):
        Source.read(tmp_path, lambda folder: None)


def test_a_folder_of_an_earlier_release_is_read(tmp_path):
    source(tmp_path, [dominant(0, [0], [4], [1])], OLD, BlockMaps(SIZES[:4]))
    (tmp_path / "pool.json").unlink()
    train = {name: OLD.fingerprint(i)[:16] for i, name in enumerate(OLD.names)}
    (tmp_path / "images.json").write_text(json.dumps({"train": train}))
    (tmp_path / "report.json").write_text(json.dumps({"classes": ["red", "green", "blue"]}))
    there = Source.read(tmp_path, lambda folder: None)
    here = heir(NEW, [BlockMaps(SIZES[:4])])
    (found,) = settle(list(here.take(there, no_maps, "")), here)[0]
    assert found.image.tolist() == [1]
    assert there.regions == "blocks"


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda owned: (owned / "owned.json").write_text("[]"), "owned.json"),
        (lambda owned: (owned / "owned.json").write_text("{}"), "does not say what the run owns"),
        (lambda owned: (owned / "000.npz").unlink(), "that the run owns, is gone"),
        (lambda owned: (owned / "000.npz").write_bytes(b"PK"), "is not a table"),
        (lambda owned: dominant(0, [0], [99], [1]).save(owned / "000.npz"), "do not fit"),
    ],
)
def test_a_damaged_copy_is_named(tmp_path, spoil, sentence):
    run = toy_run(tmp_path, method=Random(steps=2, batch_size=2, epoch_steps=2))
    write_owned(run.ledger, [dominant(0, [0], [4], [1])], {}, {"account": []})
    assert about_owned(tmp_path)["tables"] == 1
    spoil(tmp_path / "owned")
    with pytest.raises(UserError, match=sentence):
        own(tmp_path, run.pool)


def test_pixels_need_no_maps(tmp_path):
    table = dominant(0, [0, 3], [7, 100], [1, 2], PIXELS, "pixel", "class")
    there = source(tmp_path, [table], OLD, None)
    here = heir(NEW, [BlockMaps(SIZES[:4])])
    (found,) = settle(list(here.take(there, no_maps, "")), here)[0]
    assert (found.regions, found.image.tolist(), found.unit.tolist()) == (PIXELS, [1, 0], [7, 100])

"""Every kind of answer against hand values; a kind of one's own; files of release 0.1."""

import ast
import zipfile
from pathlib import Path

import numpy as np
import pytest

import alseg
from alseg.core.images import VOID
from alseg.labels.budget import PRICES, Budget
from alseg.labels.kinds import KINDS
from alseg.labels.kinds.base import Annotator, Units
from alseg.labels.kinds.mask import pixels_of
from alseg.labels.oracle import SimulatedOracle
from alseg.labels.tables import Answers, Query
from alseg.regions.runs import Runs
from tests.toys import toy_pool

#: Files of every kind, written by release 0.1.
OLD = Path(__file__).parent / "data"
DOCUMENTATION = (Path(alseg.__file__).parents[1] / "docs" / "answers.md").read_text()

REGIONS = np.array([[0, 0, 2], [0, 3, 2], [-1, 3, 3]], dtype=np.int32)
TRUTH = np.array([[1, 1, 255], [0, 1, 255], [0, 0, 1]], dtype=np.uint8)
PLAIN = Annotator(trim=0, vote_void=True)


class Images:
    scenes = ("field", "town")

    def truth(self, image):
        return TRUTH

    def scene(self, image):
        return image


def read(name, units):
    return KINDS[name].of_truth(units, Images(), 2, PLAIN)


REGION_UNITS = Units(1, np.array([3, 0, 2]), Runs.of(REGIONS), 4)
PIXEL_UNITS = Units(1, np.array([2, 3]), None, 0)


def test_names_columns_and_prices():
    assert set(KINDS) == set(PRICES)
    assert all(kind.name == name for name, kind in KINDS.items())
    columns = {name: kind.column for name, kind in KINDS.items()}
    assert columns == {
        "class": "label", "dominant": "label", "scene": "label", "class_set": "sets",
        "mask": "masks", "correct": "label",
    }  # fmt: skip
    assert PRICES["scene"] == {"clicks_per_unit": 1.0, "seconds_per_unit": 20.0}


@pytest.mark.parametrize("name", ["class", "dominant", "correct"])
def test_one_label(name):
    assert list(read(name, REGION_UNITS)) == [1, 1, VOID]
    assert list(read(name, PIXEL_UNITS)) == [VOID, 0]


def test_sets():
    sets = read("class_set", REGION_UNITS).astype(int).tolist()
    assert sets == [[1, 1, 0], [1, 1, 0], [0, 0, 1]]
    assert read("class_set", PIXEL_UNITS).astype(int).tolist() == [[0, 0, 1], [1, 0, 0]]


def test_masks_and_scenes():
    assert [m.tolist() for m in read("mask", REGION_UNITS)] == [[1, 0, 1], [1, 1, 0], [255, 255]]
    assert [m.tolist() for m in read("mask", PIXEL_UNITS)] == [[255], [0]]
    assert list(read("scene", REGION_UNITS)) == [1, 1, 1]
    assert KINDS["scene"].names(Images()) == ("field", "town")


@pytest.mark.parametrize("count", [1, 40])
def test_pixels_of_regions_against_a_loop(count):
    rng = np.random.default_rng(0)
    regions = rng.integers(-1, 50, (30, 40)).astype(np.int32)
    unit = rng.permutation(50)[:count]
    found = pixels_of(Units(0, unit, Runs.of(regions), 50))
    for one, places in zip(unit, found, strict=True):
        assert np.array_equal(places, np.flatnonzero(regions.ravel() == one))


@pytest.mark.parametrize(
    ("name", "column", "painted"),
    [
        ("dominant", np.array([0, VOID, 1], np.uint8), [[7, 7, 1], [7, 0, 1], [7, 0, 0]]),
        ("class_set", np.array([0b10000000, 0b11000000, 0b01100000], np.uint8)[:, None],
         [[7, 7, 7], [7, 0, 7], [7, 0, 0]]),
        ("mask", [np.array([0, 255, 1]), np.array([1, 1, 1]), np.array([0, 0])],
         [[1, 1, 0], [1, 0, 0], [7, 7, 1]]),
        ("scene", np.array([1, 1, 1], np.uint8), [[7] * 3] * 3),
    ],
)  # fmt: skip
def test_painting(name, column, painted):
    target = np.full((3, 3), 7, dtype=np.uint8)
    KINDS[name].paint(target, REGION_UNITS, column, 2)
    assert target.tolist() == painted


def test_painting_pixels():
    target = np.full((3, 3), 7, dtype=np.uint8)
    KINDS["class"].paint(target, PIXEL_UNITS, np.array([1, VOID], np.uint8), 2)
    KINDS["mask"].paint(target, Units(0, np.array([8]), None, 0), [np.array([0])], 2)
    assert target.ravel().tolist() == [7, 7, 1, 7, 7, 7, 7, 7, 0]


LABEL = [0, 4, VOID, 2, 1, 3]
SAID = {
    "class": LABEL,
    "dominant": LABEL,
    "scene": LABEL,
    "class_set": [
        [1, 2, 3, 11], [1, 3, 6, 8, 9], [1, 7, 8, 11], [3, 5, 7, 8, 10],
        [0, 3, 5, 6, 7, 10, 11], [1, 2, 4, 6, 8, 9],
    ],
    "mask": [[3, 3, 3, 255], [0], [], [3, 0, 3, 255, 3, 3, 255], [3, 255], [0, 3, 255]],
}  # fmt: skip


@pytest.mark.parametrize("name", SAID)
def test_files_of_release_0_1_are_read_and_written_alike(tmp_path, name):
    query, answers = (
        Query.load(OLD / f"{name}_query.npz"),
        Answers.load(OLD / f"{name}_answers.npz"),
    )
    for table in (query, answers):
        assert table.answer == name
        assert table.round == ["class", "class_set", "dominant", "mask", "scene"].index(name)
        assert table.image.tolist() == [3, 0, 300, 3, 7, 1]
        assert table.unit.tolist() == [70_000, 0, 5, 6, 2, 9]
        assert table.suggested is None
    assert answers.num_classes == 11
    assert answers.unsure is None
    if name == "class_set":
        found = [np.flatnonzero(row).tolist() for row in answers.members()]
    else:
        found = [np.asarray(row).tolist() for row in answers.said]
    assert found == SAID[name]
    seconds = None if answers.seconds is None else answers.seconds.tolist()
    assert str(seconds) == ("[1.5, nan, 2.0, 0.0, 7.25, 3.0]" if name == "dominant" else "None")
    query.save(tmp_path / f"{name}_query.npz")
    answers.save(tmp_path / f"{name}_answers.npz")
    rows = answers.members() if name == "class_set" else answers.said
    Answers.of_rows(query, 11, rows, answers.seconds).save(tmp_path / f"{name}_rows.npz")
    for new, old in (("query", "query"), ("answers", "answers"), ("rows", "answers")):
        assert members_of(tmp_path / f"{name}_{new}.npz") == members_of(OLD / f"{name}_{old}.npz")


def members_of(path):
    """Names, dates and content of the members: how well they are compressed depends on zlib."""
    with zipfile.ZipFile(path) as archive:
        return [(m.filename, m.date_time, archive.read(m)) for m in archive.infolist()]


def corrected(pool, labels, suggested):
    none = np.zeros(3, np.int64)
    units = np.array([9, 2, 7])
    query = Query(
        0, "region", "correct", "blocks", none, units, none.astype(np.float32),
        np.array(suggested, np.uint8),
    )  # fmt: skip
    return query, Answers.of_rows(query, 3, labels)


def test_labels_that_are_confirmed_cost_no_click(tmp_path):
    _, pool = toy_pool(amount=100)
    query, answers = corrected(pool, [2, 1, VOID], [2, 0, 1])
    cost = pool.budget.cost(answers, pool.unit_pixels(answers))
    assert cost.clicks.tolist() == [0, 1, 1]
    np.testing.assert_allclose(cost.seconds, [6.41, 12.12, 12.12])  # replaced: as a dominant label
    assert not pool.budget.is_certain("correct")
    for table in (query, answers):
        table.save(tmp_path / "t.npz")
        again = type(table).load(tmp_path / "t.npz")
        assert again.suggested.tolist() == [2, 0, 1]
        assert again.head(2).suggested.tolist() == [2, 0]
    pool.commit(answers)
    assert (pool.render(0)[pool.maps["blocks"][0] == 2] == 1).all()
    assert pool.spent().clicks == 2


def test_a_simulated_oracle_confirms_and_replaces(tmp_path):
    images, pool = toy_pool(amount=1)
    none = np.zeros(24, np.int64)
    units = np.arange(24)
    plain = Query(0, "region", "dominant", "blocks", none, units, none.astype(np.float32))
    right = SimulatedOracle().answer(plain, toy_pool(amount=100)[1], images, tmp_path).label
    wrong = np.where(np.isin(units, [3, 8, 11]), (right + 1) % 3, right).astype(np.uint8)
    query = Query(0, "region", "correct", "blocks", none, units, plain.score, wrong)
    answers = SimulatedOracle().answer(query, pool, images, tmp_path)
    assert answers.label.tolist() == right[:9].tolist(), "the second click exceeds the budget"


def test_suggestions_are_where_they_are_needed():
    none = np.zeros(1, np.int64)
    table = (0, "region", "correct", "m", none, none, none.astype(np.float32))
    with pytest.raises(ValueError, match="need suggested labels"):
        Query(*table)
    with pytest.raises(ValueError, match="suggest no label"):
        Query(*table[:2], "dominant", *table[3:], suggested=np.zeros(1, np.uint8))
    with pytest.raises(ValueError, match="equal length"):
        Query(*table, suggested=np.zeros(2, np.uint8))


@pytest.mark.parametrize("name", ["class", "dominant", "class_set", "scene", "correct"])
def test_who_cannot_tell_is_paid_and_nothing_is_painted(tmp_path, name):
    _, pool = toy_pool(amount=100, void_costs=False)
    zeros, kind = np.zeros(3, np.int64), KINDS[name]
    suggested = np.array([0, 0, VOID], np.uint8) if kind.suggests else None
    query = Query(
        0, "region", name, "blocks", zeros, np.arange(3), zeros.astype(np.float32), suggested
    )
    one = np.array([1, 0, 0, 0], bool) if name == "class_set" else 0
    rows = [one, kind.void(3), kind.void(3)]
    unsure = np.array([False, False, True])
    Answers.of_rows(query, 3, rows, unsure=unsure).save(tmp_path / "a.npz")
    answers = Answers.load(tmp_path / "a.npz")
    assert answers.unsure.tolist() == unsure.tolist()
    assert answers.counts().tolist() == [1, 0, 0, 1, 1]
    assert answers.head(2).counts().tolist() == [1, 0, 0, 1, 0]
    clicks = pool.budget.cost(answers, np.ones(3, np.int64)).clicks
    assert clicks[2] == 1, "void may cost nothing, time does"
    pool.commit(answers)
    assert (pool.render(0)[np.isin(pool.maps["blocks"][0], [1, 2])] == VOID).all()
    plain = Answers.of_rows(query, 3, rows, unsure=~unsure & False)
    assert plain.unsure is None, "the files of those who can always tell are as they were"


def test_a_kind_of_ones_own(tmp_path, monkeypatch):
    """That of the documentation: the last class in a unit."""
    monkeypatch.setattr("alseg.labels.kinds.KINDS", kinds := dict(KINDS))
    exec(DOCUMENTATION.split("```python\n")[1].split("```")[0], {})
    monkeypatch.setitem(KINDS, "last", kinds["last"])
    images, pool = toy_pool(amount=5)
    zeros = np.zeros(4, np.int64)
    query = Query(0, "region", "last", "blocks", zeros, np.arange(9, 13), zeros.astype("f4"))
    answers = SimulatedOracle().answer(query, pool, images, tmp_path)
    assert pool.commit(answers).clicks == 4
    truth, regions = images.truth(0), pool.maps["blocks"][0]
    assert answers.label.tolist() == [truth[regions == unit].max() for unit in range(9, 13)]
    assert (pool.render(0)[regions == 12] == answers.label[3]).all()
    dear = Budget(prices={"last": {"clicks_per_unit": 3.0}})
    assert dear.least_cost("last", zeros).tolist() == [3] * 4


def test_rooms_ask_the_kind_and_not_its_name():
    """What differs between kinds of answers is written in their files alone."""
    package = Path(alseg.__file__).parent
    compared = []
    for room in ("labels", "active", "report"):
        for path in (package / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Compare):
                    words = {c.value for c in ast.walk(node) if isinstance(c, ast.Constant)}
                    compared += [(path.name, word) for word in words & set(KINDS) - {"class"}]
    assert not compared


def test_every_kind_is_documented():
    lines = DOCUMENTATION.splitlines()
    assert {line.split("`")[1] for line in lines if line.startswith("| `")} == set(KINDS)

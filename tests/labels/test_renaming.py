import numpy as np
import pytest

from alseg.core.images import VOID
from alseg.labels.renaming import Renaming, last_of_each, picked, times_said
from alseg.labels.tables import Answers, pack_sets

OLD, NEW = ("red", "green", "blue"), ("sky", "blue", "red")


def answers(**said):
    n = len(next(iter(said.values())))
    kind = {"label": "dominant", "sets": "class_set", "masks": "mask"}[next(iter(said))]
    return Answers(
        0, "region", kind, "blocks", 3, np.arange(n) % 2, np.arange(n),
        **{n: tuple(c) if n == "masks" else np.array(c, np.uint8) for n, c in said.items()},
    )  # fmt: skip


def test_labels_are_renamed_by_the_names_of_classes_and_void_stays():
    table = answers(label=[0, 1, 2, VOID])
    moved = Renaming(OLD, NEW, {"green": "void"})(table)
    assert moved.label.tolist() == [2, VOID, 1, VOID]
    assert moved.num_classes == 3
    merged = Renaming(OLD, ("red",), {"green": "red", "blue": "red"})(table)
    assert merged.label.tolist() == [0, 0, 0, VOID]
    assert merged.num_classes == 1


def test_sets_and_masks_are_renamed_too():
    members = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 0, 0]], dtype=bool)
    table = Answers(
        0, "region", "class_set", "blocks", 3, np.zeros(3, int), np.arange(3),
        sets=pack_sets(members),
    )  # fmt: skip
    moved = Renaming(OLD, ("sky", *NEW), {"green": "void"})(table)
    expected = [[0, 0, 0, 1, 1], [0, 0, 1, 0, 1], [0, 0, 0, 0, 1]]
    assert moved.members().astype(int).tolist() == expected
    painted = Renaming(OLD, NEW, {"green": "blue"})(answers(masks=[np.array([0, 1, 255], "u1")]))
    assert painted.masks[0].tolist() == [2, 1, 255]


def test_a_class_that_is_gone_is_told_unless_somebody_says_what_it_is():
    assert Renaming(OLD, NEW, {}).gone.tolist() == [1]
    assert Renaming(OLD, NEW, {"green": "grass"}).gone.tolist() == [1]
    assert Renaming(OLD, NEW, {"green": "void"}).gone.tolist() == []
    assert Renaming(OLD, NEW, {"green": "red"}).gone.tolist() == []


def test_how_often_classes_are_said():
    ids = np.array([0, 2])
    assert times_said(answers(label=[0, 0, 1, VOID]), ids).tolist() == [2, 0]
    masks = [np.array([0, 0, 2], "u1"), np.array([2, 255], "u1")]
    assert times_said(answers(masks=masks), ids).tolist() == [1, 2]


def test_some_rows_of_every_column():
    table = answers(masks=[np.full(k, k, "u1") for k in range(3)])
    assert [m.tolist() for m in picked(table, np.array([2, 0])).masks] == [[2, 2], []]


def test_the_last_answer_about_a_unit_stands_as_a_slow_search_finds_it():
    rng = np.random.default_rng(3)
    tables = [
        Answers(
            r, "region", kind, regions, 3, rng.integers(0, 2, 6),
            rng.choice(8, 6, replace=False), label=rng.integers(0, 3, 6).astype(np.uint8),
        )
        for r, (kind, regions) in enumerate(
            [("dominant", "a"), ("dominant", "a"), ("class", "a"), ("dominant", "b"),
             ("dominant", "a")]
        )
    ]  # fmt: skip
    keys = [
        [(t.answer, t.regions, int(i), int(u)) for i, u in zip(t.image, t.unit, strict=True)]
        for t in tables
    ]
    last = {key: (n, r) for n, table in enumerate(keys) for r, key in enumerate(table)}
    rows, replaced = last_of_each(tables)
    for number, table in enumerate(keys):
        stand = [r for r, key in enumerate(table) if last[key] == (number, r)]
        assert rows[number].tolist() == stand
    assert replaced
    for n, r, m, s in replaced:
        assert last[keys[n][r]] == (m, s)
    assert last_of_each([])[0] == []


@pytest.mark.parametrize("name", ["label", "sets", "masks"])
def test_to_the_same_classes_nothing_changes(name):
    column = [np.array([0, 1], "u1")] * 2 if name == "masks" else [[0b01000000], [0b10010000]]
    if name == "label":
        column = [0, 2]
    table = answers(**{name: column})
    moved = Renaming(OLD, OLD, {})(table)
    assert np.array_equal(moved.said, table.said)

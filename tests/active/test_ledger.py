import csv
import json

import numpy as np
import pytest

from alseg.active.ledger import Ledger
from alseg.core.errors import UserError


def bought(root):
    (root / "round_000").mkdir(parents=True)
    (root / "round_000" / "answers.npz").touch()


def test_a_folder_belongs_to_one_configuration(tmp_path):
    Ledger(tmp_path / "run").claim({"seed": 0, "method": "mulquery", "crop": (3, 4)})
    bought(tmp_path / "run")
    Ledger(tmp_path / "run").claim({"seed": 0, "method": "mulquery", "crop": [3, 4]})
    with pytest.raises(UserError, match=r"another configuration \(seed: 0 there, 1 now\)"):
        Ledger(tmp_path / "run").claim({"seed": 1, "method": "mulquery", "crop": [3, 4]})
    with pytest.raises(UserError, match="nu: 'absent' there, 6 now"):
        Ledger(tmp_path / "run").claim({"seed": 0, "method": "mulquery", "crop": [3, 4], "nu": 6})


def test_a_folder_in_which_nothing_was_bought_is_free(tmp_path):
    Ledger(tmp_path).claim({"seed": 0})
    (tmp_path / "round_000").mkdir()
    (tmp_path / "round_000" / "query.npz").touch()
    Ledger(tmp_path).claim({"seed": 0})
    assert (tmp_path / "round_000" / "query.npz").exists()
    Ledger(tmp_path).claim({"seed": 1})
    assert not (tmp_path / "round_000" / "query.npz").exists()  # it was another seed's
    (tmp_path / "round_000" / "answers.csv").touch()  # somebody has begun to answer
    with pytest.raises(UserError, match="seed: 1 there, 0 now"):
        Ledger(tmp_path).claim({"seed": 0})


def test_answers_without_an_owner_are_not_taken_over(tmp_path):
    bought(tmp_path)
    with pytest.raises(UserError, match=r"holds answers but no run\.json"):
        Ledger(tmp_path).claim({"seed": 0})


def test_other_ranks_write_nothing(tmp_path):
    ledger = Ledger(tmp_path / "run", writes=False)
    ledger.claim({"seed": 0})
    ledger.write_rounds([{"round": 0}])
    assert not (tmp_path / "run").exists()


def test_rounds_csv(tmp_path):
    Ledger(tmp_path).write_rounds(
        [
            {"round": 0, "pixels": 63_417_600.0, "miou": 1 / 3, "iou_a": None},
            {"round": 1, "pixels": 1.5, "miou": None, "iou_a": 0.25, "late": 2.0},
        ]
    )
    with (tmp_path / "rounds.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["round", "pixels", "miou", "late", "iou_a"]
    assert rows[0] == {
        "round": "0", "pixels": "63417600", "miou": "0.333333", "late": "", "iou_a": "",
    }  # fmt: skip
    assert rows[1]["iou_a"] == "0.25"


def test_scores_come_back_as_they_were(tmp_path):
    tables = {
        "patches": {
            "image": np.array([0, 0, 3], np.int32),
            "score": np.array([0.25, 0.5, 1.0], np.float32),
            "void": np.array([True, False, True]),
        },
        "features": {"image": np.array([0, 3]), "mean": np.ones((2, 4, 3), np.float16)},
        "empty": {"image": np.zeros(0, np.int64)},
    }
    ledger = Ledger(tmp_path)
    assert ledger.scores(2) is None
    ledger.write_scores(2, tables)
    assert ledger.scores(1) is None
    found = Ledger(tmp_path, writes=False).scores(2)
    assert found.keys() == tables.keys()
    for name, table in tables.items():
        assert found[name].keys() == table.keys()
        for column, values in table.items():
            assert found[name][column].dtype == values.dtype
            assert np.array_equal(found[name][column], values)
    ledger.write_scores(2, {"patches": {"image": np.zeros(1, np.int32)}})
    assert ledger.scores(2).keys() == {"patches"}, "the whole file is written anew"
    Ledger(tmp_path, writes=False).write_scores(5, tables)
    assert ledger.scores(5) is None


def test_kept_tables(tmp_path):
    tables = {
        "merges": {"image": np.array([0, 0, 2], np.int32), "root": np.array([1, 1, 5], np.uint16)},
        "other": {"image": np.zeros(0, np.int64), "value": np.zeros((0, 3), np.float32)},
    }
    assert Ledger(tmp_path).scores(3) is None
    Ledger(tmp_path).write_scores(3, tables)
    assert (tmp_path / "round_003" / "scores.npz").exists()
    found = Ledger(tmp_path).scores(3)
    assert found.keys() == tables.keys()
    for name, table in tables.items():
        assert list(found[name]) == list(table)
        for key, column in table.items():
            assert found[name][key].dtype == column.dtype
            assert np.array_equal(found[name][key], column)
    Ledger(tmp_path, writes=False).write_scores(4, tables)
    assert Ledger(tmp_path).scores(4) is None


def test_damaged_tables_are_named(tmp_path):
    Ledger(tmp_path).write_scores(1, {"merges": {"image": np.arange(1000)}})
    path = tmp_path / "round_001" / "scores.npz"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match=r"scores\.npz is not a table written by alseg"):
        Ledger(tmp_path).scores(1)


PRICES = "budget.prices"


@pytest.mark.parametrize(
    ("stored", "now", "differs"),
    [
        (
            {},
            {"new": 1},
            None,
        ),  # an option that the older release did not have, as it is by default
        ({}, {"new": 2}, r"new: 1 there, 2 now"),
        ({}, {"other": 2}, r"other: 'absent' there, 2 now"),
        ({PRICES: {}}, {PRICES: {}}, None),
        ({f"{PRICES}.mask.a": 1}, {PRICES: {}}, r"budget\.prices\.mask\.a: 1 there, 'absent' now"),
        (
            {f"{PRICES}.mask.a": 1, f"{PRICES}.mask.b": 1},
            {f"{PRICES}.mask.a": 1},
            r"mask\.b: 1 there",
        ),
        ({PRICES: {}}, {f"{PRICES}.mask.a": 1}, r"budget\.prices\.mask\.a: 'absent' there"),
    ],
)
def test_options_of_an_older_release_and_entries_of_dictionaries(tmp_path, stored, now, differs):
    defaults = {"new": 1, PRICES: {}}
    (tmp_path / "round_000").mkdir()
    (tmp_path / "round_000" / "answers.csv").write_text("")
    (tmp_path / "run.json").write_text(json.dumps({"seed": 0, **stored}))
    ledger = Ledger(tmp_path)
    if differs is None:
        ledger.check_owner({"seed": 0, **now}, defaults)
        return
    with pytest.raises(UserError, match=differs):
        ledger.check_owner({"seed": 0, **now}, defaults)

"""Grids of runs."""

import pytest

from alseg.cli.grid import cells, separated
from alseg.core.errors import UserError


def names(*words, plan=None):
    return [cell.name for cell in cells(words, plan)]


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a", ["a"]),
        ("a,b", ["a", "b"]),
        ("[1,2],[3,4]", ["[1,2]", "[3,4]"]),
        ("{a:1,b:2},null", ["{a:1,b:2}", "null"]),
        ("'a,b',c", ["'a,b'", "c"]),
        ("a],b", ["a]", "b"]),
        ("", [""]),
    ],
)
def test_commas_outside_of_brackets_and_quotation_marks_separate(text, parts):
    assert separated(text) == parts


def test_every_combination_is_a_run_and_the_last_word_varies_fastest():
    found = cells(["method=random,margin", "budget.amount=20", "seed=0,1"])
    assert [cell.name for cell in found] == [
        "random_seed0", "random_seed1", "margin_seed0", "margin_seed1",
    ]  # fmt: skip
    assert found[1].words == ("method=random", "budget.amount=20", "seed=1")
    assert found[1].varied == ("method=random", "seed=1")


def test_a_folder_is_named_by_what_varies_alone():
    assert names("preset=a/first.yaml,a/second.yaml") == ["first", "second"]
    assert names("method=random", "augment.crop=[64,64],[96,96]") == [
        "crop-64-64", "crop-96-96",
    ]  # fmt: skip
    assert names("method.steps=10,20", "other.steps=1,2")[0] == "method.steps10_other.steps1"
    assert names("query=null,replay:runs/a") == ["query-null", "query-replay-runs-a"]
    assert names("method=random", "seed=3") == ["random_seed3"]
    assert names("rounds=2") == ["rounds2"]


def test_names_of_plugins_are_one_value():
    assert cells(["plugins=a,b", "seed=0,1"])[0].words == ("plugins=a,b", "seed=0")


def test_a_plan_is_a_list_of_grids(tmp_path):
    plan = tmp_path / "plan.yaml"
    plan.write_text(
        "- {method: [random, margin], seed: [0, 1]}\n"
        "- method: badge\n  seed: 0\n  augment.crop: [[64, 80]]\n"
    )
    found = cells(["rounds=2"], plan)
    assert [cell.words for cell in found] == [
        ("rounds=2", "method=random", "seed=0"),
        ("rounds=2", "method=random", "seed=1"),
        ("rounds=2", "method=margin", "seed=0"),
        ("rounds=2", "method=margin", "seed=1"),
        ("rounds=2", "method=badge", "seed=0", "augment.crop=[64, 80]"),
    ]
    assert found[4].name == "badge_seed0_crop-64-80"


@pytest.mark.parametrize(
    ("words", "plan", "sentence"),
    [
        (["seed=0", "seed=1"], None, "seed is given twice; give its values in one word: seed=A,B."),
        (["seed=0,"], None, "seed=0, has an empty value"),
        (["seed=0,1,0"], None, "seed=0,1,0 has 0 twice"),
        (["seed"], None, "cannot read 'seed'; options are written name=value."),
        (["seed=0,1", "run_dir=a"], None, "a sweep names the folder of each run itself"),
        (["query=list:a/b,list:a-b"], None, "would both be in query-list-a-b"),
        (["a=0,1", f"b={','.join(map(str, range(6000)))}"], None, "more than 10000 runs"),
        (["seed=0"], "- {seed: 1}", "seed is given as a word and in"),
        ([], "seed: 1", "holds no list; a plan is a list of grids such as"),
        ([], "- [1]", "line 1: a plan is a list of grids"),
        ([], "- {seed: []}", "line 1: give at least one value"),
        ([], "- {seed: 0, seed: 1}", "gives 'seed' twice"),
        ([], "- {seed: 0}\n- {seed: 0}\n", "seed=0 is there twice"),
    ],
)
def test_a_grid_that_cannot_be_read_is_refused(words, plan, sentence, tmp_path):
    path = None
    if plan is not None:
        path = tmp_path / "plan.yaml"
        path.write_text(plan)
    with pytest.raises(UserError) as caught:
        cells(words, path)
    assert sentence in str(caught.value)


def test_a_plan_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        cells([], tmp_path / "none.yaml")

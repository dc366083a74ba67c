"""Values of typed options: from words of a command line, and from YAML."""

import math
from pathlib import Path
from typing import Any, Literal

import pytest

from alseg.core.errors import UserError
from alseg.core.typed import expected, parse_yaml, plain, read_node, read_word, shown, with_entry

#: Names of folders and files that people have.
TEXTS = [
    *("/data/über", "/data/数据", "~/x", "/data/a,b", "photos (1)", "a=b", "/data/a&b", "it's"),
    *("#1", "[old]", "/data/[old]", "${x}", "2024", "my images", "C:\\data", "{a: 1}", "a: b"),
    *("true", "1e3", " x ", "'quoted'", '"', "*", "&a", "!!python/name:os.system", "", "- a", "%"),
]


@pytest.mark.parametrize("hint", [str, str | None, Path, int | str], ids=str)
@pytest.mark.parametrize("text", TEXTS)
def test_texts_are_taken_to_the_last_character(hint, text):
    wanted: Any = int(text) if hint == int | str and text == "2024" else text
    assert read_word(hint, text, "data.root") == (Path(text) if hint is Path else wanted)


def test_null_is_none_where_none_is_allowed():
    assert read_word(str | None, "null", "x") is None
    assert read_word(str, "null", "x") == "null"
    assert read_word(float | None, "null", "x") is None
    assert read_word(tuple[int, int] | None, "null", "x") is None
    assert read_word(str | None, "None", "x") == "None"
    for empty in ("null", "~", ""):
        assert read_node(str | None, parse_yaml(empty, "f"), "x") is None
        assert read_node(str, parse_yaml(empty, "f"), "x") == empty
    assert read_node(str | None, parse_yaml("'null'", "f"), "x") == "null"


@pytest.mark.parametrize(
    ("hint", "text", "value"),
    [
        (int, "3", 3),
        (int, "-1", -1),
        (int, "010", 10),  # 8 in YAML 1.1
        (int, "20_000", 20_000),
        (float, "3", 3.0),
        (float, "1e-3", 0.001),  # a text in YAML 1.1
        (float, ".5", 0.5),
        (float, "inf", math.inf),
        (float, "-.inf", -math.inf),
        (bool, "true", True),
        (bool, "False", False),
        (bool, "no", False),
        (Literal["a", "b"], "b", "b"),
        (tuple[int, int], "[3,4]", (3, 4)),
        (tuple[int, int] | None, "[3, 4]", (3, 4)),
        (tuple[float, ...], "[1, 2.5, 1e-1]", (1.0, 2.5, 0.1)),
        (tuple[float, ...], "[]", ()),
        (tuple[int, str], "[1, 1]", (1, "1")),
        (list[str], "[a,b c, it's]", ["a", "b c", "it's"]),
        (list[str], "[no, 010, null, 1.0, yes, ~, 'x, y']",
         ["no", "010", "null", "1.0", "yes", "~", "x, y"]),
        (dict[str, list[int]], "{road:[128,64,128],car:[0,0,142]}",
         {"road": [128, 64, 128], "car": [0, 0, 142]}),
        (dict[str, list[int]], "{no: [1], 010: [2]}", {"no": [1], "010": [2]}),
        (dict[str, dict[str, float]], "{class_set:{seconds_per_class:4}}",
         {"class_set": {"seconds_per_class": 4.0}}),
        (dict[str, Any], "{a:3,b:[16,1e-3],c:{d:true},e:x,f:null,g:'1',h:no,i:inf}",
         {"a": 3, "b": [16, 1e-3], "c": {"d": True}, "e": "x", "f": None, "g": "1", "h": "no",
          "i": math.inf}),
        (dict[str, list[int] | str], "{a: '#ffffff', b: [1, 2]}", {"a": "#ffffff", "b": [1, 2]}),
        (list[str] | str, "[a]", ["a"]),
        (list[str] | str, "a, b", "a, b"),
        (Any, "7", 7),
    ],
)  # fmt: skip
def test_other_values_are_what_the_hint_asks_for(hint, text, value):
    got = read_word(hint, text, "x")
    assert got == value
    assert type(got) is type(value)
    assert repr(got) == repr(value)  # numbers of the same kind inside, too


@pytest.mark.parametrize(
    ("hint", "text", "sentence"),
    [
        (int, "3.5", "cannot use x=3.5; it must be a whole number."),
        (int, "", "cannot use x=; it must be a whole number."),
        (int, "0,1", "cannot use x=0,1; it must be a whole number."),
        (int | None, "many", "cannot use x=many; it must be a whole number or null."),
        (float, "much", "cannot use x=much; it must be a number."),
        (float, "1e", "it must be a number"),
        (bool, "maybe", "it must be true or false"),
        (Literal["a", "b"], "c", "it must be a or b"),
        (tuple[int, int], "[3]", "cannot use x=[3]; it must be a list [...] of 2 whole numbers."),
        (tuple[int, int], "4", "of 2 whole numbers"),
        (tuple[float, ...], "[1,a]", "it must be a list [...] of numbers"),
        (list[str], "[[a]]", "it must be a list [...] of texts"),
        (dict[str, float], "{a: b}", "to a number ('a' is b)"),
        (dict[str, float], "{a: 1, a: 2}", "x gives 'a' twice; keep one of them"),
        (dict[str, Any], "{a: {b: 1, b: 2}}", "x gives 'b' twice"),
        (list[float], "[1,", "cannot use x=[1,; it is no valid YAML"),
        (list[str], "[#000000]", "put quotes round"),
        (dict[str, Any], "{a: !!python/object/apply:os.system [ls]}", "which is not read"),
        (list[str], "[!secret x]", "which is not read"),
        (dict[str, Any], "[1]", "it must be a mapping"),
        (int, "9" * 5000, "it must be a whole number"),
        (complex, "1", "cannot be given in words"),
    ],
)
def test_what_is_no_such_value_is_refused_in_a_sentence(hint, text, sentence):
    with pytest.raises(UserError) as error:
        read_word(hint, text, "x")
    assert sentence in str(error.value)
    assert str(error.value).endswith(".")
    assert len(str(error.value)) < 400


def test_a_key_without_its_value_is_noticed_in_files():
    with pytest.raises(UserError, match="write a space after the colon"):
        read_node(dict[str, Any], parse_yaml("{depth:3}", "f"), "network.options")


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("\n".join(["a0: &a0 [x, x]", *(f"a{i + 1}: &a{i + 1} [{f'*a{i}, ' * 9}]"
                                        for i in range(9))]), "more than 20000 values"),
        ("&a [*a]", "nested too deeply"),
        ("[" * 3000, "nested too deeply"),
        ("a: " + "x" * 300_000, "more than 200000 characters"),
        ("a: \x07", "no valid YAML"),
        ("a: 1\n---\nb: 2", "no valid YAML"),
        ("a: *b", "no valid YAML"),
    ],
)  # fmt: skip
def test_bombs_and_broken_files_end_in_a_sentence(text, sentence):
    with pytest.raises(UserError, match=sentence):
        read_node(Any, parse_yaml(text, "f"), "x")


def test_entries_are_set_by_dotted_names():
    prices = dict[str, dict[str, float]]
    given = {"mask": {"a": 1.0}}
    assert with_entry(prices, given, "mask.b", lambda hint: hint) == {
        "mask": {"a": 1.0, "b": float}
    }
    assert given == {"mask": {"a": 1.0}}
    assert with_entry(prices, None, "scene.a", lambda hint: 2) == {"scene": {"a": 2}}
    # a key that holds no dictionary may have dots
    assert with_entry(dict[str, int] | None, {}, "a.b", lambda hint: 1) == {"a.b": 1}
    assert with_entry(dict[str, Any], {}, "a.b", lambda hint: 1) == {"a": {"b": 1}}
    assert with_entry(int, 3, "a", lambda hint: 1) is None


def test_values_are_shown_as_they_are_written():
    value = {"a": (1, None), "b": True, "c": Path("x")}
    assert plain(value) == {"a": [1, None], "b": True, "c": "x"}
    assert shown(value) == "{a: [1, null], b: true, c: x}"
    assert expected(tuple[int, int] | None) == "a list [...] of 2 whole numbers or null"

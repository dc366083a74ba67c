"""A list of images in place of the method's choice, and rounds that a method prescribes."""

import numpy as np
import pytest

from alseg.cli.compose import options
from alseg.cli.run import _given_query, _listed, _rounds, build
from alseg.core.errors import UserError
from alseg.methods.als4gan.method import Als4gan
from alseg.methods.baselines.random import Random
from tests.toys import ToyImages

NAMES = [f"tile_{i}/part" for i in range(5)]


def test_names_become_images(tmp_path):
    path = tmp_path / "list.txt"
    path.write_text("tile_3/part\n\n tile_0/part.png \n")
    listed = _listed(path, NAMES)
    assert listed.tolist() == [0, 3]
    assert listed.dtype == np.int64


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("tile_3/part\ntile_9/part\n", r"tile_9/part: .*list.txt, line 2"),
        ("tile_3/part\ntile_3/part\n", r"tile_3/part: .*lines 1, 2"),
        ("\n", "lists no image"),
    ],
)
def test_lists_that_cannot_be_meant_are_refused(tmp_path, content, message):
    path = tmp_path / "list.txt"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        _listed(path, NAMES)


def test_a_file_that_is_not_there_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.txt"):
        _listed(tmp_path / "none.txt", NAMES)


def test_what_query_says(tmp_path):
    assert _given_query(None) == (None, None)
    assert _given_query(f"list:{tmp_path}/a:b.txt") == (None, tmp_path / "a:b.txt")
    for unknown in ("list:", "file:x", "x"):
        with pytest.raises(UserError, match="write query=replay:RUN_DIR or query=list:FILE"):
            _given_query(unknown)
    with pytest.raises(UserError, match="holds no answers to repeat"):
        _given_query(f"replay:{tmp_path}")


@pytest.mark.parametrize(
    "given", [["method=mulquery", "regions=image"], ["method=random", "regions=seeds"]]
)
def test_methods_that_do_not_learn_from_whole_images_take_no_list(given):
    with pytest.raises(UserError, match=r"does not learn from; .* the methods als4gan, badge"):
        build(options(*given, "query=list:any.txt"))


def test_rounds_are_given_or_prescribed(tmp_path):
    images, planned, free = ToyImages(6), Als4gan(ratio=0.5, alpha=0.7, beta=1.0), Random()
    assert _rounds(None, planned, images, None) == 4
    assert _rounds(4, planned, images, None) == 4
    assert _rounds(None, planned, images, tmp_path) == 1
    assert _rounds(3, free, images, None) == 3
    with pytest.raises(UserError, match="rounds is 3, but what is to be bought takes 4"):
        _rounds(3, planned, images, None)
    with pytest.raises(UserError, match="prescribes no number"):
        _rounds(None, free, images, None)
    with pytest.raises(UserError, match="rounds is 0"):
        _rounds(0, free, images, None)


def test_the_methods_budget_is_no_budget():
    values = options("method=als4gan").values
    assert values["rounds"] is None
    assert values["budget"]["amount"] == float("inf")

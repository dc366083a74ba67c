"""The pages: tables made from code are those of the code, pictures are there and small."""

import re
from pathlib import Path

import pytest

from alseg.methods import METHODS
from docs import generated

DOCS = Path(__file__).parents[1] / "docs"
PAGES = sorted(DOCS.glob("*.md"))
PICTURE = re.compile(r"!\[([^\]]*)\]\(([^)]+)\)")


def test_the_table_of_methods_is_that_of_the_code():
    assert generated.PAGE.read_text("utf-8") == generated.page()
    rows = [line for line in generated.table().splitlines() if line.startswith("| `")][1:]
    assert len(rows) == len(METHODS)
    by_name = {row.split("`")[1]: row for row in rows}
    assert by_name["pixelpick"] == "| `pixelpick` | class |  |  |  |  |  |"
    assert by_name["margin"].startswith("| `margin` | class | any | any | any | yes |")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_pictures_of_a_page_are_there_small_and_described(page):
    for words, path in PICTURE.findall(page.read_text("utf-8")):
        assert len(words) > 15, f"{path} is not described"
        assert (page.parent / path).stat().st_size < 150_000, path


def test_every_page_is_reached_from_the_first_one():
    listed = re.findall(r"^([a-z_/]+)$", (DOCS / "index.md").read_text("utf-8"), re.M)
    assert sorted(page.stem for page in PAGES if page.stem != "index") == sorted(
        name for name in listed if "/" not in name
    )

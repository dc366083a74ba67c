"""Tables of masks: hand values, and readers that go pixel by pixel."""

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import VOID, ClassTable
from alseg.core.masks import Entry, MaskTable, table_of_colors, table_of_ids

RAW = MaskTable(
    (Entry(0, "nothing", VOID), Entry(1, "road", 0), Entry(7, "roof", 1), Entry(9, "wall", 1)),
    by_color=False,
)
PAINTED = MaskTable(
    (Entry((0, 0, 0), "bg", 0), Entry((255, 255, 255), "object", 1), Entry((1, 2, 3), "?", VOID)),
    by_color=True,
)
PALETTE = np.array([[255, 255, 255], [1, 2, 3], [0, 0, 0]], dtype=np.uint8)
BLACK_WHITE = np.array([[0, 255, 255]], dtype=np.uint8)


def slowly(table, values, palette=None):
    """Labels by a dictionary, one pixel after the other."""
    known = {entry.key: entry.label for entry in table.entries}
    if not table.by_color and table.unlisted_void:
        known.setdefault(255, VOID)
    found = []
    for value in values.reshape(values.shape[0] * values.shape[1], -1).tolist():
        key = value[0] if len(value) == 1 else tuple(value)
        if table.by_color and len(value) == 1:
            key = (key, key, key) if palette is None else tuple(palette[key].tolist())
        found.append(known.get(key, table.others))
    return np.array(found).reshape(values.shape[:2])


@pytest.mark.parametrize(
    ("table", "values", "palette"),
    [
        (RAW, np.array([[0, 1, 7, 9, 255]], dtype=np.uint8), None),
        (RAW, np.array([[0, 1, 7, 9, 255]], dtype=np.uint32), None),
        (RAW, np.array([[1, 7]], dtype=np.uint8), np.arange(30, dtype=np.uint8).reshape(10, 3)),
        (PAINTED, BLACK_WHITE, None),
        (PAINTED, np.array([[2, 0, 1]], dtype=np.uint8), PALETTE),
        (PAINTED, np.array([[[1, 2, 3], [255, 255, 255]], [[0, 0, 0], [0, 0, 0]]], np.uint8), None),
        (PAINTED._replace(others=VOID), np.array([[0, 9, 255]], dtype=np.uint8), None),
    ],
)  # fmt: skip
def test_values_are_looked_up(table, values, palette):
    labels = table.read(values, palette)
    assert labels.dtype == np.uint8
    np.testing.assert_array_equal(labels, slowly(table, values, palette))
    again = MaskTable.from_plain(table.to_plain())
    assert again == table
    assert again.digest() == table.digest()


def test_files_of_one_bit_hold_the_first_two_ids_or_black_and_white():
    bits = np.array([[False, True]])
    assert table_of_ids(["no", "yes"]).read(bits).tolist() == [[0, 1]]
    assert PAINTED.read(bits).tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("table", "values", "sentence"),
    [
        (RAW, np.array([[1, 2, 7, 7]], np.uint8), r"the id 2 \(25 % .* wall, 0 void, 255 void"),
        (RAW, np.array([[1, 256]], np.uint16), "holds the values 1 to 256"),
        (RAW, np.zeros((1, 1, 3), np.uint8), "is a mask of colours"),
        (RAW._replace(unlisted_void=False), np.array([[255]], np.uint8), "holds the id 255"),
        (PAINTED, np.array([[3]], np.uint8), r"holds the colour \[3, 3, 3\]"),
    ],
)  # fmt: skip
def test_what_the_table_does_not_name_is_refused(table, values, sentence):
    with pytest.raises(UserError, match=sentence):
        table.read(values)


def test_more_can_be_void():
    assert RAW.ignoring(["3"]).read(np.array([[3, 7]], np.uint8)).tolist() == [[VOID, 1]]
    red = np.array([[[255, 0, 0]]], np.uint8)
    assert PAINTED.ignoring(["#ff0000"]).read(red).tolist() == [[VOID]]
    for table, key, sentence in [
        (RAW, "7", "ignore holds 7, which stands for the class 'roof'"),
        (PAINTED, "#ffffff", "stands for the class 'object'"),
        (RAW, "#ffffff", "masks are read as ids here"),
        (PAINTED, "7", "colour of 'ignore' is '7'"),
    ]:
        with pytest.raises(UserError, match=sentence):
            table.ignoring([key])


def test_a_digest_is_of_what_values_mean():
    assert RAW.listing_void().digest() == RAW.digest()
    assert RAW.listing_void().summary() == RAW.summary()
    others = [
        RAW.ignoring(["3"]),
        RAW._replace(entries=RAW.entries[:-1]),
        RAW._replace(unlisted_void=False),
        RAW._replace(entries=(*RAW.entries[:1], Entry(1, "street", 0), *RAW.entries[2:])),
        PAINTED,
    ]
    assert len({table.digest() for table in [RAW, *others]}) == 6


def test_the_masks_that_alseg_writes():
    classes = ClassTable(("a", "b"), np.array([[9, 8, 7], [0, 0, 1]], dtype=np.uint8))
    labels = np.array([[0, 1, 1]], dtype=np.uint8)
    np.testing.assert_array_equal(table_of_ids(classes.names).read(labels), labels)
    np.testing.assert_array_equal(table_of_colors(classes).read(classes.colors[labels]), labels)
    assert table_of_ids(["road", "building"]).summary() == "0 road, 1 building, 255 void"

import io
import json
import zipfile
from typing import get_args

import numpy as np
import pytest

from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.tables import Answers, Query, UnitKind, pack_sets, plural


def class_sets(n=200, num_classes=19, seed=0):
    rng = np.random.default_rng(seed)
    members = rng.random((n, num_classes + 1)) < 0.1
    return members, Answers(
        round=0,
        kind="region",
        answer="class_set",
        regions="seeds-12345678",
        num_classes=num_classes,
        image=rng.integers(0, 2975, n),
        unit=rng.integers(0, 2048, n),
        sets=pack_sets(members),
    )


@pytest.mark.parametrize("num_classes", [1, 7, 8, 19, 150])
def test_class_sets_of_any_number_of_classes_come_back(tmp_path, num_classes):
    members, answers = class_sets(num_classes=num_classes)
    answers.save(tmp_path / "answers.npz")
    loaded = Answers.load(tmp_path / "answers.npz")
    assert np.array_equal(loaded.members(), members)
    assert np.array_equal(loaded.members(np.array([3, 1])), members[[3, 1]])
    assert np.array_equal(loaded.image, answers.image)
    assert loaded.image.dtype == np.int64
    assert np.array_equal(loaded.unit, answers.unit)
    assert (loaded.round, loaded.kind, loaded.regions) == (0, "region", "seeds-12345678")


def test_200_class_sets_take_under_2_kb(tmp_path):
    _, answers = class_sets()
    answers.save(tmp_path / "answers.npz")
    assert (tmp_path / "answers.npz").stat().st_size < 2000


def test_masks_and_labels_come_back(tmp_path):
    masks = (np.array([1, 2, VOID], np.uint8), np.zeros(0, np.uint8), np.array([4], np.uint8))
    common = {
        "round": 2, "kind": "patch", "regions": "grid", "num_classes": 5,
        "image": np.array([0, 0, 300]), "unit": np.array([1, 70_000, 2]),
    }  # fmt: skip
    Answers(answer="mask", masks=masks, **common).save(tmp_path / "a.npz")
    loaded = Answers.load(tmp_path / "a.npz")
    assert all(np.array_equal(a, b) for a, b in zip(loaded.masks, masks, strict=True))
    assert loaded.unit.tolist() == [1, 70_000, 2]
    label, seconds = np.array([0, VOID, 4], np.uint8), np.array([1, np.nan, 2.5], np.float32)
    Answers(answer="class", label=label, seconds=seconds, **common).save(tmp_path / "b.npz")
    loaded = Answers.load(tmp_path / "b.npz")
    assert loaded.label.tolist() == [0, VOID, 4]
    assert np.array_equal(loaded.seconds, seconds, equal_nan=True)
    # a class answer is a set of one; void is the last column
    assert loaded.members().argmax(axis=1).tolist() == [0, 5, 4]


def test_a_query_comes_back_in_its_order(tmp_path):
    query = Query(
        1, "pixel", "class", "pixels", np.array([5, 2]), np.array([10**6, 0]), np.float32([0.5, 1])
    )
    query.save(tmp_path / "q.npz")
    loaded = Query.load(tmp_path / "q.npz")
    assert loaded.image.tolist() == [5, 2]
    assert loaded.unit.tolist() == [10**6, 0]
    assert loaded.score.tolist() == [0.5, 1]
    assert loaded.head(1).image.tolist() == [5]
    assert loaded.tail(1).image.tolist() == [2]


def test_a_table_in_words():
    image = np.array([4, 4, 9])
    query = Query(3, "patch", "dominant", "grid", image, np.arange(3), np.zeros(3, np.float32))
    assert repr(query) == "Query(round 3: 3 patches in 2 images, answer=dominant)"
    assert repr(query.head(1)) == "Query(round 3: 1 patch in 1 image, answer=dominant)"
    _, answers = class_sets(n=2)
    assert repr(answers) == "Answers(round 0: 2 regions in 2 images, answer=class_set)"


def test_equal_tables_are_equal_bytes(tmp_path):
    for name in "ab":
        class_sets()[1].save(tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / "answers.npz"
    class_sets()[1].save(path)
    path.write_bytes(path.read_bytes()[:700])
    with pytest.raises(UserError, match=r"answers\.npz is not a table"):
        Answers.load(path)


def test_columns_must_fit():
    none = np.zeros(0, np.int64)
    with pytest.raises(ValueError, match="own column"):
        Answers(0, "region", "class", "m", 3, none, none, sets=np.zeros((0, 1), np.uint8))
    with pytest.raises(ValueError, match="equal length"):
        Query(0, "region", "class", "m", none, np.zeros(1, np.int64), np.zeros(0, np.float32))
    with pytest.raises(ValueError, match="unknown unit"):
        Query(0, "regoin", "class", "m", none, none, np.zeros(0, np.float32))


def test_names_of_several_units():
    words = [plural(kind) for kind in get_args(UnitKind)]
    assert words == ["pixels", "patches", "regions", "images"]


def crafted(kind):
    """Bytes of a file that is no table, or of one that is damaged."""
    buffer = io.BytesIO()
    if kind == "huge":
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (9000000000000,), }"
        member = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117).encode()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("meta.npy", member + b"\n")
    elif kind == "negative":
        header = "{'descr': '|u1', 'fortran_order': False, 'shape': (-5,), }"
        member = b"\x93NUMPY\x01\x00" + (118).to_bytes(2, "little") + header.ljust(117).encode()
        with zipfile.ZipFile(buffer, "w") as archive:
            archive.writestr("meta.npy", member + b"\n")
    elif kind == "objects":
        np.savez(buffer, meta=np.array([{}], dtype=object), rows=np.zeros(1))
    else:
        meta = {"list": [1], "unknown": {"answer": "smell"}, "deep": {"round": {}}}[kind]
        text = np.frombuffer(json.dumps(meta).encode(), dtype=np.uint8)
        np.savez(buffer, meta=text, rows=np.zeros(2, [("image", int), ("unit", int)]))
    return buffer.getvalue()


@pytest.mark.parametrize("kind", ["huge", "negative", "objects", "list", "unknown", "deep"])
@pytest.mark.parametrize("table", [Query, Answers])
def test_crafted_files_get_a_sentence(tmp_path, kind, table):
    path = tmp_path / "query.npz"
    path.write_bytes(crafted(kind))
    with pytest.raises(UserError, match="is not a table written by alseg"):
        table.load(path)


def test_no_bytes_of_a_table_end_in_a_traceback(tmp_path):
    """Some thousand damaged copies: cut, flipped and overwritten."""
    n, rng = 5, np.random.default_rng(0)
    query = Query(0, "region", "dominant", "m", np.arange(n), np.arange(n), np.zeros(n, np.float32))
    path = tmp_path / "query.npz"
    query.save(path)
    whole = path.read_bytes()
    refused = 0
    for _ in range(1500):
        damaged = bytearray(whole[: rng.integers(len(whole))] if rng.random() < 0.2 else whole)
        for _ in range(rng.integers(1, 4)):
            if damaged:
                damaged[rng.integers(len(damaged))] = rng.integers(256)
        path.write_bytes(bytes(damaged))
        try:
            Query.load(path)
        except UserError:
            refused += 1
    assert refused > 1000

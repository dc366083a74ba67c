"""Pickle files are read as data; nothing in them is run."""

import builtins
import collections
import os
import pickle
import random
import struct

import numpy as np
import pytest

from alseg.core import pickles
from alseg.core.errors import UserError
from alseg.core.pickles import read_pickle

#: Python 2's pickle, protocol 2, of {'labels': numpy.array([[0, 1], [1, -1]], dtype='int16')}.
PYTHON_2 = (
    b"\x80\x02}q\x00U\x06labelsq\x01cnumpy.core.multiarray\n_reconstruct\nq\x02cnumpy\nndarray\n"
    b"q\x03K\x00\x85q\x04U\x01bq\x05\x87q\x06Rq\x07(K\x01K\x02K\x02\x86q\x08cnumpy\ndtype\nq\tU"
    b"\x02i2q\nK\x00K\x01\x87q\x0bRq\x0c(K\x03U\x01<q\rNNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK"
    b"\x00tq\x0eb\x89U\x08\x00\x00\x01\x00\x01\x00\xff\xffq\x0ftq\x10bs."
)
DATA = {
    "labels": np.arange(12, dtype=np.int16).reshape(3, 4),
    "columns": np.asfortranarray(np.arange(6.0).reshape(2, 3)),
    "big": np.array([1, 2**40], dtype=">i8"),
    "flags": np.array([True, False]),
    "names": np.array(["a", "bcd"]),
    "one": np.float32(0.5),
    "nested": {"ids": [1, 2, (3, None)], "set": {4, 5}, "bytes": b"\x00\xff", 7: "text"},
    "ordered": collections.OrderedDict(a=np.zeros((0, 3), np.uint8)),
    "shared": [np.ones(2)] * 2,
}


def same(found, wanted):
    if isinstance(wanted, np.ndarray):
        return found.dtype == wanted.dtype and np.array_equal(found, wanted)
    if isinstance(wanted, dict):
        return list(found) == list(wanted) and all(same(found[k], wanted[k]) for k in wanted)
    if isinstance(wanted, list):
        return len(found) == len(wanted) and all(map(same, found, wanted))
    return found == wanted


def write(path, content, protocol=4):
    path.write_bytes(content if isinstance(content, bytes) else pickle.dumps(content, protocol))
    return path


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_and_containers_come_back(protocol, tmp_path):
    found = read_pickle(write(tmp_path / "a.pkl", DATA, protocol))
    assert same(found, DATA)
    assert type(found["ordered"]) is dict
    assert found["shared"][0] is found["shared"][1]


def test_both_releases_of_numpy_and_of_python(tmp_path):
    old = pickle.dumps(DATA, 2).replace(b"numpy._core", b"numpy.core")
    new = pickle.dumps(DATA, 2).replace(b"numpy.core", b"numpy._core")
    for content in (old, new):
        assert same(read_pickle(write(tmp_path / "a.pkl", content)), DATA)
    found = read_pickle(write(tmp_path / "b.pkl", PYTHON_2))
    np.testing.assert_array_equal(found["labels"], np.array([[0, 1], [1, -1]], np.int16))


class Runs:
    def __init__(self, function, *given):
        self.what = function, given

    def __reduce__(self):
        return self.what


class Plain:
    pass


def refused(path, content, words):
    with pytest.raises(UserError, match=words) as error:
        read_pickle(write(path, content))
    assert str(error.value).startswith(f"{path} is refused as a pickle: ")
    assert "write what it holds as .npy" in str(error.value)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (os.system, f"{os.name}.system"), (eval, "builtins.eval"), (open, "io.open"),
        (getattr, "builtins.getattr"), (np.load, "numpy.load"), (np.memmap, "numpy.memmap"),
        (builtins.__import__, "builtins.__import__"),
    ],
)  # fmt: skip
def test_other_names_are_refused_and_not_run(function, name, tmp_path):
    there = tmp_path / "there"
    given = (f"touch {there}",) if function is os.system else ("x",)
    refused(tmp_path / "a.pkl", {"labels": Runs(function, *given)}, f"it names {name}, which may")
    assert not there.exists()
    old = f"c{name.rpartition('.')[0]}\n{name.rpartition('.')[2]}\n(S'x'\ntR."
    refused(tmp_path / "a.pkl", old.encode(), f"it names {name}")


def test_objects_and_arrays_of_them_are_refused(tmp_path):
    path = tmp_path / "a.pkl"
    refused(path, Plain(), r"it names .*Plain")
    refused(path, np.array([Plain(), None]), "it names .*Plain|arrays of type 'O8'")
    refused(path, np.array([[1], None], dtype=object), "arrays of type 'O8'")
    refused(path, np.zeros(2, dtype=[("a", "i4")]), "arrays of type 'V4'")
    refused(path, np.dtype("u1"), "something that is no data")


CALL = b"cnumpy.core.multiarray\n_reconstruct\n"
U1 = b"cnumpy\ndtype\n(X\x02\x00\x00\x00u1I00\nI01\ntR"


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (CALL + b"(X\x01\x00\x00\x00x}db.", "damaged|changes the functions"),
        (CALL + b"}X\x01\x00\x00\x00xNsb.", "it changes the functions that read it"),
        (CALL + b"N}X\x09\x00\x00\x00_functionNs\x86b.", "it changes the functions that read it"),
        (CALL + b".", "something that is no data"),
        (CALL + b"(tR.", "an array without content"),
        (CALL + b"(tR(I1\n(I3\nt" + U1 + b"I00\nC\x02abtb.", r"of shape \(3,\) has 2 bytes"),
        (CALL + b"(tR(I1\n(I-2\nt" + U1 + b"I00\nC\x02abtb.", "no possible shape"),
        (CALL + b"(tR(I1\n(I1\nt" + U1 + b"I00\n]tb.", "arrays of objects"),
        (b"]I1\n.N.", "2 bytes follow its end"),
        (b"Pname\n.", "outside of it"),
        (b"\x80\x04]\x94h\x00a.", "containers in containers"),
        (b"]r" + struct.pack("<I", 2**31) + b".", "numbers 2147483648 things after 2 steps"),
        (b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b"abc.", "damaged"),
        (b"\x8e" + struct.pack("<Q", 2**62) + b"abc.", "damaged"),
        (b"cbuiltins\nbytearray\n(I1000000000000\ntR.", "makes bytes of something"),
        (b"cbuiltins\nbytes\n(I1000000000000\ntR.", "damaged"),
        (b"cbuiltins\nlist\n(cbuiltins\ndict\ntR.", "makes a container of something"),
        (b"\x81.", "damaged"),
        (b"", "damaged"),
        (b"PK\x03\x04rest", "damaged"),
    ],
)
def test_bombs_and_broken_files_are_refused(content, words, tmp_path):
    refused(tmp_path / "a.pkl", content, words)


def test_shared_lists_do_not_explode(tmp_path):
    """Fifteen lists of two times the one below: made once each, though 32768 are counted."""
    inner = [0]
    for _ in range(15):
        inner = [inner, inner]
    found = read_pickle(write(tmp_path / "a.pkl", inner))
    assert found[0] is found[1]
    refused(tmp_path / "a.pkl", [[inner, inner]], "containers in containers, more than 16")


def test_too_many_steps_and_bytes(tmp_path, monkeypatch):
    path = write(tmp_path / "a.pkl", list(range(50)))
    monkeypatch.setattr(pickles, "MOST_STEPS", 20)
    refused(path, list(range(50)), "more than 20 steps")
    monkeypatch.setattr(pickles, "MOST_BYTES", 10)
    with pytest.raises(UserError, match="MiB, more than"):
        read_pickle(path)


def test_every_cut_and_a_thousand_changed_files_are_read_or_refused(monkeypatch):
    """Fuzz: whatever the bytes, the reader gives data or its own error, and calls nothing."""
    rng = random.Random(0)
    seeds = [pickle.dumps(DATA, p) for p in (0, 2, 4, 5)] + [
        pickle.dumps(Runs(os.system, "true"), p) for p in (0, 2, 4)
    ]
    monkeypatch.setattr(os, "system", lambda *given: pytest.fail("a file ran something"))
    allowed = dict | list | tuple | set | frozenset | np.ndarray | str | bytes | bytearray | float
    outcomes = {"read": 0, "refused": 0}
    cases = [seed[:end] for seed in seeds[2:] for end in range(0, len(seed), 7)]
    for _ in range(1000):
        raw = bytearray(rng.choice(seeds))
        for _ in range(rng.randint(1, 4)):
            at = rng.randrange(len(raw))
            if rng.random() < 0.7:
                raw[at] = rng.randrange(256)
            else:
                other = rng.choice(seeds)
                start = rng.randrange(len(other))
                raw[at:at] = other[start : start + rng.randint(1, 30)]
        cases.append(bytes(raw))
    for case in cases:
        try:
            found = pickles.loads(case)
        except pickles._Refused:
            outcomes["refused"] += 1
        else:
            outcomes["read"] += 1
            assert found is None or isinstance(found, allowed | int | complex)
    assert min(outcomes.values()) > 20, outcomes


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(OSError, match="No such file"):
        read_pickle(tmp_path / "none.pkl")

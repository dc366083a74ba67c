"""The golden harness fails where it should."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.golden.harness import Golden

ROOT = Path(__file__).parents[2]
GUARD = "test_every_array_is_compared"

MODULE = """
def test_one(golden):
    golden.check("ids", golden.given("seed") + [1, 2])

def test_two(golden):
    golden.check("scores", [0.5, float("nan")])

def test_every_array_is_compared(assert_complete):
    assert_complete(["seed"])
"""


@pytest.fixture
def golden(tmp_path):
    path = tmp_path / "toy.npz"
    np.savez(path, seed=np.array(3), ids=np.array([4, 5]), scores=np.array([0.5, np.nan]))
    return Golden(path)


@pytest.mark.parametrize(
    ("name", "actual", "tolerance", "message"),
    [
        ("ids", [4, 6], {}, r"ids: 1 of 2 elements differ; the first, at \[1\], is 6, not 5"),
        ("ids", [4], {}, r"ids: \(1,\), not \(2,\)"),
        ("ids", [4.0, 5.0], {}, "integers expected"),
        ("ids", [4, 5], {"abs": 1.0}, "no tolerance"),
        ("scores", [0.6, np.nan], {"rel": 0.1}, "1 of 2"),
        ("scores", [0.5, 0.5], {"abs": 9.0}, "1 of 2"),
        ("scores", [np.nan, np.nan], {"abs": 9.0}, "1 of 2"),
    ],
)
def test_a_difference_fails(golden, name, actual, tolerance, message):
    with pytest.raises(AssertionError, match=message):
        golden.check(name, actual, **tolerance)


@pytest.mark.parametrize("tolerance", [{"rel": 0.21}, {"of_max": 0.21}, {"abs": 0.11}])
def test_tolerances(golden, tolerance):
    golden.check("scores", [0.6, np.nan], **tolerance)


def test_a_name_that_is_not_there(golden):
    with pytest.raises(KeyError):
        golden.check("idz", [4, 5])


def test_inputs_cannot_be_changed_for_the_next_test(golden):
    golden.given("ids")[:] = 0
    golden.check("ids", [4, 5])


def test_completeness(golden):
    golden.check("ids", [4, 5])
    golden.given("seed")
    golden.given("scores")
    with pytest.raises(AssertionError, match="no test compares scores"):
        golden.assert_complete(["seed"])
    golden.assert_complete(["seed"], {"scores": "not needed here"})
    with pytest.raises(AssertionError, match="not compared, but compared or not there: ids"):
        golden.assert_complete(["seed"], {"scores": "not needed here", "ids": "no reason"})
    with pytest.raises(AssertionError, match=r"never given: sead"):
        golden.assert_complete(["seed", "sead"], {"scores": "not needed here"})


def test_completeness_of_a_module(tmp_path):
    def run(*arguments, **arrays):
        np.savez(tmp_path / "toy.npz", seed=3, ids=[4, 5], scores=[0.5, np.nan], **arrays)
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *arguments]
        environment = os.environ | {"PYTHONPATH": str(ROOT), "ALSEG_GOLDEN_DIR": str(tmp_path)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
        )
        return done.stdout.splitlines()[-1], done.stdout

    (tmp_path / "test_toy.py").write_text(MODULE)
    (tmp_path / "conftest.py").write_text("from tests.golden.conftest import *\n")
    assert "3 passed" in run()[0]
    assert "1 skipped, 1 deselected" in run("-k", "two or every")[0]
    assert "1 passed, 1 skipped" in run("test_toy.py::test_one", f"test_toy.py::{GUARD}")[0]
    summary, output = run(extra=1)
    assert "1 failed, 2 passed" in summary
    assert "no test compares extra" in output

"""Golden arrays: inputs and results recorded from a paper's reference implementation.

A test asks for inputs with `Golden.given` and compares results with `Golden.check`; both note the
array's name. The last test of every module passes the names it uses as mere inputs to
`Golden.assert_complete`: every other array of the file must have been compared. There is no way
to list or loop over the arrays, so none is used up by accident.
"""

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np


class Golden:
    """The golden file of one method."""

    def __init__(self, path: Path) -> None:
        with np.load(path, allow_pickle=False) as file:
            self._arrays = {name: file[name] for name in file.files}
        self._path = path
        self._given: set[str] = set()
        self._checked: set[str] = set()

    def given(self, name: str) -> np.ndarray:
        """An input, or a recorded intermediate result that the next step is fed with."""
        self._given.add(name)
        return self._arrays[name].copy()

    def check(
        self, name: str, actual: Any, *, rel: float = 0.0, of_max: float = 0.0, abs: float = 0.0
    ) -> None:
        """Compare a result: same shape, NaN at the same places, same numbers.

        Args:
            name: The recorded array.
            actual: What the library computed; arrays, CPU tensors and numbers.
            rel: Allowed difference as a fraction of each recorded number.
            of_max: Allowed difference as a fraction of the largest recorded number.
            abs: Allowed difference. The three add up; by default numbers must be equal.
        """
        expected = self._arrays[name]
        self._checked.add(name)
        actual = np.asarray(actual.detach() if hasattr(actual, "detach") else actual)
        assert actual.shape == expected.shape, f"{name}: {actual.shape}, not {expected.shape}"
        exact = expected.dtype.kind in "biuU"
        if exact:
            assert rel == of_max == abs == 0, f"{name} holds integers: no tolerance"
            assert actual.dtype.kind in "biuU", f"{name}: integers expected, not {actual.dtype}"
            wrong = actual != expected
        else:
            nan = np.isnan(expected)
            wanted, got = expected.astype(np.float64), actual.astype(np.float64)
            largest = np.abs(wanted[~nan]).max(initial=0.0)
            allowed = rel * np.abs(wanted) + of_max * largest + abs
            wrong = np.where(nan, ~np.isnan(got), ~(np.abs(got - wanted) <= allowed))
        if wrong.any():
            first = tuple(np.argwhere(wrong)[0])
            raise AssertionError(
                f"{name}: {wrong.sum()} of {wrong.size} elements differ; the first, at "
                f"{[int(i) for i in first]}, is {actual[first]}, not {expected[first]}"
            )

    def assert_complete(
        self, inputs: Iterable[str] = (), not_compared: Mapping[str, str] | None = None
    ) -> None:
        """Every array was compared, or was given where it is an input.

        Args:
            inputs: Names or patterns (``*``, ``?``) of arrays that are only fed in.
            not_compared: Arrays no test uses, each with the reason.
        """
        not_compared = not_compared or {}
        patterns = list(inputs)
        used = self._checked | {
            name for name in self._given if any(fnmatchcase(name, p) for p in patterns)
        }
        open_names = sorted(set(self._arrays) - used - set(not_compared))
        assert not open_names, f"{self._path.name}: no test compares {', '.join(open_names)}"
        stale = sorted(name for name in not_compared if name in used or name not in self._arrays)
        assert not stale, f"listed as not compared, but compared or not there: {', '.join(stale)}"
        unused = [p for p in patterns if not any(fnmatchcase(name, p) for name in self._given)]
        assert not unused, f"listed as inputs, but never given: {', '.join(unused)}"

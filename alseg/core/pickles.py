"""Arrays out of pickle files, without running what such a file may hold.

A pickle is a small program: unpickling a file of unknown origin can run any code. Here a file is
first read through without being run, and refused if it is cut off or asks for more than it has.
Then it may name nothing but what NumPy's arrays, types and scalars and Python's containers are
made of, and each of these names stands for a function of this module: nothing of NumPy is called
with what a file says, and arrays are made at the end, of bytes whose number was checked.
"""

import io
import math
import pickle
import pickletools
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from alseg.core.errors import UserError, first_line
from alseg.core.files import require_file

#: Bytes of a pickle file at most.
MOST_BYTES = 1 << 32
#: Steps of its program at most; a dictionary of numbers takes about four an entry.
MOST_STEPS = 50_000_000
#: Containers in containers at most.
MOST_DEPTH = 16
#: Types of arrays: truth values, numbers and text.
_TYPE = re.compile(r"[?biuf][1248]?|b1|[SU]\d{1,4}")


class _Refused(Exception):
    """What cannot be read; its text is a clause."""


class _Allowed:
    """A function that a file may call, and do nothing else with."""

    __slots__ = ("_function",)
    _function: Callable[..., Any]

    def __init__(self, function: Callable[..., Any]) -> None:
        object.__setattr__(self, "_function", function)

    def __call__(self, *given: Any) -> Any:
        return self._function(*given)

    def __setattr__(self, name: str, value: Any) -> None:
        raise _Refused("it changes the functions that read it")

    def __setstate__(self, state: Any) -> None:
        raise _Refused("it changes the functions that read it")


class _Type:
    """A type of numbers or text."""

    __slots__ = ("dtype",)

    def __init__(self, name: Any, *_: Any) -> None:
        if not (isinstance(name, str) and _TYPE.fullmatch(name)):
            raise _Refused(f"it holds arrays of type {str(name)[:40]!r}, and not of numbers")
        self.dtype = np.dtype(name)

    def __setstate__(self, state: Any) -> None:
        order = state[1]
        if order not in ("<", ">", "=", "|") or any(part is not None for part in state[2:5]):
            raise _Refused("it holds arrays with fields, and not of numbers")
        self.dtype = self.dtype.newbyteorder(order)


class _Array:
    """An array whose content is said later."""

    __slots__ = ("array",)

    def __init__(self, array: NDArray[Any] | None = None) -> None:
        self.array = array

    def __setstate__(self, state: Any) -> None:
        _, shape, kind, fortran, raw = state
        self.array = _array(raw, kind, shape, "F" if fortran else "C")


def _array(raw: Any, kind: Any, shape: Any, order: Any = "C") -> NDArray[Any]:
    """An array of bytes."""
    if isinstance(raw, str):  # of Python 2
        raw = raw.encode("latin1")
    if not isinstance(kind, _Type) or not isinstance(raw, bytes | bytearray):
        raise _Refused("it holds arrays of objects, and not of numbers")
    shape = shape if isinstance(shape, tuple) else (shape,)
    if not all(type(side) is int and side >= 0 for side in shape) or order not in ("C", "F"):
        raise _Refused("it holds an array of no possible shape")
    if math.prod(shape) * kind.dtype.itemsize != len(raw):
        raise _Refused(f"an array of shape {shape} has {len(raw)} bytes")
    flat: NDArray[Any] = np.frombuffer(raw, dtype=kind.dtype)
    return flat.reshape(shape, order=order)


def _reconstruct(*_: Any) -> _Array:
    """An empty array, whatever is asked for; its content follows."""
    return _Array()


def _from_buffer(raw: Any, kind: Any, shape: Any, order: Any = "C", axes: Any = None) -> _Array:
    """An array of pickle's protocol 5."""
    if axes is not None:
        raise _Refused("it holds an array whose axes are in another order")
    return _Array(_array(raw, kind, shape, order))


def _scalar(kind: Any, raw: Any = b"") -> Any:
    """A number of NumPy as one of Python."""
    return _array(raw, kind, ()).item()


def _encode(text: Any, encoding: Any) -> bytes:
    """Bytes, as protocols below 3 write them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _Refused("it holds text in an encoding of its own")
    return text.encode("latin1")


def _container(make: Callable[..., Any]) -> Callable[..., Any]:
    """A container, made of another one and of nothing else."""

    def made(*given: Any) -> Any:
        if len(given) > 1 or not all(isinstance(one, list | tuple | dict | set) for one in given):
            raise _Refused("it makes a container of something that is none")
        return make(*given)

    return made


def _no_bytes() -> bytes:
    """Bytes of which there are none, as protocols below 3 write them."""
    return b""


def _bytearray(*given: Any) -> bytearray:
    """Bytes, as protocols below 5 write a bytearray."""
    if not all(isinstance(one, bytes) for one in given[:1]) or len(given) > 1:
        raise _Refused("it makes bytes of something that is none")
    return bytearray(*given)


def _allowed() -> dict[tuple[str, str], _Allowed]:
    """What a file may name."""
    known: dict[tuple[str, str], Callable[..., Any]] = {
        ("numpy", "ndarray"): _reconstruct,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encode,
        ("collections", "OrderedDict"): _container(dict),
    }
    for core in ("numpy.core", "numpy._core"):
        known[core + ".multiarray", "_reconstruct"] = _reconstruct
        known[core + ".multiarray", "scalar"] = _scalar
        known[core + ".numeric", "_frombuffer"] = _from_buffer
    for builtins in ("builtins", "__builtin__"):
        for make in (list, tuple, dict, set, frozenset):
            known[builtins, make.__name__] = _container(make)
        known[builtins, "bytearray"] = _bytearray
        known[builtins, "bytes"] = _no_bytes
    return {name: _Allowed(function) for name, function in known.items()}


class _Reader(pickle.Unpickler):
    """Knows the names of `_allowed` and no others."""

    def __init__(self, raw: bytes) -> None:
        super().__init__(io.BytesIO(raw), encoding="latin1")
        self._known = _allowed()

    def find_class(self, module: str, name: str) -> Any:
        """What stands for a name.

        Raises:
            _Refused: For all others.
        """
        if (found := self._known.get((module, name))) is None:
            raise _Refused(f"it names {f'{module}.{name}'[:80]}, which may be code, and is not run")
        return found

    def persistent_load(self, pid: Any) -> Any:
        """Nothing outside of the file."""
        raise _Refused("it refers to something outside of it")


def read_pickle(path: Path) -> Any:
    """What a pickle file holds, if that is arrays, numbers, text and containers of these.

    Args:
        path: The file, of any protocol, and of Python 2 or 3.

    Returns:
        Arrays (read-only), numbers, text, bytes, None, and dictionaries, lists, tuples and sets.

    Raises:
        UserError: If it cannot be read, or names anything else; nothing of it has been run then.
    """
    require_file(path, MOST_BYTES)
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}).") from error
    try:
        return loads(raw)
    except _Refused as error:
        raise UserError(
            f"{path} is refused as a pickle: {error}; write what it holds as .npy or .npz, where "
            f"you trust the file and know what it holds."
        ) from error


def loads(raw: bytes) -> Any:
    """See `read_pickle`.

    Raises:
        _Refused: Where the file is refused.
    """
    try:
        _look_through(raw)
        return _plain(_Reader(raw).load(), {}, 0)
    except _Refused:
        raise
    except Exception as error:  # a damaged file breaks in as many ways as there are steps
        reason = first_line(error)[:120]
        raise _Refused(f"it is damaged ({reason})") from error


def _look_through(raw: bytes) -> None:
    """Read the steps of a pickle without running them.

    Raises:
        _Refused: If it has too many, or numbers its memory beyond them, which would fill ours.
    """
    stop = 0
    for steps, (step, argument, position) in enumerate(pickletools.genops(raw), start=1):
        if steps > MOST_STEPS:
            raise _Refused(f"it has more than {MOST_STEPS} steps")
        if "PUT" in step.name and int(argument or 0) > steps:
            raise _Refused(f"it numbers {argument} things after {steps} steps")
        stop = position or 0
    if stop + 1 != len(raw):
        raise _Refused(f"{len(raw) - stop - 1} bytes follow its end")


def _plain(value: Any, seen: dict[int, Any], depth: int) -> Any:
    """Arrays and containers in the place of what stood for them; each is made once.

    Raises:
        _Refused: For what is no data, and for containers that are too deep, or in themselves.
    """
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | bytearray):
        return value
    if id(value) in seen:
        return seen[id(value)]
    if depth > MOST_DEPTH:
        raise _Refused(f"it holds containers in containers, more than {MOST_DEPTH}")
    made: Any
    if isinstance(value, _Array):
        if value.array is None:
            raise _Refused("it holds an array without content")
        made = value.array
    elif isinstance(value, dict):
        made = {
            _plain(key, seen, depth + 1): _plain(one, seen, depth + 1) for key, one in value.items()
        }
    elif isinstance(value, list | tuple | set | frozenset):
        made = type(value)([_plain(one, seen, depth + 1) for one in value])
    else:
        raise _Refused(f"it holds something that is no data ({type(value).__name__.strip('_')})")
    seen[id(value)] = made
    return made

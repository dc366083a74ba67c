"""Values of typed options, read from text: the type hint decides how each one is read.

Texts stay as they are written, to the last character. Everything else is YAML, of which only the
structure is taken: a scalar means what the hint asks for, so that ``no`` and ``010`` in a list of
texts stay texts. Where the hint is `typing.Any`, scalars mean what they mean in YAML 1.2. Nothing
that is read can execute code.
"""

import re
import types
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

from alseg.core.errors import UserError, first_line

#: Longest text that is read as YAML; the parser takes about a second for it.
MOST_CHARACTERS = 200_000
#: Most values in one option. References (``*name``) can multiply few characters to many values.
MOST_VALUES = 20_000

_KINDS = ("null", "bool", "int", "float", "str", "seq", "map", "timestamp", "merge", "value")
_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in _KINDS}
_NULLS = ("", "~", "null", "Null", "NULL")
_BOOLS = {"true": True, "false": False, "yes": True, "no": False, "on": True, "off": False}
_INT = re.compile(r"[-+]?\d+(_\d+)*")
_FLOAT = re.compile(
    r"[-+]?(\.?(inf|nan)|(\d[\d_]*\.?[\d_]*|\.\d[\d_]*)(e[-+]?\d+)?)", re.IGNORECASE
)


class _Mismatch(Exception):
    """A value is not what the hint asks for."""


def type_hints(cls: type[Any]) -> dict[str, Any]:
    """Type hints of the fields of a dataclass, in their order, resolved.

    Raises:
        UserError: If the class is no dataclass, or a hint cannot be resolved.
    """
    try:
        hints = get_type_hints(cls)
        return {field.name: hints[field.name] for field in fields(cls) if field.init}
    except (TypeError, NameError) as error:
        raise UserError(
            f"the options of {cls.__module__}.{cls.__qualname__} cannot be read ({error}); it has "
            f"to be a frozen dataclass whose type hints are known where it is imported."
        ) from error


def read_word(hint: Any, text: str, name: str) -> Any:
    """Read the value of a word ``name=text`` of a command line.

    Args:
        hint: The option's type hint. Texts (``str``, ``Path``) are taken verbatim, and ``null``
            means None where the hint allows it.
        text: What stands behind the ``=``.
        name: The option, for messages.

    Raises:
        UserError: If the text is no such value.
    """
    members = _members(hint)
    if text == "null" and types.NoneType in members:
        return None
    is_text = any(member in (str, Path) or get_origin(member) is Literal for member in members)
    composite = any(_is_composite(member) for member in members)
    if composite and not (is_text and text[:1] not in ("[", "{")):
        return read_node(hint, parse_yaml(_spaced(text), f"{name}={_short(text)}"), name)
    # a scalar in quotes is never null, and what is in it is taken as it stands
    node = yaml.ScalarNode("tag:yaml.org,2002:str", text, style="'")
    return read_node(hint, node, name)


def read_node(hint: Any, node: yaml.Node, name: str) -> Any:
    """Convert a parsed YAML value to what a type hint asks for.

    Args:
        hint: The type hint.
        node: See `parse_yaml`.
        name: The option, for messages.

    Raises:
        UserError: If it is no such value, gives a key twice, or is too large.
    """
    try:
        return _Conversion(name).convert(hint, node)
    except _Mismatch as mismatch:
        detail = f" ({mismatch})" if str(mismatch) else ""
        raise UserError(
            f"cannot use {name}={_short(shown(node))}; it must be {expected(hint)}{detail}."
        ) from None
    except RecursionError:
        raise UserError(f"{name} is nested too deeply; write it flat.") from None


def parse_yaml(text: str, what: str) -> yaml.Node:
    """Parse YAML to its structure, without making values of it.

    Args:
        text: One document.
        what: Names it in messages.

    Raises:
        UserError: If it is no valid YAML, or too large.
    """
    if len(text) > MOST_CHARACTERS:
        raise UserError(f"{what} has more than {MOST_CHARACTERS} characters, too many to read.")
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = "" if mark is None else f" at line {mark.line + 1}, column {mark.column + 1}"
        raise UserError(
            f"cannot use {what}; it is no valid YAML ({error.problem}{where}); put quotes round "
            f"texts with special characters."
        ) from error
    except (yaml.YAMLError, ValueError) as error:  # characters that no YAML may hold
        reason = first_line(error)
        raise UserError(f"cannot use {what}; it is no valid YAML ({reason}).") from error
    except RecursionError:
        raise UserError(f"{what} is nested too deeply; write it flat.") from None
    return yaml.ScalarNode("tag:yaml.org,2002:null", "") if node is None else node


def entries(node: yaml.MappingNode, what: str) -> list[tuple[str, yaml.Node]]:
    """Keys, as they are written, and values of a mapping.

    Raises:
        UserError: If a key stands there twice or is no text.
    """
    found: dict[str, yaml.Node] = {}
    for key, value in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise UserError(f"{what} has a key that is no text; write name: value.")
        _check_tag(key, what)
        if key.value in found:
            raise UserError(f"{what} gives {key.value!r} twice; keep one of them.")
        empty = isinstance(value, yaml.ScalarNode) and value.value == "" and value.style is None
        if node.flow_style and key.style is None and ":" in key.value and empty:
            raise UserError(
                f"{what} has the key {key.value!r} without a value; write a space after the colon."
            )
        found[key.value] = value
    return list(found.items())


def with_entry(hint: Any, current: Any, path: str, read: Any) -> Any:
    """A copy of a dictionary in which one entry is set, e.g. ``prices.class_set.per_unit``.

    Args:
        hint: Type hint of the dictionary.
        current: The dictionary; None counts as empty.
        path: Keys with dots between them. A key that holds a value, not a dictionary, may have
            dots itself.
        read: Takes the type hint of the value and returns it.

    Returns:
        None if the hint is no dictionary.
    """
    dictionaries = [m for m in _members(hint) if m is Any or (get_origin(m) or m) in _DICTS]
    if not dictionaries or not path:
        return None
    arguments = get_args(dictionaries[0])
    inner = arguments[1] if arguments else Any
    given = dict(current) if isinstance(current, Mapping) else {}
    key, dot, rest = path.partition(".")
    if dot and any(m is Any or (get_origin(m) or m) in _DICTS for m in _members(inner)):
        given[key] = with_entry(inner, given.get(key), rest, read)
        return given if given[key] is not None else None
    return {**given, path: read(inner)}


def plain(value: Any) -> Any:
    """The value as JSON and YAML know it: lists for tuples, texts for paths."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    return str(value) if isinstance(value, Path) else value


def shown(value: Any) -> str:
    """A value, or a parsed one, as one writes it in a command."""
    if isinstance(value, yaml.ScalarNode):
        return str(value.value)
    if isinstance(value, yaml.CollectionNode):
        return yaml.serialize(value).strip() if _is_small(value) else "..."
    value = plain(value)
    if isinstance(value, list):
        return "[" + ", ".join(map(shown, value)) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {shown(inner)}" for key, inner in value.items()) + "}"
    return {None: "null", True: "true", False: "false"}[value] if (
        value is None or isinstance(value, bool)
    ) else str(value)  # fmt: skip


def expected(hint: Any) -> str:
    """What a value has to be, e.g. "a number or null"."""
    words = [_expected(member) for member in _members(hint) if member is not types.NoneType]
    if types.NoneType in _members(hint):
        words.append("null")
    return " or ".join(dict.fromkeys(words))


_LISTS = (list, Sequence)
_DICTS = (dict, Mapping)
_NAMES = {
    bool: ("true or false", "values true or false"),
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
}


def _members(hint: Any) -> tuple[Any, ...]:
    """The types a hint allows."""
    if get_origin(hint) in (Union, types.UnionType):
        return tuple(member for part in get_args(hint) for member in _members(part))
    return (types.NoneType,) if hint is None else (hint,)


def _is_composite(member: Any) -> bool:
    return member is Any or (get_origin(member) or member) in (tuple, *_LISTS, *_DICTS)


def _expected(member: Any) -> str:
    origin, arguments = get_origin(member) or member, get_args(member)
    if member in _NAMES:
        return _NAMES[member][0]
    if origin is Literal:
        return " or ".join(map(str, arguments))
    if origin in _DICTS:
        inner = expected(arguments[1]) if arguments else "a value"
        return f"a mapping {{name: value, ...}} to {inner}"
    if origin is tuple and arguments and arguments[-1] is not ...:
        kinds = {_plural(argument) for argument in arguments}
        kind = kinds.pop() if len(kinds) == 1 else "values"
        return f"a list [...] of {len(arguments)} {kind}"
    if origin is tuple or origin in _LISTS:
        return f"a list [...] of {_plural(arguments[0] if arguments else Any)}"
    return "a value"


def _plural(hint: Any) -> str:
    return _NAMES[hint][1] if hint in _NAMES else "values"


class _Conversion:
    """Converts one option's value, and counts what it is made of.

    Args:
        name: The option, for messages.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.values = 0

    def convert(self, hint: Any, node: yaml.Node) -> Any:
        """See `read_node`; raises `_Mismatch` where that has a sentence for it."""
        self.values += 1
        if self.values > MOST_VALUES:
            raise UserError(
                f"{self.name} has more than {MOST_VALUES} values, too many to read; references "
                f"(*name) count as often as they are used."
            )
        _check_tag(node, self.name)
        members = _members(hint)
        is_scalar = isinstance(node, yaml.ScalarNode)
        bare = is_scalar and node.style is None
        if types.NoneType in members and bare and node.value in _NULLS:
            return None
        # texts last: they take whatever the others do not
        members = tuple(m for m in members if m is not types.NoneType)
        mismatch = _Mismatch()
        for member in sorted(members, key=lambda member: member in (str, Path)):
            try:
                return self._as(member, node)
            except _Mismatch as error:
                mismatch = error
        raise mismatch if len(members) == 1 else _Mismatch()

    def _as(self, member: Any, node: yaml.Node) -> Any:
        origin, arguments = get_origin(member) or member, get_args(member)
        if member is Any:
            return self._free(node)
        if origin in _DICTS:
            if not isinstance(node, yaml.MappingNode):
                raise _Mismatch
            inner = arguments[1] if arguments else Any
            return {key: self._in(inner, v, key) for key, v in entries(node, self.name)}
        if origin is tuple or origin in _LISTS:
            if not isinstance(node, yaml.SequenceNode):
                raise _Mismatch
            return self._sequence(origin, arguments, node)
        if not isinstance(node, yaml.ScalarNode):
            raise _Mismatch
        return _scalar(member, node)

    def _sequence(self, origin: Any, arguments: tuple[Any, ...], node: yaml.SequenceNode) -> Any:
        if origin is not tuple:
            inner = arguments[0] if arguments else Any
            return [self.convert(inner, item) for item in node.value]
        if not arguments or arguments[-1] is ...:
            inner = arguments[0] if arguments else Any
            return tuple(self.convert(inner, item) for item in node.value)
        if len(node.value) != len(arguments):
            raise _Mismatch
        return tuple(map(self.convert, arguments, node.value))

    def _in(self, hint: Any, node: yaml.Node, key: str) -> Any:
        try:
            return self.convert(hint, node)
        except _Mismatch as error:
            if str(error):
                raise
            raise _Mismatch(f"{key!r} is {_short(shown(node))}") from None

    def _free(self, node: yaml.Node) -> Any:
        if isinstance(node, yaml.MappingNode):
            return {key: self.convert(Any, value) for key, value in entries(node, self.name)}
        if isinstance(node, yaml.SequenceNode):
            return [self.convert(Any, item) for item in node.value]
        text = str(node.value)
        if node.style is not None:
            return text
        if text in _NULLS:
            return None
        if text in ("true", "True", "TRUE", "false", "False", "FALSE"):
            return text.lower() == "true"
        for kind in (int, float):
            try:
                return _scalar(kind, node)
            except _Mismatch:
                continue
        return text


def _scalar(member: Any, node: yaml.ScalarNode) -> Any:
    """A scalar as a type; quotes round it change nothing."""
    text = str(node.value)
    if member in (str, Path):
        if "\0" in text:  # no file name may hold it
            raise _Mismatch("it holds a zero byte")
        return member(text)
    if get_origin(member) is Literal:
        for value in get_args(member):
            if str(value) == text:
                return value
        raise _Mismatch
    if member is bool and text.lower() in _BOOLS:
        return _BOOLS[text.lower()]
    if member is int and _INT.fullmatch(text) and len(text) < 100:
        return int(text)
    if member is float and _FLOAT.fullmatch(text) and len(text) < 400:
        return float(re.sub(r"\.(?=[in])", "", text.lower()).replace("_", ""))
    if member in (bool, int, float):
        raise _Mismatch
    raise UserError(f"options of the type {member} cannot be given in words.")


def _check_tag(node: yaml.Node, what: str) -> None:
    if node.tag not in _TAGS:
        raise UserError(f"{what} holds the tag {node.tag}, which is not read; leave it out.")


def _spaced(text: str) -> str:
    """Text of a command with a space after the colon behind each key of ``{key:value}``."""
    made: list[str] = []
    inside: list[str] = []  # brackets that are open
    quote, at_key, before = "", False, ""
    for character in text:
        made.append(character)
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and before in "{[,: ":
            quote = character
        elif character in "{[":
            inside.append(character)
            at_key = character == "{"
        elif character in "}]":
            del inside[-1:]
            at_key = False
        elif character == ",":
            at_key = inside[-1:] == ["{"]
        elif character == ":" and at_key:
            made.append(" ")
            at_key = False
        before = character
    return "".join(made)


def _is_small(node: yaml.Node) -> bool:
    """Whether a node has few values, references counted as often as they are used."""
    left, todo = 50, [node]
    while todo and left:
        left -= 1
        last = todo.pop()
        for part in last.value if isinstance(last, yaml.CollectionNode) else ():
            todo += part if isinstance(part, tuple) else [part]
    return not todo


def _short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 100 else f"{text[:100]}..."

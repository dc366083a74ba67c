"""Grids of runs: ``method=random,margin seed=0,1,2`` is six commands, each with a folder's name."""

import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from alseg.cli.words import split
from alseg.core.errors import UserError
from alseg.core.typed import MOST_CHARACTERS, entries, parse_yaml

#: Options whose commas separate what belongs to one value.
_WHOLE = ("plugins",)
#: Options that a folder's name shows by their value alone.
_PLAIN = ("method", "data", "preset", "regions", "oracle")
#: Runs of one sweep; more is a comma too many.
_MOST = 10_000
_OPENING, _CLOSING = "[{(", "]})"


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        name: Of its folder: what varies in the grid, such as ``margin_seed0``.
        words: The words of `alseg.run`, without ``run_dir``.
        varied: Those of them that vary, such as ``("method=margin", "seed=0")``.
    """

    name: str
    words: tuple[str, ...]
    varied: tuple[str, ...]


def cells(words: Sequence[str], plan: Path | None = None) -> list[Cell]:
    """The runs of a grid, in the order of the words; the last option varies fastest.

    Commas outside of brackets and quotation marks separate values. A plan is a YAML file with a
    list of grids, each a mapping of options to a value or a list of values; the words hold in all
    of them, before the plan's own.

    Args:
        words: ``name=value`` or ``name=value,value``.
        plan: YAML file.

    Raises:
        UserError: For words that cannot be read, options given twice, or runs that would share a
            folder.
    """
    common = _axes(words)
    grids = [common] if plan is None else [_joined(common, grid, plan) for grid in read_plan(plan)]
    chosen: list[tuple[str, ...]] = []
    for grid in grids:
        size = 1
        for values in grid.values():
            size *= len(values)
        if size + len(chosen) > _MOST:
            raise UserError(f"this grid has more than {_MOST} runs; give fewer values.")
        named = [[f"{name}={value}" for value in values] for name, values in grid.items()]
        chosen += itertools.product(*named)
    return _named(chosen)


def read_plan(path: Path) -> list[dict[str, tuple[str, ...]]]:
    """The grids of a plan, values as they are written on a command line.

    Raises:
        UserError: If it cannot be read.
    """
    what = f"the plan {path}"
    form = "a plan is a list of grids such as '- {method: [random, margin], seed: [0, 1]}'"
    try:
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {what} (it is no text in UTF-8); {form}.") from error
    except OSError as error:
        raise UserError(f"cannot read {what} ({error.strerror}); {form}.") from error
    node = parse_yaml(text, what)
    if not isinstance(node, yaml.SequenceNode) or not node.value:
        raise UserError(f"{what} holds no list; {form}.")
    grids = []
    for item in node.value:
        if not isinstance(item, yaml.MappingNode):
            raise UserError(f"{what}, line {item.start_mark.line + 1}: {form}.")
        grid: dict[str, tuple[str, ...]] = {}
        for name, value in entries(item, what):
            grid[name] = _written(value, what)
        grids.append(grid)
    return grids


def _written(node: yaml.Node, what: str) -> tuple[str, ...]:
    """Values of an option in a plan as words."""
    nodes = node.value if isinstance(node, yaml.SequenceNode) else [node]
    if not nodes:
        raise UserError(f"{what}, line {node.start_mark.line + 1}: give at least one value.")
    texts = []
    for one in nodes:
        if isinstance(one, yaml.ScalarNode):
            texts.append(str(one.value))
        else:  # a list or mapping as the value of one run
            one.flow_style = True
            texts.append(" ".join(yaml.serialize(one, width=MOST_CHARACTERS).split()))
    return tuple(texts)


def separated(text: str) -> list[str]:
    """Split at the commas outside of brackets and quotation marks.

    >>> separated("0,1,[2,3],'a,b'")
    ['0', '1', '[2,3]', "'a,b'"]
    """
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        elif character == "," and depth <= 0:
            parts.append("")
            continue
        parts[-1] += character
    return parts


def _axes(words: Iterable[str]) -> dict[str, tuple[str, ...]]:
    axes: dict[str, tuple[str, ...]] = {}
    for word in words:
        setting = split(word)
        name, text = setting.name, setting.text or ""
        if name in axes:
            raise UserError(f"{name} is given twice; give its values in one word: {name}=A,B.")
        values = [text] if name in _WHOLE else separated(text)
        if len(values) > 1 and "" in values:
            raise UserError(f"{word} has an empty value; take a comma out.")
        if len(set(values)) < len(values):
            twice = next(value for value in values if values.count(value) > 1)
            raise UserError(f"{word} has {twice} twice; give it once.")
        axes[name] = tuple(values)
    return axes


def _joined(
    common: Mapping[str, tuple[str, ...]], grid: Mapping[str, tuple[str, ...]], plan: Path
) -> dict[str, tuple[str, ...]]:
    both = sorted(set(common) & set(grid))
    if both:
        raise UserError(f"{both[0]} is given as a word and in {plan}; keep one of them.")
    return {**common, **grid}


def _named(chosen: Sequence[tuple[str, ...]]) -> list[Cell]:
    """Name runs by the options in which they differ."""
    settings = [dict(word.split("=", 1) for word in words) for words in chosen]
    options = list(dict.fromkeys(name for given in settings for name in given))
    if "run_dir" in options:
        raise UserError(
            "run_dir is given, but a sweep names the folder of each run itself; give out=FOLDER "
            "for all of them."
        )
    varying = [name for name in options if len({given.get(name) for given in settings}) > 1]
    shown = varying or [name for name in ("method", "seed") if name in options] or options[:1]
    named: dict[str, Cell] = {}
    for words, given in zip(chosen, settings, strict=True):
        parts = [_part(name, given[name], options) for name in shown if name in given]
        name = "_".join(parts) or "run"
        if name in named:
            first, second = " ".join(named[name].words), " ".join(words)
            reason = (
                "is there twice" if first == second else f"and {second} would both be in {name}"
            )
            raise UserError(f"{first} {reason}; leave one of them out.")
        varied = tuple(f"{option}={given[option]}" for option in varying if option in given)
        named[name] = Cell(name, words, varied)
    return list(named.values())


def _part(name: str, value: str, options: Sequence[str]) -> str:
    """How one option shows in a folder's name: ``seed0``, ``margin``, ``budget.amount20``."""
    if name in _PLAIN:
        label = ""
        value = Path(value).stem if name == "preset" else value
    else:
        last = name.rpartition(".")[2]
        alike = [other for other in options if other.rpartition(".")[2] == last]
        label = name if len(alike) > 1 else last
        label += "" if re.match(r"[\d.-]", value) else "-"
    plain = re.sub(r"[^\w.+-]+", "-", value)
    return re.sub("-{2,}", "-", f"{label}{plain}").strip("-") or "-"

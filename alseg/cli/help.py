"""What ``--help`` prints: the docstrings and defaults of dataclasses."""

import inspect
import textwrap
from collections.abc import Sequence
from dataclasses import MISSING
from typing import Any

from alseg.cli.compose import CHOICES, GROUPS, NODES, expand, import_plugins, installed_presets
from alseg.cli.options import RunOptions
from alseg.cli.words import defaults_of
from alseg.core.typed import shown


def help_text(words: Sequence[str]) -> str:
    """Help of the command ``python -m alseg.run``.

    Args:
        words: With ``method=NAME`` and the like among them, the options of these components.

    Raises:
        UserError: For a component that does not exist, or a plugin that cannot be imported.
    """
    given = expand(words)
    import_plugins(given)
    asked = {s.name: s.text or "" for s in given if s.name in GROUPS and not s.source}
    if asked:
        return "\n".join(
            f"{group}={name}\n{_described(GROUPS[group].resolve(name), group)}"
            for group, name in asked.items()
        )
    lines = [
        "usage: python -m alseg.run [method=NAME] [data=NAME] [run_dir=FOLDER] [option=value ...]",
        "",
        "Runs active learning, or what is left of a run: the same command goes on where it was",
        "stopped. Without options, mulquery learns the embedded synthetic scenes.",
        "",
        "Choose by name (default first named); add --help to see the options of a choice:",
    ]
    for group, registry in GROUPS.items():
        names = [CHOICES[group], *(name for name in registry if name != CHOICES[group])]
        lines.append(f"  {group + '=':10}{', '.join(names)}")
    lines += ["", "Options of the run:", *option_lines(RunOptions)]
    installed = ", ".join(installed_presets())
    lines += option_line("preset", None, f"A YAML file of options, or one of: {installed}.")
    for name, cls in NODES.items():
        lines += ["", _described(cls, name)]
    lines += [
        "",
        "Texts are taken as they are written, null means none where an option allows it, lists are",
        "[a, b] and mappings {a: 1, b: 2}; an entry of a mapping can be given by itself, as in",
        "budget.prices.class_set.seconds_per_class=4. Quotes are the shell's.",
        "",
        "examples:",
        "  python -m alseg.run method=mulquery run_dir=runs/first",
        "  python -m alseg.run method=mulquery --help",
        "  python -m alseg.run data=camvid data.root=CamVid network.encoder=mobilenet_v2 "
        "budget.amount=500",
        "  python -m alseg.run plugins=my_method method=mine",
    ]
    return "\n".join(lines)


def explain(cls: type[Any], usage: str, examples: Sequence[str]) -> str:
    """Help of a command whose options are one dataclass: its own first, then those it extends.

    Args:
        cls: The dataclass.
        usage: The command in one line.
        examples: Commands that work.
    """
    summary, _, rest = (cls.__doc__ or "").partition("\n")
    text = textwrap.dedent(rest.partition("Attributes:")[0]).strip()
    own = [name for name in defaults_of(cls) if name in cls.__annotations__]
    others = [name for name in defaults_of(cls) if name not in own]
    lines = [f"usage: {usage}", "", summary, *(["", text] if text else []), "", "Options:"]
    lines += option_lines(cls, "", [*own, *others])
    return "\n".join([*lines, "", "examples:", *(f"  {example}" for example in examples)])


def option_lines(cls: type[Any], prefix: str = "", names: Sequence[str] | None = None) -> list[str]:
    """Name, default and explanation of the options of a dataclass."""
    texts, defaults = option_texts(cls), defaults_of(cls)
    return [
        line
        for name in (defaults if names is None else names)
        for line in option_line(f"{prefix}{name}", defaults[name], texts.get(name, ""))
    ]


def option_line(name: str, default: Any, text: str) -> list[str]:
    """One option."""
    head = f"  {name} = {'(required)' if default is MISSING else shown(default)}"
    indent = " " * 6
    return [head, *textwrap.wrap(text, 92, initial_indent=indent, subsequent_indent=indent)]


def option_texts(cls: type[Any]) -> dict[str, str]:
    """What the docstrings of a component, and of those it extends, say of its options."""
    texts: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        _, _, attributes = (inspect.cleandoc(base.__doc__ or "")).partition("Attributes:")
        name = ""
        for line in attributes.splitlines():
            key, colon, text = line.strip().partition(": ")
            if line.startswith("    ") and not line.startswith("     ") and colon:
                name, texts[key] = key, text
            elif name:
                texts[name] += f" {line.strip()}"
    return {name: text.replace("`", "").strip() for name, text in texts.items()}


def _described(cls: type[Any], prefix: str) -> str:
    """Summary of a component's docstring and its options."""
    summary = (inspect.getdoc(cls) or prefix).splitlines()[0]
    return "\n".join([summary, *option_lines(cls, f"{prefix}."), *_sets(cls)])


def _sets(cls: type[Any]) -> list[str]:
    """Options elsewhere that a choice sets unless the user does."""
    lines = []
    for name, when in (("defaults", ""), ("small", ", where the data set is small")):
        given = getattr(cls, name, None) or {}
        if cls.__module__.startswith("alseg.data"):
            when = ""
        if given:
            text = " ".join(f"{option}={value}" for option, value in given.items())
            lines += textwrap.wrap(
                f"Sets, unless you do{when}: {text}", 96, initial_indent="  ",
                subsequent_indent=" " * 6, break_on_hyphens=False, break_long_words=False,
            )  # fmt: skip
    return lines

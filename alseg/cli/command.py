"""Commands whose options are the fields of a dataclass: reading them, explaining them, starting."""

import json
import logging
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import MISSING, fields
from typing import Any, TypeVar

import yaml

from alseg.cli.run import option_texts
from alseg.core.errors import UserError, unknown_name

Options = TypeVar("Options")


def read_options(cls: type[Options], arguments: Sequence[str]) -> Options:
    """Read words ``name=value``: texts as they are, so that paths need no quotes, the rest as YAML.

    Args:
        cls: A dataclass.
        arguments: The words.

    Raises:
        UserError: For an argument that is none, an unknown or missing option, or a value of the
            wrong type.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    known = {option.name: option for option in fields(cls)}  # type: ignore[arg-type]
    config = OmegaConf.structured(cls)
    OmegaConf.set_readonly(config, None)  # frozen dataclasses are read-only by default
    for argument in arguments:
        name, is_option, text = argument.partition("=")
        if not is_option:
            raise UserError(f"cannot read {argument!r}; options are written name=value.")
        if name not in known:
            raise unknown_name("option", name, known)
        is_text = known[name].type in (str, str | None) and text != "null"
        try:
            config[name] = text if is_text else yaml.safe_load(text)
        except (OmegaConfBaseException, yaml.YAMLError) as error:
            raise UserError(f"cannot use {argument}: {str(error).splitlines()[0]}.") from error
    missing = [name for name in known if OmegaConf.is_missing(config, name)]
    if missing:
        raise UserError(f"{missing[0]} has no default; give {missing[0]}=PATH.")
    options: Any = OmegaConf.to_object(config)
    return options


def explain(cls: type[Any], usage: str, examples: Sequence[str]) -> str:
    """What ``--help`` prints: a dataclass's docstring, its own options, and those it extends.

    Args:
        cls: The dataclass.
        usage: The command in one line.
        examples: Commands that work.
    """
    summary, _, rest = (cls.__doc__ or "").partition("\n")
    text = textwrap.dedent(rest.partition("Attributes:")[0]).rstrip()
    lines = [f"usage: {usage}", "", summary, text, "", "Options:"]
    texts = option_texts(cls)
    indent = " " * 6
    for option in sorted(fields(cls), key=lambda option: option.name not in cls.__annotations__):
        default = option.default
        if option.default_factory is not MISSING:
            default = option.default_factory()
        lines.append(f"  {option.name} = {'(required)' if default is MISSING else _shown(default)}")
        lines += textwrap.wrap(
            texts[option.name], 92, initial_indent=indent, subsequent_indent=indent
        )
    return "\n".join([*lines, "", "examples:", *(f"  {example}" for example in examples)])


def start(arguments: Sequence[str] | None, text: str, work: Callable[[list[str]], object]) -> int:
    """Do a command's work, or print its help.

    Args:
        arguments: The words after the command; None for those of this process.
        text: What ``--help`` prints.
        work: Takes the words.

    Returns:
        The exit status: 0, or 2 for bad input.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if not given or {"-h", "--help"} & set(given):
        print(text)
        return 0
    logging.basicConfig(format="%(message)s")
    logging.getLogger("alseg").setLevel(logging.INFO)
    try:
        work(given)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _shown(default: Any) -> str:
    return default if isinstance(default, str) else json.dumps(default)

"""From a command line to objects: presets, plugins, defaults, and errors one can act on."""

import importlib
import logging
import os
import sys
import traceback
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from alseg.cli.options import Augment, RunOptions, TrainerOptions
from alseg.cli.words import Setting, defaults_of, made, put, split, unknown_option
from alseg.core.errors import UserError, first_line
from alseg.core.registry import Registry
from alseg.core.typed import MOST_CHARACTERS, entries, parse_yaml, plain, type_hints
from alseg.data import DATASETS
from alseg.labels.budget import Budget
from alseg.labels.oracle import ORACLES
from alseg.methods import METHODS
from alseg.nn.network import Network
from alseg.regions import REGIONS
from alseg.report.loggers import LOGGERS

log = logging.getLogger(__name__)

#: Groups: one component is chosen by name.
GROUPS: dict[str, Registry] = {
    "method": METHODS,
    "data": DATASETS,
    "regions": REGIONS,
    "oracle": ORACLES,
    "logger": LOGGERS,
}
#: Names chosen unless the command says otherwise.
CHOICES = {
    "method": "mulquery",
    "data": "synthetic",
    "regions": "seeds",
    "oracle": "simulated",
    "logger": "csv",
}
#: Nodes: components there is one kind of.
NODES: dict[str, type[Any]] = {
    "budget": Budget,
    "network": Network,
    "augment": Augment,
    "trainer": TrainerOptions,
}
_PRESETS = Path(__file__).with_name("presets")


@dataclass(frozen=True)
class Options:
    """A command that was read.

    Attributes:
        choices: Name chosen in each group, e.g. ``{"method": "mulquery"}``.
        values: All options, nested, as plain Python values.
        components: The objects the groups and nodes describe, by name.
    """

    choices: dict[str, str]
    values: dict[str, Any]
    components: dict[str, Any]


def options(*words: str) -> Options:
    """What a command line describes, e.g. ``options("method=mulquery", "rounds=2")``.

    Later words win over earlier ones, a preset standing for its options, and all of them over the
    defaults that a data set or method sets for other components. Where words exchange a component
    of a preset, the preset's options that the new one does not have are left out, with a warning.

    Raises:
        UserError: For anything in it that cannot be used.
    """
    given = expand(words)
    plugins = import_plugins(given)
    choices = _choices(given)
    classes = {name: GROUPS[name].resolve(choice) for name, choice in choices.items()} | NODES
    values = {name: defaults_of(cls) for name, cls in classes.items()}
    root = defaults_of(RunOptions)
    given = [setting for setting in given if not _of_another(setting, given, classes)]
    for setting in [*_quiet(given, choices, classes), *given]:
        _set(setting, classes, root, values)
    root["plugins"] = plugins
    components = {name: made(cls, values[name], f"{name}.") for name, cls in classes.items()}
    components["run"] = made(RunOptions, root)
    return Options(choices, plain(root | values), components)


def expand(words: Sequence[str]) -> list[Setting]:
    """The settings of a command line, those of presets in the place of ``preset=FILE``.

    Raises:
        UserError: For a word that is none, or an unreadable preset.
    """
    given: list[Setting] = []
    for word in words:
        if word in ("-m", "--multirun"):
            raise UserError(
                f"{word} started sweeps in release 0.1, and no longer does; give one command per "
                f"value, each with a run_dir of its own."
            )
        setting = split(word)
        given += _preset(setting.text or "") if setting.name == "preset" else [setting]
    return given


def import_plugins(given: Iterable[Setting]) -> tuple[str, ...]:
    """Import the modules that ``plugins=`` names, from the current folder or PYTHONPATH.

    Returns:
        Their names.

    Raises:
        UserError: If one cannot be imported.
    """
    names: dict[str, Setting] = {}
    for setting in given:
        if setting.name != "plugins":
            continue
        text = setting.text
        read = setting.read(tuple[str, ...]) if text is None or text[:1] == "[" else text.split(",")
        names |= {name.strip(): setting for name in read if name.strip()}
    if names and os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it, and a console script does not
    for name, setting in names.items():
        try:
            importlib.import_module(name)
        except Exception as error:  # a user's module may raise anything
            raise setting.error(_not_imported(name, error)) from error
    return tuple(names)


def known_options(classes: dict[str, type[Any]]) -> list[str]:
    """Names of all options that the chosen components have."""
    fields = [f"{name}.{field}" for name, cls in classes.items() for field in type_hints(cls)]
    return [*type_hints(RunOptions), "preset", *GROUPS, *fields]


def _set(
    setting: Setting,
    classes: dict[str, type[Any]],
    root: dict[str, Any],
    values: dict[str, dict[str, Any]],
) -> None:
    """Read a setting into the values of the component it belongs to."""
    head, dot, option = setting.name.partition(".")
    if setting.name in GROUPS or setting.name == "plugins":
        return  # done already
    if not dot and head in NODES:
        names = [f"{head}.{field}" for field in type_hints(NODES[head])]
        raise setting.error(f"{head} is a group of options; give {', '.join(names)}.")
    if dot and head in classes:
        done = put(classes[head], values[head], option, setting)
    else:
        done = put(RunOptions, root, setting.name, setting)
    if not done:
        known = known_options(classes)
        siblings = [name for name in known if dot and name.startswith(f"{head}.")]
        siblings = siblings or [name for name in known if "." not in name] + list(NODES)
        error = unknown_option(setting.name, [*known, *NODES], siblings)
        raise setting.error(str(error))


def _choices(given: Iterable[Setting]) -> dict[str, str]:
    """The name chosen in each group."""
    chosen: dict[str, str] = {}
    for setting in given:
        if setting.name in GROUPS:
            try:
                GROUPS[setting.name].resolve(setting.text or "")
            except UserError as error:
                raise setting.error(str(error)) from error
            chosen[setting.name] = setting.text or ""
    method = METHODS.resolve(chosen.get("method", CHOICES["method"]))
    data = DATASETS.resolve(chosen.get("data", CHOICES["data"]))
    quiet = _defaults(method, data)
    return {name: chosen.get(name, quiet.get(name, default)) for name, default in CHOICES.items()}


def _defaults(method: type[Any], data: type[Any]) -> dict[str, str]:
    """What the method and the data set say of options that may belong to other components."""
    small = getattr(data, "small", None)
    quiet = dict(small or {}) | dict(getattr(method, "defaults", {}))
    return quiet | dict(getattr(method, "small", {}) if small else {})


def _quiet(
    given: Sequence[Setting], choices: dict[str, str], classes: dict[str, type[Any]]
) -> list[Setting]:
    """Settings of the method and the data set that the command does not say otherwise."""
    said = {setting.name for setting in given}
    quiet = _defaults(classes["method"], classes["data"])
    settings = []
    for name, text in quiet.items():
        group = name.partition(".")[0]
        # options of a component that the user has exchanged say nothing about the other one
        exchanged = group in GROUPS and choices[group] != quiet.get(group, choices[group])
        if name not in said and name not in GROUPS and not exchanged:
            settings.append(Setting(name, text))
    return settings


def installed_presets() -> dict[str, Path]:
    """The presets that come with the package, by their names such as ``demo/pixelpick``."""
    files = sorted(_PRESETS.rglob("*.yaml"))
    return {path.relative_to(_PRESETS).with_suffix("").as_posix(): path for path in files}


def _of_another(setting: Setting, given: Sequence[Setting], classes: dict[str, type[Any]]) -> bool:
    """Whether a preset's option is of a component that the command line has exchanged."""
    group, _, option = setting.name.partition(".")
    typed = [one.text for one in given if one.name == group and not one.source]
    chosen = [one.text for one in given if one.name == group and one.source]
    if not (setting.source and option and group in GROUPS and typed):
        return False
    if typed[-1] in chosen or option.partition(".")[0] in type_hints(classes[group]):
        return False
    said = (setting.source, setting.name, group, typed[-1])
    log.warning("%s: %s is left out, which %s=%s does not have", *said)
    return True


def _preset(file: str) -> list[Setting]:
    """The options of a YAML file, nested as one likes: ``budget: {amount: 3}``."""
    what, path = f"the preset {file}", Path(file)
    names = ", ".join(installed_presets())
    hint = f"presets are YAML files of options, or one of those installed: {names}"
    try:
        path = path.expanduser()
        if not path.is_file():
            path = installed_presets().get(file, path)
        if not path.is_file():
            state = "it is no file" if path.exists() else "there is none"
            raise UserError(f"cannot read {what} ({state}); {hint}.")
        with path.open(encoding="utf-8") as opened:
            text = opened.read(MOST_CHARACTERS + 1)
    except UnicodeDecodeError as error:
        raise UserError(f"cannot read {what} (it is no text in UTF-8); {hint}.") from error
    except (OSError, RuntimeError) as error:  # the latter where ~name is no user
        reason = getattr(error, "strerror", None) or "its folder cannot be found"
        raise UserError(f"cannot read {what} ({reason}); {hint}.") from error
    node = parse_yaml(text.removeprefix("\ufeff"), what)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{what} holds no options; {hint}.")
    found: dict[str, Setting] = {}
    for setting in _flat(what, path, "", node):
        if setting.name in found:
            raise UserError(f"{what} gives {setting.name} twice; keep one of them.")
        found[setting.name] = setting
    return list(found.values())


def _flat(what: str, path: Path, prefix: str, node: yaml.MappingNode) -> Iterable[Setting]:
    for key, value in entries(node, what):
        name = f"{prefix}{key}"
        if isinstance(value, yaml.MappingNode) and (name in GROUPS or name in NODES):
            yield from _flat(what, path, f"{name}.", value)
        else:
            yield Setting(name, value, f"{path}, line {value.start_mark.line + 1}")


def _not_imported(name: str, error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name and name.startswith(error.name):
        hint = ", without .py" if name.endswith(".py") else ""
        return (
            f"plugins={name}: there is no module {error.name!r} in {os.getcwd()} or in PYTHONPATH; "
            f"give names of Python modules{hint}."
        )
    last = traceback.extract_tb(error.__traceback__)[-1]
    reason = first_line(error)
    return (
        f"plugins={name}: the module cannot be imported ({type(error).__name__}: {reason}, in "
        f"{last.filename}, line {last.lineno}); mend it, or leave it out."
    )

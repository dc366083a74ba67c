"""From a command line to objects: presets, defaults, Hydra, and errors one can act on."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra import compose, initialize
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from alseg.cli.options import Augment, TrainerOptions
from alseg.core.errors import UserError
from alseg.core.registry import Registry
from alseg.data import DATASETS
from alseg.labels.budget import Budget
from alseg.labels.oracle import ORACLES
from alseg.methods import METHODS
from alseg.nn.network import Network
from alseg.regions import REGIONS
from alseg.report.loggers import LOGGERS

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
#: Options of the run itself.
ROOT: dict[str, tuple[Any, str]] = {
    "rounds": (5, "Rounds: buy, train, evaluate, ask; null = as many as the method prescribes."),
    "seed": (0, "Decides everything random."),
    "query": (
        None,
        "replay:RUN_DIR repeats another run's purchases; list:FILE, a text file with one image per "
        "line, buys the masks of these images; null = the method chooses.",
    ),
    "run_dir": (None, "The run folder; null = runs/<data>_<method>_seed<seed>."),
    "cache": (None, "Where region maps are kept between runs; null = the user's cache folder."),
    "workers": (2, "Loader processes per loader, and processes that extract regions."),
    "eval_batch_size": (4, "Whole images per batch where all have one size."),
    "keep_rounds": (None, "Rounds whose checkpoints stay, the last ones; null = all."),
    "pictures": (4, "Images pictured in the report per round."),
}


@dataclass(frozen=True)
class Options:
    """A composed command.

    Attributes:
        choices: Name chosen in each group, e.g. ``{"method": "mulquery"}``.
        values: All options, nested, as plain Python values.
        components: The objects the groups and nodes describe, by name.
    """

    choices: dict[str, str]
    values: dict[str, Any]
    components: dict[str, Any]


def register() -> None:
    """Describe every component to Hydra."""
    store = ConfigStore.instance()
    root: dict[str, Any] = {name: value for name, (value, _) in ROOT.items()}
    defaults: list[Any] = ["_self_", *({group: name} for group, name in CHOICES.items())]
    # the command says how it logs
    defaults += [{"override hydra/hydra_logging": "none"}, {"override hydra/job_logging": "none"}]
    # alseg names its folders itself: Hydra makes none and stays where it is
    hydra = {
        "run": {"dir": "."},
        "sweep": {"dir": "runs/sweep", "subdir": "."},
        "output_subdir": None,
        "job": {"chdir": False},
    }
    for name, cls in NODES.items():
        root[name] = _schema(cls)
    store.store(name="alseg", node={"defaults": defaults, **root, "hydra": hydra})
    for group, registry in GROUPS.items():
        for name in registry:
            store.store(group=group, name=name, node=_schema(registry.resolve(name)))


def _schema(cls: type[Any]) -> DictConfig:
    node = OmegaConf.structured(cls)
    OmegaConf.set_readonly(node, None)  # frozen dataclasses are read-only by default
    return node


def expand(arguments: Sequence[str]) -> list[str]:
    """Turn a command line into plain overrides.

    ``preset=FILE`` is replaced by the options of a YAML file, and the options a data set or
    method sets unless the user does are put in front. Expanding twice changes nothing.

    Raises:
        UserError: For an unknown component, an unreadable preset, or an argument that is none.
    """
    given: list[str] = []
    for argument in arguments:
        key, is_option, value = argument.partition("=")
        if key == "preset":
            given += _preset(Path(value))
        elif not is_option and not argument.startswith(("-", "~", "hydra")):
            raise UserError(f"cannot read {argument!r}; options are written name=value.")
        else:
            given.append(argument)
    chosen = dict(CHOICES)
    for argument in given:
        key, _, value = argument.partition("=")
        if key in GROUPS:
            for name in value.split(","):  # commas: a sweep, which Hydra takes apart
                GROUPS[key].resolve(name)
            chosen[key] = value
    if "," in chosen["method"] or "," in chosen["data"]:
        quiet: dict[str, str] = {}  # no defaults suit them all: the command has to say it all
    else:
        method, data = METHODS.resolve(chosen["method"]), DATASETS.resolve(chosen["data"])
        small = getattr(data, "small", None)
        quiet = dict(small or {}) | dict(method.defaults) | dict(method.small if small else {})
    said = {argument.partition("=")[0].lstrip("+") for argument in given}
    every = [f"{key}={value}" for key, value in quiet.items() if key not in said] + given
    every.sort(key=lambda argument: not argument.startswith("-"))  # flags first, as Hydra wants
    return [f"++{o}" if o[0] != "+" and _is_free_form(o.partition("=")[0]) else o for o in every]


def _preset(path: Path) -> list[str]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise UserError(
            f"cannot read the preset {path} ({error.strerror}); presets are YAML files such as "
            f"those under experiments/."
        ) from error
    except Exception as error:  # the YAML parser has many
        raise UserError(f"the preset {path} is not valid YAML ({error}).") from error
    if not isinstance(content, dict):
        raise UserError(f"the preset {path} holds no options.")
    choices = [f"{k}={v}" for k, v in content.items() if k in GROUPS and isinstance(v, str)]
    rest = {str(k): v for k, v in content.items() if not (k in GROUPS and isinstance(v, str))}
    return choices + [f"{key}={_literal(value)}" for key, value in _flat("", rest)]


def _flat(prefix: str, value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, Mapping) and value and not _is_free_form(prefix):
        return [
            pair
            for key, inner in value.items()
            for pair in _flat(f"{prefix}.{key}" if prefix else str(key), inner)
        ]
    return [(prefix, value)]


def _is_free_form(key: str) -> bool:
    """Whether an option is a dictionary, or in one, whose keys are the user's own."""
    return key.split(".")[1:2] in (["options"], ["prices"], ["colors"])


def _literal(value: Any) -> str:
    """A value in the grammar of overrides."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        pairs = ((re.sub(r"([\\()\[\]{}:=,])", r"\\\1", str(k)), v) for k, v in value.items())
        return "{" + ",".join(f"{key}:{_literal(inner)}" for key, inner in pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ",".join(_literal(item) for item in value) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"
    return str(value)


def composed(overrides: Sequence[str]) -> DictConfig:
    """Compose expanded overrides.

    Raises:
        UserError: For an unknown option (with the close ones) or a value of the wrong type.
    """
    register()
    GlobalHydra.instance().clear()
    own = [o for o in overrides if not o.lstrip("+~").startswith(("hydra", "-"))]
    try:
        with initialize(version_base="1.3"):
            return compose("alseg", own)
    except (HydraException, OmegaConfBaseException) as error:
        raise _explained(error, own) from error


def _explained(error: Exception, overrides: Sequence[str]) -> UserError:
    """Hydra's error as one sentence."""
    text = str(error)
    cause = str(error.__cause__ or error).splitlines()[0]
    unknown = re.search(r"Could not override '([^']+)'", text)
    if unknown:
        key = unknown.group(1)
        try:
            with initialize(version_base="1.3"):
                known = [name for name, _ in _leaves(compose("alseg", _choices(overrides)))]
        except (HydraException, OmegaConfBaseException):
            known = []
        close = get_close_matches(key, known, n=3, cutoff=0.6)
        group = key.split(".")[0]
        siblings = [name for name in known if name.startswith(f"{group}.")] or list(ROOT)
        hint = f"did you mean {' or '.join(close)}? " if close else ""
        return UserError(f"unknown option {key!r}; {hint}Known: {', '.join(sorted(siblings))}.")
    wrong = re.search(r"Error merging override (.+)", text)
    if wrong:
        return UserError(f"cannot use {wrong.group(1)}: {cause}.")
    return UserError(f"cannot read the options: {text.splitlines()[0]}")


def _choices(overrides: Sequence[str]) -> list[str]:
    return [o for o in overrides if o.partition("=")[0] in GROUPS]


def _leaves(config: Any, prefix: str = "") -> list[tuple[str, Any]]:
    pairs = []
    for key in config:
        name = f"{prefix}.{key}" if prefix else str(key)
        value = config._get_node(key)
        if isinstance(value, DictConfig) and len(value):
            pairs += _leaves(value, name)
        else:
            pairs.append((name, value))
    return pairs


def options(*arguments: str) -> Options:
    """What a command line describes, e.g. ``options("method=mulquery", "rounds=2")``.

    Raises:
        UserError: For anything in it that cannot be used.
    """
    overrides = expand(arguments)
    return options_of(composed(overrides), overrides)


def options_of(config: DictConfig, overrides: Sequence[str]) -> Options:
    """Build the components a configuration describes.

    Raises:
        UserError: For values a component refuses.
    """
    chosen = dict(CHOICES)
    for override in overrides:
        key, _, value = override.partition("=")
        if key in GROUPS:
            chosen[key] = value
    values: Any = OmegaConf.to_container(config, resolve=True)
    try:
        parts = {name: OmegaConf.to_object(config[name]) for name in (*GROUPS, *NODES)}
    except MissingMandatoryValue as error:
        raise UserError(f"{error.full_key} has no default; give {error.full_key}=VALUE.") from error
    return Options(choices=chosen, values=values, components=parts)

"""Every preset composes, builds, is listed, and holds differences only."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from alseg.compose import GROUPS, Options, composed, expand, options_of

ROOT = Path(__file__).parents[1]
PRESETS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("experiments/**/*.yaml"))
#: Worth stating though it may equal the default.
STATED = {"rounds"}


def content(preset: str) -> dict[str, Any]:
    """Options of a preset, flat, as it writes them."""
    loaded = OmegaConf.to_container(OmegaConf.load(ROOT / preset))
    assert isinstance(loaded, dict)
    return loaded


def options(*arguments: str) -> Options:
    overrides = expand(arguments)
    return options_of(composed(overrides), overrides)


def select(values: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def plain(value: Any) -> Any:
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def test_there_are_presets():
    assert len(PRESETS) >= 6


@pytest.mark.parametrize("preset", PRESETS)
class TestPreset:
    def test_composes_to_what_it_says(self, preset):
        made = options(f"preset={ROOT / preset}", "data.root=somewhere")
        for name, value in content(preset).items():
            if name in GROUPS:
                assert made.choices[name] == value
            else:
                assert plain(select(made.values, name)) == value, name

    def test_components_build(self, preset):
        made = options(f"preset={ROOT / preset}", "data.root=somewhere")
        for group, registry in GROUPS.items():
            assert type(made.components[group]) is registry.resolve(made.choices[group])
        method = made.components["method"]
        assert [stage.steps for stage in method.stages(None)] == [
            method.steps,
            method.stage_two_steps,
        ]

    def test_holds_differences_only(self, preset):
        given = content(preset)
        chosen = [f"{name}={value}" for name, value in given.items() if name in GROUPS]
        default = OmegaConf.to_container(composed(expand(chosen)))
        same = {
            name
            for name, value in given.items()
            if name not in GROUPS and name not in STATED and plain(select(default, name)) == value
        }
        assert not same, "the defaults already"

    def test_is_in_the_table(self, preset):
        name = preset.removeprefix("experiments/")
        assert f"| [`{name}`]({name}) |" in (ROOT / "experiments" / "README.md").read_text()


def test_networks_take_their_options():
    networks = {}
    for preset in PRESETS:
        network = options(f"preset={ROOT / preset}", "data.root=x").components["network"]
        networks[network.encoder, str(network.options)] = replace(network, weights=None)
    assert len(networks) >= 3
    for network in networks.values():
        dropouts = [
            module.p
            for module in network.build(3, cosine=True).modules()
            if type(module).__name__ == "Dropout"
        ]
        asked = network.options.get("decoder_aspp_dropout")
        assert asked is None or asked in dropouts

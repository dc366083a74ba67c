"""From the words of a command to choices, values and components."""

import sys
from dataclasses import fields
from pathlib import Path

import pytest
import yaml

from alseg.cli.compose import GROUPS, options
from alseg.cli.help import help_text
from alseg.cli.identity import default_identity, identity
from alseg.cli.run import run_dir
from alseg.core.errors import UserError
from alseg.core.options import FREE
from alseg.methods import METHODS

FOLDER = ("data=folder", "data.classes=[a,b]", "data.val_fraction=0.2")


@pytest.mark.parametrize(
    ("argument", "sentence"),
    [
        ("method=mulqery", "unknown method 'mulqery'; did you mean 'mulquery'"),
        ("data=camvit", "unknown data 'camvit'; did you mean 'camvid'"),
        ("regions=seed", "unknown regions 'seed'; did you mean 'seeds'"),
        ("oracle=humam", "unknown oracle 'humam'; did you mean 'human'"),
        ("logger=wanbd", "unknown logger 'wanbd'; did you mean 'wandb'"),
        ("metod=mulquery", "unknown option 'metod'; did you mean method?"),
        ("run_dri=x", "unknown option 'run_dri'; did you mean run_dir or"),
        ("metod.steps=3", "unknown option 'metod.steps'; did you mean method.steps"),
        ("method.stepss=3", "unknown option 'method.stepss'; did you mean method.steps"),
        ("steps=3", "unknown option 'steps'; did you mean method.steps"),
        ("network.steps=3", "unknown option 'network.steps'; did you mean method.steps"),
        ("budjet.amount=3", "unknown option 'budjet.amount'; did you mean budget.amount"),
        ("budget.prises.mask.seconds_per_unit=1", "unknown option 'budget.prises.mask"),
        ("budget.prices.masks.seconds_per_unit=1", "unknown answer in budget.prices 'masks'"),
        ("method.steps.x=1", "unknown option 'method.steps.x'; did you mean method.steps"),
        ("budget=5", "budget is a group of options; give budget.amount"),
        ("hydra.callbacks=x", "unknown option 'hydra.callbacks'"),
        ("method.nu=much", "cannot use method.nu=much; it must be a number."),
        ("seed=0,1", "cannot use seed=0,1; it must be a whole number."),
        ("budget.amount=0", "budget.amount is 0; a round needs a positive number of clicks"),
        ("method.acquisition=pixball", "did you mean 'pixbal'"),
        ("augment.scale=[2,1]", "augment.scale is"),
        ("workers=-1", "workers is -1; give at least 0."),
        ("run_dir=", "run_dir is empty"),
        ("mulquery", "cannot read 'mulquery'; options are written name=value"),
        ("--rounds=3", "cannot read '--rounds=3'; options are written name=value"),
        ("-m", "-m started sweeps in release 0.1, and no longer does; give one command per value"),
        ("data=camvid", "data.root has no default; give data.root=VALUE"),
        ("preset=nowhere.yaml", "cannot read the preset nowhere.yaml (there is none)"),
        ("plugins=no_such_module", "plugins=no_such_module: there is no module 'no_such_module'"),
        ("plugins=no_such_module.py", "give names of Python modules, without .py"),
    ],
)
def test_bad_options_get_a_sentence(argument, sentence):
    with pytest.raises(UserError) as error:
        options(argument)
    assert sentence in str(error.value)


@pytest.mark.parametrize("name", ["data.root", "run_dir", "cache"])
@pytest.mark.parametrize("path", ["/data/über", "~/x", "a=b", "photos (1)", "a,b", "${x}", "2024"])
def test_paths_need_no_quotes(name, path):
    values = options(*FOLDER, "data.root=/x", f"{name}={path}").values
    assert (values["data"]["root"] if name == "data.root" else values[name]) == path


def test_quiet_defaults_yield_to_what_is_said():
    small = options()
    assert small.values["method"]["steps"] == 120
    assert small.values["network"]["encoder"] == "resnet18"
    assert options("method.steps=7").values["method"]["steps"] == 7
    assert options("method=supervised").choices["regions"] == "image"
    assert options("method=supervised").values["rounds"] == 1
    assert options("method=supervised", "regions=grid").choices["regions"] == "grid"
    assert options("data=camvid", "data.root=x").values["method"]["steps"] == 80_000


def test_quiet_defaults_of_an_exchanged_component_are_not_asked_of_the_other():
    assert options("method=equal").values["regions"]["rows"] == 4
    assert options("method=equal", "regions=image").choices["regions"] == "image"


def test_later_words_win_and_dictionaries_grow_by_entries():
    words = ["budget.prices.mask.seconds_per_unit=1", "budget.prices.mask.clicks_per_unit=2"]
    prices = options(*words).values["budget"]["prices"]
    assert prices == {"mask": {"seconds_per_unit": 1.0, "clicks_per_unit": 2.0}}
    whole = "budget.prices={mask: {clicks_per_unit: 3}}"
    assert options(*words, whole).values["budget"]["prices"] == {"mask": {"clicks_per_unit": 3.0}}
    network = options("network.options.decoder_dropout=0.5").values["network"]["options"]
    assert network["decoder_dropout"] == 0.5
    assert network["decoder_pyramid_channels"] == 64  # the data set's quiet default
    assert options("seed=1", "seed=2").values["seed"] == 2


@pytest.fixture
def preset(tmp_path):
    """Writes a preset and gives its word."""

    def write(text, name="p.yaml"):
        path = tmp_path / name
        path.write_text(text if isinstance(text, str) else yaml.safe_dump(text))
        return f"preset={path}"

    return write


def test_a_preset_is_what_its_options_are(preset):
    word = preset(
        {
            "method": "mulquery",
            "data": "camvid",
            "data.root": "/data/it's here",
            "method.nu": 12.0,
            "budget": {"prices": {"class_set": {"seconds_per_class": 4.0}}},
            "augment.crop": [96, 128],
            "network.weights": None,
            "network.options": {"decoder_channels": [1, 2]},
        }
    )
    got = options("method.nu=1", word, "method.nu=3").values
    assert got["data"]["root"] == "/data/it's here"
    assert got["method"]["nu"] == 3
    assert options("method.nu=1", word).values["method"]["nu"] == 12
    assert got["budget"]["prices"] == {"class_set": {"seconds_per_class": 4.0}}
    assert got["augment"]["crop"] == [96, 128]
    assert got["network"]["weights"] is None
    assert got["network"]["options"] == {"decoder_channels": [1, 2]}


def test_texts_of_a_preset_are_as_they_are_written_and_presets_follow_each_other(preset):
    one = preset("data: folder\ndata.root: 2024\ndata.classes: [no, 010, yes]\ndata.val: tile_6/*")
    two = preset("data.root: ~/x\nmethod: {lr: 1e-3}", "q.yaml")
    assert options(one).values["data"]["classes"] == ["no", "010", "yes"]
    assert options(one).values["data"]["root"] == "2024"
    both = options(one, two).values
    assert (both["data"]["root"], both["method"]["lr"]) == ("~/x", 1e-3)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("method.nu: 1\nmethod.nu: 2", "gives 'method.nu' twice"),
        ("method: {nu: 1}\nmethod.nu: 2", "gives method.nu twice"),
        ("seed: 1\nmethod.nuu: 2", "p.yaml, line 2: unknown option 'method.nuu'; did you mean"),
        ("metod: random", "p.yaml, line 1: unknown option 'metod'; did you mean method?"),
        ("method: randon", "p.yaml, line 1: unknown method 'randon'"),
        ("method.nu: much", "p.yaml, line 1: cannot use method.nu=much; it must be a number."),
        ("hydra.callbacks: {x: {_target_: os.system}}", "unknown option 'hydra.callbacks'"),
        ("seed: !!python/object/apply:os.system [ls]", "which is not read"),
        ("a: [", "no valid YAML"),
        ("- a", "holds no options"),
        ("", "holds no options"),
        ("preset: other.yaml", "unknown option 'preset'"),
    ],
)
def test_presets_that_cannot_be_meant_are_refused(preset, text, sentence):
    with pytest.raises(UserError) as error:
        options(preset(text))
    assert sentence in str(error.value)


def test_options_of_an_exchanged_component_are_left_out_and_told(preset, caplog):
    word = preset("regions: seeds_published\nregions.num_regions: 150\nmethod.steps: 7")
    made = options(word, "regions=files", "regions.folder=maps")
    assert made.choices["regions"] == "files"
    assert made.values["method"]["steps"] == 7
    assert "regions.num_regions is left out, which regions=files does not have" in caplog.text
    assert options(word).values["regions"]["num_regions"] == 150
    for words in ((word, "regions.folder=maps"), (word, "regions=seeds_published", "regions.x=1")):
        with pytest.raises(UserError, match="unknown option 'regions"):
            options(*words)
    wrong = preset("regions: seeds\nregions.sides: 3", "wrong.yaml")
    with pytest.raises(UserError, match=r"unknown option 'regions\.sides'"):
        options(wrong)
    with pytest.raises(UserError, match=r"unknown option 'regions\.sides'"):
        options(wrong, "regions=seeds")


def test_presets_that_are_no_files(tmp_path):
    for name, reason in (("x" * 300, "File name too long"), ("~no_such_user/x", "cannot be found")):
        with pytest.raises(UserError, match=f"cannot read the preset {name} .*{reason}"):
            options(f"preset={name}")
    with pytest.raises(UserError, match="it is no file"):
        options(f"preset={tmp_path}")
    with pytest.raises(UserError, match="or one of those installed: demo/pixelpick, demo/random"):
        options("preset=demo/pixelpik")
    (tmp_path / "b.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match="no text in UTF-8"):
        options(f"preset={tmp_path / 'b.yaml'}")


def test_a_preset_of_the_package_goes_by_its_name_unless_a_file_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert options("preset=demo/random").choices["method"] == "random"
    (tmp_path / "demo").mkdir()
    (tmp_path / "demo" / "random").write_text("method: margin")
    assert options("preset=demo/random").choices["method"] == "margin"


PLUGIN = '''
from dataclasses import dataclass
from alseg.methods import METHODS

@dataclass(frozen=True)
class {cls}(METHODS.resolve("random")):
    """A method of one's own.

    Attributes:
        weight: Its weight.
    """

    weight: float = 1.5

METHODS.register("{name}", {cls})
'''


@pytest.fixture
def plugins(tmp_path, monkeypatch):
    """A folder with modules of one's own, as the current one."""
    monkeypatch.setattr(METHODS, "_entries", dict(METHODS._entries))
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path not in ("", str(tmp_path))])
    monkeypatch.chdir(tmp_path)
    for cls in ("Mine", "Yours"):
        name = f"own_{cls.lower()}"
        (tmp_path / f"{name}.py").write_text(PLUGIN.format(cls=cls, name=name))
    (tmp_path / "own_broken.py").write_text("\n1 / 0\n")
    (tmp_path / "own_needy.py").write_text("import no_such_library\n")
    yield
    for name in [name for name in sys.modules if name.startswith("own_")]:
        del sys.modules[name]


def test_plugins_have_options_and_help_and_are_part_of_the_identity(plugins, preset):
    made = options("plugins=own_mine,own_yours", "method=own_mine", "method.weight=2")
    assert made.components["method"].weight == 2
    assert identity(made)["plugins"] == ["own_mine", "own_yours"]
    assert "method.weight = 1.5\n      Its weight." in help_text(
        ["plugins=own_mine", "method=own_mine"]
    )
    assert "own_mine" in help_text(["plugins=[own_mine]"])
    word = preset("plugins: [own_yours]\nmethod: own_yours\nmethod.weight: 3")
    assert options(word).values["plugins"] == ["own_yours"]
    assert options(word, "plugins=own_mine").values["plugins"] == ["own_yours", "own_mine"]
    with pytest.raises(
        UserError, match=r"unknown option 'method.wait'; did you mean method.weight"
    ):
        options(word, "method.wait=3")


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("own_broken", r"ZeroDivisionError: division by zero, in .*own_broken\.py, line 2"),
        ("own_needy", r"No module named 'no_such_library', in .*own_needy\.py, line 1"),
    ],
)
def test_plugins_that_cannot_be_imported(plugins, name, sentence):
    with pytest.raises(UserError, match=sentence):
        options(f"plugins={name}")


def test_a_class_that_is_no_dataclass_is_refused(plugins):
    METHODS.register("plain", type("Plain", (), {"defaults": {}, "small": {}}))
    with pytest.raises(UserError, match="has to be a frozen dataclass"):
        options("method=plain")


def test_every_option_of_every_component_can_be_read():
    """Its hint is one the reader knows: each default, written as a word, comes back."""
    from alseg.core.typed import plain, read_word, shown, type_hints

    for registry in GROUPS.values():
        for name in registry:
            cls = registry.resolve(name)
            for option, hint in type_hints(cls).items():
                default = next(f for f in fields(cls) if f.name == option).default
                if isinstance(default, int | float | str | tuple | None):
                    read = read_word(hint, shown(default), option)
                    assert plain(read) == plain(default), (name, option)


def test_what_may_change_between_two_starts():
    first = options("run_dir=a")
    for free in ("run_dir=b", "rounds=9", "workers=7", "trainer.devices=2", "trainer.num_nodes=2",
                 "logger=wandb", "cache=x", "trainer.strategy=ddp", "trainer.accelerator=cpu",
                 "trainer.enable_progress_bar=false", "pictures=0"):  # fmt: skip
        assert identity(options("run_dir=a", free)) == identity(first), free
    for bound in ("seed=1", "method.nu=1", "trainer.precision=bf16-mixed", "oracle.trim=3",
                  "trainer.sync_batchnorm=true", "trainer.deterministic=true", "regions=grid",
                  "trainer.gradient_clip=1", "trainer.channels_last=true",
                  "trainer.compile=true",
                  "network.options.decoder_dropout=0.5"):  # fmt: skip
        assert identity(options("run_dir=a", bound)) != identity(first), bound
    human = [options("oracle=human", f"oracle.accept_partial={said}") for said in ("true", "false")]
    assert identity(human[0]) == identity(human[1])
    roots = [options(*FOLDER, f"data.root={root}") for root in ("/a", "/b")]
    assert identity(roots[0]) == identity(roots[1])
    assert run_dir(options()) == Path("runs/synthetic_mulquery_seed0")
    assert run_dir(options("seed=3", "method=supervised")).name == "synthetic_supervised_seed3"


def test_the_place_of_the_files_is_free_in_every_data_set():
    for name in GROUPS["data"]:
        for option in fields(GROUPS["data"].resolve(name)):
            free = option.name in ("root", "cache")
            assert (option.metadata == FREE) == free, (name, option.name)


def test_the_identity_is_flat_and_made_of_json():
    made = options("budget.prices.mask.seconds_per_unit=1", "augment.crop=[8,8]")
    assert identity(made)["budget.prices.mask.seconds_per_unit"] == 1
    assert identity(made)["augment.crop"] == [8, 8]
    assert identity(options())["budget.prices"] == {}
    assert default_identity(made)["trainer.sync_batchnorm"] is False
    assert default_identity(made)["plugins"] == []
    assert set(identity(options())) - set(default_identity(options())) == {
        *("method", "data", "regions", "oracle"),
        *(name for name in identity(options()) if name.startswith("network.options.")),
    }

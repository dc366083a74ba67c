"""Every preset composes, builds, is listed, and holds differences only."""

import json
import math
import re
from dataclasses import replace
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from alseg.cli.compose import GROUPS, Options
from alseg.cli.compose import options as composed
from alseg.methods.als4gan import learner
from alseg.nn.network import Network
from tests.data.make import picture, save
from tests.golden.reference.equal import patch_budget
from tests.toys import ToyImages, toy_run

ROOT = Path(__file__).parents[1]
PACKAGED = "alseg/cli/presets"
PRESETS = sorted(
    path.relative_to(ROOT).as_posix()
    for folder in ("experiments", PACKAGED)
    for path in (ROOT / folder).rglob("*.yaml")
)
#: Worth stating though it may equal the default.
STATED = {"rounds"}
#: Options that say how long the stages of the last round are, where it is not one of `steps`. Those
#: of equal count passes: on an empty pool a pass is one batch, and 0 patches are a milestone.
LENGTHS = {
    "equal": ("milestone_epochs", "final_epochs"),
    "mulquery": ("steps", "stage_two_steps"),
}
#: What has no default, with values that no preset has.
PLACE = ["data.root=/none"]
NEEDED = {"folder": [*PLACE, "data.classes=[none,nothing]", "data.val=none"], "synthetic": []}
#: Training images and, where all have one size, height and width of the files.
IMAGES = {"camvid": 367, "cityscapes": 2975, "voc": 1464}
SIZES = {"camvid": (360, 480), "cityscapes": (1024, 2048)}


class Loader(yaml.SafeLoader):
    """Knows that 1e-5 is a number, as YAML 1.2 does."""


Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float", re.compile(r"\d+e-?\d+$"), list("0123456789")
)


def content(preset: str) -> dict[str, Any]:
    """Options of a preset, flat, as it writes them."""
    loaded = yaml.load((ROOT / preset).read_text(), Loader)
    assert isinstance(loaded, dict)
    return loaded


@cache
def options(*arguments: str) -> Options:
    return composed(*arguments)


def composed_from(preset: str) -> Options:
    """The options of a preset with a folder for its images, where it has any."""
    painted = content(preset).get("data") == "synthetic"
    return options(f"preset={ROOT / preset}", *([] if painted else ["data.root=somewhere"]))


def select(values: dict[str, Any], name: str) -> Any:
    for part in name.split("."):
        values = values[part]
    return values


def plain(value: Any) -> Any:
    return [plain(item) for item in value] if isinstance(value, list | tuple) else value


def of(folder: str) -> list[str]:
    found = [preset for preset in PRESETS if preset.startswith(f"experiments/{folder}/")]
    assert found, folder
    return found


def test_there_are_presets():
    assert len(PRESETS) >= 16


@pytest.mark.parametrize("preset", PRESETS)
class TestPreset:
    def test_composes_to_what_it_says(self, preset):
        made = composed_from(preset)
        for name, value in content(preset).items():
            if name in GROUPS:
                assert made.choices[name] == value
            else:
                assert plain(select(made.values, name)) == value, name

    def test_components_build(self, preset):
        made = composed_from(preset)
        for group, registry in GROUPS.items():
            assert type(made.components[group]) is registry.resolve(made.choices[group])
        made.components["network"].check()
        assert made.components["regions"].unit == "pixel" or made.components["regions"].parameters()
        images = ToyImages(2)
        augment = content(preset)
        built = made.components["augment"].build(images)
        assert list(built.crop) == augment.get("augment.crop", [32, 48])
        assert list(built.jitter) == augment.get("augment.jitter", [0, 0, 0, 0])
        plain = made.components["augment"].plain()
        assert list(plain.std) == augment.get("augment.std", [0.229, 0.224, 0.225])

    def test_stages_are_as_long_as_it_says_and_learn_at_its_rate(self, preset, tmp_path):
        made = composed_from(preset)
        method, rounds = made.components["method"], made.values["rounds"] or 1
        run = toy_run(tmp_path, rounds=rounds, method=method)
        context = run.context(rounds - 1)
        stages = method.stages(context)
        named = LENGTHS.get(made.choices["method"], ("steps",))
        lengths = [getattr(method, option) for option in named]
        assert [stage.fit.steps for stage in stages] == lengths
        module = stages[0].module()
        configured, factors = module.configure_optimizers(), (getattr(method, "head_factor", 1.0),)
        if isinstance(configured, list):  # of two networks; DeepLabv2's rates for the segmenter
            configured, factors = {"optimizer": configured[0]}, (10, 20)
        groups = configured["optimizer"].param_groups
        rates = sorted({group["lr"] for group in groups})
        factors = {1.0, *factors, *(f * getattr(method, "bias_factor", 1.0) for f in factors)}
        assert rates == pytest.approx(sorted(factor * method.lr for factor in factors))
        if getattr(method, "decay_kernels_only", False):
            assert {group["weight_decay"] for group in groups} == {0.0, method.weight_decay}

    def test_holds_differences_only(self, preset):
        given = content(preset)
        chosen = [f"{name}={value}" for name, value in given.items() if name in GROUPS]
        needed = NEEDED.get(given.get("data"), PLACE if "data" in given else [])
        default = options(*chosen, *needed).values
        same = {
            name
            for name, value in given.items()
            if name not in GROUPS and name not in STATED and plain(select(default, name)) == value
        }
        assert not same, "the defaults already"

    def test_is_in_the_table(self, preset):
        name = preset.removeprefix("experiments/")
        link = f"[`{name}`]({name})"
        if name.startswith(PACKAGED):
            link = f"[`{name[len(PACKAGED) + 1 :].removesuffix('.yaml')}`](../{name})"
        assert f"| {link} |" in (ROOT / "experiments" / "README.md").read_text()


@pytest.mark.parametrize("preset", of("aerial"))
def test_the_tiles_of_the_aerial_presets_are_found(preset, tmp_path):
    made = options(f"preset={ROOT / preset}", f"data.root={tmp_path}")
    colors = list(content(preset)["data.colors"].values())
    for tile in range(1, 7):
        mask = np.resize(np.array(colors, np.uint8), (170, 170, 3))
        save(tmp_path / f"tile_{tile}/images/image_part_001.jpg", picture(170, 170, tile))
        save(tmp_path / f"tile_{tile}/masks/image_part_001.png", mask)
    splits = made.components["data"].splits(progress=False)
    held = {name.partition("/")[0] for name in splits.val.names}
    assert held in ({"tile_6"}, {"tile_3", "tile_6"})
    assert not held & {name.partition("/")[0] for name in splits.train.names}


@pytest.mark.parametrize("preset", of("equal"))
def test_equal_buys_12_percent_of_patches_of_one_size(preset):
    made = composed_from(preset)
    regions, data, amount = (made.components[n] for n in ("regions", "data", "budget"))
    name = made.choices["data"]
    budget = patch_budget(IMAGES[name] * regions.rows * regions.cols, 0.12)
    assert 0 <= budget - amount.amount * made.values["rounds"] < amount.amount
    assert amount.axis == "units"
    height, width = (round(side * data.scale) for side in SIZES[name])
    assert height % regions.rows == width % regions.cols == 0
    method = made.components["method"]
    chosen = [round(side * method.round_scale) for side in (height, width)]
    assert chosen == {"camvid": [360, 480], "cityscapes": [256, 512]}[name]
    assert chosen[0] % regions.rows == chosen[1] % regions.cols == 0
    assert method.final_keep == "best"
    assert getattr(data, "choose_on", None) == ("val" if name == "camvid" else None)
    augment = made.components["augment"]
    assert (list(augment.scale), augment.flip) == ([1, 1], 0)
    assert (list(augment.mean), list(augment.std)) == ([0, 0, 0], [1, 1, 1])


@pytest.mark.parametrize(
    ("preset", "outputs", "count"),
    [
        ("camvid_fcn", 12, 32_952_396),
        ("cityscapes_fcn", 20, 32_956_500),
        ("camvid_deeplabv3", 12, 39_636_556),
        ("cityscapes_deeplabv3", 20, 39_638_612),
    ],
)
def test_equal_has_the_networks_of_the_paper(preset, outputs, count):
    made = options(f"preset={ROOT}/experiments/equal/{preset}.yaml", "data.root=somewhere")
    network = replace(made.components["network"], weights=None).build(outputs)
    assert sum(p.numel() for p in network.parameters()) == count


#: Encoder, decoder and classifier of the papers' presets, in parameters. Where a paper's page has
#: a number, it is the sum; see the table in experiments/README.md.
PARAMETERS = {
    "mulquery/cityscapes_resnet50": (20, 23_631_808, 3_169_296, 20 * 256),
    "mulquery/cityscapes_resnet101": (20, 42_623_936, 3_169_296, 20 * 256),
    "mulquery/voc_resnet50": (21, 23_631_808, 3_169_296, 21 * 256),
    "mulquery/voc_resnet101": (21, 42_623_936, 3_169_296, 21 * 256),
    "adaptive_superpixel/cityscapes": (19, 37_867_312, 3_182_704, 19 * 257),
    "adaptive_superpixel/voc": (21, 37_867_312, 3_182_704, 21 * 257),
    "classbal/cityscapes": (19, 37_867_312, 3_182_704, 19 * 257),
    "classbal/voc": (21, 37_867_312, 3_182_704, 21 * 257),
    "madbal/cityscapes_mobilenet_v2": (19, 1_811_712, 3_998_944, 19 * 257),
    "madbal/cityscapes_mobilenet_v2_quarter": (19, 1_811_712, 3_998_944, 19 * 257),
    "madbal/cityscapes_mobilenet_v3": (19, 2_971_952, 246_016, 3_211),
    "madbal/cityscapes_resnet50": (19, 23_508_032, 16_125_440, 19 * 257),
    "madbal/voc_resnet50": (21, 23_508_032, 16_125_440, 21 * 257),
    "equal/camvid_fcn": (12, 23_508_032, 9_438_208, 12 * 513),
    "equal/camvid_deeplabv3": (12, 23_508_032, 16_125_440, 12 * 257),
    "equal/cityscapes_fcn": (20, 23_508_032, 9_438_208, 20 * 513),
    "equal/cityscapes_deeplabv3": (20, 23_508_032, 16_125_440, 20 * 257),
    "pixelpick/camvid": (11, 2_223_872, 2_154_384, 11 * 257),
    "pixelpick/cityscapes": (19, 2_223_872, 2_154_384, 19 * 257),
    "pixelpick/voc": (21, 2_223_872, 2_154_384, 21 * 257),
    **dict.fromkeys(
        [f"als4gan/ucmerced{which}" for which in ("", "_2", "_12", "_reference")],
        (17, 42_500_160, 0, 4 * 17 * 18433),
    ),
    **dict.fromkeys(
        [f"als4gan/deepglobe{which}" for which in ("", "_5", "_12")],
        (6, 42_500_160, 0, 4 * 6 * 18433),
    ),
    "pixelpick/camvid_fpn": (11, 23_508_032, 2_164_736, 11 * 129),
    "pixelpick/cityscapes_fpn": (19, 23_508_032, 2_164_736, 19 * 129),
    "pixelpick/voc_fpn": (21, 23_508_032, 2_164_736, 21 * 129),
}
#: What their page or code says of all parts together, exactly or in millions, and with how many
#: outputs where that is another number than here.
TOTALS: dict[str, tuple[float, str, int | None]] = {
    "madbal/cityscapes_mobilenet_v2": (5.82, "code", None),
    "madbal/cityscapes_mobilenet_v2_quarter": (5.82, "code", None),
    "madbal/cityscapes_mobilenet_v3": (3.22, "code", None),
    "madbal/cityscapes_resnet50": (39.64, "code", None),
    "equal/camvid_fcn": (32_952_396, "code, torchvision", None),
    "equal/camvid_deeplabv3": (39_636_556, "code, torchvision", None),
    "equal/cityscapes_fcn": (32_956_500, "code, torchvision", None),
    "equal/cityscapes_deeplabv3": (39_638_612, "code, torchvision", None),
    **dict.fromkeys(
        [name for name in PARAMETERS if name.startswith("als4gan/ucmerced")],
        (43_827_336, "code", 18),
    ),
}
#: What images and crops of the protocol are padded to, by the folder of the preset.
CANVASES = {
    "mulquery": {(513, 513): (513, 513), (768, 768): (768, 768), (1024, 2048): (1024, 2048)},
    "adaptive_superpixel": {(769, 769): (769, 769), (1024, 2048): (1025, 2049)},
    "classbal": {(513, 513): (513, 513), (512, 1024): (513, 1025)},
    "madbal": {(768, 768): (768, 768), (1024, 2048): (1024, 2048)},
    "equal": {(360, 480): (360, 480), (512, 1024): (512, 1024)},
    "pixelpick": {(360, 480): (368, 480), (256, 512): (256, 512), (320, 320): (320, 320)},
    "als4gan": {(256, 256): (256, 256), (320, 320): (320, 320)},
    "pixelpick_fpn": {(360, 480): (360, 480), (256, 512): (256, 512), (300, 400): (304, 400)},
}


@cache
def outline(architecture: str, encoder: str, more: str, outputs: int, cosine: bool) -> Any:
    """A network without memory for its weights, which presets may share."""
    with torch.device("meta"):
        return Network(architecture, encoder, None, json.loads(more)).build(outputs, cosine=cosine)


def outlined(preset: str) -> Any:
    """The network of a preset."""
    made = options(f"preset={ROOT}/experiments/{preset}.yaml", "data.root=somewhere")
    given = made.components["network"]
    cosine = getattr(made.components["method"], "cosine", False)
    more = json.dumps(given.options, sort_keys=True)
    return outline(given.architecture, given.encoder, more, PARAMETERS[preset][0], cosine)


@pytest.mark.parametrize("preset", PARAMETERS)
def test_networks_have_the_parts_and_sizes_of_the_papers(preset):
    outputs, *counts = PARAMETERS[preset]
    folder = preset.partition("/")[0]
    network = outlined(preset)
    with torch.device("meta"):
        parts = network.encoder, network.decoder, network.classifier
        assert [sum(p.numel() for p in part.parameters()) for part in parts] == counts
        sizes = CANVASES[f"{folder}_fpn" if preset.endswith("_fpn") else folder]
        for size, canvas in sizes.items():
            scores, features, found = network.features(torch.empty(2, 3, *size))
            assert found == canvas
            stride = {"equal": 8, "madbal": 8 if "mobilenet_v2" not in preset else 4}.get(folder, 4)
            grid = tuple(-(-side // stride) for side in canvas)
            if folder == "als4gan":  # Caffe's pooling rounds up
                grid = tuple(side // 8 + 1 for side in canvas)
            assert scores.shape == (2, outputs, *grid)
            assert features.shape[2:] == scores.shape[2:]


@pytest.mark.parametrize("preset", TOTALS)
def test_networks_have_as_many_parameters_as_theirs(preset):
    outputs, *counts = PARAMETERS[preset]
    total, _, theirs = TOTALS[preset]
    if theirs is not None:
        counts[-1] = counts[-1] // outputs * theirs
    found = sum(counts)
    assert total == (found if total > 1e6 else pytest.approx(found / 1e6, abs=0.005))


#: Height and width of images of a data set as it is distributed; of VOC, most of them.
FILES = {**SIZES, "voc": (375, 500), "ucmerced": (256, 256), "deepglobe": (2448, 2448)}


def evaluated_at(made: Options) -> tuple[int, int]:
    """Size of the images that a preset evaluates."""
    data = made.values["data"]
    if data.get("centre"):
        return data["centre"], data["centre"]
    if data.get("size"):
        return tuple(data["size"])
    height, width = FILES[made.choices["data"]]
    return round(height * data.get("scale", 1)), round(width * data.get("scale", 1))


def row_of_numbers(preset: str) -> str:
    """The row of a preset in the table of docs/papers.md."""
    outputs, *counts = PARAMETERS[preset]
    made = options(f"preset={ROOT}/experiments/{preset}.yaml", "data.root=somewhere")
    size = evaluated_at(made)
    canvas = outlined(preset).canvas(*size)
    total, source, theirs = TOTALS.get(preset, (0, "not given", None))
    claim = f"{total:,}" if total > 1e6 else f"{total} M" if total else ""
    claim += f" with {theirs} outputs" if theirs else ""
    cells = [
        *(f"`{preset}`", str(outputs), *(f"{count:,}" for count in counts)),
        *(f"{sum(counts):,}", claim, source, "{} x {}".format(*size)),
        "the same" if canvas == size else "{} x {}".format(*canvas),
    ]
    return f"| {' | '.join(cells)} |"


def test_the_table_of_numbers_is_that_of_the_networks():
    """Of every preset of a paper, in docs/papers.md."""
    papers = [p for p in PRESETS if p.split("/")[1] not in ("aerial", "camvid", "cli")]
    names = [p.removeprefix("experiments/").removesuffix(".yaml") for p in papers]
    assert sorted(names) == sorted(PARAMETERS), "a preset without its numbers"
    text = (ROOT / "docs" / "papers.md").read_text()
    for preset in PARAMETERS:
        assert row_of_numbers(preset) in text.splitlines(), row_of_numbers(preset)


def test_every_preset_of_a_paper_has_a_claim():
    """The table of claims and sources in experiments/README.md, whose names may hold stars."""
    table = (ROOT / "experiments" / "README.md").read_text().partition("what the papers claim")[2]
    rows = re.findall(
        r"^\| (.+?) \| (.+?) \| (.+?) \| (.+?) \|$", table.partition("\n## ")[0], re.M
    )
    named = [name for row in rows[1:] for name in re.findall(r"`([\w/*]+)`", row[0])]
    patterns = []
    for name in named:  # `_12` after `als4gan/ucmerced` is `als4gan/ucmerced_12`
        patterns.append(name if "/" in name else f"{patterns[-1]}{name}")
    for preset in PARAMETERS:
        assert any(fnmatchcase(preset, pattern) for pattern in patterns), preset
    for pattern in patterns:
        assert any(fnmatchcase(preset, pattern) for preset in PARAMETERS), pattern


@pytest.mark.parametrize("folder", ["adaptive_superpixel", "classbal"])
def test_asp_trains_as_deeplab_does(folder):
    """Decay, rates and batch norms of section 3, all the way from the preset."""
    made = options(f"preset={ROOT}/experiments/{folder}/cityscapes.yaml", "data.root=somewhere")
    recipe = made.components["method"].recipe()
    assert (recipe.decay_kernels_only, recipe.bias_factor, recipe.floor) == (True, 2, 0)
    assert recipe.rate(recipe_end := 60_000, recipe_end, 0.007) == 0
    with torch.device("meta"):
        network = replace(made.components["network"], weights=None).build(19)
    for part, eps in ((network.encoder, 1e-3), (network.decoder, 1e-5)):
        norms = [m for m in part.modules() if isinstance(m, torch.nn.BatchNorm2d)]
        assert {(norm.momentum, norm.eps) for norm in norms} == {(3e-4, eps)}
    built = made.components["augment"].build(ToyImages(1))
    assert (built.scale_step, built.pad_position, built.pad_value) == (0.25, "top_left", None)


@pytest.mark.parametrize("preset", of("pixelpick"))
def test_pixelpick_counts_epochs_and_pixels_by_the_images(preset):
    made = composed_from(preset)
    method, images = made.components["method"], IMAGES[made.choices["data"]]
    epoch = math.ceil(images / method.batch_size)
    assert method.epoch_steps == epoch
    assert method.steps == 50 * epoch
    assert made.components["budget"].amount == 10 * images
    assert (method.keep, method.score_with) == ("best", "last")
    recipe = method.recipe()
    rates = [recipe.rate(n * epoch - back, method.steps, 1.0) for n in (20, 40) for back in (1, 0)]
    if made.choices["data"] == "camvid":
        assert rates == pytest.approx([1, 0.1, 0.1, 0.01])
    else:
        assert rates[-1] == pytest.approx(0.2**0.9)


def test_networks_take_their_options():
    networks = {}
    for preset in PRESETS:
        network = composed_from(preset).components["network"]
        key = network.architecture, network.encoder, str(network.options)
        networks[key] = replace(network, weights=None)
    assert len(networks) >= 6
    for network in networks.values():
        built = network.build(3, cosine=True)
        dropouts = [m.p for m in built.modules() if type(m).__name__ == "Dropout"]
        asked = network.options.get("decoder_aspp_dropout")
        assert asked is None or asked in dropouts
        rates = network.options.get("decoder_atrous_rates")
        dilations = {m.dilation[0] for m in built.decoder.modules() if hasattr(m, "dilation")}
        assert rates is None or dilations >= set(rates)


@pytest.mark.parametrize(
    ("preset", "masks", "first", "rounds"),
    [
        ("ucmerced_2", 34, 3, 12),
        ("ucmerced", 84, 42, 3),
        ("ucmerced_12", 210, 105, 3),
        ("deepglobe", 13, 1, 13),
        ("deepglobe_5", 33, 3, 11),
        ("deepglobe_12", 81, 8, 11),
    ],
)
def test_als4gan_asks_as_often_as_the_paper(preset, masks, first, rounds):
    """E2 to E4, on the pools of train and val together; results are on test."""
    made = options(f"preset={ROOT}/experiments/als4gan/{preset}.yaml", "data.root=somewhere")
    data, method = made.components["data"], made.components["method"]
    assert (data.val_in_pool, data.evaluate) == (True, "test")
    pool = {"ucmerced": 1680, "deepglobe": 642}[made.choices["data"]]
    wanted = learner.num_masks(pool, method.ratio)
    initial = learner.num_initial(wanted, method.alpha)
    per_round = learner.num_per_round(initial, method.beta)
    assert (wanted, initial, learner.num_rounds(wanted, per_round)) == (masks, first, rounds)
    assert method.classifier_augment() == {"scale": (0.5, 1.6), "scale_step": 0.1, "flip": 0.5}
    table = (ROOT / "experiments" / "README.md").read_text()
    (line,) = [row for row in table.splitlines() if f"(als4gan/{preset}.yaml)" in row]
    assert f"| {rounds + 2} |" in line, "the first images, the rounds, and the masks"

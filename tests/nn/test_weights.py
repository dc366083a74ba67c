import logging

import pytest
import torch
from safetensors.torch import save_file

from alseg.core.errors import UserError
from alseg.nn.segmenter import build_segmenter
from alseg.nn.weights import (
    PACKAGES,
    cached_weights,
    first_layer,
    fit,
    packaged_weights,
    prefixes,
    read_weights,
    strip_prefix,
    timm_names,
    unwrapped,
)

LITE = "tu-tf_efficientnet_lite0"


def lite(weights, **options):
    shape = {"encoder_depth": 2, "decoder_channels": [8, 8]}
    return build_segmenter("Unet", LITE, weights, 3, options=shape, **options)


def tensors(*names, shape=(2,)):
    return {name: torch.full(shape, float(value)) for value, name in enumerate(names, start=1)}


@pytest.mark.parametrize("keys", [(), ("state_dict",), ("model_state_dict",), ("model", "module")])
def test_wrappers_come_off(keys):
    state = content = tensors("conv.weight")
    for key in reversed(keys):
        content = {"epoch": 3, key: content}
    assert unwrapped(content) == state


@pytest.mark.parametrize("content", [torch.zeros(1), {"epoch": 3}, {"model": {"lr": 0.1}}, [1]])
def test_no_tensors_by_name(content, tmp_path):
    assert unwrapped(content) == {}
    torch.save(content, tmp_path / "w.pt")
    with pytest.raises(UserError, match=r"w\.pt holds no tensors by name; network\.weights takes"):
        read_weights(tmp_path / "w.pt")


def test_chains_of_prefixes():
    names = ["module.model.conv.weight", "module.head.bias", "encoding.weight"]
    assert prefixes(names) == ["", "module.", "module.model."]


@pytest.mark.parametrize("theirs", ["", "module.", "model.", "module.encoder.model.", "network."])
@pytest.mark.parametrize("ours", ["", "model."])
def test_prefixes_on_either_side(theirs, ours):
    names = ["conv.weight", "conv.bias"]
    own = tensors(*(ours + name for name in names))
    state = tensors(*(theirs + name for name in names), "head.weight")
    found = fit(state, own)
    assert {name: float(value[0]) for name, value in found.found.items()} == {
        f"{ours}conv.weight": 1.0,
        f"{ours}conv.bias": 2.0,
    }
    assert (found.count, found.needed, found.lacks) == (2, 2, "")


def test_what_is_missing_is_named():
    own = tensors("a.weight", "b.weight", "c.weight", "d.weight", "e.weight")
    own |= {"a.num_batches_tracked": torch.tensor(0)}
    state = tensors("a.weight") | tensors("b.weight", shape=(3,))
    found = fit(state, own)
    assert list(found.found) == ["a.weight"]
    assert found.missing == ["c.weight", "d.weight", "e.weight"]
    assert found.reshaped == ["b.weight"]
    assert (found.count, found.needed) == (1, 5)
    assert found.lacks == "c.weight, d.weight, e.weight and 1 more"
    part = found.part("b.")
    assert (part.count, part.needed, part.lacks) == (0, 1, "b.weight (another shape)")


def test_the_prefix_under_which_most_is_known():
    state = tensors("module.conv1.weight", "module.conv2.weight", "conv1.bias")
    bare = strip_prefix(state, {"conv1.weight", "conv2.weight", "conv1.bias"}.__contains__)
    assert {name: float(value[0]) for name, value in bare.items()} == {
        "conv1.weight": 1.0,
        "conv2.weight": 2.0,
    }


def test_stages_that_timm_cuts_out():
    own = tensors("model.stages_0.blocks.0.weight", "model.stem_1.bias")
    found = fit(tensors("stem.1.bias", "stages.0.blocks.0.weight"), own)
    assert found.found["model.stem_1.bias"][0] == 1
    assert found.found["model.stages_0.blocks.0.weight"][0] == 2


@pytest.mark.parametrize(
    ("channels", "values"), [(1, [6.0]), (2, [1.5, 3.0]), (6, [0.5, 1.0, 1.5, 0.5, 1.0, 1.5])]
)
def test_a_first_layer_for_other_channels(channels, values):
    weight = torch.tensor([1.0, 2.0, 3.0]).reshape(1, 3, 1, 1)
    own = {"conv.weight": torch.zeros(1, channels, 1, 1)}
    assert fit({"conv.weight": weight}, own).found["conv.weight"].flatten().tolist() == values
    assert fit({"conv.weight": weight.repeat(2, 1, 1, 1)}, own).reshaped == ["conv.weight"]
    assert fit({"conv.weight": weight[:, :2]}, own).reshaped == (["conv.weight"] * (channels != 2))


def test_efficientnet_pytorchs_names():
    theirs = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.running_mean": "bn1.running_mean",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.0._bn1.bias": "blocks.0.0.bn1.bias",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.0._bn2.bias": "blocks.0.0.bn2.bias",
        "_blocks.1._expand_conv.weight": "blocks.1.0.conv_pw.weight",
        "_blocks.1._bn0.bias": "blocks.1.0.bn1.bias",
        "_blocks.1._depthwise_conv.weight": "blocks.1.0.conv_dw.weight",
        "_blocks.1._bn1.bias": "blocks.1.0.bn2.bias",
        "_blocks.2._expand_conv.weight": "blocks.1.1.conv_pw.weight",
        "_blocks.2._project_conv.weight": "blocks.1.1.conv_pwl.weight",
        "_blocks.2._bn2.bias": "blocks.1.1.bn3.bias",
        "_conv_head.weight": "conv_head.weight",
        "_bn1.weight": "bn2.weight",
        "_fc.bias": "classifier.bias",
    }
    state = tensors(*theirs)
    own = [f"model.{name}" for name in theirs.values()]
    named = timm_names(state | tensors("_blocks.3._bn2.bias", "_swish.weight"), own)
    assert {name: float(value[0]) for name, value in named.items()} == {
        theirs[name]: float(value[0]) for name, value in state.items()
    }


def maker_names(state):
    """timm's EfficientNet-Lite0, the inner part of an encoder, in efficientnet-pytorch's names."""
    blocks = sorted({tuple(map(int, n.split(".")[1:3])) for n in state if n.startswith("blocks.")})
    named = {}
    for name, value in state.items():
        layer, _, rest = name.rpartition(".")
        if not name.startswith("blocks."):
            named[{"conv_stem": "_conv_stem", "bn1": "_bn0"}[layer] + f".{rest}"] = value
            continue
        _, stage, block, layer = layer.split(".")
        names = (
            {"conv_dw": "depthwise_conv", "bn1": "bn1", "conv_pw": "project_conv", "bn2": "bn2"}
            if (stage, block) == ("0", "0")
            else {"conv_pw": "expand_conv", "bn1": "bn0", "conv_dw": "depthwise_conv",
                  "bn2": "bn1", "conv_pwl": "project_conv", "bn3": "bn2"}
        )  # fmt: skip
        number = blocks.index((int(stage), int(block)))
        named[f"_blocks.{number}._{names[layer]}.{rest}"] = value
    return named


@pytest.fixture(scope="module")
def source():
    """An encoder with weights unlike any start, and its tensors in timm's names."""
    torch.manual_seed(5)
    encoder = lite(None).encoder
    for module in encoder.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.running_var, 0.5, 1.5)
            torch.nn.init.normal_(module.running_mean)
    timm = {name.removeprefix("model."): value for name, value in encoder.state_dict().items()}
    return encoder.eval(), timm


def assert_same(network, source):
    own = network.encoder.state_dict()
    for name, value in source.state_dict().items():
        assert torch.equal(own[name], value), name
    images = torch.randn(1, 3, 32, 32)
    with torch.inference_mode():
        for ours, theirs in zip(network.encoder.eval()(images), source(images), strict=True):
            assert torch.equal(ours, theirs)


@pytest.mark.parametrize("form", ["timm", "safetensors", "module", "maker", "smp"])
def test_a_file_as_its_makers_ship_it(form, source, tmp_path, caplog):
    encoder, timm = source
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pt")
    if form == "safetensors":
        save_file({name: value.clone() for name, value in timm.items()}, path)
    else:
        torch.save({
            "timm": timm | {"classifier.bias": torch.zeros(1000)},
            "module": {"epoch": 1, "model_state_dict": {f"module.{n}": v for n, v in timm.items()}},
            "maker": maker_names(timm) | {"_fc.bias": torch.zeros(1000)},
            "smp": {"state_dict": {f"encoder.{n}": v for n, v in encoder.state_dict().items()}},
        }[form], path)  # fmt: skip
    with caplog.at_level(logging.INFO, "alseg"):
        network = lite(str(path))
    assert_same(network, encoder)
    needed = sum("num_batches" not in name for name in timm)
    assert f"loaded {needed} of the {needed} tensors of the encoder from {path}" in caplog.text
    assert "start at random" not in caplog.text


def test_files_for_bgr(source, tmp_path):
    """An image answers as its mirror image in colour does with the file as it is."""
    torch.save(source[1], tmp_path / "w.pt")
    network = lite(str(tmp_path / "w.pt"), weights_bgr=True).encoder.eval()
    images = torch.randn(2, 3, 32, 32)
    with torch.inference_mode():
        for ours, theirs in zip(network(images)[1:], source[0](images.flip(1))[1:], strict=True):
            torch.testing.assert_close(ours, theirs)
    for weights, channels in [("imagenet", 3), (None, 3), (str(tmp_path / "w.pt"), 1)]:
        with pytest.raises(UserError, match=r"network\.weights_bgr=true is for a file of weights"):
            lite(weights, weights_bgr=True, in_channels=channels)
    with pytest.raises(UserError, match="whose first convolution takes three"):
        first_layer({"bn.weight": torch.zeros(3), "conv.weight": torch.zeros(8, 1, 3, 3)})


def test_older_names_of_torchvisions_densenets(tmp_path):
    source = build_segmenter("Unet", "densenet121", None, 3).encoder
    state = {
        name.replace(".norm1.", ".norm.1.").replace(".conv2.", ".conv.2."): value
        for name, value in source.state_dict().items()
    }
    assert "features.denseblock1.denselayer1.norm.1.weight" in state
    torch.save(state | tensors("classifier.bias"), tmp_path / "w.pth")
    loaded = build_segmenter("Unet", "densenet121", str(tmp_path / "w.pth"), 3).encoder.state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in source.state_dict().items())


def test_part_of_an_encoder_says_what_is_missing(source, tmp_path, caplog):
    _, timm = source
    needed = sum("num_batches" not in name for name in timm)
    most = {name: value for name, value in timm.items() if name != "conv_stem.weight"}
    torch.save(most, tmp_path / "most.pt")
    with caplog.at_level(logging.INFO, "alseg"):
        lite(str(tmp_path / "most.pt"))
    assert f"loaded {needed - 1} of the {needed} tensors" in caplog.text
    assert "has no value for model.conv_stem.weight: they start at random" in caplog.text
    few = {name: value for name, value in timm.items() if name.startswith(("conv_stem", "bn1"))}
    torch.save(few, tmp_path / "few.pt")
    with pytest.raises(UserError, match=rf"few\.pt fits 5 of the {needed} .*: model\.blocks\.0\.0"):
        lite(str(tmp_path / "few.pt"))


@pytest.fixture
def package(tmp_path, monkeypatch, source):
    """A package laid out as those of the index are; importing it would fail."""
    folder = tmp_path / "site" / PACKAGES["tf_efficientnet_lite0"]
    (folder / "models").mkdir(parents=True)
    (folder / "__init__.py").write_text("raise ImportError('only the file is needed')")
    (folder / "models" / ".gitignore").touch()
    file = folder / "models" / "efficientnet-lite0-57934424.pth"
    torch.save(maker_names(source[1]), file)
    monkeypatch.syspath_prepend(str(tmp_path / "site"))
    return file


def test_imagenet_from_a_package(package, source):
    assert packaged_weights(LITE) == packaged_weights(f"{LITE}.in1k") == package
    assert packaged_weights("tu-resnet18") is None
    assert packaged_weights(f"{LITE}.other") is None
    assert_same(lite("imagenet"), source[0])
    grey = lite("imagenet", in_channels=1).encoder.state_dict()["model.conv_stem.weight"]
    assert torch.equal(grey, source[1]["conv_stem.weight"].sum(1, keepdim=True))


def test_imagenet_from_the_hubs_cache(monkeypatch, tmp_path):
    file, asked = tmp_path / "pytorch_model.bin", []

    def cache(repository, filename, revision=None):
        asked.append((repository, filename))
        return str(file) if filename == file.name else None

    monkeypatch.setattr("huggingface_hub.try_to_load_from_cache", cache)
    source = build_segmenter("Unet", "tu-resnet18", None, 3).encoder.eval()
    torch.save(source.model.state_dict(), file)
    assert_same(build_segmenter("Unet", "tu-resnet18", "imagenet", 3), source)
    repository = "timm/resnet18.a1_in1k"
    assert asked == [(repository, "model.safetensors"), (repository, "pytorch_model.bin")]
    assert cached_weights("resnet18") is None
    assert asked[2:] == [("smp-hub/resnet18.imagenet", "model.safetensors")]


@pytest.mark.parametrize(
    ("encoder", "package"),
    [
        (LITE, r"ways: pip install 'alseg\[weights\]'; copy"),
        (
            "resnet18",
            r"ways: pip install 'alseg\[weights\]' and choose one of network\.encoder=tu-",
        ),
    ],
)
def test_no_hub(encoder, package, monkeypatch):
    def offline(*args, **kwargs):
        raise OSError("no route to the hub")

    monkeypatch.setattr("alseg.nn.segmenter.packaged_weights", lambda encoder: None)
    monkeypatch.setattr("alseg.nn.segmenter.cached_weights", lambda encoder: None)
    monkeypatch.setattr("alseg.nn.hub.unreachable", lambda url: None)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.TimmUniversalEncoder", offline)
    monkeypatch.setattr("segmentation_models_pytorch.encoders.hf_hub_download", offline)
    with pytest.raises(UserError, match=f"no route to the hub.* {package}.*HF_HOME.*=PATH"):
        build_segmenter("FPN", encoder, "imagenet", 3)

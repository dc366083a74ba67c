import argparse
import logging
import pickle
import zipfile

import pytest
import timm
import torch
import torchvision
from safetensors.torch import save_file
from segmentation_models_pytorch.encoders import get_encoder

from alseg.core.errors import UserError
from alseg.nn.segmenter import build_segmenter
from alseg.nn.sources import PACKAGES, cached_weights, packaged_weights
from alseg.nn.weights import (
    first_layer,
    fit,
    further_block,
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


NO_CHECKPOINT = "it is no checkpoint of torch or safetensors"
ONLY_TENSORS = "and only tensors, numbers and text are read"


def write_unreadable(kind, path):
    if kind in ("namespace", "module", "cut"):
        content = {"namespace": {"w": torch.zeros(2), "args": argparse.Namespace(lr=0.1)}}
        content |= {"module": torch.nn.Linear(2, 2), "cut": {"w": torch.zeros(2)}}
        torch.save(content[kind], path)
        path.write_bytes(path.read_bytes()[: 100 if kind == "cut" else None])
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("notes.txt", "weights are elsewhere")
    else:
        texts = {"text": b"hello", "page": b"<html>", "empty": b"", "text.safetensors": b"hello"}
        path.write_bytes(texts.get(kind, pickle.dumps({"w": 1}, protocol=4)))


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("namespace", f"it holds argparse.Namespace, {ONLY_TENSORS}"),
        ("module", f"it holds torch.nn.modules.linear.Linear, {ONLY_TENSORS}"),
        ("text", NO_CHECKPOINT),
        ("page", NO_CHECKPOINT),
        ("empty", NO_CHECKPOINT),
        ("pickle", NO_CHECKPOINT),
        ("zip", "file in archive is not in a subdirectory: notes.txt"),
        (
            "cut",
            "PytorchStreamReader failed reading zip archive: failed finding central directory",
        ),
        ("text.safetensors", "Error while deserializing header: header too small"),
    ],
)
def test_why_a_file_cannot_be_read(kind, reason, tmp_path):
    path = tmp_path / kind
    write_unreadable(kind, path)
    with pytest.raises(UserError) as caught:
        read_weights(path)
    assert str(caught.value) == (
        f"cannot read weights from {path} ({reason}); network.weights takes a state dict, as "
        f"torch.save(model.state_dict(), PATH) writes it, or a .safetensors file."
    )


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
    names = {
        "model.stages_0.blocks.0.weight": "stages.0.blocks.0.weight",
        "model.stem_1.bias": "stem.1.bias",
        "model.features_conv0.weight": "features.conv0.weight",
        "model.pre_stem_conv1_2.conv_a.weight": "pre_stem.conv1.2.conv_a.weight",
    }
    found = fit(tensors(*reversed(names.values())), tensors(*names))
    assert [float(found.found[name][0]) for name in names] == [4, 3, 2, 1]
    assert (found.count, found.lacks) == (4, "")


def test_joined_names_that_could_be_two():
    """A name as it is goes before one that is joined, and two of these are none."""
    own = tensors("stem_conv.weight")
    exact = fit(tensors("stem.conv.weight", "stem_conv.weight"), own)
    assert float(exact.found["stem_conv.weight"][0]) == 2
    taken = fit(tensors("stem_conv.weight"), own | tensors("stem.conv.weight"))
    assert (list(taken.found), taken.missing) == (["stem_conv.weight"], ["stem.conv.weight"])
    two = fit(tensors("stem.conv_1.weight", "stem_conv.1.weight"), tensors("stem_conv_1.weight"))
    assert two.missing == ["stem_conv_1.weight"]


@pytest.mark.parametrize("name", ["densenet121", "resnetv2_50", "legacy_xception"])
def test_timms_files_in_the_encoders_cut_from_its_models(name, tmp_path, caplog):
    model = timm.create_model(name, pretrained=False).state_dict()
    torch.save(model, tmp_path / "w.pt")
    with caplog.at_level(logging.INFO, "alseg"):
        encoder = build_segmenter("FPN", f"tu-{name}", str(tmp_path / "w.pt"), 3).encoder
    own = encoder.state_dict()
    assert "start at random" not in caplog.text
    # layers stand in the same order in both, and what is cut off is at the end
    for tensor, (source, value) in zip(own.values(), model.items(), strict=False):
        assert torch.equal(tensor, value), source


#: Networks of torchvision whose files have the names of an encoder, and others.
TORCHVISION = {
    "resnet18": ["resnet18", "tu-resnet18"],
    "resnext50_32x4d": ["resnext50_32x4d", "tu-resnext50_32x4d"],
    "vgg11": ["vgg11"],
    "vgg11_bn": ["vgg11_bn", "tu-vgg11_bn"],
    "densenet121": ["densenet121", "tu-densenet121"],
    "mobilenet_v2": ["mobilenet_v2"],
}
NOT_TORCHVISION = {
    "mobilenet_v2": "tu-mobilenetv2_100",
    "mobilenet_v3_small": "tu-mobilenetv3_small_100",
    "efficientnet_b0": "efficientnet-b0",
    "convnext_tiny": "tu-convnext_tiny",
    "swin_t": "tu-swin_tiny_patch4_window7_224",
}


def shapes(encoder, depth=5):
    """An encoder's tensors without values."""
    with torch.device("meta"):
        return get_encoder(encoder, weights=None, depth=depth).state_dict()


def torchvision_shapes(name):
    with torch.device("meta"):
        return unwrapped(torchvision.models.get_model(name, weights=None).state_dict())


@pytest.mark.parametrize("depth", [5, 3])
@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvisions_files(name, depth):
    state = torchvision_shapes(name)
    for encoder in TORCHVISION[name]:
        own = shapes(encoder, depth)
        found = fit(state, own)
        assert (found.lacks, found.count) == ("", found.needed), encoder
        assert further_block(state, own) is None


@pytest.mark.parametrize("name", NOT_TORCHVISION)
def test_torchvisions_files_with_other_names(name):
    assert fit(torchvision_shapes(name), shapes(NOT_TORCHVISION[name])).count == 0


def network_of(*blocks):
    """Tensors of a network by the numbers of blocks in its stages, with a stem and a head."""
    state = {"stem.conv.weight": torch.zeros(4, 3, 3, 3), "stem.bn.weight": torch.zeros(4)}
    for stage, count in enumerate(blocks):
        for block in range(count):
            before = 4 * max(stage, 1) if block == 0 else 4 * (stage + 1)
            name = f"layer{stage + 1}.{block}"
            state[f"{name}.conv.weight"] = torch.zeros(4 * (stage + 1), before, 3, 3)
            state[f"{name}.bn.weight"] = torch.zeros(4 * (stage + 1))
            state[f"{name}.bn.num_batches_tracked"] = torch.tensor(0)
    return state


HEAD = {"head.0.weight": torch.zeros(9, 12), "decoder.blocks.3.weight": torch.zeros(9, 9)}


@pytest.mark.parametrize(
    ("theirs", "ours", "block"),
    [
        (network_of(3, 3, 2), network_of(2, 2, 2), "layer1.2"),
        (network_of(2, 5, 2), network_of(2, 3, 2), "layer2.3"),
        (network_of(2, 2, 2), network_of(2, 2, 2), None),
        (network_of(2, 2, 2), network_of(2, 3, 2), None),  # a shallower one is no deeper one
        (network_of(2, 2, 3), network_of(2, 2, 2), None),  # nothing follows, so it may be cut
        (network_of(2, 2, 2), network_of(2, 2), None),  # a whole stage less: cut
        (network_of(2, 2, 2) | HEAD, network_of(2, 2, 2), None),
    ],
)
@pytest.mark.parametrize(("before", "own_before"), [("", ""), ("module.encoder.", "model.")])
def test_blocks_of_deeper_networks(theirs, ours, block, before, own_before):
    state = {f"{before}{name}": value for name, value in theirs.items() if "num_" not in name}
    own = {f"{own_before}{name}": value for name, value in ours.items()}
    assert further_block(state, own) == block


def test_what_is_numbered_like_a_block_and_is_none():
    own = network_of(2, 2, 2)
    another_shape = own | {"layer1.2.conv.weight": torch.zeros(4, 4, 1, 1)}
    assert further_block(another_shape, own) is None
    later = network_of(4, 2, 2)
    gap = {name: value for name, value in later.items() if not name.startswith("layer1.2.")}
    assert further_block(gap, own) is None
    three = network_of(3, 2, 2)
    without = {name: value for name, value in three.items() if not name.startswith("layer1.1.")}
    assert further_block(later, without) is None
    moved = {name.replace("layer1.", "layer1.1"): value for name, value in own.items()}
    more = {name.replace("layer1.", "layer1.1"): v for name, v in network_of(3, 2, 2).items()}
    assert further_block(more, moved) is None
    one_norm = tensors("bn1.weight") | own
    assert further_block(tensors("bn1.weight", "bn2.weight") | own, one_norm) is None


def test_blocks_in_stages_that_timm_cuts_out():
    state = {name.replace("layer", "stages."): value for name, value in network_of(3, 2).items()}
    own = {name.replace("layer", "stages_"): value for name, value in network_of(2, 2).items()}
    assert further_block(state, own) == "stages.1.2"


@pytest.mark.parametrize(
    ("deep", "encoder", "block"),
    [
        ("resnet34", "resnet18", "layer1.2"),
        ("resnet101", "tu-resnet50", "layer3.6"),
        ("se_resnet101", "se_resnet50", "layer3.6"),
        ("tu-tf_efficientnet_lite1", LITE, "model.blocks.1.2"),
        ("tu-convnext_small", "tu-convnext_tiny", "model.stages_2.blocks.9"),
    ],
)
def test_encoders_that_are_shallower(deep, encoder, block):
    own = shapes(encoder)
    assert further_block(shapes(deep), own) == block
    for less in range(3, 5):
        assert further_block(own, shapes(encoder, less)) is None


def test_a_deeper_networks_file(tmp_path):
    deeper = build_segmenter("FPN", "resnet34", None, 3)
    for state in (deeper.state_dict(), deeper.encoder.state_dict()):
        torch.save(state, tmp_path / "w.pt")
        with pytest.raises(UserError, match=r"w\.pt is of a deeper network: it has layer1\.2 "):
            build_segmenter("FPN", "resnet18", str(tmp_path / "w.pt"), 3)


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
    with pytest.raises(
        UserError,
        match=rf"few\.pt fits 5 of the {needed} .*: model\.blocks\.0\.0.*"
        "another network, or another library names the layers",
    ):
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

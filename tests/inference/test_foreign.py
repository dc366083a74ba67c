"""Networks of other code under our names: the same outputs, or a sentence."""

import argparse

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models.segmentation import deeplabv3_resnet50, fcn_resnet50

from alseg.core.errors import UserError
from alseg.inference.foreign import convert, read_state
from alseg.nn.segmenter import build_segmenter

SMALL = {"decoder_channels": 8, "decoder_low_channels": 4, "decoder_atrous_rates": [1, 2, 3]}


def builder(
    architecture="ConfigurableDeepLabV3Plus", cosine=False, options=SMALL, encoder="resnet18"
):
    return lambda outputs: build_segmenter(architecture, encoder, None, outputs, cosine, options)


def filled(build, outputs=4):
    """A network whose every tensor is another."""
    network = build(outputs)
    generator = torch.Generator().manual_seed(5)
    for tensor in network.state_dict().values():
        if tensor.is_floating_point():
            tensor.copy_(torch.rand(tensor.shape, generator=generator) + 0.1)
    return network


def renamed(network, names):
    """The state as other code would have it: beginnings replaced, in another order of the parts."""
    found = {}
    for own, theirs in names.items():
        for name, tensor in network.state_dict().items():
            if name.startswith(f"{own}."):
                found[theirs + name[len(own) :]] = tensor.clone()
    return found


THEIRS = {
    "decoder.low": "classifier.project", "decoder.aspp": "classifier.aspp", "encoder": "backbone",
    "decoder.join": "classifier.classifier.a", "classifier": "classifier.classifier.b",
}  # fmt: skip


def same(one, other):
    mine, theirs = one.state_dict(), other.state_dict()
    return list(mine) == list(theirs) and all(torch.equal(mine[n], theirs[n]) for n in mine)


@pytest.mark.parametrize(
    ("wrapper", "holder"),
    [(None, ""), ("state_dict", "module."), ("model_state_dict", ""), ("model", "module.model.")],
)
def test_a_deeplabv3plus_of_other_names(wrapper, holder, tmp_path):
    network = filled(builder())
    state = {holder + name: tensor for name, tensor in renamed(network, THEIRS).items()}
    content = state if wrapper is None else {"epoch": 3, wrapper: state}
    torch.save(content, tmp_path / "a.tar")
    found, how = convert(tmp_path / "a.tar", builder(), 4)
    assert same(found, network)
    assert any("classifier.classifier -> decoder.join and classifier" in o for o in how.by_order)


def test_a_deep_stem_and_a_cosine_classifier(tmp_path):
    """The stem of other code has other names; a 1 x 1 convolution stands for class weights."""
    build = builder(cosine=True, encoder="tu-resnet26d")
    network = filled(build)
    state = renamed(network, THEIRS)
    stem = {"conv1.0": "conv1", "conv1.1": "bn1", "conv1.3": "conv2", "conv1.4": "bn2",
            "conv1.6": "conv3", "bn1": "bn3"}  # fmt: skip
    other = {}
    for name, tensor in state.items():
        name = name.replace("backbone.model.", "backbone.")
        for ours, theirs in stem.items():
            if name.startswith(f"backbone.{ours}."):
                name = f"backbone.{theirs}" + name[len(f"backbone.{ours}") :]
                break
        other[name] = tensor
    last = "classifier.classifier.b.weight"
    other[last] = other[last][:, :, None, None]
    torch.save(other, tmp_path / "a.pth")
    found, how = convert(tmp_path / "a.pth", build, 4)
    assert same(found, network)
    assert "backbone -> encoder" in how.by_order


def test_numbers_beside_the_weights_are_no_code(tmp_path):
    network = filled(builder())
    beside = {"best": np.float64(0.5), "score": np.float32(0.25), "step": 7}
    torch.save({"model": renamed(network, THEIRS), **beside}, tmp_path / "a.pth")
    assert same(convert(tmp_path / "a.pth", builder(), 4)[0], network)


def test_code_is_refused(tmp_path):
    there = tmp_path / "there"

    class Runs:
        def __reduce__(self):
            return (open, (str(there), "w"))

    for beside in (Runs(), argparse.Namespace(lr=1), nn.Conv2d(1, 1, 1)):
        torch.save({"model": {"w": torch.zeros(1)}, "options": beside}, tmp_path / "a.pth")
        with pytest.raises(UserError, match=r"cannot read weights from .*nothing that may be code"):
            read_state(tmp_path / "a.pth")
    assert not there.exists()
    torch.save({"epoch": 3}, tmp_path / "a.pth")
    with pytest.raises(UserError, match="holds no tensors by name"):
        read_state(tmp_path / "a.pth")
    (tmp_path / "a.pth").write_bytes(b"no checkpoint")
    with pytest.raises(UserError, match="cannot read weights from"):
        read_state(tmp_path / "a.pth")


def test_what_is_left_over_is_told(tmp_path):
    network, path = filled(builder()), tmp_path / "a.pth"
    state = renamed(network, THEIRS)

    def told(words, state=state, classes=4, **more):
        torch.save(state, path)
        with pytest.raises(UserError, match=words):
            convert(path, builder(), classes, **more)

    support = {"loss_pred.0.weight": torch.zeros(2, 3)}
    told(r"loss_pred\.0\.weight \(2, 3\) belongs to no part", {**state, **support})
    torch.save({**state, **support}, path)
    found, how = convert(path, builder(), 4, unused=["*loss_pred*"])
    assert same(found, network)
    assert how.unused[-1] == "loss_pred.0.weight"
    less = dict(state)
    del less["backbone.layer4.1.bn2.bias"]
    told("stands where encoder.layer4.1.bn2.bias|backbone has", less)
    wrong = {**state, "backbone.conv1.weight": torch.zeros(9, 3, 7, 7)}
    told(r"backbone\.conv1\.weight \(9, 3, 7, 7\) stands where encoder\.conv1\.weight", wrong)
    told("does not fit 5 classes .*its classifier has 4 outputs", classes=5)
    told("has none of the names that are known", {"a.weight": torch.zeros(2, 2)})
    table = {"backbone": ["encoder"], "classifier": ["decoder.aspp", "classifier"]}
    told("by the table that was given: ", table=table)


def test_outputs_in_another_order(tmp_path):
    """Void first there, last here; or an output that is no class left out."""
    network, path = filled(builder()), tmp_path / "a.pth"
    torch.save(renamed(network, THEIRS), path)
    found, _ = convert(path, builder(), 3, outputs=[1, 2, 3, 0])
    weight = network.classifier.conv.weight
    assert torch.equal(found.classifier.conv.weight, weight[[1, 2, 3, 0]])
    found, _ = convert(path, builder(), 3, outputs=[1, 2, 3])
    assert torch.equal(found.classifier.conv.bias, network.classifier.conv.bias[1:])
    with pytest.raises(UserError, match="its classifier has 4 outputs"):
        convert(path, builder(), 3, outputs=[1, 2, 4])


def test_classifiers_that_are_added_are_reordered_together(tmp_path):
    """DeepLabv2, whose 18 outputs for UC Merced begin with one that is no class."""
    build = builder("DeepLabV2", options={})
    network, path = build(4), tmp_path / "a.pth"
    torch.save(renamed(network, {"encoder": "base", "classifier": "base.aspp"}), path)
    found, how = convert(path, build, 3, outputs=[1, 2, 3])
    assert not how.by_order
    for number in range(4):
        for kind in ("weight", "bias"):
            theirs = network.state_dict()[f"classifier.c{number}.{kind}"]
            assert torch.equal(found.state_dict()[f"classifier.c{number}.{kind}"], theirs[1:])
    images = torch.rand(1, 3, 33, 33)
    with torch.no_grad():
        torch.testing.assert_close(found.eval()(images), network.eval()(images)[:, 1:])


def test_a_table_of_ones_own(tmp_path):
    network, path = filled(builder()), tmp_path / "a.safetensors"
    from safetensors.torch import save_file

    state = renamed(network, {"encoder": "trunk", "decoder": "neck", "classifier": "last.0"})
    save_file(state, path)
    table = {"trunk": ["encoder"], "neck": ["decoder"], "last.0": ["classifier"]}
    found, _ = convert(path, builder(), 4, table)
    for name, tensor in network.state_dict().items():
        if "num_batches" not in name:
            assert torch.equal(found.state_dict()[name], tensor), name


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "architecture", "options"),
    [
        (deeplabv3_resnet50, "DeepLabV3",
         {"encoder_output_stride": 8, "decoder_aspp_separable": False,
          "decoder_atrous_rates": [12, 24, 36], "decoder_aspp_dropout": 0.5}),
        (fcn_resnet50, "FCN", {}),
    ],
)  # fmt: skip
def test_torchvisions_networks_compute_the_same(make, architecture, options, tmp_path):
    torch.manual_seed(0)
    theirs = make(weights=None, weights_backbone=None, num_classes=12, aux_loss=True).eval()
    for module in theirs.modules():  # statistics of their own, so that one out of place is seen
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.normal_(std=0.1)
            module.running_var.uniform_(0.5, 1.5)
    torch.save({"state_dict": theirs.state_dict()}, tmp_path / "a.pth")
    build = builder(architecture, options=options, encoder="tu-resnet50.tv_in1k")
    found, how = convert(tmp_path / "a.pth", build, 12)
    assert any(name.startswith("aux_classifier") for name in how.unused)
    images = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(
            found.eval()(images), theirs(images)["out"], atol=1e-4, rtol=1e-4
        )

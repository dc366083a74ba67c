import pytest
import segmentation_models_pytorch as smp
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from alseg.core.errors import UserError
from alseg.nn.deeplabv2 import (
    TRUNKS,
    CaffeResNet,
    LastFeatures,
    Stage,
    SummedClassifier,
    deeplab_groups,
    dilated_stages,
)
from alseg.nn.segmenter import CosineClassifier, Segmenter, build_segmenter, rebuild_segmenter
from alseg.nn.taps import stage_taps, tap_shapes

SMALL = (Stage(2, 8, 1, 1), Stage(1, 16, 2, 1), Stage(2, 16, 1, 2), Stage(1, 24, 1, 4))
NARROW = {"width": 4}  # ResNet-50 with a sixteenth of the channels


def small(momentum=1e-3, seed=0):
    torch.manual_seed(seed)
    trunk, head = CaffeResNet(SMALL, 4, momentum), SummedClassifier(24, 5)
    return Segmenter(trunk, LastFeatures(), head, 1, align_corners=True)


def narrow(weights=None, outputs=5, cosine=False, **options):
    return build_segmenter("DeepLabV2", "resnet50", weights, outputs, cosine, NARROW | options)


@pytest.mark.parametrize("size", [(33, 29), (64, 40), (17, 101), (9, 9)])
def test_images_of_any_size_keep_their_corners(size):
    images = torch.randn(2, 3, *size)
    net = small().eval()
    coarse, features, canvas = net.features(images)
    full = net(images)
    assert canvas == size
    assert full.shape == (2, 5, *size)
    assert features.shape == (2, 24, *coarse.shape[2:])
    for y, x in [(0, 0), (0, -1), (-1, 0), (-1, -1)]:
        torch.testing.assert_close(full[..., y, x], coarse[..., y, x])


@pytest.mark.parametrize(
    ("output_stride", "strides", "dilations"),
    [
        (8, [1, 2, 1, 1], [1, 1, 2, 4]),
        (16, [1, 2, 2, 1], [1, 1, 1, 2]),
        (32, [1, 2, 2, 2], [1] * 4),
    ],
)
def test_strides_become_dilations(output_stride, strides, dilations):
    stages = dilated_stages((3, 4, 23, 3), 64, output_stride)
    assert [stage.blocks for stage in stages] == [3, 4, 23, 3]
    assert [stage.channels for stage in stages] == [256, 512, 1024, 2048]
    assert [stage.stride for stage in stages] == strides
    assert [stage.dilation for stage in stages] == dilations
    net = narrow(encoder_output_stride=output_stride)
    assert [shape.stride for shape in tap_shapes(net, ["encoder[-1]"])] == [output_stride]


def test_head_sums_all_rates():
    torch.manual_seed(0)
    head, features = SummedClassifier(3, 2, rates=(1, 2, 5)), torch.randn(1, 3, 8, 9)
    convs = list(head.children())
    assert [conv.dilation for conv in convs] == [(1, 1), (2, 2), (5, 5)]
    parts = [
        F.conv2d(features, c.weight, c.bias, padding=rate, dilation=rate)
        for c, rate in zip(convs, (1, 2, 5), strict=True)
    ]
    scores, same = head(features)
    torch.testing.assert_close(scores, parts[0] + parts[1] + parts[2])
    assert same is features
    weights = torch.cat([conv.weight.flatten() for conv in SummedClassifier(512, 8).children()])
    assert float(weights.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert all(not conv.bias.any() for conv in convs)


@pytest.mark.parametrize("momentum", [None, 1e-3, 0.999])
def test_running_statistics(momentum):
    net = small(momentum)
    bn = net.encoder.layer1.conv1.bn
    assert bn.training == (momentum is not None)
    net.train()
    images = torch.randn(4, 3, 33, 33)
    with torch.no_grad():
        inner = net.encoder.layer1.conv1.conv(images)
        before = net(images)
    mean = inner.mean((0, 2, 3))
    torch.testing.assert_close(bn.running_mean, mean * (momentum or 0.0), rtol=1e-4, atol=1e-7)
    assert bn.training == (momentum is not None)
    net.eval()
    assert torch.equal(net(images), before) == (momentum is None)


def test_normalisation_is_not_trained():
    net = small()
    groups = deeplab_groups(net, 1e-3)
    assert [group["lr"] for group in groups] == [1e-3, 1e-2, 2e-2]
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0.0]
    assert [len(group["params"]) for group in groups[1:]] == [4, 4], "weights and biases"
    optimised = {p for group in groups for p in group["params"]}
    scales = {p for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert optimised | scales == set(net.parameters())
    assert not optimised & scales
    net(torch.randn(2, 3, 33, 33)).sum().backward()
    assert all(p.grad is None for p in scales)
    assert all(p.grad is not None for p in optimised)


@pytest.mark.parametrize(
    ("architecture", "options"),
    [("DeepLabV3Plus", {}), ("Unet", {"encoder_depth": 3, "decoder_channels": [8, 8, 8]})],
)
@pytest.mark.parametrize("cosine", [False, True])
def test_groups_of_other_networks(architecture, options, cosine):
    net = build_segmenter(architecture, "tu-test_resnet", None, 3, cosine, options)
    encoder, weights, biases = (group["params"] for group in deeplab_groups(net, 1.0))
    assert {id(p) for p in encoder} == {id(p) for p in net.encoder.parameters()}
    everything = [id(p) for p in (*encoder, *weights, *biases)]
    assert sorted(everything) == sorted(id(p) for p in net.parameters())
    names = {id(p): name for name, p in net.named_parameters()}
    assert {names[id(p)].rpartition(".")[2] for p in biases} == {"bias"}
    assert {names[id(p)].rpartition(".")[2] for p in weights} == {"weight"}


# In the factory


def test_size_of_the_papers_network():
    with torch.device("meta"):
        net = build_segmenter("deeplabv2", "resnet101", None, 18)
    assert sum(p.numel() for p in net.parameters()) == 43_827_336
    assert net.min_train_images == 1
    assert net.encoder.layer1.conv1.bn.momentum == 1e-3


@pytest.mark.parametrize("encoder", ["tu-test_resnet", "mobilenet_v2"])
def test_on_other_encoders(encoder):
    net = build_segmenter("DeepLabV2", encoder, None, 3, options={"rates": [1, 2]})
    assert net.multiple == 8
    images = torch.randn(1, 3, 41, 32)
    coarse, features, canvas = net.features(images)  # in train mode, with a single image
    assert canvas == (48, 32)
    assert coarse.shape == (1, 3, 6, 4)
    assert features.shape == (1, net.encoder.out_channels[-1], 6, 4)
    net.eval()
    full, coarse = net(images), net.features(images)[0]
    assert full.shape == (1, 3, 41, 32)
    torch.testing.assert_close(full[..., 0, -1], coarse[..., 0, -1])
    learned = [m for m in net.encoder.modules() if isinstance(m, nn.BatchNorm2d)]
    assert all(m.weight.requires_grad and m.momentum == 0.1 for m in learned)


def test_the_cosine_classifier_reads_the_trunk():
    net = narrow(cosine=True).eval()
    assert isinstance(net.classifier, CosineClassifier)
    cosines, features, _ = net.features(torch.randn(1, 3, 33, 33))
    assert cosines.shape == (1, 5, 5, 5)
    assert features.shape == (1, 128, 5, 5)
    assert cosines.abs().max() <= 1 + 1e-6


def test_it_is_built_again_from_its_description():
    net = narrow(rates=[1, 3], bn_momentum=None).eval()
    again = rebuild_segmenter(net.description).eval()
    again.load_state_dict(net.state_dict())
    images = torch.randn(1, 3, 40, 33)
    assert torch.equal(net(images), again(images))
    assert again.encoder.frozen


def test_stages_can_be_tapped():
    net = narrow()
    shapes = tap_shapes(net, [f"encoder[{number}]" for number in range(1, 6)])
    assert [shape.stride for shape in shapes] == [4, 4, 8, 8, 8]
    assert [shape.channels for shape in shapes] == [4, 16, 32, 64, 128]
    assert stage_taps(net, (4, 8)) == ["encoder[2]", "encoder[3]"]


@pytest.mark.parametrize(
    ("encoder", "options", "sentence"),
    [
        ("resnet50", {"rates": []}, r"network.options.rates is \[\]"),
        ("resnet50", {"rates": [6, 0]}, r"network.options.rates is \[6, 0\]"),
        ("resnet50", {"bn_momentum": 2.0}, "network.options.bn_momentum is 2.0"),
        ("resnet50", {"width": 0}, "network.options.width is 0"),
        ("resnet50", {"encoder_output_stride": 4}, "encoder_output_stride is 4; give 8, 16 or 32"),
        ("resnet50", {"momentum": 0.9}, "unknown network.options of DeepLabV2 'momentum'; did you"),
        (
            "mobilenet_v2",
            {"bn_momentum": None},
            "are for network.encoder=resnet50, .* mobilenet_v2",
        ),
        ("tu-test_resnet", {"width": 8}, "leave them out for tu-test_resnet"),
    ],
)
def test_bad_options_get_a_sentence(encoder, options, sentence):
    with pytest.raises(UserError, match=sentence):
        build_segmenter("DeepLabV2", encoder, None, 3, options=options)


# Weights


@pytest.fixture
def thin(monkeypatch):
    """ResNet-50 has one block per stage, and torchvision's widths."""
    monkeypatch.setitem(TRUNKS, "resnet50", (1, 1, 1, 1))

    def build(weights):
        return build_segmenter("DeepLabV2", "resnet50", weights, 5, options={"bn_momentum": None})

    return build


def torchvision_net(seed=1):
    torch.manual_seed(seed)
    net = ResNet(Bottleneck, [1, 1, 1, 1], num_classes=2).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values)
    return net


def assert_filled(net, source):
    """Every tensor of a trunk is that of torchvision's network."""
    compared = 0
    for number in range(1, 5):
        block = net.encoder.get_submodule(f"layer{number + 1}").block1
        theirs = source.get_submodule(f"layer{number}")[0]
        pairs = [
            (block.reduce, theirs.conv1, theirs.bn1),
            (block.conv3x3, theirs.conv2, theirs.bn2),
            (block.increase, theirs.conv3, theirs.bn3),
            (block.shortcut, *theirs.downsample),
        ]
        pairs += [(net.encoder.layer1.conv1, source.conv1, source.bn1)] if number == 1 else []
        for own, conv, bn in pairs:
            assert torch.equal(own.conv.weight, conv.weight)
            for name in ("weight", "bias", "running_mean", "running_var"):
                assert torch.equal(getattr(own.bn, name), getattr(bn, name))
                compared += 1
            compared += 1
    assert compared == 5 * sum(isinstance(m, nn.BatchNorm2d) for m in net.modules()) == 85


def test_weights_of_torchvision(thin, tmp_path):
    """The first stages of both networks do the same, up to what pooling adds at the border."""
    source = torchvision_net()
    older = {n: v for n, v in source.state_dict().items() if "num_batches" not in n}
    for state in (source.state_dict(), older):
        torch.save(state, tmp_path / "w.pth")
        net = thin(str(tmp_path / "w.pth"))
        assert_filled(net, source)
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        theirs = source.maxpool(source.relu(source.bn1(source.conv1(images))))
        theirs, ours = source.layer1(theirs), net.encoder(images)[2]
    assert (theirs.shape[-1], ours.shape[-1]) == (16, 17)
    torch.testing.assert_close(ours[..., :15, :15], theirs[..., :15, :15], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("prefix", ["base.", ""])
def test_weights_of_a_deeplab(thin, tmp_path, prefix):
    source = thin(None)
    names = {"encoder.": prefix, "classifier.": f"{prefix}aspp."}
    state = {}
    for name, value in source.state_dict().items():
        part = name[: name.index(".") + 1]
        state[names[part] + name.removeprefix(part)] = value
    torch.save(state, tmp_path / "w.pth")
    net = thin(str(tmp_path / "w.pth"))
    for name, value in net.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


def test_weights_of_a_checkpoint(tmp_path):
    source = narrow()
    state = {f"network.{name}": value for name, value in source.state_dict().items()}
    torch.save({"state_dict": state}, tmp_path / "w.ckpt")
    net = narrow(str(tmp_path / "w.ckpt"))
    for name, value in net.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])
    other = narrow(str(tmp_path / "w.ckpt"), outputs=3)
    assert torch.equal(other.encoder.layer5.block1.conv3x3.conv.weight, state[
        "network.encoder.layer5.block1.conv3x3.conv.weight"
    ])  # fmt: skip
    assert other.classifier.c0.weight.shape[0] == 3


def test_weights_of_imagenet(thin, monkeypatch):
    source, asked = torchvision_net(), []

    def get_encoder(name, weights):
        asked.append((name, weights))
        return source

    monkeypatch.setattr(smp.encoders, "get_encoder", get_encoder)
    monkeypatch.delattr(source, "fc")  # encoders have none
    assert_filled(thin("imagenet"), source)
    assert asked == [("resnet50", "imagenet")]
    with pytest.raises(UserError, match=r"ImageNet's resnet50 fills 0 of the 85 .*network.weights"):
        narrow("imagenet")

    def offline(name, weights):
        raise OSError("no route to the hub")

    monkeypatch.setattr("alseg.nn.hub.unreachable", lambda url: None)

    monkeypatch.setattr(smp.encoders, "get_encoder", offline)
    with pytest.raises(UserError, match=r"ImageNet weights for 'resnet50' .* no route to the hub"):
        thin("imagenet")


def test_resnet101_is_filled_by_its_own_weights():
    with torch.device("meta"):
        source = ResNet(Bottleneck, [3, 4, 23, 3])
        net = build_segmenter("DeepLabV2", "resnet101", None, 6)
    named = net.encoder.own_names(source.state_dict(), "here")
    assert len(named) == 624
    assert named.keys() == {f"encoder.{name}" for name in net.encoder.state_dict()}


def test_weights_of_another_network_are_refused(thin, tmp_path):
    path = tmp_path / "other.pth"
    torch.save({"layer1.weight": torch.zeros(1)}, path)
    with pytest.raises(UserError, match=r"other\.pth fits 0 of the 85 tensors of this encoder"):
        thin(str(path))
    state = torchvision_net().state_dict()
    del state["layer3.0.conv2.weight"]
    torch.save(state, path)
    with pytest.raises(UserError, match=r"84 of the 85 .*encoder\.layer4\.block1\.conv3x3\.conv"):
        thin(str(path))

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torchvision.models.resnet import Bottleneck, ResNet

from alseg.errors import UserError
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.methods.als4gan.generator import (
    CaffeResNet,
    DeepLabV2,
    Stage,
    SummedHead,
    deeplab_resnet101,
)
from alseg.methods.als4gan.weights import load_weights

SMALL = (Stage(2, 8, 1, 1), Stage(1, 16, 2, 1), Stage(2, 16, 1, 2), Stage(1, 24, 1, 4))
# Widths of torchvision's ResNets, one block each.
THIN = (Stage(1, 256, 1, 1), Stage(1, 512, 2, 1), Stage(1, 1024, 1, 2), Stage(1, 2048, 1, 4))


def small(momentum=1e-3, seed=0, stages=SMALL, stem=4):
    torch.manual_seed(seed)
    trunk = CaffeResNet(stages, stem, momentum)
    return DeepLabV2(trunk, SummedHead(trunk.channels, 5))


@pytest.mark.parametrize("size", [(33, 29), (64, 40), (17, 101), (9, 9)])
def test_generator_takes_any_size(size):
    images = torch.randn(2, 3, *size)
    net = small().eval()
    coarse, full = net.coarse(images), net(images)
    assert full.shape == (2, 5, *size)
    corners = [(0, 0), (0, -1), (-1, 0), (-1, -1)]
    for y, x in corners:
        torch.testing.assert_close(full[..., y, x], coarse[..., y, x])


def test_head_sums_all_rates():
    torch.manual_seed(0)
    head, features = SummedHead(3, 2, rates=(1, 2, 5)), torch.randn(1, 3, 8, 9)
    convs = list(head.children())
    assert [conv.dilation for conv in convs] == [(1, 1), (2, 2), (5, 5)]
    parts = [
        F.conv2d(features, c.weight, c.bias, padding=rate, dilation=rate)
        for c, rate in zip(convs, (1, 2, 5), strict=True)
    ]
    torch.testing.assert_close(head(features), parts[0] + parts[1] + parts[2])
    weights = torch.cat([conv.weight.flatten() for conv in SummedHead(512, 8).children()])
    assert float(weights.detach().std()) == pytest.approx(0.01, rel=0.05)
    assert all(not conv.bias.any() for conv in convs)


@pytest.mark.parametrize("momentum", [None, 1e-3, 0.999])
def test_running_statistics(momentum):
    net = small(momentum)
    assert net.trunk.layer1.conv1.bn.training == (momentum is not None)
    net.train()
    bn = net.trunk.layer1.conv1.bn
    images = torch.randn(4, 3, 33, 33)
    with torch.no_grad():
        inner = net.trunk.layer1.conv1.conv(images)
        before = net(images)
    mean = inner.mean((0, 2, 3))
    torch.testing.assert_close(bn.running_mean, mean * (momentum or 0.0), rtol=1e-4, atol=1e-7)
    assert bn.training == (momentum is not None)
    net.eval()
    assert torch.equal(net(images), before) == (momentum is None)


def test_normalisation_is_not_trained():
    net = small()
    groups = net.parameter_groups(1e-3)
    assert [group["lr"] for group in groups] == [1e-3, 1e-2, 2e-2]
    assert [group["weight_decay"] for group in groups] == [5e-4, 5e-4, 0.0]
    optimised = {p for group in groups for p in group["params"]}
    scales = {p for m in net.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters()}
    assert optimised | scales == set(net.parameters())
    assert not optimised & scales
    net(torch.randn(2, 3, 33, 33)).sum().backward()
    assert all(p.grad is None for p in scales)
    assert all(p.grad is not None for p in optimised)


@pytest.mark.parametrize("size", [(16, 16), (31, 50), (256, 256), (335, 320)])
def test_discriminator_takes_any_size(size):
    torch.manual_seed(0)
    net = Discriminator(4, width=3).eval()
    maps = torch.randn(2, 7, *size)
    scores, features = net(maps)
    assert scores.shape == (2,)
    assert features.shape == (2, 24)
    for conv in (net.conv1, net.conv2, net.conv3, net.conv4):
        maps = F.leaky_relu(conv(maps), 0.2)
    torch.testing.assert_close(features, maps.flatten(2).mean(2))
    if size == (335, 320):  # where the reference's window of 20 x 20 values fits
        torch.testing.assert_close(features, F.avg_pool2d(maps, 20)[..., 0, 0])
    torch.testing.assert_close(scores, torch.sigmoid(net.fc(features))[:, 0])


@pytest.mark.parametrize(("classes", "parameters"), [(18, 2_775_489), (6, 2_763_201)])
def test_size_of_the_discriminator(classes, parameters):
    with torch.device("meta"):
        net = Discriminator(classes)
    assert sum(p.numel() for p in net.parameters()) == parameters


def test_dropout_takes_whole_channels_before_the_last_convolution():
    torch.manual_seed(0)
    net = Discriminator(2, width=4).train()
    seen = []
    net.dropout.register_forward_hook(lambda module, given, out: seen.append((given[0], out)))
    net(torch.randn(3, 5, 64, 64))
    assert [out.shape[1] for _, out in seen] == [4, 8, 16]
    for given, out in seen:
        kept = out.abs().sum((2, 3)) > 0
        torch.testing.assert_close(out, 2 * given * kept[..., None, None])
    assert 0 < sum(int((out.abs().sum((2, 3)) > 0).sum()) for _, out in seen) < 3 * 28


# Weights


def torchvision_net(seed=1):
    torch.manual_seed(seed)
    net = ResNet(Bottleneck, [1, 1, 1, 1]).eval()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.weight, module.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
            for values in (module.bias, module.running_mean):
                nn.init.normal_(values)
    return net


def test_weights_of_torchvision():
    """The first stages of both networks do the same, up to what pooling adds at the border."""
    source, net = torchvision_net(), small(None, stages=THIN, stem=64)
    head = {name: value.clone() for name, value in net.head.state_dict().items()}
    assert load_weights(net, source.state_dict(), "here") == len(net.trunk.state_dict())
    images = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        theirs = source.maxpool(source.relu(source.bn1(source.conv1(images))))
        theirs = source.layer1(theirs)
        ours = net.trunk.layer2(net.trunk.layer1(images))
    assert (theirs.shape[-1], ours.shape[-1]) == (16, 17)
    torch.testing.assert_close(ours[..., :15, :15], theirs[..., :15, :15], rtol=1e-4, atol=1e-4)
    for stage in ("2", "3", "4"):
        block = net.trunk.get_submodule(f"layer{int(stage) + 1}").block1
        other = source.get_submodule(f"layer{stage}")[0]
        for mine, his in (("reduce", "1"), ("conv3x3", "2"), ("increase", "3")):
            assert torch.equal(
                block.get_submodule(mine).conv.weight, other.get_submodule(f"conv{his}").weight
            )
            assert torch.equal(
                block.get_submodule(mine).bn.running_var,
                other.get_submodule(f"bn{his}").running_var,
            )
        assert torch.equal(block.shortcut.conv.weight, other.downsample[0].weight)
        assert torch.equal(block.shortcut.bn.bias, other.downsample[1].bias)
    for name, value in net.head.state_dict().items():
        assert torch.equal(value, head[name])


def test_weights_of_a_deeplab():
    source, net = small(seed=1), small(seed=2)
    names = {"trunk.": "base.", "head.": "base.aspp."}
    state = {}
    for name, value in source.state_dict().items():
        for own, theirs in names.items():
            if name.startswith(own):
                state[theirs + name.removeprefix(own)] = value
    assert load_weights(net, state, "here") == len(state)
    for name, value in net.state_dict().items():
        assert torch.equal(value, source.state_dict()[name])


def test_resnet101_is_filled_by_its_own_weights():
    with torch.device("meta"):
        source, net = ResNet(Bottleneck, [3, 4, 23, 3]), deeplab_resnet101(6)
    assert load_weights(net, source.state_dict(), "here") == 624


def test_weights_of_another_network_are_refused():
    net = small(stages=THIN, stem=64)
    state = torchvision_net().state_dict()
    with pytest.raises(UserError, match=r"other\.pth fills 0 of the 85 tensors .*trunk\.layer1"):
        load_weights(net, {"layer1.weight": torch.zeros(1)}, "other.pth")
    del state["layer3.0.conv2.weight"]
    with pytest.raises(UserError, match=r"84 of the 85 .*trunk\.layer4\.block1\.conv3x3\.conv"):
        load_weights(net, state, "other.pth")
    older = {n: v for n, v in torchvision_net().state_dict().items() if "num_batches" not in n}
    assert load_weights(net, older, "other.pth") == 85

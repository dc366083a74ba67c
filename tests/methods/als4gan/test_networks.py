import pytest
import torch
import torch.nn.functional as F

from alseg.methods.als4gan.classifier import build_classifier
from alseg.methods.als4gan.discriminator import Discriminator
from alseg.nn.sources import packaged_weights


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


def test_the_classifier_starts_from_weights_of_a_package():
    file = packaged_weights("tu-tf_efficientnet_lite0")
    if file is None:
        pytest.skip("alseg[weights] is not installed")
    state = torch.load(file, map_location="cpu", weights_only=True)
    backbone, last = build_classifier("tu-tf_efficientnet_lite0", "imagenet", 4)
    found = backbone.state_dict()
    for theirs, ours in (("_conv_stem", "conv_stem"), ("_conv_head", "conv_head")):
        assert torch.equal(found[f"{ours}.weight"], state[f"{theirs}.weight"])
    assert torch.equal(found["classifier.bias"], state["_fc.bias"])
    assert last.out_features == 4

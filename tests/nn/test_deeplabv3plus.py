"""The DeepLabv3+ whose parts can be chosen, against counts and a slow one written out."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from alseg.core.errors import UserError
from alseg.nn.deeplabv3plus import Resize
from alseg.nn.segmenter import build_segmenter, rebuild_segmenter
from alseg.nn.taps import tap_shapes

NAME = "ConfigurableDeepLabV3Plus"
SMALL = {"decoder_channels": 8, "decoder_low_channels": 4, "decoder_atrous_rates": [1, 2]}
MADBAL = {
    "encoder_without": ["features.18"],
    "decoder_aspp_separable": False,
    "decoder_aspp_dropout": 0.5,
    "decoder_separable": False,
    "decoder_dropouts": [0, 0.2],
    "align_corners": True,
    "padding": "none",
}


def small(encoder="resnet18", outputs=3, cosine=False, **options):
    torch.manual_seed(0)
    return build_segmenter(NAME, encoder, None, outputs, cosine, SMALL | options)


def settled(network):
    """With running statistics of one batch, so that batch norms do something."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
            nn.init.uniform_(layer.weight, 0.7, 1.3)
            nn.init.normal_(layer.bias, std=0.1)
    with torch.no_grad():
        network.train()(torch.randn(4, 3, 64, 96))
    return network.eval()


def parts(network):
    return [
        sum(p.numel() for p in part.parameters())
        for part in (network.encoder, network.decoder, network.classifier)
    ]


def by_hand(network, images, aligned, canvas):
    """The same scores, layer by layer, from the tensors of the network alone."""
    state = network.state_dict()

    def norm(x, name, eps=1e-5):
        mean, var = state[f"{name}.running_mean"], state[f"{name}.running_var"]
        scale = state[f"{name}.weight"] / (var + eps).sqrt()
        shift = state[f"{name}.bias"] - mean * scale
        return F.relu(x * scale[None, :, None, None] + shift[None, :, None, None])

    def conv(x, name, dilation=1, groups=1):
        weight = state[f"{name}.weight"]
        pad = dilation * (weight.shape[-1] // 2)
        return F.conv2d(x, weight, padding=pad, dilation=dilation, groups=groups)

    def block(x, name, dilation=1):
        count = len([key for key in state if key.startswith(f"{name}.") and "weight" in key])
        if count == 4:  # depthwise, its norm, 1 x 1, norm
            x = norm(conv(x, f"{name}.0", dilation, x.shape[1]), f"{name}.1")
            return norm(conv(x, f"{name}.3"), f"{name}.4")
        if count == 3:
            x = conv(conv(x, f"{name}.0", dilation, x.shape[1]), f"{name}.1")
            return norm(x, f"{name}.2")
        return norm(conv(x, f"{name}.0", dilation), f"{name}.1")

    features = network.encoder(images)
    high, low = features[-1], features[2]
    rates = network.description["options"]["decoder_atrous_rates"]
    aspp = "decoder.aspp.branches"
    found = [block(high, f"{aspp}.0")]
    found += [block(high, f"{aspp}.{n}", rate) for n, rate in enumerate(rates, start=1)]
    last = len(rates) + 1
    pooled = conv(high.mean(dim=(2, 3), keepdim=True), f"{aspp}.{last}.1")
    found.append(norm(pooled, f"{aspp}.{last}.2").expand_as(found[0]))
    context = block(torch.cat(found, dim=1), "decoder.aspp.project")
    beside = block(low, "decoder.low")
    context = F.interpolate(context, beside.shape[2:], mode="bilinear", align_corners=aligned)
    x = torch.cat([context, beside], dim=1)
    # the convolutions after the join stand in one row of layers
    layers = list(network.decoder.join)
    for index, layer in enumerate(layers):
        if isinstance(layer, nn.Conv2d):
            groups = x.shape[1] if layer.groups > 1 else 1
            x = conv(x, f"decoder.join.{index}", groups=groups)
        elif isinstance(layer, nn.BatchNorm2d):
            x = norm(x, f"decoder.join.{index}")
    scores = F.conv2d(x, state["classifier.conv.weight"], state["classifier.conv.bias"])
    return F.interpolate(scores, canvas, mode="bilinear", align_corners=aligned)


@pytest.mark.parametrize(
    ("options", "aligned", "size"),
    [
        ({"padding": "none"}, False, (65, 50)),
        ({"padding": "none", "align_corners": True, "decoder_separable": False}, True, (64, 81)),
        (
            {"decoder_inner_norm": True, "align_corners": True, "padding": "one_more"},
            True,
            (65, 81),
        ),
        ({"decoder_aspp_separable": False, "decoder_convs": 3}, False, (64, 80)),
    ],
)
def test_scores_are_those_written_out(options, aligned, size):
    network = settled(small(**options))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        scores, expected = network(images), by_hand(network, images, aligned, size)
    assert expected.std() > 0.01
    torch.testing.assert_close(scores, expected, rtol=1e-4, atol=1e-4)


def test_parameters_of_madbal_and_of_the_other_papers():
    """5.82 M is the count of MADBAL's MobileNetV2; the others have none to compare with."""
    with torch.device("meta"):
        network = build_segmenter(NAME, "mobilenet_v2", None, 19, options=MADBAL)
        counts = parts(network)
        # ASPP of 320 channels: 1 x 1 twice, three of 3 x 3, the projection, six norms
        aspp = 2 * 320 * 256 + 3 * 9 * 320 * 256 + 5 * 256 * 256 + 6 * 512
        join = 24 * 48 + 96 + 9 * 304 * 256 + 512 + 9 * 256 * 256 + 512
        assert counts == [1_811_712, aspp + join, 257 * 19]
        assert round(sum(counts) / 1e6, 2) == 5.82
        assert network.encoder.out_channels[-1] == 320
        for encoder, count in (("tu-resnet50s", 23_631_808), ("tu-resnet101s", 42_623_936)):
            counts = parts(build_segmenter(NAME, encoder, None, 20, cosine=True))
            assert counts == [count, 3_169_296, 20 * 256]
        xception = {"decoder_inner_norm": True}
        network = build_segmenter(NAME, "tu-xception65.tf_in1k", None, 19, options=xception)
        inner = 2 * (3 * 2048 + 304 + 256)  # scale and shift of the norms between
        assert parts(network) == [37_867_312, 3_169_296 + inner, 257 * 19]


@pytest.mark.parametrize(
    ("padding", "size", "canvas", "grid"),
    [
        ("none", (513, 513), (513, 513), (129, 129)),
        ("none", (768, 768), (768, 768), (192, 192)),
        ("one_more", (513, 513), (513, 513), (129, 129)),
        ("one_more", (769, 769), (769, 769), (193, 193)),
        ("one_more", (1024, 2048), (1025, 2049), (257, 513)),
        ("multiple", (513, 513), (528, 528), (132, 132)),
    ],
)
def test_what_images_are_padded_to(padding, size, canvas, grid):
    with torch.device("meta"):
        network = small(padding=padding)
        scores, features, found = network.features(torch.empty(2, 3, *size))
        assert found == canvas
        assert scores.shape == (2, 3, *grid)
        assert features.shape == (2, 8, *grid)
        assert network(torch.empty(2, 3, *size)).shape == (2, 3, *size)


def test_aligned_corners_with_one_more_pixel_put_every_cell_on_a_pixel():
    ramp = torch.arange(5.0)[None, None, None].expand(1, 1, 5, 5)
    large = Resize(align_corners=True)(ramp, (17, 17))
    torch.testing.assert_close(large[0, 0, 0], torch.arange(17) / 4)


def test_norms_and_the_first_weights():
    network = small(
        bn_momentum=3e-4, encoder_bn_eps=1e-3, decoder_bn_eps=1e-4, classifier_std=0.01, outputs=99
    )
    for part, eps in ((network.encoder, 1e-3), (network.decoder, 1e-4)):
        norms = [m for m in part.modules() if isinstance(m, nn.BatchNorm2d)]
        assert {(norm.momentum, norm.eps) for norm in norms} == {(3e-4, eps)}
    weight = network.classifier.conv.weight.detach()
    assert 0.006 < weight.std() < 0.0105
    assert weight.abs().max() <= 0.02
    assert not network.classifier.conv.bias.any()
    plain = small()
    assert {m.momentum for m in plain.modules() if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert plain.classifier.conv.bias.any()


def test_dropouts_stand_where_they_are_asked_for():
    network = small(decoder_dropouts=[0, 0.2], decoder_aspp_dropout=0.5)
    assert [m.p for m in network.decoder.aspp.modules() if isinstance(m, nn.Dropout)] == [0.5]
    assert isinstance(network.decoder.join[-1], nn.Dropout)
    assert [m.p for m in network.decoder.join if isinstance(m, nn.Dropout)] == [0.2]


def test_a_shorter_encoder_and_another_stage_to_join():
    network = small("mobilenet_v2", encoder_without=["features.18"], decoder_low_stage=3)
    low, features = tap_shapes(network, ["decoder.low", "decoder"])
    assert (low.stride, features.stride) == (8, 8)
    assert "encoder.features.18.0.weight" not in network.state_dict()
    assert tap_shapes(network, ["encoder[-1]"])[0].channels == 320


@pytest.mark.parametrize("cosine", [False, True])
def test_is_built_again_from_its_description(cosine):
    options = {"encoder_without": ["features.18"], "padding": "one_more", "align_corners": True}
    network = settled(small("mobilenet_v2", cosine=cosine, **options))
    again = rebuild_segmenter(network.description)
    again.load_state_dict(network.state_dict())
    images = torch.randn(1, 3, 50, 60)
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(images), network(images), rtol=0, atol=0)


def test_weights_of_a_file_reach_a_shorter_encoder(tmp_path):
    whole = small("mobilenet_v2")
    torch.save(whole.encoder.state_dict(), tmp_path / "w.pt")
    options = SMALL | {"encoder_without": ["features.18"]}
    network = build_segmenter(NAME, "mobilenet_v2", str(tmp_path / "w.pt"), 2, options=options)
    for name, value in network.encoder.state_dict().items():
        torch.testing.assert_close(value, whole.encoder.state_dict()[name], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"padding": "reflect"}, "unknown network.options.padding 'reflect'"),
        ({"decoder_atrous_rates": [0]}, r"decoder_atrous_rates is \[0\]; give dilations"),
        ({"decoder_convs": 0}, "decoder_convs is 0; give at least 1"),
        ({"decoder_dropouts": [0.5]}, "has 1 rates for 2 convolutions"),
        ({"decoder_dropouts": [0.5, 1]}, "at least 0 and below 1"),
        ({"decoder_low_stage": 5}, "decoder_low_stage is 5; this encoder has the stages 1 to 5"),
        ({"encoder_without": ["layer9"]}, "unknown module .* 'layer9'; did you mean 'layer"),
        ({"encoder_without": ["layer3"]}, "does not fit together; leave out modules at its end"),
    ],
)
def test_options_out_of_range(options, sentence):
    with pytest.raises(UserError, match=sentence):
        small(**options)

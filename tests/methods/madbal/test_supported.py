import copy

import pytest
import torch
from segmentation_models_pytorch.decoders.deeplabv3.decoder import DeepLabV3Decoder
from torch import nn
from torchvision.models import mobilenet_v3_large

from alseg.core.errors import UserError
from alseg.methods.madbal.depths import DEPTHS, depth_taps
from alseg.methods.madbal.supported import Supported
from alseg.nn.segmenter import build_segmenter, upsample
from alseg.nn.taps import tap_shapes, taps

LARGE = "tu-mobilenetv3_large_100"
PAPER = {
    "mobilenet_v2": ("DeepLabV3Plus", "mobilenet_v2"),
    "mobilenet_v3": ("LRASPP", LARGE),
    "resnet50": ("DeepLabV3", "resnet50"),
}
#: The MobileNetV2 whose head is the reference's.
FULL = {
    "padding": "none",
    "encoder_without": ["features.18"],
    "decoder_separable": False,
    "decoder_aspp_separable": False,
}
# Small ones, one for each way of wiring.
SMALL = {
    "plus": ("DeepLabV3Plus", "mobilenet_v2", {"decoder_channels": 16}),
    "full": ("ConfigurableDeepLabV3Plus", "mobilenet_v2", FULL | {"decoder_channels": 16}),
    "lraspp": ("LRASPP", "tu-mobilenetv3_small_050", {}),
    "deeplab": ("DeepLabV3", "resnet18", {"decoder_channels": 16}),
    "unet": ("Unet", "resnet18", {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}),
}


def supported(kind, num_classes=4, seed=0, cosine=False, **options):
    torch.manual_seed(seed)
    architecture, encoder, network_options = SMALL[kind]
    network = build_segmenter(
        architecture, encoder, None, num_classes, cosine=cosine, options=network_options
    )
    one_batch_statistics(network, torch.randn(2, 3, 64, 64))
    return Supported(network, num_classes, hidden_channels=8, **options)


def one_batch_statistics(network, images):
    """Let a batch set the batch norms: random weights alone let features vanish on the way."""
    for layer in network.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum = None
    with torch.no_grad():
        network.train()(images)
    network.eval()


def loss(outputs):
    """Something that depends on all outputs of the support modules."""
    parts = *outputs.auxiliary, outputs.hard_logits
    return sum((part**2).mean() for part in parts)


def count(module):
    return sum(p.numel() for p in module.parameters())


@pytest.mark.parametrize(
    ("kind", "shapes", "parameters"),
    [
        # The reference has 3 010 278: its depth head is two full convolutions of 3 x 3, 304 to 256
        # to 256 channels, 1 291 264 parameters with their norms; the network's own is separable.
        ("mobilenet_v2", [(24, 4), (64, 16), (96, 16)], 3_010_278 - 1_291_264 + 81_072),
        # The reference has 5 995 329: its LR-ASPP has two classifiers with a bias each.
        ("mobilenet_v3", [(40, 8), (112, 16), (160, 16)], 5_995_329 - 3),
        ("resnet50", [(256, 4), (512, 8), (1024, 8)], 29_155_070),
    ],
)
def test_the_networks_of_the_paper(kind, shapes, parameters):
    architecture, encoder = PAPER[kind]
    with torch.device("meta"):
        network = build_segmenter(architecture, encoder, None, 19)
        assert tap_shapes(network, depth_taps(network)) == shapes
        assert count(Supported(network, 19).support) == parameters


def test_the_mobilenet_of_the_paper():
    """The counts of the reference, to the last parameter of the support modules."""
    with torch.device("meta"):
        network = build_segmenter(
            "ConfigurableDeepLabV3Plus", "mobilenet_v2", None, 19, options=FULL
        )
        assert tap_shapes(network, depth_taps(network)) == [(24, 4), (64, 16), (96, 16)]
        assert count(network) == 5_815_539
        assert count(Supported(network, 19).support) == 3_010_278


def test_depths_are_the_blocks_of_torchvision():
    """timm's encoder computes what torchvision's does, once two constants are the same."""
    torch.manual_seed(0)
    images = torch.randn(2, 3, 64, 64)
    theirs = mobilenet_v3_large(weights=None, dilated=True).features
    one_batch_statistics(theirs, images)
    network = build_segmenter("LRASPP", LARGE + ".ra_in1k", None, 2).eval()
    with torch.no_grad():
        states = network.encoder.state_dict().values(), theirs.state_dict().values()
        for own, other in zip(*states, strict=True):
            own.copy_(other)
    for layer in network.encoder.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps = 1e-3
    first = network.encoder.model.blocks[5][0].conv_dw
    first.dilation, first.padding = (2, 2), (4, 4)

    names = depth_taps(network)
    assert tuple(names) == DEPTHS[LARGE]
    found = {}
    with torch.no_grad(), taps(network, [*names, "encoder[-1]"]) as read:
        network(images)
        x = images
        for index, block in enumerate(theirs):
            found[index] = x = block(x)
    for name, index in zip((*names, "encoder[-1]"), (6, 11, 14, 16), strict=True):
        assert found[index].std() > 0.1
        torch.testing.assert_close(read[name], found[index], rtol=0, atol=1e-4)


def test_depths_of_a_shortened_encoder():
    network = build_segmenter(
        "Unet", "mobilenet_v2", None, 2, options={"encoder_depth": 3, "decoder_channels": [8] * 3}
    )
    assert depth_taps(network) == ["encoder[1]", "encoder[2]", "encoder[3]"]
    options = {"encoder_depth": 2, "decoder_channels": [8, 8]}
    with pytest.raises(UserError, match="three depths, but the encoder has 2 stages"):
        Supported(build_segmenter("Unet", "resnet18", None, 2, options=options), 2)


@pytest.fixture(scope="module", params=SMALL)
def model(request):
    return supported(request.param)


@pytest.mark.parametrize("size", [(37, 50), (33, 64)])
def test_outputs_of_any_size(model, size):
    model.eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        scores, support = model(images)
        assert scores.std() > 0.01
        torch.testing.assert_close(scores, model.network(images))
        maps = model.maps(images)
    assert [tuple(x.shape) for x in support.auxiliary] == [(2, 4, *size)] * 3
    assert support.hard_logits.shape == (2, 2, *size)
    torch.testing.assert_close(support.depth_weights.sum(1), torch.ones(2, *size))
    coarse = maps.support.hard_logits
    assert coarse.shape[2] < size[0]
    full = upsample(coarse, maps.canvas)[..., : size[0], : size[1]]
    torch.testing.assert_close(support.hard_logits, full)


def test_only_the_support_modules_learn(model):
    model.train()
    assert not any(p.requires_grad for p in model.network.parameters())
    assert all(p.requires_grad for p in model.support.parameters())
    frozen = {name: value.clone() for name, value in model.network.state_dict().items()}
    for _ in range(2):
        scores, support = model(torch.randn(2, 3, 48, 48))
        assert not scores.requires_grad
        loss(support).backward()
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, frozen[name]), name
    assert all(p.grad is None for p in model.network.parameters())
    missing = [name for name, p in model.support.named_parameters() if p.grad is None]
    assert not missing
    norms = [m for m in model.support.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms
    assert all(norm.running_mean.any() for norm in norms)


def test_a_second_head_is_not_the_first(model):
    own = {p.data_ptr() for p in model.network.parameters()}
    assert not own & {p.data_ptr() for p in model.support.parameters()}
    trained = copy.deepcopy(model.network)
    for layer in trained.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(7)
    again = Supported(trained, 4, hidden_channels=8)  # of a network that is frozen already
    assert all(p.requires_grad for p in again.support.parameters())
    for layer in again.support.modules():
        if isinstance(layer, nn.BatchNorm2d):
            assert not layer.running_mean.any()
            assert layer.training


def test_frozen_dropout():
    images = torch.randn(2, 3, 48, 48)
    for frozen_dropout in (False, True):
        model = supported("plus", frozen_dropout=frozen_dropout).train()
        dropouts = [m for m in model.network.modules() if isinstance(m, nn.Dropout)]
        assert dropouts
        with torch.no_grad():
            assert torch.equal(model(images)[0], model(images)[0]) != frozen_dropout
            model.eval()
            assert torch.equal(model(images)[0], model(images)[0])
        model.train()
        norms = [m for m in model.network.modules() if isinstance(m, nn.BatchNorm2d)]
        assert not any(m.training for m in norms)


def test_state_round_trip():
    one, other = (supported("lraspp", seed=seed).eval() for seed in (1, 2))
    images = torch.randn(1, 3, 48, 48)
    with torch.no_grad():
        expected = one(images)
        assert not torch.equal(other(images)[0], expected[0])
        other.load_state_dict(one.state_dict())
        got = other(images)
    torch.testing.assert_close(got, expected, rtol=0, atol=0)


def test_widths_and_cosine_networks():
    model = supported("unet", num_classes=7, cosine=True, reduced_channels=5)
    assert model.support.detector[0].in_channels == 7 + 5
    assert model.support.reduce.out_channels == 5
    assert model(torch.randn(2, 3, 24, 24))[0].shape == (2, 7, 24, 24)


def test_images_needed_to_train(model):
    # a DeepLabv3+ pools in the part that is frozen
    pooled = isinstance(model.network.decoder, DeepLabV3Decoder)
    assert model.min_train_images == (2 if pooled else 1)

import pickle
import threading

import pytest
import torch
from torch import nn

from alseg.core.errors import UserError
from alseg.nn.segmenter import build_segmenter
from alseg.nn.taps import stage_taps, tap_shapes, tapped, taps

SMALL = {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}
NAMES = ["encoder.layer1", "encoder[-1]", "decoder", "classifier[0]", "encoder"]


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(0)
    return build_segmenter("Unet", "resnet18", None, 4, options=SMALL).eval()


def hooks(network):
    kinds = "_forward_hooks", "_forward_pre_hooks", "_backward_hooks"
    return sum(len(getattr(module, kind)) for module in network.modules() for kind in kinds)


def test_taps_are_what_the_modules_return(network):
    images = torch.randn(2, 3, 40, 30)
    before = pickle.dumps(network), list(network.state_dict())
    got = tapped(network, images, NAMES)
    scores, features, canvas = network.features(images)
    torch.testing.assert_close(got.scores, scores)
    torch.testing.assert_close(got.features, features)
    assert got.canvas == canvas == (40, 32)

    padded = torch.nn.functional.pad(images, (0, 2, 0, 0), mode="replicate")
    x = network.encoder.maxpool(torch.relu(network.encoder.bn1(network.encoder.conv1(padded))))
    torch.testing.assert_close(got.taps["encoder.layer1"], network.encoder.layer1(x))
    torch.testing.assert_close(got.taps["encoder[-1]"], network.encoder(padded)[-1])
    torch.testing.assert_close(got.taps["decoder"], features)
    assert got.taps["classifier[0]"] is got.scores
    assert [maps.shape[1] for maps in got.taps["encoder"]] == network.encoder.out_channels
    assert (pickle.dumps(network), list(network.state_dict())) == before
    assert hooks(network) == 0


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_taps_carry_a_gradient_where_there_is_one(network, mode):
    with mode():
        read = tapped(network, torch.randn(1, 3, 16, 16), ["encoder.layer1"]).taps
    assert read["encoder.layer1"].requires_grad == (mode is torch.enable_grad)


def test_one_pass_only(network):
    calls = []
    handle = network.encoder.register_forward_hook(lambda *_: calls.append(1))
    try:
        tapped(network, torch.randn(1, 3, 16, 16), NAMES)
    finally:
        handle.remove()
    assert len(calls) == 1


def test_nothing_is_left_after_an_error(network):
    with pytest.raises(RuntimeError):
        tapped(network, torch.randn(1, 5, 16, 16), NAMES)
    assert hooks(network) == 0


@pytest.mark.parametrize("name", ["encoder.layer7", "encoder[x]", "", "encoder[1][2]"])
def test_unknown_names(network, name):
    with pytest.raises(UserError, match="unknown module"):
        tapped(network, torch.randn(1, 3, 16, 16), [name])
    assert hooks(network) == 0


def test_modules_that_run_twice_or_never(network):
    with pytest.raises(ValueError, match=r"'encoder\.layer4' was run 0 times"):
        tapped(network, torch.randn(1, 3, 16, 16), ["encoder.layer4"])  # three stages only
    twice = nn.Sequential(relu := nn.ReLU(), nn.Identity(), relu)
    with pytest.raises(ValueError, match="'0' was run 2 times"), taps(twice, ["0"]):
        twice(torch.ones(1))


def test_other_threads_are_not_heard(network):
    images = torch.randn(1, 3, 16, 16)
    with taps(network, ["decoder"]) as read, torch.no_grad():
        other = threading.Thread(target=network, args=(torch.randn(1, 3, 32, 32),))
        other.start()
        other.join()
        network(images)
    assert read["decoder"].shape[2:] == (16, 16)


@pytest.mark.parametrize("train", [False, True])
def test_shapes_without_computing(network, train):
    network.train(train)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    names = ["encoder.layer1", "encoder[-1]", "decoder"]
    assert tap_shapes(network, names) == [(64, 4), (128, 8), (8, 1)]
    for name, value in network.state_dict().items():
        assert value.device.type == "cpu"
        assert torch.equal(value, state[name]), name
    assert all(module.training == train for module in network.modules())
    network.eval()


@pytest.mark.parametrize(
    ("architecture", "encoder", "options", "stages", "shapes"),
    [
        ("Unet", "resnet18", {}, (2, 3, 4), [(64, 4), (128, 8), (256, 16)]),
        ("Unet", "resnet18", SMALL, (1, 2, 3), [(64, 2), (64, 4), (128, 8)]),
        ("DeepLabV3", "resnet18", {}, (2, 3, 4), [(64, 4), (128, 8), (256, 8)]),  # stride 8
        ("FPN", "mit_b0", {}, (2, 3, 4), [(32, 4), (64, 8), (160, 16)]),  # nothing at 1/2
    ],
)
def test_stages_nearest_to_strides(architecture, encoder, options, stages, shapes):
    network = build_segmenter(architecture, encoder, None, 2, options=options)
    names = stage_taps(network)
    assert names == [f"encoder[{stage}]" for stage in stages]
    assert tap_shapes(network, names) == shapes
    with pytest.raises(ValueError, match=r"the encoder has \d stages, fewer than 6"):
        stage_taps(network, (1, 2, 4, 8, 16, 32))

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from alseg.core.errors import UserError
from alseg.nn.network import Network
from alseg.nn.segmenter import build_segmenter, cosine_logits, rebuild_segmenter, upsample

SMALL = {"encoder_depth": 3, "decoder_channels": [8, 8, 8]}


def small(weights=None, outputs=4, cosine=False):
    return build_segmenter("Unet", "resnet18", weights, outputs, cosine, SMALL)


def test_cosines_are_cosines():
    torch.manual_seed(0)
    features, weight = torch.randn(2, 5, 3, 4), torch.randn(7, 5)
    cosines, unit = cosine_logits(features, weight)
    for b, c, y, x in [(0, 0, 0, 0), (1, 6, 2, 3), (0, 3, 1, 2)]:
        expected = F.cosine_similarity(features[b, :, y, x], weight[c], dim=0)
        assert cosines[b, c, y, x] == pytest.approx(float(expected), abs=1e-6)
    assert torch.allclose(unit.norm(dim=1), torch.ones(2, 3, 4))
    zero, _ = cosine_logits(torch.zeros(1, 5, 1, 1), weight)
    assert torch.equal(zero, torch.zeros_like(zero))


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (64, 33)])
@pytest.mark.parametrize("cosine", [False, True])
def test_images_of_any_size(size, cosine):
    network = small(cosine=cosine).eval()
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        scores = network(images)
        coarse, features, canvas = network.features(images)
    assert scores.shape == (2, 4, *size)
    assert network.multiple == 8  # three stages that halve
    assert canvas == tuple(-(-side // 8) * 8 for side in size)
    assert torch.allclose(upsample(coarse, canvas)[..., : size[0], : size[1]], scores)
    assert features.shape[-2:] == coarse.shape[-2:]
    if cosine:
        assert scores.abs().max() <= 1 + 1e-6
        norm = features.norm(dim=1)  # 0 where the decoder's ReLU left nothing
        assert torch.allclose(norm[norm > 0], torch.ones(()), atol=1e-5)
        assert (norm > 0).any()


def test_two_ways_to_upsample():
    row = torch.tensor([[[[0.0, 4.0]]]])
    assert upsample(row, (1, 5), align_corners=True).flatten().tolist() == [0, 1, 2, 3, 4]
    assert upsample(row, (1, 4)).flatten().tolist() == [0, 1, 3, 4]


def test_padding_does_not_move_the_image():
    """A larger image whose upper left part is the same gives nearly the same there."""
    network = small().eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        padded = network(F.pad(images[..., :50, :50], (0, 6, 0, 6), mode="replicate"))
        assert torch.allclose(network(images[..., :50, :50]), padded[..., :50, :50], atol=1e-5)


def test_head_and_encoder_have_their_own_rates():
    network = small(cosine=True)
    encoder, head = network.parameter_groups(1e-3, 10.0)
    assert encoder["lr"] == 1e-3
    assert head["lr"] == pytest.approx(1e-2)
    grouped = {id(p) for group in (encoder, head) for p in group["params"]}
    assert grouped == {id(p) for p in network.parameters()}
    assert any(p is network.classifier.weight for p in head["params"])


@pytest.mark.parametrize("part", ["encoder", "whole", "prefixed", "safetensors"])
def test_weights_from_a_file(tmp_path, part):
    torch.manual_seed(1)
    source = small()
    path = tmp_path / ("w.safetensors" if part == "safetensors" else "w.pt")
    if part == "safetensors":
        save_file({k: v.clone() for k, v in source.encoder.state_dict().items()}, path)
    elif part == "encoder":
        torch.save(source.encoder.state_dict(), path)
    elif part == "whole":
        torch.save(source.state_dict(), path)
    else:
        state = {f"network.{k}": v for k, v in source.state_dict().items()}
        torch.save({"state_dict": state, "epoch": 3}, path)
    torch.manual_seed(2)
    loaded = small(weights=str(path))
    for name, value in source.encoder.state_dict().items():
        assert torch.equal(loaded.encoder.state_dict()[name], value)
    whole = part in ("whole", "prefixed")
    same = torch.equal(loaded.classifier.conv.weight, source.classifier.conv.weight)
    assert same == whole


def test_a_head_of_another_size_keeps_its_own_start(tmp_path):
    torch.save(small(outputs=9).state_dict(), tmp_path / "w.pt")
    assert small(weights=str(tmp_path / "w.pt"), outputs=4).classifier.conv.out_channels == 4


def test_weights_that_do_not_fit_are_refused(tmp_path):
    other = build_segmenter("Unet", "mobilenet_v2", None, 2, False, SMALL)
    torch.save(other.state_dict(), tmp_path / "w.pt")
    with pytest.raises(UserError, match="belongs to another network"):
        small(weights=str(tmp_path / "w.pt"))
    (tmp_path / "broken.pt").write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"cannot read weights from .*broken\.pt"):
        small(weights=str(tmp_path / "broken.pt"))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"architecture": "DeepLabV3Pluss"}, "unknown architecture 'DeepLabV3Pluss'; did you mean"),
        ({"encoder": "resnet19"}, "unknown encoder 'resnet19'; did you mean 'resnet18'"),
        ({"encoder": "tu-resnet18z"}, "unknown encoder 'tu-resnet18z'; did you mean 'tu-resnet18"),
        ({"weights": "nowhere.pt"}, "no weights file 'nowhere.pt'; give 'imagenet', a path"),
    ],
)
def test_unknown_names_are_answered_with_the_close_ones(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Network(**{"weights": None, **options}).check()


def test_options_an_architecture_does_not_take():
    network = Network("Unet", "resnet18", None, {"decoder_chanels": [8]})
    with pytest.raises(
        UserError, match=r"unknown network.options of Unet .*did you mean .decoder_channels."
    ):
        network.build(3)


@pytest.mark.parametrize(
    ("architecture", "multiple", "least"),
    [("FCN", 8, 1), ("DeepLabV3", 8, 2), ("DeepLabV3Plus", 16, 2), ("FPN", 32, 1)],
)
@pytest.mark.parametrize("encoder", ["resnet18", "mobilenet_v2", "tu-mobilenetv3_small_100"])
def test_sides_are_padded_no_more_than_the_encoder_needs(architecture, multiple, least, encoder):
    network = build_segmenter(architecture, encoder, None, 3)
    assert network.multiple == multiple
    assert network.min_train_images == least
    size = (multiple * 3 + 1, multiple * 5)
    images = torch.randn(least, 3, *size)
    assert network(images).shape == (least, 3, *size)  # in train mode, with this many images
    if least == 2:
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            network(images[:1])


def test_fcn_and_deeplab_have_the_sizes_of_torchvisions():
    """EquAL (arXiv 2008.01860) trains torchvision's networks with 12 and 20 outputs."""
    for architecture, outputs, count in [
        ("FCN", 12, 32_952_396),
        ("FCN", 20, 32_956_500),
        ("DeepLabV3", 12, 39_636_556),
        ("DeepLabV3", 20, 39_638_612),
    ]:
        with torch.device("meta"):
            network = build_segmenter(architecture, "resnet50", None, outputs)
        assert sum(p.numel() for p in network.parameters()) == count


def test_the_dropout_of_an_fcn_is_an_option():
    network = build_segmenter("fcn", "resnet18", None, 3, options={"decoder_dropout": 0.3})
    rates = [m.p for m in network.modules() if isinstance(m, torch.nn.Dropout)]
    assert rates == [0.3]
    with pytest.raises(UserError, match="decoder_dropout"):
        build_segmenter("FCN", "resnet18", None, 3, options={"dropout_rate": 0.3})


@pytest.mark.parametrize("channels", [1, 2, 4, 7])
def test_images_of_other_channels(channels, tmp_path):
    network = Network("Unet", "resnet18", None, SMALL).reading(channels).build(4).eval()
    assert network.description["in_channels"] == channels
    again = rebuild_segmenter(network.description).eval()
    again.load_state_dict(network.state_dict())
    images = torch.randn(1, channels, 20, 24)
    with torch.no_grad():
        assert torch.equal(again(images), network(images))
    torch.save(small().state_dict(), tmp_path / "rgb.pt")
    weights = str(tmp_path / "rgb.pt")
    ours = build_segmenter("Unet", "resnet18", weights, 4, False, SMALL, channels).state_dict()
    theirs = torch.load(tmp_path / "rgb.pt")
    first, found = theirs.pop("encoder.conv1.weight"), ours["encoder.conv1.weight"]
    if channels == 1:
        assert torch.allclose(found, first.sum(dim=1, keepdim=True))
    else:
        for channel in range(channels):
            assert torch.allclose(found[:, channel], first[:, channel % 3] * 3 / channels)
    assert all(torch.equal(ours[name], value) for name, value in theirs.items())


def test_the_trunk_of_deeplabv2_reads_colours():
    with pytest.raises(UserError, match=r"DeepLabV2 with network\.encoder=resnet101 reads red"):
        Network("DeepLabV2", "resnet101", None).reading(4).build(3)
    assert Network("FCN", "resnet18", None).reading(5).build(3).encoder.out_channels[0] == 5

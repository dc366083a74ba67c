import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

from alseg.errors import UserError
from alseg.nn.network import Network
from alseg.nn.segmenter import build_segmenter, cosine_logits, upsample

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
    assert all(side % 32 == 0 and side >= own for side, own in zip(canvas, size, strict=True))
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
        padded = network(F.pad(images[..., :50, :50], (0, 14, 0, 14), mode="replicate"))
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

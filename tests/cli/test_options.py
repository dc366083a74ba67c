from dataclasses import replace

import lightning as L
import numpy as np
import pytest
import torch

from alseg.cli.compose import options
from alseg.cli.options import Augment, TrainerOptions
from alseg.core.errors import UserError
from tests.toys import ToyImages


@pytest.mark.parametrize("strategy", ["auto", "ddp", "ddp_find_unused_parameters_true"])
def test_every_trainer_gets_a_strategy_of_its_own(strategy):
    options = TrainerOptions(accelerator="cpu", devices=2, strategy=strategy)
    one, two = (L.Trainer(**options.keywords(), logger=False) for _ in range(2))
    assert one.strategy is not two.strategy
    assert one.strategy._timeout.total_seconds() == 4 * 3600
    assert one.world_size == 2


def test_a_stages_needs_yield_to_what_the_user_set():
    needs = {"strategy": "ddp_find_unused_parameters_true"}
    made = TrainerOptions(accelerator="cpu", devices=2).keywords(needs)["strategy"]
    assert made._ddp_kwargs == {"find_unused_parameters": True}
    for strategy, searches in (("ddp", False), ("auto", None)):  # None: where a network needs it
        user = TrainerOptions(accelerator="cpu", devices=2, strategy=strategy)
        made = user.keywords()["strategy"]
        assert made._ddp_kwargs == {"find_unused_parameters": searches}
    assert TrainerOptions(accelerator="cpu").keywords(needs)["strategy"] == "auto"
    user = TrainerOptions(accelerator="cpu", devices=2, strategy="ddp_spawn")
    assert user.keywords(needs)["strategy"] == "ddp_spawn"


def test_images_of_several_sizes_need_a_crop():
    class Mixed(ToyImages):
        def size(self, index):
            return (32, 48 + index)

    with pytest.raises(UserError, match=r"3 sizes; give augment\.crop"):
        Augment().build(Mixed(3))
    assert Augment(crop=(16, 16)).build(Mixed(3)).crop == (16, 16)
    assert Augment().build(ToyImages(3)).crop == (32, 48)


def test_nonsense_is_refused():
    for bad in ({"devices": 0}, {"num_nodes": 0}):
        with pytest.raises(UserError, match="give at least 1"):
            TrainerOptions(**bad)
    for bad in ({"crop": (0, 3)}, {"flip": 2.0}, {"scale": (0.0, 1.0)}):
        with pytest.raises(UserError, match="augment"):
            Augment(**bad)


@pytest.mark.parametrize(
    ("bad", "sentence"),
    [
        ({"flip": 2.0}, r"augment\.flip is 2\.0; it is a probability\."),
        ({"pad": "top"}, r"augment\.pad is 'top'; give center or bottom_right\."),
        ({"grayscale": -0.1}, r"augment\.grayscale is -0\.1; it is a probability\."),
        ({"blur": 1.5}, r"augment\.blur is 1\.5; it is a probability\."),
        ({"jitter": (0.1, 0.1, 0.1)}, r"jitter is \[0\.1, 0\.1, 0\.1\]; give \[brightness,"),
        ({"jitter": (0.1, 1.1, 0.1, 0.1)}, r"of 0\.\.1, hue of 0\.\.0\.5\."),
        ({"jitter": (0.1, -0.1, 0.1, 0.1)}, r"of 0\.\.1, hue of 0\.\.0\.5\."),
        ({"jitter": (1.0, 1.0, 1.0, 0.6)}, r"of 0\.\.1, hue of 0\.\.0\.5\."),
        ({"mean": (0.5, 0.5)}, r"augment\.mean is \[0\.5, 0\.5\] .* give as many numbers each"),
        ({"std": (0.5,)}, r"augment\.std \[0\.5\]; give as many numbers each"),
        ({"std": (0.5, 0.0, 0.5)}, r"augment\.std \[0\.5, 0\.0, 0\.5\]; give as many numbers each"),
    ],
)
def test_augmentation_that_cannot_be(bad, sentence):
    with pytest.raises(UserError, match=sentence):
        Augment(**bad)


def test_the_edges_of_what_is_allowed():
    augment = Augment(jitter=(1.0, 1.0, 1.0, 0.5), grayscale=1.0, blur=1.0, flip=0.0)
    built = augment.build(ToyImages(1))
    assert (built.jitter, built.grayscale, built.blur) == ((1.0, 1.0, 1.0, 0.5), 1.0, 1.0)


def test_colours_reach_both_transforms():
    """As the command composes them, where tuples are lists and numbers may be whole."""
    arguments = ("augment.crop=[34,50]", "augment.scale=[1,1]", "augment.flip=0")
    colours = {"mean": [0.2, 0.4, 0.6], "std": [0.5, 1, 2]}
    arguments += tuple(f"augment.{name}={value}" for name, value in colours.items())
    augment, images = options(*arguments).components["augment"], ToyImages(1)
    image = images.image(0)
    expected = (torch.from_numpy(image).movedim(-1, 0) / 255).double()
    mean, std = (torch.tensor(colours[name]).double()[:, None, None] for name in ("mean", "std"))
    expected = (expected - mean) / std

    plain = augment.plain()(image, {})[0].double()
    torch.testing.assert_close(plain, expected, atol=1e-5, rtol=0)

    built = augment.build(images)
    moved = built(image, {"target": np.zeros((32, 48), np.uint8)}, 0)
    torch.testing.assert_close(moved[0][:, 1:-1, 1:-1].double(), expected, atol=1e-5, rtol=0)
    assert built.pad_value == (51, 102, 153)
    edge = moved[0][:, 0]  # of the mean's colour, so 0
    assert edge.abs().max() < 1e-5
    assert (moved[1]["target"][0] == 255).all()


def test_images_that_are_not_normalised():
    augment = Augment(mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
    image = ToyImages(1).image(0)
    unit = torch.from_numpy(image).movedim(-1, 0) / 255
    torch.testing.assert_close(augment.plain()(image, {})[0], unit)
    assert augment.build(ToyImages(1)).pad_value == (0, 0, 0)


@pytest.mark.parametrize(
    ("option", "test"),
    [
        ({"jitter": (0.5, 0.5, 0.5, 0.5)}, lambda a, b: (a != b).any()),
        ({"grayscale": 1.0}, lambda a, b: (b[0] == b[1]).all() and (b[1] == b[2]).all()),
        ({"blur": 1.0}, lambda a, b: b.diff(dim=-1).abs().sum() < a.diff(dim=-1).abs().sum()),
    ],
)
def test_colours_change_as_they_are_asked_to(option, test):
    still = {"scale": (1.0, 1.0), "flip": 0.0, "mean": (0.0,) * 3, "std": (1.0,) * 3}
    image = ToyImages(1).image(0)
    plain = Augment(**still).build(ToyImages(1))(image, {}, 1)[0]
    assert test(plain, Augment(**still, **option).build(ToyImages(1))(image, {}, 1)[0])
    assert not test(plain, plain)


def test_pictures_smaller_than_the_crop_are_padded():
    image = np.full((4, 6, 3), 255, np.uint8)
    maps = {"target": np.ones((4, 6), np.uint8), "inside": np.ones((4, 6), np.uint8)}
    options = {"crop": (8, 10), "scale": (1, 1), "flip": 0.0, "jitter": (0.9, 0.9, 0.9, 0.5)}
    inside = np.zeros((8, 10), bool)
    inside[:4, :6] = True
    mirrored = replace(Augment(**options, pad="bottom_right"), flip=1.0).build(ToyImages(1))
    np.testing.assert_array_equal(mirrored(image, maps, 0)[1]["inside"], inside[:, ::-1])
    for seed in range(5):
        made = Augment(**options, pad="bottom_right").build(ToyImages(1))(image, maps, seed)
        assert (made[0][:, ~inside] == 0).all()
        assert (made[0][:, inside] != 0).any(dim=0).all()
        np.testing.assert_array_equal(made[1]["inside"], inside)
        np.testing.assert_array_equal(made[1]["target"], np.where(inside, 1, 255))
    around = Augment(**options).build(ToyImages(1))(image, maps, 0)
    np.testing.assert_array_equal(around[1]["inside"], np.pad(np.ones((4, 6), int), 2))


@pytest.mark.parametrize("channels", [1, 2, 4, 6])
@pytest.mark.parametrize("pad", ["center", "bottom_right"])
def test_images_of_other_channels(channels, pad):
    rng = np.random.default_rng(channels)
    image = rng.integers(0, 256, (20, 24, channels), dtype=np.uint8)
    images = ToyImages(1, size_=(20, 24))
    object.__setattr__(images, "channels", channels)
    order = np.arange(channels) % 3  # as the first layer of pretrained networks is repeated
    mean, std = np.array([0.485, 0.456, 0.406])[order], np.array([0.229, 0.224, 0.225])[order]
    normal = ((image / 255 - mean) / std).transpose(2, 0, 1)
    whole, _ = Augment().plain(channels)(image, {})
    np.testing.assert_allclose(whole, normal, atol=1e-5)
    augment = Augment(crop=(32, 40), scale=(1, 1), flip=0, pad=pad)
    padded, maps = augment.build(images)(image, {"target": np.zeros((20, 24), np.uint8)}, 3)
    assert padded.shape == (channels, 32, 40)
    inside = maps["target"].numpy() == 0
    np.testing.assert_allclose(padded[:, inside].reshape(normal.shape), normal, atol=1e-5)
    around = padded[:, ~inside]
    expected = 0 if pad == "bottom_right" else (np.round(mean * 255) / 255 - mean) / std
    np.testing.assert_allclose(around, np.broadcast_to(expected, around.T.shape).T, atol=1e-5)
    own = Augment(mean=(0.1,) * channels, std=(0.2,) * channels).plain(channels)
    assert own.mean == (0.1,) * channels
    with pytest.raises(UserError, match=r"augment\.mean .* have 5 numbers each, and the images"):
        Augment(mean=(0.1,) * 5, std=(0.2,) * 5).plain(channels)
    for colors in ({"jitter": (0.1, 0, 0, 0)}, {"grayscale": 0.5}):
        with pytest.raises(UserError, match=rf"change colours, and these images have {channels}"):
            Augment(crop=(8, 8), **colors).build(images)

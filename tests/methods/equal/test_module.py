"""The module of EquAL: the loss on two views of a batch, and the scores of patches."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from alseg.active.driver import buy
from alseg.core.images import VOID
from alseg.data.datamodule import TrainItems
from alseg.nn.network import Network
from tests.methods.equal.runs import (
    COLS,
    METHOD,
    NETWORK,
    ROWS,
    SIDE,
    equal_run,
    module,
    normalised,
    slow_scores,
)


class Views(nn.Module):
    """A convolution that tells left from right; keeps what it was given."""

    def __init__(self, min_train_images=1):
        super().__init__()
        self.min_train_images = min_train_images
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4, momentum=None)
        self.seen = []

    def forward(self, images):
        self.seen.append(images.detach().clone())
        return self.norm(self.conv(images))


def batch(images=2, void=0.5, seed=0):
    random = np.random.default_rng(seed)
    labels = random.integers(0, 3, (images, 4, 6))
    labels[random.random(labels.shape) < void] = VOID
    return {
        "image": torch.from_numpy(random.normal(size=(images, 3, 4, 6)).astype(np.float32)),
        "target": torch.from_numpy(labels),
        "index": torch.arange(images),
    }


def coin(monkeypatch, value):
    monkeypatch.setattr(torch, "rand", lambda *size: torch.tensor(value))


def cross_entropy(outputs, labels):
    logs, terms = normalised(outputs), []
    for b, y, x in np.ndindex(labels.shape):
        if labels[b, y, x] != VOID:
            terms.append(-logs[b, labels[b, y, x], y, x])
    return sum(terms) / len(terms)


@pytest.mark.parametrize(("drawn", "mirrored"), [(0.49, True), (0.5, False)])
@pytest.mark.parametrize("consistency", [True, False])
def test_loss_by_hand(monkeypatch, drawn, mirrored, consistency):
    """F4 to F6 on two calls of the network in train mode; one coin mirrors the whole batch."""
    given, network = batch(), Views()
    coin(monkeypatch, drawn)
    terms = module(network, consistency=consistency).loss(given)
    x, y = given["image"], given["target"].numpy()
    if mirrored:
        x, y = x.flip(-1), y[..., ::-1]
    again = Views()
    again.load_state_dict({**network.state_dict(), **again.norm.state_dict(prefix="norm.")})
    a = again(x)
    expected = cross_entropy(a, y)
    assert torch.equal(network.seen[0], x)
    if consistency:
        b = again(x.flip(-1)).flip(-1)
        square = float(((a - b).detach().double() ** 2).mean())
        expected += cross_entropy(b, y) + 2 * square
        assert float(terms["agreement"].detach()) == pytest.approx(2 * square, rel=1e-5)
        assert square > 1e-3
    assert float(terms["loss"].detach()) == pytest.approx(expected, rel=1e-5)
    assert len(network.seen) == int(network.norm.num_batches_tracked) == (2 if consistency else 1)


def test_both_views_in_one_batch(monkeypatch):
    """The approximation: the statistics are those of both views together."""
    given, network = batch(), Views()
    coin(monkeypatch, 0.9)
    loss = module(network, one_pass=True).loss(given)["loss"]
    assert [len(seen) for seen in network.seen] == [4]
    again = Views()
    again.load_state_dict({**network.state_dict(), **again.norm.state_dict(prefix="norm.")})
    a, b = again(torch.cat([given["image"], given["image"].flip(-1)])).chunk(2)
    b, y = b.flip(-1), given["target"].numpy()
    square = float(((a - b).detach().double() ** 2).mean())
    expected = cross_entropy(a, y) + cross_entropy(b, y) + 2 * square
    assert float(loss.detach()) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("consistency", [True, False])
def test_a_batch_without_a_labelled_pixel(consistency):
    """The cross-entropies are left out; without consistency that teaches nothing."""
    given, made = batch(void=1.1), module(Views(), consistency=consistency)
    terms = made.loss(given)
    terms["loss"].backward()
    gradients = [p.grad for p in made.parameters() if p.grad is not None]
    assert all(torch.isfinite(g).all() for g in gradients)
    assert any(g.any() for g in gradients) == consistency
    assert (float(terms["loss"].detach()) > 0) == consistency
    assert "agreement" not in terms or torch.equal(terms["agreement"], terms["loss"])


@pytest.mark.parametrize(("least", "images", "seen"), [(1, 1, 1), (2, 1, 2), (2, 2, 2), (2, 3, 3)])
def test_a_single_image_is_doubled_where_a_network_cannot_train_on_one(
    monkeypatch, least, images, seen
):
    network = Views(min_train_images=least)
    coin(monkeypatch, 0.9)
    given = batch(images)
    made = module(network)
    loss = made.loss(given)["loss"]
    assert [len(x) for x in network.seen] == [seen, seen]
    assert all(torch.equal(x, network.seen[0][0]) for x in network.seen[0][:seen] if images == 1)
    if (least, images) == (2, 1):  # the mean over two equal images is that over one
        other = Views()
        other.load_state_dict(network.state_dict())
        assert float(module(other).loss(given)["loss"].detach()) == pytest.approx(
            float(loss.detach()), rel=1e-5
        )
    made.eval()
    network.seen.clear()
    made.loss(given)
    assert len(network.seen[0]) == images


def test_deeplab_trains_on_one_image(tmp_path):
    run = equal_run(tmp_path, rounds=1)
    buy(run, 0)
    context = replace(run.context(0), network=Network("DeepLabV3", "tu-test_resnet", None))
    stage = METHOD.stages(context)[0]
    made = stage.module()
    supervision = stage.supervision()
    items = TrainItems(run.splits.train, supervision, run.datamodule.train_transform)
    assert made.network.min_train_images == 2
    made.loss(items[[(0, 0)]])["loss"].backward()
    with pytest.raises(ValueError, match="more than 1 value per channel"):
        made.network(torch.zeros(1, 3, 32, 48))


@pytest.mark.parametrize("consistency", [True, False])
def test_the_score_is_the_entropy_of_both_views(consistency):
    torch.manual_seed(0)
    made = module(NETWORK.build(4), grid=(ROWS, COLS), consistency=consistency).eval()
    images = torch.randn(3, 3, 32, 48)
    with torch.no_grad():
        table = made.predict_step({"image": images, "index": torch.tensor([4, 0, 7])}, 0)["patches"]
        plain = made.network(images)
    assert table["image"].tolist() == [4] * 6 + [0] * 6 + [7] * 6
    assert table["unit"].tolist() == [0, 1, 2, 3, 4, 5] * 3
    assert "void" not in table
    if consistency:
        expected = np.concatenate([slow_scores(made.network, image.numpy()) for image in images])
    else:  # twice the entropy of one view
        logs = normalised(plain)
        entropy = -2 * (np.exp(logs) * logs).sum(axis=1)
        expected = entropy.reshape(3, ROWS, SIDE, COLS, SIDE).mean(axis=(2, 4)).ravel()
    np.testing.assert_allclose(table["score"].numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("void_wins", [True, False])
def test_the_majority_of_patches_whose_truth_is_there(void_wins):
    """Patches: void leads, void is tied with class 1, class 1 leads void, all void."""
    labels = [[VOID] * 3 + [1], [VOID] * 2 + [1] * 2, [VOID] + [1] * 2 + [2], [VOID] * 4]
    target = torch.tensor(labels, dtype=torch.int64).reshape(1, 1, 16).expand(1, 1, 16)
    given = {
        "image": torch.zeros(1, 3, 1, 16),
        "target": target,
        "regions": torch.arange(16).reshape(1, 1, 16) // 4,
        "index": torch.tensor([3]),
    }
    made = module(Views(), grid=(1, 4), void_wins=void_wins).eval()
    with torch.no_grad():
        table = made.predict_step(given, 0)["patches"]
    assert table["void"].tolist() == [True, void_wins, False, True]

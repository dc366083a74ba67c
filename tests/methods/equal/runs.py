"""Runs of EquAL on toy images, and slow forms of its text to hold against them."""

from dataclasses import replace

import numpy as np
import torch

import alseg.active.ledger
from alseg.core.images import VOID, DataSplits
from alseg.core.seeds import derive
from alseg.data.transforms import TrainTransform
from alseg.labels.tables import Answers, Query
from alseg.methods.equal.method import Equal
from alseg.methods.equal.module import TwoViews
from alseg.nn.network import Network
from alseg.nn.recipe import Recipe
from tests.kills import Killed
from tests.toys import toy_run

#: A network of 0.5 million weights, with batch normalisation and dropout.
NETWORK = Network(
    "FPN",
    "tu-test_resnet",
    None,
    {"decoder_pyramid_channels": 32, "decoder_segmentation_channels": 32},
)
#: Patches of the toy images: 2 rows of 3, 16 x 16 pixels each.
ROWS, COLS, SIDE, IMAGES = 2, 3, 16, 6
ROUNDS = 7
METHOD = Equal(
    lr=2e-3,
    milestone_epochs=2,
    evaluate_rounds=False,
    final_epochs=3,
    final_batch_size=4,
    final_drop=1,
)
#: Scores a part of the pool in two rounds out of three.
LAZY = Equal(
    lr=2e-3,
    milestone_epochs=1,
    evaluate_rounds=False,
    final_epochs=0,
    rescore_every=3,
    rescore_patches=3,
    rescore_share=0.5,
)


def equal_run(root, rounds=ROUNDS, amount=1.0, method=METHOD, images=None, **more):
    """A run on images that are not augmented, as the method's defaults ask."""
    run = toy_run(root, rounds=rounds, amount=amount, method=method, network=NETWORK, **more)
    if images is not None:
        run = replace(run, splits=DataSplits(images, run.splits.val))
        run.datamodule.splits = run.splits
    run.datamodule.train_transform = TrainTransform(
        crop=(32, 48), scale=(1.0, 1.0), flip=0.0, pad_maps={"target": VOID, "regions": -1}
    )
    return run


def module(network, **changes):
    settings = {"consistency": True, "one_pass": False, "grid": (1, 1), **changes}
    made = TwoViews(network=network, num_classes=3, steps=10, recipe=Recipe(1e-3), **settings)
    made.log = made.log_dict = lambda *args, **kwargs: None
    return made


def bought_patches(pool, round, units):
    """Commit the answers about some patches, pairs of (image, unit)."""
    image, unit = np.array(units, dtype=np.int64).reshape(-1, 2).T
    masks = tuple(np.zeros(SIDE * SIDE, np.uint8) for _ in image)
    pool.commit(Answers(round, "patch", "mask", "patch", 3, image, unit, masks=masks))


def answers_of(root, round):
    return Answers.load(root / f"round_{round:03d}" / "answers.npz")


def query_of(root, round):
    return Query.load(root / f"round_{round:03d}" / "query.npz")


def checkpoint(root, round, stage="train"):
    path = root / f"round_{round:03d}" / stage / "last.ckpt"
    return torch.load(path, weights_only=True)


def normalised(outputs):
    """Log of the softmax over the first axis but one, in float64."""
    z = outputs.detach().double().numpy()
    z = z - z.max(axis=1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=1, keepdims=True))


def slow_scores(network, image):
    """Section 4.1: the mean over each patch of H(f(x)) + H(flip f(flip x)), row by row."""
    x = torch.from_numpy(image)[None]
    with torch.no_grad():
        views = network(x), network(x.flip(-1)).flip(-1)
    entropy = 0
    for view in views:
        logs = normalised(view)[0]
        entropy = entropy - (np.exp(logs) * logs).sum(axis=0)
    height, width = entropy.shape
    return [
        entropy[y : y + SIDE, x : x + SIDE].mean()
        for y in range(0, height, SIDE)
        for x in range(0, width, SIDE)
    ]


def slow_choice(scores, asked, n, per_image=None, void=()):
    """Section 4.2: a stable ascending sort by global id, turned round, walked down."""
    number = {}
    for image in range(IMAGES):
        for ix in range(COLS):
            for iy in range(ROWS):
                number[len(number)] = (image, iy * COLS + ix)
    taken = []
    for g in sorted(number, key=lambda g: scores[number[g]])[::-1]:
        image, _ = number[g]
        if number[g] in asked or number[g] in void:
            continue
        if per_image is not None and sum(i == image for i, _ in taken) == per_image:
            continue
        if len(taken) < n:
            taken.append(number[g])
    return taken


def fresh(run, round, stage):
    """The network a stage starts from when it starts from scratch."""
    torch.manual_seed(derive(run.seed, round, stage))
    return NETWORK.build(4)


class SlowLoop:
    """Section 3 as one uninterrupted loop in plain PyTorch: one network, one Adam."""

    def __init__(self, root, run):
        self.root, self.run = root, run
        self.labels = {}
        self.smaller = 0

    def learn(self, round):
        """Put the answers of a round where they belong."""
        answers = answers_of(self.root, round)
        for image, unit, mask in zip(answers.image, answers.unit, answers.masks, strict=True):
            y, x = (int(unit) // COLS) * SIDE, (int(unit) % COLS) * SIDE
            known = self.labels.setdefault(int(image), np.full((32, 48), VOID, np.uint8))
            known[y : y + SIDE, x : x + SIDE] = mask.reshape(SIDE, SIDE)

    def images(self):
        return sorted(self.labels)

    def batches(self, key, epoch, size):
        """One pass, shuffled; what is left makes the last batch."""
        images = self.images()
        order = np.random.default_rng(derive(*key, "order", epoch)).permutation(len(images))
        transform = self.run.datamodule.train_transform
        for start in range(0, len(images), size):
            chosen = [images[i] for i in order[start : start + size]]
            self.smaller += len(chosen) < size
            pairs = [
                transform(self.run.splits.train.image(i), {"target": self.labels[i]}, 0)
                for i in chosen
            ]
            x = torch.stack([x for x, _ in pairs])
            yield x, torch.stack([maps["target"] for _, maps in pairs])

    def train(self, learner, optimizer, key, passes, size, rate):
        learner.train()
        for epoch in range(passes):
            torch.manual_seed(derive(*key, "epoch", epoch, 0))
            for group in optimizer.param_groups:
                group["lr"] = rate(epoch)
            for x, y in self.batches(key, epoch, size):
                loss = learner.loss({"image": x, "target": y})["loss"]
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def adam(learner):
    """Adam with weight decay in the gradient, encoder first as in the checkpoints."""
    network = learner.network
    head = [*network.decoder.parameters(), *network.classifier.parameters()]
    groups = [{"params": list(network.encoder.parameters())}, {"params": head}]
    return torch.optim.Adam(groups, lr=METHOD.lr, weight_decay=METHOD.weight_decay)


def check_state(stored, learner, optimizer):
    weights = learner.state_dict()
    assert stored["state_dict"].keys() == weights.keys()
    for name, value in stored["state_dict"].items():
        torch.testing.assert_close(value, weights[name], rtol=1e-6, atol=1e-7)
    (kept,) = stored["optimizer_states"]
    moments = optimizer.state_dict()["state"]
    assert kept["state"].keys() == moments.keys()
    for index, state in kept["state"].items():
        assert state.keys() == {"step", "exp_avg", "exp_avg_sq"}
        for name, value in state.items():
            torch.testing.assert_close(value, moments[index][name], rtol=1e-5, atol=1e-12)


def nth_write(monkeypatch, name):
    """Cut off before a file of this name is written."""
    write = alseg.active.ledger.write_atomic

    def cut(path, content):
        if path.match(name):
            raise Killed
        write(path, content)

    monkeypatch.setattr("alseg.active.ledger.write_atomic", cut)
    monkeypatch.setattr("alseg.labels.tables.write_atomic", cut)


def nth_batch(monkeypatch, folder, batch):
    """Cut off in a batch of the stage that works in this folder."""
    loss = TwoViews.loss

    def cut(self, given):
        trainer = self.trainer
        if trainer.default_root_dir.endswith(folder) and self.global_step == batch:
            raise Killed
        return loss(self, given)

    monkeypatch.setattr(TwoViews, "loss", cut)

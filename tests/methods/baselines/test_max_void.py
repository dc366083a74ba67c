"""Void answers teach a further output, by which pixels that are probably void are asked last."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from alseg.active.driver import drive
from alseg.active.module import EvaluatedModule
from alseg.active.scoring import UnitScorer
from alseg.active.voids import VoidScoringModule, left_for_last, void_cross_entropy
from alseg.core.errors import UserError
from alseg.core.images import VOID, DataSplits
from alseg.labels.supervision import LabelMaps, LabelsAndVoid
from alseg.labels.tables import PIXELS, Answers, Query
from alseg.methods.baselines.pixelpick import PixelPick
from alseg.nn.recipe import Recipe
from tests.methods.baselines.test_baselines import SHORT
from tests.toys import ToyImages, toy_pool, toy_run

C = 3


def test_void_answers_have_a_number_of_their_own():
    _, pool = toy_pool(count=2)
    image, unit = np.array([0, 0, 0, 1]), np.array([5, 7, 49, 2])
    label = np.array([1, VOID, VOID, VOID], dtype=np.uint8)
    unsure = np.array([False, False, True, False])
    pool.commit(Answers(0, "pixel", "class", PIXELS, C, image, unit, label=label, unsure=unsure))
    wanted = np.full((32, 48), VOID)
    assert (LabelMaps(pool)(1).maps["target"] == wanted).all()
    wanted[0, 2] = C
    assert (LabelsAndVoid(pool)(1).maps["target"] == wanted).all()
    wanted = np.full((32, 48), VOID)
    wanted[0, 5], wanted[0, 7], wanted[1, 1] = 1, C, C
    assert (LabelsAndVoid(pool)(0).maps["target"] == wanted).all()
    masks_alone = LabelsAndVoid(pool, kinds=("mask",))
    assert (masks_alone(0).maps["target"] == VOID).all()


def test_the_loss_of_void_against_its_definition():
    rng = np.random.default_rng(0)
    answered = rng.choice([0, 1, 2, C, VOID], (2, 4, 5))
    z = rng.normal(size=answered.shape)
    p = 1 / (1 + np.exp(-z))
    terms = [
        -math.log(chance if said == C else 1 - chance)
        for said, chance in zip(answered.ravel(), p.ravel(), strict=True)
        if said != VOID
    ]
    found = void_cross_entropy(torch.tensor(z), torch.tensor(answered), C)
    assert float(found) == pytest.approx(sum(terms) / len(terms))
    nothing = torch.zeros(1, 2, 2, requires_grad=True)
    loss = void_cross_entropy(nothing, torch.full((1, 2, 2), VOID), C)
    loss.backward()
    assert float(loss) == 0
    assert not nothing.grad.any()


def test_pixels_left_for_last_keep_their_order():
    scores = torch.tensor([0.5, 0.9, 0.2, 0.7])
    void = torch.tensor([0.3, 0.5, 0.1, 0.6]).logit()
    order = left_for_last(scores, void, 0.4).argsort(descending=True)
    assert order.tolist() == [0, 2, 1, 3]


class Fixed(nn.Module):
    """Gives the same logits for any images."""

    def __init__(self, logits):
        super().__init__()
        self.logits = nn.Parameter(logits)
        self.min_train_images = 1

    def forward(self, images):
        return self.logits.expand(len(images), -1, -1, -1)


def module(logits, max_void, most=2):
    made = VoidScoringModule(
        max_void=max_void, score="margin", scorer=UnitScorer(most=most, top_share=0.0),
        network=Fixed(logits), num_classes=C, steps=1, recipe=Recipe(1e-3),
    )  # fmt: skip
    made.log = made.log_dict = lambda *args, **kwargs: None
    return made.eval()


def test_what_is_probably_void_is_asked_last():
    """Margins are smallest on the left; there void is probable, in the last column not."""
    logits = torch.zeros(1, C + 1, 1, 6)
    logits[0, 0] = torch.arange(6.0)
    logits[0, C] = torch.tensor([2.0, 2.0, 2.0, 2.0, -2.0, -2.0])
    batch = {"image": torch.zeros(1, 3, 1, 6), "index": torch.tensor([4])}
    with torch.no_grad():
        asked = {m: module(logits, m).predict_step(batch, 0)["units"] for m in (0.5, 0.95)}
        more = module(logits, 0.5, most=3).predict_step(batch, 0)["units"]
    assert sorted(asked[0.5]["unit"].tolist()) == [4, 5]
    assert sorted(asked[0.95]["unit"].tolist()) == [0, 1]
    assert sorted(more["unit"].tolist()) == [0, 4, 5], "the budget is spent all the same"


def test_the_loss_is_that_of_the_classes_and_that_of_void():
    torch.manual_seed(0)
    logits = torch.randn(1, C + 1, 2, 2)
    answered = torch.tensor([[[0, C], [2, VOID]]])
    terms = module(logits, 0.5).loss({"image": torch.zeros(1, 3, 2, 2), "target": answered})
    z = logits[0].double().numpy()
    classes = [np.log(np.exp(z[:C, y, x]).sum()) - z[c, y, x] for c, y, x in ((0, 0, 0), (2, 1, 0))]
    p = 1 / (1 + np.exp(-z[C]))
    void = -(np.log(1 - p[0, 0]) + np.log(p[0, 1]) + np.log(1 - p[1, 0])) / 3
    assert float(terms["void"]) == pytest.approx(void, rel=1e-5)
    assert float(terms["loss"]) == pytest.approx(sum(classes) / 2 + void, rel=1e-5)


class BlackVoid(ToyImages):
    """A third of every image has no class, and is black."""

    def truth(self, index):
        labels = super().truth(index).copy()
        labels[:, :16] = VOID
        return labels

    def image(self, index):
        pixels = super().image(index)
        pixels[:, :16] = 0
        return pixels


def test_a_run_asks_for_less_void(tmp_path, monkeypatch):
    """Void is learnt from what the first round paid for it; no truth is read."""
    monkeypatch.setattr("tests.toys.ToyImages", BlackVoid)
    long = {**SHORT, "steps": 60, "epoch_steps": 60, "lr": 1e-2}
    method = PixelPick(**long, max_void=0.3, top_share=0.5)
    assert not method.reads_truth
    run = toy_run(tmp_path, rounds=2, method=method, amount=60.0)
    rows = drive(run)
    assert 0 <= rows[-1]["miou"] <= 1
    void = []
    for number in range(2):
        query = Query.load(tmp_path / f"round_00{number}" / "query.npz")
        assert np.bincount(query.image).tolist() == [10] * 6
        truth = [run.splits.train.truth(int(image)).ravel() for image in query.image]
        void.append(np.mean([t[u] == VOID for t, u in zip(truth, query.unit, strict=True)]))
    assert void[1] < void[0] / 2, void


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_void": 0.0}, "max_void is 0.0"),
        ({"max_void": 1.5}, "max_void is 1.5"),
        ({"max_void": 0.5, "passes": 2}, "asks a committee"),
        ({"score_with": "first"}, "score_with"),
    ],
)
def test_what_cannot_be_is_refused(options, message):
    with pytest.raises(UserError, match=message):
        PixelPick(**options)


def falls(module):
    """What is validated gets worse from epoch to epoch."""
    module.log("val/miou", 1 / (1.0 + module.trainer.current_epoch))
    module.iou.reset()


def test_the_best_weights_are_evaluated_and_the_last_ones_score(tmp_path, monkeypatch):
    """The question is that of a fit that keeps its last weights, the result that of its best."""
    monkeypatch.setattr(EvaluatedModule, "on_validation_epoch_end", falls)
    short = {**SHORT, "steps": 6, "epoch_steps": 3, "lr": 3e-3}
    methods = {
        "last": PixelPick(**short),
        "both": PixelPick(**short, keep="best", score_with="last"),
        "best": PixelPick(**short, keep="best"),
    }
    rows, asked = {}, {}
    for name, method in methods.items():
        root = tmp_path / name
        rows[name] = drive(toy_run(root, rounds=2, method=replace(method, top_share=0.0),
                                   amount=60.0))  # fmt: skip
        asked[name] = Query.load(root / "round_001/query.npz")
    checkpoints = [
        torch.load(tmp_path / "both/round_000/train" / f"{kept}.ckpt", weights_only=True)["epoch"]
        for kept in ("best", "last")
    ]
    assert np.array_equal(asked["both"].unit, asked["last"].unit)
    assert rows["both"][0]["miou"] == rows["best"][0]["miou"]
    assert checkpoints == [0, 1]
    assert not np.array_equal(asked["both"].unit, asked["best"].unit)


def test_a_checkpoint_is_chosen_on_images_of_its_own(tmp_path):
    """Validation sees ``choice``, the result is of ``val``; without it both are the same."""
    run = toy_run(tmp_path, method=PixelPick(**SHORT), amount=60.0)
    others = ToyImages(3, seed=5)
    data = run.datamodule
    for choice, wanted in ((None, run.splits.val), (others, others)):
        data.splits = DataSplits(run.splits.train, run.splits.val, choice)
        for loader, images in (
            (data.val_dataloader(), wanted),
            (data.test_dataloader(), run.splits.val),
        ):
            found = torch.cat([batch["target"] for batch in loader])
            truth = np.stack([images.truth(index) for index in range(len(images))])
            assert (found.numpy() == truth).all()

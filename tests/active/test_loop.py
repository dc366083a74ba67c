"""ActiveLoop without a run: from a predict run of any Trainer to a query."""

import tempfile
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch

from alseg.acquisition.diversity import DIVERSITIES
from alseg.active.choose import random_query
from alseg.active.context import Asking
from alseg.active.loop import ActiveLoop
from alseg.active.segmentation import Segmentation
from alseg.core.errors import UserError
from alseg.data.arrays import ArrayImages
from alseg.data.datamodule import ActiveDataModule
from alseg.labels.budget import Budget
from alseg.labels.oracle import SimulatedOracle
from alseg.labels.pool import LabelPool
from alseg.methods.mulquery.method import MulQuery
from alseg.regions.simple import Grid, Pixels, WholeImage
from tests.toys import TINY, ToyImages

QUIET = {
    "accelerator": "cpu", "logger": False, "enable_progress_bar": False,
    "enable_checkpointing": False, "enable_model_summary": False,
}  # fmt: skip


def parts(source=None, amount=6.0, count=5, **options):
    toys = ToyImages(count)
    images = ArrayImages(
        [toys.image(i) for i in range(count)], [toys.truth(i) for i in range(count)], "rgb"
    )
    pool = LabelPool.of(images, source or Grid((8, 8)), Budget(amount, rule="within"))
    torch.manual_seed(0)
    options = {"architecture": "FPN", "encoder": "tu-test_resnet", "num_classes": 3, **options}
    model = Segmentation(options=TINY.options, **options)
    return pool, ActiveDataModule(images, pool, batch_size=2), model


def predict(model, data, **options):
    loop = ActiveLoop(data.pool, **options)
    L.Trainer(callbacks=[loop], **QUIET).predict(model, data, return_predictions=False)
    return loop


def rows(query):
    return list(zip(query.image.tolist(), query.unit.tolist(), strict=True))


def entropies(model, data):
    """Mean entropy of every region, by a loop."""
    found, maps = {}, data.pool.maps[data.pool.regions]
    model.eval()
    for image in range(len(data.pool)):
        pixels, _ = data.eval_transform(data.splits.train.image(image), {})
        with torch.no_grad():
            p = torch.softmax(model(pixels[None])[0], dim=0)
        entropy = -(p * p.log()).sum(0).numpy()
        for unit in range(int(maps.num_regions[image])):
            found[image, unit] = float(entropy[maps[image] == unit].mean())
    return found


def test_the_loop_of_a_notebook():
    """Buy, train, ask, buy: what stands in the README, on images of a few pixels."""
    pool, data, model = parts()
    oracle = SimulatedOracle(trim=0)
    assert repr(pool) == "LabelPool(5 images, 120 patches, 0 answered)"
    pool.commit(oracle.answer(random_query(pool, "dominant"), pool))
    before = [p.clone() for p in model.parameters()]
    L.Trainer(max_epochs=2, **QUIET).fit(model, data)
    assert any(not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert model.steps == 2 * data.next_fit()[0].epoch_batches
    loop = predict(model, data, answer="dominant")
    doubt = entropies(model, data)
    left = sorted(set(doubt) - set(rows(pool.history[0])), key=lambda u: (-doubt[u], u))
    assert [pytest.approx(doubt[u], rel=1e-5) for u in rows(loop.query)] == [
        doubt[u] for u in left[:6]
    ]
    assert loop.query.round == 1
    pool.commit(oracle.answer(loop.query, pool))
    assert repr(pool) == "LabelPool(5 images, 120 patches, 12 answered)"
    assert repr(loop) == (
        "ActiveLoop(highest scores, Query(round 1: 6 patches in "
        f"{len(set(loop.query.image.tolist()))} images, answer=dominant))"
    )


@pytest.mark.parametrize("diversity", sorted(DIVERSITIES))
def test_every_diversity_for_any_table(diversity):
    _, data, model = parts()
    query = predict(model, data, answer="dominant", diversity=diversity).query
    assert len(query) == 6
    assert len(set(rows(query))) == 6
    again = predict(model, data, answer="dominant", diversity=diversity).query
    assert rows(again) == rows(query)


def test_scores_by_name_by_function_and_of_pixels():
    _, data, model = parts(Pixels())
    by_name = predict(model, data, score="margin").query
    assert (by_name.kind, by_name.answer, len(by_name)) == ("pixel", "class", 6)

    def margin(logits):
        best = torch.softmax(logits, dim=1).topk(2, dim=1).values
        return best[:, 1] - best[:, 0]

    _, data, model = parts(Pixels())
    assert rows(predict(model, data, score=margin).query) == rows(by_name)


class Own(L.LightningModule):
    """A module of somebody's own: a table, or logits."""

    def __init__(self, table, suggests=False):
        super().__init__()
        self.table = table
        self.suggests = suggests

    def predict_step(self, batch, batch_idx):
        index, regions = batch["index"], batch["regions"]
        if not self.table:
            levels = regions.float() + 100 * index[:, None, None]
            return torch.stack([levels / 600, torch.zeros_like(levels)], dim=1)
        unit = torch.arange(24).repeat(len(index))
        image = index.repeat_interleave(24)
        score = (image * 31 + unit * 7) % 97
        pixels = torch.full_like(unit, 64)
        table = {"image": image, "unit": unit, "score": score.float(), "pixels": pixels}
        return table | ({"suggested": unit % 3} if self.suggests else {})


def test_a_module_of_ones_own_returns_a_table_or_logits():
    _, data, _ = parts()
    query = predict(Own(table=True), data, answer="mask").query
    every = [(image, unit) for image in range(5) for unit in range(24)]
    expected = sorted(every, key=lambda p: (-((p[0] * 31 + p[1] * 7) % 97), p))
    assert query.answer == "mask"
    assert rows(query) == expected[: len(query)]
    with pytest.raises(UserError, match="has no column 'suggested'"):
        predict(Own(table=True), data, answer="correct")
    corrected = predict(Own(table=True, suggests=True), data, answer="correct").query
    assert rows(corrected) == expected[: len(corrected)]
    assert corrected.suggested.tolist() == [unit % 3 for _, unit in rows(corrected)]
    lowest = predict(Own(table=False), data, answer="dominant").query
    assert rows(lowest) == [(0, unit) for unit in range(6)], "logits are closest there"


def test_a_method_chooses():
    pool, data, _ = parts(amount=8.0)
    answers = SimulatedOracle(trim=0).answer(random_query(pool, "class_set"), pool)
    pool.commit(answers)
    method = MulQuery(steps=2, batch_size=2, epoch_steps=2, stage_two=False, prior_batch=2)
    context = Asking.of(pool)
    assert context.round == 1
    from alseg.methods.mulquery.module import StageOne
    from alseg.nn.recipe import Recipe

    torch.manual_seed(1)
    module = StageOne(
        network=TINY.build(4, cosine=True), num_classes=3, steps=2, recipe=Recipe(1e-3),
        temperature=0.1, weights=(16.0, 8.0, 1.0),
    )  # fmt: skip
    query = predict(module, data, method=method).query
    assert query.answer == "class_set"
    assert not set(rows(query)) & set(rows(answers))
    with pytest.raises(UserError, match="chooses this query without scoring"):
        predict(module, data, method=MulQuery(acquisition="random"))


def test_what_cannot_work_is_told():
    pool, data, model = parts()
    with pytest.raises(UserError, match="did you mean 'entropy'"):
        ActiveLoop(pool, score="entropie")
    with pytest.raises(UserError, match="did you mean 'kmeans'"):
        ActiveLoop(pool, diversity="kmean")
    with pytest.raises(UserError, match="one of score, method and pick"):
        ActiveLoop(pool, score="entropy", method=MulQuery())
    with pytest.raises(UserError, match="does not say which regions"):
        ActiveLoop(LabelPool(np.array([[8, 8]]), 2, Budget(), []))
    loop = ActiveLoop(pool)
    pool.commit(SimulatedOracle(trim=0).answer(random_query(pool, "dominant"), pool))
    with pytest.raises(UserError, match="does nothing in a fit"):
        L.Trainer(max_epochs=1, callbacks=[loop], **QUIET).fit(model, data)
    with pytest.raises(UserError, match="compares regions, and this pool asks about pixels"):
        predict(*parts(Pixels())[::-1][:2], diversity="kmeans")
    before = set(Path(tempfile.gettempdir()).glob("alseg-scores-*"))
    with pytest.raises(UserError, match="leave out score"):
        predict(Own(table=True), data, score="entropy")
    assert set(Path(tempfile.gettempdir()).glob("alseg-scores-*")) <= before
    with pytest.raises(UserError, match="no alseg network"):
        predict(Own(table=True), data, diversity="kmeans")


def test_nothing_answered_and_nothing_left():
    pool, data, _ = parts(WholeImage(), amount=5e5)
    with pytest.raises(UserError, match="nothing in the pool is answered yet"):
        data.train_dataloader()
    pool.commit(SimulatedOracle().answer(random_query(pool, "mask"), pool))
    assert len(pool.history[0]) == 5
    with pytest.raises(UserError, match="nothing is left to score"):
        data.predict_dataloader()


def test_loaders_work_without_a_trainer():
    pool, data, _ = parts()
    pool.commit(SimulatedOracle(trim=0).answer(random_query(pool, "dominant"), pool))
    first, second = ([b["index"].tolist() for b in data.train_dataloader()] for _ in range(2))
    assert sorted(index for batch in first for index in batch) == pool.images().tolist()
    assert first == second, "a loader of its own begins with its first epoch"
    loader = data.train_dataloader()
    assert [b["index"].tolist() for b in loader] != [b["index"].tolist() for b in loader] or (
        len(pool.images()) < 3
    )
    assert sum(len(b["index"]) for b in data.predict_dataloader()) == 5
    assert data.val_dataloader() == []


def test_mistakes_of_newcomers_get_a_sentence():
    pool, data, model = parts()
    other, _, _ = parts()
    pool.commit(SimulatedOracle(trim=0).answer(random_query(pool, "dominant"), pool))
    with pytest.raises(UserError, match="another pool than the data module serves"):
        L.Trainer(callbacks=[ActiveLoop(other)], **QUIET).predict(model, data)
    with pytest.raises(UserError, match="did you mean 'dominant'"):
        ActiveLoop(pool, answer="dominate")
    with pytest.raises(UserError, match="did you mean 'dominant'"):
        random_query(pool, "dominate")
    _, _, wrong = parts(num_classes=2)
    with pytest.raises(UserError, match="the model has 2 classes and the data 3"):
        L.Trainer(max_epochs=1, **QUIET).fit(wrong, data)
    with pytest.raises(UserError, match="give passes=2 or more"):
        Segmentation(score="bald")
    with pytest.raises(UserError, match="leave out passes, or choose what compares passes: "):
        Segmentation(score=lambda logits: logits.amax(1), passes=2)

    class Half(Own):
        def predict_step(self, batch, batch_idx):
            return super().predict_step(batch, batch_idx)[..., ::2]

    with pytest.raises(UserError, match=r"returned \(4, 2, 32, 24\) for images of \(32, 48\)"):
        predict(Half(table=False), data)
    with pytest.raises(ValueError, match="in the pool already"):
        pool.commit(pool.history[0])


def test_predicted_classes_take_turns_without_an_alseg_network():
    _, data, _ = parts()
    query = predict(Own(table=False), data, answer="dominant", diversity="stratified").query
    assert len(query) == 6

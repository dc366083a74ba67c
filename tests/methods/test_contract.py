"""What every registered method has to keep; a new one is tested the moment it is registered."""

from dataclasses import fields, is_dataclass

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from alseg.active.driver import buy, drive
from alseg.active.method import Method
from alseg.cli.help import option_texts
from alseg.data.datamodule import TrainItems
from alseg.methods import METHODS
from tests.toys import ToyImages, toy_run

#: Two batches instead of a schedule, where a method has such options.
SHORT = {"steps": 2, "batch_size": 2, "epoch_steps": 2, "epochs": 1}
#: What six images and no network connection need.
FITTING = {
    "als4gan": {
        "ratio": 0.5,
        "alpha": 0.7,
        "beta": 1.0,
        "classifier": "tu-resnet10t",
        "classifier_weights": None,
        "classifier_passes": 1,
        "discriminator_width": 4,
    }
}


def short(name: str) -> Method:
    cls = METHODS.resolve(name)
    known = {field.name for field in fields(cls)}
    options = {
        field: value
        for key, value in SHORT.items()
        for field in known
        if field == key or (field.endswith(f"_{key}") and field != "epoch_steps")
    }
    if "epoch_steps" in known:
        options["epoch_steps"] = 2
    if "feature_weights" in known:  # else they would be downloaded
        options["features"] = "encoder"
    return cls(**{**options, **FITTING.get(name, {})})


def rounds_of(method: Method) -> int:
    return method.rounds_of(ToyImages(6)) or int(type(method).defaults.get("rounds", 2))


@pytest.fixture(params=sorted(METHODS))
def method(request):
    return short(request.param)


def test_a_method_is_a_frozen_dataclass_with_explained_options(method):
    cls = type(method)
    assert is_dataclass(cls)
    assert cls.__dataclass_params__.frozen
    texts = option_texts(cls)
    for field in fields(cls):
        assert texts[field.name]


def test_two_rounds_change_the_pool_and_repeat_themselves(method, tmp_path):
    rounds = rounds_of(method)
    rows = drive(toy_run(tmp_path / "a", rounds=rounds, method=method))
    assert len(rows) == rounds
    assert np.all(np.diff([0, *(row["units"] for row in rows)]) > 0)
    assert rows[-1]["miou"] is not None
    drive(toy_run(tmp_path / "b", rounds=rounds, method=method))
    for name in ("query.npz", "answers.npz"):
        for round in range(rounds):
            one, two = (tmp_path / run / f"round_{round:03d}" / name for run in "ab")
            assert one.read_bytes() == two.read_bytes()


def test_every_stage_takes_a_batch_and_its_state_comes_back(method, tmp_path):
    run = toy_run(tmp_path, rounds=rounds_of(method), method=method)
    buy(run, 0)
    context = run.context(0)
    stage = method.stages(context)[0]
    torch.manual_seed(0)
    module = stage.module()
    supervision = stage.supervision()
    assert len(supervision.images)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    torch.save(state, tmp_path / "state.pt")
    module.load_state_dict(torch.load(tmp_path / "state.pt", weights_only=True))
    batch = next(iter(_loader(run, stage, supervision)))
    loss = module.loss(batch)["loss"]
    loss.backward()
    assert torch.isfinite(loss)
    assert any(p.grad is not None and p.grad.any() for p in module.parameters())


def _loader(run, stage, supervision):
    items = TrainItems(run.splits.train, supervision, run.datamodule.train_transform)
    keys = [(number % len(items), number) for number in range(stage.fit.batch_size)]
    return DataLoader(items, batch_size=None, sampler=[keys])


def test_the_first_query_depends_on_the_seed_alone_and_keeps_the_budget(method, tmp_path):
    runs = [toy_run(tmp_path / str(i), rounds_of(method), seed, method) for i, seed in
            enumerate((0, 0, 1))]  # fmt: skip
    for run in runs:
        buy(run, 0)
    first, again, other = (run.ledger.query(0) for run in runs)
    asked, same, others = (
        list(zip(query.image.tolist(), query.unit.tolist(), strict=True))
        for query in (first, again, other)
    )
    assert asked == same
    whole = len(first) == runs[0].pool.num_units(first.regions).sum()
    assert whole or set(asked) != set(others)
    assert len(set(asked)) == len(first)
    run = runs[0]
    spent = getattr(run.pool.spent(), run.pool.budget.axis)
    if not whole:
        assert spent <= run.pool.budget.amount + 4  # overshoot: one answer of at most four classes


def test_stages_have_names_of_their_own(method, tmp_path):
    run = toy_run(tmp_path, rounds=rounds_of(method), method=method)
    names = [stage.name for stage in method.stages(run.context(0))]
    assert len(set(names)) == len(names)
    assert not set(names) & {"pictures", "scoring", "questions"}

"""What a round of EquAL trains and asks, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest

from alseg.active.driver import drive
from alseg.cli.compose import options
from alseg.cli.run import build
from alseg.core.errors import UserError
from alseg.core.images import DataSplits
from alseg.methods.equal.method import Equal
from alseg.regions.simple import Grid
from tests.methods.equal.runs import (
    COLS,
    IMAGES,
    LAZY,
    METHOD,
    ROWS,
    bought_patches,
    equal_run,
    slow_choice,
)
from tests.toys import ToyImages

# Stages


@pytest.mark.parametrize("spread", [False, True])
@pytest.mark.parametrize(("each", "rounds"), [(1, 20), (2, 18), (3, 12), (2, 3), (36, 1)])
def test_batch_sizes_and_lengths_of_the_rounds(tmp_path, each, rounds, spread):
    """F7 and F8 word by word, while images come in early or late."""
    method = Equal(batch_size=5, milestone_epochs=4, evaluate_rounds=False, final_batch_size=4)
    run = equal_run(tmp_path, rounds=rounds, method=method)
    patches = [(n % 6, n // 6) if spread else (n // 6, n % 6) for n in range(36)]
    every = int(0.3 * each * rounds) // each * each
    longer = 0
    for round in range(rounds):
        bought_patches(run.pool, round, patches[round * each : (round + 1) * each])
        labelled = each * (round + 1)
        images = len({image for image, _ in patches[:labelled]})
        if labelled > 5:
            size = 5
        elif images > 2:
            size = 2
        else:
            size = 1
        milestone = every > 0 and labelled % every == 0
        longer += milestone
        train, *final = method.stages(run.context(round))
        assert train.fit.batch_size == size
        assert train.fit.epochs == (4 if milestone else 1)
        assert train.fit.steps == train.fit.epochs * -(-images // size)
        assert train.evaluate == milestone
        assert train.start.previous_round
        assert train.start.optimizer
        assert len(final) == (round == rounds - 1)
    assert longer == ((each * rounds) // every if every else 0)
    assert final[0].start is None
    assert final[0].evaluate
    assert (final[0].fit.batch_size, final[0].fit.epochs) == (4, 60)
    assert final[0].fit.steps == 60 * -(-images // 4)


def test_without_a_final_training_the_last_round_is_evaluated(tmp_path):
    method = Equal(evaluate_rounds=False, final_epochs=0)
    run = equal_run(tmp_path, rounds=3, method=method)
    for round, evaluated in enumerate([False, False, True]):
        bought_patches(run.pool, round, [(round, 0)])
        (train,) = method.stages(run.context(round))
        assert train.evaluate == evaluated


# Choice


def table_of(scores, images=IMAGES):
    """Tables as the scoring pass leaves them, (images, 6) scores in the house's order."""
    scores = np.asarray(scores, dtype=np.float32).reshape(images, ROWS * COLS)
    image, unit = np.indices(scores.shape).astype(np.int32)
    return {"patches": {"image": image.ravel(), "unit": unit.ravel(), "score": scores.ravel()}}


@pytest.mark.parametrize("per_image", [None, 1, 2])
@pytest.mark.parametrize("seed", range(4))
def test_choice_against_a_walk_down_the_list(tmp_path, per_image, seed):
    random = np.random.default_rng(seed)
    method = replace(METHOD, per_image=per_image)
    run = equal_run(tmp_path, rounds=5, amount=7.0 if per_image != 1 else 5.0, method=method)
    each = int(run.pool.budget.amount)
    asked = [(image, unit) for image in range(IMAGES) for unit in range(6) if random.random() < 0.2]
    bought_patches(run.pool, 0, asked)
    scores = random.integers(0, 3, (IMAGES, 6)) / 4  # many are equal
    query = method.pick(run.context(1), table_of(scores))
    chosen = list(zip(query.image.tolist(), query.unit.tolist(), strict=True))
    assert chosen == slow_choice(scores, asked, each, per_image)
    assert len(chosen) == each
    assert query.score.tolist() == [scores[unit] for unit in chosen]
    assert (query.kind, query.answer, query.round) == ("patch", "mask", 1)


def test_patches_that_are_void_by_majority_are_left_out(tmp_path):
    run = equal_run(tmp_path, rounds=2, amount=8.0, method=replace(METHOD, skip_void=True))
    scores = np.random.default_rng(0).random((IMAGES, 6))
    void = {(image, unit) for image in range(IMAGES) for unit in (1, 4)}
    tables = table_of(scores)
    tables["patches"]["void"] = np.isin(tables["patches"]["unit"], [1, 4])
    query = run.method.pick(run.context(0), tables)
    chosen = list(zip(query.image.tolist(), query.unit.tolist(), strict=True))
    assert chosen == slow_choice(scores.astype(np.float32), (), 8, void=void)
    assert chosen != slow_choice(scores.astype(np.float32), (), 8)


def scored_images(run, method, scores, round):
    """Images the method would score for a round, when round 0 left these scores."""
    tables = table_of(scores)
    if method.skip_void:
        tables["patches"]["void"] = np.isin(tables["patches"]["image"], [4, 5])
    run.ledger.write_scores(0, tables)
    found = method.ask(run.context(round)).images
    return None if found is None else found.tolist()


def test_patches_that_may_not_be_asked_do_not_guide_the_scoring(tmp_path):
    """Images 5 and 4 lead; all of image 5 is asked; where void is skipped, 4 is all void."""
    scores = np.arange(IMAGES * 6)
    lazy = replace(LAZY, rescore_share=0.0)
    run = equal_run(tmp_path, rounds=6, amount=3.0, method=lazy)
    assert scored_images(run, lazy, scores, 1) == [5]
    bought_patches(run.pool, 0, [(5, unit) for unit in range(6)])
    assert scored_images(run, lazy, scores, 2) == [4]
    assert scored_images(run, replace(lazy, skip_void=True), scores, 2) == [3]
    assert scored_images(run, lazy, scores, 3) is None, "a whole pass again"


# Errors


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 0}, r"method\.batch_size is 0; it must be at least 1"),
        ({"final_epochs": -1}, r"method\.final_epochs is -1; it must be at least 0"),
        ({"per_image": 0}, r"method\.per_image is 0; it must be at least 1"),
        ({"rescore_share": 1.5}, r"method\.rescore_share is 1\.5; it is a share"),
        ({"final_keep": "bets"}, "unknown method.final_keep 'bets'; did you mean 'best'"),
        ({"lr": 0.0}, r"method\.lr is 0\.0; it must be > 0"),
    ],
)
def test_bad_options_get_a_sentence(changes, sentence):
    with pytest.raises(UserError, match=sentence):
        Equal(**changes)


class Cut:
    """Maps of a region source."""

    version = "cut"

    def __init__(self, source, sizes):
        self.maps = [source(np.zeros((*size, 3), np.uint8), "") for size in sizes]
        self.num_regions = np.array([int(m.max()) + 1 for m in self.maps])

    def __getitem__(self, index):
        return self.maps[index]


@pytest.mark.parametrize(
    ("source", "sentence"),
    [
        (Grid(rows=3, cols=5), r"32 x 48 pixels cannot be cut into 3 x 5 equal patches; give "
         r"regions\.rows and regions\.cols that divide them, such as 2 and 4"),
        (Grid(size=(12, 16)), "cannot be cut into 3 x 3 equal patches"),
        (Grid(size=(16, 45)), r"no grid of equal patches; give regions=grid with regions\.rows"),
    ],
)  # fmt: skip
def test_a_grid_that_does_not_divide(tmp_path, source, sentence):
    run = equal_run(tmp_path)
    run.pool.add_maps(Cut(source, run.pool.sizes))
    run.regions = "cut"
    with pytest.raises(UserError, match=sentence):
        drive(run)
    assert not list(tmp_path.iterdir())


def test_images_of_two_sizes_with_two_grids(tmp_path):
    run = equal_run(tmp_path)
    run.pool.sizes[3:] = [64, 48]
    run.pool.add_maps(Cut(Grid(size=(16, 16)), run.pool.sizes))
    run.regions = "cut"
    with pytest.raises(UserError, match=r"different grids; give regions\.rows and regions\.cols"):
        METHOD.ask(run.context(0))


def test_regions_that_are_no_grid(tmp_path):
    with pytest.raises(
        UserError,
        match="Equal asks about patches, and these regions are reg",
    ):
        drive(equal_run(tmp_path, kind="region"))


@pytest.mark.parametrize(
    ("rounds", "amount", "sentence"),
    [
        (4, 10.0, r"10 units, which buys 10 patches in each of 4 rounds of the 36 patches of 6 im"),
        (4, 0.5, "0.5 units, which buys 0 patches in each of 4 rounds"),
    ],
)
def test_a_budget_that_does_not_fit_the_rounds(tmp_path, rounds, amount, sentence):
    with pytest.raises(UserError, match=sentence):
        drive(equal_run(tmp_path, rounds, amount))
    assert drive(equal_run(tmp_path / "fits", 1, 36.0, replace(METHOD, final_epochs=0)))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"per_image": 1}, r"buys 7 patches, but method\.per_image=1 lets it ask for no more than "
         "6 of 6 images"),
        ({"rescore_every": 2, "rescore_patches": 6}, r"method\.rescore_patches=6 may leave it f"),
    ],
)  # fmt: skip
def test_approximations_that_would_buy_less_than_the_budget(tmp_path, changes, sentence):
    with pytest.raises(UserError, match=sentence):
        drive(equal_run(tmp_path, 2, 7.0, replace(METHOD, **changes)))


def test_a_choice_that_reads_the_truth_needs_one(tmp_path):
    method = replace(METHOD, skip_void=True)
    with pytest.raises(UserError, match="reads the ground truth of the whole pool, and there is n"):
        equal_run(tmp_path, method=method, images=ToyImages(IMAGES, has_truth=False))


#: A run as the command makes it.
COMMAND = [
    "data.train=4",
    "data.val=1",
    "data.size=[32,48]",
    "network.architecture=FPN",
    "network.encoder=tu-test_resnet",
    "network.options={decoder_pyramid_channels:32,decoder_segmentation_channels:32}",
    "budget.amount=2",
    "workers=0",
    "trainer.accelerator=cpu",
    "trainer.enable_progress_bar=false",
]


def made(tmp_path, *arguments):
    where = [f"run_dir={tmp_path / 'run'}", f"cache={tmp_path / 'cache'}"]
    return build(options(*COMMAND, *where, *arguments))


@pytest.mark.parametrize("method", ["equal", "random"])
def test_the_number_of_rounds_is_settled_where_the_method_plans_them(tmp_path, method):
    run = made(tmp_path, f"method={method}", "regions=grid", "rounds=3")
    (run.root / "round_000").mkdir(parents=True)
    (run.root / "round_000" / "answers.npz").touch()
    made(tmp_path, f"method={method}", "regions=grid", "rounds=3")
    if method == "random":
        assert made(tmp_path, "method=random", "regions=grid", "rounds=4").rounds == 4
        return
    with pytest.raises(UserError, match=r"another configuration \(rounds: 3 there, 4 now\)"):
        made(tmp_path, "method=equal", "regions=grid", "rounds=4")


def test_the_method_s_defaults_make_a_run(tmp_path):
    run = made(tmp_path, "method=equal", "rounds=2")
    assert (run.kind, run.pool.budget.axis, run.pool.budget.rule) == ("patch", "units", "within")
    assert run.method.ask(run.context(0)).stage == "train"
    transform = run.datamodule.train_transform
    assert (transform.scale, transform.flip, transform.crop) == ((1.0, 1.0), 0.0, (32, 48))


def test_keeping_the_best_needs_validation_images_from_the_start(tmp_path, monkeypatch):
    synthetic = type(options("method=equal").components["data"])
    splits = synthetic.splits

    def unvalidated(self, **given):
        found = splits(self, **given)
        return DataSplits(found.train, ToyImages(0))

    monkeypatch.setattr(synthetic, "splits", unvalidated)
    with pytest.raises(UserError, match="stage final keeps the weights that are best on the valid"):
        made(tmp_path, "method=equal", "rounds=3", "method.final_keep=best")
    assert made(tmp_path, "method=equal", "rounds=3").rounds == 3

"""Every baseline on every unit and answer that makes sense, and what sets each apart."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from alseg.active.driver import buy, drive
from alseg.active.features import _centers
from alseg.core.errors import UserError
from alseg.core.images import DataSplits
from alseg.core.seeds import derive
from alseg.labels.tables import Answers, Query
from alseg.methods import METHODS
from alseg.methods.baselines.diversity import Badge, CoreSet, Spread, Stratified
from alseg.methods.baselines.pixelpick import PixelPick
from alseg.methods.baselines.random import Random
from alseg.methods.baselines.uncertainty import Bald, ClassBal, Entropy, OracleError
from alseg.nn.network import Network
from tests.toys import toy_run

SHORT = {"steps": 1, "batch_size": 2, "epoch_steps": 1, "lr": 1e-3, "head_factor": 1.0}
NAMES = [n for n, e in METHODS.items() if "baselines" in e and n != "pixelpick"]
#: Kind of unit, answer, and a budget of a few units on the axis of clicks.
CASES = [
    ("region", "dominant", 10.0),
    ("region", "class_set", 10.0),
    ("region", "mask", 0.6),
    ("patch", "dominant", 2.0),
    ("patch", "mask", 0.6),
    ("image", "mask", 2.6),
    ("pixel", "class", 10.0),
]
WITHOUT_PIXELS = {"coreset", "badge", "spread", "classbal"}


def check_run(root, name, kind, answer, amount):
    method = METHODS.resolve(name)(**SHORT, answer=answer)
    run = toy_run(root, rounds=2, method=method, kind=kind, amount=amount)
    object.__setattr__(run.pool.budget, "rule", "within")
    rows = drive(run)
    seen = set()
    for round in range(2):
        answers = Answers.load(root / f"round_{round:03d}" / "answers.npz")
        query = Query.load(root / f"round_{round:03d}" / "query.npz")
        assert query.kind == kind
        assert answers.answer == answer
        units = set(zip(answers.image.tolist(), answers.unit.tolist(), strict=True))
        assert len(units) == len(answers) > 0
        assert not units & seen
        seen |= units
        assert run.pool.costs[round].clicks <= amount
        pixels = run.pool.unit_pixels(answers)
        assert run.pool.costs[round].pixels == pixels.sum()
        if answer in ("dominant", "class"):
            assert run.pool.costs[round].clicks == len(answers)
        if answer == "class_set":
            assert run.pool.costs[round].clicks == answers.members().sum()
        if answer == "mask":
            assert run.pool.costs[round].clicks == pytest.approx(8.167e-4 * pixels.sum())
    assert rows[-1]["units"] == len(seen)


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "answer", "amount"), CASES)
@pytest.mark.parametrize("name", NAMES)
def test_two_rounds_of_every_baseline_on_every_unit_and_answer(
    tmp_path, name, kind, answer, amount
):
    if kind == "pixel" and name in WITHOUT_PIXELS:
        with pytest.raises(UserError, match=r"asks about patches or regions"):
            drive(
                toy_run(tmp_path, method=METHODS.resolve(name)(**SHORT), kind=kind, amount=amount)
            )
        return
    check_run(tmp_path, name, kind, answer, amount)


@pytest.mark.parametrize(
    ("name", "case"), [("entropy", 6), ("bald", 5), ("coreset", 4), ("stratified", 6)]
)
def test_two_rounds_of_some(tmp_path, name, case):
    check_run(tmp_path, name, *CASES[case])


def test_pixelpick_asks_the_same_number_in_every_image(tmp_path):
    drive(toy_run(tmp_path, rounds=2, method=PixelPick(**SHORT), amount=20.0))
    for round in range(2):
        query = Query.load(tmp_path / f"round_{round:03d}" / "query.npz")
        assert np.bincount(query.image).tolist() == [3] * 6  # 20 clicks for 6 images
    with pytest.raises(UserError, match="at least one pixel in each"):
        drive(toy_run(tmp_path / "x", method=PixelPick(**SHORT), amount=5.0))


def scored(tmp_path, method, kind="region", **options):
    """The table of a module on images of noise."""
    run = toy_run(tmp_path, method=method, kind=kind, **options)
    torch.manual_seed(0)
    context = run.context(1)
    module = method.stages(context)[0].module().eval()
    images = torch.randn(3, 3, 32, 48, generator=torch.Generator().manual_seed(0))
    batch = {"image": images, "index": torch.tensor([0, 2, 5])}
    if kind != "pixel":
        regions = np.stack([run.pool.maps[run.regions][i] for i in (0, 2, 5)])
        batch["regions"] = torch.from_numpy(regions).long()
    with torch.no_grad():
        return run, module, batch, module.predict_step(batch, 0)["units"]


def test_entropy_of_regions_against_a_loop(tmp_path):
    _, module, batch, units = scored(tmp_path, Entropy(**SHORT))
    with torch.no_grad():
        p = torch.softmax(module.network(batch["image"]), dim=1)
    entropy = -(p * p.log()).sum(1)
    for row in (0, 30, 71):
        image, unit = int(units["image"][row]), int(units["unit"][row])
        item = {0: 0, 2: 1, 5: 2}[image]
        inside = batch["regions"][item] == unit
        assert float(units["score"][row]) == pytest.approx(
            float(entropy[item][inside].mean()), 1e-5
        )
        assert units["pixels"][row] == inside.sum()
    assert len(units["unit"]) == 3 * 24


def test_a_committee_does_not_depend_on_the_batch_an_image_is_in(tmp_path):
    method = Bald(**SHORT, passes=3)
    _, module, batch, units = scored(tmp_path, method)
    assert (units["score"] > 0).any()  # dropout was on
    assert not any(m.training for m in module.network.modules())  # and is off again
    alone = {name: value[2:] for name, value in batch.items()}
    with torch.no_grad():
        again = module.predict_step(alone, 0)["units"]
    assert torch.allclose(again["score"], units["score"][-24:], atol=1e-6)


def test_a_committee_needs_dropout(tmp_path):
    method = Bald(**SHORT)
    network = Network("Unet", "resnet18", None, {"encoder_depth": 3, "decoder_channels": [8, 8, 8]})
    run = toy_run(tmp_path, method=method, network=network)
    with pytest.raises(UserError, match="the network has no dropout"):
        method.stages(run.context(0))[0].module()


def test_features_of_units_are_means_over_their_cells(tmp_path):
    _, module, batch, units = scored(tmp_path, CoreSet(**SHORT))
    with torch.no_grad():
        _, features, canvas = module.network.features(batch["image"])
    assert canvas == (32, 64)
    h = features.shape[-2]
    side = canvas[0] // h
    item, unit = 1, 9  # rows 8..15, columns 24..31
    cells = features[item, :, 8 // side : 16 // side, 24 // side : 32 // side]
    row = int(((units["image"] == 2) & (units["unit"] == unit)).nonzero())
    assert torch.allclose(units["features"][row], cells.mean(dim=(1, 2)), atol=1e-5)


def test_pixels_under_the_centres_of_cells():
    cpu = torch.device("cpu")
    place, inside = _centers(4, 32, 20, False, cpu)
    assert place.tolist() == [4, 12, 19, 19]
    assert inside.tolist() == [True, True, False, False]
    place, inside = _centers(5, 33, 33, True, cpu)  # DeepLabv2: corners lie on corners
    assert place.tolist() == [0, 8, 16, 24, 32]
    assert inside.all()


def test_pixels_already_asked_are_not_offered(tmp_path):
    method = Entropy(**SHORT)
    run, module, batch, units = scored(tmp_path, method, kind="pixel")
    first = {int(i): units["unit"][units["image"] == i] for i in (0, 2, 5)}
    asked = {0: first[0].numpy().astype(np.int64)}
    module.scorer = replace(module.scorer, asked=asked)
    with torch.no_grad():
        again = module.predict_step(batch, 0)["units"]
    of_zero = again["unit"][again["image"] == 0]
    assert not set(of_zero.tolist()) & set(first[0].tolist())
    assert torch.equal(again["unit"][again["image"] == 2], first[2])
    assert run.regions == "pixels"


@pytest.mark.parametrize("reverse_order", [False, True])
@pytest.mark.parametrize("strategy", ["margin", "entropy", "least_confidence"])
def test_pixelpick_draws_from_the_most_uncertain(tmp_path, strategy, reverse_order):
    method = PixelPick(**SHORT, strategy=strategy, top_share=0.01, reverse_order=reverse_order)
    _, module, batch, units = scored(tmp_path, method, kind="pixel", amount=24.0)
    assert np.bincount(units["image"]).tolist() == [4, 0, 4, 0, 0, 4]
    with torch.no_grad():
        p = torch.softmax(module.network(batch["image"]), dim=1)
    first, second = p.topk(2, dim=1).values.unbind(1)
    entropy = -(p * p.log()).sum(1)
    score = {"margin": 1 - first + second, "entropy": entropy, "least_confidence": 1 - first}
    for item, image in enumerate((0, 2, 5)):
        flat = score[strategy][item].flatten()
        rows = units["image"] == image
        picked = units["unit"][rows].long()
        torch.testing.assert_close(units["score"][rows], flat[picked])
        among = set(flat.topk(15).indices.tolist())  # int(0.01 * 32 * 48)
        assert (set(picked.tolist()) <= among) != reverse_order


def test_pixelpick_scores_the_mean_probabilities_of_its_committee(tmp_path):
    def units(passes, folder):
        method = PixelPick(**SHORT, top_share=0.0, passes=passes, strategy="entropy")
        return scored(tmp_path / folder, method, kind="pixel", amount=24.0)

    _, module, batch, found = units(3, "a")
    _, _, _, again = units(3, "b")
    _, _, _, single = units(1, "c")
    assert torch.equal(found["score"], again["score"])
    assert not torch.equal(found["unit"], single["unit"])
    mean = []
    with torch.no_grad(), torch.random.fork_rng():
        torch.manual_seed(derive(module.scorer.seed, 2))
        for dropout in module._committee.dropouts:
            dropout.train()
        for _ in range(3):
            mean.append(torch.softmax(module.network(batch["image"][1:2]), dim=1)[0])
    p = torch.stack(mean).mean(0)
    rows = found["image"] == 2
    entropy = -(p * p.log()).sum(0).flatten()
    torch.testing.assert_close(found["score"][rows], entropy[found["unit"][rows].long()])
    assert set(found["unit"][rows].tolist()) == set(entropy.topk(4).indices.tolist())


def test_pixelpick_with_passes_needs_dropout(tmp_path):
    network = Network("Unet", "resnet18", None, {"encoder_depth": 3, "decoder_channels": [8, 8, 8]})
    for passes, refused in [(1, False), (2, True)]:
        method = PixelPick(**SHORT, passes=passes)
        run = toy_run(tmp_path / str(passes), method=method, network=network)
        context = run.context(0)
        if refused:
            with pytest.raises(UserError, match="the network has no dropout"):
                method.stages(context)[0].module()
        else:
            method.stages(context)[0].module()


def test_noise_changes_the_order_and_repeats_itself(tmp_path):
    _, _, _, plain = scored(tmp_path / "a", Entropy(**SHORT))
    _, _, _, noisy = scored(tmp_path / "b", Entropy(**SHORT, power=1.0))
    _, _, _, again = scored(tmp_path / "c", Entropy(**SHORT, power=1.0))
    assert torch.equal(noisy["score"], again["score"])
    assert noisy["score"].argsort().tolist() != plain["score"].argsort().tolist()


def test_stratified_takes_a_turn_of_every_predicted_class(tmp_path):
    method = Stratified(**SHORT)
    run = toy_run(tmp_path, method=method)
    image, unit = np.repeat(np.arange(6), 24), np.tile(np.arange(24), 6)
    label = np.zeros(144)
    label[:4], label[50:54] = 1, 2
    table = {"image": image, "unit": unit, "score": label, "pixels": np.full(144, 64)}
    query = method.pick(run.context(1), table)
    picked = [
        label[(image == i) & (unit == u)][0] for i, u in zip(query.image, query.unit, strict=True)
    ]
    assert sorted(picked[:3]) == sorted(picked[3:6]) == [0, 1, 2]


def test_spread_units_keep_their_distance(tmp_path):
    def nearest(query):
        y, x = np.divmod(query.unit[:40], 6)
        apart = np.hypot(y[:, None] - y, x[:, None] - x)
        apart[query.image[:40, None] != query.image[:40]] = np.inf
        np.fill_diagonal(apart, np.inf)
        return apart.min(axis=1).mean()

    run = toy_run(tmp_path, method=Spread(**SHORT), amount=40.0)
    spread, plain = (m(**SHORT).ask(run.context(0)) for m in (Spread, Random))
    assert nearest(spread) > 1.25 * nearest(plain)


@pytest.mark.parametrize(
    ("made", "sentence"),
    [
        (lambda: Entropy(reduce="median"), "unknown method.reduce 'median'"),
        (lambda: Entropy(power=-1.0), "method.power is -1"),
        (lambda: Bald(passes=1), "method.passes is 1; give 2"),
        (lambda: CoreSet(metric="cosin"), "did you mean 'cosine'"),
        (lambda: CoreSet(candidates=0), "method.candidates is 0; give at least 1 unit"),
        (lambda: Entropy(answer="masks"), "did you mean 'mask'"),
        (lambda: PixelPick(top_share=5.0), "it is a share"),
        (lambda: PixelPick(top_share=0, reverse_order=True), "give a share above 0"),
        (lambda: PixelPick(strategy="margins"), "did you mean 'margin'"),
        (lambda: PixelPick(passes=0), "method.passes is 0; give 1"),
    ],
)
def test_nonsense_is_refused(made, sentence):
    with pytest.raises(UserError, match=sentence):
        made()


def vectors(run):
    """A table of features and of gradients for every region of a toy run."""
    image, unit, pixels = run.pool.units(run.regions)
    rng = np.random.default_rng(0)
    p = rng.dirichlet(np.ones(3), len(image))
    columns = {"features": rng.random((len(image), 5)), "error": np.eye(3)[p.argmax(1)] - p}
    columns = {name: column.astype(np.float32) for name, column in columns.items()}
    return {"image": image, "unit": unit, "pixels": pixels, **columns}


def rows_of(query, table):
    place = {pair: row for row, pair in enumerate(zip(table["image"], table["unit"], strict=True))}
    return [place[pair] for pair in zip(query.image, query.unit, strict=True)]


@pytest.mark.parametrize("cls", [CoreSet, Badge])
def test_picks_are_drawn_from_so_many_candidates(tmp_path, caplog, cls):
    caplog.set_level("INFO")
    run = toy_run(tmp_path, method=cls(**SHORT), amount=10.0)
    table, context = vectors(run), run.context(1)
    units = len(table["image"])
    everything = rows_of(cls(**SHORT).pick(context, table), table)
    for all_of_them in (units, 10 * units):
        query = cls(**SHORT, candidates=all_of_them).pick(context, table)
        assert rows_of(query, table) == everything
    assert "drawn at random" not in caplog.text

    few = cls(**SHORT, candidates=30)
    kept, picks = few.drawn(context, np.ones(units, dtype=bool))
    assert len(set(kept)) == 30
    said = f"Picking up to {picks} of 30 regions, which were drawn at random from the {units} "
    assert said in caplog.text
    picked = rows_of(few.pick(context, table), table)
    assert len(picked) == len(everything)
    assert set(picked) <= set(kept)
    assert picked != everything
    part = {name: column[kept] for name, column in table.items()}
    assert [kept[row] for row in rows_of(cls(**SHORT).pick(context, part), part)] == picked
    assert rows_of(few.pick(run.context(1), table), table) == picked
    assert rows_of(few.pick(run.context(2), table), table) != picked
    assert len(cls(**SHORT, candidates=1).pick(context, table)) == len(everything), (
        "never fewer than asked"
    )


def test_a_choice_of_hours_is_announced_before_anything_is_trained(tmp_path, caplog, monkeypatch):
    run = toy_run(tmp_path, method=Badge(**SHORT), amount=10.0)
    run.method.ask(run.context(0))
    assert "hours" not in caplog.text
    monkeypatch.setattr(Badge, "pace", 10.0)
    run.method.ask(run.context(0))
    assert (
        "Picking up to 12 of 144 regions takes about 5 hours in every round; method.candidates=N "
        "picks from N of them, drawn at random, such as 120 in 4.0 hours." in caplog.text
    )
    caplog.clear()
    Badge(**SHORT, candidates=20).ask(run.context(0))
    assert "hours" not in caplog.text


@pytest.mark.parametrize("kind", ["region", "pixel"])
def test_the_oracles_error_is_the_share_of_wrong_pixels(tmp_path, kind):
    method = OracleError(**SHORT)
    run = toy_run(tmp_path, method=method, kind=kind)
    torch.manual_seed(0)
    module = method.stages(run.context(1))[0].module().eval()
    images = torch.randn(2, 3, 32, 48)
    truth = torch.from_numpy(np.stack([run.splits.train.truth(i) for i in (1, 4)])).long()
    batch = {"image": images, "target": truth, "index": torch.tensor([1, 4])}
    if kind == "region":
        maps = np.stack([run.pool.maps[run.regions][i] for i in (1, 4)])
        batch["regions"] = torch.from_numpy(maps).long()
    with torch.no_grad():
        units = module.predict_step(batch, 0)["units"]
        guess = module.network(images).argmax(1)
    wrong = (guess != truth) & (truth != 255)
    assert wrong.any()
    assert not wrong.all()
    for row in range(0, len(units["unit"]), 7):
        item, unit = int(units["image"][row] == 4), int(units["unit"][row])
        if kind == "region":
            expected = float(wrong[item][batch["regions"][item] == unit].float().mean())
        else:
            expected = float(wrong[item].flatten()[unit])
        assert float(units["score"][row]) == pytest.approx(expected, abs=1e-6)


def test_the_oracles_error_needs_truth_and_gets_it(tmp_path, caplog):
    run = toy_run(tmp_path / "a", rounds=2, method=OracleError(**SHORT))
    assert "nobody was asked for" in caplog.text
    assert len(drive(run)) == 2
    plain = toy_run(tmp_path / "b", rounds=2, method=Entropy(**SHORT))
    assert not plain.context(0).images.has_truth
    images = replace(run.splits.train, has_truth=False)
    with pytest.raises(UserError, match="reads the ground truth"):
        replace(run, splits=DataSplits(images, run.splits.val))


def test_a_share_of_the_pool_is_scored_and_asked(tmp_path):
    run = toy_run(tmp_path, rounds=3, method=Entropy(**SHORT, pool_fraction=0.5))
    drive(run)
    for round in (1, 2):
        assert len(np.unique(run.pool.history[round].image)) <= 3
    images = [run.method.ask(run.context(round)).images for round in range(1, 4)]
    assert all(len(i) == 3 for i in images)
    assert len({tuple(i) for i in images}) > 1  # another share every round
    with pytest.raises(UserError, match="every image"):
        PixelPick(**SHORT, pool_fraction=0.5)


def test_core_set_keeps_away_from_images_that_are_wholly_labelled(tmp_path):
    method = CoreSet(**SHORT)
    run = toy_run(tmp_path, rounds=2, method=method, kind="image", amount=1.3)
    buy(run, 0)
    context = run.context(1)
    labelled = run.pool.images()
    assert method.ask(run.context(1)).images.tolist() == list(range(6))
    # one open image lies where the labelled ones are, the others far away
    features = np.full((6, 2), 10.0, dtype=np.float32)
    near = int(np.setdiff1d(np.arange(6), labelled)[0])
    features[[*labelled, near]] = 0.0
    features[5 if near != 5 else 4] += 1.0
    ids = np.arange(6)
    table = {"image": ids, "unit": 0 * ids, "pixels": 0 * ids + 1536, "features": features}
    asked = method.pick(context, table)
    assert near not in asked.image


def test_classbal_against_a_loop(tmp_path):
    """Section 5.2 of arXiv 2303.16817: shares in regions, all of them, asked or not."""
    method = ClassBal(**SHORT)
    run, module, batch, units = scored(tmp_path, method, amount=30.0)
    with torch.no_grad():
        p = torch.softmax(module.network(batch["image"]), dim=1)
    best = p.topk(2, dim=1).values
    doubt, guess = best[:, 1] / best[:, 0], p.argmax(1)
    u, c = [], []
    for row in range(len(units["unit"])):
        item = {0: 0, 2: 1, 5: 2}[int(units["image"][row])]
        inside = batch["regions"][item] == int(units["unit"][row])
        u.append(float(doubt[item][inside].mean()))
        c.append(int(np.bincount(guess[item][inside].numpy(), minlength=3).argmax()))
    assert units["label"].tolist() == c
    assert units["score"].tolist() == pytest.approx(u, abs=1e-5)
    buy(run, 0)
    shares = [c.count(k) / len(c) for k in range(3)]
    wanted = [a / max(u) * np.exp(-shares[b]) for a, b in zip(u, c, strict=True)]
    table = {name: column.numpy() for name, column in units.items()}
    asked = {(int(i), int(r)) for i in (0, 2, 5) for r in run.pool.asked(run.regions, i)}
    order = sorted(range(len(u)), key=lambda r: (-wanted[r], table["image"][r], table["unit"][r]))
    rest = [(int(table["image"][r]), int(table["unit"][r])) for r in order]
    rest = [pair for pair in rest if pair not in asked]
    query = method.pick(run.context(1), table)
    got = list(zip(query.image.tolist(), query.unit.tolist(), strict=True))
    assert got == rest[: len(got)]
    assert len(got) == 31  # the rule of this run exceeds its budget
    assert asked
    with pytest.raises(UserError, match="asks about patches or regions"):
        drive(toy_run(tmp_path / "x", method=method, kind="pixel"))

"""Adaptive superpixels as a method: its pass, its choice, its errors, against the paper's text."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from alseg.active.driver import buy
from alseg.core.errors import UserError
from alseg.core.images import VOID
from alseg.labels.supervision import LabelFiles, LabelMaps
from alseg.labels.tables import PIXELS, Answers, Query
from alseg.methods.adaptive_superpixel.method import AdaptiveSuperpixel
from alseg.methods.adaptive_superpixel.module import Predictions, Sieve
from alseg.methods.adaptive_superpixel.stages import asked_base
from alseg.regions.merged import MergedMaps
from tests.toys import toy_run

SHORT = {"steps": 2, "batch_size": 2, "epoch_steps": 2, "lr": 1e-2, "optimizer": "adamw"}


# The choice


def scores(rng):
    """Tables of a pass with ties, superpixels without a row, and what was answered before."""
    rows, sizes = [], []
    for image in range(6):
        for unit in np.sort(rng.choice(40, 20, replace=False)):
            counts = {k: int(rng.integers(1, 5)) for k in range(3) if rng.random() < 0.6} or {1: 4}
            level = rng.choice([0.25, 0.5])
            if rng.random() < 0.4:  # many of one kind
                counts, level = {1: 16}, 0.5
            pixels = 4 * sum(counts.values())
            sizes.append((image, unit, pixels, rng.choice([0, pixels // 2, pixels // 2 - 1])))
            if rng.random() < 0.9:  # else it is too thin for the grid
                rows += [(image, unit, label, level * n, n) for label, n in counts.items()]
    columns = (np.array(column) for column in zip(*rows, strict=True))
    regions = dict(zip(("image", "unit", "label", "uncertainty", "pixels"), columns, strict=True))
    columns = (np.array(column, dtype=np.int32) for column in zip(*sizes, strict=True))
    return {
        "regions": regions,
        "sizes": dict(zip(("image", "unit", "pixels", "asked"), columns, strict=True)),
    }


def slow_pick(tables, prior, exclude, count):
    """F3, F5 and F6: which (image, unit) are asked, and the scores."""
    histograms, doubt = {}, {}
    for image, unit, label, uncertainty, pixels in zip(*tables["regions"].values(), strict=True):
        region = int(image), int(unit)
        histograms.setdefault(region, {})[int(label)] = int(pixels)
        doubt[region] = doubt.get(region, 0.0) + float(uncertainty)
    sizes = {(int(i), int(u)): (int(n), int(a)) for i, u, n, a in
             zip(*tables["sizes"].values(), strict=True)}  # fmt: skip
    counts = {region: sum(of.values()) for region, of in histograms.items()}
    u = {region: doubt[region] / counts[region] for region in doubt}
    c = {
        region: min(of, key=lambda label: (-of[label], label)) for region, of in histograms.items()
    }
    z = sum(counts.values()) if prior == "normalized" else sum(n for n, _ in sizes.values())
    p = {k: sum(counts[r] for r in c if c[r] == k) / z for k in set(c.values())}
    f = {r: np.exp(-p[c[r]]) * u[r] / max(u.values()) for r in u}
    left = [r for r in f if not exclude or 2 * sizes[r][1] < sizes[r][0]]
    return sorted(left, key=lambda r: (-f[r], r))[:count], f


@pytest.mark.parametrize("exclude", [False, True])
@pytest.mark.parametrize("prior", ["published", "normalized"])
def test_the_choice_against_the_text(tmp_path, prior, exclude):
    method = AdaptiveSuperpixel(**SHORT, prior=prior, exclude_labelled=exclude)
    run = toy_run(tmp_path, method=method, amount=25.0)
    orders = []
    for seed in range(3):
        tables = scores(np.random.default_rng(seed))
        query = method.pick(run.context(2), tables)
        expected, f = slow_pick(tables, prior, exclude, 26)
        orders.append(expected)
        assert list(zip(query.image.tolist(), query.unit.tolist(), strict=True)) == expected
        assert query.score.tolist() == pytest.approx([f[region] for region in expected])
        assert (query.round, query.kind, query.answer) == (2, "region", "dominant")
        assert query.regions == "blocks-merged-002"
        assert len(np.unique(query.score)) < 20, "there are ties"
    other = {"published": "normalized", "normalized": "published"}[prior]
    tables = [scores(np.random.default_rng(seed)) for seed in range(3)]
    assert [slow_pick(t, other, exclude, 26)[0] for t in tables] != orders
    assert [slow_pick(t, prior, not exclude, 26)[0] for t in tables] != orders


def test_the_price_of_a_merged_superpixel_is_that_of_its_pixels(tmp_path):
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    for name, value in (("axis", "pixels"), ("amount", 300.0), ("rule", "within")):
        object.__setattr__(run.pool.budget, name, value)
    query = run.method.pick(run.context(1), tables := scores(np.random.default_rng(0)))
    sizes = {(i, u): n for i, u, n, _ in zip(*map(np.ndarray.tolist, tables["sizes"].values()),
                                             strict=True)}  # fmt: skip
    order, _ = slow_pick(tables, "published", False, 1000)
    spent = np.cumsum([sizes[region] for region in order])
    assert len(query) == int((spent <= 300).sum()) > 1


def test_nothing_is_left_when_everything_is_labelled(tmp_path):
    method = AdaptiveSuperpixel(**SHORT, exclude_labelled=True)
    tables = scores(np.random.default_rng(0))
    tables["sizes"]["asked"] = tables["sizes"]["pixels"]
    assert len(method.pick(toy_run(tmp_path, method=method).context(1), tables)) == 0


# Answers and labels


def answered(run):
    """Two rounds of answers: base superpixels, then merged ones, of image 0."""
    pool = run.pool

    def commit(round, regions, units, labels):
        pool.commit(Answers(
            round=round, kind="region", answer="dominant", regions=regions, num_classes=3,
            image=np.zeros(len(units), np.int64), unit=np.array(units),
            label=np.array(labels, np.uint8),
        ))  # fmt: skip

    commit(0, "blocks", [0, 1, 7], [1, 2, 0])
    roots = [np.arange(24) for _ in range(6)]
    roots[0][[0, 6, 7]] = 0  # the left of the second row, and one above
    roots[0][[1, 2]] = 2
    pool.add_maps(MergedMaps(pool.maps["blocks"], "blocks-merged-001", roots))
    commit(1, "blocks-merged-001", [2, 0], [VOID, 2])


def test_what_was_answered_about_merged_superpixels_is_known_of_their_base(tmp_path):
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    answered(run)
    assert asked_base(run.pool, 0, run.regions).tolist() == [0, 1, 2, 6, 7]
    assert asked_base(run.pool, 1, run.regions).tolist() == []


def test_void_and_sieved_pixels_keep_the_earlier_label(tmp_path, monkeypatch):
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    answered(run)
    sieve = Sieve(
        network=SimpleNamespace(align_corners=False),
        predictions=Predictions(tmp_path), scale=0.5, pool=run.pool,
        labels=LabelFiles(tmp_path, np.array([0])), min_pixels=128, steps=48,
    )  # fmt: skip
    probabilities = torch.full((3, 16, 24), 0.3)
    probabilities[2] = torch.linspace(0.9, 1.0, 16 * 24).reshape(16, 24)
    probabilities[2, 1:4, :4] = torch.linspace(0, 0.5, 12).reshape(3, 4)  # most of superpixel 0
    probabilities[2, 4, 4:8] = torch.linspace(0.55, 0.7, 4)  # the upper edge of superpixel 7
    monkeypatch.setattr(Predictions, "probabilities", lambda *_: probabilities)

    def sieved():
        sieve.predict_step({"index": torch.tensor([0])}, 0)
        return sieve.labels(0).maps["target"]

    labels = sieved()
    expected = np.full((32, 48), VOID, dtype=np.uint8)
    expected[:8, :8] = 1
    expected[:8, 8:16] = 2  # void was said later, of this and its neighbour
    expected[8:16, 8:16] = 0
    over = np.zeros_like(expected, dtype=bool)
    over[:8, :8] = over[8:16, :16] = True
    low = np.kron(probabilities[2].numpy() < 0.8, np.ones((2, 2), bool))
    expected[over & ~low] = 2
    assert np.array_equal(labels, expected)
    assert (labels[2:8, :8] == 1).all()
    assert (labels[8:10, 8:16] == 0).all()
    sieve.min_pixels = 193  # the merged one has 192
    kept = sieved()
    assert np.array_equal(kept, run.pool.render(0))
    assert (kept[over] == 2).all()


def test_the_first_round_is_not_sieved(tmp_path):
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    answered(run)
    for round, method, kind in [
        (0, run.method, LabelMaps),
        (1, run.method, LabelFiles),
        (1, AdaptiveSuperpixel(**SHORT, sieve=False), LabelMaps),
    ]:
        context = run.context(round)
        (stage,) = method.stages(context)
        supervision = stage.supervision()
        assert isinstance(supervision, kind)
        assert supervision.images.tolist() == [0]
        if kind is LabelMaps:
            assert stage.prepare() is None
            assert np.array_equal(supervision(0).maps["target"], run.pool.render(0))


def test_regions_are_sieved_from_so_many_base_superpixels_on(tmp_path):
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    for above, pixels in ((2.0, 128), (0.5, 32), (1.49, 95)):
        method = AdaptiveSuperpixel(**SHORT, sieve_above=above)
        assert method.train(run.context(1)).min_pixels == pixels


def test_pictures_are_of_the_maps_of_a_round(tmp_path):
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    answered(run)
    first = run.method.show(run.context(0), 0)
    assert list(first) == ["superpixels", "learnt"]
    assert np.array_equal(first["learnt"], run.pool.render(0))
    second = run.method.show(run.context(1), 3)
    assert list(second) == ["superpixels", "merged"]
    assert np.array_equal(second["merged"], run.pool.maps["blocks-merged-001"][3])


# Errors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"prior": "publshed"}, "unknown method.prior 'publshed'; did you mean 'published'"),
        ({"keep": "bets"}, "unknown method.keep 'bets'; did you mean 'best'"),
        ({"eps": 0.0}, r"method.eps is 0.0; give a distance > 0, or null"),
        ({"eps": float("nan")}, "method.eps is nan"),
        ({"limit": 0.0}, r"method.limit is 0.0; it is a share"),
        ({"limit": 1.1}, r"method.limit is 1.1; it is a share"),
        ({"prediction_scale": 0.0}, "method.prediction_scale is 0.0; it must be > 0"),
        ({"sieve_above": -1.0}, "method.sieve_above is -1.0"),
        ({"sieve_steps": 0}, "method.sieve_steps is 0"),
        ({"steps": 0}, "method.steps is 0"),
        ({"batch_size": 0}, "method.batch_size is 0"),
        ({"optimizer": "sdg"}, "'sdg'; did you mean 'sgd'"),
    ],
)
def test_nonsense_is_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        AdaptiveSuperpixel(**options)


@pytest.mark.parametrize(
    ("kind", "word"), [("pixel", "pixels"), ("patch", "patches"), ("image", "images")]
)
def test_only_superpixels_are_merged(tmp_path, kind, word):
    with pytest.raises(UserError, match=f"asks about regions, and these regions are {word}"):
        toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT), kind=kind, amount=2.0)


def test_a_budget_for_the_whole_pool_is_refused(tmp_path):
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT), amount=144.0)
    with pytest.raises(UserError, match="there would be nothing to choose"):
        buy(run, 0)


@pytest.mark.parametrize(
    ("regions", "answer", "column"),
    [
        ("blocks", "class_set", {"sets": np.zeros((1, 1), np.uint8)}),
        ("blocks", "mask", {"masks": (np.zeros(64, np.uint8),)}),
        (PIXELS, "class", {"label": np.zeros(1, np.uint8)}),
    ],
)
def test_other_answers_cannot_be_learnt(tmp_path, regions, answer, column):
    """A run that repeats the purchases of another method's."""
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    kind = "pixel" if regions == PIXELS else "region"
    one = np.zeros(1, np.int64)
    run.pool.commit(Answers(0, kind, answer, regions, 3, one, one, **column))
    context = run.context(0)
    with pytest.raises(UserError, match=f"round 0 asked for the {answer} of {kind}s, and method="):
        run.method.stages(context)[0].module()


def test_measures_of_nothing_but_void_are_not_numbers(tmp_path):
    """They become empty cells."""
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    one = np.zeros(1, np.int64)
    label = np.full(1, VOID, np.uint8)
    run.pool.commit(Answers(0, "region", "dominant", "blocks", 3, one, one, label))
    measures = run.method.measures(run.context(0), run.splits.train)
    assert measures["region_pixels"] == 64
    assert np.isnan(measures["noise_answered"])
    assert np.isnan(measures["noise_learnt"])
    assert np.isnan(measures["sieved_share"])


def test_a_query_without_its_maps_is_refused(tmp_path):
    """The tables the maps are made from were lost, or never belonged to this method."""
    run = toy_run(tmp_path, method=AdaptiveSuperpixel(**SHORT))
    buy(run, 0)
    one = np.zeros(1, np.int64)
    score = np.ones(1, np.float32)
    Query(1, "region", "dominant", "blocks-merged-001", one, one, score).save(
        tmp_path / "round_001" / "query.npz"
    )
    with pytest.raises(UserError, match=r"regions 'blocks-merged-001', which this run does not"):
        buy(run, 1)

"""Ways to keep units apart, against hand values, slow loops, and any order of the rows."""

import numpy as np
import pytest

from alseg.acquisition.clustering import kmeans
from alseg.acquisition.diversity import CANDIDATES, DIVERSITIES, Diversity, Units

RNG = np.random.default_rng


def pool(n=60, seed=0):
    """Units of 6 images with features of 3 tight groups, labels and centres."""
    rng = RNG(seed)
    group = np.arange(n) % 3
    centers = np.array([[0.0, 0.0], [10.0, 0.0], [0.0, 10.0]])
    features = (centers[group] + rng.normal(0, 0.1, (n, 2))).astype(np.float32)
    return Units(
        image=np.arange(n) % 6,
        unit=np.arange(n) // 6,
        score=rng.random(n),
        features=features,
        label=group,
        center=rng.uniform(0, 100, (n, 2)),
    )


def measured(name, units):
    """The diversity with its table, in another order of rows than the units."""
    order = RNG(9).permutation(len(units.score))
    table = {
        "image": units.image[order].astype(np.int32),
        "unit": units.unit[order].astype(np.int32),
        "features": units.features[order].astype(np.float16),
        "label": units.label[order].astype(np.int32),
    }
    return Diversity(name, table)


def plain(units):
    return units._replace(features=None, label=None)


def asked(units, rows):
    return set(zip(units.image[rows].tolist(), units.unit[rows].tolist(), strict=True))


@pytest.mark.parametrize("name", sorted(DIVERSITIES))
def test_distinct_units_whatever_the_order_of_the_rows(name):
    units = pool()
    rows = measured(name, units).choose(plain(units), 6, RNG(1))
    assert len(set(rows.tolist())) == len(rows) == 6
    shuffled = RNG(5).permutation(len(units.score))
    other = units.rows(shuffled)
    again = measured(name, other).choose(plain(other), 6, RNG(1))
    assert asked(other, again) == asked(units, rows)
    assert len(Diversity(name).choose(plain(units.rows(np.arange(0))), 6, RNG(1))) == 0


def test_clusters_give_one_unit_each_the_one_of_highest_score():
    units = pool()
    rows = measured("kmeans", units).choose(plain(units), 3, RNG(0))
    candidates = np.sort(np.argsort(-units.score)[: 3 * CANDIDATES])
    some = units.rows(candidates)
    ids = np.argsort(np.argsort(some.image * 100 + some.unit))
    weight = (some.score - some.score.min()).astype(np.float32) + np.float32(1e-6)
    features = some.features.astype(np.float16).astype(np.float32)
    _, cluster = kmeans(features, 3, ids, int(RNG(0).integers(2**30)), weights=weight)
    best = [some.score[cluster == group].max() for group in range(3)]
    assert units.score[rows].tolist() == sorted(best, reverse=True)


def test_only_candidates_of_high_score_are_clustered():
    units = pool(120)
    rows = measured("kmeans", units).choose(plain(units), 2, RNG(0))
    ranked = np.argsort(-units.score)
    assert set(rows.tolist()) <= set(ranked[: 2 * CANDIDATES].tolist())


def test_k_center_against_a_loop():
    units = pool()
    features = units.features.astype(np.float16).astype(np.float64)
    candidates = np.argsort(-units.score)[: 5 * CANDIDATES]
    picked = [int(candidates[0])]
    while len(picked) < 5:
        distance = np.linalg.norm(features[candidates, None] - features[picked], axis=2).min(1)
        picked.append(int(candidates[distance.argmax()]))
    rows = measured("k_center", units).choose(plain(units), 5, RNG(0))
    assert rows.tolist() == picked
    assert measured("k_center", units).choose(plain(units), 1, RNG(0)).tolist() == picked[:1]


def test_classes_take_turns_in_order_of_their_scores():
    units = pool(9)
    rows = measured("stratified", units).choose(plain(units), 9, RNG(0))
    assert sorted(units.label[rows[:3]]) == sorted(units.label[rows[3:6]]) == [0, 1, 2]
    for group in range(3):
        of_group = [r for r in rows.tolist() if units.label[r] == group]
        assert of_group == sorted(of_group, key=lambda r: -units.score[r])


def test_noise_prefers_high_scores_and_spreading_keeps_units_apart():
    units = pool(400)._replace(score=np.r_[np.full(200, 1.0), np.full(200, 0.01)])
    rows = Diversity("power").choose(plain(units), 50, RNG(3))
    assert (rows < 200).sum() > 40
    assert (rows >= 200).sum() > 0
    negative = units._replace(score=units.score - 5)
    assert len(Diversity("power").choose(plain(negative), 50, RNG(3))) == 50

    def nearest(rows):
        apart = np.linalg.norm(units.center[rows][:, None] - units.center[rows], axis=2)
        apart[units.image[rows][:, None] != units.image[rows]] = np.inf
        np.fill_diagonal(apart, np.inf)
        return apart.min(1).mean()

    flat = units._replace(score=np.zeros(400))
    spread = Diversity("spread").choose(plain(flat), 40, RNG(0))
    assert nearest(spread) > 1.25 * nearest(np.argsort(RNG(2).random(400))[:40])


def test_what_was_not_measured_is_an_error():
    units = pool()
    with pytest.raises(ValueError, match="needs \\['features'\\] of every unit"):
        Diversity("kmeans").choose(plain(units), 3, RNG(0))
    with pytest.raises(ValueError, match="was not measured of all units"):
        measured("kmeans", units.rows(np.arange(30))).choose(plain(units), 3, RNG(0))

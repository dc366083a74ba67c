"""PixelPick as its paper's code chooses: void is never asked for, which reads the ground truth."""

import numpy as np
import pytest

from alseg.active.driver import drive
from alseg.core.images import VOID
from alseg.labels.tables import Query
from alseg.methods.baselines.pixelpick import AskedOrVoid, PixelPick
from tests.methods.baselines.test_baselines import SHORT
from tests.toys import ToyImages, toy_run


class MuchVoid(ToyImages):
    """More than a half of every image has no class."""

    def truth(self, index):
        labels = super().truth(index).copy()
        labels[:, 20:] = VOID
        return labels


def void_asked(root, images):
    queries = [Query.load(path) for path in sorted(root.glob("round_*/query.npz"))]
    assert len(queries) == 3
    assert all(np.bincount(query.image).tolist() == [3] * 6 for query in queries)
    return [
        sum(
            images.truth(int(image)).flat[unit] == VOID
            for image, unit in zip(query.image, query.unit, strict=True)
        )
        for query in queries
    ]


@pytest.mark.parametrize("skip", [False, True])
def test_void_is_not_asked_in_any_round(tmp_path, monkeypatch, skip):
    monkeypatch.setattr("tests.toys.ToyImages", MuchVoid)
    method = PixelPick(**SHORT, skip_void=skip, top_share=0.02)
    assert method.reads_truth == skip
    run = toy_run(tmp_path, rounds=3, method=method, amount=20.0)
    drive(run)
    found = void_asked(tmp_path, run.splits.train)
    assert (sum(found) == 0) == skip
    assert skip or found[0] > 0
    if skip:
        closed = AskedOrVoid(run.pool, run.splits.train)
        assert len(closed) == len(list(closed)) == 6
        for image in range(6):
            asked = run.pool.asked("pixels", image)
            labels = run.splits.train.truth(image).ravel()
            assert set(closed[image]) == set(asked) | set(np.flatnonzero(labels == VOID))


def test_the_first_round_takes_what_there_is(tmp_path, monkeypatch):
    class OneLeft(ToyImages):
        def truth(self, index):
            labels = np.full_like(super().truth(index), VOID)
            labels[3, 4] = 1
            return labels

    monkeypatch.setattr("tests.toys.ToyImages", OneLeft)
    run = toy_run(tmp_path, method=PixelPick(**SHORT, skip_void=True), amount=20.0)
    query = run.method.first(run.context(0))
    assert query.image.tolist() == list(range(6))
    assert query.unit.tolist() == [3 * 48 + 4] * 6

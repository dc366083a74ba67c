"""The arm of the paper's figure 7b: dominant classes for the same two stages."""

import numpy as np
import pytest

from alseg.active.driver import drive
from alseg.core.errors import UserError
from alseg.labels.tables import Answers
from alseg.methods.mulquery.method import MulQuery
from alseg.methods.mulquery.supervision import ClassSets
from tests.toys import ToyImages, toy_run

SHORT = {
    **{"steps": 4, "batch_size": 2, "epoch_steps": 2, "lr": 1e-3, "head_factor": 1.0},
    **{"stage_two_steps": 2, "stage_two_batch_size": 2},
}


def test_dominant_classes_cost_one_and_are_sets_of_one(tmp_path):
    run = toy_run(tmp_path, rounds=2, method=MulQuery(**SHORT, answer="dominant"), amount=20.0)
    rows = drive(run)
    assert len(rows) == 2
    assert (tmp_path / "round_001" / "stage_two" / "last.ckpt").exists()
    pool, images = run.pool, ToyImages(6)
    for round in range(2):
        answers = Answers.load(tmp_path / f"round_{round:03d}" / "answers.npz")
        assert answers.answer == "dominant"
        assert (answers.members().sum(axis=1) == 1).all()
        assert 20 <= len(answers.unit) <= 21, "a click each"
        for image, unit, said in zip(
            answers.image, answers.unit, answers.members().argmax(1), strict=True
        ):
            inside = images.truth(int(image))[pool.maps[run.regions][int(image)] == unit]
            values, counts = np.unique(inside, return_counts=True)
            assert counts[values == (255 if said == 3 else said)] == counts.max()
    sets = ClassSets.of(pool, run.regions, undefined=True)
    for image in sets.images.tolist():
        ids, members = sets.sets(image)
        assert len(ids) == len(np.unique(ids))
        assert (members.sum(axis=1) == 1).all()


def test_other_questions_are_refused():
    with pytest.raises(UserError, match=r"unknown method.answer 'mask'"):
        MulQuery(answer="mask")

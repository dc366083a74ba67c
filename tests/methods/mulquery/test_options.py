"""What the options of mulquery do to its stages and its choice."""

import numpy as np
import pytest

from alseg.active.driver import drive
from alseg.core.errors import UserError
from alseg.labels.tables import Query
from alseg.methods.mulquery.method import MulQuery
from tests.toys import toy_run

SHORT = {
    "steps": 2, "batch_size": 2, "epoch_steps": 2, "lr": 1e-3, "head_factor": 1.0,
    "stage_two": False,
}  # fmt: skip


def test_a_stage_that_is_switched_off_is_not_checked(tmp_path):
    """240 batches of stage 2 are no multiple of 500, which matters only if it is trained."""
    run = toy_run(tmp_path, method=MulQuery(**{**SHORT, "stage_two_steps": 241, "epoch_steps": 2}))
    assert [stage.name for stage in run.method.stages(run.context(0))] == ["stage_one"]
    on = MulQuery(**{**SHORT, "stage_two": True, "stage_two_steps": 241})
    with pytest.raises(UserError, match="stage_two has 241 steps"):
        on.stages(run.context(0))


@pytest.mark.parametrize("diversity", ["kmeans", "k_center", "power", "spread", "stratified"])
def test_its_regions_can_be_kept_apart(tmp_path, diversity):
    plain, spread = (
        toy_run(tmp_path / str(way), rounds=2, method=MulQuery(**SHORT, diversity=way))
        for way in (None, diversity)
    )
    for run in (plain, spread):
        drive(run)
    one, two = (Query.load(run.root / "round_001" / "query.npz") for run in (plain, spread))
    assert len(two) > 5
    same = len(one) == len(two) and np.array_equal(one.unit, two.unit)
    assert not same
    asked = set(zip(two.image.tolist(), two.unit.tolist(), strict=True))
    first = Query.load(spread.root / "round_000" / "query.npz")
    bought = spread.pool.history[0]
    assert len(first) >= len(bought)
    assert not asked & set(zip(bought.image.tolist(), bought.unit.tolist(), strict=True))


def test_a_choice_without_scores_has_nothing_to_spread():
    with pytest.raises(UserError, match="diversity=kmeans spreads out a ranking"):
        MulQuery(**SHORT, acquisition="random", diversity="kmeans")

import pytest

from alseg.active.stage import Fit
from alseg.core.errors import UserError


@pytest.mark.parametrize(
    ("passes", "images", "size", "batches"),
    [(1, 7, 3, 3), (4, 6, 3, 2), (2, 3, 5, 1), (60, 1, 1, 1), (1, 0, 5, 1)],
)
def test_a_stage_of_whole_passes(passes, images, size, batches):
    """Every pass is an epoch, whose last batch holds what is left."""
    stage = Fit.passes(passes, images, size)
    assert stage.epochs == passes
    assert stage.epoch_batches == stage.epoch_steps == batches
    assert stage.steps == passes * batches
    assert stage.batch_size == size
    assert stage.whole_passes


def test_other_stages_count_batches():
    stage = Fit(steps=1000, batch_size=4, epoch_steps=250)
    assert (stage.epochs, stage.epoch_batches, stage.whole_passes) == (4, 250, False)
    short = Fit(steps=7, batch_size=4, epoch_steps=250)
    assert (short.epochs, short.epoch_batches) == (1, 7)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"steps": 0}, "stage s has steps 0; it must be at least 1"),
        ({"batch_size": 0}, "stage s has batch_size 0; it must be at least 1"),
        ({"keep": "bets"}, "unknown keep of stage s 'bets'; did you mean 'best'"),
        (
            {"steps": 100, "epoch_steps": 30},
            "s has 100 steps, which epochs of 30 do not make up; give a multiple of 30, or epochs "
            "of e.g. 25",
        ),
    ],
)
def test_nonsense_is_refused(options, sentence):
    with pytest.raises(UserError, match=sentence):
        Fit(**{"steps": 4, "batch_size": 2, **options}).check("s")


def test_no_pass_is_no_stage():
    with pytest.raises(UserError, match="stage final has steps 0"):
        Fit.passes(0, images=5, batch_size=2).check("final")

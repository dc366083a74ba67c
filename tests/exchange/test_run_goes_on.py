"""A tiny run waits, is exported, answered in a tool and imported, and goes on as if it knew."""

import numpy as np
import pytest

from alseg.active.driver import buy
from alseg.exchange.formats import FORMATS
from alseg.exchange.sheets import make_task
from alseg.exchange.store import export_round, import_answers
from alseg.label.session import SessionWriter, find_open, read_session
from alseg.labels.oracle import AwaitingAnswersError, HumanOracle, answer_from_truth
from tests.exchange.tools import TOOLS, answer
from tests.exchange.waiting import names_of
from tests.label.rounds import same
from tests.methods.test_contract import short
from tests.toys import toy_run

#: Methods that ask for sets of classes, dominant classes, classes of pixels, and dense masks.
METHODS = ("mulquery", "random", "pixelpick", "equal")


@pytest.fixture(scope="module")
def bought(tmp_path_factory):
    """What each method buys in round 0 if the truth answers."""
    history = {}
    for name in METHODS:
        run = toy_run(tmp_path_factory.mktemp(name), method=short(name))
        assert buy(run, 0)
        history[name] = (run.pool.history[0], run.pool.spent())
    return history


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("form", TOOLS)
def test_the_run_goes_on(form, method, bought, tmp_path):
    run = toy_run(tmp_path, method=short(method))
    run.oracle = HumanOracle()
    images = run.splits.train
    run.observers.append(SessionWriter(images))
    with pytest.raises(AwaitingAnswersError):
        buy(run, 0)
    session = read_session(find_open(tmp_path))
    if session.query.answer in FORMATS[form].refused:
        pytest.skip("the format cannot hold it")
    crops = form == "mask"
    out = export_round(tmp_path, FORMATS[form], crops=crops).folder
    truth = answer_from_truth(session.query, run.pool, images, 0, True)
    words, paint = {}, {}
    if truth.masks is None:
        known = [*session.names, "void"]
        members = enumerate(truth.members())
        words = {row: [known[i] for i in np.flatnonzero(said)] for row, said in members}
    else:
        for sheet in make_task(session, range(len(session)), crops).sheets:
            top, left = sheet.corner
            labels = images.truth(sheet.image)[top:, left:][: sheet.height, : sheet.width]
            paint[sheet.name] = names_of(labels, session.names)
    done = import_answers(tmp_path, FORMATS[form], answer(form, out, words, paint))
    assert done.missing == []
    again = toy_run(tmp_path, method=short(method))
    again.oracle = HumanOracle()
    assert buy(again, 0)
    answers, spent = bought[method]
    assert same(again.pool.history[0].head(len(answers)), answers)
    assert spent.units <= again.pool.spent().units <= len(session)

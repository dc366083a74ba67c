import itertools

import numpy as np
import pytest

from alseg.core.images import VOID
from alseg.label.board import BLOCK, LEASE
from alseg.label.desk import Desk
from alseg.label.suggestions import Suggestions
from alseg.label.values import Refused
from alseg.labels.budget import Budget
from alseg.labels.tables import Answers
from tests.label.rounds import KINDS, Asked, same

nonces = (f"nonce{i:06d}" for i in itertools.count())


def say(desk, by, row, value, **more):
    body = {"round": desk.round, "rows": [row], "value": value, "seconds": 2.0, "clicks": 1}
    desk.answer(by, {**body, "nonce": next(nonces), **more})


def take_back(desk, by):
    desk.undo(by, {"round": 0, "nonce": next(nonces)})


def finish(desk, **more):
    desk.finish("ann", {"round": 0, "nonce": next(nonces), **more})


def rows(desk, by):
    return [question["row"] for question in desk.state(by)["questions"]]


def work(desk, values, by="ann", most=10**6):
    """Answer by the truth until nothing is asked; the rows in their order."""
    done = []
    while len(done) < most and (asked := rows(desk, by)):
        say(desk, by, asked[0], values[asked[0]])
        done.append(asked[0])
    return done


@pytest.fixture
def desk_of(tmp_path):
    desks = []

    def make(name="superpixel", rows=20, budget=None, overlap=0.0, hints=None, **more):
        asked = Asked(tmp_path / str(len(desks)), name, rows, budget=budget, **more)
        desks.append(Desk(asked.read(), overlap, hints, clock=lambda: desks[-1].now))
        desks[-1].now = 1000.0
        return asked, desks[-1]

    yield make
    for desk in desks:
        desk.close()


@pytest.mark.parametrize("name", KINDS)
def test_a_person_who_knows_the_truth_answers_like_the_simulated_oracle(name, desk_of):
    asked, desk = desk_of(name)
    work(desk, asked.values())
    finish(desk)
    answers = desk.hand_in(asked.round)
    assert same(answers, asked.bought())
    assert answers.seconds.tolist() == [2.0] * 20
    assert same(Answers.load(asked.round / "answers.npz"), answers)
    asked.pool.commit(answers)
    assert asked.pool.spent().seconds == 40


@pytest.mark.parametrize("rule", ["exceed", "reach"])
def test_sets_are_asked_in_order_until_the_budget_is_spent(rule, desk_of):
    budget = Budget(31, rule=rule)
    asked, desk = desk_of("class_set", rows=60, budget=budget)
    done = work(desk, asked.values())
    assert done == list(range(len(done)))
    assert len(done) < 60
    assert same(desk.answers(), asked.bought())
    state = desk.state("ann")
    assert state["done"]
    assert state["spent"] >= 31
    with pytest.raises(Refused, match="not wanted"):
        say(desk, "ann", len(done), [0])


def test_measured_seconds_are_what_a_budget_of_seconds_buys(desk_of):
    asked, desk = desk_of("pixel", budget=Budget(10, axis="seconds", rule="reach"))
    assert work(desk, asked.values()) == [0, 1, 2, 3, 4]  # two seconds each
    assert desk.state("ann")["spent"] == 10


def test_certain_prices_are_asked_image_by_image(desk_of):
    asked, desk = desk_of("pixel", rows=40)
    images = asked.query.image[work(desk, asked.values())]
    assert np.count_nonzero(np.diff(images)) == len(set(images.tolist())) - 1
    assert images[0] == asked.query.image[0]


def test_undo_goes_back_any_number_of_times_and_time_is_not_forgotten(desk_of):
    asked, desk = desk_of()
    values = asked.values()
    done = work(desk, values, most=5)
    for _ in range(9):  # more often than there are answers
        take_back(desk, "ann")
    assert rows(desk, "ann")[:3] == done[:3]
    assert not desk.state("ann")["can_undo"]
    say(desk, "ann", done[0], 1, seconds=3.0)
    assert desk.board.cost().seconds.tolist() == [5.0]
    work(desk, values)
    assert desk.answers().label[done[0]] == 1


def test_void_and_unsure_are_paid_and_teach_nothing(desk_of):
    asked, desk = desk_of()
    first, second, *_ = rows(desk, "ann")
    say(desk, "ann", first, None)
    say(desk, "ann", second, 2, unsure=True)
    work(desk, asked.values())
    answers = desk.answers()
    assert answers.label[[first, second]].tolist() == [VOID, VOID]
    assert np.flatnonzero(answers.unsure).tolist() == [second]
    assert desk.state("ann")["spent"] == 20
    text = (asked.round / "answers.jsonl").read_text()
    assert text.count('"unsure":true') == 1
    for name, nothing in (("class_set", [0, 0, 0, 1]), ("patch_mask", [VOID] * 256)):
        _, desk = desk_of(name, rows=1)
        say(desk, "ann", 0, None, unsure=True)
        answers = desk.answers()
        said = answers.members()[0] if answers.sets is not None else answers.masks[0]
        assert said.tolist() == nothing


def test_the_same_request_twice_is_one_answer(desk_of):
    _, desk = desk_of()
    row = rows(desk, "ann")[0]
    for _ in range(2):
        say(desk, "ann", row, 1, nonce="the same one")
    assert len(desk.board.given) == 1
    for _ in range(2):
        desk.undo("ann", {"round": 0, "nonce": "the same undo"})
    assert not desk.board.given


def test_blocks_are_leased_and_the_last_one_is_shared(desk_of):
    asked, desk = desk_of("pixel", rows=2 * BLOCK)
    values = asked.values()
    ann, ben = rows(desk, "ann"), rows(desk, "ben")
    assert not {*ann} & {*ben}
    assert {desk.board._block_of[row] for row in ann} == {0}
    assert {desk.board._block_of[row] for row in ben} == {1}
    work(desk, values, "ben", BLOCK)
    assert desk.board._place[rows(desk, "ben")[0]] == BLOCK - 1  # the last of ann's
    say(desk, "ann", ann[0], values[ann[0]])
    with pytest.raises(Refused, match="answered meanwhile"):
        say(desk, "ben", ann[0], values[ann[0]])
    desk.now += LEASE + 1
    assert rows(desk, "ben")[0] == ann[1]  # ann is gone
    work(desk, values, "ben")
    assert same(desk.answers(), asked.bought())


def test_a_share_is_asked_twice_by_another_one(desk_of):
    asked, desk = desk_of("superpixel", rows=60, overlap=0.2)
    values = asked.values()
    work(desk, values, "ann", 30)
    done = work(desk, values, "ben")
    twice = [row for row, first, _ in desk.board.pairs() if first.by == "ann"]
    assert {*twice} == {row for row in desk.board.twice if row in done} - {
        row for row in desk.board.twice if desk.board.given[desk.board._live[row][0]].by == "ben"
    }
    assert twice
    assert same(desk.answers(), asked.bought())  # the second answer neither counts nor costs
    assert desk.state("ann")["spent"] == 60
    found = desk.agreement()
    assert found.kappa == 1
    assert found.counts.trace() == found.questions == len(desk.board.pairs())
    desk.hand_in(asked.round)
    assert (asked.round / "label" / "agreement.json").exists()


def test_alone_the_second_time_comes_when_all_else_is_done(desk_of):
    asked, desk = desk_of("superpixel", overlap=0.3)
    done = work(desk, asked.values())
    again = len(desk.board.twice)
    assert 0 < again < 20
    assert sorted(done[:20]) == list(range(20))
    assert {*done[20:]} == desk.board.twice


def test_steps_of_an_answer_come_back_after_a_kill(desk_of):
    asked, desk = desk_of("patch_mask", rows=2)
    paint = [[2, [0, 3, 8, 1]], [VOID, [3, 1]]]
    desk.draft("ann", {"round": 0, "row": 0, "nonce": next(nonces), "paint": paint})
    desk.close()
    again = Desk(asked.read())
    (question,) = [q for q in again.state("ann")["questions"] if q["row"] == 0]
    assert question["draft"] == [2, 3, VOID, 1, -1, 4, 2, 1, -1, 247]
    assert again.state("ben")["questions"][0]["draft"] is None
    again.close()
    desk._journal._lock.acquire()  # the fixture closes what it opened
    desk._journal._file = __import__("os").open(asked.round / "answers.jsonl", 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("pixel", 3), ("pixel", -1), ("pixel", True), ("pixel", "1"), ("pixel", [1]),
        ("class_set", []), ("class_set", [4]), ("class_set", None), ("class_set", 1),
        ("patch_mask", [0, 255]), ("patch_mask", [0, 257]), ("patch_mask", [3, 256]),
        ("patch_mask", [0, -1, 0, 257]), ("patch_mask", [0]), ("patch_mask", None),
    ],
)  # fmt: skip
def test_values_that_are_none_are_refused_and_not_written(name, value, desk_of):
    asked, desk = desk_of(name)
    before = (asked.round / "answers.jsonl").read_bytes()
    with pytest.raises(Refused) as refusal:
        say(desk, "ann", rows(desk, "ann")[0], value)
    assert refusal.value.status == 422
    assert (asked.round / "answers.jsonl").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        {"rows": [20]}, {"rows": []}, {"rows": [0, 0]}, {"rows": "0"}, {"seconds": -1},
        {"seconds": float("nan")}, {"seconds": None}, {"clicks": "1"}, {"nonce": "short"},
        {"nonce": 12345678}, {"round": 1}, {"rejected": [0]},
    ],
)  # fmt: skip
def test_malformed_requests_are_refused(change, desk_of):
    _, desk = desk_of()
    with pytest.raises(Refused):
        say(desk, "ann", 0, 1, **change)
    assert not desk.board.given


def test_a_round_ends_early_only_where_the_run_takes_that(desk_of):
    asked, desk = desk_of("class_set")
    work(desk, asked.values(), most=5)
    with pytest.raises(Refused, match="not answered yet"):
        finish(desk)
    with pytest.raises(Refused, match="accept_partial"):
        finish(desk, partial=True)
    object.__setattr__(desk.session, "accept_partial", True)
    finish(desk, partial=True)
    assert len(desk.answers()) == 5
    with pytest.raises(Refused, match="finished"):
        say(desk, "ann", 6, [0])
    with pytest.raises(Refused, match="finished"):
        take_back(desk, "ann")


def test_the_grid_accepts_many_at_once_and_asks_the_others(desk_of):
    asked, desk = desk_of(rows=40, hints=Suggestions([row % 2 for row in range(40)]))
    found = desk.grid("ann")
    label, first = found["label"], [q["row"] for q in found["questions"]]
    assert {row % 2 for row in first} == {label}
    say(desk, "ann", 0, label, rows=first[2:], rejected=first[:2], seconds=36.0, suggested=True)
    assert desk.board.answered.sum() == len(first) - 2
    assert desk.board.cost().seconds.sum() == pytest.approx(36)
    second = [q["row"] for q in desk.grid("ann")["questions"]]
    assert {row % 2 for row in second} == {1 - label}  # what was taken out does not come again
    say(desk, "ann", 0, 0, rows=[], rejected=second)
    assert desk.grid("ann")["questions"] == []
    assert {*rows(desk, "ann")} <= {*first[:2], *second}
    take_back(desk, "ann")  # all of them, as they were given
    assert not desk.board.answered.any()
    text = (asked.round / "answers.jsonl").read_text()
    assert '"suggested":' in text
    assert '"taken":true' in text


def test_suggestions_are_shown_only_if_wanted(desk_of):
    _, desk = desk_of()
    assert desk.state("ann")["questions"][0]["suggestion"] is None
    assert not desk.about()["grid"]
    with pytest.raises(Refused):
        desk.grid("ann")


def test_a_question_about_a_suggestion_shows_it_and_says_what_became_of_it(desk_of):
    asked, desk = desk_of("correct", overlap=1.0)
    assert not desk.about()["certain"]  # what is kept costs nothing
    suggested, values = asked.query.suggested.tolist(), asked.values()
    for question in desk.state("ann")["questions"]:
        label = suggested[question["row"]]
        assert question["suggests"]
        assert question["suggestion"] == (None if label == VOID else label)
    for row in range(20):
        say(desk, "ann", row, values[row], suggested=True)
    lines = [line for line in desk._journal.path.read_text().splitlines() if "answer" in line]
    truth = asked.truth().label
    assert sum('"taken":true' in line for line in lines) == np.sum(truth == suggested)
    assert desk.state("ann")["spent"] == np.sum(truth != suggested)
    second = desk.state("ben")["questions"][0]
    assert second["second"]
    assert second["suggests"]  # the question is about it

"""Tables that a module promises: the same query, errors in time, and one promise at a time."""

import os
import signal
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from threading import Event

import lightning as L
import numpy as np
import pytest
import torch

from alseg.active.promised import TableQueue
from alseg.active.shards import ShardWriter, read_shards
from alseg.active.stopping import Asked, StoppedError, stoppable
from alseg.core.errors import PeerDiedError, UserError
from tests.active.test_loop import Own, parts, predict, rows
from tests.active.test_shards import tables_of


def known(tables):
    promise = Future()
    promise.set_result(tables)
    return promise


def failed(error):
    promise = Future()
    promise.set_exception(error)
    return promise


def queue_in(folder):
    return TableQueue(ShardWriter(folder / "r"), dict)


def beside(image):
    return {"scored": {"image": torch.tensor([image])}}


def test_rows_come_in_the_order_of_the_batches_whoever_is_late(tmp_path):
    queue, late = queue_in(tmp_path), Future()
    queue.append(tables_of(2), beside(2))
    queue.append(late, beside(3))
    queue.look()  # nothing to see yet
    late.set_result(tables_of(3))
    queue.append(known(tables_of(5)), beside(5))
    queue.append(tables_of(7), beside(7))
    queue.append(known(tables_of(9)), beside(9))
    queue.close()
    found = read_shards([tmp_path / "r"])
    # a memory map of one process is in the order of writing: sorted, since nothing was late
    assert found["scored"]["image"].tolist() == [2, 3, 5, 7, 9]
    for name in ("regions", "images"):
        for column, values in found[name].items():
            expected = np.concatenate([tables_of(i)[name][column] for i in (2, 3, 5, 7, 9)])
            assert np.array_equal(values, expected)


def test_tables_promised_take_the_place_of_those_beside(tmp_path):
    queue = queue_in(tmp_path)
    queue.append(known({"images": {"image": torch.tensor([1])}}), {"images": {}})
    queue.close()
    assert read_shards([tmp_path / "r"])["images"]["image"].tolist() == [1]


def test_the_next_batch_waits_for_the_one_before(tmp_path):
    """So that no more than one is in memory."""
    queue, slow, reached = queue_in(tmp_path), Future(), Event()
    queue.append(slow, beside(1))
    with ThreadPoolExecutor(1) as other:

        def go_on():
            queue.append(tables_of(2), beside(2))
            reached.set()

        going = other.submit(go_on)
        assert not reached.wait(0.05)
        slow.set_result(tables_of(1))
        going.result(10)
    queue.close()


def test_an_error_is_heard_at_the_first_look_or_when_the_next_batch_ends(tmp_path):
    error = ArithmeticError("of the first batch")
    for hear in (
        lambda queue: queue.look(),
        lambda queue: queue.append(tables_of(2), beside(2)),
        lambda queue: queue.close(),
    ):
        queue = queue_in(tmp_path)
        queue.append(failed(error), beside(1))
        with pytest.raises(ArithmeticError, match="of the first batch"):
            hear(queue)
        queue.look()  # once


def test_what_is_dropped_is_not_begun(tmp_path):
    queue, waiting = queue_in(tmp_path), Future()
    queue.append(waiting, beside(1))
    queue.drop()
    assert waiting.cancelled()
    queue.close()
    assert read_shards([tmp_path / "r"]) == {}


@pytest.mark.parametrize("stopped", [False, True])
def test_a_dead_process_is_named_unless_a_signal_has_ended_all(tmp_path, stopped):
    queue = queue_in(tmp_path)
    error = StoppedError if stopped else PeerDiedError
    said = "Stopped by SIGTERM" if stopped else "a process that worked on a scoring batch died"
    with ProcessPoolExecutor(1, get_context("fork")) as pool:
        queue.append(pool.submit(os.kill, pool.submit(os.getpid).result(), signal.SIGKILL), {})
        with pytest.raises(error, match=said):
            close_when_asked(queue, signal.SIGTERM if stopped else None)


def close_when_asked(queue, number):
    with stoppable():
        Asked.number = number  # a signal that went to the whole group
        queue.close()


class Promising(Own):
    """Promises what it would return; the scores of some images may be no numbers."""

    def __init__(self, broken=(-1,), own=False, table=True):
        super().__init__(table=table)
        self.broken = broken
        self.own = own
        self.seen = []
        self.helper = ThreadPoolExecutor(1)

    def predict_step(self, batch, batch_idx):
        self.seen.append(batch_idx)
        return self.helper.submit(self.made, super().predict_step(batch, batch_idx))

    def made(self, table):
        if not self.table:
            return table
        broken = torch.isin(table["image"], torch.tensor(self.broken))
        table = table | {"score": table["score"].where(~broken, torch.nan)}
        if not self.own:
            return table
        like = {name: table[name].int() for name in ("image", "unit")}
        like |= {"label": like["unit"] % 3, "features": torch.eye(24)[table["unit"]]}
        return {"units": table, "diversity": like}


def test_a_promised_table_is_as_good_as_a_table():
    _, data, _ = parts()
    at_once = predict(Own(table=True), data, answer="mask").query
    promised = predict(Promising(), data, answer="mask").query
    assert rows(promised) == rows(at_once)
    with pytest.raises(UserError, match="returned Tensor; return logits"):
        predict(Promising(table=False), data)
    with pytest.raises(UserError, match="leave out score"):
        predict(Promising(), data, score="entropy")


def test_features_may_be_promised_too():
    _, data, _ = parts()
    query = predict(Promising(own=True), data, answer="dominant", diversity="kmeans").query
    assert len(set(rows(query))) == len(query) == 6
    with pytest.raises(UserError, match="no alseg network"):
        predict(Promising(), data, answer="dominant", diversity="kmeans")


class Features(L.LightningModule):
    """An alseg network behind tables that are promised, or not."""

    def __init__(self, network, promised):
        super().__init__()
        self.network = network
        self.promised = promised

    def predict_step(self, batch, batch_idx):
        self.network(batch["image"])
        table = Own(table=True).predict_step(batch, batch_idx)
        return known(table) if self.promised else table


def test_the_features_of_a_network_are_read_before_the_next_batch():
    _, data, model = parts()
    found = [
        rows(predict(Features(model.network, promised), data, diversity="kmeans").query)
        for promised in (False, True)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize(("image", "batches"), [(0, (1, 2)), (12, (4,))])
def test_scores_that_are_no_numbers_stop_the_pass_a_batch_later(image, batches):
    """Thirteen images in four batches: the second of them is the last, or the pass ends so."""
    _, data, _ = parts(count=13)
    module = Promising(broken=(image,))
    with pytest.raises(UserError, match=r"a score .* not finite, on the images"):
        predict(module, data, answer="mask")
    assert len(module.seen) in batches

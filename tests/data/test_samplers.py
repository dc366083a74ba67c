from collections import Counter

import pytest

from alseg.data.samplers import PoolShard, batches


def items(*args, **options):
    return [item for batch in batches(*args, **options) for item, _ in batch]


def test_every_lap_is_a_permutation():
    drawn = items(5, 2, range(10), (0, "a"))
    assert [sorted(drawn[lap : lap + 5]) for lap in range(0, 20, 5)] == [[0, 1, 2, 3, 4]] * 4
    assert drawn[:5] != drawn[5:10]


@pytest.mark.parametrize("whole_passes", [False, True])
def test_a_resumed_stream_goes_on_where_it_stopped(whole_passes):
    rest = ((1, 2, "s"), 0, 1, whole_passes)
    whole = list(batches(7, 3, range(12), *rest))
    assert whole == [*batches(7, 3, range(5), *rest), *batches(7, 3, range(5, 12), *rest)]


def test_whole_passes_keep_the_last_smaller_batch():
    drawn = [[item for item, _ in b] for b in batches(7, 3, range(6), (5,), whole_passes=True)]
    assert [len(batch) for batch in drawn] == [3, 3, 1, 3, 3, 1]
    for one_pass in (drawn[:3], drawn[3:]):
        assert sorted(item for batch in one_pass for item in batch) == list(range(7))
    seeds = [s for b in batches(7, 3, range(6), (5,), whole_passes=True) for _, s in b]
    assert len(set(seeds)) == 14


def test_processes_share_one_stream():
    one = items(9, 4, range(6), (3,))
    two = [list(batches(9, 4, range(6), (3,), rank, 2)) for rank in range(2)]
    joined = [item for pair in zip(*two, strict=True) for half in pair for item, _ in half]
    assert joined == one


def test_processes_with_too_few_items_repeat_some():
    ranks = [
        [[item for item, _ in b] for b in batches(3, 2, range(2), (0,), rank, 2, True)]
        for rank in range(2)
    ]
    assert [len(batch) for batch in ranks[0]] == [len(batch) for batch in ranks[1]] == [1, 1]
    assert ranks[0][1] == ranks[1][1]  # the last batch has one item for two processes
    assert {*ranks[0][0], *ranks[1][0], *ranks[0][1]} == {0, 1, 2}


def test_keys_and_positions_give_other_seeds():
    seeds = [seed for batch in batches(3, 2, range(20), (0,)) for _, seed in batch]
    assert len(set(seeds)) == 40
    assert seeds != [seed for batch in batches(3, 2, range(20), (1,)) for _, seed in batch]


def test_pool_shards_cover_the_pool_once():
    for world in (1, 2, 3):
        seen = Counter(item for rank in range(world) for item in PoolShard(7, rank, world))
        assert seen == Counter(range(7))


def test_no_process_is_without_an_item():
    shards = [list(PoolShard(2, rank, 5)) for rank in range(5)]
    assert shards == [[0], [1], [-1], [-2], [-1]]

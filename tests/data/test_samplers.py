from collections import Counter

from alseg.data.samplers import PoolShard, stream


def items(*args):
    return [item for item, _ in stream(*args)]


def test_every_lap_is_a_permutation():
    drawn = items(5, 2, range(10), (0, "a"), 0, 1)
    assert [sorted(drawn[lap : lap + 5]) for lap in range(0, 20, 5)] == [[0, 1, 2, 3, 4]] * 4
    assert drawn[:5] != drawn[5:10]


def test_a_resumed_stream_goes_on_where_it_stopped():
    whole = list(stream(7, 3, range(12), (1, 2, "s"), 0, 1))
    parts = [
        *stream(7, 3, range(5), (1, 2, "s"), 0, 1),
        *stream(7, 3, range(5, 12), (1, 2, "s"), 0, 1),
    ]
    assert whole == parts


def test_processes_share_one_stream():
    one = items(9, 4, range(6), (3,), 0, 1)
    two = [items(9, 4, range(6), (3,), rank, 2) for rank in range(2)]
    # each process has half of every batch
    joined = [x for b in range(6) for rank in range(2) for x in two[rank][2 * b : 2 * b + 2]]
    assert joined == one


def test_keys_and_positions_give_other_seeds():
    seeds = [seed for _, seed in stream(3, 2, range(20), (0,), 0, 1)]
    assert len(set(seeds)) == 40
    assert seeds != [seed for _, seed in stream(3, 2, range(20), (1,), 0, 1)]


def test_pool_shards_cover_the_pool_once():
    for world in (1, 2, 3):
        seen = Counter(item for rank in range(world) for item in PoolShard(7, rank, world))
        assert seen == Counter(range(7))


def test_no_process_is_without_an_item():
    shards = [list(PoolShard(2, rank, 5)) for rank in range(5)]
    assert shards == [[0], [1], [-1], [-2], [-1]]

import numpy as np
import pytest

from alseg.core.images import VOID
from alseg.labels.sortedids import SortedIds
from alseg.labels.tables import PIXELS, Answers, pack_sets
from tests.toys import BlockMaps, toy_pool


def dominant(round, image, unit, label, regions="blocks"):
    return Answers(
        round, "region", "dominant", regions, 3,
        np.array(image), np.array(unit), label=np.array(label, np.uint8),
    )  # fmt: skip


def slow_render(pool, image):
    """Paint answer by answer, pixel by pixel."""
    height, width = pool.sizes[image]
    target = np.full((height, width), VOID, np.uint8)
    for answers in pool.history:
        for row in range(len(answers)):
            if answers.image[row] != image:
                continue
            mask = 0
            for y in range(height):
                for x in range(width):
                    if answers.regions == PIXELS:
                        inside = y * width + x == answers.unit[row]
                    else:
                        inside = pool.maps[answers.regions][image][y, x] == answers.unit[row]
                    if not inside:
                        continue
                    if answers.masks is not None:
                        label = answers.masks[row][mask]
                        mask += 1
                    elif answers.sets is not None:
                        members = np.flatnonzero(answers.members()[row])
                        label = members[0] if len(members) == 1 and members[0] < 3 else VOID
                    else:
                        label = answers.label[row]
                    if label != VOID:
                        target[y, x] = label
    return target


def filled_pool():
    """Every kind of answer, two map versions, overlaps and voids."""
    _, pool = toy_pool()
    pool.add_maps(BlockMaps(pool.sizes, side=16, version="coarse"))
    rng = np.random.default_rng(0)
    pool.commit(dominant(0, [0, 0, 1], [3, 5, 0], [1, VOID, 2]))
    members = np.array([[0, 1, 0, 0], [1, 1, 0, 0], [0, 0, 0, 1], [0, 0, 1, 0]], bool)
    pool.commit(
        Answers(
            1,
            "region",
            "class_set",
            "blocks",
            3,
            np.array([0, 0, 0, 2]),
            np.array([0, 1, 2, 9]),
            sets=pack_sets(members),
        )
    )
    masks = tuple(rng.choice([0, 1, 2, VOID], 256).astype(np.uint8) for _ in range(2))
    pool.commit(
        Answers(2, "patch", "mask", "coarse", 3, np.array([0, 3]), np.array([1, 2]), masks=masks)
    )
    pool.commit(
        Answers(
            4,
            "pixel",
            "class",
            PIXELS,
            3,
            np.array([0, 0, 2]),
            np.array([0, 33, 5]),
            label=np.array([2, VOID, 0], np.uint8),
        )
    )
    pool.commit(dominant(5, [0], [0], [0], "coarse"))
    return pool


def test_render_paints_as_the_slow_reference_does():
    pool = filled_pool()
    pool.commit(dominant(6, [0, 1], [4, 4], [1, 0], "coarse"))  # a map painted at once
    masks = tuple(np.array([[0, 1, VOID, 2]], np.uint8).repeat(64) for _ in range(2))
    units = np.array([2, 3])
    for round in (7, 8):
        one = slice(round - 7, round - 6)
        pool.commit(
            Answers(round, "patch", "mask", "coarse", 3, units[one] * 0, units[one],
                    masks=masks[one])
        )  # fmt: skip
    for image in range(len(pool)):
        assert np.array_equal(pool.render(image), slow_render(pool, image))
    assert (pool.render(0) != VOID).any()


def test_costs_add_up_over_rounds():
    pool = filled_pool()
    for rounds in range(6):
        seen = {int(i) for answers in pool.history[:rounds] for i in answers.image}
        assert pool.num_images(rounds) == len(seen)
    assert pool.num_images() == len(pool.images())
    assert pool.spent(1).clicks == 3
    assert pool.spent(1).pixels == 3 * 64
    assert pool.spent(2).clicks == 3 + 5  # class sets of 1, 2, 1 (void) and 1 class
    assert pool.spent().units == 3 + 4 + 2 + 3 + 1
    assert pool.spent().pixels == 3 * 64 + 4 * 64 + 2 * 256 + 3 + 256


def test_round_of_purchase():
    pool = filled_pool()
    rounds = pool.round_of("blocks", 0)
    assert rounds.dtype == np.int16
    assert rounds[[0, 1, 2, 3, 4, 5]].tolist() == [1, 1, 1, 0, -1, 0]
    assert (pool.round_of("blocks", 3) == -1).all()
    assert pool.images().tolist() == [0, 1, 2, 3]
    assert pool.asked("blocks", 0).tolist() == [3, 5, 0, 1, 2]


def test_open_units():
    pool = filled_pool()
    image, unit = np.array([0, 0, 1, 2, 2]), np.array([3, 4, 0, 9, 3])
    assert pool.is_open("blocks", image, unit).tolist() == [False, True, False, False, True]
    assert pool.is_open("coarse", image[:1], unit[:1]).tolist() == [True]
    assert pool.open_images("coarse").tolist() == [0, 1, 2, 3]


def test_an_image_without_open_units_leaves_the_pool():
    _, pool = toy_pool(count=2)
    everything = np.arange(24)
    pool.commit(dominant(0, np.zeros(24, int), everything, np.zeros(24)))
    assert pool.open_images("blocks").tolist() == [1]


@pytest.mark.parametrize(
    ("answers", "sentence"),
    [
        (dominant(0, [0], [0], [0]), "round 0 after those of round 0"),
        (dominant(1, [0], [3], [0]), "asked twice"),
        (dominant(1, [1, 1], [7, 7], [0, 0]), "asked twice"),
        (dominant(1, [4], [0], [0]), "not in the pool"),
        (dominant(1, [0], [24], [0]), "not in 'blocks'"),
        (dominant(1, [0], [1], [3]), "class 3 of 3"),
        (dominant(1, [0], [1], [0], regions="other"), "not in the pool"),
        (
            Answers(1, "region", "mask", "blocks", 3, np.array([0]), np.array([1]),
                    masks=(np.zeros(5, np.uint8),)),
            "size of its unit",
        ),
        (
            Answers(1, "region", "class", "blocks", 9, np.array([0]), np.array([1]),
                    label=np.zeros(1, np.uint8)),
            "9 classes, not 3",
        ),
    ],
)  # fmt: skip
def test_a_refused_commit_changes_nothing(answers, sentence):
    _, pool = toy_pool()
    pool.commit(dominant(0, [0, 0], [3, 5], [1, 2]))
    before = pool.render(0)
    with pytest.raises(ValueError, match=sentence):
        pool.commit(answers)
    assert np.array_equal(pool.render(0), before)
    assert len(pool.history) == len(pool.costs) == 1
    assert pool.asked("blocks", 0).tolist() == [3, 5]


def test_sorted_ids_against_a_set():
    rng = np.random.default_rng(0)
    ids, known, left = SortedIds(), set(), rng.permutation(2000)
    while len(left):
        new, left = np.split(left, [rng.integers(1, 90)])
        ids.add(np.sort(new))
        known |= set(new.tolist())
        asked = rng.integers(-5, 2100, 300)
        assert ids.holds(asked).tolist() == [one in known for one in asked.tolist()]
        assert len(ids) == len(known)


def test_open_units_and_their_order_over_many_rounds():
    """Against lists of what was asked, image by image."""
    _, pool = toy_pool()
    rng = np.random.default_rng(1)
    known = {}
    for round in range(12):
        image = rng.permutation(np.repeat(np.arange(4), 3))
        unit = np.zeros(12, np.int64)
        for row in range(12):
            asked = known.setdefault(image[row], [])
            unit[row] = rng.choice(np.setdiff1d(np.arange(32 * 48), asked))
            asked.append(unit[row])
        pool.commit(dominant(round, image, unit, np.zeros(12), PIXELS))
        images, units = rng.integers(0, 4, 400), rng.integers(0, 60, 400)
        is_open = [u not in known[i] for i, u in zip(images.tolist(), units.tolist(), strict=True)]
        assert pool.is_open(PIXELS, images, units).tolist() == is_open
    for image, units in known.items():
        assert pool.asked(PIXELS, image).tolist() == units
        assert pool.num_asked(PIXELS, image) == len(units)
        with pytest.raises(ValueError, match=f"a unit of image {image} is asked twice"):
            pool.commit(dominant(99, [image], [units[5]], [0], PIXELS))

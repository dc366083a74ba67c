import pytest

from alseg.core.errors import UserError
from alseg.data.parts import Parts, check_choice, pool_and_scored, split_by_name

NAMES = [f"{number}" for number in range(803)]


def test_the_parts_are_disjoint_and_as_large_as_they_should_be():
    parts = split_by_name(NAMES)
    assert [len(part) for part in parts] == [578, 64, 161]
    assert len(parts.train) + len(parts.val) == 642
    assert sorted(name for part in parts for name in part) == sorted(NAMES)
    assert all(part == sorted(part) for part in parts)
    assert [len(part) for part in split_by_name(["x"])] == [0, 0, 1]


def test_the_rule_is_fixed():
    """Names written down once: the rule may not change from one version or machine to the next."""
    parts = split_by_name(reversed(NAMES))
    assert parts.test[:5] == ["1", "103", "104", "105", "107"]
    assert parts.val[:5] == ["118", "124", "149", "150", "156"]


def test_the_parts_are_as_if_shuffled():
    """Neighbouring numbers are not in one part: a fifth of every hundred, with its spread of 4."""
    test = {int(name) for name in split_by_name(NAMES).test}
    counts = [sum(100 * i <= number < 100 * (i + 1) for number in test) for i in range(8)]
    assert all(4 <= count <= 36 for count in counts)


def test_what_is_asked_about_and_scored_on():
    parts = Parts(["c", "a"], ["b"], ["d"])
    assert pool_and_scored(parts, "val", False) == (["c", "a"], ["b"], [])
    assert pool_and_scored(parts, "test", False) == (["c", "a"], ["d"], [])
    assert pool_and_scored(parts, "test", True) == (["a", "b", "c"], ["d"], [])
    assert pool_and_scored(parts, "test", False, "val") == (["c", "a"], ["d"], ["b"])
    assert pool_and_scored(parts, "val", False, "val") == (["c", "a"], ["b"], [])
    with pytest.raises(UserError, match=r"data\.val_in_pool=true puts the validation"):
        check_choice("val", True)
    with pytest.raises(UserError, match="evaluate is 'train'"):
        check_choice("train", False)
    with pytest.raises(UserError, match="choose_on"):
        check_choice("test", False, "test")
    with pytest.raises(UserError, match="nothing can be chosen"):
        check_choice("test", True, "val")

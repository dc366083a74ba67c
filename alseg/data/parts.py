"""Training, validation and test images of data sets that were published without lists."""

from collections.abc import Iterable
from hashlib import blake2b
from typing import NamedTuple

from alseg.core.errors import UserError


class Parts(NamedTuple):
    """Names of images, sorted; no name is in two parts."""

    train: list[str]
    val: list[str]
    test: list[str]


def split_by_name(names: Iterable[str]) -> Parts:
    """Split images 72 : 8 : 20 by a rule on their names that any machine repeats.

    The names are put in the order of their BLAKE2b digests (16 bytes, of UTF-8), as if shuffled.
    The last fifth is the test part; the last tenth of what comes before it is the validation part,
    which methods without one may learn from. Four fifths and a tenth are rounded down.

    >>> [len(part) for part in split_by_name(map(str, range(803)))]
    [578, 64, 161]
    >>> split_by_name(["a", "b", "c", "d", "e"])
    Parts(train=['a', 'b', 'd', 'e'], val=[], test=['c'])
    """
    order = sorted(set(names), key=lambda name: blake2b(name.encode(), digest_size=16).digest())
    learn = len(order) * 4 // 5
    train = learn - learn // 10
    return Parts(sorted(order[:train]), sorted(order[train:learn]), sorted(order[learn:]))


def check_choose_on(choose_on: str | None) -> None:
    """Check the option `choose_on` of a data set.

    Raises:
        UserError: For an unknown part; the test images are for no choice.
    """
    if choose_on not in (None, "val"):
        raise UserError(
            f"data.choose_on is {choose_on!r}; checkpoints can be chosen on val, or by null on the "
            f"images scored on."
        )


def check_choice(evaluate: str, val_in_pool: bool, choose_on: str | None = None) -> None:
    """Check the options `evaluate`, `val_in_pool` and `choose_on` of a data set.

    Raises:
        UserError: For an unknown part, or if images of the pool would be scored or chosen on.
    """
    check_choose_on(choose_on)
    if evaluate not in ("val", "test"):
        raise UserError(f"data.evaluate is {evaluate!r}; images can be scored on val or test.")
    if val_in_pool and evaluate == "val":
        raise UserError(
            "data.val_in_pool=true puts the validation images into the pool, so scores on them "
            "mean little; set data.evaluate=test, or leave them out."
        )
    if val_in_pool and choose_on is not None:
        raise UserError(
            "data.val_in_pool=true puts the validation images into the pool, so that nothing can "
            "be chosen on them; leave out data.choose_on, or data.val_in_pool."
        )


def pool_and_scored(
    parts: Parts, evaluate: str, val_in_pool: bool, choose_on: str | None = None
) -> tuple[list[str], list[str], list[str]]:
    """Names of images that are asked about, scored on, and chosen on if those are others; sorted.

    Args:
        parts: The data set.
        evaluate: ``val`` or ``test``.
        val_in_pool: Whether the validation images belong to the pool.
        choose_on: Part that checkpoints are chosen on; None = that scored on.
    """
    pool = sorted(parts.train + parts.val) if val_in_pool else parts.train
    apart = choose_on is not None and choose_on != evaluate
    return pool, parts.test if evaluate == "test" else parts.val, parts.val if apart else []

"""The words ``data=NAME data.option=value`` of commands that measure a trained network."""

import re
from collections.abc import Sequence
from typing import Any

from alseg.core.errors import UserError


def split_words(words: Sequence[str]) -> tuple[list[str], Any]:
    """Take the data set, and the plugins it may come from, out of the words of a command.

    Returns:
        The other words, and the data set, a component of `alseg.data.DATASETS`; None without one.

    Raises:
        UserError: For options of a data set that cannot be used, or without ``data=``.
    """
    from alseg.cli.compose import options

    about = [word for word in words if re.match(r"data[.=]|plugins=", word)]
    own = [word for word in words if word not in about]
    if not about:
        return own, None
    if not any(word.startswith("data=") for word in about):
        raise UserError(f"{about[0]} belongs to a data set; give data=NAME, too.")
    return own, options(*about).components["data"]


def check_source(options: Any, data: Any, *names: str) -> None:
    """Refuse images from two places, and from none.

    Args:
        options: Options of the command.
        data: The data set that was given, or None.
        names: Options that stand for images and masks, the one that is needed without data first.
    """
    given = [name for name in names if getattr(options, name)]
    if data is not None and given:
        raise UserError(
            f"data= and {given[0]}= are both given; a data set has images and masks of its own, so "
            f"keep one of them."
        )
    if data is None:
        options.require(names[0])
    elif options.ignore or options.mask_values != "auto":
        raise UserError(
            "data= reads its masks by a table of its own; leave out mask_values and ignore, or "
            "give data.ignore where the data set has it."
        )

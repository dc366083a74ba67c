"""What the questions of a round went to: images, void and rare classes."""

from collections.abc import Collection, Sequence

import numpy as np

from alseg.labels.tables import Answers


def asked(
    answers: Answers, images: int, classes: Sequence[str], rare: Collection[str]
) -> dict[str, str]:
    """Columns of the file of results about one round.

    Args:
        answers: Of the round.
        images: Images of the pool.
        classes: Names of the classes.
        rare: Names of the rare ones.

    Returns:
        ``asked_images``: images with a question; ``asked_top_tenth``: share of the questions in
        the tenth of the images with most of them, which is 0.1 if all have as many;
        ``asked_void``: share of void among what was named; ``asked_rare``: share of the rare
        classes among the classes named. The last two are empty for masks.
    """
    each = np.sort(np.bincount(answers.image, minlength=images))[::-1]
    top = each[: max(1, images // 10)].sum() / each.sum()
    found = {"asked_images": str(np.count_nonzero(each)), "asked_top_tenth": f"{top:.3f}"}
    if answers.masks is not None:
        return found | {"asked_void": "", "asked_rare": ""}
    *counts, void, _ = answers.counts().tolist()
    named = sum(counts)
    hits = sum(count for name, count in zip(classes, counts, strict=True) if name in rare)
    return found | {
        "asked_void": f"{void / (named + void):.3f}",
        "asked_rare": f"{hits / named:.3f}" if named else "",
    }

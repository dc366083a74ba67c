"""How much is asked, and how long is trained on it.

Equation numbers are those of EquAL (arXiv 2008.01860) as its reference implementation has them.
"""


def milestone(budget: int, per_round: int) -> int:
    """Patches between two longer rounds: 30 % of the budget, in whole rounds (F8).

    Args:
        budget: Patches of the whole run.
        per_round: Patches per round, >= 1.

    Returns:
        0 for budgets so small that there are no milestones (the reference then fails).

    >>> milestone(1101, 1), milestone(11424, 5), milestone(3, 1)
    (330, 3425, 0)
    """
    return int(0.3 * budget) // per_round * per_round


def at_milestone(labelled: int, every: int) -> bool:
    """Whether a round ends at a milestone (F8).

    Args:
        labelled: Patches labelled so far.
        every: `milestone`; 0 = never.

    >>> at_milestone(660, 330), at_milestone(661, 330), at_milestone(5, 0)
    (True, False, False)
    """
    return every > 0 and labelled % every == 0


def round_epochs(labelled: int, every: int, longer: int) -> int:
    """Passes over the images with labels that a round trains (F8).

    Args:
        labelled: Patches labelled so far.
        every: `milestone`; 0 = never.
        longer: Passes at a milestone.

    >>> round_epochs(330, every=330, longer=5), round_epochs(331, every=330, longer=5)
    (5, 1)
    """
    return longer if at_milestone(labelled, every) else 1


def batch_size(labelled: int, images: int, full: int) -> int:
    """Images per batch while few are labelled (F7).

    Args:
        labelled: Patches labelled so far.
        images: Images with a labelled patch.
        full: Batch size later on.

    >>> [batch_size(labelled, images, full=5) for labelled, images in [(1, 1), (3, 3), (6, 4)]]
    [1, 2, 5]
    """
    if labelled > full:
        return full
    return 2 if images > 2 else 1

"""How much is asked, and how long is trained on it.

Equation numbers are those of EquAL (arXiv 2008.01860) as its reference implementation has them.
"""


def patch_budget(num_patches: int, fraction: float) -> int:
    """Patches that may be asked in the whole run, rounded down.

    Args:
        num_patches: Patches of the pool.
        fraction: Share of them that may be asked, 0..1.

    >>> patch_budget(367 * 5 * 5, 0.12), patch_budget(2975 * 4 * 8, 0.12)
    (1101, 11424)
    """
    return int(num_patches * fraction)


def round_size(per_round: int, budget: int, labelled: int) -> int:
    """Patches a round asks for: the last round takes what is left (F11).

    >>> round_size(5, budget=11424, labelled=11420), round_size(5, budget=10, labelled=10)
    (4, 0)
    """
    return max(0, min(per_round, budget - labelled))


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

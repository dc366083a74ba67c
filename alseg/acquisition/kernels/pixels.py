"""What a kernel sees of a pixel: its logits between four cells of the grid, and what follows."""

# Triton reads annotations as types of its own
# ruff: noqa: ANN001, ANN201
# mypy: disable-error-code="untyped-decorator,no-untyped-def"

import triton
import triton.language as tl


@triton.jit
def cells_of(position, cells, canvas, ALIGNED: tl.constexpr):
    """Where pixels lie on the grid along one axis, as torch's upsample_bilinear2d has it.

    The cell before a pixel, the one after it, and the part of the way from the one to the other.
    """
    if ALIGNED:
        place = position.to(tl.float32) * ((cells - 1) / tl.maximum(canvas - 1, 1))
    else:
        place = tl.maximum((position.to(tl.float32) + 0.5) * (cells / canvas) - 0.5, 0.0)
    before = place.to(tl.int32)
    return before, tl.minimum(before + 1, cells - 1), place - before.to(tl.float32)


@triton.jit
def between(z, w, y0, y1, x0, x1, down, right, inside):
    """The logit of a class between four cells; one without weight is not asked, it may be -inf."""
    upper = tl.load(z + y0 * w + x0, inside, 0.0).to(tl.float32) * (1 - right)
    beside = tl.load(z + y0 * w + x1, inside, 0.0).to(tl.float32) * right
    upper += tl.where(right > 0, beside, 0.0)
    lower = tl.load(z + y1 * w + x0, inside, 0.0).to(tl.float32) * (1 - right)
    beside = tl.load(z + y1 * w + x1, inside, 0.0).to(tl.float32) * right
    lower += tl.where(right > 0, beside, 0.0)
    return upper * (1 - down) + tl.where(down > 0, lower * down, 0.0)


@triton.jit
def look(
    z, classes, h, w, y0, y1, x0, x1, down, right, inside, inverse_temperature, log_zero,
    SUMS: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """What scores are made of, (ROWS, BLOCK) each, from one reading of all classes, h * w apart.

    The two highest logits, the class of the first (the lowest id among equals), and where SUMS are
    wanted ``s`` and ``t`` of `alseg.acquisition.blocks`. Where a class is higher than all before,
    these shrink to what they are beside it. NaN where a logit is.
    """
    best = tl.full([ROWS, BLOCK], -1e30, tl.float32)  # finite: -inf is below it
    second = tl.full([ROWS, BLOCK], -1e30, tl.float32)
    label = tl.full([ROWS, BLOCK], 0, tl.int32)
    total = tl.full([ROWS, BLOCK], 0.0, tl.float32)
    weighted = tl.full([ROWS, BLOCK], 0.0, tl.float32)
    plane = z  # c * h * w may need more than 32 bits
    for c in range(classes):
        value = between(plane, w, y0, y1, x0, x1, down, right, inside)
        higher = value > best
        if SUMS:
            below = tl.where(higher, best - value, value - best)
            power, gap = power_of(below, inverse_temperature, log_zero)
            weighted = tl.where(higher, power * (weighted + gap * total), weighted + power * gap)
            total = tl.where(higher, total * power + 1, total + power)
        second = tl.maximum(second, tl.minimum(best, value))
        label = tl.where(higher, c, label)
        best = tl.maximum(best, value, propagate_nan=tl.PropagateNan.ALL)
        plane += h * w
    return best, second, label, total, weighted


@triton.jit
def power_of(below, inverse_temperature, log_zero):
    """Probability of a class over that of a better one, and its logarithm."""
    gap = below * inverse_temperature
    gap = tl.maximum(gap, log_zero, propagate_nan=tl.PropagateNan.ALL)
    return tl.exp(gap), gap


@triton.jit
def doubt(best, second, total, weighted, inverse_temperature, SCORE: tl.constexpr):
    """A score of `alseg.acquisition.blocks.SCANNED`; bvsb needs no sums."""
    found = tl.exp((second - best) * inverse_temperature)
    if SCORE == "margin":
        found = (found - 1) / total + 1
    if SCORE == "least_confidence":
        found = (total - 1) / total
    if SCORE == "entropy":
        found = tl.log(total) - weighted / total
    return found


@triton.jit
def plus(one, other):
    """What `tl.reduce` adds by."""
    return one + other


@triton.jit
def whole_numbers(score, region, num_regions, inside, scale, broken):
    """What a pixel adds to the sums: its region, its score, and 1 to the count.

    The region is -1 where nothing is added, R where it is none. Scores become integers, which add
    up to the same in any order; one that is NaN is told by its count.
    """
    region = tl.where(inside, region.to(tl.int64), -1)
    region = tl.where((region < -1) | (region >= num_regions), num_regions, region)
    lost = score != score
    whole = tl.where(lost, 0.0, score * scale + 0.5).to(tl.int64)
    return region, whole, tl.where(lost, broken + 1, 1).to(tl.int64)

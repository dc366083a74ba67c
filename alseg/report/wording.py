"""Numbers as a reader wants them: grouped, rounded, with the unit that fits."""

import math

#: Stands where there is no number: a class that is absent, a metric that was not measured.
NOTHING = "–"


def count(value: float) -> str:
    """A whole number with its thousands grouped.

    >>> count(12480.0)
    '12,480'
    """
    return NOTHING if math.isnan(value) else f"{value:,.0f}"


def compact(value: float) -> str:
    """A number short enough for an axis.

    >>> [compact(v) for v in (0, 0.25, 950, 1500, 2_000_000)]
    ['0', '0.25', '950', '1.5k', '2M']
    """
    for size, suffix in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.6g}{suffix}"
    return f"{value:.6g}"


def rounded(value: float) -> str:
    """A number with one digit behind the point while it is small.

    >>> rounded(2.04), rounded(1234.5)
    ('2.0', '1,234')
    """
    if math.isnan(value):
        return NOTHING
    return f"{value:,.1f}" if value < 100 else f"{value:,.0f}"


def percent(share: float, digits: int = 1) -> str:
    """A share of 1 in per cent, without the sign.

    >>> percent(0.6123), percent(float("nan"))
    ('61.2', '–')
    """
    return NOTHING if math.isnan(share) else f"{100 * share:.{digits}f}"


def share(part: float, whole: float) -> str:
    """How much of a whole a part is, with as many digits as a small share needs.

    >>> share(1, 2), share(3, 10_000), share(0, 7), share(1, 1_000_000_000)
    ('50 %', '0.03 %', '0 %', 'under 0.001 %')
    """
    value = 100 * part / whole
    if 0 < value < 0.001:
        return "under 0.001 %"
    digits = (
        0 if value >= 20 or not value else 1 if value >= 1 else 1 - math.floor(math.log10(value))
    )
    text = f"{value:.{digits}f}"
    return f"{text.rstrip('0').rstrip('.') if '.' in text else text} %"


def change(before: float, after: float) -> str:
    """The difference of two shares in percentage points, with its sign.

    >>> change(0.5, 0.525), change(0.5, 0.49)
    ('+2.5', '−1.0')
    """
    if math.isnan(before) or math.isnan(after):
        return NOTHING
    points = round(100 * (after - before), 1)
    return f"{'−' if points < 0 else '+'}{abs(points):.1f}"


def time_unit(seconds: float) -> tuple[float, str, str]:
    """The unit that fits a time: its length in seconds, its name and its sign.

    >>> time_unit(30)[1], time_unit(600)[1], time_unit(90_000)[1]
    ('seconds', 'minutes', 'hours')
    """
    if seconds < 120:
        return 1.0, "seconds", "s"
    return (60.0, "minutes", "min") if seconds < 7200 else (3600.0, "hours", "h")


def duration(seconds: float) -> str:
    """A time in the unit that fits it.

    >>> duration(0.25), duration(75), duration(600), duration(9000), duration(7200000)
    ('0.2 s', '75 s', '10 min', '2.5 h', '2,000 h')
    """
    if math.isnan(seconds):
        return NOTHING
    length, _, sign = time_unit(seconds)
    value = seconds / length
    text = f"{value:,.1f}" if value < 10 else f"{value:,.0f}"
    return f"{text.removesuffix('.0')} {sign}"

"""A chart as a picture of its own: SVG, for papers and viewers that show no page."""

from html import escape

from alseg.report.chart import Chart, Line

#: Colours of lines by their slot, as on the page.
PALETTE = ("#0068a8", "#cf5600", "#008a64", "#b8558f", "#b07c00", "#3f9fdb", "#5d6670")
_WIDTH, _HEIGHT = 760, 440
_LEFT, _TOP, _RIGHT, _BOTTOM = 62, 60, 28, 58
_DOTS = 40  # points of a line that are drawn one by one


def chart_svg(chart: Chart) -> str:
    """Draw a chart.

    A line of one point is a large dot. Points have their titles as tooltips.

    Args:
        chart: From `alseg.report.chart.layout`.

    Returns:
        An SVG document.
    """
    title = escape(f"{chart.y_label} against {chart.x_label}")
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="{title}" '
        f'font-family="system-ui, sans-serif" font-size="14" fill="#15191e">',
        '<rect width="100%" height="100%" fill="#ffffff"/>',
    ]
    for tick in chart.y_ticks:
        y = _y(tick.at)
        parts.append(f'<path d="M{_LEFT} {y}H{_WIDTH - _RIGHT}" stroke="#e1e4e8"/>')
        parts.append(_text(_LEFT - 10, y + 5, tick.label, "end", "#5b6570"))
    for tick in chart.x_ticks:
        parts.append(_text(_x(tick.at), _y(100) + 22, tick.label, "middle", "#5b6570"))
    parts.append(_text(_WIDTH - _RIGHT, _HEIGHT - 12, chart.x_label, "end"))
    parts.append(_text(14, _TOP - 14, chart.y_label, "start"))
    parts += [_drawn(line) for line in chart.lines if line.marks]
    left = float(_LEFT)
    for line in chart.lines:
        color = PALETTE[line.slot % len(PALETTE)]
        parts.append(f'<circle cx="{left:.1f}" cy="20" r="5" fill="{color}"/>')
        parts.append(_text(left + 12, 25, line.name, "start"))
        left += 36 + 7.2 * len(line.name)
    return "\n".join([*parts, "</svg>\n"])


def _drawn(line: Line) -> str:
    color = PALETTE[line.slot % len(PALETTE)]
    points = [(_x(mark.x), _y(mark.y)) for mark in line.marks]
    if len(points) == 1:
        ((x, y),) = points
        return (
            f'<circle cx="{x}" cy="{y}" r="6" fill="{color}" stroke="#ffffff" stroke-width="2">'
            f"<title>{escape(line.marks[0].title)}</title></circle>"
        )
    path = " ".join(f"{x},{y}" for x, y in points)
    drawn = [f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="2.5"/>']
    radius = 3.5 if len(points) <= _DOTS else 1.5
    for (x, y), mark in zip(points, line.marks, strict=True):
        drawn.append(
            f'<circle cx="{x}" cy="{y}" r="{radius}" fill="{color}">'
            f"<title>{escape(mark.title)}</title></circle>"
        )
    return "\n".join(drawn)


def _x(percent: float) -> float:
    return round(_LEFT + percent / 100 * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(percent: float) -> float:
    return round(_TOP + percent / 100 * (_HEIGHT - _TOP - _BOTTOM), 1)


def _text(x: float, y: float, text: str, anchor: str, color: str = "#15191e") -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{color}">{escape(text)}</text>'
    )

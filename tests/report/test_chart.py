import numpy as np
import pytest

from alseg.report.chart import Series, layout, ticks


def series(x, y, **options):
    x, y = np.array(x, float), np.array(y, float)
    return Series("mIoU", 0, x, y, [f"point {i}" for i in range(len(x))], **options)


@pytest.mark.parametrize(
    ("low", "high"), [(0, 1), (0, 7), (0.0, 0.013), (20, 70), (3, 3.5), (0, 123456), (61, 63.2)]
)
def test_ticks_are_few_round_and_within_the_range(low, high):
    found = np.array(ticks(low, high))
    steps = np.diff(found)
    assert 2 <= len(found) <= 6
    assert low - 1e-9 <= found[0]
    assert found[-1] <= high + 1e-9
    np.testing.assert_allclose(steps, steps[0])
    mantissa = steps[0] / 10 ** np.floor(np.log10(steps[0]) + 1e-9)
    assert min(abs(mantissa - m) for m in (1, 2, 5)) < 1e-6
    np.testing.assert_allclose(found / steps[0], np.rint(found / steps[0]), atol=1e-6)


def test_points_lie_where_the_ticks_say():
    chart = layout("Clicks", "Clicks", "mIoU, %", [series([100, 300, 400], [30, 50, 55])])
    x = {float(t.label): t.at for t in chart.x_ticks}
    y = {float(t.label): t.at for t in chart.y_ticks}
    marks = chart.lines[0].marks
    assert marks[0].x == pytest.approx(x[100], abs=1e-3)
    assert marks[2].x == pytest.approx(x[400], abs=1e-3)
    assert marks[0].y == pytest.approx(y[30], abs=1e-3)
    assert marks[1].y == pytest.approx(y[50], abs=1e-3)
    assert x[0] == 0.0
    assert max(y.values()) == 100.0
    assert min(y.values()) == 0.0


def test_axis_starts_at_zero_unless_values_are_far_from_it():
    low = layout("Clicks", "Clicks", "%", [series([1, 2], [5, 60])])
    high = layout("Clicks", "Clicks", "%", [series([1, 2], [60, 64])])
    assert low.y_ticks[0].label == "0"
    assert float(high.y_ticks[0].label) == 60
    assert float(high.y_ticks[-1].label) == 65


def test_single_point_stands_on_axes_from_zero():
    chart = layout("Clicks", "Clicks", "%", [series([200], [24])])
    mark = chart.lines[0].marks[0]
    assert chart.y_ticks[0].label == "0"
    assert 80 < mark.x < 100
    assert 0 < mark.y < 50


@pytest.mark.parametrize(("x", "y"), [([0], [0]), ([], []), ([5], [float("nan")]), ([3], [100])])
def test_odd_data_still_gives_axes(x, y):
    chart = layout("Clicks", "Clicks", "%", [series(x, y)])
    assert len(chart.x_ticks) >= 2
    assert len(chart.y_ticks) >= 2
    assert all(0 <= m.x <= 100 and 0 <= m.y <= 100 for m in chart.lines[0].marks)


def test_line_goes_on_over_a_missing_value():
    chart = layout("Clicks", "Clicks", "%", [series([1, 2, 3], [10, float("nan"), 30])])
    assert [m.title for m in chart.lines[0].marks] == ["point 0", "point 2"]
    assert [m.label for m in chart.lines[0].marks] == ["10.0", "30.0"]

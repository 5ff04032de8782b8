"""The geometry of the charts: within their pictures, whatever the numbers."""

import pytest

from console.charts import WIDTH, Value, bars, columns, curve
from console.money import minor_units, money


def test_bars_share_the_room_in_proportion() -> None:
    chart = bars([Value("a", 10, "10"), Value("b", 5, "5"), Value("c", 0, "0")])
    full, half, none = chart.bars
    assert full.width == pytest.approx(2 * half.width)
    assert none.width == 0
    assert [one.y for one in chart.bars] == sorted(one.y for one in chart.bars)
    assert full.y + chart.bar < half.y
    assert none.y + chart.bar <= chart.height
    assert chart.left + full.width < WIDTH


def test_what_is_little_is_seen_beside_what_is_much() -> None:
    _, little = bars([Value("a", 1_000_000, ""), Value("b", 1, "")]).bars
    assert little.width == 1


def test_bars_of_nothing_and_of_zeros() -> None:
    assert bars([]).bars == []
    assert bars([]).height > 0
    assert [one.width for one in bars([Value("a", 0, "0"), Value("b", 0, "0")]).bars] == [0, 0]


def test_an_interval_encloses_the_end_of_its_bar() -> None:
    chart = bars([Value("a", 0.5, "", interval=(0.24, 0.76))], full=1.0)
    [one] = chart.bars
    assert one.low is not None
    assert one.high is not None
    assert chart.left < one.low < chart.left + one.width < one.high < WIDTH


def test_columns_stand_on_each_other_and_within_the_picture() -> None:
    stacks = [(str(n), [("good", n, "kept"), ("bad", 1, "late")]) for n in range(1, 14)]
    chart = columns(stacks)
    assert len(chart.parts) == 26
    assert len(chart.labels) == 7
    foot = chart.grid[0][0]
    for kept, late in zip(chart.parts[::2], chart.parts[1::2], strict=True):
        assert kept.x == late.x
        assert kept.y + kept.height == pytest.approx(foot, abs=0.2)
        assert late.y + late.height == pytest.approx(kept.y, abs=0.2)
    assert min(part.y for part in chart.parts) >= 0
    assert max(part.x + part.width for part in chart.parts) <= WIDTH
    assert [label for _, label in chart.grid] == ["0", "10", "20"]


def test_columns_of_nothing_of_one_and_of_zeros() -> None:
    assert columns([]).parts == []
    one = columns([("a", [("good", 1, "one")])])
    assert len(one.parts) == 1
    zeros = columns([("a", [("good", 0, "none"), ("bad", 0, "none")])])
    assert zeros.parts == []
    assert zeros.labels == [(one.labels[0][0], "a")]
    assert [label for _, label in zeros.grid] == ["0", "1", "2"]


@pytest.mark.parametrize("count", [1, 2, 3, 7, 10, 11, 99, 100, 101, 12_345, 10**9])
def test_the_grid_reaches_over_the_highest_column_with_whole_numbers(count: int) -> None:
    labels = [float(label) for _, label in columns([("a", [("good", count, "")])]).grid]
    assert labels[-1] >= count
    assert labels[1] == labels[-1] / 2
    assert all(label == int(label) for label in labels)


def test_a_curve_goes_up_for_what_is_good_and_stays_within_its_reach() -> None:
    values = [1, -2, 0, 3, -9]
    chart = curve([(value, "") for value in values], reach=3)
    good, bad, neither, best, worst = chart.points
    assert best.y < good.y < neither.y == chart.zero < bad.y < worst.y
    assert worst.y == max(y for y, _ in chart.grid)
    assert [point.tone for point in chart.points] == ["good", "bad", "quiet", "good", "bad"]
    assert [point.x for point in chart.points] == sorted(point.x for point in chart.points)
    assert chart.left < good.x
    assert worst.x < WIDTH
    assert len(chart.path.split()) == 5


def test_a_curve_of_nothing_of_one_and_of_zeros() -> None:
    assert curve([], reach=3).path == ""
    [only] = curve([(2, "")], reach=3).points
    assert 0 < only.x < WIDTH
    flat = curve([(0, "")] * 3, reach=3)
    assert {point.y for point in flat.points} == {flat.zero}


@pytest.mark.parametrize(
    ("typed", "currency", "minor"),
    [("49.90", "EUR", 4990), ("49,9", "EUR", 4990), (" 49 ", "JPY", 49), ("1.234", "KWD", 1234)],
)
def test_amounts_are_read_as_people_write_them(typed: str, currency: str, minor: int) -> None:
    assert minor_units(typed, currency) == minor


@pytest.mark.parametrize("typed", ["", "x", "-1", "1e9", "NaN", "1.2.3", "9" * 30, "0.005"])
def test_what_is_no_amount_is_refused(typed: str) -> None:
    with pytest.raises(ValueError, match=r"amount|decimals"):
        minor_units(typed, "EUR")


def test_amounts_are_shown_in_their_currency() -> None:
    assert money(4990, "EUR") == "€49.90"
    assert money(4990, "JPY") == "¥4,990"

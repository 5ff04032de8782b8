"""The geometry of the charts: pure numbers, which console/html/charts.html draws as SVG.

Lengths are user units of the picture's viewBox. Colours are classes, since the content security
policy allows no style of an element's own.
"""

from collections.abc import Sequence
from typing import NamedTuple

WIDTH = 480  # about what a picture has on a page: words in it are then as large as beside it
_ROW, _BAR = 28, 18  # of horizontal bars
_LABELS = 96  # room for the words before a bar
_VALUES = 112  # room for the number behind it
_HIGH, _FOOT, _HEAD = 180, 24, 8  # of upright charts
_LEFT, _RIGHT = 36, 12
_LABELLED = 2  # every second column says what it is: there is no room for more


class Bar(NamedTuple):
    """A horizontal bar with its words and number; `low` and `high` are x of an interval, if any."""

    label: str
    said: str
    y: float
    width: float
    tone: str
    low: float | None = None
    high: float | None = None


class Bars(NamedTuple):
    bars: Sequence[Bar]
    height: float
    left: int = _LABELS
    bar: int = _BAR
    width: int = WIDTH


class Part(NamedTuple):
    """Of a stacked column."""

    x: float
    y: float
    width: float
    height: float
    tone: str
    said: str


class Columns(NamedTuple):
    parts: Sequence[Part]
    labels: Sequence[tuple[float, str]]  # x of the middle
    grid: Sequence[tuple[float, str]]  # y
    height: float
    width: int = WIDTH
    left: int = _LEFT


class Point(NamedTuple):
    x: float
    y: float
    tone: str
    said: str


class Curve(NamedTuple):
    points: Sequence[Point]
    path: str  # of a polyline
    grid: Sequence[tuple[float, str]]
    zero: float  # y of the line between good and bad
    height: float
    width: int = WIDTH
    left: int = _LEFT


class Value(NamedTuple):
    """What a bar stands for; `interval` in the same unit."""

    label: str
    value: float
    said: str
    tone: str = "busy"
    interval: tuple[float, float] | None = None


def bars(values: Sequence[Value], *, full: float | None = None) -> Bars:
    """One below the other; `full` is what the whole width stands for, else the largest value."""
    room = WIDTH - _LABELS - _VALUES
    top = full or max((one.value for one in values), default=0)
    scale = room / top if top > 0 else 0.0
    drawn = []
    for number, one in enumerate(values):
        low, high = one.interval or (None, None)
        drawn.append(
            Bar(
                one.label,
                one.said,
                round(number * _ROW + (_ROW - _BAR) / 2, 1),
                _length(one.value * scale),
                one.tone,
                None if low is None else round(_LABELS + low * scale, 1),
                None if high is None else round(_LABELS + high * scale, 1),
            )
        )
    return Bars(drawn, max(1, len(values)) * _ROW)


def columns(
    stacks: Sequence[tuple[str, Sequence[tuple[str, int, str]]]],
) -> Columns:
    """Stacked columns side by side: (label, parts from below: (tone, count, words))."""
    top = _ceiling(max((sum(n for _, n, _ in parts) for _, parts in stacks), default=0))
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(stacks))
    scale = _HIGH / top
    drawn, labels = [], []
    for number, (label, parts) in enumerate(stacks):
        x, foot = _LEFT + number * step + step * 0.15, float(_HEAD + _HIGH)
        if number % _LABELLED == 0:
            labels.append((round(x + step * 0.35, 1), label))
        for tone, count, said in parts:
            high = count * scale
            foot -= high
            if count > 0:
                drawn.append(
                    Part(
                        round(x, 1), round(foot, 1), round(step * 0.7, 1), _length(high), tone, said
                    )
                )
    grid = [
        (round(_HEAD + _HIGH - top * part * scale, 1), f"{top * part:g}") for part in (0, 0.5, 1)
    ]
    return Columns(drawn, labels, grid, _HEAD + _HIGH + _FOOT)


def curve(moments: Sequence[tuple[int, str]], *, reach: int) -> Curve:
    """Moments in the order of time: (value from -reach to reach, words).

    Evenly spaced: lives have long silences, and what counts is which moment followed which.
    """
    step = (WIDTH - _LEFT - _RIGHT) / max(1, len(moments))
    middle = _HEAD + _HIGH / 2
    unit = _HIGH / 2 / reach
    points = [
        Point(
            round(_LEFT + (number + 0.5) * step, 1),
            round(middle - max(-reach, min(reach, value)) * unit, 1),
            "good" if value > 0 else "bad" if value < 0 else "quiet",
            said,
        )
        for number, (value, said) in enumerate(moments)
    ]
    path = " ".join(f"{point.x},{point.y}" for point in points)
    grid = [(round(middle - value * unit, 1), f"{value:+d}" if value else "0")
            for value in range(-reach, reach + 1)]  # fmt: skip
    return Curve(points, path, grid, middle, _HEAD + _HIGH + _HEAD)


def _length(value: float) -> float:
    """What there is is seen, however little of it."""
    return 0.0 if value <= 0 else max(1.0, round(value, 1))


def _ceiling(value: float) -> float:
    """The next of 2, 4, 10, 20, 40, 100 …: halves of it are whole."""
    top = 2.0
    for factor in (2, 2.5, 2) * 40:
        if top >= value:
            break
        top *= factor
    return top

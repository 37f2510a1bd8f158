"""Geometry of charts: from a table of figures to the shapes that a template draws. Each chart keeps its data table.

Nothing depends on colour alone: bands have patterns; lines have dashes, shapes and their name at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

WIDTH, HEIGHT = 460, 150
# Line charts leave space for the names at the right.
LINES_WIDTH = 330
LABEL_HEIGHT = 15
# A value above zero is never invisible beside a much larger one.
BAR_HEIGHT_MIN = 2.0
# Ticks of the logarithmic scale: (seconds, name).
TICKS = (
    (0.1, "0.1 s"), (1, "1 s"), (10, "10 s"), (60, "1 min"), (600, "10 min"), (3_600, "1 h"), (36_000, "10 h"),
    (86_400, "1 d"), (864_000, "10 d"), (8_640_000, "100 d"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle in the chart's own units; `band` is the number of its series."""

    x: float
    y: float
    width: float
    height: float
    band: int
    title: str


@dataclass(frozen=True, slots=True)
class Columns:
    """A stacked column for each name. `rows` are the names with their figures."""

    heading: str
    note: str
    bands: tuple[str, ...]
    rows: tuple[tuple[str, tuple[int, ...]], ...]
    show: Callable[[int], str]
    bars: tuple[Bar, ...]
    top: int

    @property
    def empty(self) -> bool:
        """True if there is nothing to draw."""
        return not self.bars


def columns(
    heading: str,
    note: str,
    bands: Sequence[str],
    rows: Sequence[tuple[str, Sequence[int]]],
    show: Callable[[int], str] = lambda value: f"{value:,}",
    *,
    first_band: int = 0,
) -> Columns:
    """Return a chart of stacked columns; `first_band` is the pattern of the first band."""
    kept = tuple((name, tuple(values)) for name, values in rows)
    top = max([sum(max(0, value) for value in values) for _, values in kept], default=0)
    bars = tuple(_stacked(kept, bands, show, top, first_band)) if top else ()
    return Columns(heading, note, tuple(bands), kept, show, bars, top)


def _stacked(
    rows: Sequence[tuple[str, tuple[int, ...]]],
    bands: Sequence[str],
    show: Callable[[int], str],
    top: int,
    first_band: int,
) -> Iterator[Bar]:
    step = WIDTH / len(rows)
    for place, (name, values) in enumerate(rows):
        below = 0.0
        for band, value in enumerate(values):
            if value <= 0:
                continue
            height = max(BAR_HEIGHT_MIN, HEIGHT * value / top)
            y = HEIGHT - below - height
            of = f" {bands[band]}" if len(bands) > 1 else ""
            yield Bar(
                place * step + step * 0.14, y, step * 0.72, height, first_band + band, f"{name}: {show(value)}{of}"
            )
            below += height


@dataclass(frozen=True, slots=True)
class Dot:
    """A point of a line; `title` is its text for the pointer. One that is `alone`, without a line, is drawn large."""

    x: float
    y: float
    title: str
    alone: bool = False


@dataclass(frozen=True, slots=True)
class Line:
    """One series: its dots, the paths through consecutive dots, and the position of its name."""

    name: str
    dots: tuple[Dot, ...]
    paths: tuple[str, ...]
    label: str
    label_y: float


@dataclass(frozen=True, slots=True)
class Lines:
    """Lines over the names on a logarithmic scale; `rows` are the names with their values, None for a gap."""

    heading: str
    note: str
    names: tuple[str, ...]
    rows: tuple[tuple[str, tuple[float | None, ...]], ...]
    show: Callable[[float | None], str]
    lines: tuple[Line, ...]
    ticks: tuple[tuple[float, str], ...]

    @property
    def empty(self) -> bool:
        """True if there is nothing to draw."""
        return not any(line.dots for line in self.lines)


def lines(
    heading: str,
    note: str,
    names: Sequence[str],
    rows: Sequence[tuple[str, Sequence[float | None]]],
    show: Callable[[float | None], str],
) -> Lines:
    """Return a line chart of seconds; the scale goes from the tick below the minimum to the one above the maximum."""
    kept = tuple((name, tuple(values)) for name, values in rows)
    found = [value for _, values in kept for value in values if value]
    low, high = _bounds(found)
    drawn = [_line(which, name, kept, show, low, high) for which, name in enumerate(names)]
    ticks = tuple((_height(at, low, high), name) for at, name in TICKS if low <= at <= high)
    return Lines(heading, note, tuple(names), kept, show, tuple(_apart(drawn)), _legible(ticks))


def _legible(ticks: Sequence[tuple[float, str]]) -> tuple[tuple[float, str], ...]:
    """Return the ticks from the highest down, without those whose names would overlap the one above or the lowest."""
    kept = [ticks[-1]]
    for tick in reversed(ticks[1:-1]):
        if min(tick[0] - kept[-1][0], ticks[0][0] - tick[0]) >= LABEL_HEIGHT:
            kept.append(tick)
    return (*kept, ticks[0])


def _bounds(values: Sequence[float]) -> tuple[float, float]:
    ticks = [at for at, _ in TICKS]
    if not values:
        return ticks[1], ticks[3]
    low = max([at for at in ticks if at <= min(values)], default=ticks[0])
    high = min([at for at in ticks if at >= max(values)], default=ticks[-1])
    return (low, high) if low < high else (low, ticks[min(len(ticks) - 1, ticks.index(low) + 1)])


def _height(value: float, low: float, high: float) -> float:
    share = math.log(max(value, low) / low) / math.log(high / low)
    return HEIGHT - (HEIGHT - 8) * min(1.0, share)


def _line(
    which: int,
    name: str,
    rows: Sequence[tuple[str, tuple[float | None, ...]]],
    show: Callable[[float | None], str],
    low: float,
    high: float,
) -> Line:
    step = LINES_WIDTH / max(1, len(rows))
    runs: list[list[Dot]] = [[]]
    last: float | None = None
    for place, (row, values) in enumerate(rows):
        value = values[which]
        if value is None:
            runs.append([])
            continue
        last = value
        runs[-1].append(Dot((place + 0.5) * step, _height(value, low, high), f"{row} {name}: {show(value)}"))
    dots = tuple(replace(dot, alone=len(run) == 1) for run in runs for dot in run)
    paths = tuple(" ".join(f"{dot.x:.1f},{dot.y:.1f}" for dot in run) for run in runs if len(run) > 1)
    return Line(name, dots, paths, f"{name} {show(last)}" if dots else "", dots[-1].y if dots else 0.0)


def _apart(drawn: Sequence[Line]) -> Iterator[Line]:
    """Move the names at the ends of the lines up or down until none covers another."""
    ends = sorted((line for line in reversed(drawn) if line.dots), key=lambda line: line.label_y)
    at: dict[str, float] = {}
    free = 0.0
    for line in ends:
        at[line.name] = free = max(line.label_y, free)
        free += LABEL_HEIGHT
    too_low = max(0.0, free - LABEL_HEIGHT - HEIGHT)
    for line in drawn:
        y = at.get(line.name, 0.0) - too_low
        yield Line(line.name, line.dots, line.paths, line.label, y)

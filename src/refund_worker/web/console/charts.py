"""Figures: charts of the last days, from the daily sums that the scheduler computes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime

from fastapi import APIRouter
from fastapi.responses import HTMLResponse

from refund_worker import times
from refund_worker.domain.refund import ENDED_PAID, ENDED_UNPAID, UNDER_WAY, WAITING_FOR_PERSON, RefundStatus
from refund_worker.engine.jobs import daily_stats
from refund_worker.engine.views.api_objects import Json
from refund_worker.engine.views.failure_codes import explain
from refund_worker.engine.views.failure_groups import FAILED_AT_MOST, failures
from refund_worker.engine.views.money_format import money
from refund_worker.errors import InvalidRequest
from refund_worker.store.reporting import daily_stats as stored_stats
from refund_worker.store.reporting.daily_stats import Slot
from refund_worker.web.console.durations import age
from refund_worker.web.console.pages import ThePage
from refund_worker.web.console.svg import Columns, Lines, columns, lines

router = APIRouter()

# Days that can be shown → hours in each period of the oldest unfinished refund: about a hundred periods are legible.
RANGES: Mapping[int, int] = {7: 2, 14: 3, 30: 6, 90: 24}
DAYS = 14
# Days that a chart names below its axis, at most.
NAMED_DAYS = 5
CAUSES = 8
# From the bottom up.
BANDS: Mapping[str, tuple[RefundStatus, ...]] = {
    "succeeded": ENDED_PAID,
    "in progress": UNDER_WAY,
    "needs a person": WAITING_FOR_PERSON,
    "ended unpaid": ENDED_UNPAID,
}
PREVENTED = {
    "the same request again": "",
    "a send repeated with the same key": daily_stats.SENT_AGAIN,
    "found instead of sent again": daily_stats.FOUND,
}
SHARES = {"half": 0.5, "95 %": 0.95, "99 %": 0.99}
NAMES = (
    daily_stats.BY_STATUS, daily_stats.ASKED, daily_stats.PAID, daily_stats.PAID_LATER_LOST, daily_stats.LATE,
    daily_stats.TO_ACCEPTED, daily_stats.TO_CONFIRMED, daily_stats.SENT_AGAIN, daily_stats.FOUND, daily_stats.OLDEST,
)  # fmt: skip


class Sums:
    """The sums of the days shown, looked up by name, day and label."""

    def __init__(self, found: Mapping[Slot, int], repeats: Mapping[int, int], days: Sequence[int]) -> None:
        self.days, self._repeats = days, repeats
        self._by_name: dict[str, dict[int, dict[str, int]]] = defaultdict(lambda: defaultdict(dict))
        for (name, at, label), value in found.items():
            self._by_name[name][at][label] = value

    def of(self, name: str, at: int) -> Mapping[str, int]:
        """Return the values of `name` at `at` (epoch seconds), by label."""
        return self._by_name[name].get(at, {})

    def labels(self, *names: str) -> list[str]:
        """Return all labels that these names have in the days shown, sorted."""
        return sorted({label for name in names for day in self.days for label in self.of(name, day)})

    def count(self, name: str, day: int) -> int:
        """Return the sum over all labels of a day; without a name the number of repeated requests."""
        return sum(self.of(name, day).values()) if name else self._repeats.get(day, 0)

    def rows(self, values: Callable[[int], Sequence[int]]) -> list[tuple[str, Sequence[int]]]:
        """Return (name of the day, its values) for every day shown."""
        return [(_day(day), values(day)) for day in self.days]


@router.get("/figures")
def show_figures(page: ThePage, days: int = DAYS) -> HTMLResponse:
    """Show the charts of the last `days`, each with its data table."""
    if days not in RANGES:
        raise InvalidRequest(f"days: choose from {', '.join(str(each) for each in RANGES)}", field="days")
    with page.context.database.read() as connection:
        now = page.context.clock(connection)
        today = times.day_of(now)
        shown = [today - times.DAY * back for back in range(days - 1, -1, -1)]
        found, repeats = (
            stored_stats.tallied(connection, NAMES, shown[0]),
            stored_stats.repeats_by_day(connection, shown[0]),
        )
        sums = Sums(found, repeats, shown)
        groups = failures(connection)
    causes = [(explain(g["failure_code"]).title, g["failure_code"], g["refunds"]) for g in groups[:CAUSES]]
    values: Json = {
        "days": days,
        "ranges": list(RANGES),
        "every": math.ceil(days / NAMED_DAYS),
        "every_period": math.ceil(days / NAMED_DAYS) * 24 // RANGES[days],
        "failed_at_most": FAILED_AT_MOST,
        "states": _states(sums),
        "oldest": _oldest(sums, now),
        "accepted": _times(sums, daily_stats.TO_ACCEPTED, "Time until the processor accepts"),
        "confirmed": _times(sums, daily_stats.TO_CONFIRMED, "Time until the money is confirmed"),
        "amounts": _amounts(sums),
        "prevented": _prevented(sums),
        "late": _late(sums),
        "causes": causes,
        "longest": max([count for *_, count in causes], default=0),
    }
    return page.render("figures.html", **values)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b")


def _hour(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%d %b %H:%M")


def _states(sums: Sums) -> Columns:
    def of(day: int) -> list[int]:
        by_status = sums.of(daily_stats.BY_STATUS, day)
        return [max(0, sum(by_status.get(status, 0) for status in statuses)) for statuses in BANDS.values()]

    note = "By the day of the request, with their status now."
    return columns("Refunds by state", note, list(BANDS), sums.rows(of))


def _oldest(sums: Sums, now: float) -> Lines:
    """Return the highest age in each period of some hours; a period without measurements has a gap in the line."""
    width = RANGES[len(sums.days)] * times.HOUR
    rows: list[tuple[str, Sequence[float | None]]] = []
    for begin in range(sums.days[0], sums.days[-1] + times.DAY, width):
        hours = range(begin, begin + width, times.HOUR)
        seen = [value for hour in hours for value in sums.of(daily_stats.OLDEST, hour).values()]
        rows.append((_hour(begin), [float(max(seen)) if seen and begin <= now else None]))
    each = "at its highest in each day" if width == times.DAY else f"at its highest in each {width // times.HOUR} hours"
    note = f"The oldest refund in progress or waiting for a person, {each}. Logarithmic."
    return lines("Age of the oldest unfinished refund", note, ["latest"], rows, age)


def _times(sums: Sums, name: str, heading: str) -> Lines:
    rows = [
        (_day(day), [daily_stats.percentile(sums.of(name, day), share) for share in SHARES.values()])
        for day in sums.days
    ]
    begins = "From the request until the processor"
    answer = f"{begins} takes the refund" if name == daily_stats.TO_ACCEPTED else f"{begins} reports its final result"
    shares = "Half, 95\N{NO-BREAK SPACE}% and 99\N{NO-BREAK SPACE}% of a day's refunds took at most this long"
    note = f"{answer}. {shares}. Waiting for approval counts."
    return lines(heading, note, list(SHARES), rows, latency)


def latency(seconds: float | None) -> str:
    """Return a duration as text: like `age`, but in milliseconds below one second."""
    return age(seconds) if seconds is None or seconds >= 1 else f"{max(1, round(seconds * 1_000))} ms"


def _amounts(sums: Sums) -> list[Columns]:
    """Return one chart for each currency, since they have no common scale: amounts paid, and the total requested."""
    found = []
    for currency in sums.labels(daily_stats.ASKED, daily_stats.PAID):

        def of(day: int, currency: str = currency) -> list[int]:
            return [sums.of(daily_stats.PAID, day).get(currency, 0)]

        def shown(value: int, currency: str = currency) -> str:
            return money(value, currency)

        asked = sum(sums.of(daily_stats.ASKED, day).get(currency, 0) for day in sums.days)
        note = (
            f"Paid back through processors, by the day of their confirmation. Requested in this period: {shown(asked)}."
        )
        found.append(columns(f"Amounts in {currency}", note, ["paid"], sums.rows(of), shown))
    return found


def _prevented(sums: Sums) -> Columns:
    note = "Each of these could have paid twice; the key, or the look-up before sending, prevented it."
    rows = sums.rows(lambda day: [sums.count(name, day) for name in PREVENTED.values()])
    return columns("Duplicates prevented", note, list(PREVENTED), rows)


def _late(sums: Sums) -> Columns:
    # A line does not end between an amount and its currency.
    lost = [
        money(sum(sums.of(daily_stats.PAID_LATER_LOST, day).get(currency, 0) for day in sums.days), currency).replace(
            " ", "\N{NO-BREAK SPACE}"
        )
        for currency in sums.labels(daily_stats.PAID_LATER_LOST)
    ]
    note = "Refunds that succeeded and whose money came back later; the customers got the credits back."
    rows = sums.rows(lambda day: [sums.count(daily_stats.LATE, day)])
    return columns(
        "Late failures", f"{note} Total: {', '.join(lost)}." if lost else note, ["late failures"], rows, first_band=3
    )

"""Times as text and as days."""

from __future__ import annotations

from datetime import UTC, datetime


def to_millisecond(seconds: float) -> float:
    """Return epoch seconds without what is smaller than a millisecond: exactly the time that `iso` shows."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000).timestamp()


def iso(seconds: float) -> str:
    """Return epoch seconds as ISO 8601 in UTC, to the millisecond if there is a fraction."""
    moment = datetime.fromtimestamp(to_millisecond(seconds), UTC)
    spec = "milliseconds" if moment.microsecond else "seconds"
    return moment.isoformat(timespec=spec).replace("+00:00", "Z")


DAY, HOUR = 86_400, 3_600
# No payment or key has a time outside this range; every time inside it can be displayed in any time zone.
EARLIEST, LATEST = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (1970, 2200))


def day_of(at: float) -> int:
    """Return the first second (epoch) of the day of `at`, in UTC."""
    return int(at // DAY) * DAY

"""Durations in words, for the pages."""

from __future__ import annotations


def age(seconds: float | None) -> str:
    """Return a duration in seconds as text, in its two largest units."""
    if seconds is None:
        return "\N{EN DASH}"
    left = max(0, int(seconds))
    parts: list[str] = []
    for size, name in ((86_400, "d"), (3_600, "h"), (60, "min"), (1, "s")):
        count, left = divmod(left, size)
        if count or parts:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2]) or "0 s"


def span(seconds: float) -> str:
    """Return the length of a time window as text, in one unit if it is a whole number of them."""
    for size, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        count = seconds / size
        if count > 1 and count == int(count):
            return f"{int(count)} {name}"
    return age(seconds)

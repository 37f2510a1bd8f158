"""The states of a broker that answers and cannot be used, recognised by the texts of its errors."""

from __future__ import annotations

from typing import NamedTuple


class Cause(NamedTuple):
    """The cause in words, and its remedy."""

    found: str
    do: str


FULL = Cause(
    "Redis is full: its memory has reached maxmemory",
    "raise maxmemory, or delete what others left in it; requests are accepted meanwhile",
)
# The beginning of Redis' answer, also where a script or the client's error repeats it without its code.
_BY_WORDS = (
    ("used memory > 'maxmemory'", FULL),
    ("OOM ", FULL),
    (
        "READONLY",
        Cause("this Redis is a read-only replica", "name the primary in REFUND_WORKER_BROKER_URL, or promote this one"),
    ),
    ("read only replica", Cause("this Redis is a read-only replica", "name the primary in REFUND_WORKER_BROKER_URL")),
    ("MISCONF", Cause("Redis cannot save its data to its disk", "make room on its disk, or see its log")),
    ("loading the dataset", Cause("Redis is loading its data", "wait until it has read its file")),
    (
        "max number of clients",
        Cause("Redis has its max number of clients", "raise maxclients, or end idle ones"),
    ),
)


def cause_of(error: BaseException) -> Cause | None:
    """Return why a broker that answers refuses to work, or None for any other error."""
    text = " ".join(str(error).split())
    return next((cause for words, cause in _BY_WORDS if words in text), None)

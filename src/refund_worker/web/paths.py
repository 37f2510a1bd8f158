"""Routing on the path as it was sent: an encoded slash belongs to an id and divides no segments."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

# Not allowed in any id: a segment that is not UTF-8 matches nothing.
_NOTHING = "\x00"


def routed(raw_path: bytes) -> str:
    """Return the path for the router: each segment decoded, with its slashes and percent signs still encoded.

    So /v1/customers/shop%2Ftransactions has three segments and not four, whatever the id says.
    """
    return "/".join(_segment(part) for part in raw_path.split(b"/"))


def _segment(raw: bytes) -> str:
    if b"%" not in raw and raw.isascii():
        return raw.decode("ascii")
    try:
        text = unquote_to_bytes(raw).decode("utf-8")
    except UnicodeDecodeError:
        return _NOTHING
    return text.replace("%", "%25").replace("/", "%2F")


def decoded(segment: str) -> str:
    """Return the value of a parameter of a routed path, fully decoded."""
    return segment.replace("%2F", "/").replace("%25", "%")

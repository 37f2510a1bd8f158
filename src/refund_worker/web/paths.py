"""Which object a path names is decided on the path as it was sent: an encoded slash belongs to an id."""

from __future__ import annotations

from urllib.parse import unquote_to_bytes

# What can be in no id: a segment that is not UTF-8 names nothing.
_NOTHING = "\x00"


def routed(raw_path: bytes) -> str:
    """The path for the router: segment by segment decoded, with the slashes and percent signs in them still encoded.

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
    """What a parameter of a routed path says."""
    return segment.replace("%2F", "/").replace("%25", "%")

"""Strict JSON: no name twice in an object, no NaN, no endless integers; for HTTP bodies and files alike."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

# Maximum nesting of lists and objects in a request; a valid one has far fewer levels.
DEPTH_MAX = 20
# An integer with more digits is out of every range. It is not converted: that takes long for very many digits.
DIGITS_MAX = 30
_NAME_SHOWN_MAX = 60


class MalformedJson(ValueError):
    """Text that is not strict JSON. `position` is the index of the character where the syntax breaks, if it does."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.position = position


class TooDeep(MalformedJson):
    """JSON that is nested deeper than the decoder goes, which is far beyond `DEPTH_MAX`."""


def decode(text: str) -> Any:
    """Return the one JSON value that `text` holds. Raises `MalformedJson`."""
    try:
        return _DECODER.decode(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(error) from None


def end_of_value(text: str) -> int:
    """Return the index behind the JSON value that `text` begins with, strict or not. Raises `MalformedJson`."""
    try:
        _, end = _SCANNER.raw_decode(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(error) from None
    return end


def is_shallow(value: object) -> bool:
    """Return True if the nesting stays within `DEPTH_MAX`; without recursion, which has a limit of its own."""
    level: list[Any] = [value]
    for _ in range(DEPTH_MAX):
        inner = (each for outer in level for each in (outer.values() if isinstance(outer, dict) else outer))
        level = [each for each in inner if isinstance(each, dict | list)]
        if not level:
            return True
    return False


def _malformed(error: Exception) -> MalformedJson:
    if isinstance(error, RecursionError):
        return TooDeep("it is nested far too deeply")
    if isinstance(error, json.JSONDecodeError):
        return MalformedJson(error.msg, error.pos)
    return MalformedJson(str(error))


def _unique_names(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ValueError(f"the field {json.dumps(name[:_NAME_SHOWN_MAX])} is there twice")
        found[name] = value
    return found


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not a number in JSON")


def _integer(digits: str) -> int:
    if len(digits) > DIGITS_MAX:
        raise ValueError("a number has more digits than any amount")
    return int(digits)


_DECODER = json.JSONDecoder(object_pairs_hook=_unique_names, parse_constant=_no_constant, parse_int=_integer)
# Finds the end of a value, whatever it contains: integers stay text, so that they cost no time.
_SCANNER = json.JSONDecoder(parse_int=str)

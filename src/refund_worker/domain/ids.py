"""The rules for names that callers give: ids of their own, and idempotency keys. The same at every door."""

from __future__ import annotations

import re
import unicodedata

ID_LENGTH_MAX = 200
KEY_LENGTH_MAX = 255
# Composing shortens: a letter that comes with its marks one by one is up to four characters before. What is longer
# still is not even normalized, which takes long where there are very many marks.
_LENGTH_BEFORE_COMPOSING_MAX = 4 * ID_LENGTH_MAX

# What Unicode says to draw as nothing (Default_Ignorable_Code_Point) though it calls it a letter or a mark.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
# Browsers and other clients take these for "here" and "one level up" before they send a path, and for them a
# backslash is a slash.
_DOTS = frozenset({".", "..", "%2e", ".%2e", "%2e.", "%2e%2e"})
_SLASHES = re.compile(r"[/\\]")

FIRST_EDITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+\-/]*")


def checked_id(value: str) -> str:
    """The caller's id in the spelling that is stored and compared (Unicode's NFC). Raises ValueError saying the rule.

    Printable means: no character of the categories C (control, formatting, surrogates, private use, unassigned), no
    separator but the plain space, and nothing that Unicode says to draw as nothing.
    """
    found = _printable_id(value)
    if any(part.lower() in _DOTS for part in _SLASHES.split(found)):
        raise ValueError("must have no dot segment: neither . nor .. alone, nor between slashes")
    return found


def known_id(value: str) -> str:
    """An id to look for, in the spelling that is stored. Raises ValueError for what never was one.

    What the first edition took stays valid: a dot segment within an id is found where it was recorded.
    """
    if 0 < len(value) <= ID_LENGTH_MAX and FIRST_EDITION.fullmatch(value):
        return value
    return checked_id(value)


def checked_reference(value: str) -> str:
    """What a payment is called elsewhere, without the blanks around it. Raises ValueError saying the rule."""
    return _printable_id(value.strip())


def spelled(value: str) -> str:
    """What a person typed to look for, in the spelling that ids are stored in. What is no id is found nowhere."""
    return unicodedata.normalize("NFC", value) if len(value) <= _LENGTH_BEFORE_COMPOSING_MAX else value


def _printable_id(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    if len(value) > _LENGTH_BEFORE_COMPOSING_MAX:
        raise ValueError(_TOO_LONG)
    composed = unicodedata.normalize("NFC", value)
    if len(composed) > ID_LENGTH_MAX:
        raise ValueError(_TOO_LONG)
    if composed != composed.strip():
        raise ValueError("must have no blanks at its ends")
    if not composed.isprintable() or INVISIBLE.search(composed):
        raise ValueError("must be printable characters: no control and no invisible formatting characters")
    return composed


_TOO_LONG = f"must have at most {ID_LENGTH_MAX} characters"


def checked_key(key: str) -> str:
    """The idempotency key. Raises ValueError saying the rule: 1 to 255 printable ASCII characters, no blank at the
    ends, where a proxy or a spreadsheet loses it and the same request would count as a new one."""
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
        # A tab at the end is a blank as well, and the more helpful word for it.
        if key != (bare := key.strip(" \t")) and bare:
            raise ValueError(_BLANKS)
        raise ValueError(f"must be 1 to {KEY_LENGTH_MAX} printable ASCII characters")
    if key != key.strip(" "):
        raise ValueError(_BLANKS)
    return key


_BLANKS = "must have no blanks at its ends: with and without them it would be two keys"

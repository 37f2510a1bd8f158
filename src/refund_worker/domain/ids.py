"""Rules for the names that callers give: their own ids, and idempotency keys. Every entry point applies them.

The form of the ids that we make is here too: `own_id`.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

OWN_ID_RANDOM_BYTES: Final = 5
_TIME_DIGITS: Final = 12
_COUNTER_DIGITS: Final = 4
# A regular expression for the part of an id of ours after its prefix and "_".
OWN_ID_DIGITS: Final = f"[0-9a-f]{{{_TIME_DIGITS + _COUNTER_DIGITS + 2 * OWN_ID_RANDOM_BYTES}}}"

ID_LENGTH_MAX = 200
KEY_LENGTH_MAX = 255
# Composing shortens a text: a letter whose marks come one by one has up to four characters before. A text that is
# longer than this is not even normalized, because that takes long if it has very many marks.
_LENGTH_BEFORE_COMPOSING_MAX = 4 * ID_LENGTH_MAX

# Characters that are drawn as nothing (Unicode's Default_Ignorable_Code_Point), although they are letters or marks.
INVISIBLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180d\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0100-\U000e01ef]"
)
_BRAILLE_BLANK = "\u2800"
# Browsers and other clients resolve these as "here" and "one level up" before they send a path. They treat a
# backslash as a slash.
_DOTS = frozenset({".", "..", "%2e", ".%2e", "%2e.", "%2e%2e"})
_SLASHES = re.compile(r"[/\\]")

FIRST_EDITION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@+\-/]*")


def own_id(prefix: str, milliseconds: int, counter: int, random: bytes) -> str:
    """Return an id of ours, which sorts by time. `milliseconds` are since the epoch; `random` has 5 bytes.

    >>> own_id("po", 1_763_000_000_000, 0x5C1E, bytes.fromhex("7f00aa11b2"))
    'po_019a7afd1e005c1e7f00aa11b2'
    """
    number = counter & (16**_COUNTER_DIGITS - 1)
    return f"{prefix}_{milliseconds:0{_TIME_DIGITS}x}{number:0{_COUNTER_DIGITS}x}{random.hex()}"


def checked_id(value: str) -> str:
    """Return the caller's id in the spelling that is stored and compared (Unicode's NFC).

    Raises `ValueError` with the rule. Printable means: no character of the categories C (control, formatting,
    surrogates, private use, unassigned), no separator except the plain space, and no character that Unicode draws as
    nothing.
    """
    found = _printable_id(value)
    if any(part.lower() in _DOTS for part in _SLASHES.split(found)):
        raise ValueError("must have no dot segment: neither . nor .. alone, nor between slashes")
    return found


def known_id(value: str) -> str:
    """Return an id to search for, in the spelling that is stored. Raises `ValueError` for a text that never was an id.

    Ids that the first edition accepted stay valid: an id with a dot segment is found where it was recorded.
    """
    if 0 < len(value) <= ID_LENGTH_MAX and FIRST_EDITION.fullmatch(value):
        return value
    return checked_id(value)


def checked_reference(value: str) -> str:
    """Return a payment's name in another system, without the blanks around it. Raises `ValueError` with the rule."""
    return _printable_id(value.strip())


def is_readable(text: str) -> bool:
    """Return True if a person sees anything in the text: a sign that is neither blank nor drawn as nothing."""
    return any(sign.isprintable() and not is_unseen(sign) for sign in text)


def is_unseen(sign: str) -> bool:
    """Return True if the character is a blank, or is drawn as nothing."""
    return sign.isspace() or sign == _BRAILLE_BLANK or INVISIBLE.match(sign) is not None


def spelled(value: str) -> str:
    """Return a person's search text in the spelling of stored ids. A text that is no id is found nowhere."""
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
    """Return the idempotency key. Raises `ValueError` with the rule.

    The rule is: 1 to 255 printable ASCII characters, and no blank at the ends. A proxy or a spreadsheet drops a blank
    at an end, and the same request would count as a new one.
    """
    if not 1 <= len(key) <= KEY_LENGTH_MAX or not key.isascii() or not key.isprintable():
        # A tab at the end is a blank too, and this message helps more.
        if key != (bare := key.strip(" \t")) and bare:
            raise ValueError(_BLANKS)
        raise ValueError(f"must be 1 to {KEY_LENGTH_MAX} printable ASCII characters")
    if key != key.strip(" "):
        raise ValueError(_BLANKS)
    return key


_BLANKS = "must have no blanks at its ends: with and without them it would be two keys"

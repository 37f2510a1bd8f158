"""Text made safe to store, log or show: card numbers, API keys, bearer tokens and passwords in URLs taken out.

A last line of defence for text that others wrote; what is ours to keep secret is a `SecretStr` and never becomes text.
"""

from __future__ import annotations

import re

CARD = "[card number removed]"
KEY = "[key removed]"
HIDDEN = "***"

# ISO/IEC 7812: account numbers have up to 19 digits; the shortest still issued have 12.
CARD_DIGITS_MIN, CARD_DIGITS_MAX = 12, 19

# People write card numbers in groups: one or two of these between digits do not end the number.
_BETWEEN = "[ \t.,/_\u00a0\u202f\u2010-\u2015-]{1,2}"
_DIGIT_GROUPS = re.compile(rf"\d+(?:{_BETWEEN}\d+)*")
_GROUP = re.compile(r"\d+")
# The star: processors quote a key half masked, and even that is more than a log should hold.
_API_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:[srp]k_(?:live|test)_|[sr]k_|whsec_)[A-Za-z0-9_+/=*-]{3,}|rws?_[A-Za-z0-9_-]{40,})"
)
_AUTHORIZATION = re.compile(
    r"(?i)\b(bearer\s+|authorization['\"]?\s*[:=]\s*['\"]?(?:basic\s+|bearer\s+)?)[\w.~+/=*-]{6,}"
)
_URL_PASSWORD = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]*://[^\s/?#:@]*):[^\s/?#]*@")


def to_redacted(text: str, *, luhn_only: bool = True) -> str:
    """`text` with everything that looks like a secret replaced; the rest is unchanged.

    A card number is 12 to 19 digits in groups that pass the Luhn check. With `luhn_only=False` every unbroken run of
    12 to 19 digits goes as well: right for text written by a processor, too much for our own.
    """
    text = _URL_PASSWORD.sub(rf"\1:{HIDDEN}@", text)
    text = _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    text = _API_KEY.sub(KEY, text)
    return _DIGIT_GROUPS.sub(lambda match: _without_cards(match.group(), luhn_only), text)


def has_card_number(text: str) -> bool:
    """Whether `text` holds a Luhn-valid card number, for those who would rather refuse than redact."""
    return _DIGIT_GROUPS.sub(lambda match: _without_cards(match.group(), True), text) != text


def _without_cards(digits_in_groups: str, luhn_only: bool) -> str:
    """One stretch of digit groups with its card numbers replaced. A card number begins and ends with a whole group,
    so that neither a neighbouring number hides it nor a long reference is cut where a part of it passes by chance."""
    groups = list(_GROUP.finditer(digits_in_groups))
    kept, position, i = [], 0, 0
    while i < len(groups):
        end = _card_end(groups, i, luhn_only)
        if end is None:
            i += 1
            continue
        kept += [digits_in_groups[position : groups[i].start()], CARD]
        position, i = groups[end].end(), end + 1
    return "".join(kept) + digits_in_groups[position:]


def _card_end(groups: list[re.Match[str]], first: int, luhn_only: bool) -> int | None:
    """The index of the last group of the longest card number that begins with group `first`; None if there is none."""
    digits, found = "", None
    for i in range(first, len(groups)):
        digits += groups[i].group()
        if len(digits) > CARD_DIGITS_MAX:
            break
        plain_run = i == first and not luhn_only
        if len(digits) >= CARD_DIGITS_MIN and (plain_run or _passes_luhn(digits)):
            found = i
    return found


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0

"""Make text safe to store, log or show: remove card numbers, API keys, bearer tokens and passwords in URLs.

This is a last line of defence for text that others wrote. Our own secrets are `SecretStr` and never become text.
"""

from __future__ import annotations

import re

CARD = "[card number removed]"
KEY = "[key removed]"
HIDDEN = "***"

# ISO/IEC 7812: account numbers have up to 19 digits; the shortest still issued have 12.
CARD_DIGITS_MIN, CARD_DIGITS_MAX = 12, 19

# For each brand, the beginning of its numbers and their lengths. A number with another beginning is no card, even if
# its Luhn digit fits: one in ten of all other numbers passes that check too.
_BRANDS = (
    (re.compile("4"), (13, 16, 19)),  # Visa
    (re.compile("5[1-5]|222[1-9]|22[3-9]|2[3-6]|27[01]|2720"), (16,)),  # Mastercard
    (re.compile("3[47]"), (15,)),  # American Express
    (re.compile("3[0689]"), range(14, 20)),  # Diners Club
    (re.compile("35(2[89]|[3-8])"), range(16, 20)),  # JCB
    (re.compile("220[0-4]"), range(16, 20)),  # Mir
    (re.compile("50|5[6-8]|6"), range(12, 20)),  # Maestro, Discover, UnionPay, RuPay
)

# People write card numbers in groups: one or two of these between digits do not end the number.
_BETWEEN = "[ \t.,/_\u00a0\u202f\u2010-\u2015-]{1,2}"
_DIGIT_GROUPS = re.compile(rf"\d+(?:{_BETWEEN}\d+)*")
_GROUP = re.compile(r"\d+")
# With the star: processors quote a key half masked, and even that is more than a log should hold.
_API_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:(?:[srp]k_(?:live|test)_|[sr]k_|whsec_)[A-Za-z0-9_+/=*-]{3,}|rws?_[A-Za-z0-9_-]{40,})"
)
_AUTHORIZATION = re.compile(
    r"(?i)\b(bearer\s+|authorization['\"]?\s*[:=]\s*['\"]?(?:basic\s+|bearer\s+)?)[\w.~+/=*-]{6,}"
)
_ADDRESS = re.compile(r"[\w.!#$%&'*+/=?^`{|}~-]{1,64}@[\w-]{1,63}(?:\.[\w-]{1,63})+")
_SCHEME = re.compile(r"(\b[A-Za-z][A-Za-z0-9+.-]{0,30}://)")
_PORT = re.compile(r"[0-9]{1,5}(?:[/?#]|$)")
_SPACE = re.compile(r"\s")
# In the query of a URL, in libpq's own connection strings, and in texts that people paste.
_NAMED_PASSWORD = re.compile(r"(?i)((?<![A-Za-z0-9])(?:ssl)?(?:password|passwd|token)=)[^&\s]+")

# Texts with digits that are no card numbers: hexadecimal ids of machines, and dates with their times.
_HEX = r"(?:[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}|[0-9a-f]{24,})"
_YEAR, _MONTH, _DAY = r"(?:19|20|21)\d\d", "(?:0?[1-9]|1[0-2])", r"(?:0?[1-9]|[12]\d|3[01])"
_HOUR, _SIXTY, _APART = r"(?:[01]?\d|2[0-3])", r"[0-5]\d", "[-./_ ]"
_DATE = rf"{_YEAR}{_APART}{_MONTH}{_APART}{_DAY}|{_DAY}{_APART}{_DAY}{_APART}{_YEAR}"
_SHORT = rf"{_DAY}{_APART}{_DAY}{_APART}\d\d"
_TIME = rf"{_HOUR}[-.:_]{_SIXTY}(?:[-.:_]{_SIXTY}(?:[.,]\d{{1,9}})?)?"
_RUN = rf"(?:0[1-9]|[12]\d|3[01])(?:0[1-9]|1[0-2]){_YEAR}[-_ ]?(?:[01]\d|2[0-3]){_SIXTY}(?:{_SIXTY})?"
_WHEN = rf"(?:{_DATE})(?:[-T_ ,]{{1,3}}{_TIME})?|{_SHORT} {{1,3}}{_TIME}|{_RUN}"
_NO_CARD = re.compile(rf"(?i)(?<![0-9a-z])(?:(?=[0-9-]{{0,35}}[a-f]){_HEX}|{_WHEN})(?![0-9a-z])")


def to_redacted(text: str, *, luhn_only: bool = True) -> str:
    """Return `text` with everything that looks like a secret replaced; the rest is unchanged.

    A card number has 12 to 19 digits in groups, a brand's beginning and length, and passes the Luhn check. With
    `luhn_only=False` every unbroken run of 12 to 19 digits is replaced too. That suits text written by a processor, and
    is too much for our own.
    """
    text = without_passwords(text)
    text = _AUTHORIZATION.sub(rf"\1{HIDDEN}", text)
    text = _API_KEY.sub(KEY, text)
    return _without_cards(text, luhn_only)


def has_card_number(text: str) -> bool:
    """Return True if `text` holds a card number, for callers that refuse such a text instead of redacting it."""
    return _without_cards(text, True) != text


def masked_email(address: str) -> str:
    """Return an e-mail address as it may be shown: its first character and its domain, j***@example.com."""
    name, at, domain = address.rpartition("@")
    return f"{name[:1]}{HIDDEN}@{domain}" if at and name and domain else HIDDEN


def without_emails(text: str) -> str:
    """Return `text` with each e-mail address masked."""
    return _ADDRESS.sub(lambda match: masked_email(match.group()), text)


def without_passwords(text: str) -> str:
    """Return `text` with the passwords of its URLs replaced, wherever they are in the URL.

    An unescaped password may hold every character, so it ends only at the URL's last @. A text that looks like a port
    and a path is not the beginning of a password.
    """
    parts = _SCHEME.split(text)
    for place in range(2, len(parts), 2):
        parts[place] = _without_password(parts[place])
    return _NAMED_PASSWORD.sub(rf"\1{HIDDEN}", "".join(parts))


def url_without_password(text: str) -> str:
    """Return one URL of our own without its password.

    No part counts as a port here: the text between the first colon and the last @ may all be the password.
    """
    scheme, apart, rest = text.partition("://")
    who, at, host = rest.rpartition("@")
    user, colon, _ = who.partition(":")
    if at and colon:
        rest = f"{user}:{HIDDEN}@{host}"
    return _NAMED_PASSWORD.sub(rf"\1{HIDDEN}", scheme + apart + rest)


def _without_password(rest: str) -> str:
    """Return the text after `scheme://` without the password in it."""
    space = _SPACE.search(rest)
    url = rest[: space.start()] if space else rest
    who, at, host = url.rpartition("@")
    user, colon, password = who.partition(":")
    if not at or not colon or any(mark in user for mark in "/?#@") or _PORT.match(password):
        return rest
    return f"{user}:{HIDDEN}@{host}{rest[len(url) :]}"


def _without_cards(text: str, luhn_only: bool) -> str:
    if not luhn_only:
        return _without_cards_in(text, luhn_only)
    kept, position = [], 0
    for known in _NO_CARD.finditer(text):
        kept += [_without_cards_in(text[position : known.start()], luhn_only), known.group()]
        position = known.end()
    return "".join(kept) + _without_cards_in(text[position:], luhn_only)


def _without_cards_in(text: str, luhn_only: bool) -> str:
    return _DIGIT_GROUPS.sub(lambda match: _without_card_groups(match.group(), luhn_only), text)


def _without_card_groups(digits_in_groups: str, luhn_only: bool) -> str:
    """Return one stretch of digit groups with its card numbers replaced.

    A card number begins and ends with a whole group. So a neighbouring number does not hide it, and a long reference is
    not cut because a part of it passes by chance.
    """
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
    """Return the index of the last group of the longest card number that begins with group `first`, or None."""
    digits, found, lengths = "", None, frozenset[int]()
    for i in range(first, len(groups)):
        digits += groups[i].group()
        if len(digits) > CARD_DIGITS_MAX:
            break
        if len(digits) < CARD_DIGITS_MIN:
            continue
        if i == first and not luhn_only:
            found = i
        lengths = lengths or _lengths_of_cards_like(digits)
        if not lengths:
            break
        if len(digits) in lengths and _passes_luhn(digits):
            found = i
    return found


def _lengths_of_cards_like(digits: str) -> frozenset[int]:
    """Return the possible numbers of digits of a card that begins like this; empty if none does."""
    if not digits.isascii():  # digits of other scripts are digits too
        digits = "".join(str(int(digit)) for digit in digits)
    return frozenset(length for begins, lengths in _BRANDS if begins.match(digits) for length in lengths)


def _passes_luhn(digits: str) -> bool:
    total = 0
    for place, digit in enumerate(reversed(digits)):
        value = int(digit) * (1 + place % 2)
        total += value - 9 if value > 9 else value
    return total % 10 == 0

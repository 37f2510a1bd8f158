"""Texts in the characters that every bank of SEPA takes: Latin letters without marks, digits, and / - ? : ( ) . , ' +

The set and the conversions are those of the European Payments Council (EPC132-08 and EPC217-08). The set was read
2026-11 in a bank's reprint of it. The table of EPC217-08 was not read: this one is ours. Greek follows ELOT 743,
Bulgarian Cyrillic its law on transliteration; letters of other scripts have no conversion here.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

_TAKEN: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/-?:().,'+ ")
# Small letters; a capital one is converted as its small one and begins with a capital.
_LETTERS: Final = {
    "ß": "ss",
    "æ": "ae",
    "œ": "oe",
    "ø": "o",
    "ł": "l",
    "đ": "d",
    "ð": "d",
    "þ": "th",
    "ħ": "h",
    "ı": "i",
    "ŋ": "n",
    "ŧ": "t",
    "ĸ": "k",
    "ə": "e",
    "α": "a",
    "β": "v",
    "γ": "g",
    "δ": "d",
    "ε": "e",
    "ζ": "z",
    "η": "i",
    "θ": "th",
    "ι": "i",
    "κ": "k",
    "λ": "l",
    "μ": "m",
    "ν": "n",
    "ξ": "x",
    "ο": "o",
    "π": "p",
    "ρ": "r",
    "σ": "s",
    "ς": "s",
    "τ": "t",
    "υ": "y",
    "φ": "f",
    "χ": "ch",
    "ψ": "ps",
    "ω": "o",
    "а": "a",
    "б": "b",
    "в": "v",
    "г": "g",
    "д": "d",
    "е": "e",
    "ж": "zh",
    "з": "z",
    "и": "i",
    "й": "y",
    "к": "k",
    "л": "l",
    "м": "m",
    "н": "n",
    "о": "o",
    "п": "p",
    "р": "r",
    "с": "s",
    "т": "t",
    "у": "u",
    "ф": "f",
    "х": "h",
    "ц": "ts",
    "ч": "ch",
    "ш": "sh",
    "щ": "sht",
    "ъ": "a",
    "ь": "y",
    "ю": "yu",
    "я": "ya",
}
_SIGNS: Final = {
    **dict.fromkeys('"`´‘’‚“”„«»‹›', "'"),
    **dict.fromkeys("_~‐‑‒–—−", "-"),
    **dict.fromkeys("[{<", "("),
    **dict.fromkeys("]}>", ")"),
    **dict.fromkeys("!·•…*#%$=^°", "."),
    "&": "+",
    "@": "(at)",
    ";": ",",
    "\\": "/",
    "|": "/",
    "€": "EUR",
    "£": "GBP",
    "¿": "?",
    "¡": ".",
}


class NotLatin(ValueError):
    """A text with a letter or sign that has no conversion."""


def to_latin(text: str, *, unknown: str | None = None) -> str:
    """Return the text in the characters of SEPA, with single blanks.

    `unknown` replaces a sign that has no conversion; without it such a sign raises `NotLatin`. The result may be empty.
    It neither begins nor ends with a slash and has no two in a row: banks refuse both.

    >>> to_latin("Łukasz Müller-Sørensen & Söhne"), to_latin("Γιώργος"), to_latin("Щерев")
    ('Lukasz Muller-Sorensen + Sohne', 'Giorgos', 'Shterev')
    """
    found = "".join(_converted(sign, unknown) for sign in unicodedata.normalize("NFC", text))
    return re.sub(r"/{2,}", "/", " ".join(found.split())).strip("/ ")


def _converted(sign: str, unknown: str | None) -> str:
    if sign in _TAKEN:
        return sign
    if sign.isspace():
        return " "
    if (known := _known(sign)) is not None:
        return known
    # A letter with marks, a ligature or a wide letter: its parts.
    parts = [part for part in unicodedata.normalize("NFKD", sign) if not unicodedata.combining(part)]
    converted = [part if part in _TAKEN else _known(part) for part in parts]
    if all(part is not None for part in converted) and parts:
        return "".join(part or "" for part in converted)
    if unknown is None:
        raise NotLatin("a letter or sign that no bank of SEPA takes")
    return unknown


def _known(sign: str) -> str | None:
    if sign in _SIGNS:
        return _SIGNS[sign]
    small = sign.lower()
    if small not in _LETTERS:
        return None
    found = _LETTERS[small]
    return found if small == sign else found.capitalize()

"""One rule for callers' ids and one for idempotency keys, the same for every entry point."""

from __future__ import annotations

import time
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.domain.ids import checked_id, checked_key, known_id

GOOD = [
    "42",
    "auth0|5f7c8ec7c33c6c004bbafe82",
    "_V1StGXR8_Z5jdHi6B-myT",
    "-V1StGXR8_Z5jdHi6B",
    "O'Brien & Søn, 3. Stock",
    "ivan@example.org",
    "客户 7",
    "Zoë",
    "a/b",
    "/a//b/",
    "shop/transactions",
    "...",
    "a..b/.c",
    "#?%&=+;:",
    "%2F",
    "4111 1111 1111 1111",
    "🦊",
    "x" * 200,
]


@pytest.mark.parametrize("value", GOOD)
def test_usual_id_is_accepted_unchanged(value: str) -> None:
    assert checked_id(value) == value


BLANKS = " \t\n\u00a0\u2003\u3000"


@pytest.mark.parametrize("blank", BLANKS)
def test_id_has_no_blank_at_its_ends(blank: str) -> None:
    for value in (f"{blank}a", f"a{blank}", blank):
        with pytest.raises(ValueError, match="blanks at its ends"):
            checked_id(value)


@pytest.mark.parametrize(
    "char",
    [
        *"\x00\x07\t\n\r\x1b\x7f\x85",  # control
        *"\u00ad\u200b\u200d\u200e\u202e\u2060\u2066\ufeff\U000e0001",  # formatting
        *"\u2028\u2029\u00a0\u3000",  # separators that are no plain space
        *"\ud800\ue000\uffff\U000f0000\u0378",  # half a character, private, none, unassigned
        *"\u034f\u115f\u3164\uffa0\ufe0f\u180b",  # drawn as nothing
    ],
)
def test_id_has_no_invisible_character(char: str) -> None:
    with pytest.raises(ValueError, match="must be printable"):
        checked_id(f"a{char}b")


@pytest.mark.parametrize(
    "value",
    [".", "..", "a/../mia", "../a", "a/..", "a/./b", "a\\..\\b", "..\\a", "%2e%2e", "a/%2E./b", ".%2e/x", "%2e"],
)
def test_id_has_no_dot_segment(value: str) -> None:
    with pytest.raises(ValueError, match="dot segment"):
        checked_id(value)


def test_two_spellings_are_one_id_of_the_stored_length() -> None:
    assert checked_id("Zoe\u0308") == checked_id("Zo\u00eb") == "Zo\u00eb"
    assert checked_id("e\u0301" * 200) == "\u00e9" * 200
    for long in ("x" * 201, "\u00e9" * 201, "e\u0301" * 201, "\U0001d15e" * 101):
        with pytest.raises(ValueError, match="at most 200"):
            checked_id(long)
    with pytest.raises(ValueError, match="empty"):
        checked_id("")


def test_text_that_is_slow_to_normalize_is_refused_at_once() -> None:
    began = time.process_time()
    with pytest.raises(ValueError, match="at most 200"):
        checked_id("a" + "\u0301\u0323" * 500_000)
    assert time.process_time() - began < 0.5


@given(st.text(max_size=12))
def test_accepted_id_is_stable_visible_and_no_path(value: str) -> None:
    try:
        taken = checked_id(value)
    except ValueError:
        return
    assert checked_id(taken) == taken == unicodedata.normalize("NFC", value)
    assert taken == taken.strip()
    assert not {unicodedata.category(char) for char in taken} & {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
    assert not {".", ".."} & set(taken.replace("\\", "/").split("/"))


def test_id_of_the_first_edition_is_still_found() -> None:
    assert known_id("a/../mia") == "a/../mia"
    assert known_id("Zoe\u0308") == "Zo\u00eb"
    for value in ("..", "a\x00", ""):
        with pytest.raises(ValueError, match="must"):
            known_id(value)


@pytest.mark.parametrize("key", ["k", "ticket 7", "\"'#%", "k" * 255])
def test_printable_ascii_key_is_accepted(key: str) -> None:
    assert checked_key(key) == key


@pytest.mark.parametrize("key", ["", "k" * 256, "é", "a\tb", "a\x00", "a\nb", "\u200b"])
def test_key_that_is_not_printable_ascii_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="printable ASCII"):
        checked_key(key)


@pytest.mark.parametrize("key", ["k ", " k", "  k  ", "k\t", "\tk"])
def test_key_with_blanks_at_its_ends_is_refused(key: str) -> None:
    with pytest.raises(ValueError, match="blanks at its ends"):
        checked_key(key)

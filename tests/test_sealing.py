"""A sealed text shows nothing, opens with any of the keys, and its fingerprint tells equal texts apart from others."""

from __future__ import annotations

import base64

import pytest

from refund_worker.sealing import PLAIN, Box
from refund_worker.setting_values import read_destination_keys

OLD, NEW = (base64.urlsafe_b64encode(letter * 32).decode() for letter in (b"a", b"b"))
TEXT = '{"iban": "DE89370400440532013000"}'


def test_sealed_text_shows_nothing_and_opens_again() -> None:
    box = Box((OLD,))
    sealed = box.seal(TEXT)
    assert "DE89" not in sealed
    assert sealed != box.seal(TEXT)
    assert box.open(sealed) == TEXT


def test_old_key_opens_and_the_new_one_seals() -> None:
    before, after = Box((OLD,)), Box((NEW, OLD))
    assert after.open(before.seal(TEXT)) == TEXT
    assert Box((NEW,)).open(after.seal(TEXT)) == TEXT
    for other in (Box((NEW,)), Box()):
        with pytest.raises(ValueError, match="a key that is not set here"):
            other.open(before.seal(TEXT))


def test_text_from_before_the_first_key_opens() -> None:
    assert Box((OLD,)).open(Box().seal(TEXT)) == TEXT == Box().open(PLAIN + TEXT)


@pytest.mark.parametrize("wrong", ["", TEXT, "fernet:", "fernet:abc"])
def test_other_text_does_not_open(wrong: str) -> None:
    with pytest.raises(ValueError, match="a key that is not set here"):
        Box((OLD,)).open(wrong)


def test_fingerprint_is_keyed_and_known_after_a_rotation() -> None:
    before, after = Box((OLD,)), Box((NEW, OLD))
    assert before.fingerprint(TEXT) == before.fingerprint(TEXT) != after.fingerprint(TEXT)
    assert after.matches(TEXT, before.fingerprint(TEXT))
    assert before.matches(TEXT, Box().fingerprint(TEXT))
    assert not Box((NEW,)).matches(TEXT, before.fingerprint(TEXT))
    assert not after.matches(TEXT + " ", before.fingerprint(TEXT))


def test_keys_are_read_in_both_alphabets_of_base64() -> None:
    key = base64.b64encode(b"\xfb\xff" * 16).decode()
    assert read_destination_keys(f"{key}, {NEW}") == (key.replace("+", "-").replace("/", "_"), NEW)
    for wrong in ("", "abc", NEW[:-4], f"{NEW},abc", "ä" * 44):
        with pytest.raises(ValueError, match="32 random bytes"):
            read_destination_keys(wrong)

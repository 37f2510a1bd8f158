"""The decoder of everything that comes in as JSON: what it refuses, and where it says that a value ends."""

from __future__ import annotations

import time

import pytest

from refund_worker.strict_json import DIGITS_MAX, MalformedJson, TooDeep, decode, end_of_value


@pytest.mark.parametrize(
    ("text", "reason", "position"),
    [
        ('{"a": 1, "a": 1}', 'the field "a" is there twice', None),
        ('[{"b": {"a": 1, "a": null}}]', 'the field "a" is there twice', None),
        ('{"' + "n" * 100 + '": 1, "' + "n" * 100 + '": 1}', f'the field "{"n" * 60}" is there twice', None),
        ("NaN", "NaN is not a number in JSON", None),
        ("[-Infinity]", "-Infinity is not a number in JSON", None),
        ("1" * (DIGITS_MAX + 1), "a number has more digits than any amount", None),
        ('{"a": x}', "Expecting value", 6),
        ("{} {}", "Extra data", 3),
        ("", "Expecting value", 0),
    ],
)
def test_decoder_refuses_what_is_not_strict_json(text: str, reason: str, position: int | None) -> None:
    with pytest.raises(MalformedJson) as refused:
        decode(text)
    assert (refused.value.reason, refused.value.position) == (reason, position)


def test_decoder_takes_the_longest_integer_that_is_allowed() -> None:
    assert decode("9" * DIGITS_MAX) == int("9" * DIGITS_MAX)


@pytest.mark.parametrize("read", [decode, end_of_value])
def test_endless_nesting_is_refused_without_a_crash(read: object) -> None:
    with pytest.raises(TooDeep):
        read("[" * 200_000)  # type: ignore[operator]


def test_end_of_a_value_is_found_even_if_it_is_not_strict() -> None:
    assert end_of_value('{"a": NaN, "a": 1}, more') == len('{"a": NaN, "a": 1}')
    begun = time.process_time()
    assert end_of_value("9" * 1_000_000 + ",") == 1_000_000
    assert time.process_time() - begun < 1


def test_end_of_a_value_that_is_cut_off_is_refused() -> None:
    with pytest.raises(MalformedJson):
        end_of_value('{"a": [1')

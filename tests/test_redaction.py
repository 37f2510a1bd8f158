"""What looks like a secret leaves a text; everything else stays."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refund_worker.redaction import CARD, KEY, has_card_number, to_redacted

VISA = "4242424242424242"


@pytest.mark.parametrize(
    "number",
    [
        VISA,
        "4242 4242 4242 4242",
        "4242-4242-4242-4242",
        "4242.4242.4242.4242",
        "4242  4242 -4242- 4242",
        "4242\u00a04242\u20114242\u20104242",
        "3782 822463 10005",
        "6304000000000000000",
        "412345678905",
        "\uff14\uff12\uff14\uff12" * 4,
    ],
)
def test_a_card_number_leaves_the_text_however_it_is_written(number: str) -> None:
    assert to_redacted(f"card {number}, please") == f"card {CARD}, please"
    assert has_card_number(number)


@pytest.mark.parametrize(
    "text", [f"12 {VISA}", f"{VISA} 07/29 123", f"order 991 {VISA}", f"x{VISA}y", f"{VISA}-{VISA}"]
)
def test_a_neighbouring_number_does_not_hide_a_card(text: str) -> None:
    redacted = to_redacted(text)
    assert VISA not in redacted
    assert CARD in redacted


@pytest.mark.parametrize(
    "text",
    [
        "4242424242424241",
        "invoice 536365 of 2010-12-01",
        "0.99 1.25 3.50",
        "1" * 40,
        "12345678901",
        "",
        "no digits at all",
        "http://shop.example/orders/5:30@noon",
        "sketch_of_a_task",
        "bearer of news",
    ],
)
def test_what_is_no_secret_stays_as_it_is(text: str) -> None:
    assert to_redacted(text) == text
    assert not has_card_number(text)


def test_text_of_a_processor_loses_every_run_of_card_length_but_no_shorter_or_longer_one() -> None:
    text = f"a {'1' * 11} b {'1' * 12} c {'2' * 19} d {'1' * 20}"
    assert to_redacted(text, luhn_only=False) == f"a {'1' * 11} b {CARD} c {CARD} d {'1' * 20}"


@pytest.mark.parametrize(
    "key",
    ["sk_test_51AbC", "rk_live_9", "sk_live_abc", "pk_test_abcd", "whsec_a+b/c=", "sk_test_****wxyz", "rk_12345"]
    + [prefix + "aB3-_" * 8 + "xyz" for prefix in ("rw_", "rws_")],
)
def test_an_api_key_leaves_the_text(key: str) -> None:
    assert to_redacted(f"Invalid API Key provided: {key}.") == f"Invalid API Key provided: {KEY}."
    assert key not in to_redacted(f"{{'key':'{key}'}}")


@pytest.mark.parametrize(
    "text", ["Bearer abcDEF.123-456", "authorization: Basic dXNlcjpwdw==", "'Authorization': 'Bearer abc.def.ghi'"]
)
def test_a_token_in_a_header_leaves_the_text(text: str) -> None:
    redacted = to_redacted(text)
    assert "***" in redacted
    assert not any(part in redacted for part in ("abc", "DEF", "dXNl"))


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("postgresql://app:s3cret@db/refunds", "postgresql://app:***@db/refunds"),
        ("redis://:p@ss@127.0.0.1:6379/0 down", "redis://:***@127.0.0.1:6379/0 down"),
        ("https://user@host/path", "https://user@host/path"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    ],
)
def test_a_password_leaves_a_url_and_the_rest_stays(url: str, expected: str) -> None:
    assert to_redacted(url) == expected


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert to_redacted(to_redacted(text)) == to_redacted(text)


@pytest.mark.parametrize("unit", ["1 ", "1-", "a:", "://a:", "sk_", "Bearer ", "1234567890 "])
def test_a_hostile_text_costs_no_more_than_its_length(unit: str) -> None:
    started = time.process_time()
    to_redacted(unit * 20_000)
    assert time.process_time() - started < 2

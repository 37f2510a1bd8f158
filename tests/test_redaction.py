"""Redaction removes everything that looks like a secret from a text, and nothing else."""

import random
import time
import uuid
from datetime import UTC, datetime, timedelta

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
        "501800000009",
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


# Each brand's well-known numbers for tests, in the groups of its plastic.
TEST_CARDS = (
    "4111 1111 1111 1111",
    "4000 0566 5566 5556",
    "4222 222 222 222",
    "5555 5555 5555 4444",
    "5105 1051 0510 5100",
    "2223 0031 2200 3222",
    "2720 9900 0000 0015",
    "3714 496353 98431",
    "3434 343434 34343",
    "3056 9309 0259 04",
    "3622 720627 1667",
    "3852 0000 0232 37",
    "3530 1113 3330 0000",
    "3566 0020 2036 0505",
    "6011 1111 1111 1117",
    "6011 0009 9013 9424",
    "6445 6445 6445 6445",
    "6500 0000 0000 0002",
    "6200 0000 0000 0005",
    "6205 5000 0000 0000 004",
    "5018 0000 0009",
    "6759 6498 2643 8453",
    "5612 3456 7890 1235 6",
    "2200 0000 0000 0004",
)


@pytest.mark.parametrize("number", TEST_CARDS)
@pytest.mark.parametrize("between", ["", " ", "-", ".", "\u00a0", " - ".strip(), "/"])
def test_every_brands_numbers_leave_the_text_in_any_grouping(number: str, between: str) -> None:
    written = number.replace(" ", between)
    for text in (
        f"card {written}.",
        f"of 2026-11-24 17.30, {written}",
        f"{uuid.UUID(int=1)} {written}",
        f"x{written}y",
    ):
        assert has_card_number(text), text
        assert written not in to_redacted(text)
    digits = number.replace(" ", "")
    eights = f"{digits[:8]}{between}{digits[8:]}"
    assert eights not in to_redacted(f"card {eights}")


def test_machine_ids_and_times_are_no_card_numbers() -> None:
    chosen = random.Random(20261124)
    ids = [str(uuid.UUID(int=chosen.getrandbits(128), version=4)) for _ in range(5_000)]
    assert [text for text in ids if has_card_number(text) or to_redacted(text) != text] == []
    assert [text for text in ids if has_card_number(f"cli-{text.upper()} {text.replace('-', '')}")] == []
    milliseconds = [str(chosen.randrange(1_577_836_800_000, 1_893_456_000_000)) for _ in range(5_000)]
    assert [text for text in milliseconds if has_card_number(text)] == []


@pytest.mark.parametrize(
    "shape",
    [
        "%Y-%m-%d %H.%M",
        "%Y-%m-%d %H.%M.%S.%f",
        "%Y-%m-%dT%H:%M:%S.%fZ",
        "%Y%m%d%H%M%S",
        "%Y%m%d-%H%M%S",
        "%d.%m.%Y %H.%M.%S",
        "%d/%m/%Y %H.%M",
        "%m/%d/%Y %H.%M.%S",
        "%d%m%Y %H%M%S",
        "%d.%m.%y %H.%M.%S",
        "%Y_%m_%d_%H_%M_%S",
    ],
)
def test_a_date_with_its_time_is_no_card_number(shape: str) -> None:
    chosen = random.Random(shape)
    for _ in range(1_000):
        begun = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(seconds=chosen.random() * 86_400 * 3_650)
        ended = begun + timedelta(seconds=chosen.random() * 86_400)
        for text in (
            f"Private chat {begun:{shape}}",
            f"{begun:{shape}} - {ended:{shape}}",
            f"order 4711 {begun:{shape}}",
        ):
            assert not has_card_number(text), text
            assert to_redacted(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "Private chat 2026-11-24 17.30",
        "1234567812345670",
        "9999999999999999995",
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
def test_text_without_a_secret_is_unchanged(text: str) -> None:
    assert to_redacted(text) == text
    assert not has_card_number(text)


def test_processor_text_loses_exactly_the_runs_of_card_length() -> None:
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
        ("postgresql+psycopg://u:s3/cr?e#t@h/d", "postgresql+psycopg://u:***@h/d"),
        ("'redis://:s3/cret@h' and redis://:b@h2", "'redis://:***@h' and redis://:***@h2"),
        ("redis://:a@h;redis://:b@h2", "redis://:***@h;redis://:***@h2"),
        ("postgresql:///d?password=a/b&sslpassword=c&host=h", "postgresql:///d?password=***&sslpassword=***&host=h"),
        ("connect failed: host=h password=secret user=u", "connect failed: host=h password=*** user=u"),
        ("http://h/?token=abc", "http://h/?token=***"),
        ("http://127.0.0.1:8000/v1?mail=a@b", "http://127.0.0.1:8000/v1?mail=a@b"),
        ("https://user@host/path", "https://user@host/path"),
        ("http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1"),
    ],
)
def test_a_password_leaves_a_url_and_the_rest_stays(url: str, expected: str) -> None:
    assert to_redacted(url) == expected


@given(st.text())
def test_redacting_twice_changes_nothing_more(text: str) -> None:
    assert to_redacted(to_redacted(text)) == to_redacted(text)


@pytest.mark.parametrize(
    "unit",
    ["1 ", "1-", "a-", "a:", "://a:", "a://b:", "a://b:@", "password=", "2026-", "sk_", "Bearer ", "1234567890 "],
)
def test_a_hostile_text_costs_no_more_than_its_length(unit: str) -> None:
    started = time.process_time()
    to_redacted(unit * 20_000)
    assert time.process_time() - started < 2

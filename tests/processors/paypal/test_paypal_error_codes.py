"""The meaning of each refusal: for every issue that PayPal publishes, for invented ones, and without one."""

from __future__ import annotations

import json
from itertools import chain
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.openapi_check import described

from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    KeyConflict,
    Misconfigured,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.paypal.answers import ErrorAnswer, Failure, as_list_failure, classify_answer
from refund_worker.processors.paypal.entry import CAPABILITIES
from refund_worker.processors.paypal.errors import FORM, Meaning, meaning_of
from refund_worker.processors.wire import HttpAnswer

# Every issue of the published description, and of our facts about PayPal, sorted by its meaning for a refund.
GROUPS: dict[Meaning, frozenset[str]] = {
    Meaning.ENDS: frozenset(
        {
            "REFUND_TIME_LIMIT_EXCEEDED",
            "REFUND_NOT_ALLOWED",
            "PARTIAL_REFUND_NOT_ALLOWED",
            "MAX_NUMBER_OF_REFUNDS_EXCEEDED",
            "REFUND_AMOUNT_TOO_LOW",
            "PAYER_ACCOUNT_LOCKED_OR_CLOSED",
        }
    ),
    Meaning.MORE_THAN_LEFT: frozenset({"REFUND_AMOUNT_EXCEEDED"}),
    Meaning.LOOK_UP: frozenset({"CAPTURE_FULLY_REFUNDED", "DUPLICATE_INVOICE_ID"}),
    Meaning.BLOCKED: frozenset(
        {
            "REFUND_FAILED_INSUFFICIENT_FUNDS",
            "PENDING_CAPTURE",
            "REFUND_NOT_PERMITTED_DUE_TO_CHARGEBACK",
            "TRANSACTION_DISPUTED",
        }
    ),
    Meaning.OURS: frozenset(
        {
            "PAYEE_ACCOUNT_LOCKED_OR_CLOSED",
            "PAYEE_ACCOUNT_RESTRICTED",
            "PLATFORM_FEE_EXCEEDED",
            "PLATFORM_FEE_NOT_ENABLED",
            "MALFORMED_REQUEST_JSON",
            "UNSUPPORTED_MEDIA_TYPE",
            "INVALID_ACCOUNT_STATUS",
            "PERMISSION_DENIED",
            "INVALID_PARAMETER_SYNTAX",
            "INVALID_PARAMETER_VALUE",
            "INVALID_STRING_LENGTH",
            "INVALID_STRING_MAX_LENGTH",
            "MISSING_REQUIRED_PARAMETER",
        }
    ),
    Meaning.PERSON: frozenset(
        {
            "REFUND_CAPTURE_CURRENCY_MISMATCH",
            "CURRENCY_MISMATCH",
            "INVALID_CURRENCY_CODE",
            "DECIMAL_PRECISION",
            "DECIMALS_NOT_SUPPORTED",
            "CANNOT_BE_ZERO_OR_NEGATIVE",
            "CANNOT_BE_NEGATIVE",
            "REFUND_IS_RESTRICTED",
        }
    ),
    Meaning.NOT_FOUND: frozenset({"INVALID_RESOURCE_ID"}),
    Meaning.KEY: frozenset({"DUPLICATE_REQUEST_ID", "PAYPAL_REQUEST_ID_PREVIOUSLY_USED"}),
    # Issues of authorizations and captures: a refund never met them, so a person reads them.
    Meaning.UNKNOWN: frozenset(
        {
            "TRANSACTION_REFUSED",
            "AUTHORIZATION_VOIDED",
            "MAX_CAPTURE_COUNT_EXCEEDED",
            "AUTH_CAPTURE_CURRENCY_MISMATCH",
            "PAYER_CANNOT_PAY",
            "AUTHORIZATION_DENIED",
            "AUTHORIZATION_EXPIRED",
            "AUTHORIZATION_ALREADY_CAPTURED",
            "MAX_CAPTURE_AMOUNT_EXCEEDED",
            "AUTH_CURRENCY_MISMATCH",
            "REAUTHORIZATION_NOT_SUPPORTED",
            "CANNOT_BE_VOIDED",
            "PREVIOUSLY_CAPTURED",
            "PREVIOUSLY_VOIDED",
        }
    ),
}
BUSY = "PREVIOUS_REQUEST_IN_PROGRESS"
REPLIES: dict[Meaning, type] = {
    Meaning.ENDS: Refused,
    Meaning.MORE_THAN_LEFT: Refused,
    Meaning.LOOK_UP: AlreadyRefunded,
    Meaning.BLOCKED: Blocked,
    Meaning.OURS: Denied,
    Meaning.PERSON: Misconfigured,
    Meaning.NOT_FOUND: Misconfigured,
    Meaning.KEY: KeyConflict,
    Meaning.UNKNOWN: UnknownRefusal,
}
SORTED = [(issue, meaning) for meaning, issues in GROUPS.items() for issue in sorted(issues)]
KNOWN = frozenset(chain.from_iterable(GROUPS.values())) | {BUSY, "RESOURCE_NOT_FOUND"}
SAID = "a sentence of PayPal's"


def answer(status: int, body: Any, headers: dict[str, str] | None = None) -> Failure:
    """Return the adapter's classification of an HTTP answer."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return classify_answer(ErrorAnswer.of(HttpAnswer(status, headers or {}, raw)))


def refusal(*issues: str, status: int = 422, field: str | None = None) -> Failure:
    """Return the classification of PayPal's error object with these issues."""
    details = [{"issue": issue} | ({"field": field} if field else {}) for issue in issues]
    return answer(
        status, {"name": "UNPROCESSABLE_ENTITY", "message": SAID, "debug_id": "b1d1f06c7246c", "details": details}
    )


def test_every_published_issue_is_in_exactly_one_group() -> None:
    listed = [issue for issue, _ in SORTED]
    assert len(listed) == len(set(listed)), "an issue is in two groups"
    published = described("paypal_payments_payment_v2.json").values_of("issue")
    assert len(published) > 40
    assert published - {*listed, BUSY} == set(), "sort the new issues: read what each means for a refund"


@pytest.mark.parametrize(("issue", "meaning"), SORTED)
@pytest.mark.parametrize("status", [400, 404, 422])
def test_each_issue_has_its_meaning_with_every_status(issue: str, meaning: Meaning, status: int) -> None:
    reply = refusal(issue, status=status)
    assert isinstance(reply, REPLIES[meaning])
    if isinstance(reply, Refused):
        assert (reply.code, reply.more_than_left) == (issue, meaning is Meaning.MORE_THAN_LEFT)
    if isinstance(reply, Denied):
        assert (reply.code, reply.maybe_kept) == (issue, True)
    if isinstance(reply, Blocked | UnknownRefusal):
        assert (reply.code, reply.message, reply.request_id) == (issue, SAID, "b1d1f06c7246c")


def test_empty_balance_is_known_to_the_table() -> None:
    assert CAPABILITIES.low_balance_codes == {"REFUND_FAILED_INSUFFICIENT_FUNDS"}


@pytest.mark.parametrize("issue", ["INVALID_RESOURCE_ID", "RESOURCE_NOT_FOUND"])
def test_unknown_id_has_the_code_that_the_engine_knows(issue: str) -> None:
    reply = refusal(issue, status=404)
    assert isinstance(reply, Misconfigured)
    assert reply.code == "not_found"


@pytest.mark.parametrize("field", ["/amount/value", "/amount/currency_code", "/custom_id", "/invoice_id", "capture_id"])
@pytest.mark.parametrize("issue", sorted(FORM))
def test_field_of_one_record_never_pauses_the_processor(issue: str, field: str) -> None:
    assert isinstance(refusal(issue, status=400, field=field), Misconfigured)


@pytest.mark.parametrize("field", [None, "", "/payment_instruction", "/note_to_payer", "grant_type"])
@pytest.mark.parametrize("issue", sorted(FORM))
def test_field_of_every_request_is_denied(issue: str, field: str | None) -> None:
    assert isinstance(refusal(issue, status=400, field=field), Denied)


@pytest.mark.parametrize(
    ("status", "name"),
    [
        (401, "AUTHENTICATION_FAILURE"),
        (403, "NOT_AUTHORIZED"),
        (400, "INVALID_REQUEST"),
        (400, "MALFORMED_REQUEST"),
        (400, "MALFORMED_REQUEST_JSON"),
        (415, "UNSUPPORTED_MEDIA_TYPE"),
    ],
)
def test_name_without_issues_is_denied(status: int, name: str) -> None:
    reply = answer(status, {"name": name, "message": SAID})
    assert isinstance(reply, Denied)
    assert (reply.code, reply.maybe_kept) == (name, status != 401)


def test_refused_token_is_denied_and_not_kept() -> None:
    reply = answer(401, {"error": "invalid_token", "error_description": "Token signature verification failed"})
    assert reply == Denied("invalid_token", "Token signature verification failed")


@pytest.mark.parametrize("issue", ["TRANSACTION_DISPUTED", "INVALID_RESOURCE_ID", "CURRENCY_MISMATCH"])
def test_known_issue_of_one_record_pauses_nothing_even_as_403(issue: str) -> None:
    assert isinstance(refusal(issue, status=403), Blocked | Misconfigured)


@pytest.mark.parametrize("issue", ["PERMISSION_DENIED", "SOMETHING_NEW"])
def test_every_other_403_is_denied(issue: str) -> None:
    assert isinstance(refusal(issue, status=403), Denied)


def test_issues_with_one_meaning_have_it_together() -> None:
    reply = refusal("REFUND_NOT_ALLOWED", "REFUND_TIME_LIMIT_EXCEEDED")
    assert isinstance(reply, Refused)
    assert reply.code == "REFUND_NOT_ALLOWED,REFUND_TIME_LIMIT_EXCEEDED"


@pytest.mark.parametrize("other", ["CAPTURE_FULLY_REFUNDED", "PENDING_CAPTURE", "PERMISSION_DENIED", "NEW_ONE", BUSY])
def test_issues_with_different_meanings_are_unknown(other: str) -> None:
    assert isinstance(refusal("REFUND_NOT_ALLOWED", other), UnknownRefusal)


@pytest.mark.parametrize("details", [[5], [{}], [{"issue": 5}], [{"issue": "no code"}]])
def test_issue_that_cannot_be_read_is_unknown(details: list[Any]) -> None:
    body = {"name": "UNPROCESSABLE_ENTITY", "details": [{"issue": "REFUND_NOT_ALLOWED"}, *details]}
    assert isinstance(answer(422, body), UnknownRefusal)


def test_same_key_in_progress_is_busy_only_as_409() -> None:
    assert refusal(BUSY, status=409) == Busy(BUSY)
    assert isinstance(refusal(BUSY, status=422), Unanswered)


@pytest.mark.parametrize("status", [408, 409, 424, 425])
def test_inconclusive_status_is_unanswered(status: int) -> None:
    assert {type(refusal(issue, status=status)) for issue, _ in SORTED} == {Unanswered}


@pytest.mark.parametrize(
    ("header", "seconds"), [("3", 3.0), ("1e9", 86_400.0), ("-1", None), ("soon", None), ("nan", None), ("", None)]
)
def test_too_many_requests_are_busy(header: str, seconds: float | None) -> None:
    body = {"name": "RATE_LIMIT_REACHED", "message": "Too many requests."}
    assert answer(429, body, {"retry-after": header}) == Busy("RATE_LIMIT_REACHED", seconds)
    assert answer(429, b"<html>slow down</html>") == Busy("rate_limit")


@pytest.mark.parametrize("status", [500, 502, 503, 504, 599])
@pytest.mark.parametrize("issue", ["REFUND_NOT_ALLOWED", BUSY, ""])
def test_server_error_is_unanswered_with_every_issue(status: int, issue: str) -> None:
    reply = refusal(*([issue] if issue else []), status=status)
    assert isinstance(reply, Unanswered)
    assert not reply.server_error, "it is not kept under the key"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 422, 302, 204, 100])
@pytest.mark.parametrize(
    "body",
    [
        b"<html>no</html>",
        b"",
        b"[]",
        {},
        {"name": "lower case"},
        {"error": {"code": 403}},
        {"details": [{"issue": "REFUND_NOT_ALLOWED"}]},
    ],
)
def test_refusal_of_a_proxy_is_unanswered(status: int, body: Any) -> None:
    assert answer(status, body) == Unanswered(f"HTTP {status}")


@given(st.from_regex(r"[A-Z][A-Z0-9_]{2,40}", fullmatch=True), st.sampled_from([400, 404, 415, 422]))
def test_unknown_issue_ends_no_leg_and_pauses_nothing(issue: str, status: int) -> None:
    if issue in KNOWN:
        return
    assert meaning_of(issue, "") is Meaning.UNKNOWN
    assert refusal(issue, status=status) == UnknownRefusal(issue, SAID, "b1d1f06c7246c")


@given(st.text(max_size=200), st.sampled_from([400, 404, 422]))
def test_no_sentence_ends_a_leg(message: str, status: int) -> None:
    reply = answer(status, {"name": "UNPROCESSABLE_ENTITY", "message": message})
    assert isinstance(reply, UnknownRefusal)


def test_message_is_cleaned_before_it_is_stored() -> None:
    message = "card 4242424242424242 of ann@example.com\x00" + "x" * 5_000
    reply = answer(422, {"name": "UNPROCESSABLE_ENTITY", "message": message, "debug_id": "not an id!"})
    assert isinstance(reply, UnknownRefusal)
    assert "4242" not in reply.message
    assert "ann@" not in reply.message
    assert "\x00" not in reply.message
    assert len(reply.message) <= 500
    assert reply.request_id is None


@pytest.mark.parametrize(("issue", "meaning"), SORTED)
def test_list_never_refuses_a_refund(issue: str, meaning: Meaning) -> None:
    assert isinstance(as_list_failure(refusal(issue)), Misconfigured | Denied | Unanswered)

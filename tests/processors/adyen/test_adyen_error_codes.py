"""Every code that the facts and Adyen's published description name, with what follows from it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tests.processors.adyen.descriptions import CHECKOUT, described, values_in_examples

from refund_worker.domain.processor_replies import Busy, Denied, Misconfigured, Unanswered, UnknownRefusal
from refund_worker.processors.adyen.answers import classify
from refund_worker.processors.adyen.errors import (
    CODES,
    INSUFFICIENT_BALANCE,
    PAYMENT_BALANCE_TOO_LOW,
    PAYMENT_NOT_CAPTURED,
    PERSON_DECIDES,
    REFUND_REFUSED,
    REFUND_REVERSED,
    REJECTED_BY_SCHEME,
    UNFUNDED,
    code_of_reason,
    is_tried_again,
)
from refund_worker.processors.adyen.explained import EXPLAINED_BY
from refund_worker.processors.wire import HttpAnswer

# (status, code, error type) → the class of the reply.
TABLE = {
    (401, "000", "security"): Denied,
    (403, "010", "security"): Denied,
    (403, "901", "security"): Denied,
    (422, "901", "validation"): Denied,
    (403, "999", "security"): Denied,  # an unknown code of a 403 is about our access too
    (400, "702", "validation"): Denied,
    (422, "167", "validation"): Misconfigured,
    (403, "167", "security"): Misconfigured,  # one record never pauses all others
    (422, "137", "validation"): Misconfigured,
    (422, "905", "configuration"): Misconfigured,
    (500, "905", "configuration"): Unanswered,
    (422, "704", "validation"): Unanswered,
    (409, "704", "validation"): Unanswered,
    (409, "999", "validation"): Unanswered,
    (503, "703", "internal"): Unanswered,
    (500, "000", "internal"): Unanswered,
    (422, "14_030", "validation"): UnknownRefusal,
    (422, "187", "validation"): UnknownRefusal,
    (422, "101", "validation"): UnknownRefusal,
    (404, "999", "validation"): UnknownRefusal,
    (400, "999", "validation"): UnknownRefusal,
}


def answer_of(status: int, code: str, kind: str, headers: dict[str, str] | None = None, **others: Any) -> HttpAnswer:
    body = {"status": status, "errorCode": code, "message": f"this is {code}", "errorType": kind, **others}
    return HttpAnswer(status, headers or {}, json.dumps(body).encode())


@pytest.mark.parametrize(("case", "expected"), TABLE.items(), ids=str)
def test_each_code_has_its_class(case: tuple[int, str, str], expected: type) -> None:
    reply = classify(answer_of(*case))
    assert type(reply) is expected, reply


def test_every_code_of_the_table_is_classified_above() -> None:
    assert {code for _, code, _ in TABLE} >= CODES.keys()


def test_every_code_of_the_published_description_is_classified_above() -> None:
    published = values_in_examples(described(CHECKOUT), "errorCode")
    assert published
    assert published <= {code for _, code, _ in TABLE}


def test_every_code_that_people_see_is_explained() -> None:
    seen = {reply.code for reply in map(classify, (answer_of(*case) for case in TABLE)) if hasattr(reply, "code")}
    known = {code for code in seen if code.removeprefix("adyen_") in CODES}
    assert known | PERSON_DECIDES | UNFUNDED | {REJECTED_BY_SCHEME, REFUND_REVERSED} <= EXPLAINED_BY.keys()


def test_unknown_payment_has_the_code_that_the_engine_knows() -> None:
    reply = classify(answer_of(422, "167", "validation", pspReference="8816118280275544"))
    assert reply == Misconfigured("not_found", "this is 167", "8816118280275544")


@pytest.mark.parametrize("case", [case for case in TABLE if case[0] < 500], ids=str)
def test_transient_error_proves_nothing_whatever_its_code(case: tuple[int, str, str]) -> None:
    assert isinstance(classify(answer_of(*case, headers={"transient-error": "true"})), Unanswered)
    assert type(classify(answer_of(*case, headers={"transient-error": "false"}))) is TABLE[case]


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b"null", b"\xff", b'{"errorCode": 167}', b"[" * 99_999])
@pytest.mark.parametrize("status", [301, 400, 401, 403, 404, 408, 409, 422, 425, 500, 502, 503])
def test_answer_without_adyens_own_error_proves_nothing(status: int, body: bytes) -> None:
    assert isinstance(classify(HttpAnswer(status, {}, body)), Unanswered)


def test_error_whose_status_is_not_that_of_the_answer_is_not_adyens() -> None:
    body = answer_of(422, "167", "validation").body
    assert isinstance(classify(HttpAnswer(403, {}, body)), Unanswered)


def test_error_of_an_unknown_type_counts_with_adyens_reference() -> None:
    assert isinstance(classify(answer_of(422, "167", "mystery")), Unanswered)
    assert isinstance(classify(answer_of(422, "167", "mystery", pspReference="8816118280275544")), Misconfigured)


@pytest.mark.parametrize(("header", "seconds"), [("3", 3.0), ("9" * 9, 86_400.0), ("-1", None), ("soon", None)])
def test_rate_limit_is_busy(header: str, seconds: float | None) -> None:
    assert classify(HttpAnswer(429, {"retry-after": header}, b"")) == Busy("rate_limit", seconds)


def test_denied_answer_that_adyen_may_keep_says_so() -> None:
    kept = classify(answer_of(400, "702", "validation"))
    passing = classify(answer_of(401, "000", "security"))
    assert isinstance(kept, Denied)
    assert isinstance(passing, Denied)
    assert (kept.maybe_kept, passing.maybe_kept) == (True, False)


def test_message_with_a_card_number_is_masked() -> None:
    reply = classify(answer_of(422, "999", "validation", message="card 4111 1111 1111 1111 of ann@example.org\n"))
    assert isinstance(reply, UnknownRefusal)
    assert "4111 1111 1111 1111" not in reply.message
    assert "ann@" not in reply.message
    assert reply.message.isprintable()


@pytest.mark.parametrize("code", ["a b", "x" * 41, "4111 1111 1111 1111", "\n", "ä"])
def test_code_that_is_not_plain_is_not_repeated(code: str) -> None:
    reply = classify(answer_of(422, code, "validation"))
    assert isinstance(reply, UnknownRefusal)
    assert reply.code == "adyen_unreadable"


# --- reasons in events ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reason", "code"),
    [
        ("Insufficient balance on payment", PAYMENT_BALANCE_TOO_LOW),
        (" insufficient  Balance on payment. ", PAYMENT_BALANCE_TOO_LOW),
        ("Transaction hasn't been captured, refund not possible", PAYMENT_NOT_CAPTURED),
        ("Transaction hasn\u2019t been captured, refund not possible", PAYMENT_NOT_CAPTURED),
        ("Insufficient funds", INSUFFICIENT_BALANCE),
        ("Insufficient balance", INSUFFICIENT_BALANCE),
        ("Operation failed", REFUND_REFUSED),
        ("insufficient funds, or something else", REFUND_REFUSED),
        ("", REFUND_REFUSED),
    ],
)
def test_reason_of_an_event_has_its_code(reason: str, code: str) -> None:
    assert code_of_reason(reason) == code
    assert (code in PERSON_DECIDES) != (code in UNFUNDED)


def test_only_a_technical_issue_is_tried_again_by_adyen() -> None:
    assert is_tried_again("Refund rejected by card scheme because of a technical issue.")
    for reason in ("Refund Failed", "", "Capture rejected by card scheme because the shopper cancelled it"):
        assert not is_tried_again(reason)

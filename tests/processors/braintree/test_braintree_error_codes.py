"""The meaning of each refusal of Braintree: all published codes, invented ones, and answers without an error object."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.processors.braintree.book import Book
from tests.processors.braintree.published_codes import GROUPS, SETTLEMENT
from tests.processors.braintree.xml_text import error_xml, transaction_xml

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
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.braintree.answers import Failure, as_list_failure, failure_of
from refund_worker.processors.braintree.entry import CAPABILITIES
from refund_worker.processors.braintree.errors import DISPUTED, SETTLEMENT_FOR_A_PERSON, Meaning, meaning_of
from refund_worker.processors.braintree.objects import to_refund_object, to_transaction
from refund_worker.processors.braintree.xml_documents import parse_xml
from refund_worker.processors.wire import HttpAnswer

REPLIES: dict[Meaning, type] = {
    Meaning.ENDS: Refused,
    Meaning.MORE_THAN_LEFT: Refused,
    Meaning.ALREADY_REFUNDED: AlreadyRefunded,
    Meaning.BLOCKED: Blocked,
    Meaning.NOT_SETTLED: Blocked,
    Meaning.KEY_FAILED: Blocked,
    Meaning.OURS: Denied,
    Meaning.PERSON: Misconfigured,
    Meaning.KEY_CONFLICT: KeyConflict,
    Meaning.KEY_IN_FLIGHT: Busy,
    Meaning.KEY_SERVER_ERROR: Unanswered,
    Meaning.CANNOT_BE_VOIDED: UnknownRefusal,
    Meaning.UNKNOWN: UnknownRefusal,
}
SORTED = [(code, meaning) for meaning, codes in GROUPS.items() for code in sorted(codes)]


def refusal(*codes: str) -> Failure:
    """Return the meaning of an answer with these validation errors."""
    return failure_of(HttpAnswer(422, {}, error_xml(codes).encode()))


def test_every_published_code_is_in_exactly_one_group() -> None:
    codes = [code for code, _ in SORTED]
    assert len(codes) == len(set(codes)) > 200
    assert set(GROUPS) == set(Meaning)


def test_each_published_code_has_its_meaning() -> None:
    assert {code: meaning_of([code]) for code, _ in SORTED} == dict(SORTED)
    replies = {code: type(refusal(code)) for code, _ in SORTED}
    assert replies == {code: REPLIES[meaning] for code, meaning in SORTED}


def test_only_one_code_says_that_more_was_asked_than_is_left() -> None:
    flagged = [code for code, _ in SORTED if getattr(refusal(code), "more_than_left", False)]
    assert flagged == ["91521"]


def test_unsettled_payment_is_blocked_under_a_code_for_people() -> None:
    for code in ("91506", "91574"):
        reply = refusal(code)
        assert isinstance(reply, Blocked)
        assert reply.code == "not_settled_yet"


@given(st.from_regex(r"[0-9]{4,7}", fullmatch=True))
def test_code_in_no_list_is_an_unknown_refusal(code: str) -> None:
    if code not in dict(SORTED):
        assert isinstance(refusal(code), UnknownRefusal)


@pytest.mark.parametrize("codes", [("91521", "91512"), ("91521", "99999"), ("abc",), ("9" * 40,), ()])
def test_contradicting_or_broken_codes_are_an_unknown_refusal(codes: tuple[str, ...]) -> None:
    assert isinstance(refusal(*codes), UnknownRefusal)


def test_message_of_a_refusal_hides_addresses() -> None:
    document = error_xml(("91512",)).replace(
        "Transaction has", "Transaction of jane@example.com, 4111111111111111, has"
    )
    reply = failure_of(HttpAnswer(422, {}, document.encode()))
    assert isinstance(reply, AlreadyRefunded)
    assert "jane@" not in reply.message
    assert "4111111111111111" not in reply.message


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((401, Denied), (403, Denied), (404, Misconfigured), (408, Unanswered), (409, Unanswered), (422, Unanswered)),
        *((426, Denied), (429, Busy), (400, Unanswered), (302, Unanswered), (204, Unanswered)),
        *((500, Unanswered), (502, Unanswered), (503, Unanswered), (504, Unanswered)),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html><body>no</body></html>", b"not XML <"])
def test_status_without_an_error_object_has_its_meaning(status: int, kind: type, body: bytes) -> None:
    reply = failure_of(HttpAnswer(status, {}, body))
    assert isinstance(reply, kind)
    if isinstance(reply, Unanswered):
        assert not reply.server_error, "the key's repeat tells the outcome"
    if isinstance(reply, Misconfigured):
        assert reply.code == "not_found"


def test_document_of_another_server_refuses_nothing() -> None:
    errors = b"<errors><transaction><errors><error><code>915200</code></error></errors></transaction></errors>"
    for name, kind in ((b"api-error-response", Refused), (b"page", Unanswered), (b"transaction", Unanswered)):
        answer = HttpAnswer(422, {}, b"<%b>%b</%b>" % (name, errors, name))
        assert isinstance(failure_of(answer), kind), name


@pytest.mark.parametrize(
    ("text", "seconds"), [("3", 3.0), ("1e9", 86_400.0), ("-1", None), ("soon", None), ("nan", None)]
)
def test_rate_limit_says_when_to_come_back(text: str, seconds: float | None) -> None:
    assert failure_of(HttpAnswer(429, {"retry-after": text}, b"")) == Busy("rate_limit", seconds)


def test_list_refuses_nothing() -> None:
    for code, _ in SORTED:
        assert isinstance(as_list_failure(refusal(code)), Misconfigured | Busy | Unanswered | Denied)


def test_settlement_code_fails_a_refund_or_is_shown_to_a_person() -> None:
    for code, expected in SETTLEMENT.items():
        book = Book()
        refund = book.refund(book.sale("10.00"), "10.00")
        book.become(refund.id, "settlement_declined", code)
        seen = to_refund_object(to_transaction(parse_xml(transaction_xml(refund).encode())))
        if expected == "failed":
            assert (seen.status, seen.failure_code) == ("failed", code)
        else:
            assert seen.status == f"settlement_declined_{code}"
            assert seen.status not in set(ObjectState)
    assert {code for code, expected in SETTLEMENT.items() if expected == "person"} == SETTLEMENT_FOR_A_PERSON
    assert CAPABILITIES.disputed_codes == DISPUTED <= set(SETTLEMENT)

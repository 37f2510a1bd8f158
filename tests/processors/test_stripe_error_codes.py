"""The meaning of each refusal: for every code that Stripe publishes, for invented codes, and without a code."""

from __future__ import annotations

import json
from collections.abc import Iterator
from itertools import chain
from typing import Any, get_args

import pytest
import stripe
from hypothesis import given
from hypothesis import strategies as st
from tests.processors.published_codes import GROUPS, UNKNOWN_BY_SUBJECT

from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Blocked,
    Busy,
    Denied,
    Misconfigured,
    Refused,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.stripe.adapter import Failure, classify
from refund_worker.processors.stripe.errors import ENDS, RECORD_PARAMS, STRIPE_TYPES, Meaning

REPLIES: dict[Meaning, type] = {
    Meaning.ENDS: Refused,
    Meaning.ALREADY_REFUNDED: AlreadyRefunded,
    Meaning.BLOCKED: Blocked,
    Meaning.BUSY: Busy,
    Meaning.OURS: Denied,
    Meaning.PERSON: Misconfigured,
    Meaning.UNKNOWN: UnknownRefusal,
}
SORTED = [(code, meaning) for meaning, codes in GROUPS.items() for code in sorted(codes)]
STATUSES = (400, 402, 404, 422)
INVALID = "invalid_request_error"


def refusal(status: int = 400, **error: Any) -> Failure:
    """Return the adapter's classification of an answer with this error object, read by the SDK like every answer."""
    body = {"error": {"type": INVALID, "message": "a message of Stripe's", **error}}
    return classify(read_by_the_sdk(json.dumps(body), status, {"Request-Id": "req_1"}))


CLIENT = stripe.StripeClient("sk_test_1")


def read_by_the_sdk(body: str, status: int, headers: dict[str, str]) -> stripe.StripeError:
    """Return the error that Stripe's SDK raises for this answer."""
    with pytest.raises(stripe.StripeError) as raised:
        CLIENT._requestor._interpret_response(body, status, headers, "V1")
    return raised.value


def published() -> Iterator[str]:
    """Yield the error codes in the SDK's types."""

    def flat(annotation: Any) -> Iterator[str]:
        for part in get_args(annotation):
            yield from [part] if isinstance(part, str) else flat(part)

    return flat(stripe.PaymentIntent.LastPaymentError.__annotations__["code"])


def test_every_published_code_is_in_exactly_one_group() -> None:
    listed = [code for code, _ in SORTED]
    assert len(listed) == len(set(listed)), "a code is in two groups"
    assert sum(map(len, UNKNOWN_BY_SUBJECT.values())) == len(GROUPS[Meaning.UNKNOWN])
    assert set(published()) == set(listed), "sort the new codes: read what each means for a refund"
    assert len(listed) > 200


@pytest.mark.parametrize("status", STATUSES)
def test_published_code_has_its_meaning_with_every_status(status: int) -> None:
    replies = {code: type(refusal(status, code=code)) for code, _ in SORTED}
    assert replies == {code: REPLIES[meaning] for code, meaning in SORTED}


@pytest.mark.parametrize("code", ["charge_for_pending_refund_disputed", "insufficient_funds"])
def test_failure_reason_means_the_same_as_an_error_code(code: str) -> None:
    assert isinstance(refusal(400, code=code), Blocked)


@given(
    st.from_regex(r"[a-z][a-z0-9_]{0,40}", fullmatch=True),
    st.sampled_from(STATUSES),
    st.sampled_from(sorted(STRIPE_TYPES - {"idempotency_error"})),
    st.sampled_from(["", "amount", "charge", "reason", "metadata[x]", "idempotency_key"]),
)
def test_unknown_code_ends_no_leg_and_rarely_pauses(code: str, status: int, kind: str, param: str) -> None:
    known = frozenset(chain.from_iterable(GROUPS.values())) | ENDS
    if code in known:
        return
    reply = refusal(status, code=code, type=kind, **({"param": param} if param else {}))
    if code.startswith(("parameter_", "parameters_")):
        expected = Misconfigured if param.partition("[")[0] in RECORD_PARAMS else Denied
        assert isinstance(reply, expected)
    else:
        assert reply == UnknownRefusal(code, "a message of Stripe's", "req_1")


@pytest.mark.parametrize("param", ["amount", "currency", "charge", "payment_intent", "metadata[x]", "metadata", "id"])
@pytest.mark.parametrize("code", ["parameter_missing", "parameter_invalid_integer", "parameter_invalid_empty"])
def test_parameter_of_one_record_never_pauses_the_processor(code: str, param: str) -> None:
    assert refusal(code=code, param=param) == Misconfigured(code, "a message of Stripe's", "req_1")


@pytest.mark.parametrize("param", [None, "idempotency_key", "reason", "expand[]", "limit"])
@pytest.mark.parametrize("code", ["parameter_unknown", "parameter_missing", "parameter_invalid_string"])
def test_parameter_of_every_request_is_denied(code: str, param: str | None) -> None:
    reply = refusal(code=code, param=param)
    assert reply == Denied(code, "a message of Stripe's", maybe_kept=True)


@pytest.mark.parametrize("param", [None, "amount", "charge", "payment_intent", "metadata[x]", "metadata", "reason"])
@pytest.mark.parametrize("code", ["parameter_unknown", "parameters_exclusive"])
def test_unknown_or_exclusive_parameter_is_denied(code: str, param: str | None) -> None:
    assert refusal(code=code, param=param) == Denied(code, "a message of Stripe's", maybe_kept=True)


@pytest.mark.parametrize(
    ("code", "kind"),
    [("resource_missing", Misconfigured), ("charge_disputed", Blocked), ("invalid_charge_amount", Misconfigured)],
)
def test_known_code_about_one_record_pauses_nothing_even_as_403(code: str, kind: type) -> None:
    assert isinstance(refusal(403, code=code), kind)


@pytest.mark.parametrize("code", ["", "something_new", "account_invalid", "platform_account_required"])
def test_every_other_403_is_denied(code: str) -> None:
    assert isinstance(refusal(403, **({"code": code} if code else {})), Denied)


@pytest.mark.parametrize("code", ["resource_missing", "charge_disputed", ""])
def test_401_is_denied_with_every_code(code: str) -> None:
    assert isinstance(refusal(401, **({"code": code} if code else {})), Denied)


CHARGED_BACK = "Charge ch_1 has been charged back; cannot issue a refund."


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        ({"param": "amount"}, Refused),
        ({"param": "charge"}, UnknownRefusal),
        ({"param": "metadata[a]"}, UnknownRefusal),
        ({"param": "status", "message": "A refund can only be canceled in requires_action."}, UnknownRefusal),
        ({"param": "reason"}, Denied),
        ({"param": "idempotency_key", "message": "Received unknown parameter: idempotency_key"}, Denied),
        ({}, UnknownRefusal),
        ({"message": CHARGED_BACK}, UnknownRefusal),
        ({"message": "Charge ch_1 has already been refunded."}, UnknownRefusal),
        ({"message": "The card was closed."}, UnknownRefusal),
        ({"message": "This Connect account cannot currently make live charges."}, UnknownRefusal),
        ({"message": "Your account cannot currently make live charges."}, Denied),
        ({"message": "This account is not currently able to refund charges. Please contact us."}, Denied),
        ({"message": "Invalid Stripe API version: 2019-01-01."}, Denied),
        ({"message": "Organization API keys need the `Stripe-Context` header."}, Denied),
        ({"message": "No such charge: 'x: Invalid Stripe API version'"}, UnknownRefusal),
        ({"message": "Refund for 'your account has been closed' failed"}, UnknownRefusal),
    ],
)
def test_message_without_a_code_can_only_pause(error: dict[str, Any], expected: type) -> None:
    assert isinstance(refusal(**error), expected)


@given(st.text(max_size=200), st.sampled_from(STATUSES))
def test_no_message_text_ends_a_leg(message: str, status: int) -> None:
    assert not isinstance(refusal(status, message=message), Refused | AlreadyRefunded | Blocked)


@pytest.mark.parametrize("status", [408, 409, 424, 425, 429])
def test_inconclusive_http_status_is_unanswered_or_busy(status: int) -> None:
    replies = {type(refusal(status, code=code)) for code, _ in SORTED}
    assert replies <= {Unanswered, Busy}


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 422])
@pytest.mark.parametrize("body", ["<html>no</html>", "{}", '{"error": {"code": 403, "message": "denied"}}'])
def test_refusal_of_a_proxy_is_unanswered(status: int, body: str) -> None:
    assert classify(read_by_the_sdk(body, status, {})) == Unanswered(f"HTTP {status}")


def test_new_error_type_with_stripes_request_id_is_a_refusal() -> None:
    assert isinstance(refusal(type="error_of_next_year", code="odd"), UnknownRefusal)

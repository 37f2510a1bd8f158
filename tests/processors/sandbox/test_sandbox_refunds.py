"""Refunds work over the official client as they do at Stripe."""

from __future__ import annotations

import http.client
from collections.abc import Callable

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox

Connect = Callable[..., stripe.StripeClient]


def refunded(sandbox: Sandbox, payment: str) -> int:
    """Return the payment's refunded amount in the book, in minor units."""
    return next(entry["refunded"] for entry in sandbox.book()["payments"] if entry["id"] == payment)


def refunds_of(sandbox: Sandbox, payment: str) -> list[dict[str, object]]:
    """Return the payment's refund objects in the book."""
    return [refund for refund in sandbox.refunds() if payment in (refund["charge"], refund["payment_intent"])]


def test_refund_has_the_requested_values(client: stripe.StripeClient, sandbox: Sandbox, charge: str) -> None:
    refund = client.v1.refunds.create(
        {"charge": charge, "amount": 300, "reason": "duplicate", "metadata": {"leg_id": "leg-1", "attempt": "1"}}
    )
    assert (refund.object, refund.amount, refund.currency, refund.charge) == ("refund", 300, "gbp", charge)
    assert (refund.status, refund.reason, refund.payment_intent) == ("succeeded", "duplicate", None)
    assert refund.metadata is not None
    assert refund.metadata["leg_id"] == "leg-1"
    assert refund.id.startswith("re_")
    assert refund.last_response is not None
    assert refund.last_response.request_id.startswith("req_")
    assert client.v1.refunds.retrieve(refund.id).amount == 300
    assert refunded(sandbox, charge) == 300


def test_refund_without_an_amount_returns_the_remaining_amount(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    client.v1.refunds.create({"charge": charge, "amount": 300})
    assert client.v1.refunds.create({"charge": charge}).amount == 700
    assert client.v1.charges.retrieve(charge).refunded is True
    assert refunded(sandbox, charge) == 1000


def test_amount_above_the_remaining_one_is_refused_without_a_code(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    client.v1.refunds.create({"charge": charge, "amount": 600})
    with pytest.raises(stripe.InvalidRequestError, match="greater than unrefunded amount") as refused:
        client.v1.refunds.create({"charge": charge, "amount": 401})
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, None, "amount")
    assert refunded(sandbox, charge) == 600


def test_fully_refunded_charge_is_refused_as_already_refunded(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    client.v1.refunds.create({"charge": charge})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge, "amount": 1})
    assert refused.value.code == "charge_already_refunded"
    assert len(refunds_of(sandbox, charge)) == 1


@pytest.mark.parametrize("end", ["failed", "canceled"])
def test_failed_or_canceled_refund_makes_its_amount_refundable(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str, end: str
) -> None:
    first = client.v1.refunds.create({"charge": charge})
    sandbox.advance_refund(first.id, end)
    assert refunded(sandbox, charge) == 0
    assert client.v1.refunds.create({"charge": charge, "amount": 1000}).id != first.id
    assert refunded(sandbox, charge) == 1000


def test_payment_intent_has_its_own_parameter_and_shows_its_charge(
    client: stripe.StripeClient, sandbox: Sandbox
) -> None:
    sandbox.register_payment("pi_one", 500, "JPY")
    refund = client.v1.refunds.create({"payment_intent": "pi_one", "amount": 200})
    assert (refund.payment_intent, refund.charge, refund.currency) == ("pi_one", "ch_one", "jpy")
    intent = client.v1.payment_intents.retrieve("pi_one")
    assert (intent.amount, intent.latest_charge) == (500, "ch_one")
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": "pi_one", "amount": 1})
    assert refused.value.code == "resource_missing"
    assert refunded(sandbox, "pi_one") == 200


def test_unknown_charge_is_missing(client: stripe.StripeClient) -> None:
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": "ch_of_nobody"})
    error = refused.value
    assert (error.http_status, error.code, error.param) == (404, "resource_missing", "charge")


def test_disputed_payment_is_refused_until_the_dispute_ends(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    sandbox.register_payment(charge, 1000, disputed=True)
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge})
    assert refused.value.code == "charge_disputed"
    assert refunded(sandbox, charge) == 0
    sandbox.register_payment(charge, 1000, disputed=False)
    assert client.v1.refunds.create({"charge": charge}).amount == 1000


def test_low_balance_refuses_until_it_is_topped_up(own_sandbox: Sandbox, connect: Connect) -> None:
    own_sandbox.change_faults({"balance": {"gbp": 500}})
    own_sandbox.register_payment("ch_1", 1000)
    own_sandbox.register_payment("ch_2", 1000, "EUR")
    client = connect(own_sandbox)
    client.v1.refunds.create({"charge": "ch_1", "amount": 400})
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": "ch_1", "amount": 101})
    assert refused.value.code == "balance_insufficient"
    client.v1.refunds.create({"charge": "ch_2", "amount": 1000})
    own_sandbox.change_faults({"balance": {"gbp": 5000}})
    client.v1.refunds.create({"charge": "ch_1", "amount": 101})
    assert own_sandbox.book()["totals"]["gbp"] == {"captured": 1000, "refunded": 501}


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"amount": 1, "colour": "red"}, "parameter_unknown", "colour"),
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": -5}, "parameter_invalid_integer", "amount"),
        ({"amount": "1.5"}, "parameter_invalid_integer", "amount"),
        ({"amount": "١"}, "parameter_invalid_integer", "amount"),
        ({"reason": "because"}, None, "reason"),
        ({"metadata": {"long": "x" * 501}}, None, "metadata[long]"),
        ({"payment_intent": "pi_1"}, None, None),
    ],
)
def test_malformed_request_is_refused_and_does_not_use_its_key(
    client: stripe.StripeClient, charge: str, params: dict[str, object], code: str | None, param: str | None
) -> None:
    key = {"idempotency_key": f"malformed-{charge}"}
    with pytest.raises(stripe.InvalidRequestError) as refused:
        client.v1.refunds.create({"charge": charge, **params}, key)  # type: ignore[typeddict-item]
    assert (refused.value.http_status, refused.value.code, refused.value.param) == (400, code, param)
    assert client.v1.refunds.create({"charge": charge, "amount": 1}, key).amount == 1


def test_only_metadata_can_be_changed(client: stripe.StripeClient, charge: str) -> None:
    refund = client.v1.refunds.create({"charge": charge, "metadata": {"a": "1", "b": "2"}})
    changed = client.v1.refunds.update(refund.id, {"metadata": {"a": "", "c": "3"}})
    assert changed.metadata is not None
    assert changed.metadata.to_dict() == {"b": "2", "c": "3"}
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.update(refund.id, {"amount": 1})  # type: ignore[typeddict-unknown-key]
    assert client.v1.refunds.retrieve(refund.id).amount == 1000


def test_cancel_works_only_while_the_customer_must_act(
    client: stripe.StripeClient, sandbox: Sandbox, charge: str
) -> None:
    sandbox.add_fault({"lifecycle": [{"status": "requires_action"}]}, match={"payment": charge})
    waiting = client.v1.refunds.create({"charge": charge, "amount": 400})
    assert waiting.status == "requires_action"
    assert refunded(sandbox, charge) == 400
    assert client.v1.refunds.cancel(waiting.id).status == "canceled"
    assert refunded(sandbox, charge) == 0
    done = client.v1.refunds.create({"charge": charge, "amount": 400})
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.cancel(done.id)
    assert client.v1.refunds.retrieve(done.id).status == "succeeded"


def test_lists_page_newest_first_in_both_directions(client: stripe.StripeClient, charge: str) -> None:
    made = [client.v1.refunds.create({"charge": charge, "amount": 1}).id for _ in range(7)]
    newest_first = made[::-1]
    page = client.v1.refunds.list({"charge": charge, "limit": 3})
    assert [refund.id for refund in page.data] == newest_first[:3]
    assert page.has_more is True
    assert [refund.id for refund in page.auto_paging_iter()] == newest_first
    back = client.v1.refunds.list({"charge": charge, "limit": 2, "ending_before": newest_first[5]})
    assert [refund.id for refund in back.data] == newest_first[3:5]
    assert back.has_more is True
    last = client.v1.refunds.list({"charge": charge, "limit": 3, "starting_after": newest_first[3]})
    assert [refund.id for refund in last.data] == newest_first[4:]
    assert last.has_more is False


def test_lists_filter_by_creation_time_and_by_payment(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    own_sandbox.register_payment("ch_1", 100)
    own_sandbox.register_payment("pi_2", 100)
    early = client.v1.refunds.create({"charge": "ch_1", "amount": 1})
    own_sandbox.advance_clock(1000)
    late = client.v1.refunds.create({"payment_intent": "pi_2", "amount": 1})

    def listed(params: stripe.params.RefundListParams) -> list[str]:
        return [refund.id for refund in client.v1.refunds.list(params).data]

    assert listed({}) == [late.id, early.id]
    assert listed({"created": {"gte": early.created + 1}}) == [late.id]
    assert listed({"created": {"lt": late.created}}) == [early.id]
    assert listed({"created": early.created}) == [early.id]
    assert listed({"payment_intent": "pi_2"}) == [late.id]
    assert listed({"charge": "ch_2"}) == [late.id]
    with pytest.raises(stripe.InvalidRequestError):
        listed({"limit": 101})
    with pytest.raises(stripe.InvalidRequestError):
        listed({"starting_after": "re_of_nobody"})


@pytest.mark.parametrize("api_key", ["pk_test_x", "sk_live_x", "nonsense"])
def test_without_a_test_mode_secret_key_nothing_is_refunded(
    sandbox: Sandbox, connect: Connect, charge: str, api_key: str
) -> None:
    with pytest.raises(stripe.AuthenticationError) as refused:
        connect(sandbox, api_key=api_key).v1.refunds.create({"charge": charge})
    assert api_key not in str(refused.value)
    assert refunded(sandbox, charge) == 0


HOSTILE = [
    (b"charge=%ff", 400),
    (b"charge=\xff\xfe", 400),
    (b"no-equals-sign", 400),
    (b"metadata=x&metadata[a]=b", 400),
    (b"metadata[a]=b&metadata=x", 400),
    (b"a[b][c]=d", 400),
    (b"[]=x", 400),
    (b"&".join(b"metadata[%d]=x" % number for number in range(600)), 400),
    (b"amount=" + b"9" * 5000 + b"&charge=ch_x", 400),
    (b"x" * (1024 * 1024 + 1), 413),
    (b"", 400),
    (b"{}", 400),
]


@pytest.mark.parametrize(("body", "status"), HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_body_is_refused_and_the_server_continues(sandbox: Sandbox, body: bytes, status: int) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    try:
        for _ in range(2):  # the second over the same connection, which was kept alive
            connection.request("POST", "/v1/refunds", body, {"Authorization": "Bearer sk_test_x"})
            answer = connection.getresponse()
            assert answer.status == status, answer.read()
            answer.read()
    finally:
        connection.close()
    assert sandbox.book()["payments"] is not None


@pytest.mark.parametrize(
    "path", ["/", "/v1/refunds/", "/v1/refunds/a/b/c", "/v2/refunds", "/_nothing", "//", "/%00", "/v1/accounts"]
)
def test_unknown_path_is_not_found(sandbox: Sandbox, path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    try:
        connection.request("GET", path, headers={"Authorization": "Bearer sk_test_x"})
        assert connection.getresponse().status == 404
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/_payments", b"not json"),
        ("/_payments", b'{"processor_payment_id": "ch_x", "amount_minor": true, "currency": "gbp"}'),
        ("/_payments", b'[{"processor_payment_id": "ch_ok", "amount_minor": 5, "currency": "gbp"}, {}]'),
        ("/_payments", b'{"processor_payment_id": "ch_x", "amount_minor": 5, "currency": "pounds"}'),
        ("/_faults", b'{"do": {"explode": true}}'),
        ("/_faults", b'{"do": {"timeout": {"effect": "perhaps"}}}'),
        ("/_faults", b'{"do": {"delay_seconds": 1}, "match": {"colour": "red"}}'),
        ("/_faults", b'{"seeed": 1}'),
        ("/_faults", b"[" * 100_000),
        ("/_clock", b'{"advance_seconds": -1}'),
        ("/_clock", b'{"advance_seconds": NaN}'),
        ("/_webhook", b'{"url": "http://127.0.0.1:1/"}'),
    ],
)
def test_malformed_control_request_changes_nothing(sandbox: Sandbox, path: str, body: bytes) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", sandbox.port, timeout=10)
    try:
        connection.request("POST", path, body)
        assert connection.getresponse().status == 400
    finally:
        connection.close()
    assert {"ch_x", "ch_ok"}.isdisjoint(payment["id"] for payment in sandbox.book()["payments"])


def test_registered_payment_cannot_change_its_amount(sandbox: Sandbox, charge: str) -> None:
    with pytest.raises(Exception, match="another amount"):
        sandbox.register_payment(charge, 999)
    sandbox.register_payment(charge, 1000)
    assert [payment["amount"] for payment in sandbox.book()["payments"] if payment["id"] == charge] == [1000]

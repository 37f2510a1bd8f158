"""The contract that the engine relies on. Our sandbox and a third-party server both pass the same tests.

The sandbox is only useful if it behaves like Stripe, so it must pass the tests that code by others passes too.
KNOWN_DEVIATIONS lists where a server is known to differ from Stripe. There the test asserts exactly that difference.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest
from tests.support.stripe_mock import ThirdPartyStripe

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import (
    AlreadyRefunded,
    Answered,
    Blocked,
    Busy,
    Denied,
    Found,
    KeyConflict,
    Misconfigured,
    PaymentRead,
    PaymentUnreadable,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.base import Processor
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.adapter import PAGE_SIZE, StripeProcessor

T = TypeVar("T")
SANDBOX, THIRD_PARTY = "our sandbox", "stripe-stateful-mock"
API_KEY = "sk_test_contract"

#: (server, subject) → how the server differs from Stripe.
KNOWN_DEVIATIONS = {
    (THIRD_PARTY, "payment intents"): "has none: 404 for every refund of one",
    (THIRD_PARTY, "cancel"): "has no such endpoint: 404",
    (THIRD_PARTY, "created"): "ignores the condition on the time of creation when listing",
    (THIRD_PARTY, "listing an unknown payment"): "answers with an empty list instead of 404 resource_missing",
}


@dataclass(frozen=True)
class Server:
    """One server under test: how to create a payment there, and how to read the payment's refunds from its own book."""

    name: str
    url: str
    new_payment: Callable[[int], str]
    new_disputed_payment: Callable[[int], str]
    booked: Callable[[str], list[dict[str, Any]]]

    def deviates(self, subject: str) -> bool:
        """Return True if the server is known to differ from Stripe in this respect."""
        return (self.name, subject) in KNOWN_DEVIATIONS


class Client:
    """An adapter connected to a server, with the instructions for one refund. Each test has its own leg."""

    _legs = itertools.count(1)

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self._loop = loop
        self.adapter: Processor = StripeProcessor(API_KEY, base=server.url, timeout_seconds=10)
        self.leg_id = f"leg_{next(self._legs)}_{id(self)}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on this client's loop."""
        return self._loop.run_until_complete(work)

    def body(self, payment_id: str, amount_minor: int, attempt: int = 1, leg_id: str | None = None) -> str:
        """Return the frozen body of an instruction to refund this amount in minor units."""
        order = RefundInstruction(
            "rf_1", leg_id or self.leg_id, attempt, payment_id, amount_minor, "GBP", "customer asked"
        )
        return self.adapter.freeze(order)

    def send(self, key: str, body: str) -> Reply:
        """Send the body with a key that is unique to this leg."""
        return self.run(self.adapter.send(f"{self.leg_id}/{key}", body))

    def refund(self, payment_id: str, amount_minor: int, attempt: int = 1) -> RefundObject:
        """Create a refund and return its object."""
        return answered(self.send(str(attempt), self.body(payment_id, amount_minor, attempt))).object

    def find(self, payment_id: str) -> SearchReply:
        """Return the adapter's search for all refunds of a payment."""
        return self.run(self.adapter.find(payment_id, self.leg_id))

    def booked_amounts(self, payment_id: str) -> list[int]:
        """Return the amounts of the payment's refunds in the server's book, in ascending order."""
        return sorted(each["amount"] for each in self.server.booked(payment_id))


def answered(reply: Reply) -> Answered:
    """Check that the reply is `Answered`, and return it."""
    assert isinstance(reply, Answered), reply
    return reply


def found(reply: SearchReply) -> Found:
    """Check that the reply is `Found`, and return it."""
    assert isinstance(reply, Found), reply
    return reply


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


payment_numbers = itertools.count(1)


def of_sandbox(sandbox: Sandbox, kind: str) -> Server:
    """Return our sandbox as a server that creates payments of this kind (ch or pi)."""

    def register(amount_minor: int, *, disputed: bool = False) -> str:
        payment_id = f"{kind}_contract{next(payment_numbers)}"
        sandbox.register_payment(payment_id, amount_minor, "GBP", disputed=disputed)
        return payment_id

    def booked(payment_id: str) -> list[dict[str, Any]]:
        return [each for each in sandbox.refunds() if payment_id in (each["charge"], each["payment_intent"])]

    return Server(SANDBOX, sandbox.url, register, lambda amount: register(amount, disputed=True), booked)


def of_third_party(server: ThirdPartyStripe) -> Server:
    """Return stripe-stateful-mock as a server under test."""
    return Server(
        THIRD_PARTY,
        server.base_url,
        server.create_charge,
        server.create_disputed_charge,
        lambda id_: server.refunds(id_),
    )


@pytest.fixture(scope="module", params=["sandbox-charge", "sandbox-payment-intent", "stripe-stateful-mock"])
def server(request: pytest.FixtureRequest) -> Server:
    """Each server under test, our sandbox both with charges and with payment intents."""
    if request.param == "stripe-stateful-mock":
        return of_third_party(request.getfixturevalue("third_party_stripe"))
    return of_sandbox(request.getfixturevalue("sandbox"), "ch" if request.param == "sandbox-charge" else "pi")


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    loop = asyncio.new_event_loop()
    client = Client(server, loop)
    yield client
    client.run(client.adapter.close())
    loop.close()


def test_full_refund_is_created_once_with_our_metadata(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    reply = answered(client.send("1", client.body(payment_id, 5000)))
    made = reply.object
    assert not reply.replayed
    assert reply.request_id
    assert (made.status, made.amount_minor, made.currency) == ("succeeded", 5000, "GBP")
    assert payment_id in made.payment_refs
    assert (made.leg_id, made.attempt) == (client.leg_id, 1)
    assert abs(datetime.now(UTC) - made.created_at) < timedelta(minutes=2)
    assert client.booked_amounts(payment_id) == [5000]


def test_payment_is_read_with_its_refunded_amount_or_is_unreadable(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    client.refund(payment_id, 1000)
    reply = client.run(client.adapter.find_payment(payment_id))
    if isinstance(reply, PaymentUnreadable):
        assert client.server.name == THIRD_PARTY
        return
    assert isinstance(reply, PaymentRead), reply
    payment = reply.word
    assert (payment.captured_minor, payment.currency, payment.refunded_minor) == (5000, "GBP", 1000)
    assert (payment.live, payment.disputed) == (False, False)


def test_two_keys_create_two_equal_partial_refunds(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    first, second = client.refund(payment_id, 1000, attempt=1), client.refund(payment_id, 1000, attempt=2)
    assert first.processor_refund_id != second.processor_refund_id
    assert client.booked_amounts(payment_id) == [1000, 1000]


def test_same_key_and_body_replay_the_same_object(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    body = client.body(payment_id, 1000)
    first, again = answered(client.send("1", body)), answered(client.send("1", body))
    assert again.replayed
    assert again.object == first.object
    assert client.booked_amounts(payment_id) == [1000]


def test_concurrent_requests_with_one_key_create_one_refund(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    body = client.body(payment_id, 1000)

    async def at_once() -> list[Reply]:
        return await asyncio.gather(*(client.adapter.send(client.leg_id, body) for _ in range(8)))

    replies = client.run(at_once())
    assert all(isinstance(reply, Answered | Busy) for reply in replies)
    assert len({reply.object.processor_refund_id for reply in replies if isinstance(reply, Answered)}) == 1
    assert client.booked_amounts(payment_id) == [1000]


def test_same_key_with_another_body_is_a_key_conflict(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    answered(client.send("1", client.body(payment_id, 1000)))
    assert isinstance(client.send("1", client.body(payment_id, 1001)), KeyConflict)
    assert client.booked_amounts(payment_id) == [1000]


def test_amount_above_the_remaining_one_is_refused(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    client.refund(payment_id, 1000)
    refused = client.send("too-much", client.body(payment_id, 4001))
    assert isinstance(refused, Refused), refused
    assert refused.code == "amount_exceeds_unrefunded"
    assert client.booked_amounts(payment_id) == [1000]


def test_refusal_is_replayed_to_its_key_and_a_new_key_works(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    too_much = client.body(payment_id, 5001)
    assert isinstance(client.send("1", too_much), Refused)
    assert isinstance(client.send("1", too_much), Refused)
    assert client.refund(payment_id, 5000, attempt=2).amount_minor == 5000
    assert client.booked_amounts(payment_id) == [5000]


def test_fully_refunded_payment_is_reported_as_already_refunded(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    client.refund(payment_id, 5000)
    assert isinstance(client.send("again", client.body(payment_id, 1, attempt=2)), AlreadyRefunded)
    assert client.booked_amounts(payment_id) == [5000]


def test_disputed_payment_is_blocked(client: Client) -> None:
    payment_id = client.server.new_disputed_payment(5000)
    blocked = client.send("1", client.body(payment_id, 5000))
    assert isinstance(blocked, Blocked), blocked
    assert blocked.code == "charge_disputed"
    assert client.booked_amounts(payment_id) == []


@pytest.mark.parametrize("payment_id", ["ch_nobodyKnows", "pi_nobodyKnows"])
def test_unknown_payment_is_misconfigured_and_not_refused(client: Client, payment_id: str) -> None:
    sent = client.send(payment_id, client.body(payment_id, 100))
    assert isinstance(sent, Misconfigured), sent
    searched = client.find(payment_id)
    if client.server.deviates("listing an unknown payment"):
        # It leaves the filter out. What is over another payment is nobody's refund of this one: `engine.ownership`.
        assert isinstance(searched, Found), searched
        assert [item for item in searched.objects if payment_id in item.payment_refs] == []
    else:
        assert isinstance(searched, Misconfigured), searched


def test_payment_intent_is_refunded_like_a_charge(client: Client, request: pytest.FixtureRequest) -> None:
    if client.server.deviates("payment intents"):
        assert isinstance(client.send("pi", client.body("pi_any", 100)), Misconfigured)
        return
    of_intents = of_sandbox(request.getfixturevalue("sandbox"), f"pi_{client.leg_id}")
    payment_id = of_intents.new_payment(700)
    made = client.refund(payment_id, 700)
    assert payment_id in made.payment_refs
    assert len(made.payment_refs) == 2, "the refund must name both the charge and the intent"


def test_find_returns_all_refunds_of_the_payment_from_every_page(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    total = PAGE_SIZE + 5

    async def many() -> list[Reply]:
        replies: list[Reply] = []
        for attempt in range(1, total + 1):
            body = client.body(payment_id, 3, attempt)
            replies.append(await client.adapter.send(f"{client.leg_id}/{attempt}", body))
        other = client.body(payment_id, 11, leg_id=f"other_{client.leg_id}")
        replies.append(await client.adapter.send(f"{client.leg_id}/other", other))
        foreign = f'{{"{_parameter(payment_id)}":"{payment_id}","amount":17}}'
        replies.append(await client.adapter.send(f"{client.leg_id}/foreign", foreign))
        return replies

    made = [answered(reply).object for reply in client.run(many())]
    client.refund(client.server.new_payment(5000), 1, total + 1)
    result = found(client.find(payment_id))
    assert {each.processor_refund_id for each in result.objects} == {each.processor_refund_id for each in made}
    assert len(result.objects) == total + 2, "no object twice"
    ours = [each for each in result.objects if each.leg_id == client.leg_id]
    assert {each.attempt for each in ours} == set(range(1, total + 1))
    assert [each.amount_minor for each in result.objects if each.leg_id is None] == [17]


def _parameter(payment_id: str) -> str:
    return "payment_intent" if payment_id.startswith("pi_") else "charge"


def test_find_returns_nothing_for_a_payment_without_refunds(client: Client) -> None:
    assert client.find(client.server.new_payment(5000)) == Found(())


def test_fetch_returns_the_object_and_an_unknown_id_is_misconfigured(client: Client) -> None:
    made = client.refund(client.server.new_payment(5000), 1000)
    assert answered(client.run(client.adapter.fetch(made.processor_refund_id))).object == made
    assert isinstance(client.run(client.adapter.fetch("re_nobodyKnows")), Misconfigured)


def test_recent_returns_refunds_created_since_a_time_only(client: Client) -> None:
    made = client.refund(client.server.new_payment(5000), 1000)
    since = found(client.run(client.adapter.recent(made.created_at)))
    assert made in since.objects
    later = found(client.run(client.adapter.recent(made.created_at + timedelta(days=1))))
    assert bool(later.objects) is client.server.deviates("created")


def test_cancel_of_a_succeeded_refund_is_refused(client: Client) -> None:
    made = client.refund(client.server.new_payment(5000), 1000)
    reply = client.run(client.adapter.cancel(made.processor_refund_id))
    assert isinstance(reply, Misconfigured if client.server.deviates("cancel") else UnknownRefusal), reply
    assert answered(client.run(client.adapter.fetch(made.processor_refund_id))).object.status == "succeeded"


def test_wrong_api_key_is_denied_by_every_call(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    stranger = StripeProcessor("sk_wrong_1234567890", base=client.server.url, timeout_seconds=10)
    replies = [
        client.run(stranger.send("key", client.body(payment_id, 100))),
        client.run(stranger.fetch("re_1")),
        client.run(stranger.find(payment_id, client.leg_id)),
        client.run(stranger.recent(datetime.now(UTC))),
    ]
    client.run(stranger.close())
    assert all(isinstance(reply, Denied) for reply in replies), replies
    assert "sk_wrong_1234567890" not in repr(replies)
    assert client.booked_amounts(payment_id) == []


# --- Tests that need a server with scripted faults --------------------------------------------------------------------


@pytest.fixture
def faulty(sandbox: Sandbox) -> Iterator[Client]:
    """A client of the sandbox with a short timeout, for tests that add faults."""
    loop = asyncio.new_event_loop()
    client = Client(of_sandbox(sandbox, f"ch_f{id(loop)}"), loop)
    client.adapter = StripeProcessor(API_KEY, base=sandbox.url, timeout_seconds=0.5)
    yield client
    sandbox.clear_faults()
    client.run(client.adapter.close())
    loop.close()


@pytest.mark.parametrize(
    "fault",
    [
        {"timeout": {"effect": "now"}},
        {"reset": "after"},
        {"reset": "mid_body"},
        {"truncate": True},
    ],
)
def test_refund_with_a_lost_answer_is_found_with_the_same_key(
    faulty: Client, sandbox: Sandbox, fault: dict[str, Any]
) -> None:
    payment_id = faulty.server.new_payment(900)
    sandbox.add_fault(fault, match={"path_kind": "create", "payment": payment_id})
    body = faulty.body(payment_id, 900)
    assert isinstance(faulty.send("1", body), Unanswered)
    again = answered(faulty.send("1", body))
    assert again.replayed
    assert found(faulty.find(payment_id)).objects == (again.object,)
    assert faulty.booked_amounts(payment_id) == [900]


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ({"conflict": "key_in_use"}, "idempotency_key_in_use"),
        ({"lock_timeout": 409}, "lock_timeout"),
        ({"lock_timeout": 429}, "lock_timeout"),
        ({"rate_limit": {"retry_after_seconds": 3}}, "rate_limit"),
    ],
)
def test_busy_answer_creates_nothing_and_the_same_key_works_later(
    faulty: Client, sandbox: Sandbox, fault: dict[str, Any], code: str
) -> None:
    payment_id = faulty.server.new_payment(900)
    sandbox.add_fault(fault, match={"path_kind": "create", "payment": payment_id})
    body = faulty.body(payment_id, 900)
    busy = faulty.send("1", body)
    assert isinstance(busy, Busy), busy
    assert busy == Busy(code, 3.0 if "rate_limit" in fault else None)
    assert faulty.booked_amounts(payment_id) == []
    assert not answered(faulty.send("1", body)).replayed


def test_replayed_500_stays_unanswered_although_the_refund_exists(faulty: Client, sandbox: Sandbox) -> None:
    payment_id = faulty.server.new_payment(900)
    fault = {"server_error": {"status": 500, "effect": "now", "sticky": True}}
    sandbox.add_fault(fault, match={"path_kind": "create", "payment": payment_id})
    body = faulty.body(payment_id, 900)
    for _ in range(2):
        reply = faulty.send("1", body)
        assert isinstance(reply, Unanswered), reply
        assert reply.server_error
    (adopted,) = found(faulty.find(payment_id)).objects
    assert (adopted.amount_minor, adopted.leg_id) == (900, faulty.leg_id)


def test_repeating_pages_list_no_object_twice(faulty: Client, sandbox: Sandbox) -> None:
    payment_id = faulty.server.new_payment(5000)
    for attempt in range(1, PAGE_SIZE + 4):
        faulty.refund(payment_id, 1, attempt)
    sandbox.add_fault({"pages": "repeat"}, match={"path_kind": "list", "payment": payment_id}, times=None)
    objects = found(faulty.find(payment_id)).objects
    assert len(objects) == len({each.processor_refund_id for each in objects}) == PAGE_SIZE + 3


def test_refund_that_waits_for_the_customer_can_be_canceled(faulty: Client, sandbox: Sandbox) -> None:
    payment_id = faulty.server.new_payment(900)
    life = {"lifecycle": [{"status": "requires_action"}]}
    sandbox.add_fault(life, match={"path_kind": "create", "payment": payment_id})
    made = faulty.refund(payment_id, 900)
    assert made.status == "requires_action"
    assert answered(faulty.run(faulty.adapter.cancel(made.processor_refund_id))).object.status == "canceled"

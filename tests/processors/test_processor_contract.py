"""What the engine relies on, asked of every server through its adapter: ours and a third party's, by the same tests.

Our sandbox is only as good as its likeness to Stripe, so it must pass what code that is not ours passes as well. Where
a server is known to differ from Stripe, KNOWN_DEVIATIONS names it, and the test then asserts that very difference.
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

from refund_worker.processors.base import (
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
    Processor,
    RefundInstruction,
    RefundObject,
    Refused,
    Reply,
    SearchReply,
    Unanswered,
    UnknownRefusal,
)
from refund_worker.processors.sandbox import Sandbox
from refund_worker.processors.stripe.adapter import PAGE_SIZE, StripeProcessor

T = TypeVar("T")
SANDBOX, THIRD_PARTY = "our sandbox", "stripe-stateful-mock"
API_KEY = "sk_test_contract"

#: (server, subject) → what it does and Stripe does not.
KNOWN_DEVIATIONS = {
    (THIRD_PARTY, "payment intents"): "knows none: 404 for every refund over one",
    (THIRD_PARTY, "cancel"): "has no such endpoint: 404",
    (THIRD_PARTY, "created"): "ignores the condition on the time of creation when listing",
    (THIRD_PARTY, "listing an unknown payment"): "answers with an empty list in place of 404 resource_missing",
}


@dataclass(frozen=True)
class Server:
    """One server under contract: how to take a payment there, and what its own book says of it afterwards."""

    name: str
    url: str
    new_payment: Callable[[int], str]
    new_disputed_payment: Callable[[int], str]
    booked: Callable[[str], list[dict[str, Any]]]

    def deviates(self, subject: str) -> bool:
        return (self.name, subject) in KNOWN_DEVIATIONS


class Client:
    """An adapter for a server, and orders of one refund; each test has its own leg."""

    _legs = itertools.count(1)

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server = server
        self._loop = loop
        self.adapter: Processor = StripeProcessor(API_KEY, base=server.url, timeout_seconds=10)
        self.leg_id = f"leg_{next(self._legs)}_{id(self)}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def body(self, payment_id: str, amount_minor: int, attempt: int = 1, leg_id: str | None = None) -> str:
        order = RefundInstruction(
            "rf_1", leg_id or self.leg_id, attempt, payment_id, amount_minor, "GBP", "customer asked"
        )
        return self.adapter.freeze(order)

    def send(self, key: str, body: str) -> Reply:
        return self.run(self.adapter.send(f"{self.leg_id}/{key}", body))

    def refund(self, payment_id: str, amount_minor: int, attempt: int = 1) -> RefundObject:
        return answered(self.send(str(attempt), self.body(payment_id, amount_minor, attempt))).object

    def find(self, payment_id: str) -> SearchReply:
        return self.run(self.adapter.find(payment_id, self.leg_id))

    def booked_amounts(self, payment_id: str) -> list[int]:
        return sorted(each["amount"] for each in self.server.booked(payment_id))


def answered(reply: Reply) -> Answered:
    assert isinstance(reply, Answered), reply
    return reply


def found(reply: SearchReply) -> Found:
    assert isinstance(reply, Found), reply
    return reply


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


payment_numbers = itertools.count(1)


def of_sandbox(sandbox: Sandbox, kind: str) -> Server:
    def register(amount_minor: int, *, disputed: bool = False) -> str:
        payment_id = f"{kind}_contract{next(payment_numbers)}"
        sandbox.register_payment(payment_id, amount_minor, "GBP", disputed=disputed)
        return payment_id

    def booked(payment_id: str) -> list[dict[str, Any]]:
        return [each for each in sandbox.refunds() if payment_id in (each["charge"], each["payment_intent"])]

    return Server(SANDBOX, sandbox.url, register, lambda amount: register(amount, disputed=True), booked)


def of_third_party(server: ThirdPartyStripe) -> Server:
    return Server(
        THIRD_PARTY,
        server.base_url,
        server.create_charge,
        server.create_disputed_charge,
        lambda id_: server.refunds(id_),
    )


@pytest.fixture(scope="module", params=["sandbox-charge", "sandbox-payment-intent", "stripe-stateful-mock"])
def server(request: pytest.FixtureRequest) -> Server:
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


def test_a_full_refund_is_made_once_and_carries_our_marks(client: Client) -> None:
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


def test_a_payment_is_read_with_what_was_refunded_of_it_or_can_not_be_read_at_all(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    client.refund(payment_id, 1000)
    reply = client.run(client.adapter.find_payment(payment_id))
    if isinstance(reply, PaymentUnreadable):
        assert client.server.name == THIRD_PARTY
        return
    assert isinstance(reply, PaymentRead), reply
    word = reply.word
    assert (word.captured_minor, word.currency, word.refunded_minor) == (5000, "GBP", 1000)
    assert (word.live, word.disputed) == (False, False)


def test_two_equal_partial_refunds_under_two_keys_are_two_refunds(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    first, second = client.refund(payment_id, 1000, attempt=1), client.refund(payment_id, 1000, attempt=2)
    assert first.processor_refund_id != second.processor_refund_id
    assert client.booked_amounts(payment_id) == [1000, 1000]


def test_the_same_key_and_body_again_answers_with_the_same_object_and_makes_no_other(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    body = client.body(payment_id, 1000)
    first, again = answered(client.send("1", body)), answered(client.send("1", body))
    assert again.replayed
    assert again.object == first.object
    assert client.booked_amounts(payment_id) == [1000]


def test_the_same_key_at_the_same_time_makes_one_refund(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    body = client.body(payment_id, 1000)

    async def at_once() -> list[Reply]:
        return await asyncio.gather(*(client.adapter.send(client.leg_id, body) for _ in range(8)))

    replies = client.run(at_once())
    assert all(isinstance(reply, Answered | Busy) for reply in replies)
    assert len({reply.object.processor_refund_id for reply in replies if isinstance(reply, Answered)}) == 1
    assert client.booked_amounts(payment_id) == [1000]


def test_the_same_key_with_another_body_is_a_key_conflict_and_makes_nothing(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    answered(client.send("1", client.body(payment_id, 1000)))
    assert isinstance(client.send("1", client.body(payment_id, 1001)), KeyConflict)
    assert client.booked_amounts(payment_id) == [1000]


def test_more_than_is_left_is_refused_and_makes_nothing(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    client.refund(payment_id, 1000)
    refused = client.send("too-much", client.body(payment_id, 4001))
    assert isinstance(refused, Refused), refused
    assert refused.code == "amount_exceeds_unrefunded"
    assert client.booked_amounts(payment_id) == [1000]


def test_a_refusal_replays_under_its_key_and_a_new_key_is_free(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    too_much = client.body(payment_id, 5001)
    assert isinstance(client.send("1", too_much), Refused)
    assert isinstance(client.send("1", too_much), Refused)
    assert client.refund(payment_id, 5000, attempt=2).amount_minor == 5000
    assert client.booked_amounts(payment_id) == [5000]


def test_a_payment_refunded_in_full_says_so_and_nothing_more_is_made(client: Client) -> None:
    payment_id = client.server.new_payment(5000)
    client.refund(payment_id, 5000)
    assert isinstance(client.send("again", client.body(payment_id, 1, attempt=2)), AlreadyRefunded)
    assert client.booked_amounts(payment_id) == [5000]


def test_a_disputed_payment_is_refused_for_now_and_nothing_is_made(client: Client) -> None:
    payment_id = client.server.new_disputed_payment(5000)
    blocked = client.send("1", client.body(payment_id, 5000))
    assert isinstance(blocked, Blocked), blocked
    assert blocked.code == "charge_disputed"
    assert client.booked_amounts(payment_id) == []


@pytest.mark.parametrize("payment_id", ["ch_nobodyKnows", "pi_nobodyKnows"])
def test_an_unknown_payment_is_a_fault_of_the_set_up_and_no_refusal(client: Client, payment_id: str) -> None:
    sent = client.send(payment_id, client.body(payment_id, 100))
    assert isinstance(sent, Misconfigured), sent
    searched = client.find(payment_id)
    if client.server.deviates("listing an unknown payment"):
        # It leaves the filter out. What is over another payment is nobody's refund of this one: `engine.ownership`.
        assert isinstance(searched, Found), searched
        assert [item for item in searched.objects if payment_id in item.payment_refs] == []
    else:
        assert isinstance(searched, Misconfigured), searched


def test_a_payment_intent_is_refunded_like_a_charge(client: Client, request: pytest.FixtureRequest) -> None:
    if client.server.deviates("payment intents"):
        assert isinstance(client.send("pi", client.body("pi_any", 100)), Misconfigured)
        return
    of_intents = of_sandbox(request.getfixturevalue("sandbox"), f"pi_{client.leg_id}")
    payment_id = of_intents.new_payment(700)
    made = client.refund(payment_id, 700)
    assert payment_id in made.payment_refs
    assert len(made.payment_refs) == 2, "the charge is named as well as the intent"


def test_find_gives_all_of_the_payment_from_every_page_whoever_made_it(client: Client) -> None:
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


def test_find_gives_nothing_where_nothing_was_made(client: Client) -> None:
    assert client.find(client.server.new_payment(5000)) == Found(())


def test_fetch_gives_the_object_and_an_unknown_one_is_a_fault_of_the_set_up(client: Client) -> None:
    made = client.refund(client.server.new_payment(5000), 1000)
    assert answered(client.run(client.adapter.fetch(made.processor_refund_id))).object == made
    assert isinstance(client.run(client.adapter.fetch("re_nobodyKnows")), Misconfigured)


def test_recent_gives_what_was_made_since_and_nothing_older(client: Client) -> None:
    made = client.refund(client.server.new_payment(5000), 1000)
    since = found(client.run(client.adapter.recent(made.created_at)))
    assert made in since.objects
    later = found(client.run(client.adapter.recent(made.created_at + timedelta(days=1))))
    assert bool(later.objects) is client.server.deviates("created")


def test_cancel_of_a_refund_that_is_done_is_refused_and_changes_nothing(client: Client) -> None:
    made = client.refund(client.server.new_payment(5000), 1000)
    reply = client.run(client.adapter.cancel(made.processor_refund_id))
    assert isinstance(reply, Misconfigured if client.server.deviates("cancel") else UnknownRefusal), reply
    assert answered(client.run(client.adapter.fetch(made.processor_refund_id))).object.status == "succeeded"


def test_a_wrong_api_key_is_denied_everywhere_and_nothing_is_made(client: Client) -> None:
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


# --- What only a server with scripted faults can show -----------------------------------------------------------------


@pytest.fixture
def faulty(sandbox: Sandbox) -> Iterator[Client]:
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
def test_an_answer_lost_after_the_refund_was_made_is_found_again_under_the_same_key(
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
def test_being_told_to_wait_makes_nothing_and_the_same_key_serves_later(
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


def test_an_error_that_sticks_to_its_key_is_unknown_though_the_refund_exists(faulty: Client, sandbox: Sandbox) -> None:
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


def test_pages_that_repeat_show_no_object_twice(faulty: Client, sandbox: Sandbox) -> None:
    payment_id = faulty.server.new_payment(5000)
    for attempt in range(1, PAGE_SIZE + 4):
        faulty.refund(payment_id, 1, attempt)
    sandbox.add_fault({"pages": "repeat"}, match={"path_kind": "list", "payment": payment_id}, times=None)
    objects = found(faulty.find(payment_id)).objects
    assert len(objects) == len({each.processor_refund_id for each in objects}) == PAGE_SIZE + 3


def test_a_refund_that_waits_for_the_customer_can_be_canceled(faulty: Client, sandbox: Sandbox) -> None:
    payment_id = faulty.server.new_payment(900)
    life = {"lifecycle": [{"status": "requires_action"}]}
    sandbox.add_fault(life, match={"path_kind": "create", "payment": payment_id})
    made = faulty.refund(payment_id, 900)
    assert made.status == "requires_action"
    assert answered(faulty.run(faulty.adapter.cancel(made.processor_refund_id))).object.status == "canceled"

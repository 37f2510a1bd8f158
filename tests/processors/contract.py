"""The means of the contract suite: what a subject is, which parts of the contract it claims, and a client for it.

A subject is one adapter with the server, or the fake, behind it. Its capability table decides which parts of the
contract it must pass. What it lacks all the same is named with a reason, so nothing is left out silently.
docs/adding-a-processor.md explains how to write a subject.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import pytest
from pydantic import SecretStr

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import Answered, Busy, Found, RefundObject, Reply, SearchReply
from refund_worker.processors.base import AccountSettings, Capabilities, Processor, ProcessorEntry

T = TypeVar("T")
CURRENCY = "GBP"


class Part(StrEnum):
    """The parts of the contract. The functions of `Subject` that a part needs are named behind it."""

    NO_REFUNDS = "creates no refunds and says so"
    CREATES = "creates a refund once, with our ids"  # new_payment, booked
    PARTIAL = "creates several partial refunds of a payment"
    REMAINDER = "refuses more than is left of a payment"
    FULLY_REFUNDED = "says that a payment is fully refunded"
    DISPUTES = "blocks refunds of a disputed payment"  # new_payment(disputed=True)
    UNKNOWN_PAYMENT = "reports an unknown payment as misconfigured"  # unknown_payment
    UNKNOWN_REFUND = "reports an unknown refund object as misconfigured"  # unknown_refund
    KEYS = "returns the same object to the same key and body"
    KEY_CONFLICT = "reports another body under a used key"
    KEEPS_REFUSALS = "keeps a refusal under its key"  # change
    KEY_LIFE = "keeps a key as long as its table says"  # pass_time
    LISTS = "lists all refunds of a payment"
    LISTS_OTHERS = "lists refunds that others created"  # refund_elsewhere
    LISTS_UNKNOWN = "reports the list of an unknown payment as misconfigured"
    RECENT = "lists refunds created since a time"
    PAGES = "reads the account's list page by page"
    READS = "reads payments"
    READS_DISPUTES = "reads the disputes of a payment and of the account"  # open_dispute
    READS_BALANCE = "reads the account's balance"
    FETCHES = "returns a refund object by its id"
    CHANGES = "returns the state that an object has now"  # change
    FAILURE_CODES = "passes on the failure codes of its table"  # change
    CANCELS = "cancels a refund that waits for the customer"  # break_next("waits for the customer")
    NO_CANCEL = "says that it cancels nothing"
    CANCEL_REFUSED = "refuses to cancel a refund that has succeeded"
    CREDENTIALS = "reports wrong credentials as denied"  # stranger, wrong_secret
    LOST_ANSWER = "reports a lost answer as unanswered"  # lost_answers, break_next
    BUSY = "reports a call that was not executed as busy"  # busy, break_next
    SERVER_ERROR = "reports a server error as unanswered"  # break_next("server error")
    WINDOW = "refuses a refund after the window of its table"  # pass_time
    PAYMENT_IDS = "refuses ids that its payments cannot have"  # wrong_payment_ids
    WEBHOOKS = "verifies and reads webhook events"  # secret, event_about
    SIGNED_HEADERS = "verifies a header that signs the whole body and the time"  # signed
    REPORTS = "tells the outcome of a refund by a signed event"  # report, altered


class Subject:
    """One adapter under contract. Subclasses override what their parts need; one instance serves one test."""

    name: ClassVar[str]
    capabilities: ClassVar[Capabilities]
    entry: ClassVar[ProcessorEntry | None] = None  # of a registered processor
    reads_payments: ClassVar[bool] = False
    lacks: ClassVar[Mapping[Part, str]] = {}  # why a part that the table claims is not asked
    page_size: ClassVar[int] = 1  # refund objects in a page of the server's lists
    has_pages: ClassVar[bool] = False  # the adapter has `page`
    gives_request_ids: ClassVar[bool] = False
    errors_stick: ClassVar[bool] = False  # this server repeats a server error to its key
    failure_code: ClassVar[str] = "declined"  # of a refund that the server lets fail; passed on as it is
    signs_headers: ClassVar[bool] = True  # a header signs the whole body and the time; otherwise the body holds it
    coarser_currencies: ClassVar[frozenset[str]] = frozenset()  # the adapter refuses what is no multiple of their step
    accepted_status: ClassVar[str] = "succeeded"  # of a refund that was just accepted
    unknown_payment: ClassVar[str] = ""
    unknown_refund: ClassVar[str] = "re_nobodyKnows"
    wrong_payment_ids: ClassVar[Sequence[str]] = ()
    wrong_secret: ClassVar[str] = ""
    lost_answers: ClassVar[Sequence[str]] = ()
    busy: ClassVar[Mapping[str, Busy]] = {}
    secret: ClassVar[str] = ""
    event_seconds: ClassVar[float] = 86_400.0  # an event that was signed this long ago is refused
    another_secret: ClassVar[str] = "another"
    answers_have_times: ClassVar[bool] = True  # an answer says when the refund was created
    window_code: ClassVar[str] = ""  # of the refusal after the window, if it is no final one of the error table

    def __init__(self, request: pytest.FixtureRequest) -> None:
        self._loop = asyncio.new_event_loop()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self._loop.run_until_complete(work)

    def close(self) -> None:
        """End the server and the loop."""
        self._loop.close()

    def now(self) -> datetime:
        """Return the server's time."""
        return datetime.now(UTC)

    def adapter(self, *, timeout_seconds: float = 10) -> Processor:
        """Return an adapter with good credentials."""
        raise NotImplementedError

    def stranger(self) -> Processor:
        """Return an adapter with wrong credentials, in which `wrong_secret` is the secret."""
        raise NotImplementedError

    def new_payment(self, amount_minor: int, *, disputed: bool = False) -> str:
        """Capture a payment in `CURRENCY` at the server and return its id there."""
        raise NotImplementedError

    def booked(self, payment_id: str) -> list[int]:
        """Return the amounts of the payment's refunds in the server's own book, in minor units."""
        raise NotImplementedError

    def refund_elsewhere(self, payment_id: str, amount_minor: int) -> None:
        """Refund a payment at the server without our ids, as a person would in its dashboard."""
        raise NotImplementedError

    def open_dispute(self, payment_id: str, amount_minor: int) -> str:
        """Open a dispute over a payment at the server and return its id there."""
        raise NotImplementedError

    def change(self, processor_refund_id: str, status: str, failure_code: str | None) -> None:
        """Change a refund object at the server to one of our statuses, with the processor's failure code."""
        raise NotImplementedError

    def pass_time(self, seconds: float) -> None:
        """Let time pass at the server."""
        raise NotImplementedError

    def wait_for_lists(self) -> None:
        """Let the time pass after which lists show all refunds. Nothing, unless the server's lists lag."""

    def break_next(self, fault: str, payment_id: str) -> None:
        """Let the next request to create a refund of the payment meet a fault: one of `lost_answers` or `busy`,

        "server error" (an error although the refund is created) or "waits for the customer".
        """
        raise NotImplementedError

    def event_about(self, refund_object: RefundObject) -> tuple[str, bytes]:
        """Return the id and the body of a webhook event about a refund object that the adapter returned."""
        raise NotImplementedError

    def other_event(self) -> bytes:
        """Return the body of a webhook event that is about no refund object."""
        raise NotImplementedError

    def report(self, processor_refund_id: str, status: str, failure_code: str | None) -> tuple[dict[str, str], bytes]:
        """Give a refund object at the server one of our statuses, and return the request that tells it.

        It is (the headers by lower-case name, the body), signed with `secret`.
        """
        raise NotImplementedError

    def altered(self, body: bytes) -> Iterable[bytes]:
        """Return copies of a signed body, each with one byte of a signed value or of the signature changed."""
        raise NotImplementedError

    def account(self, *secrets: str) -> AccountSettings:
        """Return the settings of an account whose webhook secrets are these."""
        assert self.entry is not None
        return self.entry.settings(webhook_secret=SecretStr(",".join(secrets)) if secrets else None)

    def signed(self, body: bytes, *, secret: str, at: float) -> dict[str, str]:
        """Return the headers, by lower-case name, that sign `body` at `at` (epoch seconds)."""
        raise NotImplementedError

    @classmethod
    def applicable(cls) -> frozenset[Part]:
        """Return the parts that the capability table claims."""
        if not cls.capabilities.creates_refunds:
            return frozenset({Part.NO_REFUNDS, Part.UNKNOWN_REFUND})
        table = cls.capabilities
        always = {
            *(Part.CREATES, Part.UNKNOWN_PAYMENT, Part.CREDENTIALS, Part.LOST_ANSWER, Part.BUSY, Part.SERVER_ERROR),
        }
        by_table = {
            **dict.fromkeys((Part.KEYS, Part.KEY_CONFLICT, Part.KEY_LIFE), table.key_seconds > 0),
            Part.KEEPS_REFUSALS: table.key_seconds > 0 and table.keeps_refusals and table.answers_are_outcomes,
            **dict.fromkeys((Part.REMAINDER, Part.FULLY_REFUNDED, Part.DISPUTES), table.answers_are_outcomes),
            Part.UNKNOWN_REFUND: table.reads_refunds,
            Part.PARTIAL: table.partial_refunds,
            **dict.fromkeys((Part.LISTS, Part.LISTS_OTHERS, Part.LISTS_UNKNOWN), table.finds_refunds),
            Part.RECENT: table.lists_refunds,
            Part.PAGES: table.lists_refunds and cls.has_pages,
            Part.READS: cls.reads_payments,
            Part.READS_DISPUTES: table.reads_disputes,
            Part.READS_BALANCE: table.reads_balance,
            Part.FETCHES: table.reads_refunds,
            Part.CHANGES: table.reads_refunds and not table.answers_are_final,
            Part.FAILURE_CODES: table.reads_refunds and bool(table.disputed_codes or table.unfunded_codes),
            **dict.fromkeys((Part.CANCELS, Part.CANCEL_REFUSED), table.cancels),
            Part.NO_CANCEL: not table.cancels,
            Part.WINDOW: table.refund_window_seconds is not None and table.answers_are_outcomes,
            Part.PAYMENT_IDS: cls.entry is not None and bool(cls.wrong_payment_ids),
            **dict.fromkeys((Part.WEBHOOKS, Part.SIGNED_HEADERS, Part.REPORTS), cls._has_webhooks()),
        }
        by_table[Part.SIGNED_HEADERS] &= cls.signs_headers
        by_table[Part.REPORTS] &= not table.reads_refunds
        return frozenset(always | {part for part, claimed in by_table.items() if claimed})

    @classmethod
    def _has_webhooks(cls) -> bool:
        return cls.entry is not None and cls.entry.webhooks is not None

    @classmethod
    def claims(cls) -> frozenset[Part]:
        """Return the parts that the subject is asked."""
        return cls.applicable() - cls.lacks.keys()


class Client:
    """An adapter of a subject, with the instructions for one refund. Each test has its own leg."""

    _legs = itertools.count(1)

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.adapter = subject.adapter()
        self.leg_id = f"leg_{next(self._legs)}_{id(self)}"

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        return self.subject.run(work)

    def order(
        self, payment_id: str, amount_minor: int, attempt: int = 1, leg_id: str | None = None
    ) -> RefundInstruction:
        """Return the instruction to refund an amount in minor units."""
        leg = leg_id or self.leg_id
        return RefundInstruction("rf_1", leg, attempt, payment_id, amount_minor, CURRENCY, "customer asked")

    def body(self, payment_id: str, amount_minor: int, attempt: int = 1, leg_id: str | None = None) -> str:
        """Return the frozen body of an instruction."""
        return self.adapter.freeze(self.order(payment_id, amount_minor, attempt, leg_id))

    def send(self, key: str, body: str) -> Reply:
        """Send the body with a key that is unique to this leg."""
        return self.run(self.adapter.send(f"{self.leg_id}/{key}", body))

    def refund(self, payment_id: str, amount_minor: int, attempt: int = 1) -> RefundObject:
        """Create a refund and return its object."""
        return answered(self.send(str(attempt), self.body(payment_id, amount_minor, attempt))).object

    def fetch(self, processor_refund_id: str) -> Reply:
        """Return the adapter's answer about one refund object."""
        return self.run(self.adapter.fetch(processor_refund_id))

    def find(self, payment_id: str) -> SearchReply:
        """Return the adapter's list of all refunds of a payment."""
        return self.run(self.adapter.find(payment_id, self.leg_id))

    def booked(self, payment_id: str) -> list[int]:
        """Return the amounts of the payment's refunds in the server's book, in ascending order."""
        return sorted(self.subject.booked(payment_id))

    def close(self) -> None:
        """Close the adapter and the subject."""
        self.run(self.adapter.close())
        self.subject.close()


def same_object(one: RefundObject, other: RefundObject, *, answers_have_times: bool) -> bool:
    """Return True if two answers describe one object alike. Where answers have no time, the adapter's clock differs."""
    return one == (other if answers_have_times else replace(other, created_at=one.created_at))


def answered(reply: Reply) -> Answered:
    """Check that the reply is `Answered`, and return it."""
    assert isinstance(reply, Answered), reply
    return reply


def found(reply: SearchReply) -> Found:
    """Check that the reply is `Found`, and return it."""
    assert isinstance(reply, Found), reply
    return reply

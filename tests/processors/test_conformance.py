"""The conformance suite that ships with the program finds no fault in any adapter under contract, and the book agrees.

The contract suite beside this file asks more: it also has faults on the way, clocks that move, and webhooks.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.processors.contract import CURRENCY, Client, Part, Subject
from tests.processors.second.acmepay.entry import CAPABILITIES as ACMEPAY
from tests.processors.second.acmepay.entry import ENTRY
from tests.processors.second.server import TOKEN, AcmePayServer
from tests.processors.subjects import SUBJECTS, label

from refund_worker.domain.processor_replies import RefundObject
from refund_worker.processors.accounts import Account
from refund_worker.processors.base import Processor
from refund_worker.processors.conformance.bench import LIST_LAG_SECONDS, Bench, Refundable
from refund_worker.processors.conformance.results import Broken, Check, NotAsked, Result, Verdict
from refund_worker.processors.conformance.run import ANY, LAST, result_of
from refund_worker.processors.conformance.suite import Options, Suite
from refund_worker.processors.manual import ManualProcessor
from refund_worker.processors.paypal.entry import CAPABILITIES as PAYPAL

# The part of the contract that each check asks too: a subject that lacks it is not checked.
PARTS: dict[str, frozenset[Part]] = {
    "create": frozenset({Part.CREATES}),
    "same key": frozenset({Part.KEYS}),
    "same key at once": frozenset({Part.KEYS}),
    "same key, other body": frozenset({Part.KEY_CONFLICT}),
    "two keys": frozenset({Part.PARTIAL}),
    "more than is left": frozenset({Part.REMAINDER}),
    "refusal is kept": frozenset({Part.KEEPS_REFUSALS, Part.REMAINDER, Part.CHANGES}),
    "unknown payment": frozenset({Part.UNKNOWN_PAYMENT}),
    "read a refund": frozenset({Part.CREATES}),
    "unknown refund": frozenset({Part.UNKNOWN_REFUND}),
    "list of a payment": frozenset({Part.LISTS, Part.PARTIAL}),
    "list of an unknown payment": frozenset({Part.LISTS_UNKNOWN}),
    "refunds by others": frozenset({Part.LISTS_OTHERS}),
    "list since a time": frozenset({Part.RECENT}),
    "read a payment": frozenset({Part.READS}),
    "late failure": frozenset({Part.CHANGES}),
    "cancel": frozenset({Part.CANCEL_REFUSED}),
    "wrong secret": frozenset({Part.CREDENTIALS}),
    "nothing is left": frozenset({Part.FULLY_REFUNDED}),
    "books agree": frozenset({Part.LISTS}),
}
# Played by HttpBench alone.
HTTP_ALONE = {"lost answer", "pages"}
# The adapters, without the fakes of other tests.
CREATING = [subject for subject in SUBJECTS if subject.entry is not None and Part.CREATES in subject.claims()]


@dataclass(slots=True)
class SubjectBench(Bench):
    """The bench of a subject of the contract suite: its server makes payments, and plays what it can."""

    subject: Subject = field(kw_only=True)
    failed: list[str] = field(default_factory=list)  # ids of refunds that the suite let fail

    async def new_payment(self, units: int) -> Refundable | None:
        """Return a new payment at the subject's server."""
        amount = units * self.step(CURRENCY)
        return Refundable(await self._played(self.subject.new_payment, amount), CURRENCY, amount)

    async def find(self, payment: Refundable, leg_id: str = "") -> tuple[RefundObject, ...]:
        """Return the list once it shows everything."""
        self.subject.wait_for_lists()
        return await Bench.find(self, payment, leg_id)

    async def recent(self, since: datetime) -> tuple[RefundObject, ...]:
        """Return the list once it shows everything."""
        self.subject.wait_for_lists()
        return await Bench.recent(self, since)

    async def refund_elsewhere(self, payment: Refundable, amount_minor: int) -> RefundObject:
        """Refund a payment without our ids."""
        await self._played(self.subject.refund_elsewhere, payment.payment_id, amount_minor)
        (made,) = [each for each in await self.find(payment) if each.leg_id is None]
        self.note(payment, made)
        return made

    async def change(self, refund: RefundObject, status: str, failure_code: str | None) -> None:
        """Change a refund at the subject's server."""
        self.failed.append(refund.processor_refund_id)
        await self._played(self.subject.change, refund.processor_refund_id, status, failure_code)

    def stranger(self) -> Processor:
        """Return the subject's adapter with wrong credentials."""
        return self.subject.stranger()

    def unknown_payment(self) -> str:
        """Return the subject's unknown payment."""
        return self.subject.unknown_payment

    def unknown_refund(self) -> str:
        """Return the subject's unknown refund."""
        return self.subject.unknown_refund

    async def _played(self, play: Any, *arguments: Any) -> Any:
        """Play in a thread and with another loop: some subjects run one for it, and theirs is running already."""
        subject = self.subject
        running, subject._loop = subject._loop, asyncio.new_event_loop()
        try:
            return await asyncio.to_thread(play, *arguments)
        except NotImplementedError:
            raise NotAsked("this subject does not play it") from None
        finally:
            subject._loop.close()
            subject._loop = running


def bench_of(client: Client) -> SubjectBench:
    """Return a bench for the client's subject. Its clock may have been moved by earlier tests."""
    seconds = abs((client.subject.now() - Subject.now(client.subject)) / timedelta(seconds=1))
    table = client.subject.capabilities
    return SubjectBench(
        client.adapter,
        table,
        subject=client.subject,
        clock_seconds_max=seconds + 300,
        failure_code=client.subject.failure_code,
    )


@pytest.mark.parametrize("check", [each for each in (*ANY, *LAST) if each.name not in HTTP_ALONE], ids=lambda c: c.name)
@pytest.mark.parametrize("client", CREATING, indirect=True, ids=label)
def test_no_promise_is_broken_by_an_adapter_under_contract(client: Client, check: Check) -> None:
    if not PARTS[check.name] <= client.subject.claims():
        pytest.skip("the subject does not claim this part of the contract")
    bench = bench_of(client)
    result = client.run(result_of(check, bench, 30))
    assert result.verdict is not Verdict.FAILED, result
    for payment in bench.used:
        # Some books keep a refund that failed, others do not.
        alive = [each for each in payment.made if each.processor_refund_id not in bench.failed]
        possible = [sorted(each.amount_minor for each in kept) for kept in (payment.made, alive)]
        assert sorted(client.subject.booked(payment.payment_id)) in possible


@pytest.mark.parametrize("waits", [True, False])
def test_list_that_lags_is_waited_for_as_long_as_the_caller_says(waits: bool) -> None:
    lines: list[str] = []

    async def failed() -> dict[str, Result]:
        settings = ENTRY.settings(token=TOKEN, api_base=server.url, rate_per_second=0)  # type: ignore[call-arg]
        payments = [(server.new_payment("100"), 10_000, CURRENCY) for _ in range(3)]
        options = Options(payments=payments, list_lag_seconds=LIST_LAG_SECONDS + 1 if waits else 0.1, tell=lines.append)
        results = Suite(options).of_account(Account(name="acmepay", entry=ENTRY, settings=settings))
        return {each.check: each async for each in results if each.verdict is Verdict.FAILED}

    with AcmePayServer() as server:
        server.lag_seconds = 0.7
        found = asyncio.run(failed())
    assert bool(found) != waits, found
    assert bool(lines) == waits
    if not waits:
        assert {"list of a payment", "list since a time", "same key"} <= found.keys()
        assert all("--list-lag" in each.do for each in found.values()), found


@pytest.mark.parametrize(("currency", "step"), [("HUF", 100), ("ISK", 100), ("JPY", 1), ("KWD", 10), ("GBP", 1)])
def test_amounts_of_checks_keep_steps_that_are_coarser_than_ours(currency: str, step: int) -> None:
    assert Bench(ManualProcessor(), PAYPAL).step(currency) == step


def test_refusal_is_asked_for_only_where_the_table_claims_it() -> None:
    (check,) = [each for each in ANY if each.name == "refusal is kept"]
    result = asyncio.run(result_of(check, Bench(ManualProcessor(), replace(ACMEPAY, keeps_refusals=False)), 5))
    assert result.verdict is Verdict.NOT_ASKED
    assert "keeps_refusals is false" in result.found


def test_every_check_is_mapped_to_a_part_of_the_contract() -> None:
    assert PARTS.keys() | HTTP_ALONE == {each.name for each in (*ANY, *LAST)}


def test_results_are_words_whatever_a_check_does() -> None:
    async def breaks(_: Bench) -> None:
        raise Broken("it is wrong", "mend it")

    async def is_not_asked(_: Bench) -> None:
        raise NotAsked("no way")

    async def crashes(_: Bench) -> None:
        raise KeyError("sk_live_abcdefgh")

    async def hangs(_: Bench) -> None:
        await asyncio.sleep(60)

    found = {}
    for run in (breaks, is_not_asked, crashes, hangs):
        found[run.__name__] = asyncio.run(result_of(Check("x", "It is so.", run), None, 0.1))  # type: ignore[arg-type]
    assert (found["breaks"].verdict, found["breaks"].do) == (Verdict.FAILED, "mend it")
    assert (found["is_not_asked"].verdict, found["is_not_asked"].found) == (Verdict.NOT_ASKED, "no way")
    assert found["crashes"].verdict is found["hangs"].verdict is Verdict.FAILED
    assert "sk_live" not in found["crashes"].found

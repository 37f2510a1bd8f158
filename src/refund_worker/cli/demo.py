"""`refund-worker demo`: the seed's two procedures and the instructive failures, end to end, with the proof at the end.

Everything is real: the worker and the scheduler are processes of their own behind a real broker, the money goes through
the official SDK over HTTP to the sandbox, a separate process with its own book.
"""

from __future__ import annotations

import json
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from refund_worker.api_schema import Refund
from refund_worker.cli.stack import Stack
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import FINAL, Kind, RefundRequest, RefundStatus, To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts import corrections, spends
from refund_worker.engine.accounts import payments as payment_records
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync import reconciliation as processor_reconciliation
from refund_worker.engine.refunds import accept
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.engine.views import api_objects
from refund_worker.engine.views.money_format import money
from refund_worker.errors import RefundWorkerError, Refusal
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import PREFIX, Settings, load_settings
from refund_worker.store.reporting import reconciliation
from refund_worker.worker.publisher import make_publisher

WAIT_SECONDS_MAX = 25.0
BURST = 20
ENDED = (*FINAL, RefundStatus.NEEDS_ATTENTION)

# Time compressed, so that a lost answer is found again in seconds instead of minutes.
CLOCKS = {
    "LEASE_SECONDS": "4",
    "SWEEP_SECONDS": "0.3",
    "RETRY_BASE_SECONDS": "0.3",
    "RETRY_MAX_SECONDS": "2",
    "POLL_SECONDS": "0.5",
    "QUIET_SECONDS": "5",
    "PROCESSOR_TIMEOUT_SECONDS": "1.5",
    "STRIPE_RATE_PER_SECOND": "0",
}
FAULTS = {
    "seed": 7,
    "rules": [
        {"match": {"path_kind": "create", "payment": "ch_ana"}, "do": {"timeout": {"effect": "now"}}},
        {
            "match": {"path_kind": "create", "payment": "ch_ben"},
            "do": {"refuse": {"status": 400, "code": "charge_not_refundable", "message": "The card was closed."}},
        },
        {"match": {"path_kind": "create", "payment": "ch_pia"}, "do": {"refuse": "balance_insufficient"}},
        {
            "match": {"path_kind": "create", "payment": "ch_eva"},
            "do": {
                "lifecycle": [
                    {"status": "succeeded"},
                    {"status": "failed", "after_seconds": 1.5, "failure_reason": "expired_or_canceled_card"},
                ]
            },
        },
    ],
}


@dataclass(slots=True)
class Demo:
    """The running demo: where it prints, what it works with, and what was found out."""

    console: Console
    stack: Stack
    runtime: Runtime
    checks: list[dict[str, Any]] = field(default_factory=list)

    @property
    def context(self) -> Context:
        return self.runtime.context

    def chapter(self, title: str) -> None:
        self.console.print(f"\n[bold]{title}[/bold]")

    def say(self, text: str) -> None:
        self.console.print(f"  {text}")

    def check(self, name: str, ok: bool, seen: object) -> None:
        """One claim, shown with what was seen; the demo fails if any is not true."""
        self.checks.append({"claim": name, "ok": ok, "seen": str(seen)})
        mark = "[green]✓[/green]" if ok else "[red]✗[/red]"
        self.console.print(f"  {mark} {name}" + ("" if ok else f"  [red](saw: {seen})[/red]"))

    def refund(self, refund_id: str) -> Refund:
        with self.context.database.read() as connection:
            return api_objects.refund_view(api_objects.find_refund(connection, refund_id))

    def balance(self, customer_id: str) -> int:
        with self.context.database.read() as connection:
            return int(api_objects.customer(connection, customer_id)["balance"])

    def wait(
        self, refund_id: str, statuses: Sequence[str] = ENDED, what: str = "working", *, blocked: bool = False
    ) -> Refund:
        """The refund once it is in one of these states, or as it is when the time is up.

        `blocked`: and once others' refunds of its payment stop it.
        """
        end = time.monotonic() + WAIT_SECONDS_MAX
        with self.console.status(f"  {what}…"):
            while time.monotonic() < end:
                refund = self.refund(refund_id)
                if refund["status"] in statuses and (not blocked or refund["legs"][0]["blocked_by"]):
                    return refund
                self.stack.check()
                time.sleep(0.05)
        return self.refund(refund_id)

    def pay_in(self, customer_id: str, *payments: tuple[str, int, int]) -> None:
        """A customer tops up: (processor's id, minor units of USD, credits). The processor captures, we record."""
        for number, amount, _ in payments:
            self.stack.sandbox.register_payment(number, amount, "USD")
        made = [
            PaymentRecord(
                payment_id=f"pay-{number}",
                customer_id=customer_id,
                processor="stripe",
                processor_payment_id=number,
                amount_minor=amount,
                currency="USD",
                credits=credits,
                captured_at=1_790_000_000.0 + 86_400 * place,
            )
            for place, (number, amount, credits) in enumerate(payments)
        ]
        _all_fine(payment_records.record_payments(self.context, made))

    def spend(self, customer_id: str, transaction_id: str, credits: int, description: str) -> None:
        spent = SpendRecord(
            transaction_id=transaction_id,
            customer_id=customer_id,
            credits=credits,
            description=description,
            occurred_at=1_790_500_000.0,
        )
        _all_fine(spends.record_spends(self.context, [spent]))

    def ask(self, key: str, kind: Kind, to: To, customer_id: str, **more: Any) -> str:
        """Request a refund; returns its id."""
        request = RefundRequest(
            idempotency_key=key,
            kind=kind,
            to=to,
            customer_id=customer_id,
            reason="requested_by_customer",
            client="demo",
            actor="support",
            **more,
        )
        (answer,) = accept.request_refunds(self.context, [request])
        if isinstance(answer, Refusal):
            raise answer
        return answer.refund_id

    def correct(self, customer_id: str, credits: int, reason: str) -> str:
        row, _ = corrections.correct(
            self.context,
            customer_id=customer_id,
            credits=credits,
            reason=reason,
            client="demo",
            idempotency_key=f"correct-{customer_id}",
            actor="support",
        )
        return str(row["transaction_id"])


def run_demo(console: Console, output: str = "table") -> int:
    """Everything from an empty folder to the proof; 0 if every claim came true, else 1."""
    started = time.monotonic()
    quiet = Console(stderr=True) if output == "json" else console
    with tempfile.TemporaryDirectory(prefix="refund-worker-demo-") as folder, _running(quiet, Path(folder)) as demo:
        for chapter in CHAPTERS:
            chapter(demo)
        report = _proof(demo)
    good = all(check["ok"] for check in demo.checks)
    seconds = round(time.monotonic() - started, 1)
    if output == "json":
        console.print_json(data={"ok": good, "seconds": seconds, "checks": demo.checks, "proof": report})
    else:
        word = "[bold green]All true[/bold green]" if good else "[bold red]Not all true[/bold red]"
        console.print(f"\n{word}: {sum(c['ok'] for c in demo.checks)} of {len(demo.checks)} claims, in {seconds} s.")
    return 0 if good else 1


@contextmanager
def _running(console: Console, folder: Path) -> Iterator[Demo]:
    console.print("[bold]refund-worker demo[/bold]: credits first, then real money, exactly once, whatever crashes")
    stack = Stack(folder, settings={PREFIX + name: value for name, value in CLOCKS.items()}, faults=FAULTS)
    with console.status("  starting sandbox, broker, worker and scheduler…"):
        stack.start()
    try:
        console.print(f"  [dim]started on SQLite and an embedded broker: {', '.join(stack.parts)}[/dim]")
        settings: Settings = load_settings(stack.environment)
        with build_runtime(settings, wake=make_publisher(settings)) as runtime:
            yield Demo(console, stack, runtime)
    finally:
        stack.stop()


def _credits_back_to_the_balance(demo: Demo) -> None:
    demo.chapter("1 · Refund credits: the performer's camera was broken (the seed's example 1)")
    demo.pay_in("mia", ("ch_mia", 5000, 500))
    demo.spend("mia", "chat-1001", 120, "Private chat, 12 minutes")
    demo.say("mia bought 500 credits and spent 120 on a private chat; 60 of these go back to the balance")
    refund = demo.wait(demo.ask("mia-1", Kind.CREDIT_REFUND, To.BALANCE, "mia", transaction_id="chat-1001", credits=60))
    demo.check("the balance went from 380 to 440", demo.balance("mia") == 440, demo.balance("mia"))
    with demo.context.database.read() as connection:
        newest = api_objects.transactions(connection, "mia")["data"][0]
    demo.check("the new entry names its transaction", newest["refers_to"] == "chat-1001", newest)
    wrong = demo.wait(demo.ask("mia-2", Kind.CREDIT_REFUND, To.BALANCE, "mia", transaction_id="chat-1001", credits=40))
    demo.say("a second refund of 40 was a mistake: “Delete” makes a linked reversal, nothing is erased")
    first = corrections.reverse_transaction(demo.context, f"{wrong['id']}-credit", actor="support")
    again = corrections.reverse_transaction(demo.context, f"{wrong['id']}-credit", actor="support")
    same = first["transaction_id"] == again["transaction_id"]
    demo.check("deleted once, however often it is pressed", same and demo.balance("mia") == 440, demo.balance("mia"))
    demo.check("both refunds are done", refund["status"] == wrong["status"] == "succeeded", refund["status"])


def _money_back_to_the_source(demo: Demo) -> None:
    demo.chapter("2 · Refund money: a customer wants to withdraw (the seed's example 2)")
    demo.pay_in("leo", ("ch_leo_1", 3000, 300), ("ch_leo_2", 2000, 200))
    demo.spend("leo", "chat-1002", 150, "Private chat, 15 minutes")
    demo.say("leo topped up 300 and 200 credits and spent 150; a correction of −350 takes the rest off")
    correction = demo.correct("leo", -350, "Withdrawal agreed with the customer")
    demo.check("the balance is zero", demo.balance("leo") == 0, demo.balance("leo"))
    refund = demo.wait(demo.ask("leo-1", Kind.WITHDRAWAL, To.SOURCE, "leo", transaction_id=correction))
    sent = [(leg["payment_id"], leg["amount_minor"]) for leg in refund["legs"]]
    demo.check("20.00 went back over the newer top-up, 15.00 over the older", _amounts(sent) == [2000, 1500], sent)
    demo.check("the refund succeeded", refund["status"] == "succeeded", refund["status"])


def _a_lost_answer(demo: Demo) -> None:
    demo.chapter("3 · The processor paid, but its answer was lost")
    demo.pay_in("ana", ("ch_ana", 4000, 400))
    refund_id = demo.ask("ana-1", Kind.WITHDRAWAL, To.SOURCE, "ana", credits=100)
    refund = demo.wait(refund_id, what="no answer comes; waiting, then asking again under the same key")
    made = [r for r in demo.stack.sandbox.refunds() if r["charge"] == "ch_ana"]
    demo.check("silence was not taken for refusal: it succeeded", refund["status"] == "succeeded", refund["status"])
    demo.check("the processor's book has exactly one refund", len(made) == 1, len(made))


def _a_decline(demo: Demo) -> None:
    demo.chapter("4 · The processor refuses for good, and there is no other payment")
    demo.pay_in("ben", ("ch_ben", 1000, 100))
    refund = demo.wait(demo.ask("ben-1", Kind.WITHDRAWAL, To.SOURCE, "ben"))
    demo.check("the refund failed and says why", refund["failure_code"] == "charge_not_refundable", refund)
    demo.check("the credits are back on the balance, once", demo.balance("ben") == 100, demo.balance("ben"))


def _a_late_failure(demo: Demo) -> None:
    demo.chapter("5 · A refund that succeeded comes back later")
    demo.pay_in("eva", ("ch_eva", 2500, 250))
    refund_id = demo.ask("eva-1", Kind.WITHDRAWAL, To.SOURCE, "eva", credits=50)
    refund = demo.wait(refund_id)
    demo.check("first it succeeded", refund["status"] == "succeeded", refund["status"])
    refund = demo.wait(refund_id, ("failed",), what="the bank sends the money back")
    demo.check("it was noticed and reopened", refund["status"] == "failed", refund["status"])
    demo.check("the credits are back, once", demo.balance("eva") == 250, demo.balance("eva"))


def _duplicates(demo: Demo) -> None:
    demo.chapter("6 · The same request three times, and the same key for another amount")
    demo.pay_in("kim", ("ch_kim", 900, 90))
    asked = [demo.ask("kim-1", Kind.WITHDRAWAL, To.SOURCE, "kim", credits=30) for _ in range(3)]
    demo.check("one refund answers all three", len(set(asked)) == 1, asked)
    try:
        demo.ask("kim-1", Kind.WITHDRAWAL, To.SOURCE, "kim", credits=31)
        refused = "accepted"
    except Refusal as refusal:
        refused = refusal.code
    demo.check("another amount under the same key is refused", refused == "idempotency_key_reused", refused)
    refund = demo.wait(asked[0])
    demo.check("it was paid once", _amounts_at(demo, "ch_kim") == [300], refund["status"])


def _a_wiped_broker(demo: Demo) -> None:
    demo.chapter(f"7 · The broker is wiped while {BURST} refunds are on their way")
    demo.pay_in("zoe", *((f"ch_zoe_{n}", 1000, 100) for n in range(BURST)))
    asked = []
    for n in range(BURST):
        asked.append(demo.ask(f"zoe-{n}", Kind.WITHDRAWAL, To.SOURCE, "zoe", credits=100))
        if n in (BURST // 4, BURST - 1):
            demo.stack.wipe_broker()
    demo.say("every message was erased, twice; the database still knows what is due")
    ends = [demo.wait(refund_id, what="the sweep finds them")["status"] for refund_id in asked]
    paid = sum(amount for n in range(BURST) for amount in _amounts_at(demo, f"ch_zoe_{n}"))
    demo.check("not one refund was lost", ends == ["succeeded"] * BURST, ends)
    demo.check(f"{money(BURST * 1000, 'USD')} went out, not a cent more", paid == BURST * 1000, paid)


def _refunded_in_the_dashboard(demo: Demo) -> None:
    demo.chapter("8 · Our balance there is empty, and meanwhile somebody refunds in the processor's dashboard")
    demo.pay_in("pia", ("ch_pia", 2000, 200))
    refund_id = demo.ask("pia-1", Kind.WITHDRAWAL, To.SOURCE, "pia")
    refund = demo.wait(refund_id)
    demo.check("it waits until the balance is topped up", refund["failure_code"] == "balance_insufficient", refund)
    by_hand = _refund_by_hand(demo, "ch_pia", 2000)
    demo.say("the balance is topped up; before it sends again, the worker reads what exists over this payment")
    refund = demo.wait(refund_id, what="its own retry comes", blocked=True)
    demo.check("it was not paid again: a person must decide", refund["failure_code"] == "refunded_elsewhere", refund)
    demo.check("the other refund is named", refund["legs"][0]["blocked_by"] == [by_hand], refund["legs"])
    perform_action(
        demo.context, refund_id, Action.RESOLVE, actor="support", reason="I paid it there", reference=by_hand
    )
    refund = demo.refund(refund_id)
    demo.check("resolved: that was the payment", refund["status"] == "succeeded", refund["status"])
    demo.check("20.00 went out, once", _amounts_at(demo, "ch_pia") == [2000], _amounts_at(demo, "ch_pia"))


def _refund_by_hand(demo: Demo, charge: str, amount_minor: int) -> str:
    """The id of a refund that a person makes at the processor, past this program."""
    key = demo.stack.environment[PREFIX + "STRIPE_API_KEY"]
    request = urllib.request.Request(  # noqa: S310 -- the sandbox on this machine
        f"{demo.stack.sandbox.url}/v1/refunds",
        urllib.parse.urlencode({"charge": charge, "amount": amount_minor}).encode(),
        {"Authorization": f"Bearer {key}", "Idempotency-Key": f"by-hand-{charge}"},
    )
    with urllib.request.urlopen(request, timeout=WAIT_SECONDS_MAX) as answer:  # noqa: S310
        return str(json.load(answer)["id"])


CHAPTERS: tuple[Callable[[Demo], None], ...] = (
    _credits_back_to_the_balance,
    _money_back_to_the_source,
    _a_lost_answer,
    _a_decline,
    _a_late_failure,
    _duplicates,
    _a_wiped_broker,
    _refunded_in_the_dashboard,
)


def _proof(demo: Demo) -> dict[str, Any]:
    """The customers' Transactions as the seed shows them, then both books side by side."""
    demo.chapter("What mia and leo see in Transactions")
    for customer_id in ("mia", "leo"):
        demo.console.print(_transactions_table(demo, customer_id))
    demo.chapter("The proof: our ledger against the processor's own book")
    report = processor_reconciliation.reconcile(demo.context, "stripe")
    demo.console.print(_proof_table(demo, report))
    demo.check("both books agree, leg by leg", report.agrees, report.differences)
    book = _paid_in_book(demo.stack.sandbox.refunds())
    demo.check("and to the penny in all", report.ledger_minor == book, f"{report.ledger_minor} and {book}")
    demo.check("what was refunded in the dashboard stands apart", report.foreign == 1, report.foreign)
    demo.check("nothing is in flight", report.in_flight == 0, report.in_flight)
    return {"ledger_minor": report.ledger_minor, "processor_minor": book, "legs": len(report.lines)}


def _transactions_table(demo: Demo, customer_id: str) -> Table:
    with demo.context.database.read() as connection:
        rows = api_objects.transactions(connection, customer_id)["data"]
    table = Table(
        title=f"Customers → {customer_id} → Transactions (balance {demo.balance(customer_id)})", title_justify="left"
    )
    table.add_column("credits", justify="right")
    table.add_column("kind")
    table.add_column("description", overflow="fold")
    table.add_column("refers to", overflow="fold")
    for row in rows:
        table.add_row(f"{row['credits']:+d}", row["kind"], row["description"], row["refers_to"] or "")
    return table


def _proof_table(demo: Demo, report: processor_reconciliation.Report) -> Table:
    with demo.context.database.read() as connection:
        who = reconciliation.customers_of_legs(connection, [leg for leg, _, _ in report.lines])
    table = Table(title_justify="left")
    table.add_column("customer")
    table.add_column("leg", overflow="fold")
    table.add_column("our ledger", justify="right")
    table.add_column("their book", justify="right")
    table.add_column("")
    shown = [line for line in report.lines if who[line[0]] != "zoe"]
    for leg, ours, theirs in shown:
        table.add_row(who[leg], leg, money(ours, "USD"), money(theirs, "USD"), "=" if ours == theirs else "≠")
    zoe = [line for line in report.lines if who[line[0]] == "zoe"]
    ours, theirs = sum(line[1] for line in zoe), sum(line[2] for line in zoe)
    sign = "=" if ours == theirs else "≠"
    table.add_row("zoe", f"{len(zoe)} legs", money(ours, "USD"), money(theirs, "USD"), sign)
    table.add_section()
    totals = (money(report.ledger_minor, "USD"), money(report.processor_minor, "USD"))
    table.add_row("in all", f"{len(report.lines)} legs", *totals, "=" if totals[0] == totals[1] else "≠")
    return table


def _all_fine(answers: Sequence[payment_records.Recorded | RefundWorkerError]) -> None:
    for answer in answers:
        if isinstance(answer, RefundWorkerError):
            raise answer


def _amounts(sent: Sequence[tuple[str, int]]) -> list[int]:
    return [amount for _, amount in sent]


def _amounts_at(demo: Demo, charge: str) -> list[int]:
    return [r["amount"] for r in demo.stack.sandbox.refunds() if r["charge"] == charge and r["status"] == "succeeded"]


def _paid_in_book(refunds: Sequence[dict[str, Any]]) -> int:
    """By the processor's own word, of what bears our marks."""
    return sum(refund["amount"] for refund in refunds if refund["status"] == "succeeded" and refund["metadata"])

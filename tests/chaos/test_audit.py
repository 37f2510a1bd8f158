"""The audit of the chaos run detects each kind of difference, planted in books that agreed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import text

from refund_worker.domain.refund import To
from tests.chaos.audit import Books, Findings, audit
from tests.support.engine_world import World, credit_refund
from tests.support.migrated import migrate
from tests.support.servers import PostgresDatabases

CLEAN = Findings((), (), (), ())


class Scene:
    """A world with one refund of each kind, its processors' books as files, and the promises to the clients."""

    def __init__(self, url: str, folder: Path) -> None:
        self.world, self.url, self.book = World(url), url, folder / "book.jsonl"
        self.paypal = folder / "paypal.jsonl"
        self.paypal.write_text("")
        for number in (1, 2, 3):
            self.world.pay(number)
        self.world.spend()
        self.promises = {
            "k1": self.world.withdraw(key="k1"),
            "k2": self.world.request(credit_refund(10, "k2")).refund_id,
            "k3": self.world.request(credit_refund(10, "k3", To.SOURCE)).refund_id,
        }
        self.world.work()
        self.write_book()

    def write_book(self) -> None:
        """Write the processor's book in the sandbox's file format."""
        lines = [
            json.dumps(
                [
                    {
                        "kind": "refund",
                        "refund": {
                            "id": thing.processor_refund_id,
                            "status": thing.status,
                            "amount": thing.amount_minor,
                            "charge": "ch",
                            "metadata": {"refund_worker_leg": thing.leg_id},
                        },
                    }
                ]
            )
            for thing in self.world.processor.objects.values()
        ]
        self.book.write_text("".join(line + "\n" for line in lines))

    def stop(self, why: str) -> tuple[str, str]:
        """Let a refund wait for a person. Return its id, and the processor's id of its payment."""
        refund_id = self.promises["k4"] = self.world.withdraw(50, "k4")
        with self.world.database.write() as connection:
            connection.execute(
                text("UPDATE refunds SET status = 'needs_attention' WHERE refund_id = :id"), {"id": refund_id}
            )
            stopped = text("UPDATE legs SET attention = :why WHERE refund_id = :id RETURNING processor_payment_id")
            return refund_id, str(connection.scalar(stopped, {"id": refund_id, "why": why}))

    def stop_for_a_refund_of_others(self, before: str, now: str) -> str:
        """Let a refund stop for another one over its payment, whose status was `before` and is `now`. Return its id."""
        refund_id, payment = self.stop("refunded_elsewhere")
        made = {"id": "re_others", "status": before, "amount": 1, "charge": payment, "metadata": {}}
        self.append({"kind": "refund", "refund": made})
        self.append({"kind": "changed", "id": "re_others", "set": {"status": now}})
        self.record("re_others", "outside_refund", now, "taken")
        return refund_id

    def append(self, record: dict[str, object]) -> None:
        """Append a record to the processor's book."""
        with self.book.open("a") as file:
            file.write(json.dumps([record]) + "\n")

    def write_at_paypal(self, refund_id: str, status: str, leg_id: str = "", amount: str = "10.00") -> None:
        """Write a refund into PayPal's book, in its sandbox's file format. Without a leg it is one of others."""
        text = f"rw1,{leg_id},1,inst_1" if leg_id else "shop-4711"
        made = {"refund_id": refund_id, "capture_id": "CAP1", "status": status, "amount": amount, "custom_id": text}
        with self.paypal.open("a") as file:
            file.write(json.dumps([{"kind": "refund", "refund": made}]) + "\n")

    def change_at_paypal(self, refund_id: str, status: str) -> None:
        """Write a new status into PayPal's book."""
        with self.paypal.open("a") as file:
            changed = {"status": status, "reason": None, "changed_at": 1.0}
            file.write(json.dumps([{"kind": "changed", "id": refund_id, "set": changed}]) + "\n")

    def move_to_paypal(self) -> str:
        """Let PayPal have paid a leg, and nobody else: in our ledger, and in both books. Return the leg."""
        _, paid = self.world.processor.objects.popitem()
        self.write_book()
        self.write_at_paypal("RFD1", "COMPLETED", str(paid.leg_id), f"{paid.amount_minor / 100:.2f}")
        moved = text(
            "UPDATE ledger_entries SET account = 'processor:paypal' WHERE account = 'processor:stripe' AND "
            "transaction_id IN (SELECT transaction_id FROM ledger_transactions WHERE refers_to = :leg)"
        )
        with self.world.database.write() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # the ledger is append-only
            assert connection.execute(moved, {"leg": paid.leg_id}).rowcount == 1
        return str(paid.leg_id)

    def record(self, object_id: str, kind: str, status: str, phase: str) -> None:
        """Record an object of others as a claim."""
        columns = "claim_id, kind, processor, object_id, amount_minor, currency, object_status, phase"
        sql = f"INSERT INTO claims ({columns}, object_created_at, recorded_at, updated_at)"
        values = {"id": object_id, "kind": kind, "status": status, "phase": phase}
        with self.world.database.write() as connection:
            connection.execute(
                text(sql + " VALUES (:id, :kind, 'stripe', :id, 1, 'USD', :status, :phase, 1, 1, 1)"), values
            )

    def audit(self) -> Findings:
        """Return the audit's findings."""
        return audit(self.url, Books(stripe=self.book, paypal=self.paypal), self.promises)

    def add_to_balance(self, refund_id: str, credits: int) -> None:
        """Post a credit refund a second time, as a faulty worker would. Ledger and stored balance still agree."""
        values = {"r": refund_id, "n": credits}
        with self.world.database.write() as connection:
            for statement in (
                "INSERT INTO ledger_transactions"
                " (transaction_id, customer_id, kind, credits, refund_id, occurred_at, actor)"
                " VALUES ('again', 'c', 'credit_refund', :n, :r, 1, 'x')",
                "INSERT INTO ledger_entries (transaction_id, account, unit, amount)"
                " VALUES ('again', 'customer:c', 'credits', :n), ('again', 'house:used', 'credits', -:n)",
                "UPDATE customers SET balance = balance + :n",
            ):
                named = {name: value for name, value in values.items() if f":{name}" in statement}
                connection.execute(text(statement), named)


@pytest.fixture
def books(postgres_server: PostgresDatabases, tmp_path: Path) -> Iterator[Scene]:
    """Books that agree."""
    url = postgres_server.create(migrate)
    made = Scene(url, tmp_path)
    assert made.audit() == CLEAN
    yield made
    made.world.close()
    postgres_server.drop(url)


def only(findings: Findings, kind: str) -> str:
    """Return the only difference, which must be of this kind."""
    assert {k: len(getattr(findings, k)) for k in ("double", "lost", "mismatch", "open")} == {
        **dict.fromkeys(("double", "lost", "mismatch", "open"), 0),
        kind: 1,
    }, findings
    return str(getattr(findings, kind)[0])


def test_two_objects_of_a_leg_are_double_even_if_one_fails_later(books: Scene) -> None:
    (first, second) = books.world.processor.objects.values()
    made = {"id": "re_9", "status": "pending", "amount": 1, "metadata": {"refund_worker_leg": first.leg_id}}
    with books.book.open("a") as file:
        file.write(json.dumps([{"kind": "refund", "refund": made}]) + "\n")
        file.write(json.dumps([{"kind": "changed", "id": "re_9", "set": {"status": "failed"}}]) + "\n")
    assert f"{first.leg_id} stood for" in only(books.audit(), "double")
    assert second.leg_id not in books.audit().double[0]


def test_promise_without_a_refund_is_lost(books: Scene) -> None:
    books.promises["k4"] = "rf_4"
    assert only(books.audit(), "lost").startswith("k4 was promised rf_4")


def test_money_in_only_one_book_is_a_mismatch(books: Scene) -> None:
    books.world.processor.objects.popitem()
    books.write_book()
    assert "the ledger says 100, the book 0" in only(books.audit(), "mismatch")


@pytest.mark.parametrize("key", ["k1", "k2", "k3"])
def test_credits_posted_twice_are_a_mismatch(books: Scene, key: str) -> None:
    books.add_to_balance(books.promises[key], 10)
    assert books.promises[key] in only(books.audit(), "mismatch")


def test_refund_in_progress_is_open(books: Scene) -> None:
    refund_id = books.promises["k4"] = books.world.withdraw(50, "k4")
    assert only(books.audit(), "open") == f"{refund_id} is queued (None)"


@pytest.mark.parametrize(("before", "now"), [("succeeded", "succeeded"), ("pending", "canceled")])
def test_refund_that_others_refunds_stopped_is_explained(books: Scene, before: str, now: str) -> None:
    """Also if the other refund was canceled since: a person was asked, and decides."""
    books.stop_for_a_refund_of_others(before, now)
    assert books.audit() == CLEAN


def test_refund_of_others_that_never_was_live_explains_nothing(books: Scene) -> None:
    refund_id = books.stop_for_a_refund_of_others("failed", "failed")
    assert only(books.audit(), "open") == f"{refund_id} is needs_attention (refunded_elsewhere)"


def test_refund_of_others_that_is_not_recorded_is_a_mismatch(books: Scene) -> None:
    made = {"id": "re_others", "status": "succeeded", "amount": 1, "charge": "ch_1", "metadata": {}}
    books.append({"kind": "refund", "refund": made})
    assert "re_others of others is succeeded" in only(books.audit(), "mismatch")


def test_dispute_that_is_lost_only_in_the_book_is_a_mismatch(books: Scene) -> None:
    books.append({"kind": "dispute", "dispute": {"id": "dp_1", "status": "needs_response", "charge": "ch_1"}})
    books.record("dp_1", "dispute", "needs_response", "holding")
    assert books.audit() == CLEAN
    books.append({"kind": "dispute_changed", "id": "dp_1", "set": {"status": "lost"}})
    assert "dp_1 is lost in the book" in only(books.audit(), "mismatch")


@pytest.mark.parametrize(("status", "phase"), [("lost", "taken"), ("won", "released")])
def test_refund_of_a_disputed_payment_is_explained_by_a_loss(books: Scene, status: str, phase: str) -> None:
    refund_id, payment = books.stop("charge_disputed")
    books.append({"kind": "dispute", "dispute": {"id": "dp_1", "status": status, "charge": payment}})
    books.record("dp_1", "dispute", status, phase)
    if status == "lost":
        assert books.audit() == CLEAN
    else:
        assert only(books.audit(), "open") == f"{refund_id} is needs_attention (charge_disputed)"


def test_two_refunds_of_a_leg_at_paypal_are_double(books: Scene) -> None:
    leg_id = books.move_to_paypal()
    assert books.audit() == CLEAN
    books.write_at_paypal("RFD2", "PENDING", leg_id)
    books.change_at_paypal("RFD2", "FAILED")
    assert only(books.audit(), "double") == f"{leg_id} stood for ['RFD1', 'RFD2'] at once"


def test_leg_that_stands_at_both_processors_is_double(books: Scene) -> None:
    leg_id = str(next(iter(books.world.processor.objects.values())).leg_id)
    books.write_at_paypal("RFD1", "PENDING", leg_id)
    assert only(books.audit(), "double") == f"{leg_id} stands at both processors"


def test_refund_that_is_lost_at_paypal_is_a_mismatch(books: Scene) -> None:
    leg_id = books.move_to_paypal()
    books.change_at_paypal("RFD1", "FAILED")
    assert only(books.audit(), "mismatch") == f"{leg_id} at processor:paypal: the ledger says 100, the book 0"


def test_refund_at_another_processor_than_booked_is_a_mismatch(books: Scene) -> None:
    _, paid = books.world.processor.objects.popitem()
    books.write_book()
    books.write_at_paypal("RFD1", "COMPLETED", str(paid.leg_id), "1.00")
    assert books.audit().mismatch == (
        f"{paid.leg_id} at processor:paypal: the ledger says 0, the book 100",
        f"{paid.leg_id} at processor:stripe: the ledger says 100, the book 0",
    )


def test_paypal_refund_of_others_that_is_not_recorded_is_a_mismatch(books: Scene) -> None:
    books.write_at_paypal("RFD9", "COMPLETED")
    assert "RFD9 of others is succeeded in the book and None here" in only(books.audit(), "mismatch")


def test_line_that_paypal_is_writing_just_now_is_not_read(books: Scene) -> None:
    with books.paypal.open("a") as file:
        file.write('[{"kind": "refund"')
    assert books.audit() == CLEAN

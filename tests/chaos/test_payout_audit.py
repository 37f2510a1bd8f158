"""The audit of payouts in the chaos run detects each kind of difference, planted in books that agreed."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from refund_worker.domain.payouts.transfers import Step
from tests.chaos.payout_audit import Asked, PayoutFindings, audit_payouts
from tests.support.migrated import migrate
from tests.support.payout_world import TWO_STEPS, PayoutWorld
from tests.support.servers import PostgresDatabases

AMOUNT = 3_000
NAMES = ("double", "lost", "mismatch", "open")


class Scene:
    """A world with one payout in two steps that is paid, the books as records, and what clients were promised."""

    def __init__(self, url: str) -> None:
        self.world, self.url = PayoutWorld(url, steps=TWO_STEPS), url
        self.world.earn("e1", 5_000)
        self.world.route.script += ["succeeded", "succeeded"]
        self.payout = self.world.ask(AMOUNT)
        self.world.settle()
        self.payouts, self.earnings = {"k": self.payout}, {"e1"}
        self.stripe = [self._record(item) for item in self.world.route.book.values()]
        self.paypal: list[dict[str, Any]] = []

    @staticmethod
    def _record(item: Any) -> dict[str, Any]:
        kind = "transfer" if item.step is Step.TRANSFER else "payout"
        shown = {"id": item.object_id, "amount": item.amount_minor, "metadata": {"refund_worker_leg": item.leg_id}}
        return {"kind": kind, kind: shown | ({"status": "paid"} if kind == "payout" else {})}

    def change(self, sql: str, **values: Any) -> None:
        """Change the database as a faulty worker would."""
        with self.world.database.write() as connection:
            connection.execute(text("SET LOCAL session_replication_role = replica"))  # the ledger is append-only
            assert connection.execute(text(sql), values).rowcount

    def audit(self) -> PayoutFindings:
        """Return the audit's findings."""
        with psycopg.connect(self.url.replace("+psycopg", "")) as connection:
            return audit_payouts(connection, self.stripe, self.paypal, Asked(self.payouts, self.earnings))


@pytest.fixture
def scene(postgres_server: PostgresDatabases) -> Iterator[Scene]:
    """Books that agree."""
    url = postgres_server.create(migrate)
    made = Scene(url)
    findings = made.audit()
    assert findings.clean, findings
    assert findings.by_status == {"paid": 1}
    yield made
    made.world.close()
    postgres_server.drop(url)


def paypal_item(leg: str, item_id: str, status: str) -> dict[str, Any]:
    """Return a record of PayPal's book."""
    item = {"item_id": item_id, "sender_item_id": f"{leg}:1", "status": status, "amount": f"{AMOUNT / 100:.2f}"}
    return {"kind": "payout item", "item": item}


def again(scene: Scene, place: int, name: str = "twice") -> None:
    """Let the processor have done a step twice."""
    record = copy.deepcopy(scene.stripe[place])
    record[record["kind"]]["id"] = name
    scene.stripe.append(record)


def fail_in_book(scene: Scene) -> None:
    """Let the bank have returned the payout, without our knowledge."""
    payout = scene.stripe[1]["payout"]["id"]
    scene.stripe.append({"kind": "payout_changed", "id": payout, "set": {"status": "failed"}})


PLANTED: dict[str, tuple[str, Callable[[Scene], None]]] = {
    "two transfers of a leg": ("double", lambda scene: again(scene, 0)),
    "two payouts of a leg": ("double", lambda scene: again(scene, 1)),
    "a payout at PayPal too": (
        "double",
        lambda scene: scene.paypal.append(paypal_item(f"{scene.payout}-2", "PYI1", "UNCLAIMED")),
    ),
    "two items at PayPal": (
        "double",
        lambda scene: scene.paypal.extend(paypal_item(f"{scene.payout}-9", f"PYI{n}", "ONHOLD") for n in (1, 2)),
    ),
    "a promised payout": ("lost", lambda scene: scene.payouts.update(k2="po_2")),
    "an accepted earning": ("lost", lambda scene: scene.earnings.add("e2")),
    "a return of the bank": ("mismatch", fail_in_book),
    "an unknown leg": ("mismatch", lambda scene: scene.paypal.append(paypal_item("po_9-1", "PYI1", "RETURNED"))),
    "a payout that is gone": ("mismatch", lambda scene: scene.stripe.pop()),
    "the sum of what was paid": (
        "mismatch",
        lambda scene: scene.change("UPDATE payee_balances SET paid_minor = paid_minor + 1"),
    ),
    "the sum of earnings": (
        "mismatch",
        lambda scene: scene.change("UPDATE payee_balances SET earned_minor = earned_minor + 1"),
    ),
    "the ledger of the payee": (
        "mismatch",
        lambda scene: scene.change("UPDATE ledger_entries SET amount = amount + 1 WHERE account = 'payee:p'"),
    ),
    "an end of a paid payout": ("mismatch", lambda scene: scene.change("UPDATE payouts SET status = 'returned'")),
    "a payout in progress": ("open", lambda scene: scene.change("UPDATE payouts SET status = 'pending'")),
    "an undecided item": (
        "open",
        lambda scene: scene.paypal.append(paypal_item(f"{scene.payout}-2", "PYI1", "UNCLAIMED")),
    ),
}


@pytest.mark.parametrize("what", PLANTED)
def test_planted_difference_is_found(scene: Scene, what: str) -> None:
    kind, plant = PLANTED[what]
    plant(scene)
    findings = scene.audit()
    assert getattr(findings, kind), findings
    assert not findings.clean


def test_payout_with_a_person_is_shown_and_compared_less(scene: Scene) -> None:
    scene.change("UPDATE payouts SET status = 'needs_attention'")
    scene.change("UPDATE payout_legs SET attention_code = 'unknown_status' WHERE step = 'payout'")
    fail_in_book(scene)
    findings = scene.audit()
    assert findings.clean, findings
    assert findings.people == (f"{scene.payout}: unknown_status",)
    again(scene, 1)
    again(scene, 1, "and again")
    assert scene.audit().double

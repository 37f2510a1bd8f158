"""The scenes in which two operations run, and the operations, each with the scenes in which it has an effect."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

from refund_worker.domain.processor_replies import Misconfigured, Refused
from refund_worker.domain.refund import To
from refund_worker.domain.state_machine import Action
from refund_worker.engine.accounts import corrections, merge
from refund_worker.engine.audit import hash_chain
from refund_worker.engine.intake import batches
from refund_worker.engine.jobs import due as due_refunds
from refund_worker.engine.processor_sync import pause, reconciliation, sync, webhook_inbox
from refund_worker.engine.refunds.process import process_due
from refund_worker.store import accounts, inbox
from tests.interleavings.stepper import stop_before
from tests.support.engine_world import POLICY, World, credit_refund, withdrawal

FIRST = "rf_1"
# Above this amount a second person must approve, in the scene "awaiting approval".
THRESHOLD_MINOR = 100

# --- the scenes ------------------------------------------------------------------------------------------------------


def _nothing_asked(world: World) -> None:
    """70 credits on the balance, all of them refundable, and a spend of 30."""
    world.pay(1)
    world.spend("t", 30)


def _queued(world: World) -> None:
    _nothing_asked(world)
    world.withdraw(50)


def _pending(world: World) -> None:
    """The processor accepted the refund and has since paid it, but its webhook has not arrived."""
    _nothing_asked(world)
    world.processor.script("ch_1", "pending")
    world.withdraw(50)
    world.work()
    world.processor.become("re_1", "succeeded")
    world.pass_time(POLICY.poll_seconds)


def _no_answer(world: World, way: str) -> None:
    _nothing_asked(world)
    world.processor.script("ch_1", way)
    world.withdraw(50)
    world.work()
    world.pass_time(POLICY.retry_max_seconds)


def _awaiting_approval(world: World) -> None:
    _queued(world)


def _with_a_person(world: World) -> None:
    _nothing_asked(world)
    world.processor.script("ch_1", Misconfigured("resource_missing", "no such charge"))
    world.withdraw(50)
    world.work()


def _asks_customer(world: World) -> None:
    """The processor waits for the customer, and a second payment could take the money too."""
    _nothing_asked(world)
    world.pay(2)
    world.processor.script("ch_2", "requires_action")
    world.withdraw(50)
    world.work()
    world.pass_time(POLICY.poll_seconds)


def _failed_late(world: World) -> None:
    _queued(world)
    world.work()
    world.processor.become("re_1", "failed")
    world.pass_time(86_400)


def _credited(world: World) -> None:
    """A credit refund of 20 to the balance, and a correction of -10; neither is deleted or paid out yet."""
    _nothing_asked(world)
    world.request(credit_refund(20))
    world.work()
    corrections.correct(
        world.context, customer_id="c", credits=-10, reason="r", client="desk", idempotency_key="corr", actor="op"
    )


def _declining(world: World) -> None:
    """The newer of two payments will be refused. The older one's remaining amount is requested by others too."""
    _nothing_asked(world)
    world.pay(2)
    world.processor.script("ch_2", Refused("expired_or_canceled_card", "declined"))
    world.withdraw(100)


def _paused(world: World) -> None:
    _queued(world)
    pause.pause_processor(world.context, "stripe", actor="op", reason="because")
    world.work()


SCENES: dict[str, Callable[[World], None]] = {
    "nothing asked": _nothing_asked,
    "queued": _queued,
    "pending": _pending,
    "no answer, paid": lambda world: _no_answer(world, "pays_silently"),
    "no answer, not paid": lambda world: _no_answer(world, "timeout"),
    "awaiting approval": _awaiting_approval,
    "with a person": _with_a_person,
    "asks the customer": _asks_customer,
    "failed late": _failed_late,
    "credited": _credited,
    "declining": _declining,
    "paused": _paused,
}

# --- the operations --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Operation:
    """`work` performs the operation and returns its outcome; a `RefundWorkerError` counts as a clean refusal.

    With `to_a_person` it may leave the refund to a person when another operation interrupts it, which alone it does
    not.
    """

    name: str
    scenes: tuple[str, ...]
    work: Callable[[World], str]
    to_a_person: bool = False


def _request(world: World, *keys: str, credits: int = 50) -> str:
    return _taken(world.request(withdrawal(credits, keys[0])).replayed)


def _taken(replayed: bool) -> str:
    # There is no promise which of two equal requests is the first.
    return "replayed" if replayed else "taken"


def _credit_refund(world: World) -> str:
    return _taken(world.request(credit_refund(20, "k3", To.BALANCE)).replayed)


def _batch(world: World) -> str:
    rows = [withdrawal(50, "k", client="api"), withdrawal(20, "k2", client="api")]
    made = batches.accept_batch(world.context, rows, client="api", actor="anna")
    return f"{made['accepted'] + made['replayed']} of 2"


def _correction(world: World) -> str:
    corrections.correct(
        world.context, customer_id="c", credits=-30, reason="r", client="desk", idempotency_key="corr2", actor="op"
    )
    return "corrected"


def _spend(world: World) -> str:
    world.spend("t2", 65)
    return "spent"


def _delete(world: World, kind: str) -> str:
    """Delete the scene's refund or correction. Its id follows from its order in the scene."""
    transaction_id = {"credit_refund": f"{FIRST}-credit", "correction": "txn_1"}[kind]
    corrections.reverse_transaction(world.context, transaction_id, actor="op")
    return "deleted"


def _pay_out_correction(world: World) -> str:
    return _taken(world.request(withdrawal(None, "k4", transaction_id="txn_1")).replayed)


def _work(world: World) -> str:
    process_due(world.context)
    return "worked"


def _sweep(world: World) -> str:
    due = due_refunds.due_ids(world.context, bulk=False, limit=10)
    process_due(world.context, due)
    return "worked"


def _work_later(world: World, seconds: float) -> str:
    """Process due refunds after a pause: the interrupted worker has then lost its lease, or its key has expired."""
    stop_before("the clock goes on")
    world.pass_time(seconds)
    process_due(world.context)
    return "worked"


def _webhook(world: World) -> str:
    body = json.dumps({"data": {"object": {"object": "refund", "id": "re_1", "metadata": {}}}})
    with world.database.write() as connection:
        inbox.insert_event(connection, "stripe", "evt_1", "refund.updated", body, world.now)
    webhook_inbox.process_inbox(world.context)
    return "processed"


def _watch(world: World) -> str:
    sync.sync_all(world.context, "stripe")
    return "watched"


def _look(world: World) -> str:
    sync.sync_recent(world.context, "stripe")
    return "listed"


def _reconcile(world: World) -> str:
    reconciliation.reconcile(world.context, "stripe")
    return "reconciled"


def _seal(world: World) -> str:
    sealer = hash_chain.Sealer()
    sealer.seal(world.context)
    sealer.seal(world.context)
    return "sealed"


def _command(action: Action, reference: str | None = None) -> Callable[[World], str]:
    return lambda world: str(world.command(FIRST, action, reference).status)


def _pause(world: World) -> str:
    pause.pause_processor(world.context, "stripe", actor="op", reason="because")
    return "paused"


def _resume(world: World) -> str:
    pause.resume_processor(world.context, "stripe")
    return "resumed"


def _merge(world: World) -> str:
    """Merge the customer into one who has bought nothing."""
    with world.database.write() as connection:
        accounts.insert_missing_customers(connection, ["d"], world.now)
    return merge.merge_customers(world.context, "c", into="d", reason="registered twice", actor="op")


OPEN = ("queued", "pending", "asks the customer", "no answer, paid", "no answer, not paid")

OPERATIONS = (
    Operation("the same request", ("nothing asked", "queued"), lambda world: _request(world, "k")),
    Operation(
        "another request",
        ("nothing asked", "queued", "awaiting approval", "declining", "failed late"),
        lambda world: _request(world, "k2"),
    ),
    Operation("a credit refund", ("nothing asked", "queued", "credited"), _credit_refund),
    Operation("a batch", ("nothing asked",), _batch),
    Operation("a correction", ("nothing asked", "failed late"), _correction),
    Operation("a spend", ("nothing asked", "failed late", "credited"), _spend),
    Operation("delete a credit refund", ("credited",), lambda world: _delete(world, "credit_refund")),
    Operation("delete a correction", ("credited",), lambda world: _delete(world, "correction")),
    Operation("pay out a correction", ("credited",), _pay_out_correction),
    Operation("work", (*OPEN, "declining", "paused"), _work),
    Operation("sweep", ("queued",), _sweep),
    Operation("work past the lease", ("queued", "no answer, not paid", "declining"), lambda w: _work_later(w, 61)),
    Operation(
        "work past the key's life",
        ("queued", "no answer, paid", "no answer, not paid"),
        lambda w: _work_later(w, POLICY.key_life_seconds + 1),
        to_a_person=True,  # an answer is missing, and the key has expired
    ),
    Operation("webhook", ("pending", "no answer, paid", "failed late"), _webhook),
    Operation("watch", ("pending", "no answer, paid", "failed late"), _watch),
    Operation("look after a restore", ("queued", "no answer, paid"), _look),
    Operation("cancel", ("queued", "awaiting approval", "paused", "asks the customer"), _command(Action.CANCEL)),
    Operation("approve", ("awaiting approval",), _command(Action.APPROVE)),
    Operation("reject", ("awaiting approval",), _command(Action.REJECT)),
    Operation("retry", ("with a person",), _command(Action.RETRY)),
    Operation("resolve by hand", ("with a person",), _command(Action.RESOLVE, "bank-1")),
    Operation("resolve by reversal", ("with a person",), _command(Action.RESOLVE)),
    Operation("pause", ("queued", "no answer, not paid"), _pause),
    Operation("resume", ("paused",), _resume),
    Operation("reconcile", ("pending", "failed late"), _reconcile),
    Operation("seal", ("queued", "credited"), _seal),
    Operation("merge", ("nothing asked", "queued", "pending", "no answer, paid", "declining", "failed late"), _merge),
)

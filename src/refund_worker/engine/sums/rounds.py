"""The scheduler's check of the sums: each minute the customers that changed, and a part of all others.

All customers are checked in rounds. Each minute takes a part that a full round in an hour needs, for at most some
seconds; a restart continues where the last check stopped. It only reads, in short snapshots, and keeps no writer
waiting. An alarm comes only if a second reading, after a moment, shows the difference again.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from sqlalchemy import RowMapping

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.ledger import payee_account
from refund_worker.domain.sums import Violation
from refund_worker.engine.context import Context
from refund_worker.engine.sums.check import AGAIN_SECONDS, PIECE, confirmed, find_violations, pieces
from refund_worker.engine.sums.payees import PIECE as PAYEE_PIECE
from refund_worker.engine.sums.payees import confirmed_of_payees, payee_pieces
from refund_worker.store import sum_rounds
from refund_worker.store.reporting import payee_sums, sums

log = logging.getLogger(__name__)

EVERY_SECONDS = 60.0
# A full round takes no longer, unless its minutes take all of BUDGET_SECONDS.
ROUND_SECONDS = 3_600.0
BUDGET_SECONDS = 20.0
# Of the newest ledger transactions and events of a minute, at most so many lead to their customers.
CHANGED_MAX = 5_000
# Rows that are stored as differing, and rows that an alarm names.
STORED_MAX, NAMED_MAX = 1_000, 20


@dataclass(slots=True)
class SumChecker:
    """Checks the sums each minute. Several schedulers share the work: one of them checks in each minute.

    `every_seconds` is the time between two checks, and `budget_seconds` limits one of them.
    """

    every_seconds: float = EVERY_SECONDS
    budget_seconds: float = BUDGET_SECONDS
    _size: int = field(default=0, init=False)

    def check(self, context: Context) -> int:
        """Check the next part; return the number of checked customers, 0 if another scheduler has checked it."""
        until = context.monotonic() + self.budget_seconds
        with context.database.read() as connection:
            newest = sums.newest(connection)
            size = sums.count_customers(connection)
        state = context.database.run(
            lambda c: sum_rounds.claim_round(c, context.clock(c), self.every_seconds * 0.9, newest)
        )
        if state is None:
            return 0
        changed = self._changed(context, state)
        for piece in pieces(changed):
            if context.monotonic() < until:
                self._check_piece(context, piece)
        for piece in pieces(self._changed_payees(context, state), PAYEE_PIECE):
            if context.monotonic() < until:
                _check_payees(context, piece)
        return len(changed) + self._continue_round(context, state, newest, size, until)

    def _changed(self, context: Context, state: RowMapping) -> list[str]:
        """Return customers that changed since the last check, and those for which a sum does not hold."""
        with context.database.read() as connection:
            seen = state["seen_transaction"], state["seen_event"]
            recent = sums.changed_since(connection, *seen, CHANGED_MAX)
            bad = {row["customer_id"] for row in sum_rounds.open_violations(connection, STORED_MAX)}
        return [*sorted(bad), *sorted(recent - bad)]

    def _changed_payees(self, context: Context, state: RowMapping) -> list[str]:
        """Return payees that changed since the last check, and those for which a sum does not hold."""
        with context.database.read() as connection:
            recent = payee_sums.payees_changed_since(connection, state["seen_transaction"], CHANGED_MAX)
            bad = {row["customer_id"] for row in sum_rounds.open_violations(connection, STORED_MAX)}
        accounts = payee_account("")
        of_payees = {owner.removeprefix(accounts) for owner in bad if owner.startswith(accounts)}
        return [*sorted(of_payees), *sorted(recent - of_payees)]

    def _continue_round(
        self, context: Context, state: RowMapping, newest: tuple[int, int], size: int, until: float
    ) -> int:
        position, done = state["position"], 0
        part = max(PIECE, round(size * self.every_seconds / ROUND_SECONDS))
        ended = False
        while done < part and not ended and (not done or context.monotonic() < until):
            with context.database.read() as connection:
                ids = sums.customers_after(connection, position, PIECE)
            self._check_piece(context, ids)
            done += len(ids)
            position, ended = ids[-1] if ids else position, len(ids) < PIECE
        with context.database.read() as connection:
            now = context.clock(connection)
        customers = state["customers"] + done
        values = {"position": position, "customers": customers, "seen_transaction": newest[0], "seen_event": newest[1]}
        if ended:
            for piece in payee_pieces(context.database):
                _check_payees(context, piece)
            finished = {"round_began_at": state["began_at"], "round_ended_at": now, "round_customers": customers}
            values |= {"position": None, "customers": 0, "began_at": now, **finished}
        context.database.run(lambda c: sum_rounds.write_round(c, state, values))
        return done

    def _check_piece(self, context: Context, ids: Sequence[str]) -> None:
        _write(context, ids, confirmed(context.database, find_violations(context.database, ids)))


def _check_payees(context: Context, payee_ids: Sequence[str]) -> None:
    found = confirmed_of_payees(context.database, payee_ids, AGAIN_SECONDS)
    _write(context, [payee_account(payee_id) for payee_id in payee_ids], found)


def _write(context: Context, owners: Sequence[str], found: Sequence[Violation]) -> None:
    """Store what a check of these customers, or of these accounts of payees, found, and alert of what is new."""
    with context.database.read() as connection:
        if not found and not sum_rounds.has_open(connection, owners):
            return
    new = context.database.run(
        lambda c: sum_rounds.write_violations(c, owners, found, context.clock(c), most=STORED_MAX)
    )
    if new:
        _alarm(new)


def _alarm(new: Sequence[Violation]) -> None:
    named = "; ".join(f"{v.sum} of {v.subject}: {v.stored} {v.unit} instead of {v.expected}" for v in new[:NAMED_MAX])
    more = f"; and {len(new) - NAMED_MAX} more" if len(new) > NAMED_MAX else ""
    raise_alarm(log, Alarm.SUMS_DIFFER, "sums that must hold do not: %s%s", named, more)

"""Read the balance of each processor account, notice a shortfall and its end, and let work go on after a top-up.

Neither refunds nor payouts need the balance: an account whose balance cannot be read is only shown as unknown.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from functools import partial

from sqlalchemy import Connection

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.domain.decision import Event
from refund_worker.domain.processor_replies import BalanceRead
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.payment_facts import reading_slot
from refund_worker.engine.refunds.safe_call import call_safely
from refund_worker.engine.views.funds import needed_minor, needs_of_accounts, shortfall_minor
from refund_worker.engine.views.money_format import money
from refund_worker.store import funds, timeline
from refund_worker.store.database import after_commit
from refund_worker.store.funds import Fund

log = logging.getLogger(__name__)

FUNDS_SHORT, FUNDS_SUFFICE = "funds_short", "funds_suffice"
PROBLEM_LENGTH_MAX = 500


def low_balance_codes(context: Context, processor: str) -> Collection[str]:
    """Return the codes with which this processor says that our balance is too low."""
    capabilities = context.accounts.capabilities_of(processor)
    return capabilities.low_balance_codes if capabilities is not None else ()


def low_balance_codes_of_payouts(context: Context, processor: str) -> Collection[str]:
    """Return the codes with which this processor says of a payout that our balance is too low."""
    account = context.accounts.get(processor)
    payouts = account.entry.payouts if account is not None else None
    return payouts.capabilities.low_balance_codes if payouts is not None else ()


def read_balance(context: Context, processor: str) -> bool:
    """Read the balance of one account and store it; return True if it could be read.

    Refunds and payouts that wait for money go on if it is there now. A shortfall that begins raises an alarm, once.
    """
    adapter = context.processors.get(processor)
    if adapter is None or not adapter.reads_balance:
        return False
    with context.database.read() as connection:
        began = context.clock(connection)
    (answer,) = context.run(_ask(context, processor))
    if not isinstance(answer, BalanceRead):
        problem = getattr(answer, "message", None) or getattr(answer, "reason", None) or getattr(answer, "code", "")
        text = str(problem)[:PROBLEM_LENGTH_MAX]
        context.database.run(lambda c: funds.store_failed_reading(c, processor, began, text))
        return False
    ids = context.database.run(partial(_record, context=context, processor=processor, began=began, found=answer))
    if ids:
        log.info("refunds and payouts go on after a top-up", extra={"processor": processor, "count": len(ids)})
        context.publish(list(ids), True)
    return True


async def _ask(context: Context, processor: str) -> list[object]:
    await context.limiter.acquire(reading_slot(processor))
    return [await call_safely(context, processor, "balance", context.processors[processor].balance())]


def _record(
    connection: Connection, *, context: Context, processor: str, began: float, found: BalanceRead
) -> Collection[str]:
    now, codes = context.clock(connection), low_balance_codes(context, processor)
    before = {currency: fund for (_, currency), fund in funds.funds_of(connection, processor).items()}
    needed = {
        currency: needed_minor(by_class)
        for (name, currency), by_class in needs_of_accounts(connection, context).items()
        if name == processor
    }
    after = {
        currency: _fund(found, currency, needed.get(currency, 0), before.get(currency), began)
        for currency in sorted({*found.available, *found.pending})
    }
    funds.store_reading(connection, processor, began, after)
    _note_shortfalls(connection, processor, before, after, needed, now)
    of_payouts = low_balance_codes_of_payouts(context, processor)
    return funds.requeue_funded(connection, processor, began, after, codes, now, payout_codes=of_payouts)


def _fund(found: BalanceRead, currency: str, needed: int, before: Fund | None, began: float) -> Fund:
    available = found.available.get(currency, 0)
    rose = before is None or available > before.available_minor
    since = before.short_since if before is not None and before.short_since is not None else began
    return Fund(
        available_minor=available,
        pending_minor=found.pending.get(currency, 0),
        rose_at=began if rose or before is None else before.rose_at,
        short_since=since if shortfall_minor(needed, available) else None,
    )


def _note_shortfalls(
    connection: Connection,
    processor: str,
    before: Mapping[str, Fund],
    after: Mapping[str, Fund],
    needed: Mapping[str, int],
    now: float,
) -> None:
    """Record each shortfall that began or ended, and raise an alarm of each that began."""
    for currency, fund in after.items():
        was_short = currency in before and before[currency].short_since is not None
        is_short = fund.short_since is not None
        if was_short == is_short:
            continue
        need, there = money(needed.get(currency, 0), currency), money(fund.available_minor, currency)
        reason = f"refunds and payouts need {need} at {processor}, and {there} are available"
        detail: dict[str, str | int | None] = {
            "processor": processor,
            "currency": currency,
            "needed_minor": needed.get(currency, 0),
            "available_minor": fund.available_minor,
        }
        kind = FUNDS_SHORT if is_short else FUNDS_SUFFICE
        event = Event(kind, "refund-worker", reason=reason, detail=detail, alarm=is_short)
        timeline.insert_events(connection, [(None, event)], now)
        after_commit(connection, partial(_report, processor, currency, reason, is_short))


def _report(processor: str, currency: str, reason: str, is_short: bool) -> None:
    if is_short:
        raise_alarm(log, Alarm.FUNDS_SHORT, "%s", reason, processor=processor, currency=currency)
    else:
        log.info("funds suffice again: %s", reason, extra={"processor": processor, "currency": currency})

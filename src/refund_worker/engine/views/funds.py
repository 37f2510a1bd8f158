"""The money at each processor account against what refunds and payouts need of it, as people and programs see it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection

from refund_worker.api_schema import Funds, FundsState
from refund_worker.engine.context import Context
from refund_worker.engine.views.money_format import money
from refund_worker.store import funds
from refund_worker.store.funds import AWAITING, NEEDS, Fund, Reading
from refund_worker.store.payouts.needs import payout_needs
from refund_worker.times import iso

# A balance that was last read this many intervals ago says nothing about the present.
STALE_READINGS = 3
STALE_SECONDS_MIN = 60.0
_NOTHING: Mapping[str, int] = dict.fromkeys(NEEDS, 0)


def needed_minor(by_class: Mapping[str, int]) -> int:
    """Return the sum that is needed now. A refund or payout that awaits approval needs nothing yet."""
    return sum(minor for name, minor in by_class.items() if name != AWAITING)


def shortfall_minor(needed: int, available: int) -> int:
    """Return the missing sum; a debt of the account is missing too. Without a need nothing is missing."""
    return max(0, needed - available) if needed else 0


def stale_seconds(poll_seconds: float) -> float:
    """Return the age in seconds from which a balance counts as unknown."""
    return max(STALE_SECONDS_MIN, STALE_READINGS * poll_seconds)


def needs_of_accounts(connection: Connection, context: Context) -> dict[tuple[str, str], Mapping[str, int]]:
    """Return, by (processor, currency), what unfinished refunds, payouts and payout runs need, for each of `NEEDS`.

    A person who pays from elsewhere needs nothing of an account.
    """
    accounts = context.accounts.items()
    routes = {name: its.entry.payouts.capabilities for name, its in accounts if its.entry.payouts is not None}
    of_refunds = frozenset(code for _, its in accounts for code in its.capabilities.low_balance_codes)
    of_payouts = frozenset(code for its in routes.values() for code in its.low_balance_codes)
    no_refunds = {name for name, its in accounts if not its.capabilities.creates_refunds}
    no_payouts = {name for name, its in routes.items() if not its.moves_money}
    found: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    for needs, left_out in (
        (funds.needs(connection, of_refunds), no_refunds),
        (payout_needs(connection, of_payouts), no_payouts),
    ):
        for key, by_class in needs.items():
            if key[0] not in left_out:
                found[key].update(by_class)
    return dict(found)


def funds_view(connection: Connection, context: Context) -> list[Funds]:
    """Return the funds of each account and currency, by name; those that nothing is known of and needed are left out.

    An unknown amount is None, never zero.
    """
    now, needed = context.clock(connection), needs_of_accounts(connection, context)
    known, read = funds.funds_of(connection), funds.readings(connection)
    return [
        _view(key, known.get(key), read.get(key[0]), needed.get(key, _NOTHING), now, context.policy.poll_seconds)
        for key in sorted({*known, *needed})
    ]


def _view(
    key: tuple[str, str],
    fund: Fund | None,
    reading: Reading | None,
    by_class: Mapping[str, int],
    now: float,
    poll_seconds: float,
) -> Funds:
    state = _state(fund, reading, now, poll_seconds)
    need, awaiting = needed_minor(by_class), by_class[AWAITING]
    available = fund.available_minor if fund is not None and state == "current" else None
    short = None if available is None else shortfall_minor(need, available)
    if_approved = None if available is None else shortfall_minor(need + awaiting, available)
    since = fund.short_since if fund is not None and fund.short_since is not None else now
    covered = None
    if short and fund is not None:
        covered = fund.available_minor + fund.pending_minor >= need
    return {
        "processor_account": key[0],
        "currency": key[1],
        "state": state,
        "available_minor": fund.available_minor if fund is not None else None,
        "pending_minor": fund.pending_minor if fund is not None else None,
        "read_at": iso(reading.read_at) if reading is not None and reading.read_at is not None else None,
        "problem": reading.problem if reading is not None else None,
        "queued_minor": by_class[funds.QUEUED],
        "approved_minor": by_class[funds.APPROVED],
        "blocked_minor": by_class[funds.BLOCKED],
        "awaiting_approval_minor": awaiting,
        "needed_minor": need,
        "shortfall_minor": short,
        "shortfall_date": iso(since)[:10] if short else None,
        "covered_by_pending": covered,
        "shortfall_if_approved_minor": if_approved,
    }


def _state(fund: Fund | None, reading: Reading | None, now: float, poll_seconds: float) -> FundsState:
    if reading is None:
        return "not_read"
    if reading.read_at is None:
        return "unreadable"
    if not -STALE_SECONDS_MIN <= now - reading.read_at <= stale_seconds(poll_seconds):
        return "stale"
    return "current" if fund is not None else "no_balance"


def shortfall_sentence(fund: Funds) -> str | None:
    """Return a sentence if money is missing at an account, or would be after all approvals, else None."""
    account, currency, missing = fund["processor_account"], fund["currency"], fund["shortfall_minor"]
    if missing:
        rest = "what is pending there covers it" if fund["covered_by_pending"] else "top the account up"
        return f"{money(missing, currency)} are missing at {account} since {fund['shortfall_date']}: {rest}"
    if if_approved := fund["shortfall_if_approved_minor"]:
        return f"{money(if_approved, currency)} would be missing at {account} if all that awaits approval were approved"
    return None


def unknown_sentence(fund: Funds) -> str | None:
    """Return why it is unknown whether an account can pay what is needed, or None if it is known or nothing is."""
    needed = fund["needed_minor"] + fund["awaiting_approval_minor"]
    if not needed or fund["state"] == "current":
        return None
    account, currency = fund["processor_account"], fund["currency"]
    why = {
        "stale": f"the balance of {account} was last read at {fund['read_at']}",
        "no_balance": f"{account} has no balance in {currency}",
        "not_read": f"the balance of {account} was not read yet",
    }.get(fund["state"], f"the balance of {account} cannot be read ({fund['problem']})")
    return f"{why}: whether it can pay {money(needed, currency)} is unknown"


def funds_sentence(fund: Funds) -> str | None:
    """Return what a person must know about an account's money, or None if it suffices."""
    return shortfall_sentence(fund) or unknown_sentence(fund)


def shortfalls(found: Iterable[Funds]) -> list[str]:
    """Return one sentence for each account and currency where money is missing, or would be after approvals."""
    return [sentence for fund in found if (sentence := shortfall_sentence(fund))]

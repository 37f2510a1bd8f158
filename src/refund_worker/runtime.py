"""Wire the parts of the program, in this one place: settings in, a context for the engine out.

Each process does this for itself, after the fork.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace

from refund_worker.domain.account_names import PAYOUT
from refund_worker.domain.decision import Policy
from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.domain.payouts.runs import RunSchedule
from refund_worker.domain.processor_replies import Answer
from refund_worker.domain.self_recording import RecordingKeys
from refund_worker.engine.context import Batches, Context, Limiter, NoLimit, Publish, no_publish
from refund_worker.engine.payouts.as_processor import PayoutsAsProcessor
from refund_worker.engine.refunds.limit_usage import limits_of
from refund_worker.engine.views.leg_texts import LegTexts, use_texts
from refund_worker.engine.views.message_file import completed, completed_payouts, read_messages
from refund_worker.engine.views.payout_texts import PayoutTexts, use_payout_texts
from refund_worker.processors.accounts import accounts_of
from refund_worker.sealing import Box
from refund_worker.setting_values import read_amounts, read_expected_days, read_fallback, read_payout_schedule
from refund_worker.settings import Settings
from refund_worker.store.database import Database
from refund_worker.store.installation import installation_id
from refund_worker.store.schema import ensure_schema

RunCalls = Callable[[asyncio.AbstractEventLoop, Awaitable[list[Answer]]], list[Answer]]


def run_to_the_end(loop: asyncio.AbstractEventLoop, calls: Awaitable[list[Answer]]) -> list[Answer]:
    """Run the calls in the loop and return their answers."""
    return loop.run_until_complete(calls)


@dataclass(slots=True)
class Runtime:
    """A process's own database, processors and event loop. Close it at the end, or use it as a context manager."""

    settings: Settings
    database: Database
    context: Context
    _loop: asyncio.AbstractEventLoop
    _owns_database: bool = True

    def close(self) -> None:
        """Close the processors, the event loop and the database, unless others share it."""
        for processor in self.context.processors.values():
            self._loop.run_until_complete(processor.close())
        for route in self.context.routes.values():
            self._loop.run_until_complete(route.close())
        self._loop.close()
        if self._owns_database:
            self.database.close()

    def __enter__(self) -> Runtime:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def build_runtime(
    settings: Settings,
    *,
    publish: Publish = no_publish,
    limiter: Limiter | None = None,
    processors: bool = True,
    run_calls: RunCalls = run_to_the_end,
    shared: Database | None = None,
) -> Runtime:
    """Build everything that a process needs. Raises `BadSettings`, or `Unavailable` (no database, or not migrated).

    `processors=False` leaves the payment processors out, for entry points that only accept requests. `run_calls` runs
    calls to processors in the event loop. A `shared` database is used instead of one of its own, and stays open.
    """
    use_texts(texts_of(settings))
    use_payout_texts(payout_texts_of(settings))
    accounts = accounts_of(settings)
    database = shared or open_database(settings)
    try:
        ensure_schema(database)
        with database.read() as connection:
            me = installation_id(connection)
    except BaseException:
        if shared is None:
            database.close()
        raise
    loop = asyncio.new_event_loop()
    # Payouts are a processor of refunds too, within this database: they need the context that they are a part of.
    made: list[Context] = []
    own = {PAYOUT: PayoutsAsProcessor(lambda: made[0])}
    context = Context(
        database=database,
        accounts=accounts,
        processors=accounts.make_processors(settings.call_timeout_seconds, own) if processors else {},
        routes=accounts.make_routes(settings.call_timeout_seconds) if processors else {},
        box=Box(settings.destination_keys),
        policy=policy_of(settings),
        batches=batches_of(settings),
        payout_policy=payout_policy_of(settings),
        run_schedule=run_schedule_of(settings),
        limits=limits_of(settings),
        limiter=limiter or NoLimit(),
        run=lambda calls: run_calls(loop, calls),
        publish=lambda refund_ids, bulk: publish(refund_ids, bulk, me),
        installation=me,
        notify=settings.notify_url is not None,
        recording=recording_of(settings),
    )
    made.append(context)
    return Runtime(settings, database, context, loop, _owns_database=shared is None)


def texts_of(settings: Settings) -> LegTexts:
    """Return the texts about refunds for customers and staff. Raises `BadSettings` for an unusable file."""
    messages = completed(read_messages(settings.messages_file)) if settings.messages_file else {}
    return LegTexts(**messages, days=read_expected_days(settings.expected_days))


def payout_texts_of(settings: Settings) -> PayoutTexts:
    """Return the texts about payouts for payees and staff. Raises `BadSettings` for an unusable file."""
    if not settings.messages_file:
        return PayoutTexts()
    return PayoutTexts(**completed_payouts(read_messages(settings.messages_file)))


def open_database(settings: Settings, **pool: int) -> Database:
    """Return the database of the settings; it connects when it is first used. `pool` are sizes of `Database`."""
    return Database(settings.database_url.get_secret_value(), schema=settings.database_schema, **pool)


def policy_of(settings: Settings) -> Policy:
    """Return the durations and choices that decisions depend on, and the rules of each processor."""
    return Policy(
        lease_seconds=settings.lease_seconds,
        key_life_seconds=settings.key_life_seconds,
        quiet_seconds=settings.quiet_seconds,
        retry_base_seconds=settings.retry_base_seconds,
        retry_max_seconds=settings.retry_max_seconds,
        poll_seconds=settings.poll_seconds,
        allocation=settings.allocation,
        fallback=read_fallback(settings.fallback),
        shortfall=settings.shortfall,
        earnings_hold_seconds=settings.earnings_hold_seconds,
        outside_since=settings.outside_since_seconds,
        verify_payments=settings.verify_payments == "on",
        processors=accounts_of(settings).rules,
    )


def payout_policy_of(settings: Settings) -> PayoutPolicy:
    """Return the durations, limits and choices that decisions about payouts depend on."""
    accounts = accounts_of(settings)
    return PayoutPolicy(
        calls=replace(policy_of(settings), processors=accounts.payout_rules),
        routes=accounts.routes,
        cooldown_seconds=settings.payee_cooldown_seconds,
        interval_seconds=settings.payout_interval_seconds,
        minimum_minor=read_amounts(settings.payout_minimum),
        maximum_minor=read_amounts(settings.payout_maximum),
    )


def run_schedule_of(settings: Settings) -> RunSchedule:
    """Return when payout runs are made without a person, and which of them pay at once."""
    every, day = read_payout_schedule(settings.payout_schedule)
    return RunSchedule(every, day, settings.payout_auto_approve_minor)


def recording_of(settings: Settings) -> RecordingKeys | None:
    """Return the keys by which payments record themselves from events, or None if they do not."""
    if settings.payments_from_webhooks == "off" or settings.payments_customer_key is None:
        return None
    credits_key, per_major = settings.payments_credits_key, settings.payments_credits_per_major
    return RecordingKeys(settings.payments_customer_key, credits_key, per_major)


def batches_of(settings: Settings) -> Batches:
    """Return the sizes of batches. A claim is no larger than what the lowest rate allows in a quarter of the lease."""
    rate = accounts_of(settings).lowest_rate
    claim = Batches().claim if rate == 0 else int(rate * settings.lease_seconds / 4)
    return Batches(claim=max(1, min(Batches().claim, claim)))

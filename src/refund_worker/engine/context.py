"""The ports of the engine. `runtime.py` makes them once in each process; a test makes them with other parts."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sqlalchemy import Connection

from refund_worker.domain.decision import Policy
from refund_worker.domain.ids import OWN_ID_RANDOM_BYTES, own_id
from refund_worker.domain.limits import Limits
from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.domain.payouts.runs import RunSchedule
from refund_worker.domain.self_recording import RecordingKeys
from refund_worker.processors.accounts import Accounts, default_accounts
from refund_worker.processors.base import Processor
from refund_worker.processors.payout_routes import PayoutRoute
from refund_worker.sealing import Box
from refund_worker.store import database as store
from refund_worker.store.database import Database


class Limiter(Protocol):
    """One rate limit for each processor account, shared by all workers."""

    async def acquire(self, processor: str) -> None:
        """Wait until one more call may be made."""


class NoLimit:
    """A limiter that lets every call through at once."""

    async def acquire(self, processor: str) -> None:
        """Return at once."""

    async def close(self) -> None:
        """Do nothing: there is no connection to release."""


@dataclass(frozen=True, slots=True)
class Batches:
    """The sizes of batches: refunds for each claim, and requests for each transaction that accepts them.

    Large batches need few transactions, but a lease must outlast its batch.
    """

    claim: int = 50
    intake: int = 250


_counter = itertools.count(int.from_bytes(os.urandom(2), "big"))


def new_id(prefix: str) -> str:
    """Return a new id that sorts by time: prefix, milliseconds, a counter within the process, and 40 random bits."""
    return own_id(prefix, time.time_ns() // 1_000_000, next(_counter), os.urandom(OWN_ID_RANDOM_BYTES))


class Publish(Protocol):
    """Hints workers about due refunds. It may lose a hint, never raises, and never waits for long."""

    def __call__(self, refund_ids: Sequence[str], bulk: bool, installation: str | None = None, /) -> None:
        """Publish these ids as work of `installation`, the id of the database that has them."""


def no_publish(refund_ids: Sequence[str], bulk: bool, installation: str | None = None, /) -> None:
    """Send no hint to workers; the sweep finds due refunds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """The ports of the engine. `run` drives the concurrent calls; `publish` hints workers, and may be lost."""

    database: Database
    accounts: Accounts = field(default_factory=default_accounts)
    # The adapters of the accounts that this process can call, by account.
    processors: Mapping[str, Processor] = field(default_factory=dict)
    # The routes for payouts of these accounts, by account.
    routes: Mapping[str, PayoutRoute] = field(default_factory=dict)
    # Seals the destinations of payees.
    box: Box = field(default_factory=Box)
    policy: Policy = field(default_factory=Policy)
    payout_policy: PayoutPolicy = field(default_factory=PayoutPolicy)
    run_schedule: RunSchedule = field(default_factory=RunSchedule)
    batches: Batches = Batches()
    limits: Limits = field(default_factory=Limits)
    limiter: Limiter = field(default_factory=NoLimit)
    run: Callable[[Awaitable[list[Any]]], list[Any]]
    publish: Callable[[Sequence[str], bool], None] = no_publish
    # The id that the database got when it was made: a broker may bring the messages of another one.
    installation: str = ""
    # Where the metadata of payments names customer and credits, if payments record themselves by their events.
    recording: RecordingKeys | None = None
    # True if changes are stored as notifications for the admin backend. False costs nothing.
    notify: bool = False
    new_id: Callable[[str], str] = new_id
    clock: Callable[[Connection], float] = store.now
    monotonic: Callable[[], float] = time.monotonic

"""The Celery tasks.

Anyone who can write to the broker can send them; a forged message at worst processes a refund earlier than planned.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections.abc import Callable, Mapping
from typing import Any

from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded

from refund_worker.alarms import Alarm, raise_alarm
from refund_worker.condition_log import ConditionLog
from refund_worker.domain.payouts.payout import PayoutRequest
from refund_worker.domain.persons import CELERY
from refund_worker.domain.processor_replies import Answer
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.context import Context
from refund_worker.engine.intake.dead_letters import keep_refused
from refund_worker.engine.intake.payee_schemas import PayoutSchema
from refund_worker.engine.intake.schemas import RefundSchema, checked_client, parse_schema
from refund_worker.engine.jobs.advance import advance_due
from refund_worker.engine.payouts.accept import request_payouts
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.errors import InvalidRequest, RefundWorkerError, Refusal, Unavailable
from refund_worker.redaction import to_redacted
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import PREFIX, Settings
from refund_worker.stop_signals import SharedFlag
from refund_worker.store.database import Database
from refund_worker.tracing import span
from refund_worker.worker.limiter import make_limiter
from refund_worker.worker.publisher import make_publisher
from refund_worker.worker.queues import (
    ADVANCE,
    ADVANCE_DUE,
    INSTALLATION,
    REQUEST_PAYOUT,
    REQUEST_REFUND,
    RETRIES_MAX,
)
from refund_worker.worker.soft_limit import run_within_limit, soft_limit

log = logging.getLogger(__name__)

IDS_MAX = 500
ID_LENGTH_MAX = 200
# Seconds after which no new round begins, so that it ends well before the soft limit. The remaining refunds are due and
# come again.
NO_ROUND_AFTER_SECONDS = 20.0
# The same from the signal to stop on. A refund that was just claimed needs a few rounds to its answer.
NO_ROUND_AFTER_STOP_SECONDS = 2.0
# A request from the broker is stored nowhere else yet: while the database is down, or if it belongs to another
# installation, it goes back to the queue, at this pace in seconds.
REQUEST_AGAIN_SECONDS = 2.0
# The alarm about messages of another installation comes from each process at most once in this time.
TELL_SECONDS = 60.0
CLIENT_DEFAULT = "celery"
# Clients whose idempotency keys belong to the console's forms and to the command line: no message may use them.
RESERVED_CLIENTS = frozenset({"console", "cli"})


class WorkerRuntime:
    """The runtime of one process or thread, made when it is first used and again after a failure."""

    def __init__(self, settings: Settings, shared: Database | None = None) -> None:
        """Use `shared` as the database, which stays open, or open one."""
        self.settings = settings
        self._shared = shared
        self._runtime: Runtime | None = None
        self._limiter = make_limiter(settings)
        self._told_at = -math.inf
        self.conditions = ConditionLog(log)
        self.stopping = SharedFlag()

    def open(self) -> Context:
        """Return the context; make the runtime if needed. Raises `Unavailable` while the database cannot be used."""
        if self._runtime is None:
            limiter = make_limiter(self.settings)
            self._runtime = build_runtime(
                self.settings,
                publish=make_publisher(self.settings),
                limiter=limiter,
                run_calls=run_within_limit,
                shared=self._shared,
            )
            self._limiter = limiter
        return self._runtime.context

    def is_of_another(self, owner: str | None) -> bool:
        """Return True, with an alarm, if a message belongs to another installation. Without an `owner` it does not.

        Raises `Unavailable` while the database cannot be used.
        """
        if owner is None or owner == self.open().installation:
            return False
        if time.monotonic() - self._told_at >= TELL_SECONDS:
            self._told_at = time.monotonic()
            raise_alarm(
                log,
                Alarm.ANOTHER_INSTALLATION,
                "the queue has messages of another installation (%s), which this one leaves alone: "
                "set %sBROKER_PREFIX in one of them",
                owner,
                PREFIX,
            )
        return True

    def close(self) -> None:
        """Close the runtime; calls that still wait (after an interruption) never begin."""
        runtime, self._runtime = self._runtime, None
        if runtime is not None:
            runtime.context.run(self._end_all())
            runtime.close()

    async def _end_all(self) -> list[Answer]:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._limiter.close()
        return []


# Accepts the request of a message and returns the answer, which may be a `Refusal`.
Accept = Callable[[WorkerRuntime, Mapping[str, Any]], object]


def add_tasks(app: Celery, worker_runtime: WorkerRuntime) -> None:
    """Add the tasks of the contract to this application."""
    # Not shared: the tasks belong to this application and its runtime, not to every application of the process.
    options = {
        "max_retries": RETRIES_MAX,
        "default_retry_delay": 0,
        "ignore_result": True,
        "shared": False,
        "bind": True,
    }

    @app.task(name=ADVANCE, **options)
    def advance_ids(task: Any, ids: object = None, traceparent: object = None) -> None:
        wanted = wanted_ids(ids)
        if wanted:
            with span("process refunds", "consumer", traceparent):
                _process(worker_runtime, wanted, bulk=None, owner=task.request.get(INSTALLATION))

    @app.task(name=ADVANCE_DUE, **options)
    def advance_what_is_due(task: Any, bulk: object = None) -> None:
        bulk = bulk if isinstance(bulk, bool) else None
        _process(worker_runtime, None, bulk=bulk, owner=task.request.get(INSTALLATION))

    @app.task(name=REQUEST_REFUND, **options)
    def request_refund(task: Any, *args: object, **fields: Any) -> None:
        _request(worker_runtime, fields, _accept_refund, unnamed=len(args), owner=task.request.get(INSTALLATION))

    @app.task(name=REQUEST_PAYOUT, **options)
    def request_payout(task: Any, *args: object, **fields: Any) -> None:
        _request(worker_runtime, fields, _accept_payout, unnamed=len(args), owner=task.request.get(INSTALLATION))


def wanted_ids(ids: object) -> list[str]:
    """Return the ids in a message, each once. Other values are left out, and ids beyond `IDS_MAX`."""
    if not isinstance(ids, list):
        return []
    strings = (each for each in ids[:IDS_MAX] if isinstance(each, str) and 0 < len(each) <= ID_LENGTH_MAX)
    return list(dict.fromkeys(each for each in strings if each.isascii() and each.isprintable()))


def _process(worker_runtime: WorkerRuntime, ids: list[str] | None, *, bulk: bool | None, owner: str | None) -> None:
    ends_at = time.monotonic() + NO_ROUND_AFTER_SECONDS
    try:
        with soft_limit():
            if worker_runtime.is_of_another(owner):
                return  # only a hint: the sweep of its own scheduler finds the refunds
            context = worker_runtime.open()
            while time.monotonic() < ends_at and advance_due(context, ids, bulk=bulk):
                if worker_runtime.stopping.is_set():
                    ends_at = min(ends_at, time.monotonic() + NO_ROUND_AFTER_STOP_SECONDS)
    except Unavailable as error:
        worker_runtime.conditions.hear(error.explained, f"not possible now, the sweep tries again: {error.explained}")
    except SoftTimeLimitExceeded:
        raise_alarm(
            log,
            Alarm.ROUND_INTERRUPTED,
            "a round took too long and was interrupted; its refunds come again when their lease ends",
        )
        worker_runtime.close()


def _request(
    worker_runtime: WorkerRuntime, fields: Mapping[str, Any], accept: Accept, *, unnamed: int, owner: str | None
) -> None:
    try:
        with soft_limit():
            _accept(worker_runtime, fields, accept, unnamed, owner)
    except Unavailable as error:
        worker_runtime.conditions.hear(error.explained, f"a request waits in the broker: {error.explained}")
        time.sleep(REQUEST_AGAIN_SECONDS)
        raise Reject(error.message, requeue=True) from None
    except SoftTimeLimitExceeded:
        worker_runtime.close()
        raise Reject("it took too long and may not be stored: it is tried again", requeue=True) from None
    except RefundWorkerError as refusal:
        _refused(worker_runtime, fields, refusal)


def _accept(
    worker_runtime: WorkerRuntime, fields: Mapping[str, Any], accept: Accept, unnamed: int, owner: str | None
) -> None:
    if worker_runtime.is_of_another(owner):
        # At irregular times: otherwise the same worker may be the first to take it each time.
        time.sleep(REQUEST_AGAIN_SECONDS * random.uniform(0.1, 1.0))  # noqa: S311
        raise Reject("it belongs to another installation", requeue=True)
    if unnamed:
        raise InvalidRequest("a request has named fields only: send no positional arguments")
    answer = accept(worker_runtime, fields)
    if isinstance(answer, Refusal):
        raise answer


def _accept_refund(worker_runtime: WorkerRuntime, fields: Mapping[str, Any]) -> object:
    request = parsed_request(fields, worker_runtime.settings.declared_clients)
    return request_refunds(worker_runtime.open(), [request])[0]


def _accept_payout(worker_runtime: WorkerRuntime, fields: Mapping[str, Any]) -> object:
    request = parsed_payout_request(fields, worker_runtime.settings.declared_clients)
    return request_payouts(worker_runtime.open(), [request])[0]


def parsed_request(fields: Mapping[str, Any], declared: frozenset[str] | None = None) -> RefundRequest:
    """Return the refund that a message asks for. Raises `InvalidRequest` naming the field."""
    body, key, client, actor = _body_and_sender(fields, declared)
    return parse_schema(RefundSchema, body).request(idempotency_key=key, client=client, actor=actor)


def parsed_payout_request(fields: Mapping[str, Any], declared: frozenset[str] | None = None) -> PayoutRequest:
    """Return the payout that a message asks for. Raises `InvalidRequest` naming the field."""
    body, key, client, actor = _body_and_sender(fields, declared)
    return parse_schema(PayoutSchema, body).request(idempotency_key=key, client=client, actor=actor)


def _body_and_sender(
    fields: Mapping[str, Any], declared: frozenset[str] | None
) -> tuple[dict[str, Any], str, str, str]:
    """Return the body of a message's request, and its key, client and actor. Raises `InvalidRequest`.

    Only write access to the broker is authenticated here. So the actor is the entry point itself, whatever client a
    message names. Only if the clients are `declared` is each an actor of its own: then no message can invent another
    one.
    """
    body = {name: value for name, value in fields.items() if name not in ("idempotency_key", "client")}
    key, client = fields.get("idempotency_key"), fields.get("client", CLIENT_DEFAULT)
    if not isinstance(key, str):
        raise InvalidRequest("the idempotency key is missing", field="idempotency_key")
    client = checked_client(client)
    if client in RESERVED_CLIENTS and client not in (declared or ()):
        raise InvalidRequest(
            f"client {client} belongs to another entry point: name the backend that asks", field="client"
        )
    if declared is not None and client not in declared:
        named = to_redacted(client)
        raise InvalidRequest(f"client {named} is not in REFUND_WORKER_CELERY_CLIENTS: declare it there", field="client")
    actor = CELERY if declared is None else f"{CELERY}:{client}"
    return body, key, client, actor


def _refused(worker_runtime: WorkerRuntime, fields: Mapping[str, Any], refusal: RefundWorkerError) -> None:
    key, client = (to_redacted(str(fields.get(name, "")))[:ID_LENGTH_MAX] for name in ("idempotency_key", "client"))
    log.warning("a request from the broker is refused: %s (client %r, key %r)", refusal.code, client, key)
    try:
        keep_refused(worker_runtime.open(), CELERY, {"client": CLIENT_DEFAULT} | dict(fields), refusal)
    except Unavailable as error:
        log.warning("the refusal could not be kept for operators: %s", error.explained)

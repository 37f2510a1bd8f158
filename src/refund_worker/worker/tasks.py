"""The Celery tasks. Whoever can write to the broker can send them: a forged wake-up is at worst an early look."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any

from celery import Celery
from celery.exceptions import Reject, SoftTimeLimitExceeded

from refund_worker.domain.persons import CELERY
from refund_worker.domain.processor_replies import Answer
from refund_worker.domain.refund import RefundRequest
from refund_worker.engine.context import Context
from refund_worker.engine.intake.dead_letters import keep_refused
from refund_worker.engine.intake.schemas import RefundSchema, checked_client, parse_schema
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.engine.refunds.process import process_due
from refund_worker.errors import InvalidRequest, RefundWorkerError, Refusal, Unavailable
from refund_worker.redaction import to_redacted
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import Settings
from refund_worker.worker.limiter import make_limiter
from refund_worker.worker.publisher import make_publisher
from refund_worker.worker.queues import ADVANCE, ADVANCE_DUE, REQUEST_REFUND, RETRIES_MAX

log = logging.getLogger("refund_worker.tasks")

IDS_MAX = 500
ID_LENGTH_MAX = 200
# A round that begins late still ends well before the soft limit; what is left is due and comes again.
NO_ROUND_AFTER_SECONDS = 20.0
# A request from the broker is nowhere else yet: while the database is away it goes back, at this pace.
REQUEST_AGAIN_SECONDS = 2.0
CLIENT_DEFAULT = "celery"
# Whose idempotency keys are the console's forms' and the command line's: no message takes one of them.
OTHER_DOORS = frozenset({"console", "cli"})


class WorkerRuntime:
    """A process's (or a thread's) own runtime, made when first used, and again where that did not succeed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._runtime: Runtime | None = None
        self._limiter = make_limiter(settings)

    def open(self) -> Context:
        """The context. Raises `Unavailable` while the database can't be used."""
        if self._runtime is None:
            limiter = make_limiter(self.settings)
            self._runtime = build_runtime(
                self.settings, wake=make_publisher(self.settings), limiter=limiter, interrupts=(SoftTimeLimitExceeded,)
            )
            self._limiter = limiter
        return self._runtime.context

    def close(self) -> None:
        """End it; calls that still waited (after an interruption) never begin."""
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


def add_tasks(app: Celery, workplace: WorkerRuntime) -> None:
    """The three tasks of the contract, on this application."""
    # Not shared: they belong to this application and its workplace, not to every application of the process.
    options = {"max_retries": RETRIES_MAX, "default_retry_delay": 0, "ignore_result": True, "shared": False}

    @app.task(name=ADVANCE, **options)
    def advance_ids(ids: object = None) -> None:
        wanted = wanted_ids(ids)
        if wanted:
            _look(workplace, wanted, bulk=None)

    @app.task(name=ADVANCE_DUE, **options)
    def advance_due(bulk: object = None) -> None:
        _look(workplace, None, bulk=bulk if isinstance(bulk, bool) else None)

    @app.task(name=REQUEST_REFUND, **options)
    def request_refund(*args: object, **fields: Any) -> None:
        _request(workplace, fields, unnamed=len(args))


def wanted_ids(ids: object) -> list[str]:
    """The ids among what a message holds, each once; anything else is left out, and what is too much as well."""
    if not isinstance(ids, list):
        return []
    strings = (each for each in ids[:IDS_MAX] if isinstance(each, str) and 0 < len(each) <= ID_LENGTH_MAX)
    return list(dict.fromkeys(each for each in strings if each.isascii() and each.isprintable()))


def _look(workplace: WorkerRuntime, ids: list[str] | None, *, bulk: bool | None) -> None:
    began = time.monotonic()
    try:
        context = workplace.open()
        while time.monotonic() - began < NO_ROUND_AFTER_SECONDS and process_due(context, ids, bulk=bulk):
            pass
    except Unavailable as error:
        log.warning("not now, the sweep comes back to it: %s", error.message)
    except SoftTimeLimitExceeded:
        log.error("alarm: a round took too long and was broken off; its refunds come again when their lease ends")
        workplace.close()


def _request(workplace: WorkerRuntime, fields: Mapping[str, Any], *, unnamed: int) -> None:
    try:
        if unnamed:
            raise InvalidRequest("a request has named fields only")
        request = parsed_request(fields, workplace.settings.declared_clients)
        answer = request_refunds(workplace.open(), [request])[0]
        if isinstance(answer, Refusal):
            raise answer
    except Unavailable as error:
        log.warning("a request waits in the broker: %s", error.message)
        time.sleep(REQUEST_AGAIN_SECONDS)
        raise Reject(error.message, requeue=True) from None
    except RefundWorkerError as refusal:
        _refused(workplace, fields, refusal)


def parsed_request(fields: Mapping[str, Any], declared: frozenset[str] | None = None) -> RefundRequest:
    """The request that a message asks for. Raises `InvalidRequest` naming the field.

    Nobody is authenticated here but whoever may write to the broker: the door itself asks, whatever client a message
    names. Only where the clients are `declared` does each ask for itself: then no message can make up another one.
    """
    body = {name: value for name, value in fields.items() if name not in ("idempotency_key", "client")}
    key, client = fields.get("idempotency_key"), fields.get("client", CLIENT_DEFAULT)
    if not isinstance(key, str):
        raise InvalidRequest("the idempotency key is missing", field="idempotency_key")
    client = checked_client(client)
    if client in OTHER_DOORS and client not in (declared or ()):
        raise InvalidRequest(f"client {client} is another door's own: name the backend that asks", field="client")
    if declared is not None and client not in declared:
        named = to_redacted(client)
        raise InvalidRequest(f"client {named} is not in REFUND_WORKER_CELERY_CLIENTS: declare it there", field="client")
    actor = CELERY if declared is None else f"{CELERY}:{client}"
    return parse_schema(RefundSchema, body).request(idempotency_key=key, client=client, actor=actor)


def _refused(workplace: WorkerRuntime, fields: Mapping[str, Any], refusal: RefundWorkerError) -> None:
    key, client = (to_redacted(str(fields.get(name, "")))[:ID_LENGTH_MAX] for name in ("idempotency_key", "client"))
    log.warning("a request from the broker is refused: %s (client %r, key %r)", refusal.code, client, key)
    try:
        keep_refused(workplace.open(), CELERY, {"client": CLIENT_DEFAULT} | dict(fields), refusal)
    except Unavailable as error:
        log.warning("the refusal could not be kept for operators: %s", error.message)

"""Webhook events from processors: verified on the raw body, stored once, answered.

A stored event is a hint. The worker asks the processor later what happened.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from sqlalchemy import Connection
from starlette.concurrency import run_in_threadpool

from refund_worker.alarms import Condition, warn_of
from refund_worker.domain.account_names import connected_name
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.transfer_events import shown_processor
from refund_worker.errors import NotFound
from refund_worker.metrics import WEBHOOKS_REFUSED, WEBHOOKS_STORED, count
from refund_worker.processors import registry
from refund_worker.processors.accounts import SHORT_FORM, Account
from refund_worker.processors.base import InvalidEvent, Webhooks
from refund_worker.store import inbox
from refund_worker.web.auth import WEBHOOKS
from refund_worker.web.dependencies import TheAppState, TheContext
from refund_worker.web.openapi import webhook_document, webhook_of_account_document
from refund_worker.web.problems import BadSignature
from refund_worker.web.request_body import BODY_BYTES_MAX, limited_body

log = logging.getLogger(__name__)

WARN_SECONDS = 60.0
_warned_at: dict[str, float] = {}
_ANY = webhook_of_account_document()

Answer = Callable[[Request, TheAppState], Awaitable[Response]]


def make_router() -> APIRouter:
    """Return the routes `/webhooks/ACCOUNT`: one for any account, and one for the account of the short form.

    The second is the same, and is described with the header and the events of its processor.
    """
    router = APIRouter(tags=["webhooks"])
    entry = registry.find_entry(SHORT_FORM)
    if entry is not None and entry.webhooks is not None:
        _add_route(router, entry.name, entry.webhooks)
    router.add_api_route(
        WEBHOOKS + "{account}",
        take_event,
        methods=["POST"],
        openapi_extra=_ANY.extra,
        responses=_ANY.responses,
    )
    router.add_api_route(WEBHOOKS + "{account}", answer_challenge, methods=["GET"], include_in_schema=False)
    return router


def _add_route(router: APIRouter, name: str, webhooks: Webhooks) -> None:
    described = webhook_document(name, webhooks)

    async def take_named_event(request: Request, state: TheAppState) -> Response:
        """Store an event and answer; the same event again is answered and not stored."""
        return await take_event(name, request, state)

    router.add_api_route(
        WEBHOOKS + name,
        take_named_event,
        methods=["POST"],
        name=f"take_{name}_event",
        openapi_extra=described.extra,
        responses=described.responses,
    )


async def take_event(account: str, request: Request, state: TheAppState) -> Response:
    """Store the events of a request and answer; the same event again is answered and not stored."""
    its, webhooks = _with_webhooks(state.context, account)
    headers = _headers_sent_once(request)
    async with limited_body(request, BODY_BYTES_MAX) as raw:
        body = bytes(raw)
        try:
            # In a thread: some processors are asked whether an event is theirs.
            await run_in_threadpool(_take, state.context, its, webhooks, headers, body)
        except InvalidEvent as error:
            _note_refused(account, error)
            raise BadSignature(str(error)) from None
    return JSONResponse({"received": True}) if webhooks.answer is None else PlainTextResponse(webhooks.answer)


def answer_challenge(account: str, request: Request, context: TheContext) -> Response:
    """Answer the request by which some processors check the address of a webhook."""
    its, webhooks = _with_webhooks(context, account)
    answer = webhooks.challenge(its.settings, dict(request.query_params))
    if answer is None:
        raise NotFound(f"{account} does not check the address of its webhooks this way")
    return PlainTextResponse(answer)


def _with_webhooks(context: Context, name: str) -> tuple[Account, Webhooks]:
    account = context.accounts.get(name)
    if account is None or account.entry.webhooks is None:
        raise NotFound("no account of this name takes webhooks here")
    return account, account.entry.webhooks


def _take(context: Context, account: Account, webhooks: Webhooks, headers: Mapping[str, str], body: bytes) -> None:
    webhooks.verify_event(account.settings, headers, body, time.time())
    events = [(*webhooks.event_name(part), part) for part in webhooks.split(body)]
    for event_id, kind, part in events:
        connected = webhooks.connected_account(part)
        whose = account.name if connected is None else connected_name(account.name, connected)
        if _store(context, whose, event_id, kind, part):
            count(WEBHOOKS_STORED, account.name)
            shown = shown_processor(context, whose, kind, part.decode("utf-8"))
            log.info("stored an event of kind %s", kind, extra={"event_id": event_id, "processor": shown})


def _note_refused(processor: str, error: InvalidEvent) -> None:
    """Count an event without a valid signature, and log a warning at most once a minute: anybody can send these."""
    count(WEBHOOKS_REFUSED, processor, error.fault.value)
    if time.monotonic() - _warned_at.get(processor, -WARN_SECONDS) >= WARN_SECONDS:
        _warned_at[processor] = time.monotonic()
        fields = {"processor": processor, "code": error.fault.value}
        warn_of(log, Condition.WEBHOOKS_REJECTED, "a webhook event is refused: %s", error, **fields)


def _headers_sent_once(request: Request) -> dict[str, str]:
    """Return the headers by lower-case name. One that was sent twice is ambiguous, and so as good as missing."""
    pairs = request.headers.items()
    times = Counter(name for name, _ in pairs)
    return {name: value for name, value in pairs if times[name] == 1}


def _store(context: Context, processor: str, event_id: str, kind: str, body: bytes) -> bool:
    def work(connection: Connection) -> bool:
        now = context.clock(connection)
        return inbox.insert_event(connection, processor, event_id, kind, body.decode("utf-8"), now)

    return context.database.run(work)

"""A local server that behaves like Adyen's Checkout API for refunds, and sends its webhooks. It can misbehave.

`python -m tests.processors.adyen.server --port 0` prints its URL and serves until standard input closes. Requests to
`/_control/NAME` drive it from other programs; `CONTROLS` names them.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Self

import aiohttp
from aiohttp import web
from tests.processors.adyen.book import RECEIVED, Answer, Book, Refusal, as_body

from refund_worker.processors.local_server.closing import close_server

API_KEY = "test_adyen_api_key"
SLOW_SECONDS = 1.0
DELIVERY_SECONDS = 10.0
DELIVERIES_MAX = 50
NAMES = {"amount", "capturePspReference", "merchantAccount", "merchantRefundReason", "reference", "splits", "store"}
# Faults of a request whose refund is made all the same, and faults that nothing is made by.
AFTERWARDS = ("reset", "timeout", "cut", "error", "garbage", "proxy", "other_payment")
INSTEAD = ("drop", "503", "704", "429", "blocked", "error_before", "held")


@dataclass
class Hook:
    """Where events are sent: the address, and user and password if it asks for them."""

    url: str
    user: str | None = None
    password: str | None = None


@dataclass
class Exchange:
    """A request for a refund and its answer, for checks against the published description."""

    headers: dict[str, str]
    request: Any
    status: int
    answer: Any


@dataclass
class Held:
    """A request that is executed only later, long after its caller has lost it."""

    path: str
    key: str | None
    body: bytes
    payment: str


@dataclass
class State:
    """The parts of the server that controls change."""

    hook: Hook | None = None
    delay_seconds: float | None = None  # after which a received refund is checked; None: only by a control
    held: list[Held] = field(default_factory=list)
    delivered: list[tuple[int, str]] = field(default_factory=list)  # status and answer of each delivery
    violations: list[str] = field(default_factory=list)
    exchanges: list[Exchange] = field(default_factory=list)


class AdyenServer:
    """`with AdyenServer() as server: … server.url`. `break_next` names the fault of the next request of a payment."""

    def __init__(self, port: int = 0) -> None:
        self.book = Book()
        self.state = State()
        self.faults: defaultdict[str, deque[str]] = defaultdict(deque)
        self.url = ""
        self._port = port
        self._running: set[str] = set()  # keys of requests that are being executed
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._ready = threading.Event()

    def __enter__(self) -> Self:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def __exit__(self, *_exc: object) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def break_next(self, payment: str, fault: str) -> None:
        """Let the next request to refund this payment meet a fault of `AFTERWARDS` or `INSTEAD`, or be "slow"."""
        assert fault in (*AFTERWARDS, *INSTEAD, "slow"), fault
        self.faults[payment].append(fault)

    def land(self) -> int:
        """Execute the held requests now, and return how many there were."""
        held, self.state.held = self.state.held, []
        for each in held:
            self.book.answer(each.path, each.key, each.body, each.payment)
        return len(held)

    def deliver(self, event: dict[str, Any]) -> None:
        """Send an event to the hook, if there is one, again and again until it is accepted."""
        if self.state.hook is not None:
            self._start(self._deliver(event, self.state.hook))

    # --- serving ------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        app.router.add_post("/{version}/payments/{payment}/refunds", self._refund)
        app.router.add_post("/_control/{name}", self._control)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self._port).start())
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        self._loop.run_forever()
        close_server(runner, self._loop)

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        def begin() -> None:
            task = self._loop.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        self._loop.call_soon_threadsafe(begin)

    async def _control(self, request: web.Request) -> web.Response:
        order = json.loads(await request.text() or "{}")
        return web.json_response(CONTROLS[request.match_info["name"]](self, order))

    async def _refund(self, request: web.Request) -> web.StreamResponse:
        if (given := request.headers.get("X-API-Key")) != API_KEY:
            # Adyen does not repeat the key. Another server might, and then it must not reach our records.
            return _answered(Refusal(401, "000", f"HTTP Status Response - Unauthorized: {given}", "security").answer)
        payment, key, body = request.match_info["payment"], request.headers.get("Idempotency-Key"), await request.read()
        self._check(key, body)
        waiting = self.faults[payment]
        fault = waiting.popleft() if waiting else ""
        if fault in INSTEAD:
            return self._refused(request, fault, Held(request.path, key, body, payment))
        if key in self._running:
            return _answered(Refusal(422, "704", "request already processed or in progress").answer, transient=True)
        if fault == "slow":
            await self._execute_slowly(key)
        known = set(self.book.refunds)
        answer = self.book.answer(request.path, key, body, payment)
        for psp in self.book.refunds.keys() - known:
            self._check_later(psp)
        self.state.exchanges.append(Exchange(dict(request.headers), _json(body), *answer))
        echo = key if answer[0] in (201, 422) else None
        return await _broken(request, fault, answer, echo) if fault in AFTERWARDS else _answered(answer, key=echo)

    async def _execute_slowly(self, key: str | None) -> None:
        self._running.add(key or "")
        await asyncio.sleep(0.3)
        self._running.discard(key or "")

    def _refused(self, request: web.Request, fault: str, held: Held) -> web.StreamResponse:
        match fault:
            case "503":
                return _answered(
                    Refusal(503, "703", "idempotency store unavailable", "internal").answer, transient=True
                )
            case "704":
                return _answered(Refusal(422, "704", "request already processed or in progress").answer, transient=True)
            case "429":
                return web.Response(status=429, headers={"Retry-After": "3"}, text="too many requests")
            case "blocked":
                return web.Response(status=403, text="<html><body>blocked by a firewall</body></html>")
            case "error_before":
                return _answered(Refusal(500, "905", "Payment details are not supported", "configuration").answer)
            case "held":
                self.state.held.append(held)
        return _abort(request)

    def _check(self, key: str | None, body: bytes) -> None:
        """Note what Adyen's description forbids."""
        order = _json(body)
        names = set(order) if isinstance(order, dict) else set()
        if not names <= NAMES or not {"amount", "merchantAccount"} <= names:
            self.state.violations.append(f"unknown or missing names: {sorted(names)}")
        if len(str(order.get("reference", "")) if isinstance(order, dict) else "") > 80:
            self.state.violations.append("a reference of more than 80 characters")
        if not key or len(key) > 64:
            self.state.violations.append("a key that is missing or longer than 64 characters")

    def _check_later(self, psp: str) -> None:
        if self.state.delay_seconds is None:
            return

        async def later(seconds: float) -> None:
            await asyncio.sleep(seconds)
            if self.book.refunds[psp].state == RECEIVED:
                self.deliver(self.book.process(psp))

        self._start(later(self.state.delay_seconds))

    async def _deliver(self, event: dict[str, Any], hook: Hook) -> None:
        headers = {"Content-Type": "application/json"}
        auth = None if hook.user is None else aiohttp.BasicAuth(hook.user, hook.password or "")
        timeout = aiohttp.ClientTimeout(total=DELIVERY_SECONDS)
        async with aiohttp.ClientSession(timeout=timeout, auth=auth) as session:
            for tried in range(DELIVERIES_MAX):
                with contextlib.suppress(aiohttp.ClientError, TimeoutError):
                    async with session.post(hook.url, data=as_body(event), headers=headers) as answer:
                        self.state.delivered.append((answer.status, await answer.text()))
                        if answer.status in range(200, 300):
                            return
                await asyncio.sleep(min(0.05 * 2**tried, 5.0))


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        return None


def _answered(answer: Answer, *, key: str | None = None, transient: bool = False) -> web.Response:
    headers = {"transient-error": "true"} if transient else {}
    if key is not None:
        headers["Idempotency-Key"] = key
    return web.json_response(answer[1], status=answer[0], headers=headers)


async def _broken(request: web.Request, fault: str, answer: Answer, key: str | None) -> web.StreamResponse:
    """Spoil the answer to a request that was executed."""
    whole = _answered(answer, key=key)
    match fault:
        case "error":
            return _answered(Refusal(500, "000", "Internal error", "internal").answer)
        case "garbage":
            return web.Response(status=201, text="this is no JSON {")
        case "proxy":
            return web.Response(status=422, text="<html><body>blocked</body></html>")
        case "other_payment":
            return _answered((answer[0], {**answer[1], "paymentPspReference": "ANOTHERPAYMENT00"}), key=key)
        case "timeout":
            await asyncio.sleep(SLOW_SECONDS)
            return whole
        case "cut":
            assert isinstance(whole.body, bytes)
            cut = web.StreamResponse(status=answer[0], headers={"Content-Length": str(len(whole.body))})
            await cut.prepare(request)
            await cut.write(whole.body[: len(whole.body) // 2])
    return _abort(request)


def _abort(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


# --- controls ---------------------------------------------------------------------------------------------------------


def _sent(server: AdyenServer, event: dict[str, Any]) -> dict[str, Any]:
    server.deliver(event)
    return event


def _break_next(server: AdyenServer, order: dict[str, Any]) -> dict[str, Any]:
    server.break_next(order["payment"], order["fault"])
    return {}


def _move_clock(server: AdyenServer, order: dict[str, Any]) -> dict[str, Any]:
    server.book.clock_offset += order["seconds"]
    return {"now": server.book.now()}


def _change_options(server: AdyenServer, order: dict[str, Any]) -> dict[str, Any]:
    for name in ("funds", "live", "key_seconds", "hmac_key", "merchant"):
        if name in order:
            setattr(server.book, name, order[name])
    if "delay_seconds" in order:
        server.state.delay_seconds = order["delay_seconds"]
    return {}


def _set_hook(server: AdyenServer, order: dict[str, Any]) -> dict[str, Any]:
    server.state.hook = Hook(order["url"], order.get("user"), order.get("password"))
    return {}


def _settle(server: AdyenServer, order: dict[str, Any]) -> dict[str, Any]:
    events = server.book.settle()
    for event in events:
        server.deliver(event)
    return {"events": events}


def _repeat(server: AdyenServer, order: dict[str, Any]) -> dict[str, Any]:
    """Send all events so far again, the newest first: Adyen repeats events and keeps no order."""
    for event in reversed(server.book.events):
        server.deliver(event)
    return {"events": len(server.book.events)}


def _described(server: AdyenServer, order: dict[str, Any]) -> dict[str, Any]:
    refunds = [
        {"psp": each.psp, "payment": each.payment.psp, "value": each.value, "state": each.state}
        | {"reference": each.reference}
        for each in server.book.refunds.values()
    ]
    state = server.state
    return {"refunds": refunds, "violations": state.violations, "delivered": len(state.delivered)}


# POST /_control/NAME with JSON; the answer is JSON.
CONTROLS: dict[str, Callable[[AdyenServer, dict[str, Any]], dict[str, Any]]] = {
    "payments": lambda server, order: {"psp": server.book.capture(**order).psp},  # value, currency, captured
    "refunds": lambda server, order: {"psp": server.book.refund(order["payment"], order["value"]).psp},  # by others
    "faults": _break_next,  # payment, fault
    "land": lambda server, order: {"landed": server.land()},
    "process": lambda server, order: _sent(server, server.book.process(order["psp"], reason=order.get("reason"))),
    "settle": _settle,
    "fail": lambda server, order: _sent(server, server.book.fail(order["psp"], order.get("reason", "Refund Failed"))),
    "reverse": lambda server, order: _sent(server, server.book.reverse(order["psp"])),
    "postpone": lambda server, order: _sent(server, server.book.postpone(order["psp"])),
    "repeat": _repeat,
    "webhook": _set_hook,  # url, user, password
    "options": _change_options,  # funds, live, key_seconds, hmac_key, merchant, delay_seconds
    "clock": _move_clock,  # seconds
    "book": _described,
}


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="A local server that behaves like Adyen.")
    parser.add_argument("--port", type=int, default=0)
    with AdyenServer(parser.parse_args().port) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

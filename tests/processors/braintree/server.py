"""A local server that behaves like Braintree, with a book of its own, keys, a clock that moves, and faults.

In a test: `with BraintreeServer() as server: … server.url`. As a program, for the chaos tests and the demo:
`python -m tests.processors.braintree.server --port 0` prints its URL and serves until its standard input closes. Both
take orders under `/_control`, as JSON; `CONTROLS` lists them.

A fault waits for the next request of its kind about one payment: `refund:`, `void:` or `get:` and one of

- `timeout`, `reset`, `cut`, `error`: the request is executed, and its answer is late, lost, cut or a 500
- `drop`: the request is not executed, and the connection breaks
- `late`: the connection breaks, and the request is executed at the order `land`
- `429`, `503`, `in_flight`, `401`: it is not executed
- `garbage`, `proxy`: it is executed, and the answer is no XML, or a page of a proxy
- `other`, `unlisted`: it is executed; the answer describes another transaction, or leaves the list of refunds out
- `refuse-CODE`: it is refused with this validation error
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import hashlib
import hmac
import json
import re
import sys
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from typing import Any, Self
from urllib.parse import urlencode

from aiohttp import web
from tests.processors.braintree import xml_text
from tests.processors.braintree.book import KEY_SECONDS, Book, Declined, Key, Refusal, Transaction

from refund_worker.processors.local_server.closing import close_server

MERCHANT, PUBLIC, PRIVATE = "test_merchant", "test_public_key", "test_private_key"
API_VERSION = "6"
PAGE_SIZE = 3
FORM = "application/x-www-form-urlencoded"
SLOW_SECONDS = 1.0


class BraintreeServer:
    """The server in a thread of its own. `violations` must stay empty: they are faults of our requests."""

    def __init__(self, port: int = 0) -> None:
        self.book = Book()
        self.faults: defaultdict[str, deque[str]] = defaultdict(deque)  # by `payment` and kind of request
        self.requests: list[str] = []
        self.violations: list[str] = []
        self.url = ""
        self._landing: list[Callable[[], object]] = []
        self._port = port
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

    def break_next(self, payment_id: str, fault: str) -> None:
        """Let a fault wait for a request about this payment; without a kind, for its next refund."""
        kind, apart, name = fault.partition(":")
        self.faults[f"{kind if apart else 'refund'} {payment_id}"].append(name if apart else kind)

    def land(self) -> int:
        """Execute the requests that were to come late; return how many."""
        waiting, self._landing = self._landing, []
        for execute in waiting:
            execute()
        return len(waiting)

    def event(self, kind: str, transaction_id: str, *, at: float | None = None, private_key: str = PRIVATE) -> bytes:
        """Return the signed body of a webhook event about a transaction; for a dispute, about one of its payment."""
        transaction = self.book.transactions[transaction_id]
        subject = xml_text.transaction_xml(transaction)
        if kind.startswith("dispute_"):
            subject = xml_text.dispute_xml(f"dp{transaction_id}", kind.removeprefix("dispute_"), transaction)
        return signed_form(xml_text.notification_xml(kind, self.book.now() if at is None else at, subject), private_key)

    # --- serving ------------------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        app = web.Application()
        root = f"/merchants/{MERCHANT}/transactions"
        app.router.add_post(root + "/advanced_search_ids", self._search_ids)
        app.router.add_post(root + "/advanced_search", self._search)
        app.router.add_post(root + "/{id}/refund", self._refund)
        app.router.add_put(root + "/{id}/void", self._void)
        app.router.add_get(root + "/{id}", self._show)
        app.router.add_post("/_control/{name}", self._control)
        runner = web.AppRunner(app, shutdown_timeout=0.1)
        self._loop.run_until_complete(runner.setup())
        self._loop.run_until_complete(web.TCPSite(runner, "127.0.0.1", self._port).start())
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}"
        self._ready.set()
        self._loop.run_forever()
        close_server(runner, self._loop)

    async def _show(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, "get", lambda: self.book.transactions[request.match_info["id"]])

    async def _refund(self, request: web.Request) -> web.StreamResponse:
        document = self._checked("refund", await request.read())
        payment_id = request.match_info["id"]
        amount, order_id = xml_text.text(document, "amount"), xml_text.text(document, "order_id")
        return await self._answer(
            request,
            "refund",
            lambda: self.book.refund(payment_id, amount, order_id),
            key=xml_text.text(document, "api_request_key"),
            asked=("refund", payment_id, amount or "", order_id or ""),
        )

    async def _void(self, request: web.Request) -> web.StreamResponse:
        body = await request.read()
        key = xml_text.text(self._checked("void", body), "api_request_key") if body else None
        payment_id = request.match_info["id"]
        return await self._answer(
            request, "void", lambda: self.book.void(payment_id), key=key, asked=("void", payment_id)
        )

    def _checked(self, name: str, body: bytes) -> Any:
        document, faults = xml_text.read_request(name, body)
        self.violations += faults
        return document

    async def _answer(
        self,
        request: web.Request,
        kind: str,
        execute: Callable[[], Transaction],
        *,
        key: str | None = None,
        asked: tuple[str, ...] = (),
    ) -> web.StreamResponse:
        refused = self._refused_access(request)
        if refused is not None:
            return refused
        payment_id = request.match_info["id"]
        self.requests.append(f"{kind} {payment_id}")
        waiting = self.faults[f"{kind} {payment_id}"]
        fault = waiting.popleft() if waiting else ""
        if (early := await self._early(request, fault)) is not None:
            return early

        def run() -> tuple[int, str]:
            return self._executed(execute, key, asked, fault)

        if fault == "late":
            self._landing.append(run)
            return _abort(request)
        in_flight = self._in_flight(key, asked)
        if in_flight:
            return _xml(422, xml_text.error_xml((in_flight,)))
        await asyncio.sleep(0.01)  # so that requests of one moment meet each other
        status, body = run()
        return await _spoiled(request, fault, status, body)

    async def _early(self, request: web.Request, fault: str) -> web.StreamResponse | None:
        """Return the answer to a request that is not executed, or None."""
        if fault in ("429", "503", "401"):
            return web.Response(status=int(fault), headers={"Retry-After": "3"} if fault == "429" else {})
        if fault == "in_flight":
            return _xml(422, xml_text.error_xml(("915233",)))
        return _abort(request) if fault == "drop" else None

    def _in_flight(self, key: str | None, asked: tuple[str, ...]) -> str | None:
        """Note that a request under this key has begun. Return a validation error if another one has not ended."""
        known = self.book.keys.get(key or "")
        if known is not None and known.state == "in_flight":
            return "915233"
        if key is not None and known is None:
            self.book.keys[key] = Key(asked, "in_flight", "", self.book.now())
        return None

    def _executed(
        self, execute: Callable[[], Transaction], key: str | None, asked: tuple[str, ...], fault: str
    ) -> tuple[int, str]:
        """Execute a request once for its key; return the status and the body of its answer."""
        book, known = self.book, self.book.keys.get(key or "")
        if len(key or "") > 255:
            return 422, xml_text.error_xml(("915230",))
        if known is not None and known.state != "in_flight" and book.now() - known.ended < KEY_SECONDS:
            try:
                return 200, xml_text.transaction_xml(self._replayed(known, asked))
            except Refusal as refusal:
                return 422, xml_text.error_xml((refusal.code,))
        state, transaction_id = "failed", ""
        try:
            if fault.startswith("refuse-"):
                raise Refusal(fault.removeprefix("refuse-"))
            made = execute()
            state, transaction_id = "done", made.id
            answer = 201, xml_text.transaction_xml(replace(made, id="another1") if fault == "other" else made)
        except Refusal as refusal:
            answer = 422, xml_text.error_xml(tuple(refusal.code.split("+")))
        except Declined as declined:
            state, transaction_id = "done", declined.transaction.id
            answer = 422, xml_text.error_xml((), declined.transaction)
        except KeyError:
            answer = 404, ""
        if key is not None and (state == "done" or (book.failed_keys_stick and answer[0] == 422)):
            book.keys[key] = Key(asked, state, transaction_id, book.now())
        elif key is not None:
            book.keys.pop(key, None)
        return answer

    def _replayed(self, known: Key, asked: tuple[str, ...]) -> Transaction:
        if known.request != asked:
            raise Refusal("915232")
        if known.state == "failed":
            raise Refusal("915234")
        if known.state == "server_error":
            raise Refusal("915235")
        return self.book.transactions[known.transaction_id]

    async def _search_ids(self, request: web.Request) -> web.StreamResponse:
        refused = self._refused_access(request)
        if refused is not None:
            return refused
        found = self._found(self._checked("advanced_search_ids", await request.read()))
        if self.faults["search "]:
            name = self.faults["search "].popleft()
            return _xml(200, "<nothing/>") if name == "timeout" else web.Response(status=int(name))
        return _xml(200, xml_text.ids_xml([each.id for each in found], PAGE_SIZE))

    async def _search(self, request: web.Request) -> web.StreamResponse:
        refused = self._refused_access(request)
        if refused is not None:
            return refused
        found = self._found(self._checked("advanced_search", await request.read()))
        if self.faults["page "]:
            self.faults["page "].popleft()
            found = found[1:]
        return _xml(200, xml_text.page_xml(found[:PAGE_SIZE], PAGE_SIZE))

    def _found(self, document: Any) -> list[Transaction]:
        since = datetime.fromisoformat(document.findtext("created_at/min")).timestamp()
        ids = {item.text for item in document.iterfind("ids/item")} if document.find("ids") is not None else None
        return self.book.found(since, ids)

    def _refused_access(self, request: web.Request) -> web.Response | None:
        wanted = base64.b64encode(f"{PUBLIC}:{PRIVATE}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {wanted}":
            return web.Response(status=401)
        if request.headers.get("X-ApiVersion") != API_VERSION:
            return web.Response(status=426)
        if not request.headers.get("Content-Type", "").startswith("application/xml"):
            self.violations.append("a request is not application/xml")
        return None

    # --- orders -------------------------------------------------------------------------------------------------------

    async def _control(self, request: web.Request) -> web.Response:
        order = json.loads(await request.text() or "{}")
        control = CONTROLS.get(request.match_info["name"])
        return web.Response(status=404) if control is None else web.json_response(control(self, order))


def signed_form(document: str, private_key: str = PRIVATE, public_key: str = PUBLIC) -> bytes:
    """Return the body of a webhook request with this XML, signed as Braintree signs."""
    payload = base64.encodebytes(document.encode())
    digest = hmac.new(hashlib.sha1(private_key.encode()).digest(), payload, hashlib.sha1).hexdigest()
    signature = f"another_key|{'0' * 40}&{public_key}|{digest}"
    return urlencode({"bt_signature": signature, "bt_payload": payload.decode()}).encode()


def _xml(status: int, document: str) -> web.Response:
    head = '<?xml version="1.0" encoding="UTF-8"?>\n'
    return web.Response(status=status, text=head + document if document else "", content_type="application/xml")


def _abort(request: web.Request) -> web.Response:
    assert request.transport is not None
    request.transport.abort()
    return web.Response()


async def _spoiled(request: web.Request, fault: str, status: int, body: str) -> web.StreamResponse:
    """Return the answer to a request that was executed, spoiled by the fault."""
    answer = _xml(status, body)
    match fault:
        case "error":
            return web.Response(status=500, text="something broke")
        case "garbage":
            return web.Response(status=200, text="this is no XML <")
        case "unlisted":
            return _xml(status, re.sub("<refund-ids.*</refund-ids>", "", body))
        case "proxy":
            return web.Response(status=422, text="<html><body>blocked</body></html>")
        case "timeout":
            await asyncio.sleep(SLOW_SECONDS)
            return answer
        case "reset":
            return _abort(request)
        case "cut":
            assert isinstance(answer.body, bytes)
            cut = web.StreamResponse(status=status, headers={"Content-Length": str(len(answer.body))})
            await cut.prepare(request)
            await cut.write(answer.body[: len(answer.body) // 2])
            return _abort(request)
    return answer


def _option(server: BraintreeServer, order: dict[str, Any]) -> dict[str, Any]:
    for name in ("settles_at_once", "failed_keys_stick", "lag_seconds"):
        if name in order:
            setattr(server.book, name, order[name])
    return {}


def _move_clock(server: BraintreeServer, order: dict[str, Any]) -> dict[str, Any]:
    server.book.clock_offset += order["seconds"]
    return {"now": server.book.now()}


def _new_payment(server: BraintreeServer, order: dict[str, Any]) -> dict[str, Any]:
    names = ("amount", "currency", "status", "instrument")
    payment_id = server.book.sale(**{name: order[name] for name in names if name in order})
    if order.get("disputed"):
        server.book.transactions[payment_id].disputes.append(("chargeback", "open"))
    return {"id": payment_id}


def _described(server: BraintreeServer, order: dict[str, Any]) -> dict[str, Any]:
    names = ("id", "type", "currency", "status", "order_id", "refunded", "refund_ids")
    return {
        "transactions": [
            {**{name: getattr(each, name) for name in names}, "amount": str(each.amount)}
            for each in server.book.transactions.values()
        ],
        "requests": server.requests,
        "violations": server.violations,
    }


def _event(server: BraintreeServer, order: dict[str, Any]) -> dict[str, Any]:
    return {"content_type": FORM, "body": server.event(order["kind"], order["id"]).decode()}


def _break_next(server: BraintreeServer, order: dict[str, Any]) -> dict[str, Any]:
    server.break_next(order["payment"], order["fault"])
    return {}


def _become(server: BraintreeServer, order: dict[str, Any]) -> dict[str, Any]:
    server.book.become(order["id"], order["status"], order.get("code"))
    return {}


# POST /_control/NAME with JSON; the answer is JSON.
CONTROLS: dict[str, Callable[[BraintreeServer, dict[str, Any]], dict[str, Any]]] = {
    "payments": _new_payment,  # amount, currency, status, instrument, disputed → id
    "refunds": lambda server, order: {"id": server.book.refund(order["payment"], order.get("amount")).id},  # by others
    "voids": lambda server, order: {"id": server.book.void(order["payment"]).id},  # by others
    "faults": _break_next,  # payment, fault
    "land": lambda server, order: {"landed": server.land()},
    "states": _become,  # id, status, code
    "settle": lambda server, order: {"settled": server.book.settle()},
    "clock": _move_clock,  # seconds
    "options": _option,  # settles_at_once, failed_keys_stick, lag_seconds
    "events": _event,  # kind, id → content_type, body
    "book": _described,
}


def main() -> None:
    """Serve until standard input closes."""
    parser = argparse.ArgumentParser(description="A local server that behaves like Braintree.")
    parser.add_argument("--port", type=int, default=0)
    with BraintreeServer(parser.parse_args().port) as server:
        print(server.url, flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()

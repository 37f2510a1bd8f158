"""The application without a socket: requests go directly into it, on an event loop that this client owns."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

import httpx
from fastapi import FastAPI
from sqlalchemy import Connection
from starlette.routing import Mount

from refund_worker.engine.access.api_keys import create_key, create_signed_key
from refund_worker.engine.context import Context
from refund_worker.settings import Settings, load_settings
from refund_worker.web.app import create_app
from refund_worker.web.dependencies import AppState

AT = "2026-11-01T09:00:00Z"
ELSEWHERE = ("203.0.113.7", 50000)
# Pairs, if a name should be there twice.
Headers = Mapping[str, str] | Iterable[tuple[str, str]]
_names = itertools.count(1)


def settings_for(url: str, **others: str) -> Settings:
    return load_settings({f"REFUND_WORKER_{name}": value for name, value in {"DATABASE_URL": url, **others}.items()})


class Web:
    """A running application. Requests carry an admin's key, unless another key or None is given."""

    def __init__(self, settings: Settings) -> None:
        self.app: FastAPI = create_app(settings)
        self._runner = asyncio.Runner()

    def __enter__(self) -> Self:
        self._runner.__enter__()
        self._lifespan = self.app.router.lifespan_context(self.app)
        self._runner.run(self._lifespan.__aenter__())
        self.admin = self.key("admin", client="backend")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._runner.run(self._lifespan.__aexit__(None, None, None))
        self._runner.__exit__(kind, error, trace)

    @property
    def context(self) -> Context:
        context: Context = self.app.state.shared.context
        return context

    def use_clock(self, clock: Callable[[Connection], float]) -> None:
        """Make the API and the console use this clock from now on."""
        (console,) = [route.app for route in self.app.routes if isinstance(route, Mount)]
        assert isinstance(console, FastAPI)
        state: AppState = self.app.state.shared
        self.app.state.shared = console.state.shared = replace(state, context=replace(state.context, clock=clock))

    def key(self, role: str, *, client: str = "backend", name: str | None = None, expires: float | None = None) -> str:
        """Create a key of this role and return it."""
        return create_key(
            self.context, name=name or f"{role}-{next(_names)}", client=client, role=role, expires_at=expires
        )

    def signed_key(self, role: str, *, client: str = "backend") -> tuple[str, str]:
        """Create a key of this role whose requests must be signed. Return (the key, its signing secret)."""
        return create_signed_key(self.context, name=f"{role}-{next(_names)}", client=client, role=role)

    def call(
        self,
        method: str,
        path: str,
        json: Any = None,
        *,
        key: str | None = "admin",
        headers: Headers = (),
        client: tuple[str, int] = ELSEWHERE,
        **options: Any,
    ) -> httpx.Response:
        """Send one request and return the answer; with `key` None it has no key."""
        (answer,) = self.calls([(method, path, json)], key=key, headers=headers, client=client, **options)
        return answer

    def raw(self, method: str, path: str) -> httpx.Response:
        """Send an admin's request with exactly this path: HTTP clients would remove its dot segments first."""
        url = httpx.URL("http://api.test", raw_path=path.encode("ascii"))
        request = httpx.Request(method, url, headers={"Authorization": f"Bearer {self.admin}"})

        async def send() -> httpx.Response:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=ELSEWHERE)
            async with httpx.AsyncClient(transport=transport) as http:
                return await http.send(request)

        return self._runner.run(send())

    def calls(
        self,
        requests: Iterable[tuple[str, str, Any]],
        *,
        key: str | None = "admin",
        headers: Headers = (),
        client: tuple[str, int] = ELSEWHERE,
        **options: Any,
    ) -> list[httpx.Response]:
        """Send several requests at the same time and return the answers."""
        presented = self.admin if key == "admin" else key
        every = [*headers.items()] if isinstance(headers, Mapping) else [*headers]
        if presented:
            every.append(("Authorization", f"Bearer {presented}"))

        async def send() -> list[httpx.Response]:
            transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False, client=client)
            async with httpx.AsyncClient(transport=transport, base_url="http://api.test") as http:
                return await asyncio.gather(
                    *(
                        http.request(method, path, json=json, headers=every, **options)
                        for method, path, json in requests
                    )
                )

        return self._runner.run(send())

    def refund(self, idempotency_key: str, *, key: str | None = "admin", **fields: Any) -> httpx.Response:
        """Request a refund for the customer that `seed` makes."""
        body = {"kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked"}
        return self.call("POST", "/v1/refunds", body | fields, key=key, headers={"Idempotency-Key": idempotency_key})

    def seed(self) -> None:
        """Create the customer cust-1, who bought 200 credits for 20.00 EUR and spent 50 of them as tx-1."""
        assert self.call("POST", "/v1/payments", PAYMENT).status_code == 201
        assert self.call("POST", "/v1/transactions", SPEND).status_code == 201


PAYMENT = {
    "payment_id": "pay-1",
    "customer_id": "cust-1",
    "processor": "stripe",
    "processor_payment_id": "ch_1",
    "amount_minor": 2000,
    "currency": "EUR",
    "credits": 200,
    "captured_at": AT,
}
SPEND = {
    "transaction_id": "tx-1",
    "customer_id": "cust-1",
    "kind": "spend",
    "credits": 50,
    "description": "Private chat",
    "occurred_at": AT,
}


def is_problem(answer: httpx.Response, status: int, code: str) -> bool:
    """Return True if the answer is this problem in its full shape; a failed assertion shows the actual answer."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert set(body) >= {"type", "title", "status", "detail", "code", "retryable"}, body
    assert body["status"] == status
    assert body["code"] == code, body
    return True

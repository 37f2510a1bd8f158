"""A server, or a proxy before it, that repeats the headers of a request in its error: no reply keeps credentials."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Callable
from typing import Any

import pytest

from refund_worker.domain.processor_calls import RefundInstruction
from refund_worker.domain.processor_replies import Reply
from refund_worker.processors.adyen.adapter import AdyenProcessor
from refund_worker.processors.braintree.adapter import BraintreeProcessor
from refund_worker.processors.paypal.adapter import PayPalProcessor

SECRET = "s3cr3tValueOfTheKey"
BASIC = base64.b64encode(f"public:{SECRET}".encode()).decode()

MAKE: dict[str, Callable[[str], Any]] = {
    "paypal": lambda base: PayPalProcessor("public", SECRET, base=base, live=False),
    "braintree": lambda base: BraintreeProcessor("merchant", "public", SECRET, base=base),
    "adyen": lambda base: AdyenProcessor(SECRET, "Shop", base=base, live=False, timeout_seconds=5),
}
ERRORS: dict[str, tuple[int, Callable[[str], str]]] = {
    "paypal": (401, lambda told: json.dumps({"error": "invalid_client", "error_description": told})),
    "braintree": (
        422,
        lambda told: (
            "<api-error-response><errors><errors><error><code>915230</code></error></errors></errors>"
            f"<message>{told}</message></api-error-response>"
        ),
    ),
    "adyen": (
        401,
        lambda told: json.dumps({"status": 401, "errorCode": "000", "message": told, "errorType": "security"}),
    ),
}
PAYMENTS = {"paypal": "CAP1", "braintree": "abc123", "adyen": "PSPREFERENCE00001"}


def refused(name: str) -> tuple[Reply, str]:
    """Return the reply to a refund, and the last part of each header of the first request, as the error repeats them.

    The last part of a header is its value without the scheme of its credentials.
    """
    status, error = ERRORS[name]
    repeated: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        repeated.append(" ".join(line.rpartition(" ")[2] for line in head.splitlines()[1:] if line))
        body = error(repeated[-1]).encode()
        writer.write(b"HTTP/1.1 %d No\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
        await writer.drain()
        writer.close()

    async def run() -> Reply:
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
            adapter = MAKE[name](f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            order = RefundInstruction("rf_1", "rf_1-1", 1, PAYMENTS[name], 100, "GBP", "asked")
            try:
                reply: Reply = await adapter.send("rf_1-1:1", adapter.freeze(order))
                return reply
            finally:
                await adapter.close()

    return asyncio.run(run()), repeated[0]


@pytest.mark.parametrize("name", MAKE)
def test_error_that_repeats_the_request_uncovers_no_credential(name: str) -> None:
    reply, repeated = refused(name)
    assert any(credential in repeated for credential in (SECRET, BASIC))
    assert "***" in repr(reply)
    for credential in (SECRET, BASIC):
        assert credential not in repr(reply)

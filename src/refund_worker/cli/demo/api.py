"""The HTTP API as a backend calls it, and the processor's webhooks to the same web process."""

from __future__ import annotations

import http.client
import json
import time
from typing import Any, NamedTuple
from urllib.parse import urlencode

from refund_worker.cli.stack import PAYPAL, Stack
from refund_worker.engine.access.api_keys import create_key
from refund_worker.engine.context import Context
from refund_worker.errors import Unavailable
from refund_worker.settings import PREFIX

START_SECONDS_MAX = 25.0


class Answer(NamedTuple):
    """The status and the object of an HTTP answer."""

    status: int
    body: dict[str, Any]


class Api:
    """Calls of the API with an API key. The web process is a process of its own in the stack."""

    def __init__(self, stack: Stack, context: Context) -> None:
        self._stack = stack
        self._key = create_key(context, name="demo", client="demo", role="admin", expires_at=time.time() + 3600.0)

    def ask(self, method: str, path: str, body: Any = None, *, idempotency_key: str = "") -> Answer:
        """Send one request and return its answer, a refusal too."""
        headers = {"Authorization": f"Bearer {self._key}", "Content-Type": "application/json"}
        if idempotency_key:
            headers["Idempotency-Key"] = idempotency_key
        connection = http.client.HTTPConnection("127.0.0.1", self._stack.web_port, timeout=START_SECONDS_MAX)
        try:
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return Answer(answer.status, json.loads(answer.read()))
        finally:
            connection.close()

    def get(self, path: str, **filters: str) -> dict[str, Any]:
        """Return the object or the list at `path`. Raises `Unavailable` if it is refused."""
        answer = self.ask("GET", path + ("?" + urlencode(filters) if filters else ""))
        if answer.status != 200:
            raise Unavailable(f"GET {path} answered {answer.status}: {answer.body}")
        return answer.body

    def post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        """Record an object, and return it. Raises `Unavailable` if it is refused."""
        answer = self.ask("POST", path, body)
        if answer.status not in (200, 201):
            raise Unavailable(f"POST {path} answered {answer.status}: {answer.body}")
        return answer.body

    def wait_until_ready(self) -> None:
        """Wait until the web process is ready. Raises `Unavailable` if it does not get ready in time."""
        end = time.monotonic() + START_SECONDS_MAX
        while not self._is_ready():
            self._stack.check()
            if time.monotonic() > end:
                raise Unavailable(f"the web process was not ready after {START_SECONDS_MAX:.0f} s")
            time.sleep(0.05)

    def hear_webhooks(self) -> None:
        """Let the sandboxes send their events to the web process from now on."""
        self.wait_until_ready()
        url = f"http://127.0.0.1:{self._stack.web_port}/webhooks"
        self._stack.sandbox.send_webhooks_to(f"{url}/stripe", self._stack.environment[PREFIX + "STRIPE_WEBHOOK_SECRET"])
        if self._stack.paypal is not None:
            self._stack.paypal.send_webhooks_to(f"{url}/{PAYPAL}")

    def _is_ready(self) -> bool:
        try:
            return self.ask("GET", "/readyz").status == 200
        except OSError:
            return False

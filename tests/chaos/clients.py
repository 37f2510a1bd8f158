"""Clients that request refunds over HTTP and record the promises that they get."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

REQUEST_SECONDS_MAX = 5.0
PAUSE_SECONDS = 0.15
CREDITS_MAX = 20


@dataclass(slots=True)
class Promises:
    """The promised refund ids by idempotency key. `broken` has promises that contradict an earlier one.

    While `held` is set, clients begin no new requests: the deployment is behind.
    """

    ids: dict[str, str] = field(default_factory=dict)
    broken: list[str] = field(default_factory=list)
    asking: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)
    held: threading.Event = field(default_factory=threading.Event)

    def note(self, key: str, refund_id: str) -> None:
        """Record a promise, and note a contradiction."""
        with self.lock:
            if self.ids.setdefault(key, refund_id) != refund_id:
                self.broken.append(f"{key} was promised {self.ids[key]}, later {refund_id}")


class Client(threading.Thread):
    """Sends requests until `stop` is set, and then until its last request is answered.

    Every request is repeated with the same key until there is an answer. Some are repeated after the answer, and some
    are sent twice at the same moment.
    """

    def __init__(self, number: int, seed: int, port: int, key: str, customers: int, promises: Promises) -> None:
        super().__init__(name=f"client-{number}", daemon=True)
        self.stop = threading.Event()
        self._port, self._key, self._customers = port, key, customers
        self._promises = promises
        self._chance = random.Random(f"{seed}/{number}")
        self._number = number

    def run(self) -> None:
        """Send requests until `stop` is set."""
        count = 0
        while not self.stop.is_set():
            if self._promises.held.is_set():
                self.stop.wait(PAUSE_SECONDS)
                continue
            count += 1
            # All clients share every fourth key, and use it at different times.
            name = f"shared-{count}" if count % 4 == 0 else f"{self._number}-{count}"
            if count % 4 < 2:
                self._ask_until_answered(name)
            else:
                self._ask_twice_at_once(name)
            if self._chance.random() < 0.1:
                self._ask_until_answered(name)
            self.stop.wait(self._chance.uniform(0.5, 1.5) * PAUSE_SECONDS)

    def _ask_twice_at_once(self, key: str) -> None:
        both = threading.Barrier(2)

        def ask() -> None:
            both.wait()
            self._ask_until_answered(key)

        twin = threading.Thread(target=ask, name=f"{self.name}-twin", daemon=True)
        twin.start()
        ask()
        twin.join()

    def _ask_until_answered(self, key: str) -> None:
        body = self._body(random.Random(key))
        while True:
            try:
                with self._promises.lock:
                    self._promises.asking += 1
                status, answer = self._post(key, body)
            except (OSError, http.client.HTTPException, ValueError):
                status, answer = 0, {}
            finally:
                with self._promises.lock:
                    self._promises.asking -= 1
            if status in (200, 202):
                self._promises.note(key, answer["id"])
                return
            if 400 <= status < 500 and status != 429:
                self._promises.broken.append(f"{key} was refused: {status} {answer.get('code')}")
                return
            time.sleep(0.2)

    def _body(self, chance: random.Random) -> dict[str, Any]:
        """Return a body that depends on the key alone, so that all clients send the same body with it."""
        customer = chance.randrange(self._customers)
        body = {"customer_id": f"c{customer}", "credits": chance.randint(1, CREDITS_MAX), "reason": "chaos"}
        way = chance.random()
        if way < 0.7:
            return body | {"kind": "withdrawal", "to": "source"}
        return body | {
            "kind": "credit_refund",
            "to": "source" if way < 0.9 else "balance",
            "transaction_id": f"t{customer}",
        }

    def _post(self, key: str, body: Mapping[str, Any]) -> tuple[int, dict[str, Any]]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=REQUEST_SECONDS_MAX)
        try:
            headers = {
                "Authorization": f"Bearer {self._key}",
                "Idempotency-Key": key,
                "Content-Type": "application/json",
            }
            connection.request("POST", "/v1/refunds", json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

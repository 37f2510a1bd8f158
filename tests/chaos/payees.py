"""Payees in a chaos run: they earn, ask for payouts at both processors, and replace destinations that failed."""

from __future__ import annotations

import base64
import http.client
import json
import random
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import psycopg

from refund_worker.processors.local_server.process import LocalServerError
from refund_worker.processors.sandbox import Sandbox
from tests.chaos.clients import Promises
from tests.chaos.paypal import PayPal

PAYEES, PAYEE_CLIENTS = 24, 2
STRIPE, PAYPAL = "stripe", "paypal"
CURRENCY = "USD"
REQUEST_SECONDS_MAX = 5.0
PAUSE_SECONDS = 0.5
# The share of a client's rounds in which payees replace what failed.
MENDS = 0.1
EARNED_MIN, EARNED_MAX = 5_000, 500_000
# The share of addresses at PayPal whose payouts wait to be claimed.
UNCLAIMED = 0.4
DESTINATIONS_KEY = base64.b64encode(b"of the chaos run, and no other!!").decode()
# Much more than is ever paid out.
FUNDS_MINOR = 10**12
# So often a day passes for what the program reads once a day.
DAY_SECONDS = 3.0
# A paid payout and a payee are read again each day, because the event that tells of a change may be lost.
A_DAY_PASSES = (
    "UPDATE payout_legs SET next_at = 1 WHERE next_at IS NOT NULL AND leg_id = ANY(%(legs)s)",
    "UPDATE payouts SET due_at = 1 WHERE due_at IS NOT NULL AND status IN ('paid', 'held') AND lease_until IS NULL"
    " AND (status = 'held' OR payout_id IN (SELECT payout_id FROM payout_legs WHERE leg_id = ANY(%(legs)s)))",
    "UPDATE payees SET refresh_at = 1 WHERE refresh_at IS NOT NULL AND verdict IS DISTINCT FROM 'ready'",
)


class Payees:
    """All payees: how they are recorded, earn, and are paid. One random source decides for each thread.

    `promises` has the payouts, `earnings` the ids of earnings that were accepted.
    """

    def __init__(self, seed: int, port: int, sandbox: Sandbox, paypal: PayPal) -> None:
        self.seed, self.key = seed, ""
        self.promises, self.earnings = Promises(), set[str]()
        self._port, self._sandbox, self._paypal = port, sandbox, paypal
        self._destinations: dict[str, int] = dict.fromkeys(map(payee_named, range(PAYEES)), 0)
        self._lock = threading.Lock()

    def record_all(self) -> None:
        """Fund our account at Stripe, and record every payee over HTTP, before any harm."""
        self._sandbox.act("top_up", currency=CURRENCY.lower(), amount_minor=FUNDS_MINOR)
        for payee_id in self._destinations:
            status, answer = self.ask("POST", "/v1/payees", {"payee_id": payee_id, **self._destination(payee_id)})
            assert status == 201, answer

    def mend(self) -> None:
        """Let each payee whose destination failed give a new one. An error of a server is left to the next time."""
        with self._lock, suppress(OSError, ValueError, http.client.HTTPException, LocalServerError):
            status, answer = self.ask("GET", "/v1/payees?limit=500")
            incomplete = [p["payee_id"] for p in answer.get("data", ()) if p["status"] == "incomplete"]
            for payee_id in incomplete if status == 200 else ():
                self._destinations[payee_id] += 1
                self.ask("PUT", f"/v1/payees/{payee_id}", self._destination(payee_id))

    def ask(self, method: str, path: str, body: Any = None, key: str = "") -> tuple[int, dict[str, Any]]:
        """Send one request, and return the status and the object of the answer."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=REQUEST_SECONDS_MAX)
        headers = {"Authorization": f"Bearer {self.key}", "Content-Type": "application/json"}
        try:
            sent = None if body is None else json.dumps(body)
            connection.request(method, path, sent, headers | ({"Idempotency-Key": key} if key else {}))
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()

    def _destination(self, payee_id: str) -> dict[str, Any]:
        number, which = int(payee_id.removeprefix("payee-")), self._destinations[payee_id]
        body: dict[str, Any] = {"processor_account": PAYPAL if number % 2 else STRIPE, "currency": CURRENCY}
        if number % 2:
            email = f"payee-{number}-{which}@example.com"
            if random.Random(f"{self.seed}/{email}").random() < UNCLAIMED:
                self._paypal.let_wait(email)
            return body | {"destination": {"kind": "paypal", "email": email}}
        account = f"acct_payee{number}x{which}"
        self._sandbox.act("connect_account", account=account)
        return body | {"destination": {"kind": "stripe_account", "account": account}}


class PayeeClient(threading.Thread):
    """Records earnings and asks for payouts until `stop` is set, and then until its last request is answered."""

    def __init__(self, number: int, payees: Payees, customers: int) -> None:
        super().__init__(name=f"payees-{number}", daemon=True)
        self.stop = threading.Event()
        self._payees, self._customers = payees, customers
        self._chance = random.Random(f"{payees.seed}/payees-{number}")
        self._number = number

    def run(self) -> None:
        """Send requests until `stop` is set."""
        count = 0
        while not self.stop.wait(self._chance.uniform(0.5, 1.5) * PAUSE_SECONDS):
            if self._chance.random() < MENDS:  # also while much is open: it waits for the payees
                self._payees.mend()
            if self._payees.promises.held.is_set():
                continue
            count += 1
            name, payee_id = f"{self._number}-{count}", payee_named(self._chance.randrange(PAYEES))
            self._earn(f"e-{name}", payee_id)
            body: dict[str, Any] = {"payee_id": payee_id, "currency": CURRENCY, "description": "chaos"}
            if self._chance.random() < 0.3:  # a part; more than there is, is refused
                body["amount_minor"] = self._chance.randint(1, EARNED_MAX)
            twin = threading.Thread(target=self._pay_out, args=(f"p-{name}", body), daemon=True)
            if twins := self._chance.random() < 0.5:
                twin.start()
            self._pay_out(f"p-{name}", body)
            if twins:
                twin.join()

    def _earn(self, earning_id: str, payee_id: str) -> None:
        """Record an earning from the spend of a customer, a part of which may be refunded."""
        body = {
            "earning_id": earning_id,
            "payee_id": payee_id,
            "amount_minor": self._chance.randint(EARNED_MIN, EARNED_MAX),
            "currency": CURRENCY,
            "transaction_id": f"t{self._chance.randrange(self._customers)}",
        }
        status, answer = self._until_answered("/v1/earnings", body, "")
        if status in (200, 201):
            self._payees.earnings.add(earning_id)
        else:
            self._payees.promises.broken.append(f"{earning_id} was refused: {status} {answer.get('code')}")

    def _pay_out(self, key: str, body: Mapping[str, Any]) -> None:
        status, answer = self._until_answered("/v1/payouts", body, key)
        if status in (200, 202):
            self._payees.promises.note(key, str(answer["id"]))
        elif answer.get("code") != "insufficient_earnings":
            self._payees.promises.broken.append(f"{key} was refused: {status} {answer.get('code')}")

    def _until_answered(self, path: str, body: Mapping[str, Any], key: str) -> tuple[int, dict[str, Any]]:
        while True:
            with suppress(OSError, ValueError, http.client.HTTPException):
                status, answer = self._payees.ask("POST", path, body, key)
                if status < 500 and status != 429:
                    return status, answer
            time.sleep(0.2)


def payee_named(number: int) -> str:
    """Return the id of a payee."""
    return f"payee-{number}"


def let_a_day_pass(database_url: str, legs: list[str]) -> None:
    """Let all that is read once a day be due, and these legs of payouts. An error of the database is ignored."""
    with (
        suppress(psycopg.Error),
        psycopg.connect(database_url.replace("+psycopg", ""), connect_timeout=2) as connection,
    ):
        for statement in A_DAY_PASSES:
            connection.execute(statement.encode(), {"legs": legs})

"""PayPal's server in a chaos run: a process with a book of its own, its faults, and what its refunds become later."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from refund_worker.processors.paypal.sandbox import CLIENT_ID, CLIENT_SECRET, WEBHOOK_ID, PayPalSandbox
from tests.chaos.audit import leg_at_paypal

# Each request for a refund meets one of these by chance.
CHANCES: Final = {
    "reset": 0.05,
    "lost": 0.05,
    "timeout": 0.03,
    "cut": 0.03,
    "slow": 0.03,
    "error500": 0.04,
    "error503": 0.03,
    "409": 0.03,
    "429": 0.03,
    "proxy": 0.02,
    "pending": 0.05,
    "minimal": 0.03,
}
# An order shows a refund so late. It is in the capture's status at once.
LAG_SECONDS: Final = 2.0
# The shares of our refunds that fail or are canceled after they were pending, and that fail after they succeeded.
FAILS, IS_CANCELED, FAILS_LATER = 0.2, 0.1, 0.02
# Payouts: the share of unclaimed ones that the payee claims after all, and of paid ones that come back.
CLAIMED, COMES_BACK = 0.5, 0.05
NOT_CLAIMED = ("UNCLAIMED", "RECEIVER_UNREGISTERED")
# So many events are sent again at once.
EVENTS_MAX = 80

Later = Callable[[float, Callable[[], object]], None]


class PayPal:
    """The server, which keeps its book over crashes. `captures` are the ids of the payments there."""

    def __init__(self, folder: Path, seed: int, webhook_url: str) -> None:
        self.book_path = folder / "paypal.jsonl"
        self.server = PayPalSandbox(book=self.book_path)
        self.captures: list[str] = []
        self.healing = False
        self._chance = random.Random(f"{seed}/paypal")
        self._webhook_url = webhook_url
        self._read = 0
        self._to_tell: dict[str, str] = {}  # refunds, each with the last event that was sent about it again
        self._waiting: list[str] = []  # the addresses whose payouts wait to be claimed
        self._decided: set[tuple[str, str]] = set()  # payouts whose future was drawn, each with its status then

    @property
    def account(self) -> dict[str, Any]:
        """The account's table in the settings."""
        return {
            "client_id": CLIENT_ID,
            "client_secret": CLIENT_SECRET,
            "webhook_id": WEBHOOK_ID,
            "api_base": self.server.url,
            "rate_per_second": 0,
        }

    def start(self) -> None:
        """Start the server. A crash has ended the faults, the tokens and the events."""
        self.server.start()
        self.server.send_webhooks_to(self._webhook_url)
        for email in self._waiting:
            self.server.expect_payouts(email, *NOT_CLAIMED)
        if not self.healing:
            self.server.control("settings", lag_seconds=LAG_SECONDS)

    def disturb(self) -> None:
        """Begin the faults by chance."""
        self.server.control("faults", chances=CHANCES, seed=self._chance.randrange(10**6))

    def crash(self, seconds: float) -> None:
        """Kill the server, and start it after `seconds` with the same book."""
        self.server.kill()
        time.sleep(seconds)
        self.start()
        if not self.healing:
            self.disturb()

    def freeze(self, seconds: float) -> None:
        """Stop the server (SIGSTOP) for `seconds`: it answers nothing, and what it got it does afterwards."""
        pid = self.server.pid
        os.kill(pid, signal.SIGSTOP)
        timer = threading.Timer(seconds, _go_on, [pid])
        timer.daemon = True
        timer.start()

    def refund_by_hand(self) -> None:
        """Refund a part of a random payment as the dashboard does, without our text."""
        amount = f"{self._chance.randint(1, 200) / 100:.2f}"
        self.server.control("refunds", capture_id=self._chance.choice(self.captures), amount=amount)

    def let_wait(self, email: str) -> None:
        """Let all payouts to an address wait to be claimed."""
        self._waiting.append(email)
        self.server.expect_payouts(email, *NOT_CLAIMED)

    def read_book(self, later: Later) -> None:
        """Read what is new in the book, and let our new refunds become something else `later` (seconds, act)."""
        with self.book_path.open("rb") as file:
            file.seek(self._read)
            for line in file:
                if not line.endswith(b"\n"):
                    break
                self._read += len(line)
                for record in json.loads(line):
                    if record["kind"] == "refund" and leg_at_paypal(record["refund"]):
                        self._plan(record["refund"], later)
                    elif record["kind"] == "refund":
                        self._to_tell[record["refund"]["refund_id"]] = ""
                    elif record["kind"] == "changed":
                        self._to_tell[record["id"]] = ""
                    elif record["kind"] == "payout item":
                        self._plan_payout(record["item"], later)

    def _plan(self, refund: dict[str, Any], later: Later) -> None:
        name, drawn = refund["refund_id"], self._chance.random()
        if refund["status"] == "PENDING":
            ends = "FAILED" if drawn < FAILS else "CANCELLED" if drawn < FAILS + IS_CANCELED else "COMPLETED"
            later(self._chance.uniform(0.5, 4), lambda: self._become(name, ends))
        elif drawn < FAILS_LATER and not self.healing:
            later(self._chance.uniform(1, 4), lambda: self._become(name, "FAILED"))

    def _plan_payout(self, item: dict[str, Any], later: Later) -> None:
        name, status, drawn = item["item_id"], item["status"], self._chance.random()
        if (name, status) in self._decided:
            return
        self._decided.add((name, status))
        if status == "UNCLAIMED":
            ends = "SUCCESS" if drawn < CLAIMED else "RETURNED"
            later(self._chance.uniform(0.5, 4), lambda: self.server.change_payout(name, ends))
        elif status == "SUCCESS" and drawn < COMES_BACK and not self.healing:
            later(self._chance.uniform(1, 4), lambda: self.server.change_payout(name, "RETURNED"))

    def _become(self, refund_id: str, status: str) -> None:
        self.server.control(f"refunds/{refund_id}", status=status)

    def heal(self) -> None:
        """End all faults. What is frozen goes on by itself."""
        self.healing = True
        self.server.clear_faults()
        self.server.control("settings", balance=None, lag_seconds=0, token_fault="")

    def repeat_events(self) -> None:
        """Send again what a crash or the time without a web has lost, until it is answered: PayPal does so for days.

        These are the events about refunds of others and about late changes. The program polls all others.
        """
        answers = {event["event_id"]: event["answers"] for event in self.server.book()["events"]}
        for refund_id, event_id in [*self._to_tell.items()][:EVENTS_MAX]:
            if any(200 <= status < 300 for status in answers.get(event_id, ())):
                del self._to_tell[refund_id]
            else:
                self._to_tell[refund_id] = self.server.control("events", refund_id=refund_id)["event_id"]

    def close(self) -> None:
        """Stop the server."""
        with contextlib.suppress(Exception):
            _go_on(self.server.pid)
        self.server.close()


def _go_on(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)

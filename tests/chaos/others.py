"""Harm by others: a person in the processor's dashboard, a bank, and a writer of odd messages to our broker."""

from __future__ import annotations

import base64
import json
import random
import urllib.error
import urllib.parse
import urllib.request
from typing import Any

from tests.chaos.stage import SANDBOX_KEY, Stage

SECONDS_MAX = 3.0
HEADERS = (
    "timelimit", "eta", "expires", "retries", "group", "group_index", "root_id", "parent_id", "shadow", "origin",
    "ignore_result", "replaced_task_nesting", "stamped_headers", "stamps", "argsrepr", "kwargsrepr", "lang", "id",
    "meth", "compression", "x-death", "priority",
)  # fmt: skip
VALUES: tuple[Any, ...] = (
    None, True, -1, 0, 0.001, 1e308, "", "y", "x" * 5_000, [], ["x", "y"], [None, "y"], [0.001, 0.001], [[]], {},
    {"a": {"b": []}}, "2999-01-01T00:00:00+00:00", "\u202e", 2**70,
)  # fmt: skip


def refund_by_hand(stage: Stage, chance: random.Random) -> bool:
    """Refund a part of a random payment at Stripe as the dashboard does, without our metadata.

    Return True if it was accepted.
    """
    form = {"charge": chance.choice(stage.charges), "amount": str(chance.randint(1, 200))}
    request = urllib.request.Request(
        f"{stage.sandbox.url}/v1/refunds",
        data=urllib.parse.urlencode(form).encode(),
        headers={"Authorization": f"Bearer {SANDBOX_KEY}", "Idempotency-Key": f"by-hand-{chance.random()}"},
    )
    try:
        with urllib.request.urlopen(request, timeout=SECONDS_MAX) as answer:
            return bool(answer.status == 200)
    except (OSError, urllib.error.URLError):  # the refund may exist nevertheless
        return False


def dispute(stage: Stage, chance: random.Random) -> str:
    """Dispute a part of a random payment, as its customer's bank does. Return the dispute's id."""
    opened = stage.sandbox.act(
        "open_dispute", payment=chance.choice(stage.charges), amount_minor=chance.randint(1, 200)
    )
    return str(opened["id"])


def decide_dispute(stage: Stage, dispute_id: str, status: str) -> None:
    """Decide the dispute for or against us."""
    stage.sandbox.act("move_dispute", dispute=dispute_id, status=status)


def odd_message(chance: random.Random) -> str:
    """Return one of our own tasks with one or two headers that no caller should write, or with a malformed body."""
    headers: dict[str, Any] = {"task": "refund_worker.advance", "id": f"odd-{chance.random()}", "lang": "py"}
    headers |= {chance.choice(HEADERS): chance.choice(VALUES) for _ in range(chance.randint(1, 2))}
    body = chance.choice((b'[[["rf_unknown"]], {}, {}]', b"[[[]], {}, {}]", b"[]", b"null", b"{", b"[1, 2, 3, 4]"))
    return json.dumps(
        {
            "body": base64.b64encode(body).decode(),
            "content-encoding": "utf-8",
            "content-type": "application/json",
            "headers": headers,
            "properties": {
                "body_encoding": "base64",
                "correlation_id": "odd",
                "delivery_info": {"exchange": "", "routing_key": "refunds"},
                "delivery_mode": 2,
                "delivery_tag": f"odd-{chance.random()}",
                "priority": chance.choice((0, 9)),
            },
        }
    )

"""Faults that a team may build into its server: each is one change of the reference server, and what must be said."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from tests.processors.http.server import EXAMPLE, SECRET, Process


@dataclass(frozen=True)
class Planted:
    """One fault. `old` occurs once in `file`. `check` must fail, and say `words`."""

    name: str
    file: str
    old: str
    new: str
    check: str
    words: str


SERVER, PAYING = "server.py", "paying_system.py"
FAULTS = (
    Planted(
        "ignores the key",
        SERVER,
        "        if kept is not None:\n            return kept[1], json.loads(kept[2]), True\n",
        "        if kept is not None:\n            return 201, self.paying.make_refund(body), True\n",
        "same key",
        "the same Idempotency-Key with the same body returned another refund: the money would be paid twice",
    ),
    Planted(
        "compares no body",
        SERVER,
        "if kept is not None and kept[0] != body:",
        "if kept is not None and False:",
        "same key, other body",
        "a used key with another amount was not refused as key_conflict",
    ),
    Planted(
        "lets requests with one key run at once",
        SERVER,
        "        try:\n            status, answer = 201, self.paying.make_refund(body)\n",
        "        self.lock.release()\n        time.sleep(0.1)\n        self.lock.acquire()\n"
        "        self.db.execute('DELETE FROM keys WHERE key = ?', (key,))\n"
        "        try:\n            status, answer = 201, self.paying.make_refund(body)\n",
        "same key at once",
        "6 requests with one key at the same moment made 6 refunds: the money would be paid 6 times",
    ),
    Planted(
        "does not say that an answer is a stored one",
        SERVER,
        "        if replayed:\n",
        "        if False:\n",
        "same key",
        "a repeated key is answered without saying that the answer is a stored one",
    ),
    Planted(
        "answers 500 after creating, and creates again",
        SERVER,
        '        self.db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (key, body, status, json.dumps(answer)))\n'
        "        return status, answer, False\n",
        "        if status != 201:\n"
        '            self.db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (key, body, status, json.dumps(answer)))\n'
        "        return (500, {}, False) if status == 201 else (status, answer, False)\n",
        "create",
        "the same key was executed again: the payment has 2 refunds, so the money is paid twice",
    ),
    Planted(
        "answers 500 after creating",
        SERVER,
        "        return status, answer, False\n",
        "        return (500, {}, False) if status == 201 else (status, answer, False)\n",
        "create",
        "was not answered: HTTP 500",
    ),
    Planted(
        "forgets a key when the client is gone",
        SERVER,
        "        self.wfile.write(body)\n",
        "        try:\n"
        "            time.sleep(0.1 if self.headers.get('Connection') == 'close' else 0)\n"
        "            self.wfile.write(body)\n"
        "        except OSError:\n"
        "            self.server.ours.db.execute('DELETE FROM keys')\n",
        "lost answer",
        "the client closed the connection before the answer and sent the same key again: the refund was created twice",
    ),
    Planted(
        "keeps no refusals",
        SERVER,
        "            if problem.status not in (404, 422):\n",
        "            if True:\n",
        "refusal is kept",
        "a request that was refused was executed when the same key came again later",
    ),
    Planted(
        "loses a refund from the list",
        PAYING,
        '        return {"data": [json.loads(document) for _, document in rows[:limit]], "next": following}',
        '        return {"data": [json.loads(text) for _, text in rows[:limit]][1:] or [], "next": following}',
        "list of a payment",
        "the list of a payment lacks 1 of 5 refunds",
    ),
    Planted(
        "lists only the first page",
        PAYING,
        "following = str(rows[limit - 1][0]) if len(rows) > limit else None",
        "following = None",
        "pages",
        "a list in pages of 2 has 2 of 5 refunds: later pages are missing",
    ),
    Planted(
        "forgets next on the last page",
        PAYING,
        'for _, document in rows[:limit]], "next": following}',
        'for _, document in rows[:limit]]} | ({"next": following} if following else {})',
        "list of a payment",
        "a list without next",
    ),
    Planted(
        "answers an unknown payment with an empty list",
        PAYING,
        '            self.payment(query["payment"])  # an unknown payment has no empty list\n',
        "            pass\n",
        "list of an unknown payment",
        "the list of a payment that does not exist was not answered with not_found",
    ),
    Planted(
        "lists only its own refunds",
        PAYING,
        "ORDER BY number DESC",
        "AND leg IS NOT NULL ORDER BY number DESC",
        "refunds by others",
        "a refund that a person made elsewhere is missing in the list of its payment",
    ),
    Planted(
        "ignores since",
        PAYING,
        "AND at >= :since AND at < :until",
        "AND coalesce(:since, :until) IS NOT NULL",
        "since and until",
        "the list since a time does not keep its bounds",
    ),
    Planted(
        "accepts a bad signature",
        SERVER,
        '        raise Problem(401, "denied", "the signature is missing or wrong")\n',
        "        pass\n",
        "wrong secret",
        "a request with a bad signature was not refused",
    ),
    Planted(
        "signs only the body",
        SERVER,
        "    content = f\"{method} {target}\\n{headers.get('Idempotency-Key', '')}\\n\".encode() + body\n",
        "    content = body\n",
        "answers",
        "the server refuses our signature of GET /capabilities",
    ),
    Planted(
        "accepts an old timestamp",
        SERVER,
        "if not timestamp.isdigit() or abs(now() - int(timestamp)) > TOLERANCE_SECONDS:",
        "if not timestamp.isdigit():",
        "old signatures",
        "a request signed with an old timestamp (400 seconds ago) was not refused",
    ),
    Planted(
        "accepts a timestamp from the future",
        SERVER,
        "abs(now() - int(timestamp)) > TOLERANCE_SECONDS",
        "now() - int(timestamp) > TOLERANCE_SECONDS",
        "old signatures",
        "a request signed with a timestamp in 400 seconds was not refused",
    ),
    Planted(
        "reads only the first signature",
        SERVER,
        ".split()[:10]",
        ".split()[:1]",
        "two secrets",
        "a request with two signatures, one of them good, is refused",
    ),
    Planted(
        "rounds amounts",
        PAYING,
        "        return self.new_refund(payment, amount, ours)\n",
        "        return self.new_refund(payment, round(amount, -1), ours)\n",
        "create",
        "amounts are rounded or changed",
    ),
    Planted(
        "takes yen for a hundredth",
        PAYING,
        "        return self.new_refund(payment, amount, ours)\n",
        "        return self.new_refund(payment, amount // 100 if payment['currency'] == 'JPY' else amount, ours)\n",
        "other currencies",
        "501 minor units of JPY were asked for, and 5 refunded",
    ),
    Planted(
        "answers 200 on refusal",
        SERVER,
        "            status, answer = problem.status, problem.answer\n        self.db",
        "            status, answer = 200, problem.answer\n        self.db",
        "refusals",
        "a refund of more than is left was refused with HTTP 200: a refusal that looks like success",
    ),
    Planted(
        "refuses without saying that nothing was executed",
        PAYING,
        '{"code": code, "detail": detail, "executed": False}',
        '{"code": code, "detail": detail}',
        "refusals",
        "was refused without executed: false, so the refusal proves nothing",
    ),
    Planted(
        "refuses with a code of its own",
        PAYING,
        '("more_than_left", amount > left,',
        '("insufficient", amount > left,',
        "more than is left",
        "it was refused with the unknown code insufficient",
    ),
    Planted(
        "forgets our ids",
        PAYING,
        "        return self.new_refund(payment, amount, ours)\n",
        "        return self.new_refund(payment, amount, None)\n",
        "create",
        "the refund does not carry our ids (ours)",
    ),
    Planted(
        "sends unsigned events",
        SERVER,
        'headers = {"webhook-id": event["id"], "webhook-timestamp": at, "webhook-signature": signed}',
        "headers = {}",
        "events",
        "an event has no good signature (no_signature)",
    ),
    Planted(
        "signs events with another secret",
        SERVER,
        'signed = " ".join(signature(secret, event["id"], at, body) for secret in self.options.secrets)',
        'signed = signature("b3RoZXI=", event["id"], at, body)',
        "events",
        "an event has no good signature (bad_signature)",
    ),
    Planted(
        "sends no events",
        SERVER,
        "        self.events.append(event)\n",
        "",
        "events",
        "no event came within",
    ),
    Planted(
        "refunds more than is left",
        PAYING,
        '            ("more_than_left", amount > left, f"only {left} minor units are left of this payment"),\n',
        "",
        "more than is left",
        "more was refunded than was left of the payment",
    ),
    Planted(
        "refunds a disputed payment",
        PAYING,
        '("disputed", payment["disputed"],',
        '("disputed", False,',
        "disputed payment",
        "a payment with an open dispute was refunded",
    ),
    Planted(
        "takes a negative amount",
        PAYING,
        "type(amount) is int and amount > 0",
        "type(amount) is int and amount != 0",
        "wrong bodies",
        "a refund with a negative amount was executed, or answered as if it were",
    ),
    Planted(
        "crashes on a wrong body",
        PAYING,
        "        except (ValueError, KeyError, TypeError):\n            is_right = False\n        if not is_right:",
        "        except ZeroDivisionError:\n            is_right = False\n        if not is_right:",
        "wrong bodies",
        "POST /refunds was not answered",
    ),
    Planted(
        "keeps showing success after a failure",
        PAYING,
        '        return self.one("SELECT document FROM refunds WHERE id = ?", refund_id)\n',
        '        return self.one("SELECT document FROM refunds WHERE id = ?", refund_id) | {"status": "succeeded"}\n',
        "late failure",
        "a refund that failed later is read as succeeded",
    ),
    Planted(
        "cancels what was paid",
        PAYING,
        'if refund["status"] not in ("requires_action", "canceled"):',
        "if False:",
        "cancel",
        "a refund that had succeeded was canceled",
    ),
    Planted(
        "merges equal refunds",
        PAYING,
        "        return self.new_refund(payment, amount, ours)\n",
        "        for (text,) in self.db.execute('SELECT document FROM refunds WHERE payment = ?', (payment['id'],)):\n"
        "            if json.loads(text)['amount_minor'] == amount:\n"
        "                return json.loads(text)\n"
        "        return self.new_refund(payment, amount, ours)\n",
        "two keys",
        "two keys with equal amounts returned the same refund: the second one would never be paid",
    ),
    Planted(
        "counts no refunds of a payment",
        PAYING,
        '        return payment | {"refunded_minor": gone}\n',
        '        return payment | {"refunded_minor": 0 * gone}\n',
        "read a payment",
        "after a refund of 3 minor units, refunded_minor went from 0 to 0",
    ),
    Planted(
        "verifies a path that was decoded",
        SERVER,
        "self.command, self.path, body)",
        "self.command, unquote(self.path), body)",
        "odd ids",
        "with an id of odd characters was answered with HTTP 401, and not 404",
    ),
    Planted(
        "verifies only what creates",
        SERVER,
        '    message_id, timestamp = headers.get("webhook-id", "")',
        '    if method == "GET":\n        return\n    message_id, timestamp = headers.get("webhook-id", "")',
        "signatures",
        "a request without a signature was not refused: HTTP 404. Anybody could refund payments",
    ),
    Planted(
        "verifies only what reads",
        SERVER,
        '    message_id, timestamp = headers.get("webhook-id", "")',
        '    if method == "POST":\n        return\n    message_id, timestamp = headers.get("webhook-id", "")',
        "signed refunds",
        "a refund with a bad signature was not refused: HTTP 201. Anybody could refund payments",
    ),
    Planted(
        "knows no code for a payment without money",
        PAYING,
        '            ("already_refunded", left == 0, "nothing is left of this payment"),\n',
        "",
        "nothing is left",
        "was not refused as already_refunded: it was refused as more_than_left",
    ),
    Planted(
        "takes an unknown payment for one that cannot be refunded",
        PAYING,
        'raise Problem(404, "not_found", "there is no such payment or refund")',
        'raise Problem(422, "not_refundable", "there is no such payment or refund")',
        "unknown payment",
        "a refund of a payment that does not exist was not refused as not_found: it was refused as not_refundable",
    ),
    Planted(
        "has its own word for what is missing",
        PAYING,
        'raise Problem(404, "not_found", "there is no such payment or refund")',
        'raise Problem(404, "missing", "there is no such payment or refund")',
        "unknown refund",
        "was not answered with not_found: it was refused with the unknown code missing",
    ),
    Planted(
        "reads a refund without our ids",
        PAYING,
        '        return self.one("SELECT document FROM refunds WHERE id = ?", refund_id)\n',
        '        return self.one("SELECT document FROM refunds WHERE id = ?", refund_id) | {"ours": None}\n',
        "read a refund",
        "a refund that is read differs from the answer to its creation",
    ),
    Planted(
        "refuses fields that it does not know",
        PAYING,
        "and isinstance(ours, dict)",
        "and isinstance(ours, dict) and len(order) == 5",
        "unknown fields",
        "a refund with a field that the server does not know was not created: HTTP 400",
    ),
    Planted(
        "has nothing in the list since a time",
        PAYING,
        "AND at >= :since AND",
        "AND (:since = '' OR at > '9999') AND",
        "list since a time",
        "the list since a time lacks a refund",
    ),
    Planted(
        "forgets earlier refunds in its lists",
        PAYING,
        "ORDER BY number DESC",
        "AND number > (SELECT max(number) - 12 FROM refunds) ORDER BY number DESC",
        "books agree",
        "refunds that were created are missing in the list of their payment",
    ),
    Planted(
        "gives times in no zone",
        PAYING,
        'isoformat(timespec="microseconds").replace("+00:00", "Z")',
        'isoformat(timespec="microseconds").replace("+00:00", "")',
        "create",
        "created_at is no time such as 2026-11-02T10:00:00Z",
    ),
    Planted(
        "is wrong about its keys",
        PAYING,
        '    "key_seconds": 30 * DAY,\n',
        '    "key_seconds": "30 days",\n',
        "answers",
        "key_seconds or refund_window_seconds is no number",
    ),
)


def planted_server(fault: Planted | None, folder: Path, *options: str) -> Process:
    """Return the reference server with this fault, in a copy below `folder`; not started yet.

    `options` replace `--test-calls`.
    """
    copy = folder / "http-adapter"
    shutil.copytree(EXAMPLE, copy, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    if fault is not None:
        file = copy / fault.file
        text = file.read_text("utf-8")
        assert text.count(fault.old) == 1, f"{fault.name}: its text occurs {text.count(fault.old)} times"
        file.write_text(text.replace(fault.old, fault.new), "utf-8")
    secret = folder / "secret"
    secret.write_text(SECRET, "utf-8")
    command = (sys.executable, "server.py", "--port", "0", "--secret-file", str(secret))
    return Process(*command, *(options or ("--test-calls",)), folder=copy)

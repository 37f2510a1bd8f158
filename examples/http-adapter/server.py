"""A reference server of refund-worker's HTTP protocol, to copy. It needs nothing but Python.

This file is the protocol: signatures, keys, paths and events. It can stay as it is. `paying_system.py` is what you
replace. The page docs/paying-systems/http.md describes the protocol. Start the server, and check it:

    openssl rand -base64 32 > secret
    python server.py --port 8099 --secret-file secret --test-calls
    refund-worker adapters check http://127.0.0.1:8099 --secret-file secret
"""

import argparse
import base64
import hashlib
import hmac
import json
import pathlib
import sqlite3
import threading
import time
import urllib.request
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from paying_system import CAPABILITIES, PayingSystem, Problem, now

TOLERANCE_SECONDS, BODY_BYTES_MAX = 300, 65_536
KEYS = "CREATE TABLE IF NOT EXISTS keys (key TEXT PRIMARY KEY, body BLOB, status INTEGER, answer TEXT)"


def signature(secret, message_id, timestamp, content):
    """Return one signature by Standard Webhooks, whose libraries call this function `sign`."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{message_id}.{timestamp}.".encode() + content
    return "v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()


def check_signature(headers, secrets, method, target, body):
    message_id, timestamp = headers.get("webhook-id", ""), headers.get("webhook-timestamp", "")
    content = f"{method} {target}\n{headers.get('Idempotency-Key', '')}\n".encode() + body
    expected = [signature(secret, message_id, timestamp, content).encode() for secret in secrets]
    given = headers.get("webhook-signature", "").encode().split()[:10]  # several while a secret is being replaced
    if not any(hmac.compare_digest(ours, theirs) for ours in expected for theirs in given):
        raise Problem(401, "denied", "the signature is missing or wrong")
    if not timestamp.isdigit() or abs(now() - int(timestamp)) > TOLERANCE_SECONDS:
        raise Problem(401, "denied", "the signature is too old, or a clock is wrong")


class Server:
    """The keys, the paying system, and the events that wait to be sent. One request at a time: `lock`."""

    def __init__(self, options):
        self.options, self.lock, self.events = options, threading.Lock(), []
        self.db = sqlite3.connect(options.database, check_same_thread=False)
        self.db.execute(KEYS)
        self.paying = PayingSystem(self.db, self.note_event)

    def create(self, key, body):
        """Return status, answer, and whether it is a stored one. A key has one answer for ever, a refusal too."""
        kept = self.db.execute("SELECT body, status, answer FROM keys WHERE key = ?", (key,)).fetchone()
        if kept is not None and kept[0] != body:
            raise Problem(409, "key_conflict", "the key was used with another body")
        if kept is not None:
            return kept[1], json.loads(kept[2]), True
        try:
            status, answer = 201, self.paying.make_refund(body)
        except Problem as problem:
            if problem.status not in (404, 422):
                raise  # the form of the request is wrong: there is nothing to remember
            status, answer = problem.status, problem.answer
        self.db.execute("INSERT INTO keys VALUES (?, ?, ?, ?)", (key, body, status, json.dumps(answer)))
        return status, answer, False

    def note_event(self, refund, kind):
        event = {"id": f"evt-{uuid.uuid4()}", "type": kind, "refund": refund["id"], "payment": refund["payment"]}
        self.events.append(event)

    def send_events(self):
        while self.events:
            threading.Thread(target=self.send_event, args=(self.events.pop(0),), daemon=True).start()

    def send_event(self, event):
        """Post an event, and again if it is not taken. One that stays lost is found in the list later."""
        body = json.dumps(event).encode()
        for pause_seconds in (0, 1, 10, 60) if self.options.events_url else ():
            time.sleep(pause_seconds)
            at = str(int(now()))
            signed = " ".join(signature(secret, event["id"], at, body) for secret in self.options.secrets)
            headers = {"webhook-id": event["id"], "webhook-timestamp": at, "webhook-signature": signed}
            headers["Content-Type"] = "application/json"
            try:
                urllib.request.urlopen(
                    urllib.request.Request(self.options.events_url, body, headers), timeout=10
                ).close()
                return
            except OSError:
                pass  # refused, lost or answered with an error


class Handler(BaseHTTPRequestHandler):
    """One request: read, verified, answered."""

    protocol_version, timeout = "HTTP/1.1", 30

    def do_GET(self):
        ours = self.server.ours
        body = self.rfile.read(min(int(self.headers.get("Content-Length") or 0), BODY_BYTES_MAX))
        try:
            check_signature(self.headers, ours.options.secrets, self.command, self.path, body)
            with ours.lock, ours.db:  # the lock: one at a time; the database: all or nothing
                status, answer, *replayed = self.route(ours, body)
        except Problem as problem:
            status, answer, replayed = problem.status, problem.answer, ()
        ours.send_events()
        self.reply(status, json.dumps(answer).encode(), any(replayed))

    do_POST = do_GET

    def route(self, ours, body):
        """Return status and document, and for a refund that is created, whether the answer is a stored one."""
        url, key = urlsplit(self.path), self.headers.get("Idempotency-Key")
        query = dict(parse_qsl(url.query))
        match self.command, [unquote(part) for part in url.path.strip("/").split("/")]:
            case "GET", ["capabilities"]:
                return 200, CAPABILITIES | {"test_calls": ours.options.test_calls}
            case "POST", ["refunds"] if key:
                return ours.create(key, body)
            case "GET", ["refunds"] if query.keys() & {"payment", "leg", "since"}:
                return 200, ours.paying.list_refunds(query)
            case "GET", ["refunds", refund_id]:
                return 200, ours.paying.refund(refund_id)
            case "POST", ["refunds", refund_id, "cancel"]:
                return 200, ours.paying.cancel(refund_id)
            case "GET", ["payments", payment_id]:
                return 200, ours.paying.payment(payment_id)
            case "POST", ["test", *rest] if ours.options.test_calls:
                import testing_calls  # a file of its own, so that it can be left out

                return 200, testing_calls.answer(ours, rest, json.loads(body))
        raise Problem(404, "not_found", "there is no such path, or a header or a condition is missing")

    def reply(self, status, body, replayed):
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if replayed:
            self.send_header("Idempotent-Replayed", "true")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_args):
        """Log nothing: a request's path holds ids."""


def main():
    parser = argparse.ArgumentParser(description="A reference server of refund-worker's HTTP protocol.")
    parser.add_argument("--port", type=int, default=8099, help="0 chooses a free one; the first line says which")
    parser.add_argument("--secret-file", type=pathlib.Path, required=True, help="secrets, comma separated")
    parser.add_argument("--database", default=":memory:", help="a SQLite file")
    parser.add_argument("--events-url", help="https://YOUR-REFUND-WORKER/webhooks/ACCOUNT")
    parser.add_argument("--test-calls", action="store_true", help="answer POST /test/...: never where money is real")
    options = parser.parse_args()
    options.secrets = [each.strip() for each in options.secret_file.read_text().split(",")]
    server = ThreadingHTTPServer(("127.0.0.1", options.port), Handler)
    server.ours = Server(options)
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()

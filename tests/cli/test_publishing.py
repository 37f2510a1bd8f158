"""Entry points tell the workers about the refunds that they accept, instead of leaving them to the sweep."""

from __future__ import annotations

import json
import subprocess
import sys
import urllib.request
from collections.abc import Callable

import pytest
from tests.cli.conftest import Cli

from refund_worker.settings import load_settings
from refund_worker.worker.publisher import Publisher

WITHDRAWAL = {"kind": "withdrawal", "to": "source", "customer_id": "ann", "credits": 100, "reason": "asked"}


@pytest.fixture
def waiting(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Callable[[], int]:
    """Let commands use a real broker, and count the messages of interactive refunds in it."""
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", redis_url)

    def count() -> int:
        publisher = Publisher(load_settings(), redis_url, socket_seconds=5)
        try:
            return publisher.waiting(bulk=False)
        finally:
            publisher.close()

    return count


def test_refund_of_the_command_line_is_published(shop: Cli, waiting: Callable[[], int]) -> None:
    assert waiting() == 0
    options = ("--kind", "withdrawal", "--to", "source", "--customer", "ann", "--credits", "100", "--reason", "asked")
    assert shop("refunds", "create", *options).code == 0
    assert waiting() == 1


def test_refund_over_http_is_published(shop: Cli, waiting: Callable[[], int]) -> None:
    key = shop("keys", "create", "backend", "--client", "backend", "--role", "admin", "-o", "json").json["key"]
    command = [sys.executable, "-m", "refund_worker", "web", "--port", "0"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            address = json.loads(process.stderr.readline())["message"].rpartition(" ")[2]
            headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "k", "Content-Type": "application/json"}
            request = urllib.request.Request(f"{address}/v1/refunds", json.dumps(WITHDRAWAL).encode(), headers)
            with urllib.request.urlopen(request, timeout=60) as answer:
                assert answer.status == 202
        finally:
            process.terminate()
        assert process.wait(60) == 0
    assert waiting() == 1

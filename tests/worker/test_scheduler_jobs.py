"""A real scheduler process delivers notifications and seals the rows; a hanging receiver delays nothing."""

from __future__ import annotations

import base64
from pathlib import Path

from standardwebhooks import Webhook
from tests.support.deployment import Deployment, wait_until
from tests.support.receiver import Deaf, Receiver

from refund_worker.engine.audit.hash_chain import verify
from refund_worker.settings import PREFIX

SECRET = base64.b64encode(b"s" * 32).decode()


def test_refund_is_notified_signed_and_sealed(tmp_path: Path) -> None:
    with Receiver() as receiver:
        deployment = Deployment(tmp_path, {"NOTIFY_URL": receiver.url, "NOTIFY_SECRET": SECRET})
        with deployment as running:
            running.start("scheduler", "worker")
            running.settle(running.ask())
            wait_until(lambda: len(receiver.received) == 2)
            types = {Webhook(SECRET).verify(each.body, each.headers)["type"] for each in receiver.received}
            assert types == {"refund.queued", "refund.succeeded"}
            assert "the scheduler is ready: it sweeps every" in running.log("scheduler")
            assert "the worker is ready: " in running.log("worker")
            wait_until(lambda: verify(running.runtime.context).rows > 5)
            report = verify(running.runtime.context)
            assert (report.whole, report.findings) == (True, ())
            assert SECRET not in running.log("scheduler") + running.log("worker")
            assert PREFIX + "NOTIFY_SECRET" not in running.log("scheduler")


def test_hanging_receiver_delays_no_refund(tmp_path: Path) -> None:
    with Deaf() as deaf:
        deployment = Deployment(tmp_path, {"NOTIFY_URL": deaf.url, "NOTIFY_SECRET": SECRET})
        with deployment as running:
            running.start("scheduler", "worker")
            for _ in range(3):
                assert running.settle(running.ask()) < 20
            assert running.paid_minor() == 1_500

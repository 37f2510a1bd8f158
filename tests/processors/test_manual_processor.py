"""The processor for manual payments sends nothing."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from tests.processors.scripted_stripe import ORDER, Bench

from refund_worker.domain.processor_replies import Blocked, Found, Misconfigured
from refund_worker.processors.manual import ManualProcessor


def test_manual_payment_is_blocked_without_a_request(bench: Bench) -> None:
    manual = ManualProcessor()
    assert (manual.name, ManualProcessor(name="cheques").name) == ("manual", "cheques")
    body = manual.freeze(ORDER)
    assert json.loads(body)["payment"] == "ch_1"
    assert body == manual.freeze(ORDER)
    sent = bench.run(manual.send("key_1", body))
    assert isinstance(sent, Blocked)
    assert sent.code == "manual_processor"
    assert bench.run(manual.find("ch_1", "leg_1")) == Found(())
    assert bench.run(manual.recent(datetime(2026, 1, 1, tzinfo=UTC))) == Found(())
    assert isinstance(bench.run(manual.fetch("x")), Misconfigured)
    assert isinstance(bench.run(manual.cancel("x")), Misconfigured)
    bench.run(manual.close())

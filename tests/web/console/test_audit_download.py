"""The audit trail as a CSV file: whole, filtered as the page is, and harmless in a spreadsheet."""

from __future__ import annotations

import csv
import io

import httpx
import pytest
from tests.web.client import Web
from tests.web.console.visitor import visitor

from refund_worker.domain.decision import Event
from refund_worker.engine.accounts.corrections import correct
from refund_worker.engine.audit import log
from refund_worker.engine.processor_sync.pause import pause_processor
from refund_worker.store import timeline
from refund_worker.web.console import audit, downloads


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    assert answer.status_code == 200
    assert answer.content.startswith(b"\xef\xbb\xbf"), "Excel needs the byte order mark"
    return list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"), newline="")))


def note(web: Web, number: int, kind: str = "user_unlocked") -> None:
    events = [(None, Event(kind, "cli:boss", detail={"user": f"u{n}"})) for n in range(number)]
    web.context.database.run(lambda c: timeline.insert_events(c, events, web.context.clock(c)))


def test_download_has_every_entry_across_blocks_and_lookbacks(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    person = visitor(web, "viewer")
    note(web, 3, "user_enabled")
    note(web, 40)
    monkeypatch.setattr(audit, "ROWS_AT_ONCE", 7)
    monkeypatch.setattr(log, "LOOKBACK", 9)
    whole = rows_of(person.get("/audit.csv"))
    numbers = [int(row["seq"]) for row in whole]
    assert numbers == sorted(set(numbers), reverse=True)
    assert [row["what"] for row in whole].count("user_unlocked") == 40
    few = rows_of(person.get("/audit.csv", kind="user_enabled"))
    assert [row["detail"] for row in few] == [f'{{"user": "u{n}"}}' for n in (2, 1, 0)]
    assert rows_of(person.get("/audit.csv", actor="nobody")) == []


def test_ledger_download_has_customers_and_signed_credits(web: Web) -> None:
    answer = visitor(web, "viewer").get("/audit.csv", of="ledger", customer_id="cust-1")
    assert answer.headers["content-disposition"] == 'attachment; filename="audit-ledger.csv"'
    rows = rows_of(answer)
    assert {row["customer_id"] for row in rows} == {"cust-1"}
    assert sum(int(row["credits"]) for row in rows) == 150


def test_no_cell_of_the_audit_download_is_a_formula(web: Web) -> None:
    reason = "=HYPERLINK(1)"
    pause_processor(web.context, "stripe", actor="python/@evil", reason=reason)
    correct(
        web.context, customer_id="cust-1", credits=1, reason=reason, client="c", idempotency_key="k", actor="+c/x"
    )  # fmt: skip
    person = visitor(web, "viewer")
    event = next(row for row in rows_of(person.get("/audit.csv")) if row["what"] == "processor_paused")
    assert event["why"] == f"'{reason}"
    entry = rows_of(person.get("/audit.csv", of="ledger"))[0]
    assert (entry["description"], entry["actor"]) == (f"'{reason}", "'+c/x")


def test_wrong_filter_is_an_error_and_no_short_file(web: Web) -> None:
    person = visitor(web, "viewer")
    assert person.get("/audit.csv", of="nonsense").status_code == 422
    assert person.get("/audit.csv", customer_id="cust-1").status_code == 422
    assert person.get("/audit.csv", of="ledger", alarm="true").status_code == 422


def test_audit_page_links_the_download_with_its_filter(web: Web) -> None:
    page = visitor(web, "viewer").get("/audit", kind="processor_paused", alarm="true").text
    assert 'href="/console/audit.csv?of=timeline&amp;kind=processor_paused&amp;alarm=true" download' in page


def test_head_reads_no_rows_of_the_audit_trail(web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    person = visitor(web, "viewer")
    monkeypatch.setattr(downloads, "_text", None)
    assert person.call("HEAD", "/audit.csv").status_code == 200

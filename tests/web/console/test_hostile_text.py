"""Text from outside is shown as text: on every page, in every field, and in the CSV."""

from __future__ import annotations

import csv
import io
from urllib.parse import urlencode

import pytest
from tests.web.client import Web
from tests.web.console.addresses import NO_PAGES
from tests.web.console.visitor import visitor

from refund_worker.domain.records import SpendRecord
from refund_worker.engine.accounts.spends import record_spends
from refund_worker.engine.intake.dead_letters import keep_refused
from refund_worker.engine.processor_sync.pause import pause_processor
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.errors import InvalidRequest
from refund_worker.store.tables import refund_batches, refunds
from refund_worker.web.console.permissions import RULES

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' autofocus onfocus='alert(1)",
    "</title><svg onload=alert(1)>",
    "{{ 7 * 7 }}{% raw %}",
    "javascript:alert(1)",
    "&lt;b&gt;&amp;",
    "]]><!--",
    "\u202egnp.exe",
    '=HYPERLINK("https://evil.example")',
]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "  =1+1"]
PAGES = [
    "/",
    "/customers",
    "/customer?id=cust-1",
    "/transactions",
    "/transactions?customer=cust-1",
    "/refund-transaction?id=tx-1",
    "/add-credits?customer=cust-1",
    "/refunds",
    "/payees",
    "/payouts",
    "/payout-runs",
    "/search",
    "/failures",
    "/failures/retry?code=declined",
    "/approvals",
    "/system",
    "/notifications",
    "/batches",
    "/reconciliations",
    "/outside-refunds",
    "/disputes",
    "/payments",
    "/audit",
    "/audit?of=ledger",
    "/processors",
    "/webhooks",
    "/figures",
    "/settings",
    "/help",
]
# Without escaping, these would be a tag or the end of an attribute.
RAW = ("<script>alert", "<img src=x", "<svg onload", "' autofocus onfocus='", "49{%")


@pytest.fixture
def hostile(web: Web) -> Web:
    """Give a console with hostile text in every text field, sent through the API, the queue and the console."""
    everything = " ".join(HOSTILE)
    spends = [
        SpendRecord(transaction_id=f"h{n}", customer_id="cust-1", credits=1, description=text, occurred_at=1.8e9 + n)
        for n, text in enumerate([*HOSTILE, everything])
    ]
    record_spends(web.context, spends)
    for n, text in enumerate(HOSTILE):
        fields = {"reason": text, "note": text, "credits": 1 + n, "metadata": {text[:40]: text}}
        asked = web.refund(f"key <{n}> {text if text.isascii() else n}", **fields)
        assert asked.status_code == 202, asked.text
    pause_processor(web.context, "stripe", actor="x", reason=everything)
    asked = {"client": HOSTILE[0], "idempotency_key": HOSTILE[1], "reason": everything}
    keep_refused(web.context, "celery", asked, InvalidRequest(everything))
    # Another request with a used key: the row's refusal names the key.
    row = {"idempotency_key": f"key <0> {HOSTILE[0]}", "kind": "withdrawal", "to": "source", "customer_id": "cust-1"}
    batch = web.call("POST", "/v1/refund-batches", {"refunds": [row | {"reason": "asked"}]}).json()
    assert HOSTILE[0] in batch["rejected"][0]["message"]
    correction = {"credits": -5, "reason": everything}
    assert (
        web.call("POST", "/v1/customers/cust-1/corrections", correction, headers={"Idempotency-Key": "c1"}).status_code
        == 201
    )
    process_until_idle(web.context)

    def stop(connection):  # type: ignore[no-untyped-def]
        told = {"status": "needs_attention", "failure_code": everything[:60], "failure_message": everything}
        connection.execute(refunds.update().where(refunds.c.credits == 1).values(**told))

    web.context.database.run(stop)
    return web


def test_every_page_shows_hostile_text_as_text(hostile: Web) -> None:
    person = visitor(hostile, "admin")
    with hostile.context.database.read() as connection:
        ids = [row[0] for row in connection.execute(refunds.select().with_only_columns(refunds.c.refund_id))]
        (batch_id,) = connection.execute(refund_batches.select().with_only_columns(refund_batches.c.batch_id)).one()
    seen = ""
    of_each = [f"/refunds/{refund_id}{more}" for refund_id in ids for more in ("", "/retry")]
    selected = urlencode({"selected": [*ids[:3], *HOSTILE], "back": HOSTILE[0]}, doseq=True)
    many = [f"/selected/{action}?{selected}" for action in ("retry", "cancel")]
    many.append(f"/selected/now?{urlencode({'refund': [*ids[:3], *HOSTILE]}, doseq=True)}")
    for path in [*PAGES, f"/batches/{batch_id}", *of_each, *many]:
        page = person.get(path)
        assert page.status_code == 200, (path, page.text)
        for raw in RAW:
            assert raw not in page.text, (path, raw)
        seen += page.text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in seen, "the hostile texts are on the page"


@pytest.mark.parametrize("text", HOSTILE)
def test_query_parameters_are_shown_as_text(hostile: Web, text: str) -> None:
    person = visitor(hostile, "admin")
    plain = [path for method, path in RULES if method == "GET" and "{" not in path]
    for path in plain:
        page = person.get(
            path, q=text, customer=text, id=text, credits=text, status=text, failure_code=text, created_gte=text,
            idempotency_key=text, customer_id=text, refund_id=text, actor=text, kind=text, of=text, starting_after=text,
            next=text, code=text, currency=text, done=text,
        )  # fmt: skip
        for raw in RAW:
            assert raw not in page.text, (path, raw)


def test_every_page_is_checked_for_hostile_text() -> None:
    of_one = {
        "/selected/retry",
        "/selected/cancel",
        "/selected/now",
        "/refunds/{refund_id}",
        "/refunds/{refund_id}/retry",
        "/batches/{batch_id}",
        # Of payouts, with hostile text in `test_hostile_payouts.py`.
        "/payee",
        "/payee/statement",
        "/pay-out",
        "/payouts/{payout_id}",
        "/payout-runs/{run_id}",
    }
    looked_at = {path.partition("?")[0] for path in PAGES} | of_one
    # The other pages need an entry of one kind, or an address from a redirect.
    special = {
        "/approvals/approve",
        "/approvals/reject",
        # They differ from `cancel` by their words alone.
        "/selected/approve",
        "/selected/reject",
        "/static/{name}",
        "/reconciliations/{reconciliation_id}",
        "/outside-refunds/{claim_id}",
        "/disputes/{claim_id}",
        "/payment",
        "/reconciliations/{reconciliation_id}/differences.csv",
        "/sign-in",
        "/refunds.csv",
        "/audit.csv",
        "/password",
        "/users",
        "/user",
        "/key",
        "/delete-transaction",
        "/return-money",
        "/failures/watch",
    }
    assert {path for method, path in RULES if method == "GET"} == looked_at | special | NO_PAGES


def test_no_cell_of_the_csv_is_a_formula(web: Web) -> None:
    for n, text in enumerate(FORMULAS):
        assert web.refund(f"k{n}", reason=text, note=text, credits=1 + n).status_code == 202
    answer = visitor(web, "admin").get("/refunds.csv")
    assert answer.headers["content-disposition"] == 'attachment; filename="refunds.csv"'
    rows = list(csv.DictReader(io.StringIO(answer.content.decode("utf-8-sig"))))
    assert sorted(row["reason"] for row in rows) == sorted("'" + text for text in FORMULAS)
    assert all(not value.lstrip().startswith(("=", "+", "-", "@")) for row in rows for value in row.values())
    assert {row["credits"] for row in rows} == {"1", "2", "3", "4", "5"}, "numbers stay numbers"


def test_secrets_are_hidden_on_the_settings_page(web: Web) -> None:
    page = visitor(web, "operator").get("/settings").text
    assert "REFUND_WORKER_STRIPE_API_KEY" in page
    assert "(not set)" in page

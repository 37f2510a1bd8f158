"""The Python client against the real HTTP API: its calls, lists and refusals."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tests.client.lossy_line import QUICK, Line
from tests.support.outside_objects import dispute, hear, outside_refund, warning
from tests.web.test_openapi_document import SCHEMAS, operations

from refund_worker.client import ApiError, AsyncClient, Call, Calls, Client, Payment, Spend
from refund_worker.testing import RefundWorker, ServedApi
from refund_worker.web.auth import ROLES

AT = "2026-11-01T09:00:00Z"
PAYMENT: Payment = {
    "payment_id": "pay/1",
    "customer_id": "ann",
    "processor": "manual",
    "processor_payment_id": "x-1",
    "amount_minor": 2_000,
    "currency": "EUR",
    "credits": 200,
    "captured_at": AT,
}
# Parameters that are a whole body.
WHOLE_BODIES = {"payment", "spend", "payee", "earning", "refunds"}
# The pages of a list are fetched behind the call.
PAGING = {"limit", "starting_after"}
# Fields of a refund that change nothing of its preview.
DECIDES_NOTHING = ("instructions_email", "metadata", "note", "requested_by")
SPEND: Spend = {"transaction_id": "tx/1", "customer_id": "ann", "credits": 50, "occurred_at": AT}


def test_everything_the_api_does_is_a_call(worker: RefundWorker, client: Client) -> None:
    assert client.record_payment(PAYMENT)["payment_id"] == "pay/1"
    assert client.record_spend(SPEND)["credits"] == -50
    assert client.customer("ann")["balance"] == 150
    plan = client.preview_refund(kind="withdrawal", to="source", customer_id="ann", credits=10, reason="asked")
    assert (plan["would_be"], plan["balance_after"]) == ("accepted", 140)
    refund = client.create_refund(
        kind="credit_refund",
        to="balance",
        customer_id="ann",
        transaction_id="tx/1",
        credits=20,
        reason="broke off",
        idempotency_key="r-1",
    )
    worker.settle()
    assert client.refund(refund["id"])["status"] == "succeeded"
    assert client.events(refund["id"])[0]["what"] == "accepted"
    assert client.waits(refund["id"]) == []
    assert client.sync(refund["id"])["status"] == "succeeded"
    found = client.search("r-1")
    assert ([each["id"] for each in found["data"]], found["matched"]) == ([refund["id"]], "id")
    assert client.funds() == []
    correction = client.correct("ann", credits=-30, reason="agreed", idempotency_key="c1")
    assert client.correct("ann", credits=-30, reason="agreed", idempotency_key="c1") == correction
    assert correction["purpose"] == "payout"
    expired = client.correct("ann", credits=-5, reason="a year old", idempotency_key="c2", purpose="expiry")
    assert (expired["kind"], expired["purpose"]) == ("expiry", "expiry")
    assert client.reverse_transaction(expired["transaction_id"])["credits"] == 5
    assert client.reverse_transaction(correction["transaction_id"])["refers_to"] == correction["transaction_id"]
    kinds = [t["kind"] for t in client.transactions("ann", page_size=2)]
    assert kinds == ["reversal", "reversal", "expiry", "correction", "credit_refund", "spend", "purchase"]
    worker.add_payment("ann-2", amount_minor=100, credits=10, currency="EUR")
    assert client.merge_customer("ann-2", into="ann", reason="registered twice")["merged_ids"] == ["ann-2"]
    assert client.customer("ann-2") == client.customer("ann")
    assert client.export_customer("ann-2")["customer_id"] == "ann"
    assert client.erase_customer("ann", reason="asked for")["erased_at"] is not None
    for act in (client.approve, client.reject, client.retry):
        with pytest.raises(ApiError) as refused:
            act(refund["id"], reason="try")
        assert refused.value.status == 409
    with pytest.raises(ApiError) as refused:
        client.resolve(refund["id"], reason="paid by hand", outcome="paid_manually", reference="b-1")
    assert refused.value.code == "action_not_allowed"
    waiting = client.create_refund(
        kind="withdrawal", to="source", customer_id="ann", credits=1, reason="asked", idempotency_key="r-2"
    )
    with pytest.raises(ApiError) as stale:
        client.cancel(waiting["id"], reason="no", version=waiting["version"] + 1)
    assert stale.value.code == "stale_version"
    assert client.cancel(waiting["id"], reason="no", version=waiting["version"])["status"] == "canceled"


def test_claims_of_others_are_calls_too(worker: RefundWorker, client: Client) -> None:
    hear(worker.context, outside_refund("re_9", 100, payment="nowhere"), dispute("du_9", 100, payment="nowhere"))
    hear(worker.context, warning("issfr_9", payment="nowhere"))
    (refund,) = client.outside_refunds(status="unmatched")
    assert client.outside_refund(refund["id"]) == refund
    (disputed,) = client.disputes(status="needs_response")
    assert client.dispute(disputed["id"]) == disputed
    assert [each["object_id"] for each in client.fraud_warnings(status="unmatched")] == ["issfr_9"]
    assert list(client.disputes(payment_id="p")) == list(client.outside_refunds(customer_id="p")) == []


def test_payees_and_earnings_are_calls_too(worker: RefundWorker, client: Client) -> None:
    assert list(client.payees()) == list(client.earnings(payee_id="maria")) == []
    payee = {"processor_account": "manual", "destination": {"kind": "bank"}, "currency": "EUR"}
    with pytest.raises(ApiError) as wrong:
        client.record_payee({"payee_id": "maria", **payee})
    assert wrong.value.status == 422
    earning = {"earning_id": "e1", "payee_id": "maria", "amount_minor": 5, "currency": "EUR", "transaction_id": None}
    with pytest.raises(ApiError) as unknown:
        client.record_earning(earning)
    assert unknown.value.code == "unknown_payee"
    for act in (client.payee, client.payee_destination, client.payee_events, client.earning):
        with pytest.raises(ApiError) as missing:
            act("maria")
        assert missing.value.status == 404
    for switch in (client.pause_payee, client.resume_payee):
        with pytest.raises(ApiError) as missing:
            switch("maria", reason="r")
        assert missing.value.status == 404
    with pytest.raises(ApiError) as missing:
        client.payee_statement("maria", month="2026-10")
    assert missing.value.status == 404


def test_payout_runs_are_calls_too(worker: RefundWorker, client: Client) -> None:
    asked: Any = {"processor_account": "manual", "currency": "EUR", "minimum_minor": 100, "dry_run": True}
    run = client.create_payout_run(**asked, idempotency_key="october")
    assert client.create_payout_run(**asked, idempotency_key="october")["run_id"] == run["run_id"]
    assert (run["status"], run["dry_run"], run["minimum_minor"]) == ("planning", True, 100)
    assert [each["run_id"] for each in client.payout_runs(page_size=1)] == [run["run_id"]]
    assert list(client.payout_run_rows(run["run_id"], skipped=True, page_size=1)) == []
    assert client.payout_run_events(run["run_id"])[0]["what"] == "payout_run_created"
    with pytest.raises(ApiError) as refused:
        client.approve_payout_run(run["run_id"], reason="try", version=run["version"])
    assert refused.value.status == 409
    with pytest.raises(ApiError) as stale:
        client.cancel_payout_run(run["run_id"], reason="no", version=run["version"] + 1)
    assert stale.value.code == "stale_version"
    assert client.cancel_payout_run(run["run_id"], reason="no")["status"] == "canceled"
    assert client.payout_run(run["run_id"])["status"] == "canceled"


def test_a_batch_and_the_switches_are_calls_too(worker: RefundWorker, client: Client) -> None:
    worker.add_payment("batch", amount_minor=1_000, credits=100)
    asked = {"kind": "withdrawal", "to": "source", "customer_id": "batch", "reason": "cancelled", "note": None}
    rows = [{**asked, "credits": 10, "idempotency_key": f"b-{n}"} for n in range(3)]
    batch = client.create_batch([*rows, {**asked, "credits": 500, "idempotency_key": "b-much"}])
    assert (batch["status"], batch["accepted"], batch["message"]) == ("complete", 3, None)
    assert [(reject["index"], reject["code"]) for reject in batch["rejected"]] == [(3, "exceeds_refundable")]
    assert client.batch(batch["batch_id"]) == batch
    assert client.create_batch(rows)["replayed"] == 3
    assert client.pause_processor("stripe", reason="fire")["reason"] == "fire"
    assert client.resume_processor("stripe", reason="out")["paused"] is False


def test_a_reconciliation_is_begun_read_and_decided(worker: RefundWorker, client: Client) -> None:
    begun = client.start_reconciliation(processor_account="stripe", since="2026-11-01")
    assert client.reconciliation(begun["id"])["status"] in ("queued", "running", "done")
    assert [each["id"] for each in client.reconciliations(processor_account="stripe")] == [begun["id"]]
    assert list(client.differences(begun["id"], kind="amount", state="open")) == []
    for act in (client.apply_difference, client.acknowledge_difference):
        with pytest.raises(ApiError) as missing:
            act(begun["id"], 1, reason="try")
        assert missing.value.status == 404


def test_an_id_with_a_slash_is_one_segment_of_the_path(worker: RefundWorker, client: Client) -> None:
    worker.add_payment("shop/transactions", amount_minor=100, credits=10)
    assert client.customer("shop/transactions")["balance"] == 10
    assert [each["kind"] for each in client.transactions("shop/transactions")] == ["purchase"]
    assert client.correct("shop/transactions", credits=1, reason="r", idempotency_key="s")["credits"] == 1


def test_there_is_a_call_for_every_route_of_the_api(worker: RefundWorker) -> None:
    plan: Any = {"kind": "withdrawal", "to": "source", "customer_id": "_"}
    calls: list[Call[Any]] = [
        Calls.create_refund(**plan, reason="", idempotency_key="k"),
        Calls.preview_refund(**plan, destinations=["payments"], payee_id="_"),
        Calls.refund("_"),
        Calls.refunds().page(),
        Calls.events("_"),
        Calls.waits("_"),
        Calls.sync("_"),
        Calls.search("_"),
        Calls.funds(),
        Calls.create_payout(payee_id="_", currency="EUR", idempotency_key="k"),
        Calls.preview_payout(payee_id="_"),
        Calls.payout("_"),
        Calls.payouts().page(),
        Calls.payout_events("_"),
        Calls.sync_payout("_"),
        *(act("_", reason="") for act in (Calls.approve_payout, Calls.reject_payout)),
        *(act("_", reason="") for act in (Calls.cancel_payout, Calls.retry_payout)),
        Calls.resolve_payout("_", reason="", outcome="reverse"),
        Calls.create_payout_run(processor_account="_", currency="EUR", idempotency_key="k"),
        Calls.payout_run("_"),
        Calls.payout_runs().page(),
        Calls.payout_run_rows("_").page(),
        Calls.payout_run_events("_"),
        *(act("_", reason="") for act in (Calls.approve_payout_run, Calls.cancel_payout_run)),
        *(act("_", reason="") for act in (Calls.approve, Calls.reject, Calls.cancel, Calls.retry)),
        Calls.resolve("_", reason="", outcome="reverse"),
        Calls.customer("_"),
        Calls.transactions("_").page(),
        Calls.correct("_", credits=1, reason="", idempotency_key="k"),
        Calls.merge_customer("_", into="", reason=""),
        Calls.erase_customer("_", reason=""),
        Calls.export_customer("_"),
        Calls.payment("_"),
        Calls.payments().page(),
        Calls.outside_refund("_"),
        *(act("_", decision="debt", reason="") for act in (Calls.decide_outside_refund, Calls.decide_dispute)),
        Calls.close_payment("_", reason=""),
        Calls.link_outside_refund("_", reason="", refund_id="_"),
        Calls.outside_refunds().page(),
        Calls.dispute("_"),
        Calls.disputes().page(),
        Calls.fraud_warnings().page(),
        Calls.record_payment(PAYMENT),
        Calls.record_spend(SPEND),
        Calls.reverse_transaction("_"),
        Calls.create_batch([]),
        Calls.batch("_"),
        Calls.start_reconciliation(processor_account="stripe"),
        Calls.reconciliations().page(),
        Calls.reconciliation("_"),
        Calls.differences("_").page(),
        *(act("_", 1, reason="") for act in (Calls.apply_difference, Calls.acknowledge_difference)),
        *(switch("_", reason="") for switch in (Calls.pause_processor, Calls.resume_processor)),
        Calls.record_payee({}),
        Calls.change_payee("_", {}),
        Calls.payee("_"),
        Calls.payees().page(),
        Calls.payee_destination("_"),
        Calls.payee_events("_"),
        Calls.payee_statement("_", month="2026-10"),
        Calls.record_earning({}),
        Calls.earning("_"),
        Calls.earnings().page(),
        *(switch("_", reason="") for switch in (Calls.pause_payee, Calls.resume_payee)),
        Calls.link_dispute("_", transaction_id="_", reason=""),
    ]
    routes = [(method, path.replace("{n}", "1")) for method, path in ROLES if path.startswith("/v1/")]
    offered = {(method, re.sub(r"{\w+}", "_", path)) for method, path in routes}
    assert {(call.method, call.path.partition("?")[0]) for call in calls} == offered


def words_of(schema: dict[str, Any]) -> set[str]:
    """Return the names of the fields of a body's schema, of all its forms."""
    named = SCHEMAS[schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema
    forms = (form for word in ("anyOf", "oneOf", "allOf") for form in named.get(word, ()))
    return set(named.get("properties", ())).union(*map(words_of, forms))


def call_named(operation: str) -> Callable[..., Any] | None:
    """Return the call of an operation's id: `list_payees` is `payees`, `approve_refund` is `approve`."""
    short = operation.removeprefix("list_").removeprefix("get_")
    names = (operation, short, short.removeprefix("refund_"), short.removesuffix("_refund"))
    return next((getattr(Calls, name) for name in names if hasattr(Calls, name)), None)


def test_calls_have_every_field_and_filter_of_the_api() -> None:
    missing, compared = set(), 0
    for _, path, operation in operations():
        call = call_named(operation["operationId"]) if path.startswith("/v1/") else None
        names = set(inspect.signature(call).parameters) if call else set()
        if call is None or names & WHOLE_BODIES:
            continue
        body = operation.get("requestBody", {}).get("content", {}).get("application/json", {}).get("schema", {})
        filters = {each["name"] for each in operation.get("parameters", ()) if each["in"] == "query"} - PAGING
        compared += 1
        missing |= {(call.__name__, name) for name in (words_of(body) | filters) - names}
    assert compared > 40
    assert missing == {("preview_refund", name) for name in DECIDES_NOTHING} | {
        (name, "format") for name in ("payee_statement", "payout_run_rows", "differences")
    }


def test_a_list_goes_on_over_its_pages_and_each_comes_once(worker: RefundWorker, client: Client) -> None:
    worker.add_payment("pages", amount_minor=700, credits=7)
    made = [worker.request("pages", credits=1) for _ in range(7)]
    found = [refund["id"] for refund in client.refunds(customer_id="pages", page_size=3)]
    assert found == sorted(made, reverse=True)
    assert [r["id"] for r in client.refunds(customer_id="pages", status="succeeded")] == []


def test_a_refusal_has_its_code_its_fields_and_is_not_repeated(worker: RefundWorker, api: ServedApi) -> None:
    worker.add_payment("fields", amount_minor=100, credits=10)
    with Line(api.url) as line, Client(line.url, api.key, retries=QUICK) as client:
        client.create_refund(
            kind="withdrawal", to="source", customer_id="fields", credits=1, reason="a", idempotency_key="same"
        )
        with pytest.raises(ApiError) as refused:
            client.create_refund(
                kind="withdrawal", to="source", customer_id="fields", credits=2, reason="b", idempotency_key="same"
            )
        assert len(line.keys) == 2
    error = refused.value
    assert (error.status, error.code, error.retryable) == (422, "idempotency_key_reused", False)
    assert set(error.fields) == {"credits", "reason"}


def test_both_clients_have_the_same_calls_with_the_same_arguments() -> None:
    import inspect

    names = {name for name, value in vars(Client).items() if callable(value) and not name.startswith("_")}
    assert names == {name for name, value in vars(AsyncClient).items() if callable(value) and not name.startswith("_")}
    for name in names:
        one, other = (list(inspect.signature(getattr(kind, name)).parameters) for kind in (Client, AsyncClient))
        assert one == other, name


def test_the_client_alone_loads_nothing_of_the_engine(tmp_path: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys, refund_worker.client; "
        "print(sorted({'sqlalchemy', 'celery', 'stripe', 'pydantic', 'fastapi', 'aiohttp'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"

"""A client that a stock generator makes from /openapi.json has every call, and makes a refund on the real server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.support import client_generator
from tests.support.migrated import migrate
from tests.support.web_process import WebProcess
from tests.web.client import PAYMENT, SPEND, Web, settings_for

from refund_worker.web.openapi_texts import OPERATIONS

SCRIPT = """
import datetime, json, sys
from generated_client import AuthenticatedClient
from generated_client.api.customers import create_correction, get_customer, list_transactions
from generated_client.api.batches import create_refund_batch
from generated_client.api.actions import cancel_refund
from generated_client.api.records import record_payment, record_spend
from generated_client.api.refunds import create_refund, get_refund, list_refund_events, list_refunds, preview_refund
from generated_client.models import (
    ActionRequest, BatchRequest, CorrectionRequest, PaymentRequest, PreviewRequest, Problem, Refund, RefundRequest,
    RefundRequestMetadataType0, RefundStatus, SpendRequest,
)

url, key, payment, spend = sys.argv[1:]
client = AuthenticatedClient(base_url=url, token=key)
paid = record_payment.sync(client=client, body=PaymentRequest.from_dict(json.loads(payment)))
spent = record_spend.sync(client=client, body=SpendRequest.from_dict(json.loads(spend)))
asked = {
    "kind": "withdrawal", "to": "source", "customer_id": "cust-1", "credits": 10, "reason": "asked",
    "metadata": {"ticket": "7"},
}
preview = preview_refund.sync(client=client, body=PreviewRequest.from_dict(asked))
first = create_refund.sync_detailed(client=client, idempotency_key="k-1", body=RefundRequest.from_dict(asked))
again = create_refund.sync_detailed(client=client, idempotency_key="k-1", body=RefundRequest.from_dict(asked))
other = create_refund.sync(
    client=client, idempotency_key="k-1", body=RefundRequest.from_dict(asked | {"credits": 11})
)
refund = get_refund.sync(first.parsed.id, client=client)
assert isinstance(refund, Refund) and refund.status is RefundStatus.QUEUED, refund
assert isinstance(refund.created_at, datetime.datetime) and isinstance(paid.captured_at, datetime.datetime)
assert refund.metadata.to_dict() == {"ticket": "7"}
page = list_refunds.sync(client=client, limit=5, status=[RefundStatus.QUEUED])
events = list_refund_events.sync(refund.id, client=client)
corrected = create_correction.sync(
    "cust-1", client=client, idempotency_key="c-1", body=CorrectionRequest(credits_=5, reason="goodwill")
)
batch = create_refund_batch.sync(
    client=client, body=BatchRequest.from_dict({"refunds": [asked | {"idempotency_key": "b-1"}]})
)
version = f'"{refund.version}"'
canceled = cancel_refund.sync(refund.id, client=client, body=ActionRequest(reason="mistake"), if_match=version)
assert isinstance(other, Problem)
print(json.dumps({
    "statuses": [first.status_code, again.status_code],
    "refund": refund.id, "same": again.parsed.id, "location": first.headers["Location"],
    "preview": preview.would_be, "listed": [each.id for each in page.data],
    "events": [each.what for each in events.data],
    "balance": get_customer.sync("cust-1", client=client).balance, "code": other.code, "fields": other.fields,
    "correction": corrected.kind, "accepted": batch.accepted, "canceled": canceled.status,
    "spent": spent.credits_, "entries": len(list_transactions.sync("cust-1", client=client).data),
}))
"""


@pytest.fixture(scope="module")
def database(tmp_path_factory: pytest.TempPathFactory) -> str:
    url = f"sqlite:///{tmp_path_factory.mktemp('generated') / 'refunds.db'}"
    migrate(url)
    return url


@pytest.fixture(scope="module")
def web(database: str) -> Iterator[Web]:
    with Web(settings_for(database)) as running:
        yield running


@pytest.fixture(scope="module")
def generated(web: Web, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the generated package; the generator warned of nothing."""
    folder = tmp_path_factory.mktemp("client")
    printed = client_generator.generate(web.call("GET", "/openapi.json", key=None).json(), folder)
    assert "arning" not in printed
    return folder


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_generator_drops_no_call(generated: Path) -> None:
    calls = {file.stem for file in (generated / client_generator.PACKAGE / "api").glob("*/*.py")} - {"__init__"}
    assert calls == {"receive_stripe_event", *(name for name, _ in OPERATIONS.values())}
    models = {file.stem for file in (generated / client_generator.PACKAGE / "models").glob("*.py")}
    assert not [name for name in models if name.endswith(("_body", "_shape"))]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_generated_client_makes_a_refund(web: Web, database: str, generated: Path) -> None:
    with WebProcess(database) as server:
        ran = client_generator.run_with_client(
            generated, SCRIPT, server.url, web.admin, json.dumps(PAYMENT), json.dumps(SPEND)
        )
    assert ran.returncode == 0, ran.stderr
    told = json.loads(ran.stdout)
    refund = told.pop("refund")
    assert told == {
        "statuses": [202, 200],
        "same": refund,
        "location": f"/v1/refunds/{refund}",
        "preview": "accepted",
        "listed": [refund],
        "events": told["events"],
        "balance": 155,
        "code": "idempotency_key_reused",
        "fields": ["credits"],
        "correction": "correction",
        "accepted": 1,
        "canceled": "canceled",
        "spent": -50,
        "entries": 3,
    }
    assert told["events"]
    assert web.call("GET", f"/v1/refunds/{refund}").json()["status"] == "canceled"

"""Reconciliations over HTTP, against the sandbox: begun, run, read, decided, and downloaded."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator

import httpx
import pytest
from sqlalchemy import delete

from refund_worker.engine.processor_sync.reconciliation.run import run_due
from refund_worker.store.tables import refund_objects
from refund_worker.testing import RefundWorker, ServedApi

PATH = "/v1/reconciliations"


@pytest.fixture(scope="module")
def worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RefundWorker]:
    """Yield a worker with two paid refunds; our books have lost the object of one."""
    with RefundWorker(tmp_path_factory.mktemp("worker")) as running:
        running.add_payment("ann", amount_minor=1_000, credits=100)
        for _ in range(2):
            running.request("ann", credits=10, kind="withdrawal", to="source")
        running.settle()
        running.lost = forget_an_object(running)  # type: ignore[attr-defined]
        yield running


@pytest.fixture(scope="module")
def api(worker: RefundWorker) -> Iterator[ServedApi]:
    with worker.http("operator") as served:
        yield served


def forget_an_object(worker: RefundWorker) -> str:
    o = refund_objects.c
    with worker.runtime.database.write() as connection:
        object_id: str = (
            connection.execute(refund_objects.select().order_by(o.created_at))
            .mappings()
            .first()[  # type: ignore[index]
                "processor_refund_id"
            ]
        )
        connection.execute(delete(refund_objects).where(o.processor_refund_id == object_id))
    return object_id


def call(api: ServedApi, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
    with httpx.Client(base_url=api.url, headers={"Authorization": f"Bearer {api.key}", **headers}) as client:
        return client.request(method, path, json=body)


@pytest.fixture(scope="module")
def done(worker: RefundWorker, api: ServedApi) -> str:
    """Return the path of a reconciliation that has ended."""
    begun = call(api, "POST", PATH, {"processor_account": "stripe"})
    assert begun.status_code == 202
    path = begun.headers["Location"]
    assert path == f"{PATH}/{begun.json()['id']}"
    assert (begun.json()["status"], begun.json()["agrees"]) == ("queued", None)
    assert run_due(worker.context) > 2
    return path


def test_a_lost_object_is_found_adopted_and_then_the_books_agree(
    worker: RefundWorker, api: ServedApi, done: str
) -> None:
    shown = call(api, "GET", done).json()
    assert (shown["status"], shown["agrees"], shown["differences"]["open"]) == ("done", False, 1)
    assert (shown["by_kind"]["not_recorded"], shown["progress"]["percent"]) == (1, 100)
    (difference,) = call(api, "GET", f"{done}/differences?kind=not_recorded&state=open").json()["data"]
    assert difference["object_id"] == worker.lost  # type: ignore[attr-defined]
    assert difference["action"] == "adopt it"
    lines = list(csv.DictReader(io.StringIO(call(api, "GET", f"{done}/differences?format=csv").text)))
    assert [(line["n"], line["kind"], line["state"]) for line in lines] == [("1", "not_recorded", "open")]
    by_accept = call(api, "GET", f"{done}/differences", Accept="text/csv")
    assert by_accept.headers["Content-Type"].startswith("text/csv")
    answers = [call(api, "POST", f"{done}/differences/1/apply", {"reason": "checked"}) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["state"] == "applied"
    again = call(api, "POST", PATH, {"processor_account": "stripe", "since": "2026-01-01"}).headers["Location"]
    run_due(worker.context)
    assert call(api, "GET", again).json()["agrees"] is True
    assert call(api, "GET", f"{PATH}?limit=1").json()["data"][0]["id"] == again.rpartition("/")[2]


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"processor_account": "manual"},
        {"processor_account": "paypal"},
        {"processor_account": "stripe", "since": "yesterday"},
        {"processor_account": "stripe", "since": "2026-02-01", "until": "2026-01-01"},
        {"processor_account": "stripe", "days": 7},
        {"processor_account": "stripe", "since": "2150-01-01"},
        {"processor_account": "stripe", "since": "2150-01-01", "until": "2150-02-01"},
    ],
)
def test_a_wrong_request_is_refused_and_stored_nowhere(api: ServedApi, done: str, body: dict[str, object]) -> None:
    before = len(call(api, "GET", f"{PATH}?limit=500").json()["data"])
    assert call(api, "POST", PATH, body).status_code == 422
    assert len(call(api, "GET", f"{PATH}?limit=500").json()["data"]) == before


def test_unknown_ids_and_missing_reasons_are_named(api: ServedApi, done: str) -> None:
    for path in (f"{PATH}/rec_none", f"{PATH}/rec_none/differences", f"{PATH}/rec_none/differences?format=csv"):
        assert call(api, "GET", path).status_code == 404
    for act in ("apply", "acknowledge"):
        assert call(api, "POST", f"{done}/differences/99/{act}", {"reason": "x"}).status_code == 404
        assert call(api, "POST", f"{done}/differences/1/{act}", {}).status_code == 422
    assert call(api, "GET", f"{done}/differences?kind=money").status_code == 422
    assert call(api, "GET", f"{done}/differences?starting_after=x").status_code == 422
    assert call(api, "GET", f"{PATH}?starting_after=rec_none").status_code == 422
    one = done.rpartition("/")[2]
    assert call(api, "GET", f"{PATH}?starting_after={one}").status_code == 200


def test_a_key_of_another_client_sees_no_differences_of_it(worker: RefundWorker, done: str) -> None:
    with worker.http("viewer", "other") as served:
        assert call(served, "GET", done).status_code == 200
        assert call(served, "GET", f"{done}/differences").json()["data"] == []
        assert call(served, "POST", f"{done}/differences/1/acknowledge", {"reason": "x"}).status_code == 403

"""Health, metrics, and the kill switch of a processor."""

from __future__ import annotations

from tests.web.client import Web, is_problem


def figures(web: Web) -> dict[str, float]:
    lines = web.call("GET", "/metrics").text.splitlines()
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))}


def test_metrics_count_unfinished_refunds(web: Web) -> None:
    empty = figures(web)
    assert empty['refund_worker_refunds_unfinished{status="queued"}'] == 0
    assert empty["refund_worker_oldest_unfinished_seconds"] == 0
    first = web.refund("k-1").json()
    web.refund("k-2")
    web.refund("k-3", credits=100)
    told = figures(web)
    assert told['refund_worker_refunds_unfinished{status="queued"}'] == 2
    assert told['refund_worker_refunds_unfinished{status="awaiting_approval"}'] == 1
    assert told["refund_worker_refunds_due"] == 2
    assert 0 < told["refund_worker_oldest_unfinished_seconds"] < 60
    web.call("POST", f"/v1/refunds/{first['id']}/cancel", {"reason": "mistake"})
    assert figures(web)['refund_worker_refunds_unfinished{status="queued"}'] == 1


def test_a_processor_is_paused_and_resumed_by_name(web: Web) -> None:
    operator = web.key("operator", name="olga")
    paused = web.call("POST", "/v1/processors/stripe/pause", {"reason": "outage"}, key=operator)
    assert paused.status_code == 200
    told = paused.json()
    assert (told["name"], told["paused"], told["paused_by"], told["reason"]) == (
        "stripe",
        True,
        "backend/olga",
        "outage",
    )
    assert figures(web)['refund_worker_processor_paused{processor="stripe"}'] == 1
    resumed = web.call("POST", "/v1/processors/stripe/resume", key=operator)
    assert resumed.json()["paused"] is False
    told = resumed.json()
    assert told == dict.fromkeys(told) | {"name": "stripe", "paused": False}
    assert figures(web)['refund_worker_processor_paused{processor="stripe"}'] == 0


def test_a_switch_with_a_misspelled_name_is_not_found(web: Web) -> None:
    for name in ("strpe", "Stripe", "%00", "x" * 60):
        for act in ("pause", "resume"):
            assert is_problem(web.call("POST", f"/v1/processors/{name}/{act}", {"reason": "x"}), 404, "not_found")
    assert "strpe" not in web.call("GET", "/metrics").text


def test_switch_refuses_unknown_fields(web: Web) -> None:
    answer = web.call("POST", "/v1/processors/stripe/pause", {"until": "tomorrow"})
    assert is_problem(answer, 422, "invalid_request")
    assert answer.json()["field"] == "until"

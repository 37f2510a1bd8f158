"""A refund's timeline and attempts can be downloaded as JSON, with nothing that its page does not show."""

from __future__ import annotations

import json
import re
from html import unescape
from typing import Any

from tests.web.client import Web
from tests.web.console.visitor import visitor

from refund_worker.store.tables import attempts, legs

SECRET = "sk_live_abcdefghijklmnop"


def sent(web: Web) -> str:
    """Return a refund with one attempt, whose stored request holds what looks like a key."""
    refund_id = str(web.refund("k1", credits=10, reason="asked by phone", metadata={"ticket": "T-77"}).json()["id"])

    def work(connection: Any) -> None:
        (leg_id,) = connection.execute(legs.select().with_only_columns(legs.c.leg_id)).one()
        body = json.dumps({"charge": "ch_1", "amount": "100", "note": f"see {SECRET} “ok”"})
        row = {"leg_id": leg_id, "number": 1, "key": f"{leg_id}:1", "body": body, "sends": 2}
        row |= {"first_sent_at": 1.8e9, "last_sent_at": 1.8e9 + 5, "answered_at": 1.8e9 + 6, "outcome": "Refused"}
        row |= {"outcome_code": "declined", "outcome_message": "no", "request_id": "req_9"}
        names = {column.name for column in attempts.c}
        connection.execute(attempts.insert().values(**{name: value for name, value in row.items() if name in names}))

    web.context.database.run(work)
    return refund_id


def test_timeline_with_attempts_is_downloaded_as_json(web: Web) -> None:
    refund_id = sent(web)
    person = visitor(web, "viewer")
    page = person.get(f"/refunds/{refund_id}")
    assert f'href="/console/refunds/{refund_id}/timeline.json" download' in page.text
    answer = person.get(f"/refunds/{refund_id}/timeline.json")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["content-disposition"] == f'attachment; filename="{refund_id}.json"'
    content = answer.json()
    assert content["refund_id"] == refund_id
    events = web.call("GET", f"/v1/refunds/{refund_id}/events").json()["data"]
    assert [line["what"] for line in content["timeline"]] == [event["what"] for event in events]
    (attempt,) = content["attempts"]
    assert attempt["request"]["charge"] == "ch_1"
    assert (attempt["sends"], attempt["outcome"], attempt["answer"]["Code"]) == (2, "Refused", "declined")
    assert attempt["last_sent_at"] > attempt["first_sent_at"]
    assert person.get("/refunds/rf_none/timeline.json").status_code == 404


def test_download_has_no_secret_and_no_text_beyond_the_page(web: Web) -> None:
    refund_id = sent(web)
    person = visitor(web, "viewer")
    answer = person.get(f"/refunds/{refund_id}/timeline.json")
    assert SECRET not in answer.text
    shown = unescape(re.sub(r"<[^>]*>", " ", person.get(f"/refunds/{refund_id}").text))
    texts = [text for text in _texts(answer.json()["timeline"]) if text and not re.match(r"\d{4}-\d\d-\d\dT", text)]
    hidden = {text for text in texts if text not in shown and text not in {event["what"] for event in _events(answer)}}
    assert not {text for text in hidden if text not in ("queued", "sending", "failed")}
    assert "T-77" not in answer.text


def _events(answer: Any) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = answer.json()["timeline"]
    return events


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for each in value.values() for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []

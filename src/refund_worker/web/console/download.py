"""A refund's history as a file: the timeline, the attempts and the refunds at the processor, as its page shows them."""

from __future__ import annotations

import json
from typing import Any

from fastapi import APIRouter
from fastapi.responses import Response

from refund_worker.engine.views import api_objects
from refund_worker.store.reporting import console_queries
from refund_worker.times import iso
from refund_worker.web.console.pages import HEADERS, ThePage
from refund_worker.web.console.timeline import attempt_view

router = APIRouter()

Json = dict[str, Any]


@router.get("/refunds/{refund_id}/timeline.json")
def timeline_as_json(page: ThePage, refund_id: str) -> Response:
    """Return the refund's timeline with its attempts. It holds no text that the refund's page does not show."""
    with page.context.database.read() as connection:
        refund = api_objects.find_refund(connection, refund_id, client=page.identity.sees)
        timeline = api_objects.timeline(connection, refund_id)
        attempts = [attempt_view(row) for row in console_queries.attempts_of(connection, refund_id)]
        objects = console_queries.objects_of(connection, refund_id)
        now = page.context.clock(connection)
    content: Json = {
        "refund_id": refund.refund_id,
        "status": str(refund.status),
        "version": refund.version,
        "created_at": iso(refund.created_at),
        "downloaded_at": iso(now),
        # The page shows a reason once, as `why`.
        "timeline": [
            {**event, "detail": {name: v for name, v in event["detail"].items() if name != "reason"}}
            for event in timeline
        ],
        "attempts": [_attempt(attempt) for attempt in attempts],
        "refunds_at_processor": [
            {
                name: row[name]
                for name in ("processor", "processor_refund_id", "status", "failure_code", "amount_minor", "currency")
            }
            | {"last_seen_at": iso(row["seen_at"])}
            for row in objects
        ],
    }
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    name = {"Content-Disposition": f'attachment; filename="{refund.refund_id}.json"'}
    return Response(text, media_type="application/json", headers=HEADERS | name)


def _attempt(attempt: Json) -> Json:
    """Return one attempt, with the request as the page shows it: anything that looks like a secret is replaced."""
    try:
        request = json.loads(attempt["body"])
    except ValueError:
        request = attempt["body"]
    return {
        "leg_id": attempt["leg_id"],
        "payment_id": attempt["payment_id"],
        "processor": attempt["processor"],
        "number": attempt["number"],
        "key": attempt["key"],
        "sends": attempt["sends"],
        "first_sent_at": iso(attempt["first_sent_at"]),
        "last_sent_at": iso(attempt["last_sent_at"]),
        "request": request,
        "outcome": attempt["outcome"],
        "answer": dict(attempt["answered"]),
        "answered_at": iso(attempt["answered_at"]) if attempt["answered_at"] else None,
    }

"""The runbook on the pages: its texts as HTML, and the places that an alarm or a failure code links to."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from markupsafe import Markup, escape

from refund_worker.alarms import anchor_of
from refund_worker.engine.views.runbook import event_entry


def prose(text: str) -> Markup:
    """Return a text of the runbook as HTML: what stands between backticks is code, and a page of ours a link."""
    parts = text.split("`")
    return Markup("").join(_code(part) if place % 2 else escape(part) for place, part in enumerate(parts))


def _code(text: str) -> Markup:
    if re.fullmatch(r"/console/[a-z-]*", text):
        return Markup('<a href="{0}">{0}</a>').format(text)
    return Markup("<code>{}</code>").format(text)


def alarm_anchor(event: Mapping[str, Any]) -> str:
    """Return the anchor of the runbook's entry for an event of the timeline that is marked as an alarm."""
    detail = event["detail"]
    code = dict(detail).get("code") if isinstance(detail, Mapping | list) else None
    return anchor_of(event_entry(event["what"], event["from"], code or event["why"]))

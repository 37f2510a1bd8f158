"""The kill switch of each processor."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse

from refund_worker.api_schema import Switch
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.status import BUILT_IN
from refund_worker.errors import NotFound
from refund_worker.store import processors
from refund_worker.store.reporting import metrics
from refund_worker.times import iso
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import pause_processor, resume_processor
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import SwitchBody

router = APIRouter(tags=["processors"])

BY_HAND = "paused by hand"

_SWITCH = document(
    {200: Switch},
    (404,),
    body=SwitchBody,
    example={"reason": "refunds fail at the processor"},
    body_required=False,
)

Name = Annotated[str, Path(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Reason = Annotated[SwitchBody, Depends(json_body(SwitchBody, may_be_empty=True))]


@router.post("/v1/processors/{name}/pause", responses=_SWITCH.responses, openapi_extra=_SWITCH.extra)
def pause(context: TheContext, caller: Caller, name: Name, body: Reason) -> JSONResponse:
    """Stop sending there; looking up what is under way goes on."""
    _check_known(context, name)
    pause_processor(context, caller, name, reason=body.reason or BY_HAND)
    return JSONResponse(_switch(context, name))


@router.post("/v1/processors/{name}/resume", responses=_SWITCH.responses, openapi_extra=_SWITCH.extra)
def resume(context: TheContext, caller: Caller, name: Name, body: Reason) -> JSONResponse:
    """Send there again; what waited goes at once."""
    _check_known(context, name)
    resume_processor(context, caller, name, reason=body.reason)
    return JSONResponse(_switch(context, name))


def _check_known(context: Context, name: str) -> None:
    """A name misspelled must not look like a switch turned."""
    with context.database.read() as connection:
        if name not in BUILT_IN and not metrics.is_known_processor(connection, name):
            raise NotFound(f"processor {name} is not known")


def _switch(context: Context, name: str) -> Switch:
    with context.database.read() as connection:
        row = next((row for row in processors.status_of_processors(connection) if row["name"] == name), None)
        paused = name in processors.paused_processors(connection, context.clock(connection))
    set_by = row if row is not None and row["paused_by"] is not None else None
    return {
        "name": name,
        "paused": paused,
        "paused_by": set_by["paused_by"] if set_by else None,
        "paused_at": _time(set_by["paused_at"]) if set_by else None,
        "paused_until": _time(set_by["paused_until"]) if set_by else None,
        "code": set_by["code"] if set_by else None,
        "reason": set_by["reason"] if set_by else None,
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else iso(seconds)

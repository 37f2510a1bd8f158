"""The kill switch of each processor."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Path
from fastapi.responses import JSONResponse
from pydantic import BeforeValidator

from refund_worker.api_schema import Switch
from refund_worker.engine.context import Context
from refund_worker.engine.intake.schemas import AccountName
from refund_worker.engine.processor_sync.status import is_known, switch_of
from refund_worker.errors import NotFound
from refund_worker.web.auth import Caller
from refund_worker.web.authorised import pause_processor, resume_processor
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document
from refund_worker.web.paths import decoded
from refund_worker.web.request_body import json_body
from refund_worker.web.schemas import SwitchBody

router = APIRouter(tags=["processors"])

BY_HAND = "paused manually"

_SWITCH = document(
    {200: Switch},
    (404,),
    body=SwitchBody,
    example={"reason": "refunds fail at the processor"},
    body_required=False,
)

# The slash before a connected account is sent as %2F.
Name = Annotated[AccountName, BeforeValidator(decoded), Path()]
Reason = Annotated[SwitchBody, Depends(json_body(SwitchBody, may_be_empty=True))]


@router.post("/v1/processors/{name}/pause", responses=_SWITCH.responses, openapi_extra=_SWITCH.extra)
def pause(context: TheContext, caller: Caller, name: Name, body: Reason) -> JSONResponse:
    """Pause a processor: nothing more is sent to it; refunds already sent are still looked up."""
    _check_known(context, name)
    pause_processor(context, caller, name, reason=body.reason or BY_HAND)
    return JSONResponse(_switch(context, name))


@router.post("/v1/processors/{name}/resume", responses=_SWITCH.responses, openapi_extra=_SWITCH.extra)
def resume(context: TheContext, caller: Caller, name: Name, body: Reason) -> JSONResponse:
    """Resume a processor; waiting refunds are sent at once."""
    _check_known(context, name)
    resume_processor(context, caller, name, reason=body.reason)
    return JSONResponse(_switch(context, name))


def _check_known(context: Context, name: str) -> None:
    """Raise `NotFound` for an unknown processor: a misspelled name must not look like a paused one."""
    with context.database.read() as connection:
        if not is_known(connection, context, name):
            raise NotFound(f"processor {name} is not known")


def _switch(context: Context, name: str) -> Switch:
    with context.database.read() as connection:
        return switch_of(connection, context, name)

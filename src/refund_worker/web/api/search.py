"""The search for refunds by whatever name a person has in hand."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query
from fastapi.responses import JSONResponse
from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from refund_worker.api_schema import SearchResult
from refund_worker.domain.ids import spelled
from refund_worker.engine.views.search import search
from refund_worker.web.auth import Caller
from refund_worker.web.dependencies import TheContext
from refund_worker.web.openapi import document

router = APIRouter(tags=["refunds"])
TEXT_MAX = 255

_SEARCH = document({200: SearchResult}, (422,))


class SearchQuery(BaseModel):
    """The text to search for."""

    model_config = ConfigDict(extra="forbid", hide_input_in_errors=True)

    q: Annotated[str, Field(min_length=1, max_length=TEXT_MAX, pattern=r"\S"), AfterValidator(spelled)]


@router.get("/v1/search", responses=_SEARCH.responses, openapi_extra=_SEARCH.extra)
def search_refunds(context: TheContext, caller: Caller, query: Annotated[SearchQuery, Query()]) -> JSONResponse:
    """Find refunds by an id, key, customer, payment, trace, text or day."""
    with context.database.read() as connection:
        found = search(connection, query.q, client=caller.sees)
    more = found.more or found.looked_back_to is not None
    return JSONResponse({"data": found.refunds, "has_more": more, "matched": found.matched})

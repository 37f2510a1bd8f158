"""Dependencies of the routes: the engine's context and the settings of the process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from refund_worker.engine.context import Context
from refund_worker.settings import Settings

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AppState:
    """The state that routes share; created when the process begins to serve."""

    settings: Settings
    context: Context


async def _state_of(request: Request) -> AppState:
    state: AppState = request.app.state.shared
    return state


async def _context_of(request: Request) -> Context:
    return (await _state_of(request)).context


TheAppState = Annotated[AppState, Depends(_state_of)]
TheContext = Annotated[Context, Depends(_context_of)]

"""Dependencies of the routes: the engine's context and the settings of the process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

from fastapi import Depends, Request

from refund_worker.engine.context import Context, NoLimit
from refund_worker.engine.processor_sync.sync_refund import Access, ClosableLimiter
from refund_worker.processors.accounts import accounts_of
from refund_worker.settings import Settings

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class AppState:
    """The state that routes share; created when the process begins to serve."""

    settings: Settings
    context: Context
    make_limiter: Callable[[Settings], ClosableLimiter] | None = None

    @property
    def access(self) -> Access:
        """Return the way to the processors, within their rate limits if the limits are known."""
        make = self.make_limiter
        return Access(
            lambda: accounts_of(self.settings).make_processors(self.settings.call_timeout_seconds),
            lambda: NoLimit() if make is None else make(self.settings),
            lambda: accounts_of(self.settings).make_routes(self.settings.call_timeout_seconds),
        )


async def _state_of(request: Request) -> AppState:
    state: AppState = request.app.state.shared
    return state


async def _context_of(request: Request) -> Context:
    return (await _state_of(request)).context


TheAppState = Annotated[AppState, Depends(_state_of)]
TheContext = Annotated[Context, Depends(_context_of)]

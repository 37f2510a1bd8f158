"""The HTTP application: its routes, the guard before each of them, and problems for all errors."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, nullcontext
from importlib.metadata import version
from typing import Any

from fastapi import APIRouter, Depends, FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.concurrency import run_in_threadpool

from refund_worker.condition_log import ConditionLog
from refund_worker.engine.context import Publish, no_publish
from refund_worker.engine.jobs.metric_flush import MetricFlusher
from refund_worker.engine.processor_sync.sync_refund import ClosableLimiter
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.settings import Settings
from refund_worker.tracing import end_tracing, set_up_tracing
from refund_worker.web import problems
from refund_worker.web.api import make_routers
from refund_worker.web.api.queries import refuse_repeated
from refund_worker.web.auth import KeyCache, check_guarded, guard, lines_of
from refund_worker.web.console.app import ROUTERS as CONSOLE_ROUTERS
from refund_worker.web.console.app import create_console, to_console
from refund_worker.web.console.pages import PREFIX as CONSOLE
from refund_worker.web.console.password_hashing import Hashing
from refund_worker.web.dependencies import AppState
from refund_worker.web.front_page import front_page
from refund_worker.web.methods import Methods
from refund_worker.web.middleware import Edge
from refund_worker.web.openapi_document import finished
from refund_worker.web.proxies import TrustedProxies
from refund_worker.web.request_body import BodyMemory

log = logging.getLogger(__name__)

ABOUT = "Refunds: first the customer's credits, then the real money, exactly once. Amounts are integers in minor units."


def create_app(
    settings: Settings,
    make_publisher: Callable[[Settings], Publish] | None = None,
    make_limiter: Callable[[Settings], ClosableLimiter] | None = None,
) -> FastAPI:
    """Return the application. It opens database and publisher when it starts serving, after any fork, and closes them.

    Without `make_publisher` workers get no hints: the sweep finds what is due. Without `make_limiter` questions to a
    processor have no rate limit. Serving raises `BadSettings` or
    `Unavailable`. A route without a line in `auth.ROLES` raises `RuntimeError` here.
    """
    routers = make_routers()
    check_guarded(routers)
    console = create_console()

    @asynccontextmanager
    async def serving(app: FastAPI) -> AsyncIterator[None]:
        publish = make_publisher(settings) if make_publisher else no_publish
        runtime = await run_in_threadpool(_open_runtime, settings, publish)
        app.state.shared = AppState(settings, runtime.context, make_limiter)
        app.state.keys = KeyCache()
        app.state.hashing = Hashing()
        console.state.shared, console.state.hashing = app.state.shared, app.state.hashing
        set_up_tracing("web")
        with MetricFlusher(lambda: nullcontext(runtime.database)):
            yield
        end_tracing()
        app.state.hashing.close()
        # The runtime has an event loop of its own, which can be closed only from a thread without a running loop.
        await run_in_threadpool(runtime.close)

    app = FastAPI(
        title="refund-worker",
        version=version("refund-worker"),
        description=ABOUT,
        dependencies=[Depends(guard), Depends(refuse_repeated)],
        lifespan=serving,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
    )
    app.state.body_memory = BodyMemory()
    problems.install(app)
    for router in routers:
        app.include_router(router)
    _add_outer_layers(app, settings, console, routers)
    return app


def _add_outer_layers(app: FastAPI, settings: Settings, console: FastAPI, routers: Iterable[APIRouter]) -> None:
    # The console has its own guard: sessions instead of keys.
    app.add_route(CONSOLE, to_console, include_in_schema=False)
    app.add_route("/", front_page, include_in_schema=False)
    app.mount(CONSOLE, console)
    app.add_middleware(Methods, lines=_lines(routers))
    app.add_middleware(Edge, production=settings.environment == "production")
    app.add_middleware(TrustedProxies, networks=settings.trusted_networks)  # the last one added is the outermost
    app.openapi = lambda: _openapi(app)  # type: ignore[method-assign]


def _lines(routers: Iterable[APIRouter]) -> list[tuple[str, str]]:
    """Return (method, path) of every route of the API and of the console."""
    pages = [(method, CONSOLE + path) for router in CONSOLE_ROUTERS for method, path in lines_of(router)]
    return [line for router in routers for line in lines_of(router)] + pages + [("GET", CONSOLE), ("GET", "/")]


def _open_runtime(settings: Settings, publish: Publish) -> Runtime:
    runtime = build_runtime(settings, publish=publish, processors=False)
    runtime.database.on_failure = ConditionLog(log).hear
    return runtime


def _openapi(app: FastAPI) -> dict[str, Any]:
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        app.openapi_schema = finished(schema)
    return app.openapi_schema

"""The address without a path: people are led to the console, programs get the addresses of the service."""

from __future__ import annotations

from importlib.metadata import version

from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response

from refund_worker.web.console.pages import PREFIX as CONSOLE

LINKS = {
    "console": f"{CONSOLE}/",
    "api": "/v1",
    "reference": "/docs",
    "openapi": "/openapi.json",
    "health": "/healthz",
    "ready": "/readyz",
}


async def front_page(request: Request) -> Response:
    """Redirect a browser to the console, and answer others with the addresses of the service."""
    if "text/html" in request.headers.get("accept", ""):
        return RedirectResponse(f"{CONSOLE}/", 307)
    return JSONResponse({"service": "refund-worker", "version": version("refund-worker"), **LINKS})

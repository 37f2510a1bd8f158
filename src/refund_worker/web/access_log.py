"""One log line and two metrics for each request: caller, method, route, path without query, status and time.

It has no body, and no header except the client's address as trusted proxies report it.
"""

from __future__ import annotations

import logging

from starlette.types import Scope

from refund_worker.metrics import HTTP_REQUESTS, HTTP_SECONDS, count, observe
from refund_worker.tracing import describe

log = logging.getLogger("refund_worker.web.access")

# Monitors and browsers ask for these again and again: their lines are logged at `debug`, and they are not counted.
FREQUENT = frozenset({"/healthz", "/readyz", "/metrics", "/console/static/{name}"})
# A stranger can ask for every route with every method: these answers are not counted by route.
NOT_BY_ROUTE = (404, 405)
METHODS = frozenset({"GET", "HEAD", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
PATH_LENGTH_MAX = 200


def route_of(scope: Scope) -> str:
    """Return the request's route, such as `/v1/refunds/{refund_id}`, or an empty text if no route fits."""
    path_format: str | None = getattr(scope.get("route"), "path_format", None)
    return "" if path_format is None else scope.get("root_path", "") + path_format


def log_access(scope: Scope, request_id: str, status: int, seconds: float) -> None:
    """Log one line about an answered request; a `status` of 0 means that there was no answer."""
    route, identity = route_of(scope), scope.get("state", {}).get("identity")
    frequent = route in FREQUENT and status < 500
    if not frequent:
        method = scope["method"] if scope["method"] in METHODS else "other"
        counted = "none" if status in NOT_BY_ROUTE or not route else route
        count(HTTP_REQUESTS, method, counted, status)
        observe(HTTP_SECONDS, seconds, method, counted)
        describe(f"{method} {route}", http__request__method=method, http__route=route or None)
        describe(http__response__status_code=status)
    log.log(
        logging.DEBUG if frequent else logging.INFO,
        "%s %s %s",
        scope["method"],
        route or "(no route)",
        status or "(no answer)",
        extra={
            "request_id": request_id,
            "method": scope["method"],
            "route": route or None,
            "path": scope["path"][:PATH_LENGTH_MAX],
            "status": status,
            "duration_ms": round(seconds * 1000, 1),
            "actor": identity.actor if identity else None,
            "address": scope["client"][0] if scope.get("client") else None,
        },
    )

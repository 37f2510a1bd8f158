"""HEAD, OPTIONS and the header Allow for every path, from the routes themselves.

RFC 9110 requires HEAD wherever there is GET (uptime monitors and load balancers send it), and in a 405 answer all
methods of the path. The framework adds no HEAD to its routes, and names only the methods of the first of them.
"""

from __future__ import annotations

from collections.abc import Iterable

from starlette.routing import compile_path
from starlette.types import ASGIApp, Message, Receive, Scope, Send

# In the scope of a HEAD request: it is routed as GET, but its signature was made for HEAD.
SENT_METHOD = "refund_worker.sent_method"


class Methods:
    """ASGI middleware inside `Edge`; `lines` are the (method, path) of all routes."""

    def __init__(self, app: ASGIApp, *, lines: Iterable[tuple[str, str]]) -> None:
        self.app = app
        by_path: dict[str, set[str]] = {}
        for method, path in lines:
            by_path.setdefault(path, set()).add(method)
        self._paths = [(compile_path(path)[0], methods) for path, methods in by_path.items()]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        methods = self._methods_of(scope["path"])
        allow = [(b"allow", ", ".join(methods).encode())]
        if scope["method"] == "OPTIONS" and methods:
            await send({"type": "http.response.start", "status": 204, "headers": allow})
            await send({"type": "http.response.body", "body": b""})
            return

        async def send_on(message: Message) -> None:
            if message["type"] == "http.response.start" and message["status"] == 405 and methods:
                others = [pair for pair in message["headers"] if pair[0].lower() != b"allow"]
                message = {**message, "headers": others + allow}
            if message["type"] == "http.response.body" and scope["method"] == "HEAD":
                message = {**message, "body": b""}
            await send(message)

        inner = {**scope, "method": "GET", SENT_METHOD: "HEAD"} if scope["method"] == "HEAD" else scope
        await self.app(inner, receive, send_on)

    def _methods_of(self, path: str) -> list[str]:
        """Return the methods of a path in alphabetical order, or none if there is nothing at it."""
        found = {method for regex, methods in self._paths if regex.match(path) for method in methods}
        return sorted(found | {"OPTIONS"} | ({"HEAD"} if "GET" in found else set())) if found else []

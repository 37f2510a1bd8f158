"""Our servers for tests end with nothing left on their way."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator

import pytest
from aiohttp import web

from refund_worker.processors.local_server.closing import close_server

SECONDS_MAX = 10.0


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    made = asyncio.new_event_loop()
    yield made
    made.close()


def test_closed_server_leaves_nothing_on_its_way(loop: asyncio.AbstractEventLoop) -> None:
    """Neither an answer that never comes nor an event."""
    began = asyncio.Event()
    on_their_way: list[asyncio.Task[None]] = []

    async def never(_request: web.Request) -> web.Response:
        on_their_way.append(loop.create_task(asyncio.sleep(SECONDS_MAX * 100)))
        began.set()
        await asyncio.sleep(SECONDS_MAX * 100)
        return web.Response()

    async def started() -> tuple[web.AppRunner, socket.socket]:
        app = web.Application()
        app.router.add_get("/", never)
        runner = web.AppRunner(app, shutdown_timeout=0.01)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        asking = socket.create_connection(runner.addresses[0][:2], timeout=SECONDS_MAX)
        asking.sendall(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n")
        await asyncio.wait_for(began.wait(), SECONDS_MAX)
        return runner, asking

    runner, asking = loop.run_until_complete(started())
    with asking:
        close_server(runner, loop)
    assert loop.is_closed()
    assert [task.cancelled() for task in on_their_way] == [True]
    assert not [task for task in asyncio.all_tasks(loop) if not task.done()]

"""The end of a server of aiohttp that runs in a thread with an event loop of its own."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aiohttp.web import AppRunner


def close_server(runner: AppRunner, loop: asyncio.AbstractEventLoop) -> None:
    """Close a server and its stopped loop: cancel its tasks, and wait until they have ended.

    The runner doesn't know events on their way, or a connection that was accepted while it closed. Python logs an error
    when it collects a task that a closed loop left pending, which may be much later.
    """
    loop.run_until_complete(runner.cleanup())
    loop.run_until_complete(cancel_other_tasks())
    loop.close()


async def cancel_other_tasks() -> None:
    """Cancel every task of the running loop but the current one, and wait until they have ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)

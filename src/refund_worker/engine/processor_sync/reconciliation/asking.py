"""Processors for one act of a person, in a process that has none of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.sync_refund import Access


@contextmanager
def with_processors(context: Context, access: Access) -> Iterator[Context]:
    """Give the context processors and a limiter that are made for this block and closed after it.

    Use it where no event loop runs.
    """
    loop = asyncio.new_event_loop()
    processors, limiter = access.make_processors(), access.make_limiter()
    try:
        yield replace(context, processors=processors, limiter=limiter, run=loop.run_until_complete)
    finally:
        for processor in processors.values():
            loop.run_until_complete(processor.close())
        loop.run_until_complete(limiter.close())
        loop.close()

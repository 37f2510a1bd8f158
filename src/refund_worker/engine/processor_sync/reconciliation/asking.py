"""Processors for one act of a person, in a process that has none of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace

from refund_worker.engine.context import Context
from refund_worker.processors.base import Processor

MakeProcessors = Callable[[], Mapping[str, Processor]]


@contextmanager
def with_processors(context: Context, make_processors: MakeProcessors) -> Iterator[Context]:
    """Give the context processors that are made for this block and closed after it. Use it where no event loop runs."""
    if context.processors:
        yield context
        return
    loop = asyncio.new_event_loop()
    processors = make_processors()
    try:
        yield replace(context, processors=processors, run=loop.run_until_complete)
    finally:
        for processor in processors.values():
            loop.run_until_complete(processor.close())
        loop.close()

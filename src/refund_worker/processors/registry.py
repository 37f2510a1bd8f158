"""The registry of payment processors, with one line for each.

All other modules get the processors from here. Reading the names imports nothing, and reading an entry imports only
its folder's `ENTRY`; the adapter, with its SDK, is imported when it is made.
"""

from __future__ import annotations

import functools
import importlib
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from refund_worker.domain.decision import ProcessorRules
    from refund_worker.processors.base import Processor, ProcessorEntry
    from refund_worker.settings import Settings

# name → the module that describes the processor as `ENTRY`.
MODULES: Final[dict[str, str]] = {
    "stripe": "refund_worker.processors.stripe.entry",
    "manual": "refund_worker.processors.manual",
}


def names() -> tuple[str, ...]:
    """Return the names of all registered processors."""
    return tuple(MODULES)


def is_registered(name: str) -> bool:
    """Return True if this version has an adapter for the processor, configured or not."""
    return name in MODULES


def find_entry(name: str) -> ProcessorEntry | None:
    """Return the processor's entry, or None if this version has no adapter for it."""
    return _entry(name, MODULES[name]) if name in MODULES else None


def entries() -> tuple[ProcessorEntry, ...]:
    """Return the entries of all registered processors."""
    return tuple(_entry(name, module) for name, module in MODULES.items())


def names_with_lists() -> tuple[str, ...]:
    """Return the names of the processors that list their refunds, and so are synchronised and reconciled."""
    return tuple(entry.name for entry in entries() if entry.capabilities.lists_refunds)


@functools.cache
def _entry(name: str, module: str) -> ProcessorEntry:
    entry: ProcessorEntry = importlib.import_module(module).ENTRY
    if entry.name != name:
        raise ValueError(f"{module} describes {entry.name}, the registry calls it {name}")
    return entry


def rates(settings: Settings) -> dict[str, float]:
    """Return the limit of calls per second of each registered processor; 0 is no limit."""
    return {entry.name: entry.rate(settings) for entry in entries()}


def rules(settings: Settings) -> dict[str, ProcessorRules]:
    """Return the rules that decisions need for each registered processor."""
    return {entry.name: entry.capabilities.rules(live=entry.live(settings)) for entry in entries()}


def lowest_rate(settings: Settings) -> float:
    """Return the lowest limit of calls per second that any processor has; 0 if none has a limit."""
    return min((rate for rate in rates(settings).values() if rate > 0), default=0.0)


def make_processors(settings: Settings) -> dict[str, Processor]:
    """Return the adapters of all configured processors by name. Close them on the event loop that used them."""
    return {entry.name: entry.make(settings) for entry in entries() if entry.is_configured(settings)}


def preload_adapters(settings: Settings) -> None:
    """Import the adapters of all configured processors, for processes that are forked afterwards."""
    for entry in entries():
        if entry.is_configured(settings):
            entry.preload()

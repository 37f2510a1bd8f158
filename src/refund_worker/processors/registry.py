"""The registry of adapters: one for each folder here that has an `entry.py`, and the manual one.

Reading the names imports nothing, and reading an entry imports only its folder's `ENTRY`; the adapter, with its SDK, is
imported when it is made. `accounts.py` says which accounts an installation has, each with one of these adapters.
"""

from __future__ import annotations

import functools
import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from refund_worker.processors.base import ProcessorEntry

# name → the module that describes the adapter as `ENTRY`.
MODULES: Final[dict[str, str]] = {
    folder.parent.name: f"refund_worker.processors.{folder.parent.name}.entry"
    for folder in sorted(Path(__file__).parent.glob("*/entry.py"))
} | {"manual": "refund_worker.processors.manual"}
# Adapters of other modules, as far as an account of this process names them.
_loaded_outside: dict[str, ProcessorEntry] = {}


def names() -> tuple[str, ...]:
    """Return the names of all adapters of this version."""
    return tuple(MODULES)


def find_entry(name: str) -> ProcessorEntry | None:
    """Return the adapter's entry, or None if this version has no such adapter.

    A name with a dot is the module of an adapter that is installed outside this program. Raises `ImportError` if there
    is no such module, and `ValueError` if it describes no adapter.
    """
    if name in MODULES:
        return _entry(name, MODULES[name])
    return _outside_entry(name) if "." in name else None


def entries() -> tuple[ProcessorEntry, ...]:
    """Return the entries of all adapters of this version."""
    return tuple(_entry(name, module) for name, module in MODULES.items())


def explained_by() -> Mapping[str, str]:
    """Return the codes of all adapters that a code of ours explains, with that code.

    They are the adapters of this version, and those outside it that were loaded. Where two give the same code another
    meaning, that of this version's adapter counts.
    """
    return _explained_by(tuple(_loaded_outside))


@functools.lru_cache(maxsize=4)
def _explained_by(outside: tuple[str, ...]) -> Mapping[str, str]:
    found = (*(_loaded_outside[module] for module in outside), *entries())
    return {code: ours for entry in found for code, ours in entry.explained_by.items()}


@functools.cache
def _entry(name: str, module: str) -> ProcessorEntry:
    entry: ProcessorEntry = importlib.import_module(module).ENTRY
    if entry.name != name:
        raise ValueError(f"{module} describes {entry.name}, the registry calls it {name}")
    return entry


@functools.cache
def _outside_entry(module: str) -> ProcessorEntry:
    from refund_worker.processors.base import ProcessorEntry

    entry = getattr(importlib.import_module(module), "ENTRY", None)
    if not isinstance(entry, ProcessorEntry):
        raise ValueError(f"{module} has no ENTRY that describes an adapter (docs/adding-a-processor.md)")
    _loaded_outside[module] = entry
    return entry

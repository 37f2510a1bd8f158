"""Refunds as queued tasks: credits first, then real money, exactly once, whatever crashes.

For a backend that shares the database: `request_refund(session, RefundRequest(...))`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refund_worker.domain.refund import Kind, RefundRequest, To
    from refund_worker.engine.intake.python_api import request_refund
    from refund_worker.engine.refunds.accept import Accepted
    from refund_worker.engine.refunds.accept import Accepted as Taken
    from refund_worker.errors import Refusal

__all__ = ["Accepted", "Kind", "RefundRequest", "Refusal", "Taken", "To", "request_refund"]

_WHERE = {
    "Kind": "domain.refund",
    "RefundRequest": "domain.refund",
    "To": "domain.refund",
    "request_refund": "engine.intake.python_api",
    "Accepted": "engine.refunds.accept",
    "Refusal": "errors",
}
# Names of earlier versions.
_RENAMED = {"Taken": "Accepted"}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `refund-worker --help` needs none. Raises `AttributeError`."""
    name = _RENAMED.get(name, name)
    if name not in _WHERE:
        raise AttributeError(name)
    from importlib import import_module

    return getattr(import_module(f"refund_worker.{_WHERE[name]}"), name)

"""Refunds as queued tasks: credits first, then real money, exactly once, whatever crashes.

For a backend that shares the database: `request_refund(session, RefundRequest(...))`, and
`request_payout(session, PayoutRequest(...))` for the earnings of a payee.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refund_worker.domain.payouts.payout import PayoutRequest
    from refund_worker.domain.refund import Kind, RefundRequest, To
    from refund_worker.engine.intake.python_api import request_payout, request_refund
    from refund_worker.engine.payouts.accept import AcceptedPayout
    from refund_worker.engine.refunds.accept import Accepted
    from refund_worker.engine.refunds.accept import Accepted as Taken
    from refund_worker.errors import Refusal

__all__ = [
    "Accepted",
    "AcceptedPayout",
    "Kind",
    "PayoutRequest",
    "RefundRequest",
    "Refusal",
    "Taken",
    "To",
    "request_payout",
    "request_refund",
]

_WHERE = {
    "Kind": "domain.refund",
    "RefundRequest": "domain.refund",
    "To": "domain.refund",
    "PayoutRequest": "domain.payouts.payout",
    "request_payout": "engine.intake.python_api",
    "request_refund": "engine.intake.python_api",
    "AcceptedPayout": "engine.payouts.accept",
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

"""The actions of a fault rule: parse their JSON into a plan for one request. `faults.py` documents each action."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from refund_worker.processors.sandbox.answers import JsonObject, StripeError
from refund_worker.processors.sandbox.refund_objects import SETTABLE
from refund_worker.processors.sandbox.refunds import Step

EFFECTS = frozenset({"none", "now", "later"})


class FaultFileError(Exception):
    """The fault file, or a fault sent to the server, is malformed or contains an unknown name."""


@dataclass(frozen=True, slots=True)
class Effect:
    """The effect of a request that gets no true answer: `none`, `now`, or `later` by `after_seconds`."""

    effect: str = "none"
    after_seconds: float = 5.0
    holds_key: bool = True
    status: int = 500
    sticky: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that goes wrong with one request or event. The default plan is that nothing goes wrong."""

    delay_seconds: float = 0.0
    not_executed: StripeError | None = None
    refuse: StripeError | None = None
    timeout: Effect | None = None
    server_error: Effect | None = None
    reset: str | None = None
    truncate: bool = False
    lifecycle: tuple[Step, ...] | None = None
    answer: Mapping[str, Any] = field(default_factory=dict)
    list_lag_seconds: float | None = None
    pages: Any = None
    webhook: Mapping[str, Any] = field(default_factory=dict)


REFUSALS: dict[str, StripeError] = {
    "charge_already_refunded": StripeError(400, "The charge has already been refunded.", "charge_already_refunded"),
    "charge_disputed": StripeError(400, "The charge is disputed.", "charge_disputed"),
    "refund_disputed_payment": StripeError(400, "The payment is disputed.", "refund_disputed_payment"),
    "balance_insufficient": StripeError(400, "The account's balance is too small.", "balance_insufficient"),
    "path_missing": StripeError(404, "Unrecognized request URL. This server has no such path."),
    "insufficient_balance_for_refund": StripeError(
        402,
        "The account's balance is too small.",
        type="card_error",
        more={"message_code": "insufficient_balance_for_refund"},
    ),
}


def is_number(value: Any) -> bool:
    """Return True for a number that is not negative."""
    return isinstance(value, int | float) and not isinstance(value, bool) and value >= 0


def make_plan(do: Mapping[str, Any]) -> Plan:
    """Return the plan for these actions. Raise `FaultFileError` for an unknown or malformed action."""
    parts: JsonObject = {}
    for name, value in do.items():
        try:
            if name in NOT_EXECUTED:
                parts["not_executed"] = NOT_EXECUTED[name](value)
            else:
                parts[name] = ACTIONS[name](value)
        except (KeyError, TypeError, ValueError, AttributeError) as wrong:
            raise FaultFileError(f"unknown action, or an invalid value for it: {name}") from wrong
    return Plan(**parts)


def _one_of(*allowed: Any) -> Callable[[Any], Any]:
    def check(value: Any) -> Any:
        if value not in allowed:
            raise ValueError
        return value

    return check


def _seconds(value: Any) -> float:
    if not is_number(value):
        raise ValueError
    return float(value)


def _effect(value: Any) -> Effect:
    effect = Effect(**value)
    if effect.effect not in EFFECTS or not 500 <= effect.status <= 599:
        raise ValueError
    _seconds(effect.after_seconds)
    return effect


def _refusal(value: Any) -> StripeError:
    if isinstance(value, str):
        return REFUSALS[value]
    error = StripeError(**{"status": 400, "message": "The refund was declined.", **value}, executed=True)
    if not 400 <= error.status <= 499:
        raise ValueError
    return error


def _lifecycle(value: Any) -> tuple[Step, ...]:
    steps = tuple(Step(**step) for step in value)
    if not steps:
        raise ValueError
    for step in steps:
        _seconds(step.after_seconds)
        if not isinstance(step.set, dict) or step.set.keys() - SETTABLE:
            raise ValueError
    return steps


def _webhook(value: Any) -> JsonObject:
    if value.keys() - {"lose", "copies", "delay_seconds", "after_next"}:
        raise ValueError
    return dict(value)


def _rate_limit(value: Any) -> StripeError:
    wait = value.get("retry_after_seconds")
    headers: tuple[tuple[str, str], ...] = (("Stripe-Rate-Limited-Reason", "endpoint-rate"),)
    if wait is not None:
        headers = (*headers, ("Retry-After", str(int(wait))))
    return StripeError(429, "Too many requests, slow down.", "rate_limit", headers=headers)


def _lock_timeout(value: Any) -> StripeError:
    message = "The object is locked by another request."
    return StripeError(_one_of(409, 429)(value), message, "lock_timeout")


def key_in_use() -> StripeError:
    """Return the 409 error of a key that belongs to a request still running."""
    message = "Another request with this Idempotency-Key is still running."
    return StripeError(409, message, "idempotency_key_in_use")


def _conflict(value: Any) -> StripeError:
    _one_of("key_in_use")(value)
    return key_in_use()


NOT_EXECUTED: dict[str, Callable[[Any], StripeError]] = {
    "conflict": _conflict,
    "lock_timeout": _lock_timeout,
    "rate_limit": _rate_limit,
    "unauthorized": lambda _: StripeError(401, "The API key is not valid.", type="authentication_error"),
    "forbidden": lambda _: StripeError(403, "The API key may not do this.", type="permission_error"),
}
ACTIONS: dict[str, Callable[[Any], Any]] = {
    "delay_seconds": _seconds,
    "timeout": _effect,
    "server_error": _effect,
    "reset": _one_of("before", "after", "mid_body"),
    "truncate": bool,
    "refuse": _refusal,
    "lifecycle": _lifecycle,
    "answer": dict,
    "list_lag_seconds": _seconds,
    "pages": _one_of("repeat", "shift"),
    "webhook": _webhook,
}

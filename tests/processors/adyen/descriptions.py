"""Adyen's published descriptions: the parts that the tests compare with the local server and the adapter."""

from __future__ import annotations

from typing import Any

from tests.support.openapi_check import Description, described

CHECKOUT = "adyen_CheckoutService-v72.json"
HOOKS = "adyen_Webhooks-v1.json"
REFUNDS = "/payments/{paymentPspReference}/refunds"

__all__ = ["CHECKOUT", "HOOKS", "REFUNDS", "described", "event_schema", "example", "values_in_examples"]


def event_schema(hooks: Description, code: str) -> dict[str, Any]:
    """Return the schema of a request that brings an event."""
    return hooks.request(f"/{code}", "POST", within="webhooks")


def example(hooks: Description, code: str) -> dict[str, Any]:
    """Return the published example of an event."""
    found: dict[str, Any] = hooks.document["components"]["examples"][f"post-{code}-{code.lower()}"]
    return dict(found["value"])


def values_in_examples(description: Description, field: str) -> set[str]:
    """Return every text of this field in the examples."""
    found: set[str] = set()
    waiting: list[Any] = [description.document["components"]["examples"]]
    while waiting:
        part = waiting.pop()
        if isinstance(part, dict):
            found |= {part[field]} if isinstance(part.get(field), str) else set()
            waiting += part.values()
        elif isinstance(part, list):
            waiting += part
    return found

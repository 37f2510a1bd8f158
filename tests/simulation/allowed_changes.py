"""The changes of status that the checks allow (I5). They deliberately repeat the tables of the domain."""

from __future__ import annotations

REACHED = {"pending", "requires_action", "succeeded", "failed", "canceled"}
# Blocked: by the payment itself, before the send; or by an object that failed because the balance was empty.
LEG_MOVES = {
    "planned": {"sending", "blocked"} | REACHED,
    "sending": {"waiting", "unknown", "blocked"} | REACHED,
    "waiting": {"sending", "unknown", "blocked"} | REACHED,
    "unknown": {"sending", "waiting", "blocked"} | REACHED,
    "blocked": {"sending", "unknown", "waiting"} | REACHED,
    "pending": {"blocked"} | REACHED,
    "requires_action": {"blocked"} | REACHED,
    "succeeded": {"failed", "canceled"},
    "failed": {"canceled"},
    "canceled": {"failed"},
}
# Only if the processor contradicts an operator.
LEG_CONTRADICTED = {"succeeded": REACHED, "failed": REACHED, "canceled": REACHED}
BY_LEGS = {
    "sending",
    "pending",
    "reversing",
    "needs_attention",
    "succeeded",
    "partially_succeeded",
    "failed",
}
REFUND_MOVES = {
    "awaiting_approval": {"queued", "rejected", "canceled"},
    "queued": {"canceled"} | BY_LEGS,
    "sending": BY_LEGS,
    "pending": BY_LEGS,
    "reversing": BY_LEGS,
    "needs_attention": BY_LEGS,
    "succeeded": {"reversing", "needs_attention", "failed", "partially_succeeded"},
    "partially_succeeded": {"reversing", "needs_attention", "failed", "succeeded"},
    "failed": set(),
    "rejected": set(),
    "canceled": set(),
}
OBJECT_RANKS = {None: 0, "pending": 1, "requires_action": 1, "succeeded": 2, "failed": 3, "canceled": 3}
ENDS = {"succeeded", "partially_succeeded", "failed", "rejected", "canceled"}
GONE = {"failed", "canceled"}

"""Advance a reconciliation by one piece. Nothing is written here, and no transaction is open during a call."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, replace

from sqlalchemy import Connection

from refund_worker.domain.processor_replies import RefundObject
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync.reconciliation.account import advance_disputes, advance_payments
from refund_worker.engine.processor_sync.reconciliation.compare import Findings, Lines, compare
from refund_worker.engine.processor_sync.reconciliation.kinds import Difference
from refund_worker.engine.processor_sync.reconciliation.legs import compare_paid_legs
from refund_worker.engine.processor_sync.reconciliation.own_sums import advance_ledger
from refund_worker.engine.processor_sync.reconciliation.progress import Phase, Progress
from refund_worker.engine.processor_sync.reconciliation.reading import (
    Asked,
    Span,
    ask_singly,
    read_piece,
)
from refund_worker.store.reporting import reconciliation as store

# Ids of the boundary's second that are kept between two pieces. If it has more objects, some are asked for again.
EDGE_MAX = 2_000
# Work continues meanwhile: an object that becomes suspect by a second look is asked for too.
ROUNDS_MAX = 3
LEGS_AT_ONCE = 100

# Returns objects of ours that are not recorded and that this reconciliation found before, by leg.
FoundBefore = Callable[[Connection, Collection[str]], Mapping[str, Collection[str]]]


@dataclass(frozen=True, slots=True)
class Step:
    """One piece: where the next one begins, and what was found. `lines` are (ours, theirs) by leg and currency."""

    progress: Progress
    differences: tuple[Difference, ...]
    lines: Lines


def advance(context: Context, span: Span, progress: Progress, found_before: FoundBefore) -> Step:
    """Read and compare the next piece. The same piece again gives the same step if nothing has changed.

    Raises `ListDenied` if the processor does not accept our set-up, and `NotListed` if it does not answer.
    """
    match progress.phase:
        case Phase.REFUNDS:
            return _advance_refunds(context, span, progress, found_before)
        case Phase.LEGS:
            return _advance_legs(context, span, progress)
        case Phase.PAYMENTS:
            return Step(*advance_payments(context, span, progress), {})
        case Phase.DISPUTES:
            return Step(*advance_disputes(context, span, progress), {})
        case Phase.LEDGER:
            return Step(*advance_ledger(context, span.processor, progress), {})
        case _:
            return Step(progress.next_phase(progress.counts), (), {})


# --- the processor's list of refunds ----------------------------------------------------------------------------------


def _advance_refunds(context: Context, span: Span, progress: Progress, found_before: FoundBefore) -> Step:
    piece = read_piece(context, span, progress.after)
    # Pages shift while refunds are being made: an object that is listed twice is one object.
    edge = frozenset(progress.edge)
    listed = {o.processor_refund_id: o for o in piece.objects if o.processor_refund_id not in edge}
    is_last = piece.after is None
    low = None if is_last else min(o.created_at.timestamp() for o in piece.objects)
    with context.database.read() as connection:
        between = store.objects_made_between(
            connection, span.processor, low, _high(span, progress.low), since=span.since
        )
    unlisted = [object_id for object_id in between if object_id not in listed and object_id not in edge]
    findings, asked = _compare_twice(context, span, listed, unlisted, found_before)
    counts = progress.counts.plus(
        objects=len(listed) + sum(o.processor_refund_id not in listed for o in asked.objects),
        foreign=findings.foreign,
        other_installations=findings.other_installations,
        resolved=findings.resolved,
        asked=len(asked.objects) + len(asked.missing),
        pieces=1,
    ).plus_money(findings.lines)
    if is_last:
        return Step(progress.next_phase(counts), findings.differences, findings.lines)
    at_low = [o.processor_refund_id for o in piece.objects if o.created_at.timestamp() == low]
    kept = (*progress.edge, *at_low) if low == progress.low else tuple(at_low)
    following = replace(progress, after=piece.after or "", low=low, edge=kept[-EDGE_MAX:], counts=counts)
    return Step(following, findings.differences, findings.lines)


def _high(span: Span, low_before: float | None) -> float | None:
    """Return the newest time of creation of which the list was not read yet (`until` itself is not compared)."""
    if low_before is not None:
        return low_before
    return None if span.until is None else span.until - 1e-6


def _compare_twice(
    context: Context,
    span: Span,
    listed: Mapping[str, RefundObject],
    unlisted: Collection[str],
    found_before: FoundBefore,
) -> tuple[Findings, Asked]:
    """Compare, and ask for each object on which a difference relies before it becomes one: lists lag."""
    asked = ask_singly(context, span.processor, unlisted)
    for _ in range(ROUNDS_MAX):
        findings = _compare(context, span, listed, asked, found_before)
        known = {o.processor_refund_id for o in asked.objects} | asked.missing
        if not (suspects := findings.suspects - known):
            break
        more = ask_singly(context, span.processor, suspects)
        asked = Asked((*asked.objects, *more.objects), asked.missing | more.missing)
    return findings, asked


def _compare(
    context: Context, span: Span, listed: Mapping[str, RefundObject], asked: Asked, found_before: FoundBefore
) -> Findings:
    current = {**listed, **{item.processor_refund_id: item for item in asked.objects}}
    objects = [item for object_id, item in current.items() if object_id not in asked.missing]
    with context.database.read() as connection:
        legs = {item.leg_id for item in objects if item.leg_id}
        return compare(connection, span.processor, objects, asked.missing, found_before(connection, legs))


# --- paid legs without an object --------------------------------------------------------------------------------------


def _advance_legs(context: Context, span: Span, progress: Progress) -> Step:
    with context.database.read() as connection:
        legs = store.paid_legs_without_object(
            connection, span.processor, span.since, span.until, after=progress.after, limit=LEGS_AT_ONCE
        )
    if not legs:
        return Step(progress.next_phase(progress.counts), (), {})
    differences = compare_paid_legs(context, span.processor, legs)
    counts = progress.counts.plus(pieces=1, asked=len(legs))
    return Step(replace(progress, after=legs[-1].leg_id, counts=counts), differences, {})

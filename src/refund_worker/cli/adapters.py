"""Commands about the adapters of paying systems: what each one can do, and whether an account keeps its promises."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from refund_worker.cli import runtime
from refund_worker.cli.options import OutputOption, command, group
from refund_worker.cli.output import Column, Json, Output, as_json, print_json, print_line, print_table, yes_no
from refund_worker.errors import BadSettings, InvalidRequest, NotFound, RefundWorkerError, UnreadableFile
from refund_worker.extras import require

if TYPE_CHECKING:
    from refund_worker.processors.accounts import Account
    from refund_worker.processors.base import Capabilities
    from refund_worker.processors.conformance.results import Result
    from refund_worker.processors.conformance.suite import Suite

EXIT_FAILED = 1
SECRET_VARIABLE = "ADAPTER_SECRET"  # noqa: S105 -- the name of a variable
SECONDS_DEFAULT, SECONDS_MAX = 300.0, 3_600.0
LAG_DEFAULT, LAG_MAX = 10.0, 600.0
# The number of checks that wait for a list that lags.
CHECKS_OF_LISTS = 8
SECRET_BYTES_MAX = 4_096
DAY, HOUR = 86_400, 3_600
_PAYMENT = re.compile(r"(?P<id>[!-~]{1,255}):(?P<amount>[1-9][0-9]{0,11}):(?P<currency>[A-Z]{3})")
_ADDRESS = re.compile(r"(?P<host>[A-Za-z0-9.-]{1,255}):(?P<port>[0-9]{1,5})")


SecondsOption = Annotated[
    float | None,
    typer.Option(
        "--seconds",
        min=1,
        max=SECONDS_MAX,
        help=f"end after this time at the latest ({SECONDS_DEFAULT:g}, and more with --list-lag)",
    ),
]
LagOption = Annotated[
    float, typer.Option("--list-lag", min=0, max=LAG_MAX, help="seconds until a list shows a new refund")
]


def add_to(app: typer.Typer) -> None:
    """Register the group `adapters`."""
    inner = group("adapters", "The adapters of paying systems: what each can do, and checks of an account.", app)
    _add_list(inner)
    _add_check(inner)


def _add_list(app: typer.Typer) -> None:
    @command(app, "list", "adapters list -o json")
    def list_(output: OutputOption = Output.TABLE) -> None:
        """List what each adapter of this version can do, and each account of the settings.

        key: how long an idempotency key is kept. kept: a refusal stays the answer to its key. list: it proves that a
        refund does not exist. outcome: the answer to a request is its outcome. final: a refund never fails later. read:
        a payment can be read. parts: less than a whole payment can be refunded. window: how long after the payment.
        steps: how many currencies refund only in steps, in a wide terminal; -o json has the steps, in minor units. An
        account with the adapter http has a table of its own, in the settings.
        """
        adapters, accounts = list(_adapters()), list(_accounts())
        if output is Output.JSON:
            print_json({"data": [*adapters, *accounts], "has_more": False})
            return
        _print_facts("adapter", adapters)
        if accounts:
            print()
            _print_facts("account", accounts)


def _add_check(app: typer.Typer) -> None:
    @command(app, "check", "adapters check http://127.0.0.1:8099 --secret-file secret")
    def check(
        target: Annotated[str, typer.Argument(metavar="ACCOUNT|URL", help="an account, or the URL of a server")],
        payment: Annotated[
            list[str] | None,
            typer.Option("--payment", metavar="ID:AMOUNT:CURRENCY", help="a payment that may be refunded whole"),
        ] = None,
        secret_file: Annotated[
            Path | None,
            typer.Option("--secret-file", help=f"the secret of a URL; or the variable {SECRET_VARIABLE}"),
        ] = None,
        live: Annotated[bool, typer.Option("--live", help="create refunds although money is real")] = False,
        seconds: SecondsOption = None,
        list_lag: LagOption = LAG_DEFAULT,
        listen: Annotated[str, typer.Option("--listen", help="where to receive events")] = "127.0.0.1:0",
        events_url: Annotated[
            str, typer.Option("--events-url", help="how the server reaches that, if not by its own address")
        ] = "",
        output: OutputOption = Output.TABLE,
    ) -> None:
        """Check whether an account or a server keeps the promises of its adapter, and say in words what is wrong.

        A URL is that of a server of our HTTP protocol. Its secret comes from a file or a variable. A server in a test
        environment makes its own payments; for any other, name payments that may be refunded, in minor units:
        --payment pay-1:2000:EUR. Without a payment only reading is checked. Where money is real, no refund is created
        without --live. If the processor's lists lag by more than ten seconds, say by how much with --list-lag. Exit 0
        if no check failed, 1 if one did.
        """
        from refund_worker.processors.conformance.suite import Options, Suite

        require("worker")
        in_all = seconds or _seconds_for(list_lag)
        options = Options(
            payments=tuple(_payment(each) for each in payment or ()),
            live=live,
            seconds=in_all,
            timeout_seconds=min(10.0, in_all),
            list_lag_seconds=list_lag,
            tell=print_line,
            listen=_address(listen),
            events_url=events_url,
        )
        suite = Suite(options)
        results = asyncio.run(_collected(_results(suite, target, secret_file)))
        _show(results, target, suite, output)
        if any(result.verdict == "failed" for result in results):
            raise typer.Exit(EXIT_FAILED)


def _seconds_for(list_lag: float) -> float:
    return SECONDS_DEFAULT + CHECKS_OF_LISTS * max(0.0, list_lag - LAG_DEFAULT)


def _results(suite: Suite, target: str, secret_file: Path | None) -> AsyncIterator[Result]:
    if "://" in target:
        from refund_worker.setting_values import check_signing_secret, checked_http_url, listed

        try:
            url, secret = checked_http_url(target) or "", _secret(secret_file)
            for each in listed(secret):
                check_signing_secret(each)
        except ValueError as error:
            raise InvalidRequest(f"{target if 'URL' in str(error) else 'the secret'} {error}", field="target") from None
        return suite.of_url(url, secret)
    if secret_file is not None:
        raise InvalidRequest("--secret-file is for a URL: an account has its secret in the settings", field="secret")
    return suite.of_account(_account(target))


def _account(name: str) -> Account:
    from refund_worker.processors.accounts import accounts_of

    accounts = accounts_of(runtime.settings())
    if name not in accounts:
        raise NotFound(f"no account of this name: it is one of {', '.join(accounts)}")
    account = accounts[name]
    if account.entry.settings.CREDENTIALS and not account.has_access:
        fields = " and ".join(account.setting(field) for field in account.entry.settings.CREDENTIALS)
        raise BadSettings(f"{name} cannot be asked: set {fields}")
    if account.entry.extra:
        require(account.entry.extra)
    return account


def _secret(file: Path | None) -> str:
    if file is None:
        found = os.environ.get(SECRET_VARIABLE, "").strip()
        if not found:
            raise InvalidRequest(f"name the server's secret: --secret-file FILE, or the variable {SECRET_VARIABLE}")
        return found
    try:
        with file.open("r", encoding="utf-8") as opened:
            return opened.read(SECRET_BYTES_MAX).strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UnreadableFile(f"{file} cannot be read ({getattr(error, 'strerror', None) or 'no text'})") from None


def _payment(text: str) -> tuple[str, int, str]:
    found = _PAYMENT.fullmatch(text)
    if found is None:
        raise InvalidRequest(
            "--payment is ID:AMOUNT:CURRENCY, with minor units, such as pay-1:2000:EUR", field="payment"
        )
    return found["id"], int(found["amount"]), found["currency"]


def _address(text: str) -> tuple[str, int]:
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > 65_535:
        raise InvalidRequest("--listen is HOST:PORT, such as 127.0.0.1:0", field="listen")
    return found["host"], int(found["port"])


async def _collected(results: AsyncIterator[Result]) -> list[Result]:
    return [result async for result in results]


def _show(results: list[Result], target: str, suite: Suite, output: Output) -> None:
    counts = {word: sum(result.verdict == word for result in results) for word in ("ok", "failed", "not asked")}
    account = _table(target, suite) if "://" in target else None
    if output is Output.JSON:
        data = [as_json(result) for result in results]
        totals = {word.replace(" ", "_"): number for word, number in counts.items()}
        print_json({"data": data, "has_more": False, **totals, "account": account})
        return
    print_table(
        (Column("check"), Column(""), Column("found"), Column("what to do")),
        ((result.check, result.verdict, result.found, result.do) for result in results),
    )
    print()
    print(", ".join(f"{number} {word}" for word, number in counts.items()))
    if account is not None and not counts["failed"]:
        print("\nThe account for PROCESSORS_FILE, under a name of yours:\n")
        print("\n".join(_toml(account)))


def _table(target: str, suite: Suite) -> dict[str, Any] | None:
    from refund_worker.processors.conformance.suite import table_of_account

    try:
        return table_of_account(target.rstrip("/"), suite.offered) if suite.offered else None
    except ValueError:
        return None


def _toml(account: Mapping[str, Any]) -> Iterator[str]:
    yield '["NAME"]'
    for name, value in account.items():
        number = f"{value:g}" if isinstance(value, float) else str(value).lower()
        yield f'{name} = "{value}"' if isinstance(value, str) else f"{name} = {number}"


# --- list -------------------------------------------------------------------------------------------------------------


def _adapters() -> Iterator[Json]:
    from refund_worker.processors import registry

    for entry in registry.entries():
        yield _facts(entry.name, None, entry.capabilities)


def _accounts() -> Iterator[Json]:
    """Yield the accounts of the settings. If these are wrong, say so and yield none: adapters need no settings."""
    from refund_worker.processors.accounts import accounts_of

    try:
        accounts = accounts_of(runtime.settings())
    except RefundWorkerError as error:
        print_line(f"accounts are not shown: {error.message}")
        return
    for account in accounts.values():
        yield _facts(account.entry.name, account.name, account.capabilities)


def _facts(adapter: str, account: str | None, table: Capabilities) -> Json:
    return {
        "adapter": adapter,
        "account": account,
        "key_seconds": table.key_seconds,
        "finds_refunds": table.finds_refunds,
        "lists_refunds": table.lists_refunds,
        "list_proves_absence": table.list_proves_absence,
        "keeps_refusals": table.keeps_refusals,
        "answers_are_outcomes": table.answers_are_outcomes,
        "answers_are_final": table.answers_are_final,
        "reads_payments": table.reads_payments,
        "partial_refunds": table.partial_refunds,
        "cancels": table.cancels,
        "refund_window_seconds": table.refund_window_seconds,
        "currency_steps": dict(sorted(table.currency_steps.items())),
    }


def _print_facts(title: str, rows: list[Json]) -> None:
    titles = (title, "key", "kept", "list", "outcome", "final", "read", "parts", "window")
    columns = [*(Column(each, whole=True) for each in titles), Column("steps", whole=True, only_wide=True)]
    print_table(columns, (_cells(row) for row in rows))


def _cells(row: Json) -> tuple[str, ...]:
    window = row["refund_window_seconds"]
    flags = (
        *("keeps_refusals", "list_proves_absence", "answers_are_outcomes", "answers_are_final"),
        *("reads_payments", "partial_refunds"),
    )
    return (
        row["account"] or row["adapter"],
        _duration(row["key_seconds"]) if row["key_seconds"] else "none",
        *(yes_no(row[flag]) for flag in flags),
        "" if window is None else _duration(window),
        str(len(row["currency_steps"]) or ""),
    )


def _duration(seconds: float) -> str:
    if seconds % DAY == 0 and seconds > DAY:
        return f"{seconds / DAY:g} days"
    return f"{seconds / HOUR:g} h" if seconds >= HOUR else f"{seconds:g} s"

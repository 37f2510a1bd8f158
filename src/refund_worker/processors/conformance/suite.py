"""The suite as it is run: against an account of this installation, or against the address of a server of ours.

No refund is created where money is real, or where that is unknown, unless the caller allows it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from refund_worker.domain.processor_replies import Answered, Found, Misconfigured
from refund_worker.processors.conformance import http_checks
from refund_worker.processors.conformance.bench import LIST_LAG_SECONDS, Bench, Refundable, tell_nobody, words
from refund_worker.processors.conformance.http_bench import HttpBench
from refund_worker.processors.conformance.results import Broken, Check, Result, Verdict, expect
from refund_worker.processors.conformance.run import ANY, LAST, result_of, run_checks
from refund_worker.processors.http.adapter import Call
from refund_worker.processors.http.entry import HttpSettings

if TYPE_CHECKING:
    from refund_worker.processors.accounts import Account

REAL_MONEY: Final = "money is real here, so no refund is created without --live"
MAYBE_REAL: Final = "it is unknown whether money is real here, so no refund is created without --live"
FIRST_SECONDS_MAX: Final = 15.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The choices of the caller. `payments` are (id, minor units, currency) of payments that may be refunded.

    `list_lag_seconds` is waited at most until a list shows a refund; `tell` gets a line about a long wait.
    """

    payments: Sequence[tuple[str, int, str]] = ()
    live: bool = False
    seconds: float = 300.0
    timeout_seconds: float = 10.0
    list_lag_seconds: float = LIST_LAG_SECONDS
    tell: Callable[[str], None] = tell_nobody
    listen: tuple[str, int] = ("127.0.0.1", 0)
    events_url: str = ""

    @property
    def named(self) -> list[Refundable]:
        """Return the named payments."""
        return [Refundable(payment_id, currency, amount) for payment_id, amount, currency in self.payments]


@dataclass(slots=True)
class Suite:
    """One run. `offered` is what GET /capabilities says, once it was read; `results` yields a result for each check."""

    options: Options
    offered: Mapping[str, Any] = field(default_factory=dict)

    async def of_url(self, url: str, secret: str) -> AsyncIterator[Result]:
        """Check the server at this address. The account is what the server says that it can do."""
        settings = HttpSettings(api_base=url, secret=SecretStr(secret))
        async for result in self._of_http(settings, is_described=False):
            yield result

    async def of_account(self, account: Account) -> AsyncIterator[Result]:
        """Check an account that has its credentials."""
        if isinstance(account.settings, HttpSettings):
            async for result in self._of_http(account.settings, rate=account.rate_per_second):
                yield result
            return
        bench = Bench(
            account.make(self.options.timeout_seconds),
            account.capabilities,
            self.options.named,
            why_not=self._why_not(self._mode_of(account)),
            calls_per_second=account.rate_per_second,
            list_lag_seconds=self.options.list_lag_seconds,
            tell=self.options.tell,
        )
        try:
            async for result in self._run(bench, _ANSWERS, (*ANY, *LAST)):
                yield result
        finally:
            await bench.processor.close()

    async def _of_http(
        self, settings: HttpSettings, *, is_described: bool = True, rate: float = 0.0
    ) -> AsyncIterator[Result]:
        first = _bench(settings, self.options, {}, is_described, rate)
        try:
            result = await result_of(_READABLE, first, FIRST_SECONDS_MAX)
            if result.verdict is Verdict.OK:
                self.offered = first.offered
        finally:
            await first.processor.close()
        try:
            if not is_described and result.verdict is Verdict.OK:
                fields = http_checks.settings_of(self.offered)
                settings = HttpSettings(api_base=settings.api_base, secret=settings.secret, **fields)
        except ValueError as error:
            do = "Answer each field in the form of the page."
            result = Result(_READABLE.name, Verdict.FAILED, f"GET /capabilities cannot be read: {error}", do)
        bench = _bench(settings, self.options, self.offered, is_described, rate)
        bench.why_not = self._why_not(_mode(settings, self.offered))
        checks = (http_checks.FIRST, *ANY, *http_checks.CHECKS, *LAST)
        try:
            async for each in self._run(bench, result, checks):
                yield each
        finally:
            await bench.processor.close()

    async def _run(self, bench: Bench, first: Check | Result, checks: Sequence[Check]) -> AsyncIterator[Result]:
        """Yield the first result, and the others unless it failed: then nothing else can be asked."""
        result = first if isinstance(first, Result) else await result_of(first, bench, FIRST_SECONDS_MAX)
        yield result
        if result.verdict is Verdict.FAILED:
            for check in checks:
                yield Result(check.name, Verdict.NOT_ASKED, f"nothing else is asked while this fails: {result.check}")
            return
        async for each in run_checks(bench, checks, self.options.seconds):
            yield each

    def _why_not(self, live: bool | None) -> str:
        if self.options.live or live is False:
            return ""
        return REAL_MONEY if live else MAYBE_REAL

    def _mode_of(self, account: Account) -> bool | None:
        """Return whether money is real. An address of its own, beside the processor's, is a server for tests."""
        live = account.entry.live(account.settings)
        is_test_server = account.settings.api_base and "api_base" not in account.entry.settings.CREDENTIALS
        return False if live is None and is_test_server else live


def _bench(
    settings: HttpSettings, options: Options, offered: Mapping[str, Any], is_described: bool, rate: float
) -> HttpBench:
    live = _mode(settings, offered) is not False
    return HttpBench.of(
        settings,
        timeout_seconds=options.timeout_seconds,
        named=options.named,
        # The calls below /test invent payments: they are never used where money may be real.
        offered={**offered, "test_calls": offered.get("test_calls") is True and not live},
        is_described=is_described,
        calls_per_second=rate,
        list_lag_seconds=options.list_lag_seconds,
        tell=options.tell,
        listen=options.listen,
        events_url=options.events_url,
    )


def _mode(settings: HttpSettings, offered: Mapping[str, Any]) -> bool | None:
    """Return True if the account or the server says that money is real, False if the server says that it is not."""
    if settings.mode == "live" or offered.get("live") is True:
        return True
    return False if offered.get("live") is False else None


async def _read_capabilities(bench: HttpBench) -> None:
    """GET /capabilities is answered, and `offered` becomes what it says."""
    answer = await bench.raw(Call("GET", "/capabilities"))
    expect(
        answer.status != 401,
        "the server refuses our signature of GET /capabilities",
        "Use the same secret on both sides, sign as the page says, and set both clocks by NTP.",
    )
    bench.offered = await bench.document(Call("GET", "/capabilities"))


async def _can_be_asked(bench: Bench) -> None:
    """The account answers a question that only reads."""
    if bench.table.lists_refunds:
        listed = await bench.asked(lambda: bench.processor.recent(datetime.now(UTC)))
        if not isinstance(listed, Found):
            raise Broken(f"the list of new refunds cannot be read: {words(listed)}", _DOCTOR)
        return
    fetched = await bench.asked(lambda: bench.processor.fetch("no-such-refund"))
    if not isinstance(fetched, Answered | Misconfigured):
        raise Broken(f"a refund cannot be read: {words(fetched)}", _DOCTOR)


_DOCTOR: Final = "See what refund-worker doctor says of this account."
_READABLE: Final = Check("answers", "The server answers signed requests.", _read_capabilities)
_ANSWERS: Final = Check("answers", "The account answers.", _can_be_asked)


def table_of_account(url: str, offered: Mapping[str, Any]) -> dict[str, Any]:
    """Return the account's table for PROCESSORS_FILE that says what the server offers. Raises `ValueError`."""
    fields = http_checks.settings_of(offered)
    shown = {name: value for name, value in fields.items() if value not in (None, "")}
    return {"adapter": "http", "api_base": url, "secret_file": "/run/secrets/NAME"} | shown

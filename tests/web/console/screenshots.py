"""Screenshots of every page, light and dark, wide and narrow: `python -m tests.web.console.screenshots FOLDER [NAME…]`.

They are for people; no test compares them. With names, only pages whose names begin so; with `--readme` alone the four
screenshots of the README and docs/operations.md, for `docs/screenshots`. With `--refunds=1000` first, the pages show
that many, with long ids and texts; with `--print`, the pages as they are printed on A4 paper, as PDF.
"""

from __future__ import annotations

import logging
import sqlite3
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, FloatRect, Page, ViewportSize, sync_playwright
from pydantic import SecretStr
from sqlalchemy import Connection, func, select
from tests.support.migrated import migrate
from tests.web.client import settings_for
from tests.web.console.browser import Aside, launch, served
from tests.web.console.pictured import ERRORS, pages
from tests.web.console.populated import populate
from tests.web.console.populated_many import Many
from tests.web.console.populated_paypal import processors_setting
from tests.web.console.visitor import PASSWORD

from refund_worker.domain.refund import RefundStatus
from refund_worker.engine.access.console_users import create_user
from refund_worker.engine.context import Context
from refund_worker.processors.paypal.sandbox import PayPalServer
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import build_runtime
from refund_worker.settings import Settings
from refund_worker.store.tables import console_sessions
from refund_worker.store.tables import refunds as refunds_table

SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
# Heights of the README's screenshots.
README = {"overview": 739, "failures": 739, "figures": 1_001, "refund-transaction": 739}
README_WIDTH = 1_100
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# The beginning of a long list is enough.
HEIGHT_MAX = 2_600
CUT = "[...document.querySelectorAll('.scroll')].filter((part) => part.scrollWidth > part.clientWidth).length"
SIZE = "(({scrollWidth: x, scrollHeight: y, clientWidth: window}) => [x, y, window])(document.documentElement)"


def take(folder: Path, wanted: Sequence[str], *, refunds: int = 0, printed: bool = False) -> None:
    """Take the wanted screenshots (all without names) and store them in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = Aside()
    with (
        tempfile.TemporaryDirectory() as scratch,
        Sandbox(book=Path(scratch) / "book.jsonl") as sandbox,
        PayPalServer() as paypal,
    ):
        url = f"sqlite:///{scratch}/refunds.db"
        migrate(url)
        settings = settings_for(
            url,
            STRIPE_API_KEY="sk_test_aKeyForTheSandbox",
            STRIPE_API_BASE=sandbox.url,
            PROCESSOR_TIMEOUT_SECONDS="1",
            STRIPE_RATE_PER_SECOND="100",
            PROCESSORS=processors_setting(paypal),
        )
        runtime = aside.do(build_runtime, settings)
        named = aside.do(populate, runtime, sandbox, paypal, Many(refunds) if refunds else None, seconds=300)
        create_user(runtime.context, name="anna", role="admin", password=PASSWORD)
        create_user(runtime.context, name="vera", role="viewer", password=PASSWORD)
        of_readme = list(wanted) == ["--readme"]
        if not of_readme:
            named |= _one_of_each_status(runtime.context)
        shown = {name: address for name, (_, address) in pages(named).items()}
        approving = settings.model_copy(update={"approval_threshold_minor": 100})
        with served(approving) as address, sync_playwright() as playwright:
            browser = launch(playwright)
            if of_readme:
                page = browser.new_page(base_url=address, viewport={"width": README_WIDTH, "height": 739})
                _sign_in(page)
                for name, height in README.items():
                    page.goto("/console" + shown[name])
                    page.set_viewport_size({"width": README_WIDTH, "height": height})
                    page.screenshot(path=folder / f"console-{name}.png")
            elif printed:
                _print(browser, address, folder, shown, wanted)
            else:
                _take_every_look(browser, address, folder, shown, wanted, runtime.context)
                with served(_broken(approving, scratch)) as broken:
                    _take_errors_of_the_server(browser, broken, folder, wanted)
            browser.close()
        aside.do(runtime.close)
    aside.close()


def _one_of_each_status(context: Context) -> dict[str, str]:
    """Return a refund in each status, by name. A status that none has just now is written to one: for looks only."""
    r = refunds_table.c

    def work(connection: Connection) -> dict[str, str]:
        found = {}
        for n, status in enumerate(RefundStatus):
            query = select(func.max(r.refund_id)).where(r.status == status)
            refund_id = connection.execute(query).scalar()
            if refund_id is None:
                paid = select(r.refund_id).where(r.status == RefundStatus.SUCCEEDED, r.to == "source")
                refund_id = connection.execute(paid.order_by(r.refund_id).offset(n).limit(1)).scalar_one()
                connection.execute(refunds_table.update().where(r.refund_id == refund_id).values(status=status))
            found[f"status-{status}"] = str(refund_id)
        return found

    return context.database.run(work)


def _broken(settings: Settings, scratch: str) -> Settings:
    """Return settings with a copy of the database in which a page finds what it cannot read."""
    path = Path(scratch) / "broken.db"
    with closing(sqlite3.connect(Path(scratch) / "refunds.db")) as whole, closing(sqlite3.connect(path)) as copy:
        whole.backup(copy)
        copy.execute("UPDATE refund_batches SET created_at = 'unreadable'")
        copy.commit()
    return settings.model_copy(update={"database_url": SecretStr(f"sqlite:///{path}")})


def _take_every_look(
    browser: Browser, address: str, folder: Path, shown: Mapping[str, str], wanted: Sequence[str], context: Context
) -> None:
    for suffix, page in _looks(browser, address):
        taker = Taker(page, folder, suffix, wanted)
        taker.open("sign-in", "/console/sign-in")
        _sign_in(page, password="not the password")
        taker.take("sign-in-wrong")
        _sign_in(page, name="vera")
        for name in ("overview", "refund-approval", "refund-unknown"):
            taker.open(f"viewer-{name}", "/console" + shown[name])
        taker.open("viewer-not-allowed", "/console/users", 403)
        page.context.clear_cookies()
        _sign_in(page)
        for name, path in shown.items():
            if name != "sign-in":
                taker.open(name, "/console" + path, ERRORS.get(name, 200))
        for name in ("docs", "docs/errors"):
            taker.open(name.replace("/", "-"), f"/{name}")
        _take_acts(taker, shown, context)
        page.close()


def _looks(browser: Browser, address: str) -> Iterator[tuple[str, Page]]:
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            view: ViewportSize = {"width": width, "height": height}
            page = browser.new_page(base_url=address, color_scheme=scheme, viewport=view)
            yield f"{scheme}-{size}", page


def _take_acts(taker: Taker, shown: Mapping[str, str], context: Context) -> None:
    """Take what pages show after a person has done something on them."""
    page = taker.page
    page.goto("/console" + shown["add-credits"])
    page.get_by_label("Amount, in credits").fill("-999999999")
    page.get_by_label("Reason", exact=True).fill("agreed by phone")
    page.get_by_role("button", name="Add", exact=True).click()
    taker.take("add-credits-refused")
    page.goto("/console/refunds?failure_code=balance_insufficient&status=needs_attention")
    for box in page.locator("tbody input[type=checkbox]").all()[:3]:
        box.check()
    page.locator("tbody input[type=checkbox]").nth(3).focus()
    taker.take("refunds-selected")
    context.database.run(lambda connection: connection.execute(console_sessions.update().values(confirmed_at=0)))
    page.get_by_role("button", name="Retry…").click()
    page.get_by_label("Reason", exact=True).fill("the balance is topped up")
    page.locator("main form button.main").click()
    taker.take("confirm-password")
    page.get_by_label("Password of").fill("not the password")
    page.get_by_role("button", name="Continue").click()
    taker.take("confirm-password-wrong")
    page.get_by_label("Password of").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    taker.take("selected-result")


def _take_errors_of_the_server(browser: Browser, address: str, folder: Path, wanted: Sequence[str]) -> None:
    logging.disable(logging.CRITICAL)  # the errors are wanted
    for suffix, page in _looks(browser, address):
        _sign_in(page)
        Taker(page, folder, suffix, wanted).open("server-error", "/console/batches", 500)
        page.close()


def _print(browser: Browser, address: str, folder: Path, shown: Mapping[str, str], wanted: Sequence[str]) -> None:
    page = browser.new_page(base_url=address, color_scheme="dark")
    _sign_in(page)
    for name, path in shown.items():
        if _is_wanted(name, wanted):
            page.goto("/console" + path)
            page.pdf(path=folder / f"{name}.pdf", format="A4")
    page.close()


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(name.startswith(part) for part in wanted)


def _sign_in(page: Page, *, name: str = "anna", password: str = PASSWORD) -> None:
    page.goto("/console/sign-in")
    page.get_by_label("Name").fill(name)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


@dataclass(frozen=True)
class Taker:
    """Takes the wanted screenshots of one look, and prints what does not fit or did not answer as it should."""

    page: Page
    folder: Path
    suffix: str
    wanted: Sequence[str]

    def open(self, name: str, path: str, status: int = 200) -> None:
        """Open a page and take it."""
        if not _is_wanted(name, self.wanted):
            return
        answer = self.page.goto(path)
        if answer is None or answer.status != status:
            print(f"{name}-{self.suffix}: answered {answer and answer.status}, not {status}", flush=True)
        if name == "refund-unknown":
            self.page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        self.take(name)

    def take(self, name: str) -> None:
        """Take the page as it is."""
        if not _is_wanted(name, self.wanted):
            return
        width, height, window = self.page.evaluate(SIZE)
        clip: FloatRect = {"x": 0, "y": 0, "width": window, "height": min(height, HEIGHT_MAX)}
        self.page.screenshot(path=self.folder / f"{name}-{self.suffix}.png", full_page=True, clip=clip)
        if width > window:
            print(f"{name}-{self.suffix}: wider than the window", flush=True)
        if self.page.evaluate(CUT):
            print(f"{name}-{self.suffix}: a table is cut", flush=True)


if __name__ == "__main__":
    names = [name for name in sys.argv[2:] if name == "--readme" or not name.startswith("--")]
    many = next((int(name.partition("=")[2]) for name in sys.argv if name.startswith("--refunds=")), 0)
    take(Path(sys.argv[1]), names, refunds=many, printed="--print" in sys.argv)

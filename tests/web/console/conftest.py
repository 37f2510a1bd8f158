from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import pytest
from playwright.sync_api import Browser, sync_playwright
from tests.support.migrated import migrate, migrated_sqlite_url, migrated_url, sqlite_template
from tests.support.skipped import BROWSER, leave_out
from tests.support.web_process import WebProcess
from tests.web.client import settings_for
from tests.web.conftest import web
from tests.web.console.addresses import addresses
from tests.web.console.browser import Aside, NoBrowser, launch
from tests.web.console.populated import populate
from tests.web.console.populated_paypal import processors_setting
from tests.web.console.visitor import PASSWORD

from refund_worker.engine.access.console_users import create_user
from refund_worker.processors.paypal.sandbox import PayPalServer
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import build_runtime

__all__ = ["migrated_sqlite_url", "migrated_url", "sqlite_template", "web"]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Give a headless chromium; without one, and if none can be installed, the tests are skipped with a warning."""
    with sync_playwright() as playwright:
        try:
            found = launch(playwright)
        except NoBrowser as missing:
            leave_out(BROWSER, missing)
        yield found
        found.close()


@pytest.fixture(scope="session")
def populated_console(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Mapping[str, Sequence[str]]]]:
    """Give the address of a console with data on every page, and the addresses of these pages.

    It takes a while to fill: the tests that use it are in one group of the parallel run.
    """
    folder = tmp_path_factory.mktemp("console")
    url = f"sqlite:///{folder / 'refunds.db'}"
    migrate(url)
    aside = Aside()
    with Sandbox(book=folder / "book.jsonl") as sandbox, PayPalServer() as paypal:
        chosen = {
            "STRIPE_API_KEY": "sk_test_aKeyForTheSandbox",
            "STRIPE_API_BASE": sandbox.url,
            "PROCESSOR_TIMEOUT_SECONDS": "1",
            "STRIPE_RATE_PER_SECOND": "100",
            "PROCESSORS": processors_setting(paypal),
        }
        runtime = aside.do(build_runtime, settings_for(url, **chosen))
        aside.do(populate, runtime, sandbox, paypal, seconds=300)
        create_user(runtime.context, name="anna", role="admin", password=PASSWORD)
        with runtime.context.database.read() as connection:
            found = addresses(connection)
        # In a process of its own: the application stores what its process counts, and other tests count here.
        with WebProcess(url, **chosen) as console:
            yield console.url, found
        aside.do(runtime.close)
    aside.close()

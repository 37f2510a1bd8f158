"""A list that refreshes itself: focus, pointer and the reader's place survive, and no row moves away under them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.sales import paid, sell, withdrawal
from tests.web.client import settings_for
from tests.web.console.browser import Aside, served
from tests.web.console.visitor import PASSWORD

from refund_worker.engine.access.console_users import create_user
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import Runtime, build_runtime

LONG = "customer-eu-west-1-2026-11-0000001"


class Shop:
    """A console with one page open, and a customer whose refunds can be requested."""

    def __init__(self, runtime: Runtime, page: Page) -> None:
        self.runtime, self.page = runtime, page

    def ask(self, *numbers: int, customer: str = f"{LONG}7") -> list[str]:
        asked = [withdrawal(n, customer_id=customer, credits=1, reason=f"wish {n}") for n in numbers]
        return [answer.refund_id for answer in request_refunds(self.runtime.context, asked)]  # type: ignore[union-attr]

    def refreshed(self) -> None:
        """Let the page refresh itself twice: the first may have begun before a change."""
        for _ in range(2):
            with self.page.expect_response(lambda answer: "x-refresh" in answer.request.headers):
                self.page.evaluate("refresh()")
        self.page.wait_for_timeout(50)


@pytest.fixture(scope="module")
def shop(browser: Browser, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("refresh")
    url = f"sqlite:///{folder / 'refunds.db'}"
    (folder / "refunds.db").write_bytes(sqlite_template.read_bytes())
    aside = Aside()
    with Sandbox(book=folder / "book.jsonl") as sandbox:
        settings = settings_for(url, STRIPE_API_KEY="sk_test_x", STRIPE_API_BASE=sandbox.url)
        runtime = aside.do(build_runtime, settings)
        create_user(runtime.context, name="anna", role="admin", password=PASSWORD)
        customers = [f"{LONG}{n}" for n in (7, 8)]
        sell(
            runtime.context, sandbox, [paid(n, payment_id=f"p{n}", customer_id=c) for n, c in enumerate(customers)], []
        )
        with served(settings) as address:
            context = browser.new_context(base_url=address)
            context.set_default_timeout(15_000)
            page = context.new_page()
            page.goto("/console/refunds")
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            yield Shop(runtime, page)
            context.close()
        aside.do(runtime.close)
    aside.close()


def test_link_under_focus_stays_where_it_is_until_the_focus_leaves(shop: Shop) -> None:
    (first,) = shop.ask(1)
    page = shop.page
    page.mouse.move(0, 0)
    page.goto("/console/refunds")
    page.get_by_role("link", name=first).focus()
    (second,) = shop.ask(2)
    shop.refreshed()
    expect(page.get_by_role("link", name=first)).to_be_focused()
    expect(page.get_by_role("link", name=second)).to_have_count(0)
    expect(page.get_by_text("This page has changed.")).to_be_visible()
    page.locator(".scroll").focus()
    shop.refreshed()
    expect(page.get_by_role("link", name=second)).to_be_visible()
    expect(page.get_by_text("This page has changed.")).to_have_count(0)
    page.get_by_role("link", name=first).focus()
    page.keyboard.press("Enter")
    expect(page).to_have_url(f"{page.url.partition('/console')[0]}/console/refunds/{first}")


def test_row_under_a_resting_pointer_does_not_move(shop: Shop) -> None:
    (first,) = shop.ask(11)
    page = shop.page
    page.goto("/console/refunds")
    page.get_by_role("link", name=first).hover()
    box = page.get_by_role("link", name=first).bounding_box()
    (second,) = shop.ask(12)
    shop.refreshed()
    assert page.get_by_role("link", name=first).bounding_box() == box
    page.mouse.move(0, 0)
    shop.refreshed()
    expect(page.get_by_role("link", name=second)).to_be_visible()


def test_focus_outside_a_list_follows_its_link_not_its_place(shop: Shop) -> None:
    page = shop.page
    page.mouse.move(0, 0)
    (refund_id,) = shop.ask(21)
    page.goto(f"/console/refunds/{refund_id}")
    page.locator("#refund").get_by_role("link", name=f"{LONG}7").focus()
    # A new first link comes before the focused one in the next version of the part.
    page.route(
        "**/refunds/*",
        lambda route: route.fulfill(
            body=page.request.get(route.request.url)
            .text()
            .replace('<p class="lead">', '<p class="lead"><a href="/console/new">new</a> '),
            content_type="text/html",
        ),
    )
    shop.refreshed()
    expect(page.get_by_role("link", name="new", exact=True)).to_be_visible()
    assert page.evaluate("document.activeElement.textContent") == f"{LONG}7"
    page.unroute("**/refunds/*")


def test_long_ids_are_shown_whole_also_on_a_narrow_screen(shop: Shop) -> None:
    page = shop.page
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 800})
        page.goto("/console/refunds")
        cut = page.evaluate(
            "[...document.querySelectorAll('td a')].filter((a) => a.scrollWidth > a.clientWidth + 1)"
            ".map((a) => a.textContent)"
        )
        assert cut == []
        wide = page.evaluate("document.documentElement.scrollWidth > document.documentElement.clientWidth")
        assert not wide
    page.set_viewport_size({"width": 1280, "height": 800})

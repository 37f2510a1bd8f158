"""Selecting rows in a real browser: by keyboard, with names for screen readers, kept by refreshes, without a script."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.sales import paid, sell, withdrawal
from tests.web.client import settings_for
from tests.web.console.browser import Aside, served
from tests.web.console.visitor import PASSWORD

from refund_worker.domain.state_machine import Action
from refund_worker.engine.access.console_users import create_user
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.engine.refunds.actions import perform_action
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.store.tables import legs, refunds


class Shop:
    """A console with a signed-in page, and customers whose refunds can be requested."""

    def __init__(self, runtime: Runtime, page: Page) -> None:
        self.runtime, self.page = runtime, page

    def ask(self, *numbers: int) -> list[str]:
        asked = [withdrawal(n, customer_id="c7", credits=1, reason=f"wish {n}") for n in numbers]
        return [answer.refund_id for answer in request_refunds(self.runtime.context, asked)]  # type: ignore[union-attr]

    def refresh(self) -> None:
        """Let the page refresh itself twice: the first may have begun before a change."""
        for _ in range(2):
            with self.page.expect_response(lambda answer: "x-refresh" in answer.request.headers):
                self.page.evaluate("refresh()")


def needs_attention(runtime: Runtime, refund_id: str) -> None:
    def work(connection: Any) -> None:
        told = {"failure_code": "balance_insufficient"}
        stuck = {"status": "needs_attention", "due_at": None}
        connection.execute(refunds.update().where(refunds.c.refund_id == refund_id).values(**stuck, **told))
        stopped = {"status": "blocked", "attention": "balance_insufficient", "next_at": None}
        connection.execute(legs.update().where(legs.c.refund_id == refund_id).values(**stopped, **told))

    runtime.context.database.run(work)


@pytest.fixture(scope="module")
def shop(browser: Browser, tmp_path_factory: pytest.TempPathFactory, sqlite_template: Path) -> Iterator[Shop]:
    folder = tmp_path_factory.mktemp("selection")
    url = f"sqlite:///{folder / 'refunds.db'}"
    (folder / "refunds.db").write_bytes(sqlite_template.read_bytes())
    aside = Aside()
    with Sandbox(book=folder / "book.jsonl") as sandbox:
        settings = settings_for(url, STRIPE_API_KEY="sk_test_x", STRIPE_API_BASE=sandbox.url)
        runtime = aside.do(build_runtime, settings)
        create_user(runtime.context, name="anna", role="admin", password=PASSWORD)
        sell(runtime.context, sandbox, [paid(7, payment_id="p7", customer_id="c7")], [])
        with served(settings) as address:
            context = browser.new_context(base_url=address)
            context.set_default_timeout(15_000)
            page = context.new_page()
            broken: list[str] = []
            page.on("pageerror", lambda error: broken.append(str(error)))
            page.goto("/console/refunds")
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            yield Shop(runtime, page)
            context.close()
        aside.do(runtime.close)
    aside.close()
    assert broken == []


def test_keyboard_selects_rows_and_a_refresh_keeps_them(shop: Shop) -> None:
    first, second = shop.ask(1, 2)
    page = shop.page
    page.goto("/console/refunds")
    told = page.locator("#selection").get_by_role("status")
    expect(told).to_have_text("0 selected")
    page.get_by_role("checkbox", name=f"Select refund {first}").focus()
    page.keyboard.press("Space")
    expect(told).to_have_text("1 selected")
    page.locator(".scroll").focus()
    (third,) = shop.ask(3)
    shop.refresh()
    expect(page.get_by_role("link", name=third)).to_be_visible()
    expect(page.get_by_role("checkbox", name=f"Select refund {first}")).to_be_checked()
    expect(page.get_by_role("checkbox", name=f"Select refund {second}")).not_to_be_checked()
    page.get_by_role("checkbox", name=f"Select refund {second}").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Cancel refunds…").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Cancel 2 refunds")).to_be_visible()
    expect(page.locator("main")).not_to_contain_text(third)
    page.get_by_label("Reason").fill("a slip")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="2 of 2 canceled")).to_be_visible()


def test_selected_row_that_leaves_the_list_stays_selected(shop: Shop) -> None:
    leaves, stays = shop.ask(11, 12)
    page = shop.page
    page.goto("/console/refunds?status=queued")
    for refund_id in (leaves, stays):
        page.get_by_role("checkbox", name=f"Select refund {refund_id}").check()
    page.locator(".scroll").focus()
    page.mouse.move(0, 0)
    perform_action(shop.runtime.context, leaves, Action.CANCEL, actor="key:backend/shop", reason="a slip")
    shop.refresh()
    expect(page.get_by_role("link", name=leaves)).to_have_count(0)
    told = page.locator("#selection").get_by_role("status")
    expect(told).to_have_text("2 selected, 1 of them no longer in this list")
    page.get_by_role("button", name="Cancel refunds…").click()
    expect(page.get_by_role("heading", name="Cancel 1 refund")).to_be_visible()
    expect(page.get_by_role("row", name=leaves)).to_contain_text("Its status is “canceled”")
    page.go_back()
    page.get_by_role("button", name="Clear").click()
    expect(told).to_have_text("0 selected")
    page.get_by_role("button", name="Cancel refunds…").click()
    expect(page.get_by_text("No refund is selected.")).to_be_visible()


def test_result_of_a_selection_renews_the_statuses(shop: Shop) -> None:
    (refund_id,) = shop.ask(15)
    page = shop.page
    needs_attention(shop.runtime, refund_id)
    page.goto("/console/refunds?status=needs_attention")
    page.get_by_role("checkbox", name=f"Select refund {refund_id}").check()
    page.get_by_role("button", name="Retry…").click()
    page.get_by_label("Reason").fill("mended")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="1 of 1 retried")).to_be_visible()
    now = page.get_by_role("row", name=refund_id).get_by_role("cell").last
    expect(now).to_have_text("needs attention")
    update = refunds.update().where(refunds.c.refund_id == refund_id).values(status="sending")
    shop.runtime.context.database.run(lambda connection: connection.execute(update))
    shop.refresh()
    expect(now).to_have_text("sending")
    expect(page.get_by_role("heading", name="1 of 1 retried")).to_be_visible()


def test_one_checkbox_selects_the_page(shop: Shop) -> None:
    shop.ask(21, 22, 23)
    page = shop.page
    page.goto("/console/refunds?status=queued")
    rows = page.locator("tbody tr").count()
    told = page.locator("#selection").get_by_role("status")
    page.get_by_label("All on this page").check()
    expect(told).to_have_text(f"{rows} selected")
    page.locator("tbody input").first.uncheck()
    expect(told).to_have_text(f"{rows - 1} selected")
    assert page.get_by_label("All on this page").evaluate("box => box.indeterminate")
    page.get_by_role("button", name="Retry…").click()
    expect(page.get_by_role("heading", name="Retry 0 refunds")).to_be_visible()
    expect(page.locator("main")).to_contain_text(f"{rows - 1} are left out")


def test_bar_below_the_list_covers_no_focused_row(shop: Shop) -> None:
    shop.ask(*range(31, 51))
    page = shop.page
    page.goto("/console/refunds")
    bar = page.locator("#selection")
    page.locator("tbody input").last.check()
    for box in page.locator("tbody input").all()[::7]:
        box.focus()
        lower, upper = box.bounding_box(), bar.bounding_box()
        assert lower is not None
        assert upper is not None
        assert lower["y"] + lower["height"] <= upper["y"]
        assert min(lower["width"], lower["height"]) > 12


def test_selection_works_without_a_script(shop: Shop, browser: Browser) -> None:
    (refund_id,) = shop.ask(71)
    address, _, _ = shop.page.url.partition("/console")
    state = shop.page.context.storage_state()
    context = browser.new_context(base_url=address, storage_state=state, java_script_enabled=False)
    page = context.new_page()
    page.goto("/console/refunds?status=queued")
    page.get_by_label(f"Select refund {refund_id}").check()
    expect(page.get_by_label("All on this page")).to_be_hidden()
    page.get_by_role("button", name="Cancel refunds…").click()
    page.get_by_label("Reason").fill("a slip")
    page.get_by_role("button", name="Cancel 1 refund").click()
    expect(page.get_by_role("heading", name="1 of 1 canceled")).to_be_visible()
    page.get_by_role("link", name="Back to Refunds").click()
    expect(page).to_have_url(f"{address}/console/refunds?status=queued")
    expect(page.get_by_role("link", name=refund_id)).to_have_count(0)
    context.close()


def test_narrow_menu_is_a_labelled_button_and_no_strip(shop: Shop, browser: Browser) -> None:
    address, _, _ = shop.page.url.partition("/console")
    options = {"viewport": {"width": 390, "height": 844}, "timezone_id": "America/Argentina/Buenos_Aires"}
    context = browser.new_context(base_url=address, storage_state=shop.page.context.storage_state(), **options)  # type: ignore[arg-type]
    page = context.new_page()
    page.goto("/console/refunds")
    pages, menu = page.get_by_role("navigation", name="Pages"), page.get_by_role("button", name="Menu")
    expect(pages.get_by_role("link")).to_have_text(["Refunds"])
    expect(menu).to_have_attribute("aria-expanded", "false")
    menu.click()
    expect(menu).to_have_attribute("aria-expanded", "true")
    assert pages.get_by_role("link").count() > 12
    outside = page.evaluate(
        "[...document.querySelectorAll('header a, header button, header input')]"
        ".map((part) => [part.textContent || part.id, part.getBoundingClientRect()])"
        ".filter(([, box]) => box.left < 0 || box.right > window.innerWidth)"
    )
    assert outside == [], "nothing of the menu lies outside the window"
    context.close()

"""Both staff procedures and an operator's incident in a real browser, with a worker and a sandbox."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from tests.support.sales import paid, sell, spent, withdrawal
from tests.web.client import settings_for
from tests.web.console.browser import Aside, served
from tests.web.console.visitor import PASSWORD

from refund_worker.engine.access.console_users import create_user
from refund_worker.engine.context import Context
from refund_worker.engine.refunds.accept import request_refunds
from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import Runtime, build_runtime
from refund_worker.store.tables import console_sessions

STUCK = 37


class Shop:
    """A console and a worker that runs on request; refunds go to a sandbox."""

    def __init__(self, runtime: Runtime, sandbox: Sandbox, aside: Aside, page: Page) -> None:
        self.runtime, self.sandbox, self.aside, self.page = runtime, sandbox, aside, page

    def work(self) -> None:
        self.aside.do(process_until_idle, self.runtime.context)

    def sell(self, customers: int) -> None:
        """Create customers c0, c1, … who paid 20.00 GBP for 200 credits and spent 50 in a chat."""
        numbers = range(customers)
        payments = [paid(n, payment_id=f"pay{n}", customer_id=f"c{n}", amount_minor=2000, credits=200) for n in numbers]
        spends = [spent(n, transaction_id=f"t{n}", customer_id=f"c{n}") for n in numbers]
        sell(self.runtime.context, self.sandbox, payments, spends)


@pytest.fixture
def shop(browser: Browser, tmp_path: Path, migrated_sqlite_url: str) -> Iterator[Shop]:
    aside = Aside()
    with Sandbox(book=tmp_path / "book.jsonl") as sandbox:
        settings = settings_for(
            migrated_sqlite_url,
            STRIPE_API_KEY="sk_test_mustNeverBeSeenAnywhere",
            STRIPE_API_BASE=sandbox.url,
            STRIPE_RATE_PER_SECOND="0",
        )
        runtime = aside.do(build_runtime, settings)
        create_user(runtime.context, name="anna", role="admin", password=PASSWORD)
        with served(settings) as address:
            context = browser.new_context(base_url=address)
            context.set_default_timeout(15_000)
            page = context.new_page()
            broken: list[str] = []
            page.on("pageerror", lambda error: broken.append(str(error)))
            page.on(
                "console", lambda said: broken.append(said.text) if "Content Security Policy" in said.text else None
            )
            page.goto("/console")
            page.get_by_label("Name").fill("anna")
            page.get_by_label("Password").fill(PASSWORD)
            page.get_by_role("button", name="Sign in").click()
            expect(page.get_by_role("heading", name="Overview")).to_be_visible()
            yield Shop(runtime, sandbox, aside, page)
            context.close()
        aside.do(runtime.close)
    aside.close()
    assert broken == []


def test_staff_procedure_refund_credits(shop: Shop) -> None:
    shop.sell(1)
    page = shop.page
    page.get_by_role("link", name="Transactions").click()
    page.get_by_role("row", name="Private chat").get_by_role("link", name="Refund").click()
    expect(page.get_by_role("heading", name="Refund transaction")).to_be_visible()
    preview = page.locator("#preview")
    expect(preview).to_contain_text("200")
    page.get_by_role("link", name="Half").click()
    expect(preview).to_contain_text("175")
    page.get_by_role("radio", name="Real money").check()
    expect(preview).to_contain_text("2.50 GBP")
    page.locator("input[value=balance]").check()
    page.get_by_label("Reason").fill("the performer's camera was broken")
    page.get_by_role("button", name="Refund", exact=True).click()
    expect(page.locator("#entries")).to_contain_text("its entry appears soon")
    shop.work()
    # The page updates without a reload.
    entry = page.get_by_role("row", name="Refund of 25 credits for transaction t0")
    expect(entry).to_contain_text("+25")
    expect(page.locator("#balance")).to_contain_text("175")
    entry.get_by_role("link", name="Delete").click()
    page.get_by_label("Reason").fill("the wrong chat")
    page.get_by_role("button", name="Delete").click()
    expect(page.locator("#balance")).to_contain_text("150")
    expect(page.get_by_role("row", name="Reversal").first).to_contain_text("−25")
    assert shop.sandbox.refunds() == [], "credits only: no money was requested"


def test_going_back_after_a_refund_cannot_pay_twice(shop: Shop) -> None:
    shop.sell(1)
    page = shop.page
    page.goto("/console/refund-transaction?id=t0")
    page.get_by_role("radio", name="Real money").check()
    page.get_by_label("Amount").fill("10")
    page.get_by_label("Reason").fill("the camera was broken")
    page.get_by_role("button", name="Refund", exact=True).click()
    expect(page.locator("main")).to_contain_text("Accepted: the progress is shown below.")
    page.reload()
    expect(page.locator("main")).not_to_contain_text("Accepted: the progress is shown below.")
    page.go_back()
    expect(page.locator(".earlier")).to_contain_text("10 credits, 1.00 GBP")
    expect(page.get_by_role("radio", name="Real money")).not_to_be_checked()
    expect(page.get_by_label("Reason")).to_have_value("")
    expect(page.locator("#preview")).to_contain_text("No real money moves.")


def test_panel_reports_a_wrong_amount_while_it_is_typed(shop: Shop) -> None:
    shop.sell(1)
    page = shop.page
    page.goto("/console/refund-transaction?id=t0")
    preview = page.locator("#preview")
    page.get_by_label("Amount").fill("1.5")
    expect(preview).to_contain_text("enter a whole number")
    page.get_by_label("Amount").fill("5000")
    expect(preview).to_contain_text("more than the 50 credits left")
    page.get_by_label("Amount").fill("")
    expect(preview).to_contain_text("Enter an amount to see what will happen.")
    page.context.clear_cookies()
    page.get_by_label("Amount").fill("20")
    expect(preview).to_contain_text("The preview is not available now: sign in again")
    expect(preview).not_to_contain_text("after")


def test_page_without_session_or_connection_says_since_when(shop: Shop) -> None:
    shop.sell(1)
    page = shop.page
    page.goto("/console/transactions?customer=c0")
    page.locator(".scroll").focus()
    page.context.set_offline(True)
    told = page.get_by_role("status")
    expect(told).to_contain_text(re.compile(r"Not updated since \d\d:\d\d:\d\d UTC: no connection"))
    page.context.set_offline(False)
    expect(told).to_have_count(0)
    # A focused table (for scrolling by keyboard) does not stop the page from updating.
    request_refunds(shop.runtime.context, [withdrawal(0, customer_id="c0", credits=100)])
    shop.work()
    expect(page.locator("#balance")).to_contain_text("50")
    expect(page.locator("#entries")).to_contain_text("Withdrawal of 100 credits")
    expect(page.locator(".scroll")).to_be_focused()
    page.context.clear_cookies()
    expect(told).to_contain_text("sign in again")


def test_staff_procedure_refund_money(shop: Shop) -> None:
    shop.sell(1)
    page = shop.page
    page.get_by_role("link", name="Manage Customers").click()
    page.get_by_title("Add credits to customer's account").click()
    page.get_by_label("Amount").fill("-9999")
    expect(page.locator("#sign")).to_contain_text("more than the 150 available, so it will be refused")
    page.get_by_label("Amount").fill("1.5")
    expect(page.locator("#sign")).to_contain_text("a whole number")
    page.get_by_label("Amount").fill("-150")
    expect(page.locator("#sign")).to_contain_text("from 150 to 0")
    page.get_by_label("Reason").fill("withdrawal agreed by phone")
    page.get_by_role("button", name="Add").click()
    expect(page.locator(".big")).to_have_text("0 credits")
    expect(page.get_by_role("row", name="withdrawal agreed by phone")).to_contain_text("−150")
    page.get_by_role("link", name="Return money through the paying system").click()
    expect(page.locator("main")).to_contain_text("pay0")
    expect(page.locator("main")).to_contain_text("15.00 GBP")
    page.get_by_role("button", name="Return money").dblclick()
    expect(page.get_by_role("heading", name="Withdrawal of 150 credits")).to_be_visible()
    shop.work()
    expect(page.locator(".lights")).to_contain_text(re.compile("Confirmed\\s*yes"))
    assert [refund["amount"] for refund in shop.sandbox.refunds()] == [1500], "a double click makes one refund"


def test_37_refunds_stuck_on_an_empty_balance_are_retried_and_watched(shop: Shop) -> None:
    shop.sandbox.change_faults({"balance": {"gbp": 0}})
    shop.sell(STUCK)
    request_refunds(shop.runtime.context, [withdrawal(n, customer_id=f"c{n}", credits=100) for n in range(STUCK)])
    shop.work()
    page = shop.page
    page.get_by_role("link", name="Overview").click()
    # Three clicks: the line on Overview, the button on Failures, and the retry itself.
    shown = f"{STUCK} refunds need attention at stripe: The balance at the processor is empty"
    page.get_by_role("link", name=shown).click()
    cause = page.locator(".cause")
    expect(cause).to_contain_text("Top up the balance at the processor")
    expect(cause).to_contain_text("370.00 GBP")
    shop.sandbox.change_faults({"balance": {}})
    page.get_by_role("link", name=f"Retry all {STUCK}").click()
    stale = page.context.new_page()
    stale.goto(page.url)
    page.get_by_label("Reason").fill("balance topped up")
    page.get_by_role("button", name=f"Retry {STUCK} refunds").click()
    expect(page.get_by_role("heading", name="Retried by console/anna")).to_be_visible()
    expect(page.locator("#finished")).to_have_text("0")
    # A second person has the same page open, but its list has changed.
    stale.get_by_label("Reason").fill("me too")
    stale.get_by_role("button", name=f"Retry {STUCK} refunds").click()
    expect(stale.get_by_role("alert")).to_contain_text(f"You saw {STUCK} refunds, now there are 0")
    shop.work()
    expect(page.locator("#finished")).to_have_text(str(STUCK))
    assert len(shop.sandbox.refunds()) == STUCK
    page.get_by_role("link", name="Overview").click()
    expect(page.get_by_role("heading", name="Nothing needs a person")).to_be_visible()


def test_pages_work_by_keyboard_with_visible_focus(shop: Shop) -> None:
    shop.sell(1)
    page = shop.page
    page.goto("/console/refund-transaction?id=t0")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(30):
        page.keyboard.press("Tab")
        if page.evaluate("document.activeElement.id") == "reason":
            break
    outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    page.keyboard.type("by keyboard")
    page.keyboard.press("Enter")
    expect(page.locator("#entries")).to_contain_text("its entry appears soon")


def test_times_switch_to_the_readers_zone_and_stay_so(shop: Shop, browser: Browser) -> None:
    shop.sell(1)
    page = _another(shop, browser, timezone_id="Asia/Kolkata")
    page.goto("/console/transactions?customer=c0")
    spent_at = page.get_by_role("row", name="Private chat").locator("time")
    utc = spent_at.inner_text()
    page.get_by_role("button", name="Show times in Asia/").click()
    own = spent_at.inner_text()
    # Minutes differ by 30, because that zone is five and a half hours ahead.
    assert abs(int(own[14:16]) - int(utc[14:16])) == 30
    expect(spent_at).to_have_attribute("title", f"{utc} UTC")
    page.goto("/console/transactions")
    expect(page.get_by_role("columnheader", name="When (Asia/")).to_be_visible()
    page.context.close()


def test_hidden_page_fetches_nothing_and_updates_when_visible(shop: Shop) -> None:
    shop.sell(1)
    page = shop.page
    page.add_init_script("Object.defineProperty(document, 'hidden', { get: () => window.unseen ?? false })")
    page.goto("/console/transactions?customer=c0")
    page.evaluate("window.unseen = true")
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.wait_for_timeout(4_000)
    assert asked == []
    request_refunds(shop.runtime.context, [withdrawal(0, customer_id="c0", credits=100)])
    shop.work()
    page.evaluate("window.unseen = false; document.dispatchEvent(new Event('visibilitychange'))")
    expect(page.locator("#balance")).to_contain_text("50")


def test_automatic_refreshes_are_marked_and_page_visits_are_not(shop: Shop) -> None:
    with shop.page.expect_request(lambda request: request.resource_type == "document") as opened:
        shop.page.goto("/console/transactions")
    with shop.page.expect_request(lambda request: request.resource_type == "fetch") as fetched:
        pass
    assert "x-refresh" not in opened.value.headers
    assert fetched.value.headers["x-refresh"] == "1"


def test_escape_closes_an_open_section_and_keeps_the_focus(shop: Shop) -> None:
    page = shop.page
    page.goto("/console/refunds")
    summary, choice = page.locator("details.choices > summary", has_text="Status"), page.get_by_label("needs attention")
    summary.focus()
    page.keyboard.press("Enter")
    expect(choice).to_be_visible()
    choice.focus()
    page.keyboard.press("Escape")
    expect(choice).to_be_hidden()
    expect(summary).to_be_focused()


def test_refund_is_found_and_retried_without_javascript(shop: Shop, browser: Browser) -> None:
    shop.sandbox.change_faults({"balance": {"gbp": 0}})
    shop.sell(1)
    request_refunds(shop.runtime.context, [withdrawal(0, customer_id="c0", credits=100)])
    shop.work()
    shop.sandbox.change_faults({"balance": {}})
    page = _another(shop, browser, java_script_enabled=False)
    page.goto("/console/refunds")
    page.get_by_role("link", name="Needs a person").click()
    page.get_by_role("row", name="needs attention").get_by_role("link").first.click()
    page.get_by_role("link", name="Check, then retry").click()
    expect(page.locator("main")).to_contain_text("The processor has no refund for this.")
    page.get_by_label("Reason").fill("topped up")
    page.get_by_role("button", name="Retry", exact=True).click()
    shop.work()
    page.reload()
    expect(page.locator(".lights")).to_contain_text(re.compile("Confirmed\\s*yes"))
    assert len(shop.sandbox.refunds()) == 1
    page.context.close()


def _another(shop: Shop, browser: Browser, **options: object) -> Page:
    """Sign the same person in from another browser."""
    address, _, _ = shop.page.url.partition("/console")
    state = shop.page.context.storage_state()
    return browser.new_context(base_url=address, storage_state=state, **options).new_page()  # type: ignore[arg-type]


def test_admin_changes_a_user_and_their_own_password(shop: Shop) -> None:
    """Walk the people's pages: the confirmation keeps the chosen role, and a download of the trail names the admin."""
    context, page = shop.runtime.context, shop.page
    shop.aside.do(create_user, context, name="berta", role="support", password=PASSWORD)
    page.get_by_role("link", name="Users and keys").click()
    page.get_by_role("link", name="berta").click()
    page.get_by_label("New role").select_option("operator")
    shop.aside.do(_confirmed_long_ago, context)
    page.get_by_role("button", name="Change the role").click()
    expect(page.locator("#main")).to_contain_text("This changes who may do what")
    page.get_by_label("Password of anna").fill(PASSWORD)
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("status")).to_have_text("The role is changed. It applies at once, also in open sessions.")
    expect(page.get_by_label("New role")).to_have_value("operator")
    page.get_by_role("button", name="Disable berta").click()
    expect(page.get_by_role("button", name="Enable berta")).to_be_visible()
    page.get_by_role("link", name="Your password").click()
    for label, text in (("Current password", PASSWORD), ("New password", "staple battery horse")):
        page.get_by_label(label).first.fill(text)
    page.get_by_label("New password again").fill("staple battery horse")
    page.get_by_role("button", name="Change the password").click()
    expect(page.get_by_role("status")).to_contain_text("Your password is changed")
    page.get_by_role("link", name="Audit", exact=True).click()
    with page.expect_download() as started:
        page.get_by_role("link", name="Download as CSV").click()
    text = started.value.path().read_text("utf-8-sig")
    assert started.value.suggested_filename == "audit-timeline.csv"
    lines = [line.split(",")[2:4] for line in text.splitlines()[1:4]]
    kinds = ("user_password_set", "user_disabled", "user_role_set")
    assert lines == [["console/anna", kind] for kind in kinds]


def _confirmed_long_ago(context: Context) -> None:
    old = console_sessions.update().values(confirmed_at=0.0)
    context.database.run(lambda connection: connection.execute(old))

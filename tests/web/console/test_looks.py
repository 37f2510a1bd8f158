"""Pages fit on the screen and on paper, whatever ids and texts they show; the reference opens without faults."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from tests.web.console.test_accessibility import SIZES, TAGS, Found
from tests.web.console.visitor import PASSWORD

# They share a console with data on every page with the accessibility test.
pytestmark = pytest.mark.xdist_group("accessibility")

# The width between the margins of A4 paper, in CSS pixels.
PAPER = {"width": 703, "height": 1_000}
LISTS = ("/refunds", "/customers", "/transactions", "/approvals", "/notifications", "/audit", "/audit?of=ledger")
LISTS += ("/payees", "/payouts", "/payout-runs")
LONG_ID = "maximiliane.von-der-heyden-zu-tal@customers.long-domain-name.example"
LONG_TEXT = "the picture froze after four minutes, and the second show was charged again " * 3
FILL = """([id, text]) => {
  for (const link of document.querySelectorAll("td a.customer")) link.textContent = id;
  for (const row of document.querySelectorAll("tr:has(td[data-name=Cause])")) {
    const badge = row.querySelector("td[data-name=Status] .badge");
    badge.textContent = "pending at the processor";
    badge.classList.add("long");
    row.querySelector("td[data-name=Credits]").textContent = "1,234,500";
    row.querySelector("td[data-name=Money]").textContent = "123,450.000 KWD";
  }
  for (const words of document.querySelectorAll("td.text bdi:first-child")) words.textContent = text;
}"""
# Names of tables, and of the page itself, that are wider than the room they have.
WIDER = """[document.documentElement, ...document.querySelectorAll(".scroll")]
  .filter((part) => part.scrollWidth > part.clientWidth)
  .map((part) => part.getAttribute("aria-label") ?? "the page")"""
CONTROLS = """[...document.querySelectorAll("nav, header, button, .button, input, select, textarea, label, th")]
  .filter((part) => part.checkVisibility() && (part.tagName !== "TH" || part.textContent === "Actions"))
  .map((part) => part.textContent.trim())"""
DARKNESS = "getComputedStyle(document.body).color.match(/\\d+/g).reduce((sum, part) => sum + +part, 0)"


@pytest.fixture(scope="module")
def page(browser: Browser, populated_console: tuple[str, Found]) -> Iterator[Page]:
    """Give a page that is signed in, on a dark screen."""
    address, _ = populated_console
    context = browser.new_context(base_url=address, color_scheme="dark", viewport=SIZES["wide"])  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.goto("/console/sign-in")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    yield page
    context.close()


@pytest.fixture(scope="module")
def lists(populated_console: tuple[str, Found]) -> list[str]:
    _, found = populated_console
    routes = ("/customer", "/batches/{batch_id}", "/refunds/{refund_id}", "/users", "/processors")
    routes += ("/payee", "/payee/statement", "/pay-out", "/payouts/{payout_id}", "/payout-runs/{run_id}")
    one = [found[route][0] for route in routes]
    return ["/console" + path for path in (*LISTS, *one)]


def test_no_long_id_pushes_a_column_out_of_sight(page: Page, lists: list[str]) -> None:
    page.set_viewport_size(SIZES["wide"])  # type: ignore[arg-type]
    wider = {path: found for path in lists if (found := _wider(page, path))}
    assert not wider


def test_no_text_of_a_list_is_cut_on_a_phone(page: Page, lists: list[str]) -> None:
    page.set_viewport_size(SIZES["narrow"])  # type: ignore[arg-type]
    wider = {path: found for path in lists if (found := _wider(page, path))}
    assert not wider


def test_whole_menu_is_in_sight_in_a_window_of_a_laptop(page: Page) -> None:
    page.set_viewport_size(SIZES["wide"])  # type: ignore[arg-type]
    page.goto("/console/")
    box = page.get_by_role("button", name="Sign out").bounding_box()
    assert box is not None
    assert box["y"] + box["height"] <= SIZES["wide"]["height"]


def test_list_without_refunds_offers_nothing_to_do_with_them(page: Page) -> None:
    page.goto("/console/refunds?customer_id=nobody")
    assert page.get_by_role("button", name="Retry…").count() == 0
    page.goto("/console/refunds")
    assert page.get_by_role("button", name="Retry…").count() == 1


def test_printed_lists_fit_on_a4_without_controls(page: Page, lists: list[str]) -> None:
    page.set_viewport_size(PAPER)  # type: ignore[arg-type]
    page.emulate_media(media="print")
    for path in lists:
        assert not _wider(page, path), path
        assert page.evaluate(CONTROLS) == [], path
        assert page.evaluate(DARKNESS) < 200, f"{path}: pale text on white paper"
    page.emulate_media(media="screen")


# The reference repeats a few patterns many times: axe would read all of them for ten seconds.
@pytest.mark.parametrize(
    ("path", "part"), [("/docs", "header, main > nav, section:nth-of-type(3n)"), ("/docs/errors", "body")]
)
def test_the_reference_opens_without_faults_on_a_phone(page: Page, path: str, part: str) -> None:
    told: list[str] = []
    page.on("console", lambda message: told.append(message.text))
    page.on("pageerror", lambda error: told.append(str(error)))
    page.set_viewport_size(SIZES["narrow"])  # type: ignore[arg-type]
    answer = page.goto(path)
    assert answer is not None
    assert answer.status == 200
    assert page.evaluate(WIDER) == []
    assert told == []
    options = {"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]}
    assert [fault["id"] for fault in Axe().run(page, part, options).response["violations"]] == []


def _wider(page: Page, path: str) -> list[str]:
    page.goto(path)
    page.evaluate(FILL, [LONG_ID, LONG_TEXT])
    found: list[str] = page.evaluate(WIDER)
    return found

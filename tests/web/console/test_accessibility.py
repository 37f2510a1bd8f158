"""axe, the accessibility checker, finds no serious fault on any page: light and wide, dark and narrow.

Colours depend on the scheme alone and the layout on the width alone, so two of the four pairs are enough.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, Page
from tests.web.console.visitor import PASSWORD

SIZES = {"wide": {"width": 1280, "height": 800}, "narrow": {"width": 390, "height": 844}}
# axe's tags for the rules of WCAG 2.2 A and AA, and for its own best practices.
TAGS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
SERIOUS = ("serious", "critical")
NOT_THERE = "/nothing-is-here"

# They share a console with data on every page.
pytestmark = pytest.mark.xdist_group("accessibility")

Found = Mapping[str, Sequence[str]]


@pytest.mark.parametrize(("scheme", "size"), [("light", "wide"), ("dark", "narrow")])
def test_axe_finds_nothing_serious_on_any_page(
    browser: Browser, populated_console: tuple[str, Found], scheme: Any, size: str
) -> None:
    address, found = populated_console
    context = browser.new_context(base_url=address, color_scheme=scheme, viewport=SIZES[size])  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    page = context.new_page()
    page.goto("/console/sign-in")
    faults = _faults(page, "/sign-in")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    for path in _looked_at(found):
        answer = page.goto("/console" + path)
        assert answer is not None
        assert answer.status == (404 if path == NOT_THERE else 200), path
        assert "/sign-in" not in page.url or path == "/sign-in"
        page.evaluate("for (const closed of document.querySelectorAll('details')) closed.open = true")
        faults |= _faults(page, path)
    context.close()
    assert not faults, "\n".join(f"{path}: {fault}" for path, fault in faults.items())


def _looked_at(found: Found) -> list[str]:
    """Return two addresses of each page, a refund in every status, and an address that is not found."""
    few = [path for route, paths in found.items() for path in (paths if "{" in route else paths[:2])]
    return [*few, NOT_THERE]


def _faults(page: Page, path: str) -> dict[str, str]:
    """Return axe's findings by path. It runs together with the page's scripts, under the unchanged security policy."""
    results = Axe().run(page, options={"runOnly": {"type": "tag", "values": TAGS}, "resultTypes": ["violations"]})
    serious = [fault for fault in results.response["violations"] if fault["impact"] in SERIOUS]
    told = [f"{fault['id']} ({fault['help']}): {fault['nodes'][0]['html'][:300]}" for fault in serious]
    return {path: "; ".join(told)} if told else {}

"""Screenshots of every page, light and dark, wide and narrow: `python -m tests.web.console.screenshots FOLDER [NAME…]`.

They are for people; no test compares them. With names, only pages whose names begin so; with `--readme` alone the four
screenshots of the README and docs/operations.md, for `docs/screenshots`. With `--refunds=1000` first, the pages show
that many, with long ids and texts; with `--print`, the pages as they are printed on A4 paper, as PDF.
"""

from __future__ import annotations

import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from playwright.sync_api import Browser, Page, sync_playwright
from tests.support.migrated import migrate
from tests.web.client import settings_for
from tests.web.console.addresses import NO_PAGES
from tests.web.console.browser import Aside, launch, served
from tests.web.console.populated import populate
from tests.web.console.populated_many import Many
from tests.web.console.visitor import PASSWORD

from refund_worker.engine.access.console_users import create_user
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import build_runtime
from refund_worker.web.console.permissions import RULES

SIZES = {"wide": (1280, 800), "narrow": (390, 844)}
# Heights of the README's screenshots.
README = {"overview": 739, "failures": 739, "figures": 1_001, "refund-transaction": 739}
README_WIDTH = 1_100
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
# The beginning of a long list is enough.
HEIGHT_MAX = 2_600
CUT = "[...document.querySelectorAll('.scroll')].filter((part) => part.scrollWidth > part.clientWidth).length"
SIZE = "(({scrollWidth: x, scrollHeight: y, clientWidth: window}) => [x, y, window])(document.documentElement)"


def addresses(named: dict[str, str]) -> dict[str, str]:
    """Return the address of every page, by the name of its screenshot."""
    selected = "&".join(f"selected={named[name]}" for name in ("paid", "pending", "approval", "unknown"))
    queries = {
        "/customer": f"?id={named['customer']}",
        "/add-credits": f"?customer={named['customer']}",
        "/refund-transaction": f"?id={named['spend']}",
        "/delete-transaction": f"?id={named['correction']}",
        "/return-money": f"?id={named['correction']}",
        "/failures/retry": "?code=balance_insufficient",
        "/failures/watch": "?first=1&last=99999&by=console/anna",
        "/approvals/approve": f"?customer_id={named['waiting']}",
        "/approvals/reject": f"?customer_id={named['waiting']}",
        "/search": "?q=camera",
        **{f"/selected/{action}": f"?{selected}" for action in ("retry", "approve", "reject", "cancel")},
        "/user": "?name=berta",
        "/key": f"?id={named['key']}",
    }
    refunds = {name: named[name] for name in ("paid", "pending", "approval", "unknown")}
    found = {
        "transactions-of-one": f"/transactions?customer={named['customer']}",
        "transactions-entry": f"/transactions?id={named['spend']}",
        "transactions-search": f"/transactions?q=camera&customer={named['customer']}",
        "transactions-of-parts": f"/transactions?customer={named['customer_of_parts']}",
        "add-credits-in-parts": f"/add-credits?customer={named['customer_of_parts']}",
        "return-money-in-parts": f"/return-money?id={named['in_parts']}",
        "customer-of-parts": f"/customer?id={named['customer_of_parts']}",
        "customers-search": "/customers?q=NO",
        "retry-of-one": f"/refunds/{named['unknown']}/retry",
        "not-found": "/nothing-here",
        "user-of-mine": "/user?name=anna",
        **{f"refund-{name}": f"/refunds/{refund_id}" for name, refund_id in refunds.items()},
    }
    for method, path in RULES:
        if method == "GET" and path not in NO_PAGES | {"/sign-in"} and "{refund_id}" not in path:
            filled = path.replace("{batch_id}", named["batch"])
            found[re.sub(r"[^a-z]+", "-", path).strip("-") or "overview"] = filled + queries.get(path, "")
    return found


def take(folder: Path, wanted: Sequence[str], *, refunds: int = 0, printed: bool = False) -> None:
    """Take the wanted screenshots (all without names) and store them in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    aside = Aside()
    with tempfile.TemporaryDirectory() as scratch, Sandbox(book=Path(scratch) / "book.jsonl") as sandbox:
        url = f"sqlite:///{scratch}/refunds.db"
        migrate(url)
        settings = settings_for(
            url,
            STRIPE_API_KEY="sk_test_aKeyForTheSandbox",
            STRIPE_API_BASE=sandbox.url,
            PROCESSOR_TIMEOUT_SECONDS="1",
            STRIPE_RATE_PER_SECOND="100",
        )
        runtime = aside.do(build_runtime, settings)
        named = aside.do(populate, runtime, sandbox, Many(refunds) if refunds else None, seconds=300)
        create_user(runtime.context, name="anna", role="admin", password=PASSWORD)
        approving = settings.model_copy(update={"approval_threshold_minor": 100})
        with served(approving) as address, sync_playwright() as playwright:
            browser = launch(playwright)
            if list(wanted) == ["--readme"]:
                page = browser.new_page(base_url=address, viewport={"width": README_WIDTH, "height": 739})
                _sign_in(page)
                for name, height in README.items():
                    page.goto("/console" + addresses(named)[name])
                    page.set_viewport_size({"width": README_WIDTH, "height": height})
                    page.screenshot(path=folder / f"console-{name}.png")
            elif printed:
                _print(browser, address, folder, addresses(named), wanted)
            else:
                _take_every_look(browser, address, folder, addresses(named), wanted)
            browser.close()
        aside.do(runtime.close)
    aside.close()


def _take_every_look(
    browser: Browser, address: str, folder: Path, pages: dict[str, str], wanted: Sequence[str]
) -> None:
    for name in ("docs", "docs/errors"):
        if _is_wanted(name, wanted):
            pages = pages | {name.replace("/", "-"): f"/{name}"}
    for scheme in SCHEMES:
        for size, (width, height) in SIZES.items():
            page = browser.new_page(base_url=address, color_scheme=scheme, viewport={"width": width, "height": height})
            page.goto("/console/sign-in")
            page.screenshot(path=folder / f"sign-in-{scheme}-{size}.png", full_page=True)
            _sign_in(page)
            _take_all(page, folder, f"{scheme}-{size}", pages, wanted)
            page.close()


def _print(browser: Browser, address: str, folder: Path, pages: dict[str, str], wanted: Sequence[str]) -> None:
    page = browser.new_page(base_url=address, color_scheme="dark")
    _sign_in(page)
    for name, path in pages.items():
        if _is_wanted(name, wanted):
            page.goto("/console" + path)
            page.pdf(path=folder / f"{name}.pdf", format="A4")
    page.close()


def _is_wanted(name: str, wanted: Sequence[str]) -> bool:
    return not wanted or any(name.startswith(part) for part in wanted)


def _sign_in(page: Page) -> None:
    page.goto("/console/sign-in")
    page.get_by_label("Name").fill("anna")
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()


def _take_all(page: Page, folder: Path, suffix: str, pages: dict[str, str], wanted: Sequence[str]) -> None:
    for name, path in pages.items():
        if not _is_wanted(name, wanted):
            continue
        page.goto(path if path.startswith("/docs") else "/console" + path)
        if name == "refund-unknown":
            page.evaluate("document.querySelectorAll('details').forEach((part) => (part.open = true))")
        width, height, window = page.evaluate(SIZE)
        clip = {"x": 0, "y": 0, "width": window, "height": min(height, HEIGHT_MAX)}
        page.screenshot(path=folder / f"{name}-{suffix}.png", full_page=True, clip=clip)
        wide = width > window
        if wide:
            print(f"{name}-{suffix}: wider than the window", flush=True)
        if page.evaluate(CUT):
            print(f"{name}-{suffix}: a table is cut", flush=True)


if __name__ == "__main__":
    names = [name for name in sys.argv[2:] if name == "--readme" or not name.startswith("--")]
    many = next((int(name.partition("=")[2]) for name in sys.argv if name.startswith("--refunds=")), 0)
    take(Path(sys.argv[1]), names, refunds=many, printed="--print" in sys.argv)

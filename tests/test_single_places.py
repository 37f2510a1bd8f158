"""Acts that only the named places may do: read cookies or a processor's switch, act over HTTP, name Stripe."""

from __future__ import annotations

import ast
import importlib
import re
from pathlib import Path

import pytest

from tests.processors.published_codes import GROUPS
from tests.support.imports import PACKAGE, imported_modules
from tests.support.pages import ROOT


def readers_of_cookies(source: Path) -> list[str]:
    """Return each module that reads a cookie through the framework or Python's own parser.

    Only `web/cookies.py` may read cookies.
    """
    found = []
    for path in sorted((source / PACKAGE / "web").rglob("*.py")):
        imported = {name for _, name in imported_modules(path, source)}
        nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
        reads = any(isinstance(node, ast.Attribute) and node.attr == "cookies" for node in nodes)
        if reads or any(
            name.startswith("http.cookies") or name.endswith(("cookie_parser", ".Cookie")) for name in imported
        ):
            found.append(str(path.relative_to(source / PACKAGE)))
    return found


def test_cookies_are_read_in_one_module_alone() -> None:
    assert readers_of_cookies(ROOT / "src") == []


@pytest.mark.parametrize("line", ["request.cookies.get(name)", "import http.cookies", "from fastapi import Cookie"])
def test_another_reader_of_cookies_is_found(tmp_path: Path, line: str) -> None:
    page = tmp_path / PACKAGE / "web" / "page.py"
    page.parent.mkdir(parents=True)
    page.write_text(line, encoding="utf-8")
    assert readers_of_cookies(tmp_path) == ["web/page.py"]


# Functions that say if anything is sent to a processor now, and the two modules that may call them.
SWITCH_STATE = {"paused_processors", "listed_before", "status_of_processors"}
SWITCH_READERS = {"engine/refunds/send_gate.py", "engine/processor_sync/status.py"}


def other_switch_readers(source: Path) -> list[str]:
    """Return each module that reads a processor's switch from the store itself.

    Only the send gate and the one view of the switch may do so.
    """
    found = []
    for path in sorted((source / PACKAGE).rglob("*.py")):
        place = path.relative_to(source / PACKAGE).as_posix()
        if place.startswith("store/") or place in SWITCH_READERS:
            continue
        nodes = [*ast.walk(ast.parse(path.read_text("utf-8")))]
        names = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
        names |= {alias.name for node in nodes if isinstance(node, ast.ImportFrom) for alias in node.names}
        found += [f"{place}: {name}" for name in sorted(names & SWITCH_STATE)]
    return found


def test_switch_of_a_processor_is_read_in_two_modules_alone() -> None:
    assert other_switch_readers(ROOT / "src") == []


@pytest.mark.parametrize(
    "line",
    ["from refund_worker.store.processors import paused_processors", "processors.paused_processors(connection, now)"],
)
def test_other_reader_of_the_switch_is_found(tmp_path: Path, line: str) -> None:
    page = tmp_path / PACKAGE / "web" / "page.py"
    page.parent.mkdir(parents=True)
    page.write_text(line, encoding="utf-8")
    assert other_switch_readers(tmp_path) == ["web/page.py: paused_processors"]


# Functions that move money or credits, or allow it. Over HTTP each goes through one module, which checks permissions.
ACTS = {
    "engine.refunds.actions.perform_action",
    "engine.payouts.actions.perform_payout_action",
    "engine.payouts.accept.request_payouts",
    "engine.processor_sync.pause.pause_processor",
    "engine.processor_sync.pause.resume_processor",
    "engine.accounts.corrections.correct",
    "engine.accounts.corrections.reverse_transaction",
    "engine.refunds.accept.request_refunds",
    "engine.intake.batches.accept_batch",
    "engine.refunds.bulk_retry.retry_all",
    "engine.audit.hash_chain.verify",
}
AUTHORISED = "web/authorised.py"


def unauthorised(source: Path) -> list[str]:
    """Return each module of the web that reaches an act of the engine without the check.

    It may reach it by the act's name, or by the module's.
    """
    found = []
    for path in sorted((source / PACKAGE / "web").rglob("*.py")):
        place = str(path.relative_to(source / PACKAGE))
        if place == AUTHORISED:
            continue
        imported = {module.removeprefix(f"{PACKAGE}.") for _, module in imported_modules(path, source)}
        used = {
            f"{node.value.id}.{node.attr}"
            for node in ast.walk(ast.parse(path.read_text("utf-8")))
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
        }
        for act in sorted(ACTS):
            module, _, name = act.rpartition(".")
            if act in imported or (module in imported and f"{module.rpartition('.')[2]}.{name}" in used):
                found.append(f"{place}: {act}")
    return found


def test_every_act_over_http_goes_through_the_permission_check() -> None:
    assert unauthorised(ROOT / "src") == []


@pytest.mark.parametrize(
    "line",
    [
        "from refund_worker.engine.accounts.corrections import reverse_transaction",
        "from refund_worker.engine.accounts import corrections\ncorrections.reverse_transaction",
    ],
)
def test_act_that_bypasses_the_check_is_found(tmp_path: Path, line: str) -> None:
    page = tmp_path / PACKAGE / "web" / "console" / "page.py"
    page.parent.mkdir(parents=True)
    page.write_text(line, encoding="utf-8")
    assert unauthorised(tmp_path) == ["web/console/page.py: engine.accounts.corrections.reverse_transaction"]


def test_each_listed_act_exists() -> None:
    for act in ACTS:
        module, _, name = act.rpartition(".")
        assert hasattr(importlib.import_module(f"{PACKAGE}.{module}"), name), act


# A new processor is one folder under processors/: nothing else depends on Stripe.
STRIPE = re.compile(r"stripe|(?<![A-Za-z0-9_])(?:ch|pi|py|pyr|re)_(?=[A-Za-z0-9{…])", re.IGNORECASE)
MAY_NAME_STRIPE = {
    "processors/stripe/": "its folder",
    "processors/sandbox/": "a server that imitates it",
    "processors/accounts.py": "its short form",
    "processors_file.py": "an example of an account",
    "domain/account_names.py": "an example of an account",
    "domain/payouts/destination.py": "a kind of destination in the contract",
    "engine/intake/schemas.py": "an example of an account",
    "web/openapi_texts.py": "an example of an account",
    "web/api/reconciliations.py": "the example in the description of the API",
    "extras.py": "its packages",
    "settings.py": "its settings",
    "setting_values.py": "its settings",
    "domain/money.py": "amounts in the books are in its minor units",
    "engine/views/runbook_conditions.py": "its settings",
    "web/api/payments.py": "the example in the description of the API",
    "cli/admin.py": "examples of commands",
    "cli/account_import.py": "the command that imports its account",
    "cli/demo/": "the sandbox",
    "cli/dev.py": "the sandbox",
    "cli/dev_payees.py": "the sandbox",
    "cli/dev_sandbox.py": "the sandbox",
    "cli/run.py": "the sandbox",
    "cli/stack.py": "the sandbox",
    "testing.py": "the sandbox",
}
# Codes that Stripe uses too, but which are our own: the refunds that they end or block are stored with them.
OUR_CODES = {"charge_already_refunded", "charge_disputed", "resource_missing"}


def names_of_stripe(source: Path) -> dict[str, str]:
    """Return each file below `source`/refund_worker that names Stripe or its ids, with the first such line."""
    found = {}
    for path in sorted((source / PACKAGE).rglob("*")):
        if path.suffix in (".py", ".html", ".js", ".css"):
            lines = enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
            first = next((f"{number}: {line.strip()}" for number, line in lines if STRIPE.search(line)), None)
            if first is not None:
                found[path.relative_to(source / PACKAGE).as_posix()] = first
    return found


def test_only_the_listed_files_name_stripe() -> None:
    found = names_of_stripe(ROOT / "src")
    allowed = tuple(MAY_NAME_STRIPE)
    assert {file: line for file, line in found.items() if not file.startswith(allowed)} == {}
    assert [place for place in MAY_NAME_STRIPE if not any(file.startswith(place) for file in found)] == []


@pytest.mark.parametrize("line", ['processor == "stripe"', "# as Stripe does", 'payment.startswith("ch_x")', '"re_1"'])
def test_a_file_that_names_stripe_is_found(tmp_path: Path, line: str) -> None:
    path = tmp_path / PACKAGE / "engine" / "page.py"
    path.parent.mkdir(parents=True)
    path.write_text(line, encoding="utf-8")
    assert names_of_stripe(tmp_path) == {"engine/page.py": f"1: {line}"}


def test_domain_names_no_code_of_stripe() -> None:
    codes = {code for group in GROUPS.values() for code in group}
    codes |= {"charge_for_pending_refund_disputed", "amount_exceeds_unrefunded"}
    for path in sorted((ROOT / "src" / PACKAGE / "domain").rglob("*.py")):
        strings = {n.value for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Constant)}
        assert strings & codes - OUR_CODES == set(), path

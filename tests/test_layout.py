"""The direction of imports, and the names that may lie at the top of the project.

web, worker, cli → engine → {store, processors} → domain; settings, errors, redaction are leaves; runtime.py wires.
"""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import refund_worker
from tests.processors.published_codes import GROUPS

ROOT = Path(__file__).parent.parent
PACKAGE = "refund_worker"

LEAVES = {"api_schema", "batching", "dangers", "errors", "extras", "settings", "redaction", "strict_json", "times"}
BELOW_ENGINE = {"store", "processors", "domain"} | LEAVES
BELOW_DOORS = {"engine", "runtime"} | BELOW_ENGINE

# The parts of the package that each part may import, besides itself. A new part needs a line here first.
MAY_IMPORT = {
    "": {"engine", "domain", "errors"},  # the package's own __init__: what a backend imports
    "errors": set[str](),
    "__main__": {"cli", "extras"},
    "settings": {"dangers", "errors", "redaction"},
    "batching": set[str](),
    "dangers": set[str](),
    "api_schema": set[str](),
    "extras": {"errors"},
    "redaction": set[str](),
    "strict_json": set[str](),
    "times": set[str](),
    "request_signing": set[str](),
    "client": {"extras"},  # the names of the distribution in client/, for a backend that only speaks HTTP to us
    "domain": {"errors"},
    "store": {"domain"} | LEAVES,
    "processors": {"domain"} | LEAVES,
    "processors.sandbox": set[str](),
    "engine": BELOW_ENGINE,
    "runtime": {"engine"} | BELOW_ENGINE,
    "web": {"request_signing"} | BELOW_DOORS,
    "worker": BELOW_DOORS,
    "testing": {"web", "processors.sandbox"} | BELOW_DOORS,  # for users' own test suites
    "cli": {"web", "worker", "processors.sandbox"} | BELOW_DOORS,
}
# The same within the engine: each folder may import `context`, `idempotency` and the folders named here.
ENGINE_MAY_IMPORT = {
    "context": set[str](),
    "idempotency": set[str](),
    "access": set[str](),
    "accounts": set[str](),
    "views": set[str](),
    "audit": {"views"},
    "notifications": {"views"},
    "refunds": {"access", "audit", "notifications", "views"},
    "processor_sync": {"refunds", "views"},
    "intake": {"accounts", "refunds", "views"},
    "jobs": {"access"},
}
# Only cli and testing, which start it, know the sandbox. To the rest it is one more server that speaks Stripe.
PARTS_WITHIN_PARTS = ("processors.sandbox",)
# Other parts call functions of the store, so that the queries stay in one layer.
TABLES = "store.tables"
STRIPE_IS_IMPORTED_ONLY_BY = "processors/stripe/adapter.py"

TOP_LEVEL = {"pyproject.toml", "src", "client", "tests", "docs", "docker-compose.yml", "Procfile"} | {
    "README.md",
    "Makefile",
    "LICENSE",
    "CHANGELOG.md",
    "SECURITY.md",
    "mkdocs.yml",
}


def part_of(module: str) -> str:
    """Return the part that a dotted module name belongs to, without the package's name: `store.tables` → `store`."""
    for inner in PARTS_WITHIN_PARTS:
        if module == inner or module.startswith(f"{inner}."):
            return inner
    return module.split(".")[0]


def imported_modules(path: Path, source: Path) -> Iterator[tuple[int, str]]:
    """Yield (line, absolute dotted name) of everything that `path` imports, anywhere in the file."""
    relative = path.relative_to(source).with_suffix("")
    package = relative.parts[:-1]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = list(package[: len(package) - node.level + 1]) if node.level else []
            base += node.module.split(".") if node.module else []
            # `from refund_worker import store` names a part only by its alias.
            yield from ((node.lineno, ".".join([*base, alias.name])) for alias in node.names)


def violations(source: Path) -> list[str]:
    """Return one line for each import below `source`/refund_worker that goes the wrong way."""
    found = []
    for path in sorted((source / PACKAGE).rglob("*.py")):
        inside = path.relative_to(source / PACKAGE)
        module = ".".join(inside.with_suffix("").parts).removesuffix("__init__").removesuffix(".")
        for line, name in imported_modules(path, source):
            reason = why_not(module, inside.as_posix(), name)
            if reason:
                found.append(f"{inside.as_posix()}:{line}: {reason}")
    return found


def why_not(module: str, file: str, name: str) -> str | None:
    """Return why the module may not import `name`, or None if it may."""
    part = part_of(module)
    if part not in MAY_IMPORT:
        return f"{part} has no place in the layout yet: give it a line in MAY_IMPORT"
    top, _, rest = name.partition(".")
    if top == PACKAGE:
        target = part_of(rest)
        if part == target == "engine":
            return why_not_within_engine(module.split(".")[1], rest.split(".")[1])
        known = target in MAY_IMPORT and target != ""
        if known and target != part and target not in MAY_IMPORT[part]:
            return f"{part or 'the package itself'} must not import {target}"
        if part != "store" and (rest == TABLES or rest.startswith(f"{TABLES}.")):
            return f"only store imports {TABLES}: make the query a function of store/"
        return None
    if top == "stripe" and file != STRIPE_IS_IMPORTED_ONLY_BY:
        return f"only {STRIPE_IS_IMPORTED_ONLY_BY} imports stripe"
    if part == "domain" and top not in sys.stdlib_module_names:
        return f"domain imports only the standard library, not {top}"
    return None


def why_not_within_engine(folder: str, target: str) -> str | None:
    """Return why one folder of the engine may not import another, or None if it may."""
    if folder not in ENGINE_MAY_IMPORT:
        return f"engine/{folder} has no place in the layout yet: give it a line in ENGINE_MAY_IMPORT"
    if target in {folder, "context", "idempotency"} | ENGINE_MAY_IMPORT[folder]:
        return None
    return f"engine/{folder} must not import engine/{target}"


def stray_names(tracked: list[str]) -> set[str]:
    """Return the top-level names among tracked paths that do not belong there."""
    names = {path.split("/")[0] for path in tracked}
    return {name for name in names - TOP_LEVEL if not name.startswith(".") and not name.endswith(".lock")}


def test_every_import_goes_down() -> None:
    assert violations(ROOT / "src") == []


def test_each_logger_is_below_the_programs_own() -> None:
    """Another logger reaches none of the handlers: its messages are lost."""
    named = re.compile(r"getLogger\(f?\"([^\"]*)")
    for file in sorted(Path(refund_worker.__file__).parent.rglob("*.py")):
        for name in named.findall(file.read_text("utf-8")):
            assert name == "stripe" or name == PACKAGE or name.startswith(f"{PACKAGE}."), f"{file}: {name}"


def test_only_the_agreed_names_lie_at_the_top() -> None:
    # A checkout of another user's is not "unsafe" for listing names.
    command = ["git", "-c", f"safe.directory={ROOT}", "ls-files"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert stray_names(listed.stdout.splitlines()) == set()


def test_a_stray_file_at_the_top_is_named() -> None:
    assert stray_names(["src/x.py", ".ci/run", "requirements.lock", "notes.txt", "scripts/a.sh"]) == {
        "notes.txt",
        "scripts",
    }


WRONG = [
    ("domain/money.py", "import sqlalchemy", "domain imports only the standard library, not sqlalchemy"),
    ("domain/money.py", "from refund_worker.settings import Settings", "domain must not import settings"),
    ("errors.py", "from refund_worker import domain", "errors must not import domain"),
    ("settings.py", "from .domain.money import split", "settings must not import domain"),
    ("store/refunds.py", "from refund_worker.processors.base import Reply", "store must not import processors"),
    ("processors/stripe/adapter.py", "from ...store import tables", "processors must not import store"),
    (
        "engine/refunds/process.py",
        "def run():\n    from refund_worker.runtime import Runtime",
        "engine must not import runtime",
    ),
    ("engine/refunds/process.py", "import refund_worker.worker.tasks", "engine must not import worker"),
    ("engine/refunds/process.py", "import stripe", "only processors/stripe/adapter.py imports stripe"),
    ("processors/sandbox/server.py", "from stripe import Refund", "only processors/stripe/adapter.py imports stripe"),
    ("processors/sandbox/server.py", "from ..base import Reply", "processors.sandbox must not import processors"),
    ("processors/sandbox/server.py", "from refund_worker import errors", "processors.sandbox must not import errors"),
    ("runtime.py", "from refund_worker.processors.sandbox import app", "runtime must not import processors.sandbox"),
    ("runtime.py", "from refund_worker.web import app", "runtime must not import web"),
    ("web/app.py", "from refund_worker.cli.app import main", "web must not import cli"),
    ("worker/tasks.py", "from refund_worker.web import app", "worker must not import web"),
    (
        "engine/views/csv_rows.py",
        "from refund_worker.engine.refunds.apply import apply",
        "engine/views must not import engine/refunds",
    ),
    (
        "engine/refunds/process.py",
        "from refund_worker.engine import intake",
        "engine/refunds must not import engine/intake",
    ),
    (
        "engine/helpers/text.py",
        "from refund_worker.engine import context",
        "engine/helpers has no place in the layout yet",
    ),
    ("engine/jobs/due.py", "from refund_worker.store.tables import refunds", "only store imports store.tables"),
    ("web/api/refunds.py", "from refund_worker.store import tables", "only store imports store.tables"),
    ("helpers/text.py", "import os", "helpers has no place in the layout yet"),
    ("__init__.py", "from .store import tables", "the package itself must not import store"),
]


@pytest.mark.parametrize(("file", "code", "message"), WRONG)
def test_wrong_import_is_named_with_its_line(tmp_path: Path, file: str, code: str, message: str) -> None:
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(code, encoding="utf-8")
    line = 1 + code.count("\n")
    (found,) = violations(tmp_path)
    assert found.startswith(f"{file}:{line}: {message}")


RIGHT = [
    ("domain/refund.py", "import dataclasses\nfrom .money import split\nfrom refund_worker.errors import Refusal"),
    ("processors/stripe/adapter.py", "import stripe\nfrom refund_worker.processors.base import Reply"),
    ("processors/sandbox/server.py", "import json\nfrom . import book\nfrom .faults import Fault"),
    ("runtime.py", "import sqlalchemy\nfrom refund_worker import engine, store, processors"),
    ("cli/app.py", "from refund_worker.web.app import build\nfrom refund_worker.runtime import Runtime"),
    (
        "worker/tasks.py",
        "from refund_worker import __version__\nfrom refund_worker.engine.refunds.process import advance",
    ),
]


@pytest.mark.parametrize(("file", "code"), RIGHT)
def test_imports_that_go_down_are_not_complained_about(tmp_path: Path, file: str, code: str) -> None:
    path = tmp_path / PACKAGE / file
    path.parent.mkdir(parents=True)
    path.write_text(code, encoding="utf-8")
    assert violations(tmp_path) == []


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


# A new processor is one folder under processors/ and one line in the registry: nothing else depends on Stripe.
STRIPE = re.compile(r"stripe|(?<![A-Za-z0-9_])(?:ch|pi|py|pyr|re)_(?=[A-Za-z0-9{…])", re.IGNORECASE)
MAY_NAME_STRIPE = {
    "processors/stripe/": "its folder",
    "processors/sandbox/": "a server that imitates it",
    "processors/registry.py": "its line in the registry",
    "extras.py": "its packages",
    "settings.py": "its settings",
    "dangers.py": "its settings",
    "domain/money.py": "amounts in the books are in its minor units",
    "web/api/payments.py": "the example in the description of the API",
    "cli/admin.py": "examples of commands",
    "cli/doctor.py": "its settings",
    "cli/demo/": "the sandbox",
    "cli/dev.py": "the sandbox",
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

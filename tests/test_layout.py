"""The direction of imports, and the names that may lie at the top of the project.

web, worker, cli → engine → {store, processors} → domain; settings, errors, redaction are leaves; runtime.py wires.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

import refund_worker
from tests.support.imports import PACKAGE, imported_modules
from tests.support.pages import ROOT

LEAVES = {
    "alarms",
    "api_schema",
    "background",
    "batching",
    "condition_log",
    "dangers",
    "errors",
    "extras",
    "fernet",
    "iso_codes",
    "logs",
    "metrics",
    "processors_file",
    "tracing",
    "setting_values",
    "settings",
    "redaction",
    "sealing",
    "strict_json",
    "stop_signals",
    "times",
}
LINES_MAX = 50
BELOW_ENGINE = {"store", "processors", "domain"} | LEAVES
# Only cli and testing, which start them, know the sandboxes. To the rest they are more servers of a processor.
PARTS_WITHIN_PARTS = ("processors.sandbox", "processors.paypal.sandbox", "processors.local_server")
BELOW_DOORS = {"engine", "runtime"} | BELOW_ENGINE

# The parts of the package that each part may import, besides itself. A new part needs a line here first.
MAY_IMPORT = {
    "": {"engine", "domain", "errors"},  # the package's own __init__: what a backend imports
    "errors": set[str](),
    "alarms": {"metrics"},
    "__main__": {"cli", "extras"},
    "settings": {"dangers", "errors", "processors_file", "redaction", "setting_values"},
    "processors_file": set[str](),
    "setting_values": {"iso_codes"},
    "iso_codes": set[str](),
    "background": set[str](),
    "batching": set[str](),
    "condition_log": {"alarms"},
    "dangers": set[str](),
    "api_schema": set[str](),
    "extras": {"errors"},
    "redaction": set[str](),
    "logs": {"redaction"},
    "metrics": set[str](),
    "tracing": {"extras", "otel"},
    "otel": {"extras", "logs", "tracing"},
    "strict_json": set[str](),
    "stop_signals": set[str](),
    "times": set[str](),
    "request_signing": set[str](),
    "sealing": {"fernet"},
    "fernet": {"extras"},
    "client": {"extras"},  # the names of the distribution in client/, for a backend that only speaks HTTP to us
    "domain": {"errors"},
    "store": {"domain"} | LEAVES,
    "processors": {"domain"} | LEAVES,
    "processors.local_server": set[str](),
    "processors.sandbox": {"processors.local_server"},
    "processors.paypal.sandbox": {"processors.local_server"},
    "engine": BELOW_ENGINE,
    "runtime": {"engine"} | BELOW_ENGINE,
    "web": {"request_signing"} | BELOW_DOORS,
    "worker": BELOW_DOORS,
    "testing": {"web", "processors.sandbox"} | BELOW_DOORS,  # for users' own test suites
    "cli": {"web", "worker", *PARTS_WITHIN_PARTS} | BELOW_DOORS,
}
# The same within the engine: each folder may import `context`, `idempotency` and the folders named here.
ENGINE_MAY_IMPORT = {
    "context": set[str](),
    "idempotency": set[str](),
    "access": set[str](),
    "accounts": {"notifications", "payees"},
    "views": set[str](),
    "audit": {"views"},
    "notifications": {"views"},
    "refunds": {"access", "accounts", "audit", "notifications", "payees", "views"},
    "claims": {"accounts", "notifications", "payees", "refunds", "views"},
    "processor_sync": {"accounts", "claims", "payouts", "refunds", "sums", "views"},
    "intake": {"accounts", "payees", "payouts", "refunds", "views"},
    "jobs": {"access", "payouts", "refunds"},
    "payees": {"access", "notifications", "views"},
    "payouts": {"access", "accounts", "audit", "notifications", "payees", "refunds", "views"},
    "sums": set[str](),
}
# Other parts call functions of the store, so that the queries stay in one layer.
TABLES = "store.tables"
STRIPE_IS_IMPORTED_ONLY_BY = "processors/stripe/adapter.py"

TOP_LEVEL = {"pyproject.toml", "src", "client", "tests", "docs", "deploy", "docker-compose.yml", "Procfile"} | {
    "examples",
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


def test_logger_is_named_after_its_module() -> None:
    """A name of its own goes out of date, and one that is not below the program's reaches none of its handlers."""
    others = {
        '"refund_worker.web.access"',  # its lines are the access log, which is filtered by this name
        '"refund_worker.worker.celery_app.child_process"',  # the module runs as `__main__`
        '"stripe"',
        "OURS",  # all of them together, whose level `set_up_logging` sets
        "",
    }
    sources = [file.read_text("utf-8") for file in Path(refund_worker.__file__).parent.rglob("*.py")]
    named = {name for source in sources for name in re.findall(r"getLogger\(([^)]*)\)", source)}
    assert named == others | {"__name__"}


def test_functions_fit_a_screen() -> None:
    """Migrations are exempt: each is one long list."""
    source = Path(refund_worker.__file__).parent
    files = [path for path in source.rglob("*.py") if "migrations" not in path.parts]
    functions = [
        (f"{path.relative_to(source)} {node.name}", (node.end_lineno or 0) - node.lineno + 1)
        for path in files
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    assert len(functions) > 1_000
    assert [name for name, lines in functions if lines > LINES_MAX] == []


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
    (
        "processors/paypal/sandbox/book.py",
        "from ..objects import STATUSES",
        "processors.paypal.sandbox must not import processors",
    ),
    ("processors/paypal/entry.py", "from .sandbox import book", "processors must not import processors.paypal.sandbox"),
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

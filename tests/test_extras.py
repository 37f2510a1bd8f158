"""The base install carries the Python API alone, each part needs its own extra, and a missing one is named."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib.metadata import packages_distributions, requires
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from refund_worker.extras import PACKAGES
from refund_worker.testing import RefundWorker

ROOT = Path(__file__).parent.parent
SOURCE, PACKAGE = ROOT / "src", "refund_worker"
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]

# The parts that are used only with their extra. The rest of the package belongs to whoever imports it.
PARTS = {
    "web": "web",
    "worker": "worker",
    "cli": "cli",
    "cli.demo": "all",
    "cli.dev": "all",
    "cli.dev_payees": "all",
    "cli.dev_paypal": "all",
    "cli.dev_sandbox": "all",
    "cli.stack": "all",
    "fernet": "payouts",
    "processors.stripe.adapter": "stripe",
    "processors.http.adapter": "worker",
    "processors.conformance.suite": "worker",
    "processors.sandbox": "sandbox",
    "processors.paypal.certificates": "paypal",
    "processors.bank_file.pain001": "bank",
    "processors.paypal.sandbox": "sandbox",
    "otel": "otel",
    "testing": "testing",
    "client": "client",
}
PYTHON_API = [f"{PACKAGE}{name}" for name in ("", ".engine.intake.python_api", ".domain.refund", ".errors")]
# Imported under a distribution that is declared, as a part of what that one offers.
COMES_WITH = {
    "kombu": "celery",
    "billiard": "celery",
    "starlette": "fastapi",
    "yarl": "aiohttp",
    "markupsafe": "jinja2",
}
# `refund_worker.testing` asks for the extra `web` before it takes the one, and does without the other.
# The commands read a bank's answers with the errors of `processors.wire`, and make no call over HTTP with it.
NOT_NEEDED = {"testing": {"uvicorn", "pytest"}, "cli": {"aiohttp"}}


# --- what is installed -----------------------------------------------------------------------------------------------


def direct(extra: str | None) -> list[Requirement]:
    """What the base install, or one extra, names; an extra that names others of ours is resolved."""
    found = []
    for line in PROJECT["dependencies"] if extra is None else EXTRAS[extra]:
        requirement = Requirement(line)
        if requirement.name == PROJECT["name"]:
            found += [each for name in sorted(requirement.extras) for each in direct(name)]
        elif requirement.marker is None or requirement.marker.evaluate():
            found.append(requirement)
    return found


@cache
def installed_with(extra: str | None) -> frozenset[str]:
    """The names of all distributions of the base install together with one extra."""
    found: set[str] = set()
    todo = direct(None) + (direct(extra) if extra else [])
    while todo:
        requirement = todo.pop()
        asked = [{"extra": name} for name in requirement.extras] or [{"extra": ""}]
        found.add(canonicalize_name(requirement.name))
        for line in requires(requirement.name) or []:
            needed = Requirement(line)
            fits = needed.marker is None or any(needed.marker.evaluate(each) for each in asked)
            if fits and canonicalize_name(needed.name) not in found:
                todo.append(needed)
    return frozenset(found)


def owners() -> dict[str, list[str]]:
    """Top-level module → the distributions that bring it, ours included, which are editable and so not listed."""
    return {**packages_distributions(), "refund_worker_client": ["refund-worker-client"]}


def modules_of(distributions: frozenset[str]) -> set[str]:
    """The top-level modules of these distributions."""
    return {top for top, names in owners().items() if {canonicalize_name(name) for name in names} & distributions}


BLOCK = """
import sys
class Blocker:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in BLOCKED:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Blocker())
"""


def run_with(extra: str | None, code: str) -> str:
    """What this code prints where nothing is installed but the base and one extra."""
    present = modules_of(installed_with(extra)) | {PACKAGE, "sitecustomize"}
    blocked = sorted(set(owners()) - present - set(sys.stdlib_module_names))
    command = [sys.executable, "-c", f"BLOCKED = frozenset({blocked!r})\n{BLOCK}\n{code}"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


REQUEST = """
import sqlalchemy
from refund_worker import Kind, RefundRequest, To, request_refund
request = RefundRequest(
    idempotency_key="k-1", kind=Kind.WITHDRAWAL, to=To.SOURCE, customer_id="ann", credits=5, reason="r", actor="shop"
)
with sqlalchemy.orm.Session(sqlalchemy.create_engine(URL)) as session, session.begin():
    print(request_refund(session, request).refund_id)
"""


def test_the_base_install_requests_a_refund(tmp_path: Path) -> None:
    assert not installed_with(None) & {"celery", "fastapi", "stripe", "typer", "redis", "uvicorn", "aiohttp", "alembic"}
    with RefundWorker(tmp_path) as worker:
        worker.add_payment("ann", amount_minor=1_000, credits=10)
        url = worker.settings.database_url.get_secret_value()
        refund_id = run_with(None, f"URL = {url!r}\nimport sqlalchemy.orm\n{REQUEST}").strip()
        assert worker.refund(refund_id)["status"] == "queued"


def test_a_part_without_its_extra_says_which_to_install() -> None:
    code = f"""
import importlib
for part in {sorted(PARTS)!r}:
    try:
        importlib.import_module(f"refund_worker.{{part}}")
        print("imported")
    except ImportError as error:
        print(error)
"""
    lines = run_with(None, code).splitlines()
    for part, told in zip(sorted(PARTS), lines, strict=True):
        extra = "cli" if part.startswith("cli.") else PARTS[part]
        assert told.endswith(f"refund-worker[{extra}]"), part


def test_the_command_without_its_extra_says_so_in_one_line() -> None:
    code = """
import contextlib, io, sys
from refund_worker.__main__ import main
said = io.StringIO()
sys.argv = ["refund-worker", "refunds", "list"]
with contextlib.redirect_stderr(said):
    try:
        main()
    except SystemExit as end:
        print(end.code, said.getvalue())
"""
    told = run_with(None, code).strip()
    assert re.fullmatch(r"2 error: .*: install the extra refund-worker\[cli\]", told)


def test_certificates_of_paypal_need_their_extra() -> None:
    code = """
from pydantic import ValidationError
from refund_worker.processors.paypal.entry import PayPalSettings
for way in ("postback", "certificate"):
    try:
        print(PayPalSettings(webhook_verification=way).webhook_verification)
    except ValidationError as error:
        print(error.errors()[0]["msg"])
"""
    without, with_it = (run_with(extra, code).splitlines() for extra in ("web", "paypal"))
    assert without[0] == "postback"
    assert without[1].endswith("cryptography not installed: install the extra refund-worker[paypal]")
    assert with_it == ["postback", "certificate"]


# --- what is imported ------------------------------------------------------------------------------------------------


class Import(NamedTuple):
    """One import of a module, at the top of its file or inside a function."""

    name: str
    inside: bool


def file_of(module: str) -> Path | None:
    place = SOURCE.joinpath(*module.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()), None)


def imports_of(module: str) -> Iterator[Import]:
    """What a module of ours imports, but for its types."""
    file = file_of(module)
    assert file is not None
    yield from _imports(ast.parse(file.read_text("utf-8")), inside=False)


def _imports(node: ast.AST, *, inside: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, inside) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, "relative imports are not followed here"
            names = [f"{child.module}.{alias.name}" for alias in child.names]
            yield from (Import(name if file_of(name) else str(child.module), inside) for name in names)
        elif not (isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING"):
            is_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
            yield from _imports(child, inside=inside or is_function)


def part_of(module: str) -> str | None:
    """The part that a module of ours is in, or None."""
    names = module.removeprefix(f"{PACKAGE}.").split(".")
    found = [".".join(names[:length]) for length in range(len(names), 0, -1)]
    return next((name for name in found if name in PARTS), None)


def imported_by(roots: list[str], part: str | None) -> dict[str, str]:
    """Top-level name of another's package → a module of ours that imports it, for all that these modules reach.

    An import inside a function that leads into another part is not followed: that part names its own extra.
    """
    found: dict[str, str] = {}
    todo, seen = list(roots), set[str]()
    while todo:
        module = todo.pop()
        if module in seen:
            continue
        seen.add(module)
        for name, inside in imports_of(module):
            top = name.partition(".")[0]
            if top != PACKAGE:
                if top not in sys.stdlib_module_names:
                    found.setdefault(top, module)
            elif file_of(name) is not None and not (inside and part_of(name) not in (None, part)):
                todo.append(name)
    return found


def modules_in(part: str) -> list[str]:
    files = (file.relative_to(SOURCE).with_suffix("") for file in sorted((SOURCE / PACKAGE).rglob("*.py")))
    modules = [".".join(file.parts).removesuffix(".__init__") for file in files]
    return [module for module in modules if part_of(module) == part]


def needs_of(part: str | None) -> dict[str, str]:
    """The packages of others that a part needs → a module of ours that imports each."""
    found = imported_by(modules_in(part) if part else PYTHON_API, part)
    ignored = NOT_NEEDED.get(part or "", set())
    return {COMES_WITH.get(top, top): module for top, module in found.items() if top not in ignored}


@pytest.mark.parametrize("part", [None, *sorted(PARTS)])
def test_what_a_part_imports_is_in_the_base_or_in_its_extra(part: str | None) -> None:
    extra = PARTS[part] if part else None
    named = [*direct(None), *(direct(extra) if extra else [])]
    covered = modules_of(frozenset(canonicalize_name(each.name) for each in named))
    assert {top: module for top, module in needs_of(part).items() if top not in covered} == {}


@pytest.mark.parametrize("extra", sorted(PACKAGES))
def test_packages_of_extra_are_those_its_parts_import(extra: str) -> None:
    base = modules_of(frozenset(canonicalize_name(each.name) for each in direct(None)))
    used = {top for part, by in PARTS.items() if by == extra for top in needs_of(part)}
    # Not imported by us: the protocol of uvicorn's that `web` builds on, and what `testing` wires by the settings.
    assert (
        set(PACKAGES[extra]) - {"httptools", "stripe"} <= used - base <= set(PACKAGES[extra]) | {"uvloop"}
    )  # which the sandbox can do without


@pytest.mark.slow
@pytest.mark.parametrize("extra", sorted(set(PARTS.values()) - {"all"}))
def test_every_module_of_a_part_is_imported_with_its_extra_alone(extra: str) -> None:
    names = [module for part, by in PARTS.items() if by == extra for module in modules_in(part)]
    names = [name for name in names if not name.endswith("__main__")]
    code = f"import importlib\nfor name in {names!r}:\n    importlib.import_module(name)\nprint('imported')"
    assert run_with(extra, code).split() == ["imported"]


def test_all_is_every_part_of_the_service() -> None:
    assert {json.dumps(each.name) for each in direct("all")} == {
        json.dumps(each.name) for name in EXTRAS.keys() - {"all", "client", "otel"} for each in direct(name)
    }

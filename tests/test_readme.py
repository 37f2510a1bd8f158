"""Check that the README and the pages in docs/ are true: diagrams, settings, HTTP calls, error codes, files, links.

`python -m tests.test_readme` writes the diagrams of docs/architecture.md and the error codes of docs/api.md again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from refund_worker import errors
from refund_worker.domain import diagram
from refund_worker.domain.ledger import SHOWN_TO_CUSTOMERS
from refund_worker.engine.access.api_keys import Role
from refund_worker.engine.intake import file_reader
from refund_worker.settings import SECRETS, Settings
from refund_worker.web import cookies, problems
from refund_worker.web.auth import ROLES
from refund_worker.web.error_codes import ERROR_TEXTS
from tests.support.pages import CELL_LETTERS_MAX, DOCS, PAGES, ROOT, sections_of, tables_of

README = ROOT / "README.md"
ARCHITECTURE, CONFIGURATION, API = (DOCS / name for name in ("architecture.md", "configuration.md", "api.md"))
README_LINES_MAX = 150
HAPPY_PATH_FILES_MAX, HAPPY_PATH_FOLDERS_MAX = 10, 5
DECISION = re.compile(r"- What: .+\n- Why: .+\n- Cost: .+\n\s*")
# Errors that no HTTP call answers: of the start, of a file, of the Python API.
NOT_OVER_HTTP = {"bad_settings", "unreadable_file", "unsafe_savepoint"}

DIAGRAMS = {
    "refund diagram": diagram.refund_diagram(),
    "leg diagram": diagram.leg_diagram(),
    "payout diagram": diagram.payout_diagram(),
}


def block(made: str) -> str:
    return f"```mermaid\n{made}\n```\n"


def between(name: str, page: Path = ARCHITECTURE) -> str:
    found = re.search(rf"<!-- {name} -->\n(.*?)<!-- /{name} -->", page.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found.group(1)


def prose_of(page: Path) -> str:
    """Return the page without its code blocks."""
    return re.sub(r"^```.*?^```$", "", page.read_text("utf-8"), flags=re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("name", DIAGRAMS)
def test_the_diagrams_are_the_tables(name: str) -> None:
    assert between(name) == block(DIAGRAMS[name])


def test_every_setting_is_in_the_table_and_no_other() -> None:
    text = CONFIGURATION.read_text("utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    named = [name for row in rows for name in re.findall(r"`([A-Z_]+)`", row.split("|")[1])]
    assert sorted(named) == sorted(name.upper() for name in Settings.model_fields)
    secrets = re.search(r"The secrets are (.*?)\.\n", text, re.DOTALL)
    assert secrets is not None
    assert set(re.findall(r"`([A-Z_]+)`", secrets[1])) == {name.upper() for name in SECRETS}


def test_every_http_call_is_in_the_table_and_no_other() -> None:
    calls = re.findall(r"^\| `([A-Z]+) (/\S+)` \|", API.read_text("utf-8"), re.MULTILINE)
    assert sorted(calls) == sorted([*ROLES, ("POST", "/webhooks/stripe")])


def error_table() -> str:
    """Return the table of all error codes as the page has it."""
    rows = [
        f"| `{code}` | {', '.join(map(str, text.statuses))} | {'yes' if text.retryable else 'no'} "
        f"| {text.meaning} | {text.advice} |"
        for code, text in ERROR_TEXTS.items()
    ]
    head = ["| code | HTTP status | repeat | meaning | what to do |", "|---|---|---|---|---|"]
    return "\n".join([*head, *rows]) + "\n"


def test_the_table_of_error_codes_is_that_of_the_program() -> None:
    assert between("error codes", API) == error_table()


def test_every_kind_of_a_customers_entry_is_named() -> None:
    sentence = re.search(r"Its\skind is (.*?)\. ", API.read_text("utf-8"), re.DOTALL)
    assert sentence is not None
    assert set(re.findall(r"`([a-z_]+)`", sentence[1])) == {str(kind) for kind in SHOWN_TO_CUSTOMERS}


def test_every_error_code_is_explained_with_its_http_status() -> None:
    classes = {
        each for module in (errors, problems, cookies) for each in vars(module).values() if isinstance(each, type)
    }
    known = {
        (c.code, c.status, c.retryable)
        for c in classes
        if issubclass(c, errors.RefundWorkerError) and "code" in vars(c) and c.code not in NOT_OVER_HTTP
    }
    known |= {(code, status, False) for status, code in problems.CODES.items()}
    server = (ROOT / "src" / "refund_worker" / "web" / "http_protocol.py").read_text("utf-8")
    known |= {(code, int(status), False) for status, code in re.findall(r'\((4\d\d), "([a-z_]+)"', server)}
    assert ("too_slow", 408, False) in known
    explained = {(code, status, text.retryable) for code, text in ERROR_TEXTS.items() for status in text.statuses}
    assert known == explained


def test_the_columns_of_each_file_are_those_that_are_read() -> None:
    (table,) = tables_of(sections_of(prose_of(API), 2)["Files"])
    assert [row[1].strip("`").split(",") for row in table] == [
        list(columns)
        for columns in (
            file_reader.PAYMENT_COLUMNS,
            file_reader.PAYMENT_COLUMNS_OPTIONAL,
            file_reader.SPEND_COLUMNS,
            file_reader.EARNING_COLUMNS,
            file_reader.EARNING_COLUMNS_OPTIONAL,
            file_reader.PAYOUT_COLUMNS,
            file_reader.PAYOUT_COLUMNS_OPTIONAL,
            file_reader.REFUND_COLUMNS,
            file_reader.REFUND_COLUMNS_OPTIONAL,
        )
    ]


def test_the_way_of_a_refund_names_few_files_and_all_exist() -> None:
    (table,) = tables_of(sections_of(prose_of(ARCHITECTURE), 3)["The files on this way"])
    files = [Path(row[0].strip("`")) for row in table]
    assert 0 < len(files) <= HAPPY_PATH_FILES_MAX
    assert len({file.parent for file in files}) <= HAPPY_PATH_FOLDERS_MAX
    assert [str(file) for file in files if not (ROOT / "src" / "refund_worker" / file).is_file()] == []


def test_each_role_of_a_key_is_described_once() -> None:
    (table,) = tables_of(sections_of(prose_of(API), 3)["Roles of API keys"])
    assert [row[0].strip("`") for row in table] == list(Role)


def test_each_decision_has_three_lines() -> None:
    decisions = sections_of((DOCS / "decisions.md").read_text("utf-8"), 3)
    assert decisions
    assert [title for title, text in decisions.items() if DECISION.fullmatch(text) is None] == []


def test_the_readme_is_short() -> None:
    assert len(README.read_text("utf-8").splitlines()) <= README_LINES_MAX


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_no_table_cell_is_long(page: Path) -> None:
    cells = [cell for table in tables_of(prose_of(page)) for row in table for cell in row]
    # A picture or a link counts by its text, which is what is read.
    shown = [re.sub(r"!?\[([^]]*)\]\([^)]*\)", r"\1", cell) for cell in cells]
    assert [cell for cell in shown if len(cell) > CELL_LETTERS_MAX] == []


def anchor_of(heading: str) -> str:
    """Return the anchor that repository hosts and MkDocs give to a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def links_of(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose_of(page)):
        if not target.startswith(("http://", "https://")):
            yield target


@pytest.mark.parametrize("page", [*PAGES, ROOT / "SECURITY.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_every_link_leads_to_a_file_and_a_heading_that_exist(page: Path) -> None:
    for target in links_of(page):
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.is_file(), target
        if anchor:
            headings = re.findall(r"^#+ (.+)$", prose_of(file), re.MULTILINE)
            assert anchor in map(anchor_of, headings), target


def test_every_page_is_in_the_navigation() -> None:
    named = re.findall(r"^ +- .*?: (\S+\.md)$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(named) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def write() -> None:
    """Write the diagrams and the error codes into their pages."""
    text = ARCHITECTURE.read_text("utf-8")
    for name, made in DIAGRAMS.items():
        text = text.replace(between(name), block(made))
    ARCHITECTURE.write_text(text, "utf-8")
    mark = "<!-- error codes -->\n"
    API.write_text(API.read_text("utf-8").replace(mark + between("error codes", API), mark + error_table()), "utf-8")


if __name__ == "__main__":
    write()

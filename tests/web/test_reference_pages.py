"""The reference for people has every call, object and error, and nothing that runs or comes from elsewhere."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import subprocess
import sys
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from shutil import copytree, ignore_patterns
from urllib.parse import urljoin, urlsplit

import httpx
import pytest
from tests.support.migrated import migrate
from tests.web.client import PAYMENT, Web, settings_for

import refund_worker
from refund_worker.engine.refunds.bulk_retry import SetChanged
from refund_worker.errors import BadSettings, RefundWorkerError, UnreadableFile, problem_of_error
from refund_worker.web.error_codes import COMMAND_TEXTS, ERROR_TEXTS
from refund_worker.web.reference import prose

PAGES = ("/docs", "/docs/errors")


class Seen(HTMLParser):
    """The tags, ids, links, texts and styles of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.ids: list[str] = []
        self.links: list[str] = []
        self.attributes: set[str] = set()
        self.style, self._in_style = "", False
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self._in_style = tag == "style"
        for name, value in attrs:
            self.attributes.add(name)
            if name == "id":
                self.ids.append(str(value))
            if name in ("href", "src"):
                self.links.append(str(value))

    def handle_endtag(self, tag: str) -> None:
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._in_style:
            self.style += data
        else:
            self.text += data


@pytest.mark.parametrize("path", PAGES)
def test_page_is_open_and_runs_and_loads_nothing(web: Web, path: str) -> None:
    answer = web.call("GET", path, key=None)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    seen = Seen(answer.text)
    assert seen.tags & {"script", "iframe", "img", "link", "object", "form"} == set()
    assert [name for name in seen.attributes if name.startswith("on") or name == "style"] == []
    digest = base64.b64encode(hashlib.sha256(seen.style.encode()).digest()).decode()
    policy = answer.headers["content-security-policy"]
    assert policy.startswith(f"default-src 'none'; style-src 'sha256-{digest}';")
    assert "url(" not in seen.style
    assert "@import" not in seen.style


@pytest.mark.parametrize("path", PAGES)
def test_every_link_leads_to_something(web: Web, path: str) -> None:
    seen = {page: Seen(web.call("GET", page, key=None).text) for page in PAGES}
    assert len(set(seen[path].ids)) == len(seen[path].ids)
    for link in seen[path].links:
        target = urlsplit(urljoin(path, link))
        assert target.netloc == ""
        if target.fragment:
            assert target.fragment in seen[target.path].ids, link
        else:
            assert web.call("GET", target.path, key=None).status_code == 200


def test_the_reference_has_every_call_field_and_header(web: Web) -> None:
    seen = Seen(web.call("GET", "/docs", key=None).text)
    document = web.app.openapi()
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            assert operation["operationId"] in seen.ids
            assert f"{method.upper()} {path}" in seen.text
            assert operation["summary"] in seen.text
    for name, schema in document["components"]["schemas"].items():
        assert name in seen.ids
        for field in schema.get("properties", {}):
            assert field in seen.text
    words = " ".join(seen.text.split())
    assert "limit query integer from 1 to 500" in words
    assert "Idempotency-Key required header string of at most 255 characters" in words
    assert "legs required list of Leg" in words
    assert "currency string or null" in words
    assert "200 OK: PayeeStatement or text/csv" in words


def without_key(web: Web) -> httpx.Response:
    return web.call("GET", "/v1/refunds", key=None)


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("unauthenticated", without_key),
        ("not_found", lambda web: web.call("GET", "/v1/refunds/rf_1")),
        ("method_not_allowed", lambda web: web.call("PUT", "/v1/refunds")),
        ("invalid_request", lambda web: web.call("GET", "/v1/refunds?limit=0")),
        ("already_recorded", lambda web: web.call("POST", "/v1/payments", PAYMENT | {"credits": 1})),
        ("unknown_customer", lambda web: web.refund("k-1", customer_id="somebody")),
    ],
)
def test_the_type_of_a_problem_leads_to_its_explanation(
    web: Web, code: str, call: Callable[[Web], httpx.Response]
) -> None:
    answer = call(web)
    assert answer.json()["code"] == code
    target = urlsplit(urljoin("/v1/refunds", answer.json()["type"]))
    page = web.call("GET", target.path, key=None)
    row = re.search(rf'<tr id="{target.fragment}">(.*?)</tr>', page.text, re.DOTALL)
    assert row is not None
    assert target.fragment == code
    assert str(answer.status_code) in row[1]
    assert ERROR_TEXTS[code].meaning.split("`")[0] in row[1]


def test_pages_need_no_database(tmp_path: object) -> None:
    with Web(settings_for(f"sqlite:///{tmp_path}/refunds.db")) as web:
        web.context.database.engine.dispose()
        assert [web.call("GET", path, key=None).status_code for path in PAGES] == [200, 200]


def test_text_of_the_description_is_escaped() -> None:
    assert prose("`a<b` & <script>") == "<code>a&lt;b</code> &amp; &lt;script&gt;"


REPLACED = """
import sys
from pathlib import Path

from starlette.testclient import TestClient

import refund_worker
from refund_worker.settings import load_settings
from refund_worker.web.app import create_app

folder = Path(refund_worker.__file__).parent
assert folder.parent == Path(sys.argv[1])
app = create_app(load_settings({"REFUND_WORKER_DATABASE_URL": sys.argv[2]}))
templates = list(folder.rglob("templates/**/*.html"))
assert len(templates) > 30
for template in templates:
    template.write_text("{{ a_name_of_the_next_version.field }}")
with TestClient(app, base_url="http://localhost") as client:
    print(*(client.get(path).status_code for path in ("/docs", "/docs/errors", "/console/sign-in")))
"""


def test_files_of_the_next_version_do_not_reach_a_running_process(tmp_path: Path) -> None:
    copytree(Path(refund_worker.__file__).parent, tmp_path / "refund_worker", ignore=ignore_patterns("__pycache__"))
    migrate(url := f"sqlite:///{tmp_path}/refunds.db")
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": str(tmp_path)}
    command = [sys.executable, "-c", REPLACED, str(tmp_path), url]
    ran = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (ran.stdout, ran.returncode) == ("200 200 200\n", 0), ran.stderr


def test_codes_of_the_command_line_are_explained_on_the_same_page(web: Web) -> None:
    page = web.call("GET", "/docs/errors", key=None).text
    for error in (UnreadableFile("x"), BadSettings("x"), SetChanged("x")):
        fragment = urlsplit(problem_of_error(error, "x")["type"]).fragment
        row = re.search(rf'<tr id="{fragment}">(.*?)</tr>', page, re.DOTALL)
        assert row is not None, fragment
        assert COMMAND_TEXTS[fragment].meaning in row[1]
    ids = Seen(page).ids
    assert len(ids) == len(set(ids))


def test_every_error_of_the_program_has_a_row_or_no_problem() -> None:
    classes, left = set[type[RefundWorkerError]](), [RefundWorkerError]
    while left:
        left += (each := left.pop()).__subclasses__()
        classes.add(each)
    ours = {each.code for each in classes if each.__module__.startswith("refund_worker.")}
    # Forms of the console, which are pages; the Python API; and a move that the domain never makes.
    forms = {"sign_in_needed", "password_needed", "wrong_password", "too_many_tries"}
    assert ours - set(ERROR_TEXTS) - set(COMMAND_TEXTS) <= forms | {"unsafe_savepoint", "impossible_move"}

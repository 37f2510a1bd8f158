"""The page of the protocol is true: its commands run, its signatures are right, its documents are read."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest
from tests.processors.http.server import EXAMPLE
from tests.processors.http.subject import TABLE
from tests.support.pages import CELL_LETTERS_MAX, DOCS, ROOT, tables_of
from tests.support.processes import free_port

from refund_worker.processors.base import AccountSettings
from refund_worker.processors.http import events, signing
from refund_worker.processors.http.entry import HttpSettings
from refund_worker.processors.http.errors import classify
from refund_worker.processors.http.objects import to_page, to_payment, to_refund_object
from refund_worker.processors.wire import HttpAnswer

PAGE = DOCS / "paying-systems" / "http.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
SECRET = "whsec_cmVmdW5kLXdvcmtlci1leGFtcGxlLXNlY3JldC0wMDE="
AT = 1_795_424_400
SECONDS_MAX = 120


def block(language: str, holding: str) -> str:
    """Return the one block of this language that holds this text."""
    (found,) = [text for kind, text in BLOCKS if kind == language and holding in text]
    return found


def message(holding: str) -> tuple[str, dict[str, str], bytes]:
    """Return the first line, the headers (by lower-case name) and the body of an HTTP message of the page."""
    head, _, body = block("http", holding).partition("\n\n")
    first, *lines = head.splitlines()
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    return first, headers, body.strip().encode()


def test_request_of_the_page_is_signed_as_it_says() -> None:
    first, headers, body = message("POST /refunds")
    method, target, _ = first.split()
    content = signing.content_of_request(method, target, headers["idempotency-key"], body)
    signing.check(headers, content, [SECRET], AT + 1)


def test_openssl_command_of_the_page_makes_the_signature() -> None:
    ran = subprocess.run(
        ["sh", "-euc", block("sh", "openssl dgst")], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"v1,{ran.stdout.strip()}" == message("POST /refunds")[1]["webhook-signature"]


def test_event_of_the_page_is_signed_and_names_its_refund() -> None:
    _, headers, body = message("POST /webhooks/house")
    events.verify_event(headers, body, [SECRET], AT + 1)
    assert events.event_name(body) == ("evt-9", "refund.updated")
    hint = events.event_hint("refund.updated", body.decode())
    assert hint is not None
    assert hint.processor_refund_id == "r-1"


def test_documents_of_the_page_are_read() -> None:
    refund = to_refund_object(json.loads(block("json", '"failure_code"')))
    assert (refund.processor_refund_id, refund.leg_id, refund.attempt) == ("r-1", "rf_01a2-1", 1)
    assert to_page(json.loads(block("json", '"next"'))).objects == ()
    assert to_payment(json.loads(block("json", "captured_minor")), "p-77").captured_minor == 5_000
    problem = block("json", "more_than_left")
    assert "more_than_left" in repr(classify(HttpAnswer(422, {}, problem.encode())))
    assert "Refused" in repr(classify(HttpAnswer(422, {}, problem.encode())))


def test_account_of_the_page_is_the_table_of_the_reference_server() -> None:
    table = tomllib.loads(block("toml", "house"))["house"]
    assert (table.pop("adapter"), table.pop("secret_file")) == ("http", "/run/secrets/house")
    settings = HttpSettings(secret=SECRET, **table)
    assert {name: getattr(settings, name) for name in TABLE} == TABLE


def test_page_has_every_field_of_an_account() -> None:
    named = {name for table in tables_of(TEXT) for row in table for name in re.findall(r"`([a-z_]+)`", row[0])}
    own = HttpSettings.model_fields.keys() - AccountSettings.model_fields.keys()
    assert own | {"api_base", "webhook_secret"} <= named
    defaults = {row[0].strip("`"): row[1].strip("`") for table in tables_of(TEXT) for row in table if len(row) == 3}
    for name in own - {"secret", "mode"}:
        value = HttpSettings.model_fields[name].default
        shown = "0" if name == "key_seconds" else "none" if value in (None, "") else json.dumps(value)
        assert defaults[name] == shown, name


def test_links_lead_somewhere_and_cells_are_short() -> None:
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        if not target.startswith("https://"):
            assert (PAGE.parent / target.partition("#")[0]).resolve().is_file(), target
    assert [cell for table in tables_of(TEXT) for row in table for cell in row if len(cell) > CELL_LETTERS_MAX] == []


def run_commands(text: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run shell commands in this folder with the programs of this environment, and end what they leave behind."""
    programs = folder / "bin"
    programs.mkdir()
    for name, command in (("python", sys.executable), ("refund-worker", f"{sys.executable} -m refund_worker")):
        (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n', "utf-8")
        (programs / name).chmod(0o755)
    environment = os.environ | {"PATH": f"{programs}:{os.environ['PATH']}", "PYTHONPATH": str(ROOT / "src")}
    child = subprocess.Popen(
        ["sh", "-uc", text],
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        out, err = child.communicate(timeout=SECONDS_MAX)
    finally:
        os.killpg(child.pid, signal.SIGKILL)
    return subprocess.CompletedProcess(text, child.returncode, out, err)


def test_commands_of_the_page_run_and_nothing_fails(tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(ROOT / "examples", target_is_directory=True)
    text = block("sh", "--test-calls").replace("8099", str(free_port()))
    server, check = "--test-calls &\n", "refund-worker adapters check"
    assert server in text
    # The server keeps the output open, and needs a moment to begin.
    text = text.replace(server, "--test-calls > server.log 2>&1 &\n").replace(check, f"sleep 2\n{check}")
    began = time.monotonic()
    ran = run_commands(text, tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert re.search(r"^[0-9]{2} ok, 0 failed, 0 not asked$", ran.stdout, re.MULTILINE)
    assert '["NAME"]\nadapter = "http"\n' in ran.stdout
    assert time.monotonic() - began < SECONDS_MAX


def test_reference_server_is_short_and_needs_nothing_else() -> None:
    text = (EXAMPLE / "server.py").read_text("utf-8")
    assert len(text.splitlines()) <= 175
    modules = {name.split(".")[0] for name in re.findall(r"^(?:from|import) (\S+)", text, re.MULTILINE)}
    assert modules - {"paying_system"} <= sys.stdlib_module_names


@pytest.mark.parametrize("call", re.findall(r"^\| `((?:GET|POST) /test/[^`]*)`", TEXT, re.MULTILINE))
def test_each_test_call_of_the_page_is_in_the_example(call: str) -> None:
    parts = call.split("/")[2:]
    assert f'case ["{parts[0]}"' in (EXAMPLE / "testing_calls.py").read_text("utf-8")

"""The list of what adapters can do, and the check of an account or of a server of our HTTP protocol."""

from __future__ import annotations

import json
import socket
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Cli
from tests.processors.http.planted import PAYING, Planted, planted_server
from tests.processors.http.server import SECRET, Process
from tests.processors.http.subject import TABLE, WRONG_SECRET

from refund_worker.processors import registry
from refund_worker.processors.sandbox import Sandbox

LIVE = Planted("is live", PAYING, '"live": False,\n    "key_seconds"', '"live": True,\n    "key_seconds"', "", "")
NO_CANCEL = Planted("cancels nothing", PAYING, '"cancels": True', '"cancels": False', "", "")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Process]:
    with planted_server(None, tmp_path) as server:
        yield server


def use_accounts(monkeypatch: pytest.MonkeyPatch, **accounts: dict[str, Any]) -> None:
    """Set the accounts of the installation."""
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))


def house(url: str, **others: Any) -> dict[str, Any]:
    """Return the table of an account at this address."""
    return {"adapter": "http", "api_base": url, "secret": SECRET, "rate_per_second": 0} | TABLE | others


def verdicts(report: Any, verdict: str) -> dict[str, str]:
    """Return what was found by the checks with this verdict."""
    return {row["check"]: row["found"] for row in report["data"] if row["verdict"] == verdict}


# --- list -------------------------------------------------------------------------------------------------------------


def test_list_has_each_adapter_and_account_with_its_facts(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    use_accounts(monkeypatch, house=house("http://h", currency_steps="ISK:100"), cash={"adapter": "manual"})
    rows = cli("adapters", "list", "-o", "json").json["data"]
    adapters = {row["adapter"]: row for row in rows if row["account"] is None}
    assert set(adapters) == set(registry.names())
    assert {row["account"] for row in rows} == {None, "house", "cash", "manual"}
    for name in registry.names():
        entry = registry.find_entry(name)
        assert entry is not None
        facts = {fact: value for fact, value in adapters[name].items() if fact not in ("adapter", "account")}
        assert facts == {fact: getattr(entry.capabilities, fact) for fact in facts}
    (own,) = [row for row in rows if row["account"] == "house"]
    assert (own["key_seconds"], own["list_proves_absence"], own["reads_payments"]) == (2_592_000, True, True)
    assert (own["refund_window_seconds"], own["currency_steps"]) == (15_552_000, {"ISK": 100})
    assert (adapters["http"]["key_seconds"], adapters["http"]["list_proves_absence"]) == (0, False)


@pytest.mark.parametrize("columns", ["80", "100", "140"])
def test_list_is_a_table_that_fits_the_terminal(cli: Cli, monkeypatch: pytest.MonkeyPatch, columns: str) -> None:
    use_accounts(monkeypatch, house=house("http://h"))
    monkeypatch.setenv("COLUMNS", columns)
    lines = cli("adapters", "list").out.splitlines()
    assert max(map(len, lines)) <= int(columns)
    titles = ["adapter", "key", "kept", "list", "outcome", "final", "read", "parts", "window"]
    assert lines[0].split() == [*titles, *(["steps"] if int(columns) > 110 else [])]
    (row,) = [line.split() for line in lines if line.startswith("house")]
    assert row == ["house", "30", "days", "yes", "yes", "yes", "no", "yes", "yes", "180", "days"]


def test_list_shows_adapters_although_the_settings_are_wrong(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    use_accounts(monkeypatch, house={"adapter": "http", "secret": "short"})
    ran = cli("adapters", "list", "-o", "json")
    assert (ran.code, {row["account"] for row in ran.json["data"]}) == (0, {None})
    assert ran.err.startswith('accounts are not shown: REFUND_WORKER_PROCESSORS_FILE, ["house"], secret: must be')


# --- check ------------------------------------------------------------------------------------------------------------


def test_check_of_an_account_asks_everything(cli: Cli, monkeypatch: pytest.MonkeyPatch, server: Process) -> None:
    use_accounts(monkeypatch, house=house(server.url))
    ran = cli("adapters", "check", "house", "-o", "json")
    assert (ran.code, ran.json["failed"], ran.json["not_asked"], ran.json["account"]) == (0, 0, 0, None)


def test_account_that_promises_too_much_fails(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with planted_server(NO_CANCEL, tmp_path) as server:
        use_accounts(monkeypatch, house=house(server.url))
        ran = cli("adapters", "check", "house", "-o", "json")
    assert ran.code == 1
    assert list(verdicts(ran.json, "failed")) == ["capabilities"]
    assert "cancels is true, and false there" in verdicts(ran.json, "failed")["capabilities"]


def test_careful_account_is_asked_less_and_fails_nothing(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, server: Process
) -> None:
    careful = {"adapter": "http", "api_base": server.url, "secret": SECRET, "refund_window_seconds": 86_400}
    careful["rate_per_second"] = 0
    use_accounts(monkeypatch, house=careful)
    ran = cli("adapters", "check", "house", "-o", "json")
    assert (ran.code, ran.json["failed"]) == (0, 0), verdicts(ran.json, "failed")
    assert verdicts(ran.json, "not asked")["same key"] == "the account keeps no keys (key_seconds is 0)"


def test_no_refund_is_created_where_money_is_real(cli: Cli, tmp_path: Path) -> None:
    book = tmp_path / "book.db"
    with planted_server(LIVE, tmp_path, "--test-calls", "--database", str(book)) as server:
        ran = cli("adapters", "check", server.url, "--secret-file", str(tmp_path / "secret"), "-o", "json")
    assert ran.code == 0
    assert "without --live" in verdicts(ran.json, "not asked")["create"]
    assert {"answers", "capabilities", "signatures", "unknown refund"} <= verdicts(ran.json, "ok").keys()
    assert _rows(book, "refunds") == _rows(book, "payments") == 0


def test_live_check_makes_no_payments_of_its_own(cli: Cli, tmp_path: Path) -> None:
    book = tmp_path / "book.db"
    with planted_server(LIVE, tmp_path, "--test-calls", "--database", str(book)) as server:
        secret = str(tmp_path / "secret")
        ran = cli("adapters", "check", server.url, "--secret-file", secret, "--live", "-o", "json")
    assert ran.code == 0
    assert "needs a payment that may be refunded" in verdicts(ran.json, "not asked")["create"]
    assert _rows(book, "refunds") == _rows(book, "payments") == 0


def test_named_payment_is_refunded_where_the_server_makes_none(cli: Cli, tmp_path: Path) -> None:
    book = tmp_path / "book.db"
    with planted_server(None, tmp_path, "--database", str(book)):
        pass
    payment = {"id": "pay:7", "currency": "EUR", "live": False, "captured_minor": 5_000, "disputed": False}
    with closing(sqlite3.connect(book)) as db, db:
        row = ("pay:7", json.dumps(payment | {"captured_at": time.time()}))
        db.execute("INSERT INTO payments VALUES (?, ?)", row)
    with planted_server(None, tmp_path, "--database", str(book)) as server:
        secret = str(tmp_path / "secret")
        ran = cli("adapters", "check", server.url, "--secret-file", secret, "--payment", "pay:7:5000:EUR", "-o", "json")
    assert (ran.code, ran.json["failed"]) == (0, 0), verdicts(ran.json, "failed")
    assert {"create", "same key", "pages", "nothing is left", "books agree"} <= verdicts(ran.json, "ok").keys()
    left = verdicts(ran.json, "not asked")
    assert set(left) == {
        *("refusal is kept", "refunds by others", "late failure", "other currencies", "disputed payment", "events"),
    }
    assert all("/test" in why for why in left.values())


def _rows(book: Path, table: str) -> int:
    with closing(sqlite3.connect(book)) as db:
        return int(db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])


def test_account_of_another_adapter_is_checked_as_far_as_possible(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with Sandbox() as sandbox:
        sandbox.register_payment("ch_check", 5_000, "GBP")
        use_accounts(monkeypatch, stripe={"api_key": "sk_test_1", "api_base": sandbox.url})
        ran = cli("adapters", "check", "stripe", "--payment", "ch_check:5000:GBP", "-o", "json")
    assert (ran.code, ran.json["failed"]) == (0, 0), verdicts(ran.json, "failed")
    asked = {"create", "same key", "same key at once", "same key, other body", "more than is left", "read a payment"}
    assert asked | {"list of a payment", "list since a time", "nothing is left"} <= verdicts(ran.json, "ok").keys()
    assert set(verdicts(ran.json, "not asked")) == {
        *("lost answer", "refusal is kept", "pages", "refunds by others", "late failure", "wrong secret"),
    }


def test_account_without_refunds_says_that_a_person_pays(cli: Cli) -> None:
    ran = cli("adapters", "check", "manual", "-o", "json")
    assert (ran.code, ran.json["ok"], ran.json["failed"]) == (0, 1, 0)
    assert "a person pays" in verdicts(ran.json, "not asked")["create"]


# --- what is refused, and how it ends ---------------------------------------------------------------------------------


def test_secret_comes_from_a_file_or_a_variable_alone(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, server: Process, tmp_path: Path
) -> None:
    monkeypatch.setenv("ADAPTER_SECRET", SECRET)
    ran = cli("adapters", "check", server.url)
    assert ran.code == 0
    assert "0 failed, 0 not asked" in ran.out
    assert SECRET.removeprefix("whsec_") not in ran.out + ran.err
    monkeypatch.setenv("ADAPTER_SECRET", WRONG_SECRET)
    wrong = cli("adapters", "check", server.url, "-o", "json")
    assert wrong.code == 1
    assert verdicts(wrong.json, "failed") == {"answers": "the server refuses our signature of GET /capabilities"}
    assert cli("adapters", "check", server.url, "--secret", SECRET).code == 2


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (("http://127.0.0.1:1",), 2, "name the server's secret: --secret-file FILE, or the variable ADAPTER_SECRET"),
        (("http://127.0.0.1:1", "--secret-file", "no-such-file"), 2, "cannot be read (No such file or directory)"),
        (("http://127.0.0.1:1", "--secret-file", "short"), 2, "the secret must be 24 to 64 random bytes in base64"),
        (("ftp://127.0.0.1", "--secret-file", "good"), 2, "must be an http:// or https:// URL"),
        (("http://u:hidden@127.0.0.1", "--secret-file", "good"), 2, "must be an http:// or https:// URL"),
        (("nobody",), 4, "no account of this name: it is one of stripe, manual"),
        (("stripe",), 2, "stripe cannot be asked: set REFUND_WORKER_STRIPE_API_KEY"),
        (("manual", "--secret-file", "good"), 2, "--secret-file is for a URL"),
        (("manual", "--payment", "p:1"), 2, "--payment is ID:AMOUNT:CURRENCY"),
        (("manual", "--payment", "p:0:EUR"), 2, "--payment is ID:AMOUNT:CURRENCY"),
        (("manual", "--listen", "here"), 2, "--listen is HOST:PORT"),
        (("manual", "--listen", "h:70000"), 2, "--listen is HOST:PORT"),
        (("manual", "--seconds", "0"), 2, "--seconds"),
    ],
)
def test_wrong_arguments_are_refused_in_words(
    cli: Cli, tmp_path: Path, arguments: tuple[str, ...], code: int, told: str
) -> None:
    (tmp_path / "short").write_text("c2hvcnQ=")
    (tmp_path / "good").write_text(SECRET)
    ran = cli("adapters", "check", *arguments)
    assert (ran.code, ran.out) == (code, "")
    assert told in ran.err
    assert "hidden" not in ran.err
    assert "c2hvcnQ" not in ran.err


def test_server_that_is_not_there_ends_the_check_at_once(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    ran = cli("adapters", "check", "http://127.0.0.1:1", "--secret-file", "secret", "-o", "json")
    assert (ran.code, ran.json["failed"], ran.json["account"]) == (1, 1, None)
    (row,) = [row for row in ran.json["data"] if row["verdict"] == "failed"]
    assert "could not be reached" in row["found"]
    assert row["do"].startswith("Start the server")


def test_server_that_never_answers_ends_the_check_in_time(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url, began = f"http://127.0.0.1:{silent.getsockname()[1]}", time.monotonic()
        ran = cli("adapters", "check", url, "--secret-file", "secret", "--seconds", "1", "-o", "json")
    assert ran.code == 1
    assert "no complete answer within the time allowed" in verdicts(ran.json, "failed")["answers"]
    assert time.monotonic() - began < 10


def test_slow_server_is_asked_no_longer_than_allowed(cli: Cli, tmp_path: Path) -> None:
    slow = Planted("is slow", "server.py", "        ours.send_events()\n", "        time.sleep(0.2)\n", "", "")
    with planted_server(slow, tmp_path) as server:
        began = time.monotonic()
        secret = str(tmp_path / "secret")
        ran = cli("adapters", "check", server.url, "--secret-file", secret, "--seconds", "2", "-o", "json")
    assert ran.code == 1
    assert "not asked: the 2 seconds are over" in verdicts(ran.json, "failed").values()
    assert time.monotonic() - began < 10


def test_server_of_endless_answers_does_not_fill_memory(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET)
    with socket.create_server(("127.0.0.1", 0)) as endless:
        threading.Thread(target=_pour, args=(endless,), daemon=True).start()
        url = f"http://127.0.0.1:{endless.getsockname()[1]}"
        ran = cli("adapters", "check", url, "--secret-file", "secret", "--seconds", "20", "-o", "json")
    assert ran.code == 1
    assert "the answer is larger than" in verdicts(ran.json, "failed")["answers"]


def _pour(listener: socket.socket) -> None:
    connection, _ = listener.accept()
    with connection:
        try:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            while True:
                connection.sendall(b"x" * 65_536)
        except OSError:
            pass


def test_table_for_people_shows_what_to_do(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    with planted_server(NO_CANCEL, tmp_path) as server:
        use_accounts(monkeypatch, house=house(server.url))
        ran = cli("adapters", "check", "house")
    lines = ran.out.splitlines()
    assert max(map(len, lines)) <= 80
    assert lines[0].split() == ["check", "found", "what", "to", "do"]
    assert lines[-1].endswith("1 failed, 0 not asked")
    assert "Correct the account's" in " ".join(ran.out.split())

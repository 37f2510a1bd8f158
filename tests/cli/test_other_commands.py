"""Corrections, switches, keys, the doctor, and how every command ends."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer.main
from tests.cli.conftest import Become, Cli

from refund_worker.api_schema import Switch
from refund_worker.cli import dev
from refund_worker.cli.app import app
from refund_worker.cli.output import plain
from refund_worker.cli.stack import Stack
from refund_worker.domain.processor_replies import PaymentUnreadable
from refund_worker.engine.processor_sync.status import SWITCH_FIELDS
from refund_worker.engine.views.money_format import money
from refund_worker.settings import load_settings
from refund_worker.store.database import Database
from refund_worker.store.payment_readings import store_readings


def commands(group: object, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name, inner in getattr(group, "commands", {}).items():
        if hasattr(inner, "commands"):
            yield from commands(inner, (*path, name))
        else:
            yield (*path, name)


ALL = list(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("path", ALL, ids=" ".join)
def test_every_command_has_help_with_an_example(
    path: tuple[str, ...], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REFUND_WORKER_SURPRISE", "1")  # help is there even where the settings are wrong
    ran = cli(*path, "--help")
    assert ran.code == 0
    assert f"Example: refund-worker {' '.join(path)}" in " ".join(ran.out.split())


def test_the_promised_commands_are_there() -> None:
    promised = {
        "refunds": "submit create preview list show events wait retry cancel approve reject resolve export",
        "keys": "create list revoke",
        "users": "create list set-password set-role enable disable unlock",
        "import": "payments transactions",
        "processors": "pause resume status",
        "db": "upgrade current",
    }
    names = {" ".join(path) for path in ALL}
    assert {f"{group} {name}" for group, inner in promised.items() for name in inner.split()} <= names
    assert {"demo", "dev", "doctor", "worker", "scheduler", "web", "sandbox", "reconcile", "config show"} <= names


def test_help_loads_nothing_heavy(tmp_path: Path) -> None:
    code = (
        "import sys; from refund_worker.cli.app import run_command; run_command(['--help']);"
        "print(sorted({'sqlalchemy', 'stripe', 'celery', 'pydantic', 'rich', 'babel', 'alembic'} & set(sys.modules)))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert ran.stdout.splitlines()[-1] == "[]"


def test_an_unknown_setting_stops_every_command_with_one_line(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_SURPRISE", "1")
    for command in (
        ("refunds", "list"),
        ("config", "show"),
        ("db", "current"),
        ("processors", "status"),
        ("worker",),
        ("demo",),
        SANDBOX,
    ):
        ran = cli(*command)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert "REFUND_WORKER_SURPRISE" in ran.err


SANDBOX = ("sandbox", "--port", "0", "--book", "book.jsonl")
WRONG_VALUES = [
    ("BROKER_URL", "redis://localhost:abc/0"),
    ("BROKER_URL", "redis://[foo"),
    ("BROKER_URL", "redis://:donotshow@127.0.0.1:6379/0;redis://:donotshow@example.com:6379/0"),
    ("STRIPE_API_BASE", "http://h:99999"),
    ("DATABASE_URL", "foo"),
    ("DATABASE_URL", "postgresql+psycopg://u:donotshow@h:abc/d"),
    ("DATABASE_URL", "postgresql+psycopg://[foo"),
    ("VELOCITY_WINDOW_SECONDS", "inf"),
    ("APPROVAL_THRESHOLD_MINOR", "1.0"),
    ("NOTIFY_SECRET", "donotshow"),
    ("STRIPE_WEBHOOK_SECRET", ","),
]


@pytest.mark.parametrize(("name", "value"), WRONG_VALUES)
def test_a_bad_value_stops_commands_by_its_name_and_the_doctor_tells_it(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"REFUND_WORKER_{name}", value)
    for command in (
        ("refunds", "list"),
        ("config", "show"),
        ("db", "upgrade"),
        ("worker",),
        ("web",),
        ("reconcile",),
        ("demo",),
        SANDBOX,
    ):
        ran = cli(*command)
        assert (ran.code, ran.out, len(ran.err.splitlines())) == (2, "", 1)
        assert ran.err.startswith(f"error: REFUND_WORKER_{name}: must ")
    doctor = cli("doctor", "-o", "json")
    assert doctor.code == 1
    assert [line["check"] for line in doctor.json["data"] if line["verdict"] == "fail"] == ["settings"]
    assert "donotshow" not in doctor.out + doctor.err


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("redis://:donotshow@127.0.0.1:9/0", "redis at 127.0.0.1:9: ConnectionError"),
        ("rediss://:donotshow@127.0.0.1:9/0?ssl_cert_reqs=CERT_REQUIRED", "rediss at 127.0.0.1:9: ConnectionError"),
        ("amqp://127.0.0.1:10//?x=1", "amqp at 127.0.0.1:10: Connection refused"),
    ],
)
def test_the_doctor_says_where_the_broker_should_be_and_what_is_wrong(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str, found: str
) -> None:
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", url)
    ran = cli("doctor", "-o", "json")
    (broker,) = [line for line in ran.json["data"] if line["check"] == "broker"]
    assert (ran.code, broker["verdict"], broker["found"]) == (1, "fail", found)
    assert "donotshow" not in ran.out + ran.err


def test_the_doctor_tells_of_payments_that_nobody_could_hold_against_the_processors_word(
    shop: Cli, monkeypatch: pytest.MonkeyPatch, migrated_sqlite_url: str
) -> None:
    def about_payments() -> tuple[str, str]:
        ran = shop("doctor", "-o", "json")
        (line,) = [line for line in ran.json["data"] if line["check"] == "payments"]
        return line["verdict"], line["found"]

    assert about_payments()[0] == "ok"
    database = Database(migrated_sqlite_url)
    database.run(lambda connection: store_readings(connection, {"p1": PaymentUnreadable("HTTP 403")}, 1.0))
    database.close()
    assert about_payments() == ("warn", "1 with verified: false, they can't be read there")
    monkeypatch.setenv("REFUND_WORKER_VERIFY_PAYMENTS", "off")
    assert about_payments()[0] == "warn"


def test_secrets_are_in_no_output(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", "sk_test_donotshow")
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_BASE", "http://127.0.0.1:9")
    monkeypatch.setenv("REFUND_WORKER_STRIPE_WEBHOOK_SECRET", "whsec_donotshow")
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "redis://:donotshow@127.0.0.1:9/0")
    monkeypatch.setenv(
        "REFUND_WORKER_DATABASE_URL", "postgresql+psycopg://u:a/donotshow@127.0.0.1:9/d?password=donotshow"
    )
    for output in ("table", "json"):
        for command in (("config", "show"), ("doctor",)):
            ran = cli(*command, "-o", output)
            assert "donotshow" not in ran.out + ran.err


@pytest.mark.parametrize(
    "url",
    [
        "what:ever@donotshow",
        "mysql://u:donotshow@h/x",
        "sqlite:////dev/null/donot/x.db",
        "postgresql://u:donotshow@127.0.0.1:9/x",
    ],
)
def test_an_unusable_database_is_told_without_its_password(cli: Cli, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", url)
    ran = cli("refunds", "list", "-o", "json")
    assert (ran.code, ran.out) == (1 if "127.0.0.1" in url else 2, "")
    assert ran.problem["code"] in ("bad_settings", "unavailable")
    assert "donotshow" not in ran.err


def test_a_file_that_is_no_database_is_a_wrong_setting(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "notes.txt").write_text("not a database, but long enough to be looked at as one" * 20)
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", f"sqlite:///{tmp_path / 'notes.txt'}")
    assert cli("refunds", "list").code == 2


def test_an_internal_error_is_one_line_and_debug_shows_the_place(cli: Cli) -> None:
    database = Database(os.environ["REFUND_WORKER_DATABASE_URL"])
    with database.write() as connection:
        connection.exec_driver_sql("ALTER TABLE processors RENAME TO elsewhere")
    database.close()
    ran = cli("processors", "status")
    assert (ran.code, ran.out, len(ran.err.splitlines())) == (1, "", 1)
    assert "Traceback" not in ran.err
    assert "Traceback" in cli("--debug", "processors", "status").err


def test_sqlite_is_migrated_by_any_command_and_db_current_only_looks(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", f"sqlite:///{tmp_path / 'new' / 'file.db'}")
    looked = cli("db", "current", "-o", "json").json
    assert (looked["current"], looked["head"] is None) == (None, False)
    assert cli("db", "current", "-o", "json").json == looked
    assert cli("refunds", "list").code == 0
    now = cli("db", "current", "-o", "json").json
    assert now["current"] == now["head"] == looked["head"]
    assert cli("db", "upgrade", "-o", "json").json["before"] == looked["head"]


def test_a_correction_is_made_once_and_reversed_once(shop: Cli) -> None:
    made = shop(
        "customers", "correct", "ann", "--credits", "-100", "--reason", "r", "--idempotency-key", "k", "-o", "json"
    )
    again = shop(
        "customers", "correct", "ann", "--credits", "-100", "--reason", "r", "--idempotency-key", "k", "-o", "json"
    )
    assert made.json == again.json
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 500
    reversal = shop("transactions", "reverse", made.json["transaction_id"], "-o", "json").json
    assert (reversal["kind"], reversal["credits"], reversal["refers_to"]) == (
        "reversal",
        100,
        made.json["transaction_id"],
    )
    assert shop("transactions", "reverse", made.json["transaction_id"], "-o", "json").json == reversal
    listed = shop("transactions", "list", "ann", "-o", "json").json["data"]
    assert [entry["kind"] for entry in listed] == ["reversal", "correction", "spend", "purchase"]
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 600


@pytest.mark.parametrize("credits", ["0", "+5", "1e2", "-9999"])
def test_a_correction_that_can_not_be_changes_no_balance(shop: Cli, credits: str) -> None:
    ran = shop("customers", "correct", "ann", "--credits", credits, "--reason", "r", "-o", "json")
    assert (ran.code, ran.out) == (3 if credits == "-9999" else 2, "")
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 600


def test_a_paused_processor_is_shown_with_who_and_why_until_it_is_resumed(cli: Cli, become: Become) -> None:
    become("anna")
    paused = cli("processors", "pause", "stripe", "--reason", "wrong amounts", "-o", "json").json
    assert (paused["name"], paused["paused"], paused["paused_by"], paused["reason"]) == (
        "stripe",
        True,
        "cli:anna",
        "wrong amounts",
    )
    states = {line["name"]: line["paused"] for line in cli("processors", "status", "-o", "json").json["data"]}
    assert states == {"all": False, "manual": False, "stripe": True}
    assert cli("processors", "resume", "stripe", "-o", "json").json["paused"] is False
    assert cli("processors", "pause", "strip", "--reason", "x").code == 4


def test_turning_a_switch_tells_the_object_of_the_http_call_that_turns_it(cli: Cli, become: Become) -> None:
    become("anna")
    for name in ("stripe", "manual", "all"):
        paused = cli("processors", "pause", name, "-o", "json").json
        assert paused.pop("paused_at") is not None
        reason = "paused on the command line"
        assert paused == {
            "name": name,
            "paused": True,
            "paused_by": "cli:anna",
            "paused_until": None,
            "code": "paused_by_hand",
            "reason": reason,
        }
        resumed = cli("processors", "resume", name, "-o", "json").json
        nothing = dict.fromkeys(("paused_by", "paused_at", "paused_until", "code", "reason"))
        assert resumed == {"name": name, "paused": False, **nothing}
        assert name in cli("processors", "pause", "--help").out
    assert set(Switch.__annotations__) == set(SWITCH_FIELDS)


@pytest.mark.parametrize("command", [("refunds", "show"), ("import", "payments"), ("customers", "show")])
def test_a_usage_error_is_punctuated_once(cli: Cli, command: tuple[str, ...]) -> None:
    told = cli(*command).err
    assert told.startswith("error: Missing argument '")
    assert ".:" not in told


def test_the_kill_switch_needs_no_reason(cli: Cli) -> None:
    paused = cli("processors", "pause", "stripe", "-o", "json")
    assert (paused.code, paused.json["paused"], paused.json["reason"]) == (0, True, "paused on the command line")


def test_failures_are_grouped_with_their_money(shop: Cli) -> None:
    assert shop("failures", "list", "-o", "json").json["data"] == []
    for credits in ("1", "2"):
        arguments = ("--kind", "withdrawal", "--to", "source", "--customer", "ann", "--reason", "r")
        assert shop("refunds", "create", *arguments, "--credits", credits).code == 0
    database = Database(os.environ["REFUND_WORKER_DATABASE_URL"])
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE refunds SET status = 'needs_attention', failure_code = 'disputed'")
    database.close()
    (group,) = shop("failures", "list", "-o", "json").json["data"]
    assert (group["failure_code"], group["refunds"], group["needs_attention"], group["failed"]) == ("disputed", 2, 2, 0)
    assert group["amounts"] == [{"currency": "GBP", "amount_minor": 6}]
    assert "0.06 GBP" in shop("failures", "list").out


def test_a_key_is_shown_once_and_can_be_revoked(cli: Cli) -> None:
    made = cli("keys", "create", "backend", "--client", "shop", "--role", "requester", "-o", "json").json
    assert (set(made), made["client"], made["role"]) == ({"key", "client", "role"}, "shop", "requester")
    listed = cli("keys", "list", "-o", "json")
    assert made["key"] not in listed.out
    assert [(key["name"], key["status"]) for key in listed.json["data"]] == [("backend", "active")]
    assert cli("keys", "create", "backend", "--client", "shop", "--role", "viewer").code == 5
    assert cli("keys", "create", "other", "--client", "shop", "--role", "emperor").code == 2
    assert cli("keys", "revoke", "backend", "-o", "json").json["status"] == "revoked"
    assert cli("keys", "revoke", "backend").code == 4


def test_a_signed_key_is_shown_once_with_its_secret(cli: Cli) -> None:
    make = ("keys", "create", "backend", "--client", "shop", "--role", "requester", "--signed", "-o", "json")
    made = cli(*make).json
    assert list(made) == ["key", "signing_secret", "client", "role"]
    listed = cli("keys", "list", "-o", "json")
    assert listed.json["data"][0]["signed"] is True
    assert made["signing_secret"] not in listed.out


def test_the_doctor_fails_with_what_to_do_where_nothing_answers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cli("doctor").code == 0
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "redis://127.0.0.1:9/0")
    ran = cli("doctor", "-o", "json")
    found = {line["check"]: line for line in ran.json["data"]}
    assert ran.code == 1
    assert (found["broker"]["verdict"], found["database"]["verdict"], found["stripe key"]["verdict"]) == (
        "fail",
        "ok",
        "warn",
    )
    assert found["broker"]["do"]


@pytest.mark.parametrize(
    ("settings", "verdict"),
    [
        ({}, "ok"),
        ({"ENVIRONMENT": "production"}, "ok"),
        ({"ENVIRONMENT": "production", "BROKER_URL": "redis://127.0.0.1:1"}, "warn"),
        ({"ENVIRONMENT": "production", "BROKER_URL": "redis://127.0.0.1:1", "CELERY_CLIENTS": "shop,desk"}, "ok"),
    ],
)
def test_the_doctor_warns_where_a_shared_broker_takes_any_clients_name(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], verdict: str
) -> None:
    for name, value in settings.items():
        monkeypatch.setenv(f"REFUND_WORKER_{name}", value)
    found = {line["check"]: line for line in cli("doctor", "-o", "json").json["data"]}
    assert found["celery clients"]["verdict"] == verdict


def test_the_doctor_tells_a_wrong_setting_as_a_finding(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_SURPRISE", "1")
    ran = cli("doctor")
    assert ran.code == 1
    assert "REFUND_WORKER_SURPRISE" in ran.out


def test_reconciling_without_a_processor_says_which_setting_is_missing(cli: Cli) -> None:
    ran = cli("reconcile")
    assert (ran.code, "STRIPE_API_KEY" in ran.err) == (2, True)


def test_a_sandbox_that_can_not_start_ends_with_2(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "faults.json").write_text("{")
    ran = cli("sandbox", "--port", "0", "--book", "book.jsonl", "--faults", "faults.json")
    assert (ran.code, ran.err.startswith("error: the sandbox stopped")) == (2, True)


def test_a_port_in_use_is_told_by_every_command_that_serves(cli: Cli) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for command in (("web",), ("web", "--workers", "2"), ("dev",), ("sandbox", "--book", "book.jsonl")):
            ran = cli(*command, "--port", port)
            told = f"error: port {port} is in use: choose another with --port (bad_settings)\n"
            assert (ran.code, ran.out, ran.err) == (2, "", told), command
    for host in ("192.0.2.1", "no such host", "\u00fc" * 70):
        ran = cli("web", "--port", "0", "--host", host)
        assert (ran.code, len(ran.err.splitlines())) == (2, 1), ran.err
        assert "choose another with --host" in ran.err


def started(*words: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "refund_worker", *words]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_the_web_says_where_it_listens_also_on_a_port_that_it_took_itself(cli: Cli, workers: str) -> None:
    with started("web", "--port", "0", "--workers", workers) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            place = re.fullmatch(r"refund-worker web listens on (http://127\.0\.0\.1:[1-9]\d*)\n", line)
            assert place is not None, line
            with urllib.request.urlopen(f"{place[1]}/healthz", timeout=60) as answer:
                assert answer.status == 200
        finally:
            process.terminate()
        assert process.wait(60) == 0


@pytest.mark.parametrize("kind", ["worker", "scheduler"])
def test_worker_and_scheduler_say_when_they_are_ready(cli: Cli, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("REFUND_WORKER_BROKER_URL", "embedded")
    with started(kind) as process:
        try:
            assert process.stderr is not None
            said = process.stderr.readline()
            assert f"the {kind} is ready: " in said
        finally:
            process.terminate()
        assert process.wait(60) == 0


def test_a_command_that_is_broken_off_says_that_what_was_stored_stays(cli: Cli) -> None:
    code = (
        # Whoever was started in the background of a shell has it ignored.
        "import signal\nsignal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from refund_worker.cli import app, keys, runtime\n"
        "runtime.settings = lambda: signal.raise_signal(signal.SIGINT)\napp.main(['config', 'show'])"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.returncode, ran.stdout) == (130, "")
    assert ran.stderr == "interrupted: whatever was stored stays stored\n"
    assert "interrupted" not in cli("config", "show").err


def test_a_list_of_queues_without_one_is_not_taken_for_all(cli: Cli) -> None:
    for queues in (",", " ", " , ,"):
        ran = cli("worker", "--queues", queues)
        assert (ran.code, "--queues" in ran.err, len(ran.err.splitlines())) == (2, True, 1)


def test_the_sandbox_serves_until_it_is_ended(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "refund_worker", "sandbox", "--port", "0", "--book", str(tmp_path / "book.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert "listening on http://127.0.0.1:" in process.stdout.readline()
        finally:
            process.terminate()
        assert process.wait(20) == 0


def test_a_reader_that_has_seen_enough_is_no_error(shop: Cli) -> None:
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "refund_worker", "refunds", "export", "-"]
    ran = subprocess.run(command, stdout=write, stderr=subprocess.PIPE, text=True, check=False, timeout=60)
    os.close(write)
    assert (ran.returncode, "Traceback" in ran.stderr, "Exception" in ran.stderr) == (0, False, False)


def test_dev_takes_a_secret_from_its_file_without_one_of_its_own_beside_it(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("sk_test_in_a_file\n")
    environ = {
        "REFUND_WORKER_STRIPE_API_KEY_FILE": str(tmp_path / "key"),
        "REFUND_WORKER_POLL_SECONDS": "5",
        "HOME": "/",
    }
    given = dev._given({**environ, "HOME": "/"}, load_settings(environ))
    assert given == {"REFUND_WORKER_STRIPE_API_KEY": "sk_test_in_a_file", "REFUND_WORKER_POLL_SECONDS": "5"}
    stack = Stack(tmp_path, settings=given)
    assert load_settings(stack.environment).stripe_api_key is not None
    stack.environment["REFUND_WORKER_STRIPE_API_BASE"] = "http://127.0.0.1:9"
    exports = dev._exports(stack, given)
    assert exports == ["export REFUND_WORKER_STRIPE_API_BASE=http://127.0.0.1:9"]
    assert len(dev._exports(stack, {})) == 2
    stack.stop()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="this system has no full device")
@pytest.mark.parametrize("command", [("keys", "list"), ("config", "show", "-o", "json"), ("refunds", "export", "-")])
def test_output_that_finds_no_room_is_told_as_that(shop: Cli, command: tuple[str, ...]) -> None:
    create = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--customer", "ann", "--credits", "1")
    for _ in range(30):  # more than a buffer holds
        assert shop(*create, "--reason", "r" * 900).code == 0
    with Path("/dev/full").open("wb") as full:
        ran = subprocess.run(
            [sys.executable, "-m", "refund_worker", *command],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: the output can't be written (No space left on device)")
    assert len(ran.stderr.splitlines()) == (2 if "json" in command else 1)


@pytest.mark.parametrize(
    ("amount", "currency", "shown"),
    [
        (123456, "GBP", "1,234.56 GBP"),
        (5, "JPY", "5 JPY"),
        (1230, "KWD", "1.230 KWD"),
        (500, "ISK", "5.00 ISK"),
        (-7, "USD", "-0.07 USD"),
        (10**12, "EUR", "10,000,000,000.00 EUR"),
    ],
)
def test_money_is_shown_in_the_processors_minor_unit(amount: int, currency: str, shown: str) -> None:
    assert money(amount, currency) == shown


def test_text_for_a_terminal_has_nothing_that_it_would_obey() -> None:
    assert plain("a\x1b[2Jb\nc\u202ed") == "a\N{REPLACEMENT CHARACTER}[2Jb c\N{REPLACEMENT CHARACTER}d"


def test_output_goes_where_it_belongs_in_a_real_process(shop: Cli) -> None:
    started = time.monotonic()
    command = [sys.executable, "-m", "refund_worker", "refunds", "list", "-o", "json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, '{\n  "data": [],\n  "has_more": false\n}\n', "")
    assert time.monotonic() - started < 30


def test_doctor_tells_of_dangers_and_of_what_approval_covers(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"ENVIRONMENT": "production", "NOTIFY_URL": "http://backend.example/", "APPROVAL_THRESHOLD_MINOR": "5000"}
    given |= {"NOTIFY_SECRET": "whsec_" + "a" * 40}
    for name, value in given.items():
        monkeypatch.setenv("REFUND_WORKER_" + name, value)
    told = {row["check"]: row for row in cli("doctor", "-o", "json").json["data"]}
    assert told["production"]["verdict"] == "warn"
    assert "NOTIFY_URL" in told["production"]["found"]
    assert "https://" in told["production"]["do"]
    assert "5000" in told["approval"]["found"]
    assert "not refunds to a balance, and not corrections" in told["approval"]["found"]

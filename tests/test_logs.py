"""Logs: one set-up for every process, fields beside the message, and no secret or customer's text in any line."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import DBAPIError

from refund_worker.engine.access.api_keys import create_key
from refund_worker.logs import FIELDS, JsonLines, TextLines, add_log_field, error_text, log_fields
from tests.support.deployment import STRIPE_KEY, Deployment, wait_until
from tests.support.sales import paid, sell
from tests.support.servers import PostgresDatabases

OF_EVERY_LINE = {"time", "level", "logger", "process", "pid", "message"}
CUSTOMER_TEXT = "Veras own words"


def line_of(message: str, *arguments: object, level: int = logging.INFO, error: Any = None, **extra: Any) -> Any:
    """Return what the JSON formatter makes of a record."""
    logger = logging.getLogger(extra.pop("logger", "refund_worker.tests"))
    info = (type(error), error, error.__traceback__) if error else None
    record = logger.makeRecord(logger.name, level, __file__, 1, message, arguments, info, extra=extra)
    return json.loads(JsonLines("worker").format(record))


# --- the form of a line ----------------------------------------------------------------------------------------------


def test_ids_are_fields_and_only_named_fields_are_written() -> None:
    with log_fields(request_id="req-1", refund_id="rf_1"):
        add_log_field("actor", "console/anna")
        with log_fields(leg_id="rf_1-1", attempt=2):
            line = line_of("call sent", processor="stripe", data={"body": CUSTOMER_TEXT})
        outside = line_of("refund ended")
    assert line.keys() == OF_EVERY_LINE | {"request_id", "refund_id", "leg_id", "attempt", "actor", "processor"}
    assert (line["process"], line["level"], line["message"], line["attempt"]) == ("worker", "info", "call sent", 2)
    assert outside.keys() == OF_EVERY_LINE | {"request_id", "refund_id", "actor"}
    assert line_of("later").keys() == OF_EVERY_LINE
    assert line_of("alarm: x", alarm="sending_stopped")["alarm"] == "sending_stopped"


def test_line_for_people_is_one_line_whatever_the_message_contains() -> None:
    record = logging.makeLogRecord({"name": "a", "levelname": "INFO", "msg": "one\ntwo\x1b[31m", "refund_id": "rf\n1"})
    shown = TextLines("web").format(record)
    assert len(shown.splitlines()) == 1
    assert "\x1b" not in shown
    assert "refund_id=rf 1" in shown


@pytest.mark.parametrize("field", [None, *FIELDS])
def test_every_part_of_a_line_is_redacted(field: str | None) -> None:
    secret = STRIPE_KEY.replace("sk_test_", "sk_live_")
    line = line_of(f"key {secret}") if field is None else line_of("x", **{field: f"key {secret}"})
    assert secret not in json.dumps(line)


# --- exceptions ------------------------------------------------------------------------------------------------------


def raised(work: Any) -> BaseException:
    """Return the exception that `work` raises."""
    try:
        work()
    except Exception as error:
        return error
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    "work",
    [
        lambda: int(CUSTOMER_TEXT),
        lambda: {}[CUSTOMER_TEXT],
        lambda: [].index(CUSTOMER_TEXT),
        lambda: (CUSTOMER_TEXT + "é").encode("ascii"),
        lambda: httpx.Response(200, json={}).json()[CUSTOMER_TEXT],
    ],
)
def test_traceback_names_the_error_without_the_value_that_it_quotes(work: Any) -> None:
    error = raised(work)
    line = line_of("it failed", error=error, level=logging.ERROR)
    assert type(error).__name__ in line["error"]
    assert "Traceback (most recent call last):" in line["error"]
    assert CUSTOMER_TEXT not in json.dumps(line).replace("work()", "")


def test_causes_and_secrets_of_an_exception() -> None:
    def fail() -> None:
        try:
            {}[CUSTOMER_TEXT]
        except KeyError as cause:
            raise RuntimeError(f"no access with {STRIPE_KEY}") from cause

    shown = error_text(raised(fail))
    assert "KeyError: '…'" in shown
    assert "was the direct cause of this one" in shown
    assert "RuntimeError: no access with" in shown
    assert STRIPE_KEY not in shown


def test_database_error_quotes_no_row_and_no_parameter(postgres_server: PostgresDatabases) -> None:
    url = postgres_server.create()
    for each in (url.replace("postgresql://", "postgresql+psycopg://"), "sqlite://"):
        engine = create_engine(each)  # without hide_parameters, as a backend's own engine may be
        with engine.connect() as connection:
            connection.execute(text("CREATE TABLE notes (note TEXT PRIMARY KEY CHECK (length(note) < 20))"))
            for rows in ([{"note": CUSTOMER_TEXT}] * 2, [{"note": CUSTOMER_TEXT * 2}]):
                with pytest.raises(DBAPIError) as caught, connection.begin_nested():
                    connection.execute(text("INSERT INTO notes VALUES (:note)"), rows)
                assert CUSTOMER_TEXT in str(caught.value)
                assert CUSTOMER_TEXT not in error_text(caught.value)
                assert "IntegrityError" in error_text(caught.value)
        engine.dispose()
    postgres_server.drop(url)


SECOND_LINE = "and a second line of it"
CUSTOMER_INPUT = f'{CUSTOMER_TEXT}: it\'s a "quoted"\n{SECOND_LINE}'
STATEMENTS = {
    "row": ("INSERT INTO notes VALUES (:note, 'rf_1')", "NotNullViolation", "note", {"note": None}),
    "check": ("INSERT INTO notes VALUES ('n-2', :text)", "CheckViolation", "notes_text_check", {}),
    "input": ("SELECT CAST(:text AS integer)", "InvalidTextRepresentation", "22P02", {}),
    "syntax": (f"SELECT '{CUSTOMER_TEXT}' FROM nowhere WHERE \"{SECOND_LINE}\" = 1", "UndefinedTable", "42P01", {}),
}


@pytest.mark.parametrize("name", STATEMENTS)
def test_database_error_of_many_lines_names_its_place_alone(name: str, postgres_server: PostgresDatabases) -> None:
    url = postgres_server.create()
    statement, kind, place, values = STATEMENTS[name]
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    with engine.connect() as connection:
        connection.execute(text("CREATE TABLE notes (note TEXT NOT NULL, text TEXT CHECK (length(text) < 9))"))
        with pytest.raises(DBAPIError) as caught, connection.begin_nested():
            connection.execute(text(statement), {"text": CUSTOMER_INPUT} | values if ":" in statement else {})
    engine.dispose()
    postgres_server.drop(url)
    assert CUSTOMER_TEXT in str(caught.value) or name == "row"

    def fail() -> None:
        try:
            raise caught.value
        except DBAPIError as cause:
            raise RuntimeError(f"it failed: {cause}") from cause

    shown = error_text(raised(fail))
    for hidden in (CUSTOMER_TEXT, SECOND_LINE, "[SQL:", "INSERT", "SELECT"):
        assert hidden not in shown
    assert f"psycopg.errors.{kind}" in shown
    assert place in shown


def test_unreachable_database_is_named_with_its_address() -> None:
    engine = create_engine("postgresql+psycopg://refund_worker@127.0.0.1:1/refunds")
    with pytest.raises(DBAPIError) as caught:
        engine.connect()
    assert "port 1 failed: Connection refused" in error_text(caught.value)


def test_failed_task_of_celery_is_logged_without_its_arguments() -> None:
    error = raised(lambda: int(CUSTOMER_TEXT))
    line = line_of("Task %s raised unexpected: %r", "t", error, error=error, logger="celery.app.trace")
    assert CUSTOMER_TEXT not in json.dumps(line)


# --- the set-up ------------------------------------------------------------------------------------------------------

PROGRAM = """
import logging, sys, threading, warnings
from refund_worker.logs import set_up_logging
set_up_logging(sys.argv[1], sys.argv[2], "scheduler")
logging.getLogger("refund_worker.a").debug("debug of ours")
logging.getLogger("refund_worker.a").info("info of ours")
logging.getLogger("celery.worker").info("body of a message")
logging.getLogger("uvicorn.error").debug("body of a request")
logging.getLogger("kombu").warning("warning of another")
warnings.warn("deprecated")
thread = threading.Thread(target=lambda: int("Vera"))
thread.start(); thread.join()
raise RuntimeError("nobody catches this")
"""


def logged_by(level: str, form: str) -> list[str]:
    ran = subprocess.run([sys.executable, "-c", PROGRAM, level, form], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    return ran.stderr.splitlines()


def test_level_is_ours_and_other_libraries_begin_at_warning() -> None:
    messages = {
        level: [json.loads(each)["message"] for each in logged_by(level, "json")] for level in ("debug", "error")
    }
    assert messages["debug"][:3] == ["debug of ours", "info of ours", "warning of another"]
    assert "deprecated" in messages["debug"][3]
    assert messages["debug"][4:] == messages["error"] == ["an exception was not caught"] * 2


def test_text_for_people_has_the_same_lines() -> None:
    lines = logged_by("info", "text")
    assert lines[0].endswith("info of ours (refund_worker.a)")
    assert "ValueError: invalid literal for int() with base 10: '…'" in lines


# --- the processes ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[dict[str, Any]]]]:
    """Give the lines of web, worker and scheduler after one refund over HTTP."""
    folder = tmp_path_factory.mktemp("logs")
    with Deployment(folder) as deployment:
        deployment.environment["REFUND_WORKER_STRIPE_WEBHOOK_SECRET"] = "whsec_for_this_test_and_no_other"
        deployment.start("worker", "scheduler")
        key = create_key(deployment.context, name="shop", client="shop", role="admin")
        deployment.parts.add("web", "web", "--port", "0", "--workers", "2")
        address = wait_until(lambda: [each for each in lines_of(folder / "web.log") if "listens on" in each["message"]])
        url = address[0]["message"].rpartition(" ")[2]
        with httpx.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as http:
            refund_id = refund_over(http, deployment)
            deployment.settle([refund_id])
            http.get("/healthz")
            assert http.get(f"/v1/refunds?customer_id={CUSTOMER_TEXT}").status_code == 200
        deployment.parts.stop()
        yield {name: lines_of(folder / f"{name}.log") for name in ("web", "worker", "scheduler")} | {
            "id": [{"id": refund_id}]
        }


def lines_of(file: Path) -> list[dict[str, Any]]:
    """Return the lines of a log; each must be JSON."""
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def refund_over(http: httpx.Client, deployment: Deployment) -> str:
    """Request a refund over HTTP for a new customer, and return its id."""
    sell(deployment.context, deployment.sandbox, [paid("logs")])
    body = {"kind": "withdrawal", "to": "source", "customer_id": "c-logs", "credits": 50, "reason": CUSTOMER_TEXT}
    answer = http.post("/v1/refunds", json=body, headers={"Idempotency-Key": "k-1", "X-Request-ID": "req-logs"})
    assert answer.status_code == 202, answer.text
    refund_id: str = answer.json()["id"]
    return refund_id


def test_every_process_writes_json_with_its_name(logs: dict[str, list[dict[str, Any]]]) -> None:
    for name in ("web", "worker", "scheduler"):
        assert logs[name]
        assert name == "web" or logs[name][-1]["message"] == f"the {name} has stopped (signal SIGTERM)"
        assert {line["process"] for line in logs[name]} == {name}
        assert all(line.keys() >= OF_EVERY_LINE for line in logs[name])


def test_refund_is_one_line_each_accepted_sent_answered_ended(logs: dict[str, list[dict[str, Any]]]) -> None:
    refund_id = logs["id"][0]["id"]
    told = [
        line for name in ("web", "worker", "scheduler") for line in logs[name] if line.get("refund_id") == refund_id
    ]
    steps = [line["message"] for line in sorted(told, key=lambda line: line["time"])]
    assert steps == ["refund accepted", "call sent", "call answered", "refund ended"]
    accepted, sent, answered, ended = sorted(told, key=lambda line: line["time"])
    assert (accepted["request_id"], accepted["actor"]) == ("req-logs", "shop/shop")
    assert (sent["leg_id"], sent["attempt"], sent["processor"], sent["call"]) == (f"{refund_id}-1", 1, "stripe", "send")
    assert (answered["outcome"], answered["code"]) == ("answered", "succeeded")
    assert (ended["status"], ended.get("code")) == ("succeeded", None)


def test_access_line_names_route_status_and_caller_but_no_query(logs: dict[str, list[dict[str, Any]]]) -> None:
    lines = [line for line in logs["web"] if line["logger"] == "refund_worker.web.access"]
    assert [(line["method"], line["route"], line["status"], line["actor"]) for line in lines] == [
        ("POST", "/v1/refunds", 202, "shop/shop"),
        ("GET", "/v1/refunds", 200, "shop/shop"),
    ]
    assert all(line["duration_ms"] > 0 and line["request_id"] for line in lines)


def test_no_line_has_a_customers_text_or_a_secret(logs: dict[str, list[dict[str, Any]]]) -> None:
    everything = json.dumps(logs)
    for hidden in (CUSTOMER_TEXT, STRIPE_KEY, "whsec_for_this_test_and_no_other"):
        assert hidden not in everything

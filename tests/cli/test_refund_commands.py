"""Asking for single refunds, looking at them, deciding about them."""

from __future__ import annotations

import csv
import io
import os
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import Become, Cli, Ran

from refund_worker.cli.options import LIMIT_DEFAULT
from refund_worker.engine.intake.schemas import parse_schema
from refund_worker.store.database import Database
from refund_worker.web.api import queries
from refund_worker.web.schemas import ResolveBody

WITHDRAWAL = ("--kind", "withdrawal", "--to", "source", "--customer", "ann", "--reason", "asked")


def create(cli: Cli, *more: str) -> Ran:
    return cli("refunds", "create", *WITHDRAWAL, *more, "-o", "json")


def refund_of(ran: Ran) -> Any:
    assert ran.code == 0, ran.err
    return ran.json


def test_a_created_refund_is_the_http_object_and_its_key_is_told(shop: Cli) -> None:
    ran = create(shop, "--credits", "100", "--note", "by mail")
    refund = refund_of(ran)
    assert (refund["status"], refund["credits"], refund["note"]) == ("queued", 100, "by mail")
    assert f"idempotency key: {refund['idempotency_key']}" in ran.err
    assert refund["actor"].startswith("cli:")


def test_the_same_key_again_gives_the_same_refund_and_another_body_a_conflict(shop: Cli) -> None:
    first = refund_of(create(shop, "--credits", "100", "--idempotency-key", "k1"))
    again = refund_of(create(shop, "--credits", "100", "--idempotency-key", "k1"))
    other = create(shop, "--credits", "101", "--idempotency-key", "k1")
    assert again["id"] == first["id"]
    assert (other.code, other.out, other.problem["code"]) == (5, "", "idempotency_key_reused")
    assert len(shop("refunds", "list", "-o", "json").json["data"]) == 1


@pytest.mark.parametrize(
    ("more", "code", "name"),
    [
        (("--credits", "601"), 3, "exceeds_refundable"),
        (("--credits", "-1"), 2, "invalid_request"),
        (("--credits", "1.0"), 2, "invalid_request"),
        (("--credits", "1_0"), 2, "invalid_request"),
        (("--credits", "5", "--currency", "EUR"), 3, "currency_mismatch"),
        (("--customer", "zoe"), 3, "unknown_customer"),
        (("--kind", "gift"), 2, "invalid_request"),
        (("--idempotency-key", "é"), 2, "invalid_request"),
        (("--surprise",), 2, "invalid_request"),
    ],
)
def test_a_refused_request_is_named_and_makes_no_refund(shop: Cli, more: tuple[str, ...], code: int, name: str) -> None:
    ran = create(shop, *more)
    assert (ran.code, ran.out, ran.problem["code"]) == (code, "", name)
    assert shop("refunds", "list", "-o", "json").json == {"data": [], "has_more": False}


def test_a_preview_tells_maximum_legs_and_balances_and_stores_nothing(shop: Cli) -> None:
    told = shop("refunds", "preview", *WITHDRAWAL, "--credits", "100", "-o", "json").json
    assert (told["would_be"], told["maximum_credits"]) == ("accepted", 600)
    assert told["legs"] == [
        {"payment_id": "p1", "processor": "stripe", "amount_minor": 200, "currency": "GBP", "credits": 100}
    ]
    assert (told["balance_before"], told["balance_after"], told["policy"]["needs_approval"]) == (600, 500, False)
    assert shop("refunds", "list", "-o", "json").json["data"] == []
    assert shop("customers", "show", "ann", "-o", "json").json["available"] == 600


def test_a_preview_of_what_would_be_refused_says_why_and_ends_well(shop: Cli) -> None:
    ran = shop("refunds", "preview", *WITHDRAWAL, "--credits", "601", "-o", "json")
    assert (ran.code, ran.json["would_be"]["code"], ran.json["maximum_credits"]) == (0, "exceeds_refundable", 600)
    assert (ran.json["legs"], ran.json["balance_after"]) == ([], 600)
    unknown = shop("refunds", "preview", *WITHDRAWAL, "--customer", "zoe", "-o", "json")
    assert (unknown.json["balance_before"], unknown.json["maximum_credits"]) == (None, 0)


def test_the_preview_of_a_credit_refund_raises_the_balance_only_to_balance(shop: Cli) -> None:
    spend = ("--kind", "credit_refund", "--customer", "ann", "--transaction", "t1")
    to_balance = shop("refunds", "preview", *spend, "--to", "balance", "-o", "json").json
    to_source = shop("refunds", "preview", *spend, "--to", "source", "-o", "json").json
    assert (to_balance["credits"], to_balance["balance_after"], to_balance["legs"]) == (400, 1000, [])
    assert (to_source["credits"], to_source["balance_after"], len(to_source["legs"])) == (400, 600, 1)


def test_a_list_is_filtered_and_continued(shop: Cli) -> None:
    ids = [refund_of(create(shop, "--credits", str(n)))["id"] for n in (1, 2, 3)]
    page = shop("refunds", "list", "--limit", "2", "-o", "json").json
    assert ([refund["id"] for refund in page["data"]], page["has_more"]) == (ids[:0:-1], True)
    rest = shop("refunds", "list", "--starting-after", ids[1], "-o", "json").json
    assert [refund["id"] for refund in rest["data"]] == ids[:1]
    assert shop("refunds", "list", "--customer", "bob", "-o", "json").json["data"] == []
    assert shop("refunds", "list", "--status", "failed", "-o", "json").json["data"] == []
    assert len(shop("refunds", "list", "--created-gte", "2026-01-01T00:00:00Z", "-o", "json").json["data"]) == 3
    assert shop("refunds", "list", "--created-gte", "2199-01-01T00:00:00Z", "-o", "json").json["data"] == []
    assert shop("refunds", "list", "--created-gte", "2199-01-01", "-o", "json").json["data"] == []
    assert len(shop("refunds", "list", "--created-gte", "2026-01-01", "-o", "json").json["data"]) == 3
    assert shop("refunds", "list", "--starting-after", "rf_none").code == 2
    assert shop("refunds", "list", "--status", "lost").code == 2
    assert shop("refunds", "list", "--created-gte", "yesterday").code == 2


@pytest.mark.parametrize("width", ["80", "120", None])
def test_ids_are_whole_at_every_width(shop: Cli, monkeypatch: pytest.MonkeyPatch, width: str | None) -> None:
    refund = refund_of(create(shop, "--credits", "100"))
    if width:
        monkeypatch.setenv("COLUMNS", width)
    listed = shop("refunds", "list").out
    assert refund["id"] in listed
    assert "2.00 GBP" in listed
    assert max(map(len, listed.splitlines())) <= int(width or 1000)
    assert "\x1b" not in listed
    assert refund["id"] in shop("refunds", "show", refund["id"]).out


def test_canceling_frees_what_was_reserved_and_a_second_time_is_a_conflict(shop: Cli) -> None:
    refund = refund_of(create(shop, "--credits", "100"))
    assert shop("customers", "show", "ann", "-o", "json").json["available"] == 500
    canceled = refund_of(shop("refunds", "cancel", refund["id"], "--reason", "changed their mind", "-o", "json"))
    assert canceled["status"] == "canceled"
    assert shop("customers", "show", "ann", "-o", "json").json["available"] == 600
    again = shop("refunds", "cancel", refund["id"], "--reason", "again", "-o", "json")
    assert (again.code, again.problem["code"]) == (5, "action_not_allowed")
    events = shop("refunds", "events", refund["id"], "-o", "json").json["data"]
    assert (events[-1]["to"], events[-1]["why"]) == ("canceled", "changed their mind")


def test_a_stale_version_changes_nothing(shop: Cli) -> None:
    refund = refund_of(create(shop))
    ran = shop("refunds", "cancel", refund["id"], "--reason", "x", "--version", "7", "-o", "json")
    assert (ran.code, ran.problem["code"]) == (5, "stale_version")
    assert refund_of(shop("refunds", "show", refund["id"], "-o", "json"))["status"] == "queued"


def test_an_approval_needs_a_second_person(shop: Cli, become: Become, monkeypatch: pytest.MonkeyPatch) -> None:
    become("anna")
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "100")
    refund = refund_of(create(shop, "--credits", "100"))
    assert refund["status"] == "awaiting_approval"
    own = shop("refunds", "approve", refund["id"], "--reason", "fine")
    assert own.code == 5
    become("bert")
    other = shop("refunds", "approve", refund["id"], "--reason", "fine", "-o", "json")
    assert refund_of(other)["status"] == "queued"


def test_a_rejected_refund_frees_what_was_reserved(shop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "100")
    refund = refund_of(create(shop, "--credits", "100"))
    assert shop("refunds", "reject", refund["id"], "--reason", "no").code == 0
    assert shop("customers", "show", "ann", "-o", "json").json["available"] == 600


@pytest.mark.parametrize(
    "how",
    [
        ("--outcome", "paid_manually"),
        ("--outcome", "reverse"),
        ("--outcome", "reverse", "--reason", "x", "--reference", "r"),
        ("--outcome", "forget", "--reason", "x"),
        ("--outcome", "paid_manually", "--reference", " "),
        ("--outcome", "paid_manually", "--reason", "paid", "--reference", "4242 4242 4242 4242"),
    ],
)
def test_a_resolution_that_is_not_whole_is_a_usage_error(shop: Cli, how: tuple[str, ...]) -> None:
    assert shop("refunds", "resolve", refund_of(create(shop))["id"], *how).code == 2


def test_a_reference_is_taken_without_the_blanks_around_it(shop: Cli) -> None:
    """It is compared with ids of refund objects: the same at the terminal, over HTTP and in the console."""
    given = {"reason": "paid", "outcome": "paid_manually", "reference": " re_1\t"}
    assert parse_schema(ResolveBody, given).reference == "re_1"
    refund_id = refund_of(create(shop))["id"]
    assert shop("refunds", "resolve", refund_id, "--outcome", "paid_manually", "--reference", " re_1 ").code == 5


def test_another_spelling_of_a_client_owns_no_keys_of_corrections(shop: Cli) -> None:
    given = ("customers", "correct", "ann", "--credits", "-5", "--reason", "r", "--idempotency-key", "k")
    assert shop(*given, "--client", "shop ").code == 2
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 600


def test_how_an_id_that_begins_with_a_dash_is_given_is_told(shop: Cli) -> None:
    told = shop("customers", "show", "-V1StGXR8")
    assert told.code == 2
    assert "behind --" in told.err
    assert shop("customers", "show", "--", "-V1StGXR8").code == 4
    assert "behind --" not in shop("reconcile", "--days").err


def test_resolving_what_needs_nobody_is_a_conflict(shop: Cli) -> None:
    refund_id = refund_of(create(shop))["id"]
    assert shop("refunds", "resolve", refund_id, "--outcome", "paid_manually", "--reference", "bank-1").code == 5


def test_waiting_tells_success_failure_and_a_passed_deadline_apart(shop: Cli) -> None:
    refund_id = refund_of(create(shop))["id"]
    late = shop("refunds", "wait", refund_id, "--timeout", "0.3", "-o", "json")
    assert (late.code, late.json["status"]) == (1, "queued")
    assert shop("refunds", "cancel", refund_id, "--reason", "x").code == 0
    ended = shop("refunds", "wait", refund_id, "-o", "json")
    assert (ended.code, ended.json["status"]) == (3, "canceled")


def test_an_unknown_id_is_not_found_everywhere(cli: Cli) -> None:
    for command in (("refunds", "show"), ("refunds", "events"), ("refunds", "wait"), ("customers", "show")):
        assert cli(*command, "nobody").code == 4
    assert cli("transactions", "list", "nobody").code == 4
    assert cli("transactions", "reverse", "nobody").code == 4
    assert cli("refunds", "cancel", "nobody", "--reason", "x").code == 4
    assert cli("refunds", "show", "nobody").err == "error: refund nobody is not known (not_found)\n"


def test_an_export_is_harmless_in_a_spreadsheet_and_complete(shop: Cli, tmp_path: Path) -> None:
    for n, reason in enumerate(("=1+1", "+1", "-1", "@x", "fine")):
        assert shop("refunds", "create", *WITHDRAWAL, "--reason", reason, "--credits", str(n + 1)).code == 0
    rows = list(csv.DictReader(io.StringIO(shop("refunds", "export", "-").out)))
    assert [row["reason"] for row in rows] == ["fine", "'@x", "'-1", "'+1", "'=1+1"]
    assert [(row["currency"], row["requested_minor"]) for row in rows][-1] == ("GBP", "2")
    assert shop("refunds", "export", "out.csv", "--customer", "bob").err == "0 refunds exported\n"
    assert (tmp_path / "out.csv").read_text().startswith("id,status,")


def test_an_export_that_can_not_be_written_leaves_nothing_behind(shop: Cli, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert shop("refunds", "export", "nowhere/out.csv").code == 2
    assert set(tmp_path.iterdir()) == before


def test_the_metadata_of_a_created_refund_is_as_given_and_its_transaction_has_both_names(shop: Cli) -> None:
    spend = ("--kind", "credit_refund", "--to", "balance", "--customer", "ann", "--reason", "asked", "-o", "json")
    words = ("--metadata", "ticket=7", "--metadata", "query=a=b", "--metadata", "empty=")
    refund = refund_of(shop("refunds", "create", *spend, "--transaction-id", "t1", "--credits", "1", *words))
    assert refund["transaction_id"] == "t1"
    assert refund["metadata"] == {"ticket": "7", "query": "a=b", "empty": ""}
    assert refund_of(shop("refunds", "preview", *spend, "--transaction-id", "t1"))["maximum_credits"] == 399
    for wrong in (("ticket",), ("=7",), ("a=1", "--metadata", "a=2"), ("card=4242424242424242",)):
        ran = shop("refunds", "create", *spend, "--transaction", "t1", "--metadata", *wrong)
        assert (ran.code, ran.out, ran.problem["code"]) == (2, "", "invalid_request")
    assert len(shop("refunds", "list", "-o", "json").json["data"]) == 1


def test_lists_are_as_long_as_over_http_unless_said(shop: Cli) -> None:
    assert LIMIT_DEFAULT == queries.LIMIT_DEFAULT
    for n in range(LIMIT_DEFAULT + 1):
        assert create(shop, "--credits", "1", "--idempotency-key", f"k{n}").code == 0
        assert shop("customers", "correct", "ann", "--credits", "1", "--reason", "r").code == 0
    for command in (("refunds", "list"), ("transactions", "list", "ann")):
        page = shop(*command, "-o", "json").json
        assert (len(page["data"]), page["has_more"]) == (LIMIT_DEFAULT, True)
        assert len(shop(*command, "--limit", "21", "-o", "json").json["data"]) == 21


def test_an_export_says_in_json_what_it_wrote_or_is_the_list_itself(shop: Cli, tmp_path: Path) -> None:
    assert shop("refunds", "export", "-", "-o", "json").json == {"data": [], "has_more": False}
    for n in (1, 2):
        create(shop, "--credits", str(n))
    assert shop("refunds", "export", "-", "-o", "json").json == shop("refunds", "list", "-o", "json").json
    ran = shop("refunds", "export", "out.csv", "-o", "json")
    assert (ran.json, ran.err) == ({"exported": 2, "file": "out.csv"}, "2 refunds exported\n")
    assert len((tmp_path / "out.csv").read_text().splitlines()) == 3
    failed = shop("refunds", "export", "nowhere/out.csv", "-o", "json")
    assert (failed.code, failed.out) == (2, "")


@pytest.mark.parametrize("width", [10, 40, 60, 80, 109, 110, 200])
def test_why_a_refund_needs_somebody_is_told_at_every_width(
    shop: Cli, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    refund = refund_of(create(shop, "--credits", "100"))
    database = Database(os.environ["REFUND_WORKER_DATABASE_URL"])
    with database.write() as connection:
        connection.exec_driver_sql("UPDATE refunds SET status = 'needs_attention', failure_code = 'disputed'")
    database.close()
    monkeypatch.setenv("COLUMNS", str(width))
    listed = shop("refunds", "list", "--status", "needs_attention").out
    assert all(word in listed for word in (refund["id"], "disputed", "ann", "2.00 GBP"))
    in_lines = "failure: disputed\n" in listed
    assert in_lines == (width < 80)
    if not in_lines:
        assert max(map(len, listed.splitlines())) <= width

"""Commands that request single refunds, show them, and decide about them."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
from tests.cli.conftest import PAYMENTS, REQUESTS, Become, Cli, Ran
from tests.support.payees import IBAN, KEY

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


def test_create_prints_the_http_object_and_the_generated_key(shop: Cli) -> None:
    ran = create(shop, "--credits", "100", "--note", "by mail")
    refund = refund_of(ran)
    assert (refund["status"], refund["credits"], refund["note"]) == ("queued", 100, "by mail")
    assert f"idempotency key: {refund['idempotency_key']}" in ran.err
    assert refund["actor"].startswith("cli:")


def test_repeated_key_gives_same_refund_but_other_body_conflicts(shop: Cli) -> None:
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
def test_refused_request_has_a_code_and_makes_no_refund(shop: Cli, more: tuple[str, ...], code: int, name: str) -> None:
    ran = create(shop, *more)
    assert (ran.code, ran.out, ran.problem["code"]) == (code, "", name)
    assert shop("refunds", "list", "-o", "json").json == {"data": [], "has_more": False}


def test_preview_shows_maximum_legs_and_balances_and_stores_nothing(shop: Cli) -> None:
    preview = shop("refunds", "preview", *WITHDRAWAL, "--credits", "100", "-o", "json").json
    assert (preview["would_be"], preview["maximum_credits"]) == ("accepted", 600)
    assert preview["legs"] == [
        {
            "payment_id": "p1",
            "processor": "stripe",
            "processor_account": "stripe",
            "amount_minor": 200,
            "currency": "GBP",
            "credits": 100,
        }
    ]
    assert (preview["balance_before"], preview["balance_after"], preview["policy"]["needs_approval"]) == (
        600,
        500,
        False,
    )
    assert shop("refunds", "list", "-o", "json").json["data"] == []
    assert shop("customers", "show", "ann", "-o", "json").json["available"] == 600


def test_preview_of_a_refused_request_shows_the_cause_and_exits_0(shop: Cli) -> None:
    ran = shop("refunds", "preview", *WITHDRAWAL, "--credits", "601", "-o", "json")
    assert (ran.code, ran.json["would_be"]["code"], ran.json["maximum_credits"]) == (0, "exceeds_refundable", 600)
    assert (ran.json["legs"], ran.json["balance_after"]) == ([], 600)
    unknown = shop("refunds", "preview", *WITHDRAWAL, "--customer", "zoe", "-o", "json")
    assert (unknown.json["balance_before"], unknown.json["maximum_credits"]) == (None, 0)


def test_credit_refund_preview_raises_balance_only_if_to_balance(shop: Cli) -> None:
    spend = ("--kind", "credit_refund", "--customer", "ann", "--transaction", "t1")
    to_balance = shop("refunds", "preview", *spend, "--to", "balance", "-o", "json").json
    to_source = shop("refunds", "preview", *spend, "--to", "source", "-o", "json").json
    assert (to_balance["credits"], to_balance["balance_after"], to_balance["legs"]) == (400, 1000, [])
    assert (to_source["credits"], to_source["balance_after"], len(to_source["legs"])) == (400, 600, 1)


def test_list_is_filtered_and_continued(shop: Cli) -> None:
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


@pytest.mark.parametrize("columns", ["60", "80", "120"])
def test_list_names_accounts_where_there_are_several(
    shop: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: str
) -> None:
    create(shop, "--credits", "100")
    monkeypatch.setenv("COLUMNS", columns)
    assert "stripe" not in shop("refunds", "list").out
    (tmp_path / "payments.csv").write_text(
        PAYMENTS
        + "p4,ann,stripe,ch_4,100,GBP,100,2026-01-04T00:00:00Z\n"
        + "p5,ann,paypal,CAPTURE5,100,GBP,100,2026-01-05T00:00:00Z\n"
    )
    assert shop("import", "payments", "payments.csv").code == 0
    refund = refund_of(create(shop, "--credits", "150"))
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps({"stripe": {}, "paypal": {}}))
    lines = shop("refunds", "list").out
    assert max(map(len, lines.splitlines())) <= int(columns)
    assert refund["id"] in lines
    assert {"paypal,", "stripe"} <= set(lines.split())
    # An account that has left the settings is still named by the refunds over it.
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps({"stripe": {}}))
    assert "paypal," in shop("refunds", "list").out


def test_show_says_why_a_refund_waits(shop: Cli) -> None:
    refund = refund_of(create(shop, "--credits", "100"))
    assert "waits for a worker" in shop("refunds", "show", refund["id"]).out
    shop("processors", "pause", "stripe", "--reason", "wrong amounts")
    shown = " ".join(shop("refunds", "show", refund["id"]).out.split())
    assert "A person paused stripe" in shown
    assert "wrong amounts" in shown
    assert "waits_for" not in refund_of(shop("refunds", "show", refund["id"], "-o", "json"))


def test_cancel_releases_the_reservation_and_repeated_is_a_conflict(shop: Cli) -> None:
    refund = refund_of(create(shop, "--credits", "100"))
    assert shop("customers", "show", "ann", "-o", "json").json["available"] == 500
    canceled = refund_of(shop("refunds", "cancel", refund["id"], "--reason", "changed their mind", "-o", "json"))
    assert canceled["status"] == "canceled"
    assert shop("customers", "show", "ann", "-o", "json").json["available"] == 600
    again = shop("refunds", "cancel", refund["id"], "--reason", "again", "-o", "json")
    assert (again.code, again.problem["code"]) == (5, "action_not_allowed")
    events = shop("refunds", "events", refund["id"], "-o", "json").json["data"]
    assert (events[-1]["to"], events[-1]["why"]) == ("canceled", "changed their mind")


def test_stale_version_changes_nothing(shop: Cli) -> None:
    refund = refund_of(create(shop))
    ran = shop("refunds", "cancel", refund["id"], "--reason", "x", "--version", "7", "-o", "json")
    assert (ran.code, ran.problem["code"]) == (5, "stale_version")
    assert refund_of(shop("refunds", "show", refund["id"], "-o", "json"))["status"] == "queued"


def test_approval_needs_a_second_person(shop: Cli, become: Become, monkeypatch: pytest.MonkeyPatch) -> None:
    become("anna")
    monkeypatch.setenv("REFUND_WORKER_APPROVAL_THRESHOLD_MINOR", "100")
    refund = refund_of(create(shop, "--credits", "100"))
    assert refund["status"] == "awaiting_approval"
    own = shop("refunds", "approve", refund["id"], "--reason", "fine")
    assert own.code == 5
    become("bert")
    other = shop("refunds", "approve", refund["id"], "--reason", "fine", "-o", "json")
    assert refund_of(other)["status"] == "queued"


def test_reject_releases_the_reservation(shop: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
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
def test_incomplete_resolution_is_a_usage_error(shop: Cli, how: tuple[str, ...]) -> None:
    assert shop("refunds", "resolve", refund_of(create(shop))["id"], *how).code == 2


def test_reference_is_stored_without_blanks_at_its_ends(shop: Cli) -> None:
    """References are compared with ids of refund objects, so all entry points must store them alike."""
    body = {"reason": "paid", "outcome": "paid_manually", "reference": " re_1\t"}
    assert parse_schema(ResolveBody, body).reference == "re_1"
    refund_id = refund_of(create(shop))["id"]
    assert shop("refunds", "resolve", refund_id, "--outcome", "paid_manually", "--reference", " re_1 ").code == 5


def test_correct_refuses_a_client_name_with_blanks(shop: Cli) -> None:
    correct = ("customers", "correct", "ann", "--credits", "-5", "--reason", "r", "--idempotency-key", "k")
    assert shop(*correct, "--client", "shop ").code == 2
    assert shop("customers", "show", "ann", "-o", "json").json["balance"] == 600


def test_value_that_an_option_does_not_know_is_named_with_the_choices(shop: Cli) -> None:
    ran = shop("refunds", "list", "--status", "nonsense")
    assert (ran.code, ran.out) == (2, "")
    assert "--status: there is no status 'nonsense', choose from queued, awaiting_approval, " in ran.err


def test_unknown_option_explains_ids_that_begin_with_a_dash(shop: Cli) -> None:
    ran = shop("customers", "show", "-V1StGXR8")
    assert ran.code == 2
    assert "put -- before an id" in ran.err
    assert shop("customers", "show", "--", "-V1StGXR8").code == 4
    assert "put -- before an id" not in shop("reconcile", "--days").err


def test_resolve_is_a_conflict_unless_attention_is_needed(shop: Cli) -> None:
    refund_id = refund_of(create(shop))["id"]
    assert shop("refunds", "resolve", refund_id, "--outcome", "paid_manually", "--reference", "bank-1").code == 5


def test_wait_has_exit_codes_for_success_failure_and_timeout(shop: Cli) -> None:
    refund_id = refund_of(create(shop))["id"]
    late = shop("refunds", "wait", refund_id, "--timeout", "0.3", "-o", "json")
    assert (late.code, late.json["status"]) == (1, "queued")
    assert shop("refunds", "cancel", refund_id, "--reason", "x").code == 0
    ended = shop("refunds", "wait", refund_id, "-o", "json")
    assert (ended.code, ended.json["status"]) == (3, "canceled")


def test_unknown_id_exits_4_in_every_command(cli: Cli) -> None:
    for command in (("refunds", "show"), ("refunds", "events"), ("refunds", "wait"), ("customers", "show")):
        assert cli(*command, "nobody").code == 4
    assert cli("transactions", "list", "nobody").code == 4
    assert cli("transactions", "reverse", "nobody").code == 4
    assert cli("refunds", "cancel", "nobody", "--reason", "x").code == 4
    assert cli("refunds", "show", "nobody").err == "error: refund nobody is not known (not_found)\n"


def test_export_is_harmless_in_a_spreadsheet_and_complete(shop: Cli, tmp_path: Path) -> None:
    for n, reason in enumerate(("=1+1", "+1", "-1", "@x", "fine")):
        assert shop("refunds", "create", *WITHDRAWAL, "--reason", reason, "--credits", str(n + 1)).code == 0
    rows = list(csv.DictReader(io.StringIO(shop("refunds", "export", "-").out)))
    assert [row["reason"] for row in rows] == ["fine", "'@x", "'-1", "'+1", "'=1+1"]
    assert [(row["currency"], row["requested_minor"]) for row in rows][-1] == ("GBP", "2")
    assert shop("refunds", "export", "out.csv", "--customer", "bob").err == "0 refunds exported\n"
    assert (tmp_path / "out.csv").read_text().startswith("id,status,")


def test_failed_export_leaves_no_file(shop: Cli, tmp_path: Path) -> None:
    before = set(tmp_path.iterdir())
    assert shop("refunds", "export", "nowhere/out.csv").code == 2
    assert set(tmp_path.iterdir()) == before


def test_create_stores_metadata_and_accepts_both_transaction_options(shop: Cli) -> None:
    spend = ("--kind", "credit_refund", "--to", "balance", "--customer", "ann", "--reason", "asked", "-o", "json")
    metadata = ("--metadata", "ticket=7", "--metadata", "query=a=b", "--metadata", "empty=")
    refund = refund_of(shop("refunds", "create", *spend, "--transaction-id", "t1", "--credits", "1", *metadata))
    assert refund["transaction_id"] == "t1"
    assert refund["metadata"] == {"ticket": "7", "query": "a=b", "empty": ""}
    assert refund_of(shop("refunds", "preview", *spend, "--transaction-id", "t1"))["maximum_credits"] == 399
    for wrong in (("ticket",), ("=7",), ("a=1", "--metadata", "a=2"), ("card=4242424242424242",)):
        ran = shop("refunds", "create", *spend, "--transaction", "t1", "--metadata", *wrong)
        assert (ran.code, ran.out, ran.problem["code"]) == (2, "", "invalid_request")
    assert len(shop("refunds", "list", "-o", "json").json["data"]) == 1


def test_lists_have_the_default_length_of_the_http_api(shop: Cli) -> None:
    assert LIMIT_DEFAULT == queries.LIMIT_DEFAULT
    for n in range(LIMIT_DEFAULT + 1):
        assert create(shop, "--credits", "1", "--idempotency-key", f"k{n}").code == 0
        assert shop("customers", "correct", "ann", "--credits", "1", "--reason", "r").code == 0
    for command in (("refunds", "list"), ("transactions", "list", "ann")):
        page = shop(*command, "-o", "json").json
        assert (len(page["data"]), page["has_more"]) == (LIMIT_DEFAULT, True)
        assert len(shop(*command, "--limit", "21", "-o", "json").json["data"]) == 21


def test_export_in_json_is_a_summary_or_the_list_itself(shop: Cli, tmp_path: Path) -> None:
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
def test_failure_code_is_visible_at_every_width(shop: Cli, monkeypatch: pytest.MonkeyPatch, width: int) -> None:
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


def test_destinations_narrow_the_setting(shop: Cli) -> None:
    refund = refund_of(create(shop, "--credits", "100", "--destinations", "payments, manual"))
    assert refund["destinations"] == ["payments", "manual"]
    assert "payments, manual" in shop("refunds", "show", refund["id"]).out
    for wrong in ("bank", "payments,payments", ""):
        ran = create(shop, "--credits", "1", "--destinations", wrong)
        assert (ran.code, ran.problem["field"].split(".")[0]) == (2, "destinations")


def to_payee(*more: str) -> tuple[str, ...]:
    """Return the options of a withdrawal of ann's to a payee."""
    return ("--kind", "withdrawal", "--to", "payout", "--customer", "ann", "--credits", "100", *more)


@pytest.fixture
def payee(shop: Cli, monkeypatch: pytest.MonkeyPatch) -> Cli:
    """Return `shop` after recording two payees who are paid in GBP: maria, who is ann, and one without a customer."""
    accounts = {"stripe": {}, "payer": {"adapter": "tests.support.payee_adapter"}}
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))
    monkeypatch.setenv("REFUND_WORKER_DESTINATIONS_KEY", KEY)
    Path("bank.json").write_text(json.dumps({"kind": "bank", "iban": IBAN, "holder": "Maria Example"}))
    paid = ("--processor-account", "payer", "--currency", "GBP", "--destination", "bank.json")
    assert shop("payees", "create", "maria", *paid, "--customer-id", "ann").code == 0
    assert shop("payees", "create", "other", *paid).code == 0
    return shop


def test_withdrawal_to_a_payee_is_previewed_and_created(payee: Cli) -> None:
    preview = payee("refunds", "preview", *to_payee("--payee", "maria"), "-o", "json").json
    assert (preview["would_be"], preview["credits"]) == ("accepted", 100)
    asked = to_payee("--reason", "cards have expired", "--idempotency-key", "k1", "-o", "json")
    refund = refund_of(payee("refunds", "create", *asked, "--payee", "maria"))
    assert (refund["to"], refund["payee_id"], refund["credits"]) == ("payout", "maria", 100)
    again = refund_of(payee("refunds", "create", *asked, "--payee-id", "maria"))
    assert again["id"] == refund["id"]
    shown = payee("refunds", "show", refund["id"]).out
    assert "withdrawal to payout" in shown
    assert "maria" in shown


@pytest.mark.parametrize(
    ("more", "code", "name"),
    [
        ((), 2, "invalid_request"),
        (("--payee", "other"), 3, "unknown_payee"),
        (("--payee", "nobody"), 3, "unknown_payee"),
        (("--payee", "maria", "--to", "source"), 2, "invalid_request"),
        (("--payee", "maria", "--kind", "credit_refund", "--transaction", "t1"), 2, "invalid_request"),
    ],
)
def test_withdrawal_needs_the_customers_own_payee(payee: Cli, more: tuple[str, ...], code: int, name: str) -> None:
    ran = payee("refunds", "create", *to_payee(*more), "--reason", "asked", "-o", "json")
    assert (ran.code, ran.problem["code"]) == (code, name)
    previewed = payee("refunds", "preview", *to_payee(*more), "-o", "json")
    if code == 2:
        assert previewed.problem["code"] == name
    else:
        assert (previewed.json["would_be"]["code"], previewed.json["maximum_credits"]) == (name, 0)


def test_file_names_the_payee_of_a_withdrawal(payee: Cli) -> None:
    header = REQUESTS.strip() + ",destinations,payee_id\n"
    rows = ["k1,withdrawal,payout,ann,,10,asked,,,,,maria", 'k2,withdrawal,source,ann,,10,asked,,,,"payments,manual",']
    wrong = ["k3,withdrawal,payout,ann,,10,asked,,,,,", "k4,withdrawal,payout,ann,,10,asked,,,,,other"]
    Path("requests.csv").write_text(header + "\n".join([*rows, *wrong]) + "\n")
    ran = payee("refunds", "submit", "requests.csv", "-o", "json")
    assert (ran.code, ran.json["accepted"]) == (3, 2)
    assert [(row["line"], row["code"]) for row in ran.json["rejected"]] == [
        (4, "invalid_request"),
        (5, "unknown_payee"),
    ]
    found = {each["idempotency_key"]: each for each in payee("refunds", "list", "-o", "json").json["data"]}
    assert (found["k1"]["to"], found["k1"]["payee_id"]) == ("payout", "maria")
    assert (found["k2"]["to"], found["k2"]["payee_id"], found["k2"]["destinations"]) == (
        "source",
        None,
        ["payments", "manual"],
    )

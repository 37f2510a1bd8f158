"""`import stripe` records the charges of an account itself, from their metadata, once and without guessing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from tests.cli.conftest import Cli

from refund_worker.processors.sandbox import Sandbox

DAY = 86_400
START = 1_785_542_400  # 2026-08-01
PAID = {"metadata": {"user": "ann", "credits": "100"}}
ROWS: list[dict[str, Any]] = [
    {"processor_payment_id": f"ch_{n:03}", "created": START + n * 60, **PAID} for n in range(205)
]
OTHERS: list[dict[str, Any]] = [
    {"processor_payment_id": "pi_own", **PAID},
    {"processor_payment_id": "pi_intent", "intent_metadata": {"user": "bob", "credits": "7"}},
    {"processor_payment_id": "pi_both", "metadata": {"user": "bob"}, "intent_metadata": {"credits": "8"}},
    {
        "processor_payment_id": "pi_differs",
        "metadata": {"user": "ann"},
        "intent_metadata": {"user": "eve", "credits": "100"},
    },
    {"processor_payment_id": "ch_nobody", "metadata": {"credits": "100"}},
    {"processor_payment_id": "ch_free", "metadata": {"user": "ann"}},
    {"processor_payment_id": "ch_words", "metadata": {"user": "ann", "credits": "many"}},
    {"processor_payment_id": "ch_zero", "metadata": {"user": "ann", "credits": "0"}},
    {"processor_payment_id": "ch_blank", "metadata": {"user": " ann", "credits": "5"}},
    {"processor_payment_id": "ch_uncaptured", "captured_minor": 0, **PAID},
    {"processor_payment_id": "ch_part", "captured_minor": 600, "metadata": {"user": "cyd", "credits": "60"}},
    {"processor_payment_id": "ch_yen", "currency": "JPY", "metadata": {"user": "jun", "credits": "9"}},
    {"processor_payment_id": "ch_early", "created": START - 1, **PAID},
]
KEYS = ("--customer-key", "user", "--credits-key", "credits")
SINCE = ("import", "stripe", "--since", "2026-08-01", "-o", "json")


@pytest.fixture(scope="module")
def account() -> Iterator[Sandbox]:
    with Sandbox() as running:
        usual = {"amount_minor": 1_000, "currency": "EUR", "created": START + 40 * DAY}
        running.register_payments([usual | row for row in (*ROWS, *OTHERS)])
        yield running


@pytest.fixture
def run(cli: Cli, account: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Cli:
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_KEY", "sk_test_import")
    monkeypatch.setenv("REFUND_WORKER_STRIPE_API_BASE", account.url)
    monkeypatch.setenv("REFUND_WORKER_STRIPE_RATE_PER_SECOND", "0")
    return cli


def shown(run: Cli, payment_id: str) -> Any:
    return json.loads(run("payments", "show", payment_id, "-o", "json").out)


def balance(run: Cli, customer: str) -> int:
    found: int = json.loads(run("customers", "show", customer, "-o", "json").out)["balance"]
    return found


def test_each_charge_is_recorded_once_or_skipped_with_a_reason(run: Cli) -> None:
    told = json.loads(run(*SINCE, *KEYS, "--dry-run").out)
    assert (told["imported"], told["dry_run"]) == (210, True)
    assert json.loads(run("payments", "list", "-o", "json").out)["data"] == []
    first = run(*SINCE, *KEYS)
    assert first.code == 3
    report = json.loads(first.out)
    assert (report["imported"], report["unchanged"], report["skipped"]) == (210, 0, 7)
    reasons = {each["processor_payment_id"]: each["code"] for each in report["skipped_charges"]}
    assert reasons == {
        "ch_differs": "contradictory",
        "ch_nobody": "no_customer",
        "ch_free": "no_credits",
        "ch_words": "bad_credits",
        "ch_zero": "bad_credits",
        "ch_blank": "bad_customer",
    }
    assert report["skipped_by_reason"]["not_captured"] == 1
    again = json.loads(run(*SINCE, *KEYS).out)
    assert (again["imported"], again["unchanged"], again["skipped"]) == (0, 210, 7)
    assert [balance(run, name) for name in ("ann", "bob", "cyd", "jun")] == [20_600, 15, 60, 9]
    intent = shown(run, "ch_intent")
    assert (intent["processor_payment_ids"], intent["recorded_by"]) == (["ch_intent", "pi_intent"], "import")
    part = shown(run, "ch_part")
    assert (part["amount_minor"], part["captured_minor"], part["captured_at"]) == (600, 600, "2026-09-10T00:00:00Z")


def test_a_charge_that_a_backend_recorded_stays_as_it_is(run: Cli, tmp_path: Any) -> None:
    header = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at"
    (tmp_path / "p.csv").write_text(f"{header}\norder-1,zoe,stripe,pi_own,999,EUR,5,2026-08-01T00:00:00Z\n")
    run("import", "payments", str(tmp_path / "p.csv"))
    report = json.loads(run("import", "stripe", "--since", "2026-09-01", "-o", "json", *KEYS).out)
    assert (report["unchanged"], shown(run, "order-1")["processor_payment_ids"]) == (1, ["ch_own", "pi_own"])
    assert (shown(run, "order-1")["customer_id"], balance(run, "zoe")) == ("zoe", 5)


def test_credits_can_follow_from_the_money(run: Cli) -> None:
    report = json.loads(run("import", "stripe", "--since", "2026-09-01", "-o", "json", "--customer-key", "user",
                            "--credits-per-major", "1.5").out)  # fmt: skip
    assert report["skipped_by_reason"]["no_customer"] == 1
    assert (balance(run, "cyd"), balance(run, "jun")) == (9, 1_500)


def test_an_import_that_stops_is_continued(run: Cli, account: Sandbox) -> None:
    account.add_fault({"server_error": {}}, match={"path_kind": "charges"}, times=None)
    stopped = run(*SINCE, *KEYS)
    assert (stopped.code, "--since" in stopped.err) == (1, True), stopped.err
    account.clear_faults()
    report = json.loads(run(*SINCE, *KEYS).out)
    assert report["imported"] + report["unchanged"] == 210
    assert balance(run, "ann") == 20_600


def test_charge_whose_metadata_cannot_be_read_stops_the_import(run: Cli, account: Sandbox) -> None:
    account.add_fault({"forbidden": True}, match={"path_kind": "charges"})  # so the list comes without the intents
    account.add_fault({"server_error": {}}, match={"path_kind": "payment_intent"}, times=None)
    stopped = run("import", "stripe", "--since", "2026-09-09", "-o", "json", *KEYS)
    assert (stopped.code, "did not show its payment" in stopped.err) == (1, True), stopped.err
    account.clear_faults()
    assert json.loads(run(*SINCE, *KEYS).out)["skipped_by_reason"].get("no_customer") == 1


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--customer-key", "user"),
        (*KEYS, "--credits-per-major", "1"),
        ("--customer-key", "user", "--credits-per-major", "0"),
    ],
)
def test_import_without_clear_keys_is_refused(run: Cli, options: tuple[str, ...]) -> None:
    assert run(*SINCE, *options).code == 2
    assert run("import", "stripe", "--since", "yesterday", *KEYS).code == 2

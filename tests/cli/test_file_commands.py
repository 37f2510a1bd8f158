"""Commands that import payments and transactions and submit refund requests from files."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.cli.conftest import PAYMENTS, REQUESTS, TRANSACTIONS, Cli

from refund_worker.store.database import Database
from refund_worker.store.tables import metadata

REAL_FILES = Path(__file__).parents[3] / "shared" / "data" / "online-retail"
PAYMENT = "p9,eve,stripe,ch_9,100,GBP,100,2026-01-01T00:00:00Z\n"
REQUEST = "k{n},credit_refund,balance,ann,t1,{credits},asked,,,\n"


def stored() -> dict[str, int]:
    """Return the number of rows of each table, without the tables of the schema version."""
    database = Database(os.environ["REFUND_WORKER_DATABASE_URL"])
    with database.read() as connection:
        counts = {
            name: int(connection.exec_driver_sql(f'SELECT count(*) FROM "{name}"').scalar_one())
            for name in metadata.tables
        }
    database.close()
    return counts


def put(content: str | bytes, name: str = "file.csv") -> str:
    """Write a file into the working directory and return its name."""
    Path(name).write_bytes(content.encode() if isinstance(content, str) else content)
    return name


def test_importing_a_file_twice_stores_nothing_new(cli: Cli) -> None:
    file = put(PAYMENTS + PAYMENT)
    assert cli("import", "payments", file, "-o", "json").json == {"imported": 1, "unchanged": 0, "rejected": []}
    before = stored()
    assert cli("import", "payments", file, "-o", "json").json == {"imported": 0, "unchanged": 1, "rejected": []}
    assert stored() == before


def test_bad_row_is_reported_with_its_line_and_the_rest_is_stored(cli: Cli) -> None:
    huge = PAYMENT.replace("p9", "p8").replace(",100,2026", ",99999999999999999999,2026")
    ran = cli("import", "payments", put(PAYMENTS + "short\n" + huge + PAYMENT), "-o", "json")
    assert ran.code == 3
    assert ran.json["imported"] == 1
    assert [(row["line"], row["code"]) for row in ran.json["rejected"]] == [
        (2, "invalid_request"),
        (3, "invalid_request"),
    ]
    assert stored()["payments"] == 1


def test_import_rejects_another_body_under_a_known_id(shop: Cli) -> None:
    before = stored()
    changed = "p1,ann,stripe,ch_1,9999,GBP,1000,2026-01-01T00:00:00Z\n"
    ran = shop("import", "payments", put(PAYMENTS + changed), "-o", "json")
    assert (ran.code, ran.json["rejected"][0]["code"]) == (3, "already_recorded")
    assert stored() == before


def test_import_rejects_other_kinds_and_overdrafts(shop: Cli) -> None:
    rows = "t2,ann,purchase,1,,2026-01-04T00:00:00Z\nt3,ann,spend,9999,,2026-01-04T00:00:00Z\n"
    rows += "t4,nobody,spend,1,,2026-01-04T00:00:00Z\n"
    ran = shop("import", "transactions", put(TRANSACTIONS + rows), "-o", "json")
    assert ran.code == 3
    assert [(row["line"], row["code"]) for row in ran.json["rejected"]] == [
        (2, "invalid_request"),
        (3, "insufficient_balance"),
        (4, "unknown_customer"),
    ]


UNREADABLE = {
    "binary": b"\x7fELF\0\0\0",
    "empty": b"",
    "unknown column": (REQUESTS.replace("note", "remark") + REQUEST.format(n=1, credits=5)).encode(),
    "missing column": REQUESTS.replace(",note", "").encode(),
    "broken after good rows": (REQUESTS + REQUEST.format(n=1, credits=5) * 600 + '"').encode(),
    "not UTF-8 after good rows": (REQUESTS + REQUEST.format(n=1, credits=5) * 600).encode() + b"\xff\n",
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_unreadable_file_stores_none_of_its_good_rows(shop: Cli, content: bytes) -> None:
    before = stored()
    ran = shop("refunds", "submit", put(content), "-o", "json")
    assert (ran.code, ran.out, ran.problem["code"]) == (2, "", "unreadable_file")
    assert ran.err.splitlines()[0].startswith("error: file.csv")
    assert stored() == before


def test_missing_file_is_reported_in_one_line(cli: Cli) -> None:
    ran = cli("import", "payments", "nowhere.csv")
    assert (ran.code, ran.out) == (2, "")
    assert (
        ran.err == "error: nowhere.csv: No such file or directory: check the name and your rights (unreadable_file)\n"
    )


def test_each_refused_row_has_its_code_and_line(shop: Cli) -> None:
    rows = [
        "k1,credit_refund,balance,ann,t1,300,asked,,,",
        "k2,credit_refund,balance,ann,t1,101,asked,,,",
        "k3,credit_refund,balance,zoe,t1,1,asked,,,",
        "k4,credit_refund,balance,ann,t7,1,asked,,,",
        "k5,credit_refund,balance,ann,t1,-1,asked,,,",
        "k6,credit_refund,balance,ann,t1,1.5,asked,,,",
        "k7,credit_refund,balance,ann,t1,10000000000000,asked,,,",
        "k8,withdrawal,source,bob,,100,asked,,,",
        "k9,withdrawal,balance,ann,,100,asked,,,",
        "k1,credit_refund,balance,ann,t1,300,asked,,,",
        "k1,credit_refund,balance,ann,t1,299,asked,,,",
        "too,few",
    ]
    ran = shop("refunds", "submit", put(REQUESTS + "\n".join(rows)), "-o", "json")
    assert ran.code == 3
    assert {name: ran.json[name] for name in ("accepted", "replayed")} == {"accepted": 1, "replayed": 1}
    assert [(row["line"], row["code"]) for row in ran.json["rejected"]] == [
        (3, "exceeds_refundable"),
        (4, "unknown_customer"),
        (5, "unknown_transaction"),
        (6, "invalid_request"),
        (7, "invalid_request"),
        (8, "invalid_request"),
        (9, "currency_mismatch"),
        (10, "invalid_request"),
        (12, "idempotency_key_reused"),
        (13, "invalid_request"),
    ]
    assert stored()["refunds"] == 1


def test_wrong_currency_is_refused_and_the_right_one_accepted(shop: Cli) -> None:
    header = REQUESTS.replace("\n", ",currency\n")
    rows = "k1,withdrawal,source,ann,,5,asked,,,,EUR\nk2,withdrawal,source,bob,,5,asked,,,,JPY\n"
    ran = shop("refunds", "submit", put(header + rows), "-o", "json")
    assert (ran.json["accepted"], ran.json["rejected"][0]["code"]) == (1, "currency_mismatch")


def test_submitting_the_same_file_twice_only_replays(shop: Cli) -> None:
    file = put(REQUESTS + "".join(REQUEST.format(n=n, credits=1) for n in range(300)))
    first = shop("refunds", "submit", file, "-o", "json")
    before = stored()
    second = shop("refunds", "submit", file, "-o", "json")
    assert (first.code, first.json) == (0, {"accepted": 300, "replayed": 0, "rejected": []})
    assert (second.code, second.json) == (0, {"accepted": 0, "replayed": 300, "rejected": []})
    # One row counts the repeated requests of this customer today.
    assert stored() == before | {"repeated_requests": 1}


def test_json_lines_are_submitted_too(shop: Cli) -> None:
    row = {"idempotency_key": "k1", "kind": "withdrawal", "to": "source", "customer_id": "ann", "reason": "asked"}
    ran = shop("refunds", "submit", put(json.dumps(row | {"metadata": {"ticket": "7"}}), "f.jsonl"), "-o", "json")
    assert ran.json == {"accepted": 1, "replayed": 0, "rejected": []}
    (refund,) = shop("refunds", "list", "-o", "json").json["data"]
    assert (refund["metadata"], refund["client"]) == ({"ticket": "7"}, "cli")


def test_dry_run_counts_earlier_batches_and_stores_nothing(shop: Cli) -> None:
    # t1 has 400 credits left. 250 requests fill the first batch, and the second batch must count their credits.
    file = put(REQUESTS + "".join(REQUEST.format(n=n, credits=1) for n in range(410)))
    before = stored()
    tried = shop("refunds", "submit", file, "--dry-run", "-o", "json")
    assert stored() == before
    done = shop("refunds", "submit", file, "-o", "json")
    assert tried.json["accepted"] == 400
    assert [row["line"] for row in tried.json["rejected"]] == list(range(402, 412))
    assert (tried.code, tried.json) == (done.code, done.json)


def test_dry_run_shows_the_money_by_currency(shop: Cli) -> None:
    header = REQUESTS.replace("\n", ",currency\n")
    rows = "k1,withdrawal,source,ann,,500,asked,,,,\nk2,withdrawal,source,bob,,150,asked,,,,JPY\n"
    ran = shop("refunds", "submit", put(header + rows), "--dry-run")
    assert "10.00 GBP, 150 JPY" in ran.out
    assert "nothing was stored" in ran.out


def test_summary_counts_each_code_and_shows_its_first_lines(shop: Cli) -> None:
    ran = shop("refunds", "submit", put(REQUESTS + REQUEST.replace("ann", "zoe").format(n=1, credits=1) * 5))
    assert "unknown_customer  5" in ran.out
    assert [f"line {line}:" in ran.out for line in range(2, 7)] == [True, True, True, False, False]
    assert "and 2 more" in ran.out


def test_hostile_text_of_a_file_reaches_no_terminal(shop: Cli) -> None:
    row = '"\x1b[31mk1",credit_refund,balance,"[bold]x\x1b]0;t\x07",t1,1,asked,,,\n'
    ran = shop("refunds", "submit", put(REQUESTS + row))
    assert ran.code == 3
    assert "\x1b" not in ran.out + ran.err


@pytest.mark.skipif(not REAL_FILES.is_dir(), reason="the real files are not available")
def test_real_files_give_exactly_the_documented_results(cli: Cli) -> None:
    assert cli("import", "payments", str(REAL_FILES / "payments.csv")).code == 0
    assert cli("import", "transactions", str(REAL_FILES / "transactions.csv")).code == 0
    requests = str(REAL_FILES / "refund_requests.csv")
    tried = cli("refunds", "submit", requests, "--dry-run")
    assert "8,178.48 GBP" in tried.out
    ran = cli("refunds", "submit", requests, "-o", "json")
    codes = [row["code"] for row in ran.json["rejected"]]
    assert (ran.code, ran.json["accepted"]) == (3, 299)
    assert {code: codes.count(code) for code in set(codes)} == {
        "exceeds_refundable": 6,
        "unknown_transaction": 227,
        "unknown_customer": 158,
    }


@pytest.mark.slow
def test_large_file_is_imported_without_being_held_in_memory(cli: Cli) -> None:
    header, row = PAYMENTS, "p{n},c{c},stripe,ch_{n},100,GBP,100,2026-01-01T00:00:00Z\n"
    put(header + "".join(row.format(n=n, c=n % 500) for n in range(1000)), "small.csv")
    put(header + "".join(row.format(n=n, c=n % 500) for n in range(20_000)), "large.csv")
    grown = memory_of("import", "payments", "large.csv") - memory_of("import", "payments", "small.csv")
    assert grown < 15, f"{grown} MB more for 19,000 more rows"


def memory_of(*arguments: str) -> int:
    """Return the maximum memory of a command in MB."""
    code = (
        "import resource, subprocess, sys\n"
        "subprocess.run(sys.argv[1:], check=True, stdout=subprocess.DEVNULL, timeout=120)\n"
        "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", code, sys.executable, "-m", "refund_worker", *arguments]
    ran = subprocess.run(command, check=True, capture_output=True, text=True, timeout=150)
    return int(ran.stdout) // (1024 if sys.platform != "darwin" else 1024 * 1024)

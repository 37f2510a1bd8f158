"""Commands for bank files: what is made, what is written, and bad input."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import pytest
from tests.cli.conftest import Cli

from refund_worker.engine.payouts.process import process_payouts_until_idle
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings


def test_export_without_waiting_payouts_makes_no_file(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = {"bank_file": {"adapter": "bank_file", "debtor_name": "Chats", "debtor_iban": "DE89370400440532013000"}}
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))
    done = cli("payouts", "export", "--folder", str(tmp_path / "outbox"))
    assert (done.code, "no payout waits for a file" in done.err) == (0, True)
    assert not (tmp_path / "outbox").exists()
    assert cli("payouts", "files", "-o", "json").json == {"data": []}


def test_file_is_written_again_unchanged_and_its_answer_pays(
    shop: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accounts = {"bank_file": {"adapter": "bank_file", "debtor_name": "Chats", "debtor_iban": "DE89370400440532013000"}}
    monkeypatch.setenv("REFUND_WORKER_PROCESSORS", json.dumps(accounts))
    monkeypatch.setenv("REFUND_WORKER_DESTINATIONS_KEY", base64.b64encode(b"k" * 32).decode())
    for name in ("PAYEE_COOLDOWN_SECONDS", "EARNINGS_HOLD_SECONDS"):
        monkeypatch.setenv(f"REFUND_WORKER_{name}", "0")
    iban = {"kind": "bank", "iban": "DE89370400440532013000", "holder": "Mara Example"}
    (tmp_path / "bank.json").write_text(json.dumps(iban))
    account = ("--processor-account", "bank_file", "--currency", "EUR", "--destination", "bank.json")
    assert shop("payees", "create", "mara", *account).code == 0
    assert shop("earnings", "record", "e1", "--payee", "mara", "--amount-minor", "5000", "--currency", "EUR").code == 0
    made = shop("payouts", "create", "--payee", "mara", "--currency", "EUR", "--idempotency-key", "k1", "-o", "json")
    with build_runtime(load_settings()) as built:
        process_payouts_until_idle(built.context)
    done = shop("payouts", "export", "--folder", "outbox", "-o", "json")
    assert done.code == 0, done.err
    exported = done.json
    assert exported["file"]["payments"] == 1
    path = Path(exported["file"]["path"])
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_bytes()
    assert b"DE89370400440532013000" in first
    assert shop("payouts", "file", exported["file"]["file_id"], "--folder", "again").code == 0
    assert (Path("again") / path.name).read_bytes() == first
    (tmp_path / "bank.json").write_text(json.dumps(iban | {"iban": "DE02120300000000202051"}))
    assert shop("payees", "update", "mara", *account).code == 0
    written = shop("payouts", "file", exported["file"]["file_id"], "--folder", "again")
    assert f"{made.json['id']}: the payee has another destination" in written.err
    assert "ask the payee before you pay" in shop("payouts", "show", made.json["id"]).out
    path.write_bytes(b"other")
    assert shop("payouts", "file", exported["file"]["file_id"], "--folder", "outbox").code == 5
    reference = shop("payouts", "show", made.json["id"], "-o", "json").json["legs"][0]["object_id"]
    Path("answer.csv").write_text(f"end_to_end_id,status\n{reference},paid\n")
    assert "1 payments of ours" in shop("payouts", "import-answer", "answer.csv").err
    assert shop("payouts", "show", made.json["id"], "-o", "json").json["status"] == "paid"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("export", "--processor-account", "stripe"), 2),
        (("export", "--execution-date", "tomorrow"), 2),
        (("file", "bf_0"), 4),
        (("import-answer", "nowhere.xml"), 2),
    ],
)
def test_bad_input_is_explained(cli: Cli, arguments: tuple[str, ...], code: int) -> None:
    done = cli("payouts", *arguments)
    assert done.code == code
    assert done.err

"""File import: every row has its line number, and an unusable file is refused before any row is accepted."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest
from refund_worker.engine.intake.file_reader import (
    RECORD_BYTES_MAX,
    Rows,
    read_earnings,
    read_payments,
    read_refund_requests,
    read_spends,
    strict_integer,
)
from refund_worker.errors import InvalidRequest, UnreadableFile

PAYMENTS = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at\n"
PAYMENT = "p1,c1,stripe,ch_1,1000,GBP,500,2026-01-01T00:00:00Z\n"
SPENDS = "transaction_id,customer_id,kind,credits,description,occurred_at\n"
REQUESTS = "idempotency_key,kind,to,customer_id,transaction_id,credits,reason,note,requested_by,requested_at\n"
REQUEST = "k1,credit_refund,balance,c1,t1,5,asked,,anna,2026-01-01T00:00:00Z\n"


def written(tmp_path: Path, content: str | bytes, name: str = "file.csv") -> Path:
    """Write the content to a file and return its path."""
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def requests(path: Path) -> Rows[RefundRequest]:
    """Read refund requests from the file as an operator of the command line."""
    return read_refund_requests(path, client="cli", actor="somebody")


def test_a_payment_is_read_with_the_number_of_its_line(tmp_path: Path) -> None:
    rows = read_payments(written(tmp_path, PAYMENTS + PAYMENT))
    record = PaymentRecord(
        payment_id="p1",
        customer_id="c1",
        processor="stripe",
        processor_payment_id="ch_1",
        amount_minor=1000,
        currency="GBP",
        credits=500,
        captured_at=1_767_225_600.0,
    )
    assert (rows.count, list(rows)) == (1, [(2, record)])


@pytest.mark.parametrize(
    ("cells", "captured", "refunded"), [("900,100", 900, 100), (",", None, 0), (",5", None, 5), ("900,", 900, 0)]
)
def test_payment_file_may_add_captured_and_refunded_columns(
    tmp_path: Path, cells: str, captured: int | None, refunded: int
) -> None:
    header, row = PAYMENTS.strip() + ",captured_minor,refunded_minor\n", PAYMENT.strip() + f",{cells}\n"
    ((_, record),) = read_payments(written(tmp_path, header + row))
    assert isinstance(record, PaymentRecord)
    assert (record.captured_minor, record.refunded_minor) == (captured, refunded)


@pytest.mark.parametrize("cells", ["1001.0,", "0,", ",-1", "900,901", ",1001", "x,"])
def test_payment_with_impossible_captured_or_refunded_is_refused(tmp_path: Path, cells: str) -> None:
    header, row = PAYMENTS.strip() + ",captured_minor,refunded_minor\n", PAYMENT.strip() + f",{cells}\n"
    ((_, wrong),) = read_payments(written(tmp_path, header + row))
    assert isinstance(wrong, InvalidRequest)


def test_bom_crlf_blank_lines_and_column_order_change_nothing(tmp_path: Path) -> None:
    content = "\ufeffkind,transaction_id,customer_id,credits,description,occurred_at\r\n\r\n"
    content += 'spend,t1,c1,7,"a, ""b""\nand more",2026-01-01T01:00:00+01:00\r\n'
    content += "spend,t2,c1,8,,2026-01-01T00:00:00Z"
    (first, one), (second, two) = read_spends(written(tmp_path, content))
    assert isinstance(one, SpendRecord)
    assert isinstance(two, SpendRecord)
    assert (first, one.description, one.occurred_at) == (3, 'a, "b"\nand more', 1_767_225_600.0)
    # The record before it spans two lines. Editors count lines, so the line number must count them too.
    assert (second, two.credits, two.description) == (5, 8, "")


def test_what_a_spreadsheet_adds_to_a_table_changes_nothing(tmp_path: Path) -> None:
    """Rows of commas, capitals and blanks in the header, columns without a name, cells behind the last column."""
    header = " Payment_ID,CUSTOMER_ID ,processor,,processor_payment_id,amount_minor,currency,Credits,captured_at,,\n"
    first = "p1,c1,stripe,,ch_1,1000,GBP,500,2026-01-01T00:00:00Z,,\n"
    second = "p2,c1,stripe, ,ch_2,1000,GBP,500,2026-01-01T00:00:00Z,,,,\n"
    empty = ",,,,,,,,,,\n , ,\t,,,,,,,,\n"
    rows = read_payments(written(tmp_path, header + empty + first + empty + second + empty))
    assert [(line, type(row), getattr(row, "payment_id", row)) for line, row in rows] == [
        (4, PaymentRecord, "p1"),
        (7, PaymentRecord, "p2"),
    ]
    assert rows.count == 2


def test_rows_may_end_before_the_columns_without_a_name(tmp_path: Path) -> None:
    content = PAYMENTS.strip() + ", ,\n" + PAYMENT.strip() + "\n" + PAYMENT.strip() + ",\n"
    assert [type(row) for _, row in read_payments(written(tmp_path, content))] == [PaymentRecord, PaymentRecord]


@pytest.mark.parametrize("header", [PAYMENTS, PAYMENTS.strip() + ",captured_minor,refunded_minor,\n"])
def test_row_that_lacks_a_named_column_is_refused(tmp_path: Path, header: str) -> None:
    row = ",".join(PAYMENT.strip().split(",")[: header.strip().strip(",").count(",")])
    ((_, wrong),) = read_payments(written(tmp_path, header + row + "\n"))
    assert isinstance(wrong, InvalidRequest)
    assert "fields where the header has" in wrong.message


def test_a_value_without_a_column_is_an_error_of_its_row(tmp_path: Path) -> None:
    content = PAYMENTS.strip() + ",\n" + PAYMENT.strip() + ",7\n" + PAYMENT.strip() + ",,7\n" + PAYMENT.strip() + ",\n"
    ((_, nameless), (_, surplus), (_, right)) = read_payments(written(tmp_path, content))
    assert isinstance(nameless, InvalidRequest)
    assert isinstance(surplus, InvalidRequest)
    assert isinstance(right, PaymentRecord)
    ((_, before),) = read_payments(written(tmp_path, "," + PAYMENTS.strip() + "\n7," + PAYMENT.strip() + "\n"))
    assert isinstance(before, InvalidRequest)
    assert "no name in the header" in before.message


def test_a_column_in_two_spellings_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match="repeated column"):
        read_payments(written(tmp_path, PAYMENTS.strip() + ",Credits\n" + PAYMENT.strip() + ",9\n"))


def test_a_request_says_who_asked_and_empty_cells_say_nothing(tmp_path: Path) -> None:
    rows = requests(written(tmp_path, REQUESTS + REQUEST + "k2,withdrawal,source,c1,,,asked,,,\n"))
    (_, first), (_, second) = rows
    assert isinstance(first, RefundRequest)
    assert isinstance(second, RefundRequest)
    assert (first.requested_by, first.client, first.bulk, first.requested_at) == ("anna", "cli", True, 1_767_225_600.0)
    assert (first.actor, second.actor) == ("somebody", "somebody"), "who submits the file, whatever a row says"
    assert (second.requested_by, second.transaction_id, second.credits, second.kind) == (
        None,
        None,
        None,
        Kind.WITHDRAWAL,
    )


def test_request_file_may_add_a_payee(tmp_path: Path) -> None:
    header = REQUESTS.strip() + ",payee_id\n"
    rows = "k1,withdrawal,payout,c1,,,asked,,,,maria\nk2,withdrawal,source,c1,,,asked,,,,\n"
    (_, payout), (_, source) = requests(written(tmp_path, header + rows))
    assert isinstance(payout, RefundRequest)
    assert isinstance(source, RefundRequest)
    assert [(each.to, each.payee_id) for each in (payout, source)] == [("source", "maria"), ("source", None)]


def test_empty_payee_of_an_earning_is_refused(tmp_path: Path) -> None:
    rows = "earning_id,payee_id,amount_minor,currency,description\ne1,,5,EUR,\n"
    ((_, wrong),) = read_earnings(written(tmp_path, rows))
    assert isinstance(wrong, InvalidRequest)
    assert wrong.message == "payee_id: must not be empty"


def test_a_currency_may_be_written_in_lower_case_and_is_the_same(tmp_path: Path) -> None:
    (_, upper), (_, lower) = read_payments(written(tmp_path, PAYMENTS + PAYMENT + PAYMENT.replace("GBP", "gbp")))
    assert upper == lower


def test_a_column_for_the_currency_is_allowed(tmp_path: Path) -> None:
    content = REQUESTS.replace("\n", ",currency\n") + REQUEST.replace("\n", ",EUR\n")
    ((_, request),) = requests(written(tmp_path, content))
    assert isinstance(request, RefundRequest)
    assert request.currency == "EUR"


def test_json_lines_may_carry_metadata_and_leave_out_what_is_optional(tmp_path: Path) -> None:
    row = {"idempotency_key": "k1", "kind": "withdrawal", "to": "source", "customer_id": "c1", "reason": "asked"}
    content = json.dumps(row | {"metadata": {"ticket": "T-1"}, "credits": 5}) + "\n\n" + json.dumps(row)
    (first, one), (second, two) = requests(written(tmp_path, content, "file.jsonl"))
    assert isinstance(one, RefundRequest)
    assert isinstance(two, RefundRequest)
    assert (first, dict(one.metadata), one.credits) == (1, {"ticket": "T-1"}, 5)
    assert (second, two.credits, two.actor) == (3, None, "somebody")


UNREADABLE = {
    "empty": b"",
    "only blank lines": b"\n\n",
    "binary": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "a NUL late in the file": (PAYMENTS + PAYMENT * 3).encode() + b"p\0,",
    "latin-1 late in the file": (PAYMENTS + PAYMENT * 3).encode() + b"M\xfcller\n",
    "UTF-16": (PAYMENTS + PAYMENT).encode("utf-16"),
    "gzip": gzip.compress((PAYMENTS + PAYMENT).encode()),
    "spreadsheet": b"PK\x03\x04" + b"x" * 50,
    "unknown column": (PAYMENTS.replace("credits", "credit") + PAYMENT).encode(),
    "missing column": PAYMENTS.replace(",captured_at", "").encode(),
    "repeated column": PAYMENTS.replace("credits", "currency").encode(),
    "one column too many": PAYMENTS.replace("\n", ",note\n").encode(),
    "no header": PAYMENT.encode(),
    "semicolons": (PAYMENTS + PAYMENT).replace(",", ";").encode(),
    "a quote never closed": (PAYMENTS + PAYMENT + '"' + PAYMENT * 3).encode(),
    "text behind a closing quote": (PAYMENTS + PAYMENT + '"p2"x,c1\n').encode(),
    "a quote that swallows much": (PAYMENTS + '"' + PAYMENT * 40_000).encode(),
    "a line without end": (PAYMENTS + "p" * (RECORD_BYTES_MAX + 1)).encode(),
    "a record of many quoted lines": (PAYMENTS + '"a\nb",' * (RECORD_BYTES_MAX // 6 + 1)).encode(),
}


@pytest.mark.parametrize("content", UNREADABLE.values(), ids=UNREADABLE.keys())
def test_an_unreadable_file_gives_not_even_its_good_rows(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(UnreadableFile) as refused:
        read_payments(written(tmp_path, content))
    assert str(tmp_path / "file.csv") in refused.value.message
    assert "\n" not in refused.value.message


def test_the_place_of_what_is_unreadable_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"line 3: this is not UTF-8"):
        read_payments(written(tmp_path, (PAYMENTS + PAYMENT).encode() + b"M\xfcller\n"))
    with pytest.raises(UnreadableFile, match=r"line 3: broken CSV"):
        read_payments(written(tmp_path, PAYMENTS + PAYMENT + '"' + PAYMENT))
    with pytest.raises(UnreadableFile, match=r"line 2: broken CSV"):  # where the record begins, not where it ends
        read_payments(written(tmp_path, PAYMENTS + '"a\nb\nc"d,' + PAYMENT))
    with pytest.raises(UnreadableFile, match=r'line 1: unknown column "credit" in the header: the columns are payment'):
        read_payments(written(tmp_path, PAYMENTS.replace("credits", "credit")))


@pytest.mark.parametrize("name", [".", "missing.csv", "no\0name.csv", "missing/file.csv"])
def test_what_is_not_a_file_is_said_to_be_none(tmp_path: Path, name: str) -> None:
    with pytest.raises(UnreadableFile):
        read_payments(tmp_path / name)


def test_a_pipe_is_refused_instead_of_waited_for(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UnreadableFile, match="not a regular file"):
        read_payments(tmp_path / "pipe.csv")


def test_a_file_of_another_kind_is_not_guessed_at(tmp_path: Path) -> None:
    with pytest.raises(UnreadableFile, match=r"\.csv or \.jsonl"):
        requests(written(tmp_path, REQUESTS + REQUEST, "file.txt"))
    with pytest.raises(UnreadableFile, match="not JSON lines"):
        requests(written(tmp_path, REQUESTS + REQUEST, "file.jsonl"))


def test_a_file_that_changed_since_it_was_looked_at_gives_nothing(tmp_path: Path) -> None:
    rows = read_payments(written(tmp_path, PAYMENTS + PAYMENT))
    written(tmp_path, PAYMENTS + PAYMENT * 2)
    with pytest.raises(UnreadableFile, match="was changed"):
        next(iter(rows))


@pytest.mark.parametrize(
    "bad",
    ["-5", "0", "1.5", "1e3", "+5", " 5", "5 ", "1_000", "1,000", "٥", "0x10", "", "NaN", "9" * 13, "9" * 6000, "--5"],
)
def test_invalid_credits_are_an_error_of_their_row_alone(tmp_path: Path, bad: str) -> None:
    content = PAYMENTS + PAYMENT + f'p2,c1,stripe,ch_2,1000,GBP,"{bad}",2026-01-01T00:00:00Z\n' + PAYMENT
    good, (line, wrong), also_good = read_payments(written(tmp_path, content))
    assert line == 3
    assert isinstance(wrong, InvalidRequest)
    assert wrong.field == "credits"
    assert isinstance(good[1], PaymentRecord)
    assert isinstance(also_good[1], PaymentRecord)


@pytest.mark.parametrize(
    "row",
    [
        "p1,c1,stripe,ch_1,1000,GBP,500\n",
        "p1,c1,stripe,ch_1,1000,GBP,500,2026-01-01T00:00:00Z,more\n",
        PAYMENT.replace("GBP", "gbß"),
        PAYMENT.replace("GBP", "gbı"),
        PAYMENT.replace("GBP", "POUND"),
        PAYMENT.replace("2026-01-01T00:00:00Z", "yesterday"),
        PAYMENT.replace("00Z", "00"),
        PAYMENT.replace("ch_1", "tr_1"),
        PAYMENT.replace("c1", ""),
        PAYMENT.replace("c1", "c/../1"),
    ],
)
def test_a_bad_row_is_an_error_with_its_line_and_the_next_one_is_read(tmp_path: Path, row: str) -> None:
    (line, wrong), (_, good) = read_payments(written(tmp_path, PAYMENTS + row + PAYMENT))
    assert (line, type(wrong)) == (2, InvalidRequest)
    assert isinstance(good, PaymentRecord)


def test_transactions_that_are_not_spends_are_row_errors(tmp_path: Path) -> None:
    content = SPENDS + "t1,c1,purchase,5,,2026-01-01T00:00:00Z\n"
    ((_, wrong),) = read_spends(written(tmp_path, content))
    assert isinstance(wrong, InvalidRequest)
    assert wrong.field == "kind"


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"credits": 1, "credits": 2}',
        '{"credits": NaN}',
        '{"credits": 5.0}',
        '{"credits": "5"}',
        '{"credits": true}',
        '{"credits": ' + "9" * 5000 + "}",
        '{"surprise": 1}',
        '{"note": "\\u0000"}',
        '{"note": "\\ud800"}',
        '{"metadata": {"a": {"b": 1}}}',
        '{"idempotency_key": 5}',
        '{"requested_at": "soon"}',
        '{"customer_id": ' * 20_000,
    ],
    ids=lambda line: line[:30],
)
def test_a_bad_json_line_is_an_error_of_its_row_alone(tmp_path: Path, line: str) -> None:
    good = {"idempotency_key": "k1", "kind": "withdrawal", "to": "source", "customer_id": "c1", "reason": "asked"}
    if line.startswith('{"') and line.endswith("}") and 'credits": 1' not in line:
        line = json.dumps(good)[:-1] + ", " + line[1:]
    content = "\n".join([json.dumps(good), line, json.dumps(good)])
    (_, first), (number, wrong), (_, last) = requests(written(tmp_path, content, "file.jsonl"))
    assert number == 2
    assert isinstance(wrong, InvalidRequest)
    assert isinstance(first, RefundRequest)
    assert isinstance(last, RefundRequest)


def test_an_integer_is_digits_of_this_script() -> None:
    assert (strict_integer("-5", "credits"), strict_integer("007", "credits")) == (-5, 7)
    for text in ("", "-", "+1", "1 ", "1\n", "１", "1.0"):
        with pytest.raises(InvalidRequest):
            strict_integer(text, "credits")


PYTHONS_WORDS = ("sys.", "recursion", "digits)", "Value should", "Dictionary should", "codec", "Exceeds")


@pytest.mark.parametrize(
    ("more", "told"),
    [
        ('"credits": ' + "9" * 5000, "more digits than any amount"),
        ('"note": ' + '{"a": ' * 100_000, "nested far too deeply"),
        ('"metadata": {' + ",".join(f'"k{n}": ""' for n in range(21)) + "}", "at most 20 of them"),
        ('"note": "", "customer_id": ""', "there twice"),
        ('"transaction_id": ""', "must not be empty"),
        ('"note": "\\ud800"', "half a character"),
        ('"currency": "GPB"', "must be a currency of ISO 4217"),
        ('"note": x', "not a JSON object: Expecting value"),
    ],
)
def test_errors_of_json_lines_contain_no_python_wording(tmp_path: Path, more: str, told: str) -> None:
    whole = {"idempotency_key": "k", "kind": "withdrawal", "to": "source", "customer_id": "c", "reason": "asked"}
    line = f"{json.dumps(whole)[:-1]}, {more}}}"
    (bad, good) = requests(written(tmp_path, f"{line}\n{json.dumps(whole)}\n", "file.jsonl"))
    assert isinstance(good[1], RefundRequest)
    assert isinstance(bad[1], InvalidRequest)
    assert told in bad[1].message
    assert not any(words in bad[1].message for words in (*PYTHONS_WORDS, "line 1 column", "(char "))


@pytest.mark.parametrize(
    "content", [b"\xff\xfe{\0", b'{"a": "\xff"}', b"{\0}", b"\x1f\x8b", b"PK\x03\x04", b"{}" * RECORD_BYTES_MAX]
)
def test_who_gives_json_lines_is_not_told_of_csv(tmp_path: Path, content: bytes) -> None:
    for name, kind, other in (("file.jsonl", "JSON", "CSV"), ("file.csv", "CSV", "JSON")):
        with pytest.raises(UnreadableFile) as refused:
            requests(written(tmp_path, content, name))
        if "save it" in refused.value.message or "save the file" in refused.value.message:
            assert kind in refused.value.message
        assert other not in refused.value.message
        assert ("quote" in refused.value.message) <= (name == "file.csv")


def test_line_ends_of_cr_alone_are_told_as_such(tmp_path: Path) -> None:
    request = '{"idempotency_key": "k"}'
    contents = {
        "file.csv": REQUESTS + REQUEST * 3,
        "long.csv": REQUESTS + REQUEST * (RECORD_BYTES_MAX // len(REQUEST) + 10),
        "file.jsonl": f"{request}\n" * 3,
        "long.jsonl": f"{request}\n" * (RECORD_BYTES_MAX // len(request) + 10),
    }
    for name, content in contents.items():
        with pytest.raises(UnreadableFile, match="CR alone"):
            requests(written(tmp_path, content.replace("\n", "\r"), name))
    (one, _) = requests(written(tmp_path, (REQUESTS + REQUEST * 2).replace("\n", "\r\n")))
    assert isinstance(one[1], RefundRequest)

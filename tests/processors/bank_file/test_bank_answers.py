"""A bank's answer: each status and reason in each format, and files that are no answer."""

from __future__ import annotations

import contextlib
from datetime import date
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.processors.bank_file.bank_documents import (
    ISO,
    detail,
    document,
    entry,
    reasons,
    report,
    statement,
    status_of,
)
from tests.processors.bank_file.payments_for_tests import FILE, id_of

from refund_worker.domain.payouts.transfers import Fault
from refund_worker.domain.refund import ObjectState
from refund_worker.processors.bank_file import iso_xml
from refund_worker.processors.bank_file.answer_rows import BankAnswerRow
from refund_worker.processors.bank_file.answers import BadAnswer, BankAnswer, read_answer
from refund_worker.processors.bank_file.reasons import DUPLICATES, FAULT_OF

S = ObjectState
FIRST = id_of(1)


def only(answer: BankAnswer) -> BankAnswerRow:
    (row,) = answer.rows
    return row


def verdict(row: BankAnswerRow) -> tuple[ObjectState | None, str | None, Fault | None]:
    return row.state, row.failure_code, row.fault


def line(text: str, columns: str = "end_to_end_id,status,reason,date,returned_minor,currency") -> bytes:
    return f"{columns}\n{text}\n".encode()


# --- our CSV form -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "reason", "expected"),
    [
        ("sent", "", (S.PENDING, None, None)),
        ("paid", "", (S.SUCCEEDED, None, None)),
        ("Rejected", "ac04", (S.FAILED, "AC04", Fault.PAYEE)),
        ("rejected", "MS03", (S.FAILED, "MS03", None)),
        ("rejected", "XX99", (None, "XX99", None)),
        ("rejected", "AM05", (None, "AM05", None)),
        ("returned", "", (S.FAILED, None, None)),
        ("returned", "RR04", (S.FAILED, "RR04", Fault.COMPLIANCE)),
        ("returned", "XX99", (S.FAILED, "XX99", None)),
        ("returned", "DUPL", (None, "DUPL", None)),
    ],
)
def test_each_word_of_a_csv_file_has_its_meaning(status: str, reason: str, expected: tuple[Any, ...]) -> None:
    answer = read_answer(line(f"{FIRST},{status},{reason},2026-12-01,,"))
    assert (answer.form, answer.files, answer.others) == ("csv", (), 0)
    assert verdict(only(answer)) == expected
    assert (only(answer).end_to_end_id, only(answer).day) == (FIRST, date(2026, 12, 1))


def test_spreadsheet_may_write_semicolons_a_mark_and_capitals() -> None:
    body = f"\ufeffStatus;End_To_End_Id;Returned_Minor;Currency\r\nreturned;{FIRST.upper()};1250;EUR\r\n\r\n"
    row = only(read_answer(body.encode()))
    assert (row.end_to_end_id, row.returned_minor, row.currency) == (FIRST, 1250, "EUR")
    assert row.state is S.FAILED


def test_rows_keep_their_order_and_repeated_ones_count_once() -> None:
    body = line(f"{FIRST},paid,,,,\n{id_of(2)},sent,,,,\n{FIRST},returned,AC04,,,\n{FIRST},paid,,,,")
    answer = read_answer(body)
    assert [(row.end_to_end_id, row.status) for row in answer.rows] == [
        (FIRST, "paid"),
        (id_of(2), "sent"),
        (FIRST, "returned"),
    ]
    assert answer == read_answer(body)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("DE89370400440532013000,paid,,,,", "line 3: end_to_end_id is no id"),
        (f"{FIRST},booked,,,,", "line 3: status must be one of sent, paid, rejected, returned"),
        (f"{FIRST},canceled,,,,", "line 3: status"),
        (f"{FIRST},rejected,,,,", "line 3: rejected needs the bank's reason"),
        (f"{FIRST},paid,,01.12.2026,,", "line 3: date must be"),
        (f"{FIRST},paid,,2026-13-01,,", "line 3: date must be"),
        (f"{FIRST},paid,,2026-12-01T00:00:00,,", "line 3: date must be"),
        (f"{FIRST},paid,,,1250,EUR", "line 3: returned_minor belongs to"),
        (f"{FIRST},returned,,,12.50,EUR", "line 3: returned_minor must be a whole number"),
        (f"{FIRST},returned,,,0,EUR", "line 3: returned_minor must be"),
        (f"{FIRST},returned,,,9999999999999,EUR", "line 3: returned_minor must be"),
        (f"{FIRST},returned,,,1250,", "line 3: returned_minor needs a currency"),
        (f"{FIRST},returned,,,,euro", "line 3: currency must be"),
        (f"{FIRST},paid", "line 3: 2 cells, and line 1 has 6"),
        (f'{FIRST},"paid"x,,,,', "line 3: no well-formed CSV"),
        (f'{FIRST},"paid', "no well-formed CSV"),
    ],
)
def test_bad_line_is_named_and_nothing_is_read(text: str, why: str) -> None:
    with pytest.raises(BadAnswer, match=why) as caught:
        read_answer(line(f"{id_of(2)},paid,,,,\n{text}"))
    assert "DE89" not in str(caught.value)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (b"", "no line of a payment"),
        (line("", "end_to_end_id,status"), "no line of a payment"),
        (line(f"{FIRST}", "end_to_end_id"), "column status is missing"),
        (line(f"{FIRST},paid,x", "end_to_end_id,status,iban"), "a column is unknown"),
        (line(f"{FIRST},paid,paid", "end_to_end_id,status,status"), "there twice"),
        ("end_to_end_id,status\nÄ,paid".encode("latin-1"), "not UTF-8"),
        (b"%PDF-1.7 is no answer", "column end_to_end_id is missing"),
    ],
)
def test_file_without_our_columns_is_refused(body: bytes, why: str) -> None:
    with pytest.raises(BadAnswer, match=why):
        read_answer(body)


# --- pain.002 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        *[(code, S.PENDING) for code in ("ACCP", "ACFC", "ACSP", "ACTC", "ACWC", "ACWP", "PATC", "PDNG", "RCVD")],
        *[(code, S.SUCCEEDED) for code in ("ACSC", "ACCC")],
        ("CANC", S.CANCELED),
        *[(code, None) for code in ("BLCK", "XXXX", "PART", "RJCT")],
        (None, None),
    ],
)
@pytest.mark.parametrize("kind", ["pain.002.001.03", "pain.002.001.10", "pain.002.001.14"])
def test_each_status_of_a_report_has_its_meaning(status: str | None, expected: ObjectState | None, kind: str) -> None:
    answer = read_answer(report(FILE, [status_of(FIRST.upper(), status)], kind=kind))
    row = only(answer)
    assert (answer.form, answer.files) == ("pain.002", ())
    assert (row.end_to_end_id, row.status, row.day) == (FIRST, status or "none", date(2026, 12, 1))
    assert row.state is expected


@pytest.mark.parametrize("code", sorted(FAULT_OF))
def test_rejection_for_a_known_reason_is_a_failure(code: str) -> None:
    row = only(read_answer(report(FILE, [status_of(FIRST, "RJCT", code)])))
    assert verdict(row) == (S.FAILED, code, FAULT_OF[code])
    assert row.returned_minor is None


@pytest.mark.parametrize(
    ("codes", "expected"),
    [
        *[((code,), (None, code, None)) for code in sorted(DUPLICATES)],
        (("AC04", "AM05"), (None, "AM05", None)),
        (("OWN-CODE-7", "AC04"), (S.FAILED, "AC04", Fault.PAYEE)),
        (("OWN-CODE-7",), (None, "OWN-CODE-7", None)),
        (("ZZ99",), (None, "ZZ99", None)),
    ],
)
def test_rejection_of_a_copy_or_for_an_unknown_reason_needs_a_person(
    codes: tuple[str, ...], expected: tuple[Any, ...]
) -> None:
    assert verdict(only(read_answer(report(FILE, [status_of(FIRST, "RJCT", *codes)])))) == expected


def test_reasons_of_the_file_hold_for_payments_without_their_own() -> None:
    answer = read_answer(
        report(
            FILE,
            [status_of(FIRST, "RJCT"), status_of(id_of(2), "RJCT", "AC01")],
            part=f"<PmtInfSts>RJCT</PmtInfSts>{reasons('AM04')}",
        )
    )
    assert [(row.failure_code, row.fault) for row in answer.rows] == [("AM04", Fault.OURS), ("AC01", Fault.PAYEE)]


@pytest.mark.parametrize(
    ("group", "expected"),
    [
        (f"<GrpSts>RJCT</GrpSts>{reasons('FF01')}", (S.FAILED, "FF01", Fault.OURS)),
        (f"<GrpSts>RJCT</GrpSts>{reasons('DU01')}", (None, "DU01", None)),
        ("<GrpSts>RJCT</GrpSts>", (None, None, None)),
        ("<GrpSts>ACTC</GrpSts>", (S.PENDING, None, None)),
        ("<GrpSts>ACSC</GrpSts>", (S.SUCCEEDED, None, None)),
    ],
)
def test_status_of_the_whole_file_names_the_file(group: str, expected: tuple[Any, ...]) -> None:
    answer = read_answer(report(FILE.upper(), group=group))
    (of_file,) = answer.files
    assert answer.rows == ()
    assert (of_file.message_id, of_file.day) == (FILE, date(2026, 12, 1))
    assert (of_file.state, of_file.failure_code, of_file.fault) == expected


def test_status_of_the_one_part_is_that_of_the_file() -> None:
    rejected = f"<PmtInfSts>RJCT</PmtInfSts>{reasons('AM04')}"
    (of_file,) = read_answer(report(FILE, part=rejected)).files
    assert (of_file.message_id, of_file.state, of_file.failure_code) == (FILE, S.FAILED, "AM04")
    group = f"<GrpSts>RJCT</GrpSts>{reasons('AM04')}"
    assert read_answer(report(FILE, group=group, part=rejected)).files == (of_file,)


def test_file_that_is_accepted_in_part_has_no_status_of_its_own() -> None:
    answer = read_answer(report(FILE, [status_of(FIRST, "ACSC")], group="<GrpSts>PART</GrpSts>"))
    assert (answer.files, only(answer).state) == ((), S.SUCCEEDED)


def test_report_names_amounts_and_counts_payments_of_others() -> None:
    amount = '<InstdAmt Ccy="EUR">12.5</InstdAmt>'
    payments = [
        status_of(FIRST, "ACSC", amount=amount),
        status_of("NOTPROVIDED", "RJCT"),
        status_of("SALARY-7", "ACSC"),
    ]
    answer = read_answer(report(FILE, payments))
    assert (only(answer).amount_minor, only(answer).currency, answer.others) == (1250, "EUR", 2)
    assert answer == read_answer(report(FILE, payments))
    assert "Mia" not in repr(answer)


@pytest.mark.parametrize(
    ("body", "why"),
    [
        (document("pain.002.001.10", "<CstmrPmtStsRpt><GrpHdr/></CstmrPmtStsRpt>"), "has no GrpHdr/CreDtTm"),
        (report(FILE).replace(b"2026-12-01T", b"yesterday "), "GrpHdr/CreDtTm is no time"),
        (report("").replace(b"<OrgnlMsgId></OrgnlMsgId>", b""), "OrgnlGrpInfAndSts has no OrgnlMsgId"),
        (report(FILE, [status_of(FIRST, "ACSC", amount='<InstdAmt Ccy="EUR">1,5</InstdAmt>')]), "TxInfAndSts/InstdAmt"),
        (report(FILE, [status_of(FIRST, "ACSC", amount="<InstdAmt>1.5</InstdAmt>")]), "has no currency"),
        (document("pain.001.001.09", "<CstmrCdtTrfInitn/>"), "a message pain.001 is no answer"),
        (document("camt.052.001.08", "<BkToCstmrAcctRpt/>"), "a message camt.052 is no answer"),
        (document("camt.053.001.08", "<BkToCstmrAcctRpt/>"), "has no BkToCstmrStmt"),
        (b"<html><body>Please sign in</body></html>", "no message of ISO 20022"),
        (report(FILE)[:-20], "no well-formed XML"),
    ],
)
def test_damaged_message_is_refused_with_its_element(body: bytes, why: str) -> None:
    with pytest.raises(BadAnswer, match=why):
        read_answer(body)


# --- account statements -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["camt.053.001.02", "camt.053.001.08", "camt.054.001.02", "camt.054.001.12"])
def test_booked_debit_is_paid_and_a_returned_credit_has_failed(kind: str) -> None:
    answer = read_answer(
        statement(
            entry(detail(FIRST), "DBIT"),
            entry(detail(FIRST, reason="AC04"), "CRDT", "11.00"),
            kind=kind,
        )
    )
    paid, returned = answer.rows
    assert answer.form == kind[:8]
    assert (paid.status, paid.state, paid.amount_minor, paid.returned_minor) == ("booked", S.SUCCEEDED, 1250, None)
    assert (returned.status, *verdict(returned)) == ("returned", S.FAILED, "AC04", Fault.PAYEE)
    assert (returned.amount_minor, returned.returned_minor, returned.currency) == (None, 1100, "EUR")
    assert (paid.day, paid.trace) == (date(2026, 12, 2), "REF-1")


def test_payments_of_one_booking_have_their_own_amounts() -> None:
    older = '<TxDtls><Refs><EndToEndId>{}</EndToEndId></Refs><AmtDtls><TxAmt><Amt Ccy="EUR">{}</Amt></TxAmt></AmtDtls>'
    details = [
        detail(FIRST, "3.00"),
        older.format(id_of(2), "4.00") + "</TxDtls>",
        detail(id_of(3)),
        detail("RENT"),
        detail(None),
    ]
    answer = read_answer(statement(entry("".join(details), amount="99.00")))
    assert [row.amount_minor for row in answer.rows] == [300, 400, None]
    assert answer.others == 2


@pytest.mark.parametrize("status", ["<Cd>PDNG</Cd>", "PDNG", "INFO", ""])
def test_entry_that_is_not_booked_says_nothing(status: str) -> None:
    assert read_answer(statement(entry(detail(FIRST), status=status))).rows == ()


@pytest.mark.parametrize(
    ("text", "status"),
    [
        (entry(detail(FIRST), "CRDT"), "credited"),
        (entry(detail(FIRST, reason="AC04"), "DBIT"), "reversed"),
        (entry(detail(FIRST), "CRDT", more="<RvslInd>true</RvslInd>"), "reversed"),
        (entry(detail(FIRST, reason="AC04"), "CRDT", more="<RvslInd>1</RvslInd>"), "reversed"),
        (entry(detail(FIRST, reason="AM05"), "CRDT"), "returned"),
    ],
)
def test_booking_that_is_neither_payment_nor_return_needs_a_person(text: str, status: str) -> None:
    row = only(read_answer(statement(text)))
    assert (row.status, row.state) == (status, None)


def test_return_without_a_reason_is_known_by_its_code() -> None:
    code = "<BkTxCd><Domn><Cd>PMNT</Cd><Fmly><Cd>ICDT</Cd><SubFmlyCd>RRTN</SubFmlyCd></Fmly></Domn></BkTxCd>"
    row = only(read_answer(statement(entry(detail(FIRST), "CRDT", more=code))))
    assert (row.status, *verdict(row), row.returned_minor) == ("returned", S.FAILED, None, None, 1250)


def test_side_of_one_payment_is_more_precise_than_its_entry() -> None:
    row = only(read_answer(statement(entry(detail(FIRST, "1.00", side="DBIT"), "CRDT"))))
    assert (row.status, row.state) == ("booked", S.SUCCEEDED)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        (entry(detail(FIRST, "1.234")), "Ntry 2/Amt"),
        (entry(detail(FIRST)).replace("2026-12-02", "02.12.2026"), "Ntry 2/BookgDt is no day"),
        (entry(detail(FIRST)).replace("<CdtDbtInd>DBIT</CdtDbtInd>", ""), "Ntry has no CdtDbtInd"),
    ],
)
def test_damaged_entry_is_named_by_its_number(text: str, why: str) -> None:
    with pytest.raises(BadAnswer, match=why):
        read_answer(statement(entry(detail(id_of(2))), text))


# --- hostile files ----------------------------------------------------------------------------------------------------

BOMB = b'<!DOCTYPE a [<!ENTITY a "x"><!ENTITY b "&a;&a;&a;">]>'


@pytest.mark.parametrize(
    "body",
    [
        report(FILE).replace(b"<Document", BOMB + b"<Document"),
        report(FILE).replace(b"<Document", b'<!DOCTYPE Document SYSTEM "file:///etc/passwd"><Document'),
        report(FILE).decode().replace("UTF-8", "UTF-16").encode("utf-16"),
        report(FILE).replace(b'"UTF-8"', b'"UTF-7"'),
        document("pain.002.001.10", "<a>" * 100 + "</a>" * 100),
        document("pain.002.001.10", "<a/><b/>"),
        report(FILE).replace(ISO.encode(), b"urn:other:"),
    ],
    ids=["bomb", "other file", "UTF-16", "UTF-7", "depth", "two messages", "other namespace"],
)
def test_hostile_message_is_refused(body: bytes) -> None:
    with pytest.raises(BadAnswer):
        read_answer(body)


def test_file_that_is_too_large_is_refused_unread() -> None:
    with pytest.raises(BadAnswer, match="more than 16777216 bytes"):
        read_answer(b"x" * (iso_xml.XML_BYTES_MAX + 1))


@given(st.one_of(st.binary(max_size=200), st.text("<>/;,\"'=&aenddt_oi \n\ufeff", max_size=80).map(str.encode)))
def test_any_bytes_are_an_answer_or_refused(body: bytes) -> None:
    with contextlib.suppress(BadAnswer):
        read_answer(body)


@given(st.sampled_from(["report", "statement"]), st.integers(0, 2_000), st.binary(max_size=3))
def test_any_damage_gives_an_answer_or_an_error_of_ours(of: str, place: int, damage: bytes) -> None:
    whole = report(FILE, [status_of(FIRST, "RJCT", "AC04")]) if of == "report" else statement(entry(detail(FIRST)))
    with contextlib.suppress(BadAnswer):
        read_answer(whole[:place] + damage + whole[place + 1 :])

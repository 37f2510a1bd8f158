"""Answers of a bank, as its portal offers them: pain.002, camt.053 and camt.054."""

from __future__ import annotations

from collections.abc import Iterable

ISO = "urn:iso:std:iso:20022:tech:xsd:"


def document(kind: str, content: str) -> bytes:
    """Return a message of this kind and version, such as `pain.002.001.10`."""
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Document xmlns="{ISO}{kind}">{content}</Document>'.encode()


def reasons(*codes: str) -> str:
    """Return reasons; a code of the bank's own has more or less than four letters."""
    return "".join(
        f"<StsRsnInf><Rsn>{f'<Cd>{code}</Cd>' if len(code) == 4 else f'<Prtry>{code}</Prtry>'}</Rsn>"
        "<AddtlInf>free text about Mia Example</AddtlInf></StsRsnInf>"
        for code in codes
    )


def status_of(payment_id: str, status: str | None, *codes: str, amount: str = "") -> str:
    """Return a payment's status within a report."""
    said = "" if status is None else f"<TxSts>{status}</TxSts>"
    return (
        f"<TxInfAndSts><StsId>s1</StsId><OrgnlEndToEndId>{payment_id}</OrgnlEndToEndId>{said}{reasons(*codes)}"
        f"{f'<OrgnlTxRef><Amt>{amount}</Amt></OrgnlTxRef>' if amount else ''}</TxInfAndSts>"
    )


def report(
    file_id: str, payments: Iterable[str] = (), *, group: str = "", part: str = "", kind: str = "pain.002.001.10"
) -> bytes:
    """Return a report. `group` and `part` are the statuses with reasons of the file and of its one part."""
    return document(
        kind,
        "<CstmrPmtStsRpt><GrpHdr><MsgId>bank-1</MsgId><CreDtTm>2026-12-01T08:15:00+01:00</CreDtTm></GrpHdr>"
        f"<OrgnlGrpInfAndSts><OrgnlMsgId>{file_id}</OrgnlMsgId><OrgnlMsgNmId>pain.001.001.09</OrgnlMsgNmId>{group}"
        f"</OrgnlGrpInfAndSts><OrgnlPmtInfAndSts><OrgnlPmtInfId>{file_id}</OrgnlPmtInfId>{part}"
        f"{''.join(payments)}</OrgnlPmtInfAndSts></CstmrPmtStsRpt>",
    )


def detail(payment_id: str | None, amount: str = "", *, reason: str | None = None, side: str = "") -> str:
    """Return the details of one payment within an entry."""
    refs = "" if payment_id is None else f"<EndToEndId>{payment_id}</EndToEndId>"
    returned = "" if reason is None else f"<RtrInf><Rsn><Cd>{reason}</Cd></Rsn><AddtlInf>Mia</AddtlInf></RtrInf>"
    its_amount = f'<Amt Ccy="EUR">{amount}</Amt>' if amount else ""
    its_side = f"<CdtDbtInd>{side}</CdtDbtInd>" if side else ""
    return f"<TxDtls><Refs>{refs}</Refs>{its_amount}{its_side}{returned}</TxDtls>"


def entry(
    details: str, side: str = "DBIT", amount: str = "12.50", *, status: str = "<Cd>BOOK</Cd>", more: str = ""
) -> str:
    """Return an entry of an account statement."""
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>{side}</CdtDbtInd>{more}<Sts>{status}</Sts>'
        f"<BookgDt><Dt>2026-12-02</Dt></BookgDt><AcctSvcrRef>REF-1</AcctSvcrRef>"
        f"<NtryDtls>{details}</NtryDtls></Ntry>"
    )


def statement(*entries: str, kind: str = "camt.053.001.08") -> bytes:
    """Return an account statement or a notification."""
    outer, inner = ("BkToCstmrStmt", "Stmt") if kind.startswith("camt.053") else ("BkToCstmrDbtCdtNtfctn", "Ntfctn")
    return document(
        kind, f"<{outer}><GrpHdr><MsgId>bank-2</MsgId></GrpHdr><{inner}>{''.join(entries)}</{inner}></{outer}>"
    )

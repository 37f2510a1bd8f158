"""The staff's two procedures, step by step, without JavaScript."""

from __future__ import annotations

import re
import unicodedata

import pytest
from tests.web.client import PAYMENT, Web
from tests.web.console.visitor import Visitor, form_on, text_of, visitor

from refund_worker.engine.refunds.process import process_until_idle
from refund_worker.store import accounts
from refund_worker.store.tables import ledger_transactions, refunds


@pytest.fixture
def anna(web: Web) -> Visitor:
    return visitor(web, "admin", "anna")


def balance(web: Web) -> int:
    with web.context.database.read() as connection:
        account = accounts.find_customer(connection, "cust-1")
    assert account is not None
    return account.balance


def rows_in(web: Web, table: object) -> int:
    with web.context.database.read() as connection:
        return len(connection.execute(table.select()).all())  # type: ignore[attr-defined]


def test_refund_from_transactions_adds_entry_naming_the_transaction(web: Web, anna: Visitor) -> None:
    listed = anna.get("/transactions", customer="cust-1")
    assert "/console/refund-transaction?id=tx-1" in listed.text
    panel = anna.get("/refund-transaction", id="tx-1")
    assert "150 → after 200" in text_of(panel)
    done = anna.follow(anna.submit(panel, "/refund-transaction", credits="20", reason="camera"))
    assert "Refund rf_" in text_of(done)
    assert "its entry appears soon" in text_of(done)
    process_until_idle(web.context)
    after = text_of(anna.get("/transactions", customer="cust-1"))
    assert "Refund of 20 credits for transaction tx-1" in after
    assert balance(web) == 170


def test_customer_is_found_by_an_id_in_another_spelling(web: Web, anna: Visitor) -> None:
    """A browser or a copied text may give a letter and its accent as two characters."""
    stored, typed = (unicodedata.normalize(form, "zoë-7") for form in ("NFC", "NFD"))
    payment = PAYMENT | {"payment_id": "p-7", "processor_payment_id": "ch_7", "customer_id": stored}
    assert web.call("POST", "/v1/payments", payment).status_code == 201
    assert stored in text_of(anna.get("/customer", id=typed))
    assert stored in text_of(anna.get("/customers", q=typed))


def test_the_same_form_sent_twice_is_one_refund(web: Web, anna: Visitor) -> None:
    panel = anna.get("/refund-transaction", id="tx-1")
    for _ in range(2):
        assert anna.submit(panel, "/refund-transaction", credits="20", reason="camera").status_code == 303
    assert rows_in(web, refunds) == 1


def test_amount_above_the_remainder_is_refused_and_the_input_is_kept(web: Web, anna: Visitor) -> None:
    panel = anna.get("/refund-transaction", id="tx-1")
    refused = anna.submit(panel, "/refund-transaction", credits="51", reason="too much")
    assert refused.status_code == 422
    assert "This was not done." in refused.text
    assert 'value="too much"' in refused.text
    assert rows_in(web, refunds) == 0
    assert anna.submit(refused, "/refund-transaction", credits="50").status_code == 303


def test_outdated_panel_is_refused_with_the_new_remainder(web: Web, anna: Visitor) -> None:
    old = anna.get("/refund-transaction", id="tx-1")
    anna.submit(anna.get("/refund-transaction", id="tx-1"), "/refund-transaction", credits="20", reason="camera")
    refused = anna.submit(old, "/refund-transaction", credits="20", reason="camera", to="source")
    assert refused.status_code == 409
    assert "30 credits are left now, not 50" in text_of(refused)
    assert rows_in(web, refunds) == 1, "no second refund, and no money"
    assert "Already refunded from this transaction" in text_of(refused)
    again = anna.submit(refused, "/refund-transaction", credits="20", reason="camera")
    assert again.status_code == 303, "the reader of the new remainder may continue"


def test_panel_lists_earlier_refunds_of_this_transaction_only(web: Web, anna: Visitor) -> None:
    assert "Already refunded" not in anna.get("/refund-transaction", id="tx-1").text
    anna.submit(anna.get("/refund-transaction", id="tx-1"), "/refund-transaction", credits="20", reason="camera")
    other = web.refund("k1").json()["id"]
    for _ in range(2):
        listed = anna.get("/refund-transaction", id="tx-1")
        assert "20 credits, credits only" in text_of(listed)
        assert other not in listed.text
        process_until_idle(web.context)


def test_form_id_reused_with_another_amount_is_refused_then_renewed(web: Web, anna: Visitor) -> None:
    panel = anna.get("/refund-transaction", id="tx-1")
    anna.submit(panel, "/refund-transaction", credits="20", reason="camera")
    other = anna.submit(panel, "/refund-transaction", credits="10", reason="camera")
    assert other.status_code == 422
    assert "This form was already sent with other values" in text_of(other)
    assert rows_in(web, refunds) == 1
    assert anna.submit(other, "/refund-transaction", credits="10", reason="camera").status_code == 303


@pytest.mark.parametrize(
    ("credits", "said"),
    [
        ("51", "51 is more than the 50 credits left of tx-1"),
        ("5000", "5,000 is more than the 50 credits left of tx-1"),
        ("0", "Amount: from 1 to 50"),
        ("-3", "Amount: from 1 to 50"),
        ("1.5", "Amount: enter a whole number, such as 25"),
        ("abc", "Amount: enter a whole number, such as 25"),
    ],
)
def test_wrong_amount_is_reported_at_its_field_and_in_the_preview(
    web: Web, anna: Visitor, credits: str, said: str
) -> None:
    shown = anna.get("/refund-transaction", id="tx-1", credits=credits)
    assert shown.status_code == 200
    assert said in text_of(shown)
    assert "This was not done" not in shown.text, "nothing was requested yet"
    refused = anna.submit(shown, "/refund-transaction", credits=credits, reason="camera")
    assert refused.status_code == 422
    assert said in text_of(refused)
    assert 'aria-invalid="true" autofocus aria-describedby="left error"' in refused.text
    assert rows_in(web, refunds) == 0


def test_empty_amount_stays_empty_and_no_remainder_disables_refund(web: Web, anna: Visitor) -> None:
    assert "Enter an amount to see what will happen." in anna.get("/refund-transaction", id="tx-1", credits="").text
    panel = anna.get("/refund-transaction", id="tx-1")
    anna.submit(panel, "/refund-transaction", credits="50", reason="all of it")
    nothing = anna.get("/refund-transaction", id="tx-1")
    assert '<button class="main" disabled' in nothing.text
    assert "All of it has already been refunded." in nothing.text


def test_a_preview_does_nothing(web: Web, anna: Visitor) -> None:
    panel = anna.get("/refund-transaction", id="tx-1")
    fields = {
        "token": form_on(panel, "/console/refund-transaction")["token"],
        "id": "tx-1",
        "credits": "25",
        "to": "source",
    }
    shown = anna.post("/refund-transaction/preview", fields)
    assert "2.50 EUR" in shown.text
    assert rows_in(web, refunds) == 0


def test_delete_adds_a_reversal_and_is_offered_only_once(web: Web, anna: Visitor) -> None:
    anna.submit(anna.get("/refund-transaction", id="tx-1"), "/refund-transaction", credits="20", reason="camera")
    process_until_idle(web.context)
    entry = _entry(web, "credit_refund")
    asked = anna.get("/delete-transaction", id=entry)
    assert "170 → after 150" in text_of(asked)
    for _ in range(2):
        assert anna.submit(asked, "/delete-transaction", reason="the wrong chat").status_code == 303
    assert balance(web) == 150
    listed = anna.get("/transactions", customer="cust-1")
    assert "already deleted: a reversal refers to it" in listed.text
    assert f"Reversal of refund {entry}: the wrong chat" in text_of(listed)
    assert f"/console/delete-transaction?id={entry}" not in listed.text


def test_delete_needs_a_reason(web: Web, anna: Visitor) -> None:
    anna.submit(anna.get("/refund-transaction", id="tx-1"), "/refund-transaction", credits="20", reason="camera")
    process_until_idle(web.context)
    asked = anna.get("/delete-transaction", id=_entry(web, "credit_refund"))
    refused = anna.submit(asked, "/delete-transaction", reason=" ")
    assert refused.status_code == 422
    assert "Reason: say why in a few words" in text_of(refused)
    assert balance(web) == 170


def test_unknown_customer_is_reported_at_the_filter(web: Web, anna: Visitor) -> None:
    page = anna.get("/transactions", customer="nobody")
    assert page.status_code == 404
    assert "No customer has the id “ nobody ”" in text_of(page)
    assert 'value="nobody"' in page.text
    assert "Private chat" not in page.text


def test_address_without_an_id_redirects_to_the_list(web: Web, anna: Visitor) -> None:
    for path, to in (
        ("/refund-transaction", "/transactions"),
        ("/delete-transaction", "/transactions"),
        ("/return-money", "/transactions"),
        ("/add-credits", "/customers"),
        ("/customer", "/customers"),
        ("/payment", "/payments"),
        ("/refund-transaction/preview?id=tx-1", "/refund-transaction?id=tx-1"),
    ):
        assert anna.get(path).headers["location"] == f"/console{to}", path


def test_money_awaiting_approval_is_not_shown_as_on_its_way(web: Web, anna: Visitor) -> None:
    panel = anna.get("/refund-transaction", id="tx-1")
    small = anna.follow(anna.submit(panel, "/refund-transaction", credits="20", to="source", reason="camera"))
    assert "Accepted: the progress is shown below." in text_of(small)
    form = anna.get("/add-credits", customer="cust-1")
    anna.follow(anna.submit(form, "/add-credits", credits="-100", reason="agreed"))
    asked = anna.get("/return-money", id=_entry(web, "correction"))
    large = text_of(anna.follow(anna.submit(asked, "/return-money", reason="agreed")))
    assert "Accepted; a second person must approve it first." in large
    assert "on its way back" not in large


def test_success_message_appears_once_and_only_after_the_act(web: Web, anna: Visitor) -> None:
    added = "The correction was added."
    assert added not in anna.get("/add-credits", customer="cust-1", done="corrected").text
    form = anna.get("/add-credits", customer="cust-1")
    answer = anna.submit(form, "/add-credits", credits="7", reason="goodwill")
    other = visitor(web, "operator", "omar")
    other.cookies |= {name: value for name, value in anna.cookies.items() if name.endswith("done")}
    assert added not in other.get("/add-credits", customer="cust-1").text, "another session"
    assert added not in anna.get("/customer", id="cust-1").text, "another page"
    assert added not in anna.refresh("/add-credits?customer=cust-1").text
    assert added in anna.follow(answer).text
    assert added not in anna.get("/add-credits", customer="cust-1").text, "a reload"


def test_money_is_returned_through_a_negative_correction(web: Web, anna: Visitor) -> None:
    form = anna.get("/add-credits", customer="cust-1")
    done = anna.follow(anna.submit(form, "/add-credits", credits="-40", reason="agreed by phone"))
    assert "110 credits" in text_of(done)
    assert "−40" in text_of(done)
    entry = _entry(web, "correction")
    assert f"/console/return-money?id={entry}" in done.text
    asked = anna.get("/return-money", id=entry)
    assert "pay-1" in asked.text
    assert "4.00 EUR" in asked.text
    refund = anna.follow(anna.submit(asked, "/return-money", reason="agreed by phone"))
    assert "Withdrawal of 40 credits" in text_of(refund)
    assert balance(web) == 110
    listed = anna.get("/transactions", customer="cust-1")
    assert "it is being paid out or was paid out" in listed.text
    assert "/console/refunds/rf_" not in listed.text.partition("it is being paid out")[2], "its entry is not posted yet"

    def post(connection):  # type: ignore[no-untyped-def]
        (payout,) = connection.execute(refunds.select()).mappings()
        assignment = {"transaction_id": "a1", "customer_id": "cust-1", "kind": "assignment", "credits": 0}
        told = {"refers_to": entry, "refund_id": payout["refund_id"], "occurred_at": 1.0, "actor": "x"}
        connection.execute(ledger_transactions.insert().values(**assignment, **told))
        return payout["refund_id"]

    refund_id = web.context.database.run(post)
    after = anna.get("/transactions", customer="cust-1").text.partition("it is being paid out or was paid out")[2]
    assert f"/console/refunds/{refund_id}" in after


def test_the_same_correction_sent_twice_is_entered_once(web: Web, anna: Visitor) -> None:
    form = anna.get("/add-credits", customer="cust-1")
    for _ in range(2):
        anna.submit(form, "/add-credits", credits="-40", reason="agreed")
    assert balance(web) == 110


def test_correction_never_makes_the_available_balance_negative(web: Web, anna: Visitor) -> None:
    form = anna.get("/add-credits", customer="cust-1")
    refused = anna.submit(form, "/add-credits", credits="-151", reason="slip")
    assert refused.status_code == 422
    assert balance(web) == 150


def _entry(web: Web, kind: str) -> str:
    with web.context.database.read() as connection:
        query = ledger_transactions.select().where(ledger_transactions.c.kind == kind)
        return str(connection.execute(query).mappings().one()["transaction_id"])


@pytest.mark.parametrize("role", ["support", "operator", "admin"])
def test_both_staff_procedures_work_for_each_role_that_may_do_them(web: Web, role: str) -> None:
    """Follow only links and forms that the pages offer."""
    ivy = visitor(web, role, "ivy")
    # 1: Transactions, Refund, the panel, the new entry, Delete.
    listed = ivy.get("/transactions", customer="cust-1")
    assert "/console/refund-transaction?id=tx-1" in listed.text
    panel = ivy.get("/refund-transaction", id="tx-1")
    assert ivy.submit(panel, "/refund-transaction", credits="20", reason="camera").status_code == 303
    process_until_idle(web.context)
    assert balance(web) == 170
    listed = ivy.get("/transactions", customer="cust-1")
    (delete,) = re.findall(r"/console(/delete-transaction\?id=[^\"]+)", listed.text)
    assert ivy.submit(ivy.get(delete), "/delete-transaction", reason="wrong one").status_code == 303
    assert balance(web) == 150
    # 2: Manage Customers, the plus button, a negative amount, Return money.
    assert "/console/add-credits?customer=cust-1" in ivy.get("/customers").text
    form = ivy.get("/add-credits", customer="cust-1")
    entered = ivy.follow(ivy.submit(form, "/add-credits", credits="-40", reason="withdrawal"))
    assert balance(web) == 110
    (pay_out,) = re.findall(r"/console(/return-money\?id=[^\"]+)", entered.text)
    asked = ivy.submit(ivy.get(pay_out), "/return-money", reason="withdrawal")
    assert "Accepted: the progress is shown below." in text_of(ivy.follow(asked))
    assert balance(web) == 110


@pytest.mark.parametrize("role", ["viewer", "approver"])
def test_role_without_permission_is_offered_no_step(web: Web, role: str) -> None:
    web.call(
        "POST", "/v1/customers/cust-1/corrections", {"credits": -5, "reason": "x"}, headers={"Idempotency-Key": "c"}
    )
    person = visitor(web, role)
    for path in ("/transactions?customer=cust-1", "/customers", "/customer?id=cust-1"):
        page = person.get(path)
        assert page.status_code == 200
        for step in (
            "/console/refund-transaction",
            "/console/delete-",
            "/console/add-credits",
            "/console/return-money",
        ):
            assert step not in page.text, path

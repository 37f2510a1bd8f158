"""Files for a bank: each payout is in one file, the bytes never change, and the bank's answer ends the payouts."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tests.processors.bank_file.bank_documents import report, status_of
from tests.support.payout_world import DAY, PayoutWorld

from refund_worker.domain.payouts.decision import PayoutPolicy
from refund_worker.domain.payouts.destination import Destination, DestinationKind
from refund_worker.domain.payouts.machine import PayoutAction
from refund_worker.domain.payouts.payee import PayeeRecord
from refund_worker.domain.payouts.transfers import Method
from refund_worker.engine.payees.payees import pause_payee, resume_payee
from refund_worker.engine.payouts import bank_files as engine_bank_files
from refund_worker.engine.payouts.bank_files import (
    CSV,
    PAIN001,
    AnswerResult,
    changed_since,
    content_of,
    export_file,
    import_answer,
)
from refund_worker.engine.payouts.destination_changes import change_payee
from refund_worker.errors import ActionNotAllowed, InvalidRequest, NotFound, UnreadableFile
from refund_worker.processors.accounts import Accounts, default_accounts
from refund_worker.processors.bank_file.entry import ENTRY
from refund_worker.processors.bank_file.payments import message_id
from refund_worker.sealing import Box
from refund_worker.store import timeline
from refund_worker.store.payouts.attempts import objects_of
from refund_worker.store.tables import bank_files, payout_attempts, payout_legs

ACCOUNT = "bank_file"
IBAN = "DE89370400440532013000"
OTHER_IBAN = "DE02120300000000202051"
Make = Callable[..., PayoutWorld]


def bank_world(make_world: Make) -> PayoutWorld:
    """Return a world whose payees `b1`, `b2` have bank accounts, paid in EUR by files."""
    world = make_world()
    settings = ENTRY.settings(debtor_name="Chats GmbH", debtor_iban=IBAN)
    known = dict(default_accounts().items())
    account = replace(known["manual"], name=ACCOUNT, entry=ENTRY, settings=settings)
    accounts = Accounts({**known, ACCOUNT: account})
    route = ENTRY.payouts.make(ACCOUNT, settings, 10) if ENTRY.payouts else None
    policy = PayoutPolicy(
        calls=replace(world.context.payout_policy.calls, processors=accounts.payout_rules),
        routes=accounts.routes,
        cooldown_seconds=0,
    )
    world.context = replace(
        world.context,
        accounts=accounts,
        processors={**world.context.processors, ACCOUNT: account.make(10)},
        routes={ACCOUNT: route},  # type: ignore[dict-item]
        payout_policy=policy,
    )
    for payee_id, holder in (("b1", "Zoë Example"), ("b2", "M. Other")):
        fields = {"kind": "bank", "iban": IBAN, "holder": holder}
        world.add_payee(payee_id, "EUR")
        world.change_payee(
            payee_id,
            processor=ACCOUNT,
            destination_kind="bank",
            destination_box=world.context.box.seal(json.dumps(fields)),
            destination_ref=None,
        )
        world.earn(f"e-{payee_id}", 10_000, payee_id=payee_id, currency="EUR")
    return world


def answer(world: PayoutWorld, *lines: str) -> AnswerResult:
    """Import an answer in our CSV form."""
    head = "end_to_end_id,status,reason,date,returned_minor,currency"
    return import_answer(world.context, ACCOUNT, "\n".join([head, *lines, ""]).encode())


def ask(world: PayoutWorld, payee_id: str, key: str, amount: int = 2_500) -> str:
    payout_id = world.ask(amount, key, payee_id=payee_id, currency="EUR")
    world.settle()
    return payout_id


def reference(world: PayoutWorld, payout_id: str) -> str:
    found = world.payout(payout_id).legs[0].object_id
    assert found is not None
    return found


def exported(make_world: Make) -> tuple[PayoutWorld, str]:
    """Return a world and the id of its payout, which a file for the bank carries."""
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    export_file(world.context, ACCOUNT, form=PAIN001, actor="ann")
    return world, payout_id


@pytest.mark.parametrize("form", [PAIN001, CSV])
def test_each_payout_is_in_one_file_with_the_same_bytes(make_world: Make, form: str) -> None:
    world = bank_world(make_world)
    ids = [ask(world, "b1", "k1"), ask(world, "b2", "k2")]
    assert [world.payout(each).status for each in ids] == ["sending", "sending"]
    made = export_file(world.context, ACCOUNT, form=form, actor="ann").file
    assert made is not None
    assert (made.payments, made.amount_minor, made.currency) == (2, 5_000, "EUR")
    assert [world.payout(each).status for each in ids] == ["pending", "pending"]
    assert export_file(world.context, ACCOUNT, form=form, actor="ann").file is None
    first, again = content_of(world.context, made.file_id)[1], content_of(world.context, made.file_id)[1]
    assert first == again
    assert all(reference(world, each).encode() in first for each in ids)
    world.settle(30 * DAY, step=DAY)
    assert [world.payout(each).status for each in ids] == ["pending", "pending"]


def test_answer_pays_rejects_and_returns(make_world: Make) -> None:
    world = bank_world(make_world)
    paid, rejected = ask(world, "b1", "k1"), ask(world, "b2", "k2")
    export_file(world.context, ACCOUNT, form=PAIN001, actor="ann")
    lines = [
        f"{reference(world, paid)},paid,,2026-11-02,,",
        f"{reference(world, rejected)},rejected,AC04,2026-11-02,,",
        "po00000000000000000000000000-1-1,paid,,2026-11-02,,",
    ]
    result = answer(world, *lines)
    assert (result.applied, result.unknown) == (2, ("po00000000000000000000000000-1-1",))
    assert [world.payout(each).status for each in (paid, rejected)] == ["paid", "failed"]
    assert world.balance("b2", "EUR").payable_minor == 10_000
    assert world.payee_row("b2").status == "incomplete"
    versions = [world.payout(each).return_count for each in (paid, rejected)]
    answer(world, *lines)
    assert [world.payout(each).return_count for each in (paid, rejected)] == versions
    answer(world, f"{reference(world, paid)},returned,AC04,2026-11-09,2400,EUR")
    assert world.payout(paid).status == "returned"
    assert world.payout(paid).lost_minor == 100
    assert world.balance("b1", "EUR").payable_minor == 10_000


@pytest.mark.parametrize("first", ["rejected", "returned"])
def test_amount_that_a_later_file_tells_is_posted_once(make_world: Make, first: str) -> None:
    """The bank's answer says that the payment failed. Its statement, later, has the amount that came back."""
    world, payout_id = exported(make_world)
    answer(world, f"{reference(world, payout_id)},{first},AC04,2026-11-02,,")
    ended = world.payout(payout_id)
    assert ended.lost_minor == 0
    for _ in range(2):
        answer(world, f"{reference(world, payout_id)},returned,,2026-11-09,2400,EUR")
        again = world.payout(payout_id)
        assert (again.status, again.lost_minor, again.failure_code) == (ended.status, 100, ended.failure_code)
        assert world.accounts("EUR")["house:payout_losses"] == 100
        assert world.accounts("EUR")[f"processor:{ACCOUNT}"] == -100
    assert world.events(payout_id).count("returned_less") == 1
    with world.database.read() as connection:
        (stored,) = objects_of(connection, [again.legs[0].leg_id])
    assert (stored["returned_minor"], stored["failure_code"]) == (2_400, ended.legs[0].failure_code)
    assert world.balance("b1", "EUR").payable_minor == 10_000


@pytest.mark.parametrize(("first", "second"), [(2_400, 2_300), (2_500, 2_400), (2_400, 2_500)])
def test_second_amount_of_the_same_return_is_a_persons(make_world: Make, first: int, second: int) -> None:
    world, payout_id = exported(make_world)
    for amount_minor in (first, first, second):
        answer(world, f"{reference(world, payout_id)},returned,AC04,2026-11-09,{amount_minor},EUR")
    assert (world.payout(payout_id).lost_minor, world.balance("b1", "EUR").payable_minor) == (2_500 - first, 10_000)
    with world.database.read() as connection:
        told = timeline.events_about(connection, payout_id)
    (differs,) = (row for row in told if row["kind"] == "returned_amount_differs")
    detail = json.loads(differs["detail"])
    assert (detail["returned_minor"], detail["now_minor"], bool(differs["alarm"])) == (first, second, True)


def rejected_then_paid(world: PayoutWorld) -> tuple[str, str]:
    """Import that the bank rejected a payment, and then that it paid it; return both ids."""
    payout_id = ask(world, "b1", "k1")
    export_file(world.context, ACCOUNT, form=PAIN001, actor="ann")
    named = reference(world, payout_id)
    answer(world, f"{named},rejected,MS03,2026-11-02,,")
    assert (world.payout(payout_id).status, world.balance("b1", "EUR").payable_minor) == ("failed", 10_000)
    answer(world, f"{named},paid,,2026-11-03,,")
    return payout_id, named


@pytest.mark.parametrize("reply", [None, "BOOKING-7"])
def test_payment_reported_after_its_rejection_is_a_persons(make_world: Make, reply: str | None) -> None:
    """The payee may have the money, so the balance is taken again until a person has asked the bank."""
    world = bank_world(make_world)
    payout_id, named = rejected_then_paid(world)
    waits = world.payout(payout_id)
    assert (waits.status, waits.failure_code) == ("needs_attention", "paid_after_rejection")
    assert world.balance("b1", "EUR").payable_minor == 7_500
    world.act_on(payout_id, PayoutAction.RETRY)
    world.settle()
    assert world.payout(payout_id).status == "needs_attention"  # only the bank knows
    world.act_on(payout_id, PayoutAction.RESOLVE, reference=reply)
    status, payable = ("failed", 10_000) if reply is None else ("paid", 7_500)
    for _ in range(2):
        assert (world.payout(payout_id).status, world.balance("b1", "EUR").payable_minor) == (status, payable)
        answer(world, f"{named},paid,,2026-11-03,,")
    assert world.events(payout_id).count("paid_after_rejection") == 1


def test_answer_about_an_earlier_file_is_its_payments(make_world: Make) -> None:
    """The bank had no money of ours, so the next file carries the payment again. It pays both."""
    world, payout_id = exported(make_world)
    first = reference(world, payout_id)
    answer(world, f"{first},rejected,AM04,2026-11-02,,")
    world.act_on(payout_id, PayoutAction.RETRY)
    world.settle()
    assert export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file is not None
    assert reference(world, payout_id) != first
    result = answer(world, f"{first},paid,,2026-11-03,,", f"{reference(world, payout_id)},paid,,2026-11-03,,")
    assert result.unknown == ()
    assert world.events(payout_id).count("paid_after_failure") == 1


def test_old_answer_about_a_returned_payment_is_no_news(make_world: Make) -> None:
    world, payout_id = exported(make_world)
    paid = f"{reference(world, payout_id)},paid,,2026-11-03,,"
    answer(world, paid)
    answer(world, f"{reference(world, payout_id)},returned,AC04,2026-11-09,,")
    before = world.events(payout_id)
    answer(world, paid)
    assert (world.events(payout_id), world.payout(payout_id).status) == (before, "returned")


def test_amount_of_a_return_says_that_it_had_been_paid(make_world: Make) -> None:
    """The files come in the wrong order: the payment is not contradicted by the older one."""
    world, payout_id = exported(make_world)
    named = reference(world, payout_id)
    answer(world, f"{named},returned,AC04,2026-11-09,2400,EUR")
    before = world.payout(payout_id).status
    answer(world, f"{named},paid,,2026-11-03,,")
    assert (world.payout(payout_id).status, world.balance("b1", "EUR").payable_minor) == (before, 10_000)
    assert "paid_after_rejection" not in world.events(payout_id)


def test_word_on_a_payment_counts_before_that_on_its_file(make_world: Make) -> None:
    world = bank_world(make_world)
    first, second = ask(world, "b1", "k1"), ask(world, "b2", "k2")
    made = export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file
    assert made is not None
    refused = status_of(reference(world, first), "RJCT", "AC04")
    whole = report(message_id(made.file_id), [refused], group="<GrpSts>ACSC</GrpSts>")
    assert import_answer(world.context, ACCOUNT, whole).applied == 2
    assert (world.payout(first).status, world.payout(first).times_paid) == ("failed", 0)
    assert world.payout(second).status == "paid"


def test_payout_that_no_file_carries_yet_is_canceled(make_world: Make) -> None:
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    assert world.payout(payout_id).status == "sending"
    world.act_on(payout_id, PayoutAction.CANCEL)
    canceled = world.payout(payout_id)
    assert (canceled.status, canceled.failure_code) == ("canceled", None)
    assert world.balance("b1", "EUR").payable_minor == 10_000
    assert export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file is None


def test_payout_that_a_file_carries_is_not_canceled(make_world: Make) -> None:
    world, payout_id = exported(make_world)
    with pytest.raises(ActionNotAllowed):
        world.act_on(payout_id, PayoutAction.CANCEL)


def test_whole_amount_that_a_later_file_tells_is_no_loss(make_world: Make) -> None:
    world, payout_id = exported(make_world)
    answer(world, f"{reference(world, payout_id)},rejected,AC04,2026-11-02,,")
    answer(world, f"{reference(world, payout_id)},returned,,2026-11-09,2500,EUR")
    assert world.payout(payout_id).lost_minor == 0
    assert "returned_less" not in world.events(payout_id)


@pytest.mark.parametrize("first", ["paid", "returned"])
def test_payment_and_its_return_in_one_answer_are_a_return(make_world: Make, first: str) -> None:
    world, payout_id = exported(make_world)
    told = reference(world, payout_id)
    lines = [f"{told},paid,,2026-11-02,,", f"{told},returned,AC04,2026-11-04,2400,EUR"]
    result = answer(world, *(lines if first == "paid" else reversed(lines)))
    assert (result.applied, result.unknown) == (1, ())
    payout = world.payout(payout_id)
    assert (payout.status, payout.lost_minor, world.balance("b1", "EUR").payable_minor) == ("returned", 100, 10_000)
    assert "paid_after_failure" not in world.events(payout_id)


def test_bank_sees_the_ids_of_payout_and_file(make_world: Make) -> None:
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    made = export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file
    assert made is not None
    content = content_of(world.context, made.file_id)[1].decode()
    assert f"<MsgId>{made.file_id.replace('_', '')}</MsgId>" in content
    assert f"<EndToEndId>{payout_id.replace('_', '')}-1-1</EndToEndId>" in content


def hashed(text: str) -> str:
    """Return the id that earlier versions gave to a payment or a file."""
    return f"h-{base64.b32encode(hashlib.sha256(text.encode()).digest()).decode().lower()[:32]}"


def exported_earlier(world: PayoutWorld, payout_id: str) -> str:
    """Let the file be one of an earlier version, which hashed all ids; return the id of the payment in it."""
    old = hashed(f"{payout_id}-1:1")
    with world.database.write() as connection:
        connection.execute(update(payout_legs).where(payout_legs.c.payout_id == payout_id).values(object_id=old))
    return old


def test_answers_to_files_of_earlier_versions_still_count(make_world: Make) -> None:
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    made = export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file
    assert made is not None
    old = exported_earlier(world, payout_id)
    whole = report(hashed(made.file_id), group="<GrpSts>ACSC</GrpSts>")
    assert import_answer(world.context, ACCOUNT, whole).applied == 1
    assert world.payout(payout_id).status == "paid"
    assert answer(world, f"{old},returned,AC04,2026-11-09,,").applied == 1
    assert world.payout(payout_id).status == "returned"


def test_rejected_payout_is_in_no_later_file(make_world: Make) -> None:
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    export_file(world.context, ACCOUNT, form=CSV, actor="ann")
    answer(world, f"{reference(world, payout_id)},rejected,AC01,2026-11-02,,")
    assert export_file(world.context, ACCOUNT, form=CSV, actor="ann").file is None


def without_iban(world: PayoutWorld, payee_id: str = "b2") -> None:
    """Let the payee have an account that only the CSV form can carry."""
    fields = {"kind": "bank", "account": "123456", "routing": "110000", "holder": "M. Other"}
    world.change_payee(payee_id, destination_box=world.context.box.seal(json.dumps(fields)))


def test_payment_of_the_other_form_waits_for_that_form(make_world: Make) -> None:
    world = bank_world(make_world)
    without_iban(world)
    sepa, other = ask(world, "b1", "k1"), ask(world, "b2", "k2")
    before = world.payout(other)
    first = export_file(world.context, ACCOUNT, form=PAIN001, actor="ann")
    assert first.file is not None
    assert (first.file.payments, first.left_out) == (1, ())
    (left,) = first.left_for_other_form
    assert (left.payout_id, left.form) == (other, CSV)
    assert "no IBAN" in left.reason
    assert "123456" not in left.reason
    assert (world.payout(sepa).status, world.payout(other)) == ("pending", before)
    second = export_file(world.context, ACCOUNT, form=CSV, actor="ann")
    assert second.file is not None
    assert (second.file.payments, second.left_for_other_form) == (1, ())
    assert world.payout(other).status == "pending"


def test_payments_of_the_other_form_fill_up_no_file(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_bank_files, "PAYMENTS_MAX", 1)
    world = bank_world(make_world)
    world.add_payee("b0", "GBP")
    fields = {"kind": "bank", "iban": "GB29NWBK60161331926819", "holder": "A. British"}
    box = world.context.box.seal(json.dumps(fields))
    world.change_payee("b0", processor=ACCOUNT, destination_kind="bank", destination_box=box, destination_ref=None)
    world.earn("e-b0", 10_000, payee_id="b0", currency="GBP")
    world.ask(2_500, "k0", payee_id="b0", currency="GBP")
    sepa = ask(world, "b1", "k1")
    assert export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file is not None
    assert world.payout(sepa).status == "pending"


def test_payment_that_no_file_can_carry_is_a_persons(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_bank_files, "FORMATS", (PAIN001,))
    world = bank_world(make_world)
    without_iban(world)
    good, bad = ask(world, "b1", "k1"), ask(world, "b2", "k2")
    result = export_file(world.context, ACCOUNT, form=PAIN001, actor="ann")
    assert result.file is not None
    assert (result.file.payments, result.left_out, result.left_for_other_form) == (1, (bad,), ())
    assert [world.payout(each).status for each in (good, bad)] == ["pending", "needs_attention"]
    assert "123456" not in str(world.payout(bad).failure_message)


def test_neither_file_nor_attempt_stores_a_bank_number(make_world: Make) -> None:
    world = bank_world(make_world)
    world.context = replace(world.context, box=sealing_box())
    for payee_id in ("b1", "b2"):
        fields = {"kind": "bank", "iban": IBAN, "holder": "Zoë Example"}
        world.change_payee(payee_id, destination_box=world.context.box.seal(json.dumps(fields)))
    ask(world, "b1", "k1")
    made = export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file
    assert made is not None
    with world.database.read() as connection:
        stored = [*connection.execute(select(bank_files.c.body)).scalars()]
        stored += connection.execute(select(payout_attempts.c.body)).scalars()
    assert len(stored) == 2
    assert not any(IBAN in each for each in stored)
    assert IBAN.encode() in content_of(world.context, made.file_id)[1]


def sealing_box() -> Box:
    return Box([base64.urlsafe_b64encode(b"k" * 32).decode()])


@pytest.mark.parametrize(("account", "form"), [("stripe", CSV), (ACCOUNT, "word"), ("nowhere", CSV)])
def test_other_accounts_and_forms_make_no_file(make_world: Make, account: str, form: str) -> None:
    world = bank_world(make_world)
    with pytest.raises(InvalidRequest):
        export_file(world.context, account, form=form, actor="ann")


def test_unreadable_answer_changes_nothing(make_world: Make) -> None:
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    export_file(world.context, ACCOUNT, form=CSV, actor="ann")
    before = world.payout(payout_id)
    with pytest.raises(UnreadableFile):
        answer(world, f"{reference(world, payout_id)},paid,,2026-11-02,,", "nonsense")
    assert world.payout(payout_id) == before
    with pytest.raises(NotFound):
        content_of(world.context, "bf_0")


def new_destination(world: PayoutWorld, payee_id: str = "b1") -> None:
    world.context = replace(world.context, box=Box(["A" * 43 + "="]))
    record = PayeeRecord(
        payee_id=payee_id,
        customer_id=None,
        processor=ACCOUNT,
        destination=Destination(kind=DestinationKind.BANK, iban=OTHER_IBAN, holder="Zoë Example"),
        currency="EUR",
        country=None,
        method=Method.STANDARD,
    )
    change_payee(world.context, record, actor="ann")


def test_change_cancels_what_waits_for_a_file(make_world: Make) -> None:
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    new_destination(world)
    made = export_file(world.context, ACCOUNT, form=CSV, actor="ann")
    assert made.file is None
    assert world.payout(payout_id).status == "canceled"
    assert world.balance("b1", "EUR").payable_minor == 10_000
    assert world.balance("b1", "EUR").in_flight_minor == 0


def test_retried_payment_goes_to_no_old_destination(make_world: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """No file could carry it, so the change left it to a person. The person's retry makes it unsent again."""
    world = bank_world(make_world)
    without_iban(world, "b1")
    payout_id = ask(world, "b1", "k1")
    monkeypatch.setattr(engine_bank_files, "FORMATS", (PAIN001,))
    assert export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").left_out == (payout_id,)
    monkeypatch.undo()
    new_destination(world)
    world.act_on(payout_id, "retry")
    world.settle(DAY, step=600)
    assert export_file(world.context, ACCOUNT, form=CSV, actor="ann").file is None
    assert world.payout(payout_id).status == "canceled"
    assert world.balance("b1", "EUR").payable_minor == 10_000


def test_export_goes_to_no_old_destination(make_world: Make) -> None:
    """The payout is due for a worker that calls it off, but the export comes first."""
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    world.change_payee("b1", destination_id="another")
    made = export_file(world.context, ACCOUNT, form=CSV, actor="ann")
    assert (made.file, made.left_out) == (None, ())  # no person must see what was called off
    assert world.payout(payout_id).status == "canceled"


def test_file_names_payouts_whose_destination_changed_since(make_world: Make) -> None:
    world = bank_world(make_world)
    changed = ask(world, "b1", "k1")
    ask(world, "b2", "k2")
    made = export_file(world.context, ACCOUNT, form=CSV, actor="ann").file
    assert made is not None
    assert changed_since(world.context, made.file_id) == ()
    new_destination(world)
    assert changed_since(world.context, made.file_id) == (changed,)
    answer(world, f"{reference(world, changed)},paid,,2026-11-02,,")
    assert changed_since(world.context, made.file_id) == ()


def test_paused_payee_is_in_no_file(make_world: Make) -> None:
    world = bank_world(make_world)
    payout_id = ask(world, "b1", "k1")
    pause_payee(world.context, "b1", actor="ann", reason="fraud?")
    assert export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file is None
    resume_payee(world.context, "b1", actor="ann", reason="fine")
    assert export_file(world.context, ACCOUNT, form=PAIN001, actor="ann").file is not None
    assert world.payout(payout_id).status == "pending"

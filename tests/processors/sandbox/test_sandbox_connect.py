"""Connected accounts: whose object it is, whose money it is, and what a refund takes back from whom."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import stripe

from refund_worker.processors.sandbox import PaymentError, Sandbox, SandboxError
from refund_worker.processors.sandbox.control import payment_record, payments_in

if TYPE_CHECKING:
    from pathlib import Path

    from tests.processors.sandbox.conftest import Receiver

Connect = Callable[..., stripe.StripeClient]
ONE, TWO = "acct_One1", "acct_Two2"


class Platform:
    """A platform at a sandbox of its own, with the official client."""

    def __init__(self, sandbox: Sandbox, client: stripe.StripeClient) -> None:
        self.sandbox, self.client = sandbox, client

    def refund(self, charge: str, account: str | None = None, key: str | None = None, **params: Any) -> stripe.Refund:
        """Refund a charge; `account` is the header."""
        options = {name: value for name, value in (("stripe_account", account), ("idempotency_key", key)) if value}
        return self.client.v1.refunds.create({"charge": charge, **params}, options)  # type: ignore[arg-type]

    def refused(
        self, charge: str, account: str | None = None, **params: Any
    ) -> tuple[int | None, str | None, str | None]:
        """Refund a charge in vain, and return status, code and parameter of the error."""
        with pytest.raises(stripe.StripeError) as raised:
            self.refund(charge, account, **params)
        error: dict[str, Any] = raised.value.json_body["error"]  # type: ignore[index]  # the SDK drops some codes
        return raised.value.http_status, error.get("code"), error.get("param")

    def balances(self) -> tuple[int, int]:
        """Return the money of the platform and of the account ONE in pounds."""
        found = self.sandbox.book()["balances"]
        return found[""].get("gbp", 0), found.get(ONE, {}).get("gbp", 0)

    def moved(self, account: str = "") -> list[tuple[str, int, int]]:
        """Return type, amount and net of each balance transaction of an account, oldest first."""
        options: Any = {"stripe_account": account} if account else {}
        listed = self.client.v1.balance_transactions.list({"limit": 100}, options).data
        return [(each.type, each.amount, each.net) for each in reversed(listed)]


@pytest.fixture
def platform(own_sandbox: Sandbox, connect: Connect) -> Platform:
    """A platform without payments."""
    return Platform(own_sandbox, connect(own_sandbox))


# -- whose object -----------------------------------------------------------------------------------------------------


def test_equal_charges_and_keys_of_two_accounts_never_mix(platform: Platform) -> None:
    for account, amount in ((None, 1000), (ONE, 2000), (TWO, 3000)):
        platform.sandbox.register_payment("ch_1", amount, account=account)
    made = [platform.refund("ch_1", account, "k") for account in (None, ONE, TWO)]
    assert [each.amount for each in made] == [1000, 2000, 3000]
    assert len({each.id for each in made}) == 3
    again = platform.refund("ch_1", ONE, "k")
    assert (again.id, len(platform.sandbox.refunds())) == (made[1].id, 3)
    assert [each.get("account") for each in platform.sandbox.refunds()] == [None, ONE, TWO]


def test_objects_of_another_account_are_not_there(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, account=ONE)
    platform.sandbox.register_payment("ch_2", 1000, account=TWO)
    refund = platform.refund("ch_1", ONE, amount=100)
    dispute = platform.sandbox.act("open_dispute", account=ONE, payment="ch_1", amount_minor=50)["id"]
    v1 = platform.client.v1
    reads: list[Callable[[Any], Any]] = [
        lambda options: v1.charges.retrieve("ch_1", {}, options),
        lambda options: v1.refunds.retrieve(refund.id, {}, options),
        lambda options: v1.disputes.retrieve(dispute, {}, options),
        lambda options: v1.refunds.list({"charge": "ch_1"}, options),
        lambda options: v1.refunds.cancel(refund.id, {}, options),
        lambda options: v1.balance_transactions.retrieve(str(refund.balance_transaction), {}, options),
    ]
    for read in reads[:4]:
        assert read({"stripe_account": ONE}) is not None
    for read in reads:
        for options in ({}, {"stripe_account": TWO}):
            with pytest.raises(stripe.InvalidRequestError) as missing:
                read(options)
            assert (missing.value.http_status, missing.value.code) == (404, "resource_missing")
    assert platform.refused("ch_1") == (404, "resource_missing", "charge")
    for listed in (v1.refunds, v1.charges, v1.disputes, v1.balance_transactions):
        sizes = [len(listed.list({}, {"stripe_account": account}).data) for account in (ONE, TWO)]
        assert sizes[0] > 0
        assert sizes[1] == (1 if listed in (v1.charges, v1.balance_transactions) else 0)
        assert len(listed.list({}).data) == 0


def test_account_that_is_not_connected_is_refused(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, account=ONE)
    assert platform.refused("ch_1", "acct_Nobody") == (403, "account_invalid", None)
    platform.sandbox.act("disconnect_account", account=ONE)
    with pytest.raises(stripe.PermissionError, match=f"does not have access to account '{ONE}'") as refused:
        platform.refund("ch_1", ONE, "k")
    assert "sk_test_tests" not in str(refused.value)
    platform.sandbox.restart()
    assert platform.refused("ch_1", ONE) == (403, "account_invalid", None)
    platform.sandbox.act("connect_account", account=ONE)
    assert platform.refund("ch_1", ONE, "k").status == "succeeded"  # nothing was stored under the key
    assert "acct_Nobody" not in platform.sandbox.book()["balances"]


def test_wrong_account_of_a_payment_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    payment = {"processor_payment_id": "ch_1", "amount_minor": 10, "currency": "gbp"}
    with pytest.raises(PaymentError, match="account must be the id of a connected account"):
        payment_record(payment | {"account": "acct-1"})
    for more, message in (
        ({"destination": "me"}, "destination must be the id"),
        ({"application_fee_minor": 1}, "needs a destination or an account"),
        ({"destination": ONE, "account": ONE}, "has no destination here"),
        ({"destination": ONE, "transfer_minor": 11}, "must not exceed"),
    ):
        with pytest.raises(SandboxError, match=message):
            sandbox.register_payment("ch_wrong", 10, **more)  # type: ignore[arg-type]
    with pytest.raises(SandboxError, match="account must be the id"):
        sandbox.act("top_up", account="one", currency="gbp", amount_minor=1)
    file = tmp_path / "payments.csv"
    head = "processor_payment_id,amount_minor,currency,connect_account,connect_reverse_transfer"
    file.write_text(f"{head}\nch_1,10,gbp,{ONE},\nch_2,10,gbp,{ONE},true\nch_3,10,gbp,,\n")
    direct, destination, own = payments_in(file)
    assert (direct["account"], destination["destination"]) == (ONE, ONE)
    assert not {"account", "destination"} & own.keys()


# -- whose money ------------------------------------------------------------------------------------------------------


def test_direct_charge_and_its_refunds_move_the_accounts_money(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, account=ONE, application_fee_minor=101, fee_minor=30)
    assert platform.balances() == (101, 869)
    platform.refund("ch_1", ONE, amount=333)
    assert platform.balances() == (101, 536)
    share = platform.refund("ch_1", ONE, amount=333, refund_application_fee=True)
    assert share.transfer_reversal is None
    assert platform.balances() == (101 - 33, 536 - 333 + 33)
    platform.refund("ch_1", ONE, refund_application_fee=True)
    assert platform.balances() == (0, -30 + 0)  # the rest of the fee comes back with the rest of the charge
    assert platform.moved() == [
        ("application_fee", 101, 101),
        ("application_fee_refund", -33, -33),
        ("application_fee_refund", -68, -68),
    ]
    assert platform.moved(ONE)[0] == ("charge", 1000, 869)
    assert platform.moved(ONE)[2:] == [("refund", -333, -300), ("refund", -334, -266)]


def test_destination_charge_takes_each_share_back_to_the_penny(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, destination=ONE, application_fee_minor=101)
    assert platform.balances() == (101, 899)
    charge = platform.client.v1.charges.retrieve("ch_1")
    assert charge.transfer_data is not None
    assert (charge.transfer_data.destination, charge.application_fee_amount) == (ONE, 101)
    platform.refund("ch_1", amount=100)
    assert platform.balances() == (1, 899)
    taken = platform.refund("ch_1", amount=333, reverse_transfer=True)
    assert str(taken.transfer_reversal).startswith("trr_")
    assert platform.balances() == (1, 566)
    platform.refund("ch_1", amount=333, reverse_transfer=True, refund_application_fee=True)
    assert platform.balances() == (1 - 33, 566 - 333 + 33)
    platform.refund("ch_1", reverse_transfer=True, refund_application_fee=True)  # 234, and all that is left
    assert platform.balances() == (-32 - 234 + 334 - 68, 266 - 334 + 68) == (0, 0)
    assert [type for type, _, _ in platform.moved()].count("transfer_refund") == 3
    assert platform.moved(ONE)[0] == ("payment", 1000, 899)
    assert platform.moved(ONE)[-1] == ("payment_refund", -334, -266)


def test_transferred_part_of_a_charge_comes_back_in_proportion(platform: Platform) -> None:
    platform.sandbox.register_payment("pi_1", 999, destination=ONE, transfer_minor=500)
    assert platform.balances() == (499, 500)
    platform.client.v1.refunds.create({"payment_intent": "pi_1", "amount": 100, "reverse_transfer": True})
    assert platform.balances() == (499 - 100 + 50, 450)


def test_refund_that_fails_later_leaves_what_was_taken_back(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, destination=ONE, application_fee_minor=100)
    refund = platform.refund("ch_1", reverse_transfer=True, refund_application_fee=True)
    platform.sandbox.advance_refund(refund.id, "failed")
    assert platform.balances() == (1000, 0)
    platform.refund("ch_1", reverse_transfer=True, refund_application_fee=True)
    assert platform.balances() == (0, 0)


@pytest.mark.parametrize(
    ("payment", "params", "param"),
    [
        ({}, {"reverse_transfer": True}, "reverse_transfer"),
        ({}, {"refund_application_fee": True}, "refund_application_fee"),
        ({"destination": ONE, "application_fee_minor": 5}, {"refund_application_fee": True}, "refund_application_fee"),
        ({"destination": ONE}, {"reverse_transfer": "perhaps"}, "reverse_transfer"),
    ],
)
def test_share_that_a_charge_does_not_have_is_refused(
    platform: Platform, payment: dict[str, Any], params: dict[str, Any], param: str
) -> None:
    platform.sandbox.register_payment("ch_1", 1000, **payment)
    assert platform.refused("ch_1", **params) == (400, None, param)
    assert platform.refund("ch_1", reverse_transfer=False, refund_application_fee=False).status == "succeeded"


def test_connected_balance_decides_about_its_own_refunds(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, account=ONE)
    platform.sandbox.register_payment("ch_2", 1000, account=TWO)
    platform.sandbox.act("set_balance", account=ONE, currency="gbp", available_minor=99, policy="refuse")
    assert platform.refused("ch_1", ONE, amount=100) == (400, "balance_insufficient", None)
    shown = platform.client.v1.balance.retrieve({}, {"stripe_account": ONE})
    assert [(each.currency, each.amount) for each in shown.available] == [("gbp", 99)]
    assert platform.refund("ch_2", TWO, amount=100).status == "succeeded"
    platform.sandbox.act("top_up", account=ONE, currency="gbp", amount_minor=1)
    assert platform.refund("ch_1", ONE, amount=100).status == "succeeded"
    platform.sandbox.act("set_balance", account=ONE, currency="gbp", policy="hold")
    held = platform.refund("ch_1", ONE, amount=100)
    assert (held.status, held.to_dict()["pending_reason"]) == ("pending", "insufficient_funds")
    platform.sandbox.act("top_up", account=TWO, currency="gbp", amount_minor=500)
    platform.sandbox.act("top_up", currency="gbp", amount_minor=500)
    assert platform.sandbox.refunds()[-2]["status"] == "pending"
    platform.sandbox.act("top_up", account=ONE, currency="gbp", amount_minor=100)
    assert [each["status"] for each in platform.sandbox.refunds()] == ["succeeded"] * 3


def test_destination_without_money_refuses_or_holds_the_refund(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, destination=ONE)
    platform.sandbox.act("set_balance", account=ONE, currency="gbp", available_minor=50, policy="refuse")
    with pytest.raises(stripe.InvalidRequestError, match="destination's balance is too small") as refused:
        platform.refund("ch_1", amount=51, reverse_transfer=True)
    assert refused.value.code == "balance_insufficient"
    assert platform.refund("ch_1", amount=51).status == "succeeded"
    platform.sandbox.act("set_balance", account=ONE, currency="gbp", policy="hold")
    held = platform.refund("ch_1", amount=51, reverse_transfer=True)
    assert (held.status, platform.balances()[1]) == ("pending", 50)
    platform.sandbox.restart()
    platform.sandbox.act("top_up", account=ONE, currency="gbp", amount_minor=1)
    assert platform.client.v1.refunds.retrieve(held.id).status == "succeeded"
    assert platform.balances()[1] == 0


def test_refund_held_for_two_accounts_waits_for_both(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, destination=ONE, transfer_minor=400)
    platform.sandbox.act("set_balance", account=ONE, currency="gbp", available_minor=0, policy="hold")
    platform.sandbox.act("set_balance", currency="gbp", available_minor=0, policy="hold")
    held = platform.refund("ch_1", reverse_transfer=True)
    platform.sandbox.act("top_up", currency="gbp", amount_minor=600)
    assert platform.client.v1.refunds.retrieve(held.id).status == "pending"
    platform.sandbox.act("top_up", account=ONE, currency="gbp", amount_minor=400)
    assert platform.client.v1.refunds.retrieve(held.id).status == "succeeded"
    assert platform.balances() == (0, 0)


def test_held_refund_that_fails_gives_its_shares_free(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, destination=ONE)
    platform.sandbox.act("set_balance", account=ONE, currency="gbp", available_minor=0, policy="hold")
    held = platform.refund("ch_1", reverse_transfer=True)
    platform.sandbox.advance_refund(held.id, "failed")
    platform.sandbox.act("set_balance", account=ONE, currency="gbp", available_minor=1000)
    platform.refund("ch_1", reverse_transfer=True)
    assert platform.balances() == (0, 0)


# -- faults, counts, events, restarts ---------------------------------------------------------------------------------


def test_fault_and_counts_name_the_account(platform: Platform) -> None:
    for account in (ONE, TWO):
        platform.sandbox.register_payment("ch_1", 1000, account=account)
    platform.sandbox.add_fault({"refuse": "charge_disputed"}, match={"path_kind": "create", "account": TWO})
    assert platform.refund("ch_1", ONE).status == "succeeded"
    assert platform.refused("ch_1", TWO)[1] == "charge_disputed"
    assert platform.sandbox.requests(ONE) == {"POST create": {"200": 1}}
    assert platform.sandbox.requests(TWO) == {"POST create": {"400": 1}}
    assert platform.sandbox.requests() == {}
    assert platform.sandbox.book()["requests"] == {"POST create": {"200": 1, "400": 1}}


def test_everything_connected_survives_a_restart(platform: Platform) -> None:
    platform.sandbox.register_payment("ch_1", 1000, account=ONE, application_fee_minor=100, customer_must_act=True)
    platform.sandbox.register_payment("ch_2", 1000, destination=ONE, application_fee_minor=100)
    waits = platform.refund("ch_1", ONE, "k", refund_application_fee=True)
    platform.refund("ch_2", amount=500, reverse_transfer=True, refund_application_fee=True)
    before = platform.sandbox.book()
    platform.sandbox.kill()
    platform.sandbox.start()
    assert platform.sandbox.book() | {"requests": None} == before | {"requests": None}
    assert platform.refund("ch_1", ONE, "k", refund_application_fee=True).id == waits.id
    platform.sandbox.act("customer_acts", account=ONE, refund=waits.id, after_seconds=10)
    platform.sandbox.advance_clock(11)
    assert platform.sandbox.refunds()[-1]["status"] == "succeeded"
    platform.sandbox.advance_clock(4 * 86_400)
    shown = platform.client.v1.refunds.retrieve(waits.id, {}, {"stripe_account": ONE}).to_dict()
    assert shown["destination_details"]["card"]["reference_status"] == "available"


def test_event_of_a_connected_account_carries_it_and_its_secret(platform: Platform, receiver: Receiver) -> None:
    platform.sandbox.register_payment("ch_1", 1000, account=ONE)
    platform.sandbox.register_payment("ch_2", 1000, destination=ONE)
    platform.sandbox.send_webhooks_to(receiver.url, "whsec_own", connect_secret=receiver.secret)
    platform.refund("ch_1", ONE, amount=1)
    created, charged = receiver.events(2)
    assert {created.account, charged.account} == {ONE}
    platform.sandbox.send_webhooks_to(receiver.url, receiver.secret, connect_secret="whsec_other")
    platform.refund("ch_2", amount=1)
    assert [event.to_dict().get("account") for event in receiver.events(4)[2:]] == [None, None]

"""Transfers, reversals and payouts: whose money moves, what is refused, and what reaches the bank."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
import stripe

from refund_worker.processors.sandbox import Sandbox, SandboxError

if TYPE_CHECKING:
    from tests.processors.sandbox.conftest import Receiver

Connect = Callable[..., stripe.StripeClient]
ONE, TWO = "acct_One1", "acct_Two2"
DAY_SECONDS = 86_400


class Platform:
    """A platform with 100.00 USD and one connected account, at a sandbox of its own, with the official client."""

    def __init__(self, sandbox: Sandbox, client: stripe.StripeClient) -> None:
        self.sandbox, self.v1 = sandbox, client.v1
        sandbox.act("top_up", currency="usd", amount_minor=10_000)
        sandbox.act("connect_account", account=ONE)

    def transfer(self, amount: int, key: str | None = None, to: str = ONE, **params: Any) -> stripe.Transfer:
        """Transfer an amount to a connected account."""
        options: Any = {"idempotency_key": key} if key else {}
        return self.v1.transfers.create({"amount": amount, "currency": "usd", "destination": to, **params}, options)

    def payout(self, amount: int, key: str | None = None, account: str = ONE, **params: Any) -> stripe.Payout:
        """Pay an amount of a connected account to its bank."""
        options: Any = {"stripe_account": account, **({"idempotency_key": key} if key else {})}
        return self.v1.payouts.create({"amount": amount, "currency": "usd", **params}, options)

    def read(self, payout_id: str, account: str = ONE) -> stripe.Payout:
        """Return the payout as it is now."""
        return self.v1.payouts.retrieve(payout_id, {}, {"stripe_account": account})

    def money(self) -> tuple[int, int, int]:
        """Return the money of the platform, of the account ONE, and what reached the bank of ONE."""
        book = self.sandbox.book()
        sums = (book["balances"][""], book["balances"].get(ONE, {}), book["banks"].get(ONE, {}))
        return sums[0].get("usd", 0), sums[1].get("usd", 0), sums[2].get("usd", 0)

    def moved(self, account: str | None = None) -> list[tuple[str, int, str]]:
        """Return type, amount and source of each balance transaction of an account, oldest first."""
        options: Any = {"stripe_account": account} if account else {}
        listed = self.v1.balance_transactions.list({"limit": 100}, options).data
        return [(each.type, each.amount, str(each.source)) for each in reversed(listed)]


@pytest.fixture
def platform(own_sandbox: Sandbox, connect: Connect) -> Platform:
    """A platform without transfers."""
    return Platform(own_sandbox, connect(own_sandbox))


def refused(work: Callable[[], object]) -> tuple[int | None, str | None, str | None]:
    """Return status, code and parameter of the error that `work` raises."""
    with pytest.raises(stripe.StripeError) as raised:
        work()
    error: dict[str, Any] = raised.value.json_body["error"]  # type: ignore[index]  # the SDK drops some codes
    return raised.value.http_status, error.get("code"), error.get("param")


# -- money ------------------------------------------------------------------------------------------------------------


def test_money_goes_from_the_platform_over_the_account_to_its_bank(platform: Platform) -> None:
    transfer = platform.transfer(4_000, transfer_group="po_ours", metadata={"leg": "l1"})
    assert (transfer.amount, transfer.amount_reversed, transfer.reversed) == (4_000, 0, False)
    assert (transfer.destination, transfer.transfer_group, transfer.metadata["leg"]) == (ONE, "po_ours", "l1")
    assert platform.money() == (6_000, 4_000, 0)
    payout = platform.payout(3_000)
    assert (payout.status, payout.method, payout.automatic) == ("pending", "standard", False)
    assert platform.money() == (6_000, 1_000, 0)
    platform.sandbox.advance_clock(DAY_SECONDS)
    assert platform.read(payout.id).status == "in_transit"
    platform.sandbox.advance_clock(DAY_SECONDS)
    paid = platform.read(payout.id)
    assert (paid.status, paid.trace_id and paid.trace_id.status) == ("paid", "supported")
    assert platform.money() == (6_000, 1_000, 3_000)
    assert platform.moved()[1:] == [("transfer", -4_000, transfer.id)]
    assert platform.moved(ONE) == [
        ("payment", 4_000, str(transfer.destination_payment)),
        ("payout", -3_000, payout.id),
    ]
    platform.sandbox.restart()
    assert platform.money() == (6_000, 1_000, 3_000)
    assert platform.read(payout.id) == paid


def test_paid_payout_can_fail_and_its_money_is_back_on_the_account(platform: Platform) -> None:
    platform.transfer(4_000)
    payout = platform.payout(4_000)
    platform.sandbox.advance_clock(3 * DAY_SECONDS)
    assert platform.money() == (6_000, 0, 4_000)
    platform.sandbox.act("move_payout", account=ONE, payout=payout.id, status="failed", failure_code="account_closed")
    failed = platform.read(payout.id)
    assert (failed.status, failed.failure_code) == ("failed", "account_closed")
    assert platform.money() == (6_000, 4_000, 0)
    returned = platform.v1.balance_transactions.retrieve(
        str(failed.failure_balance_transaction), {}, {"stripe_account": ONE}
    )
    assert (returned.type, returned.amount, returned.reporting_category) == ("payout_failure", 4_000, "payout_reversal")
    (bank,) = platform.v1.accounts.retrieve(ONE).external_accounts.data  # type: ignore[union-attr]
    assert isinstance(bank, stripe.BankAccount)
    assert bank.status == "errored"
    platform.sandbox.act("change_bank", account=ONE)
    (other,) = platform.v1.accounts.retrieve(ONE).external_accounts.data  # type: ignore[union-attr]
    assert other.id != bank.id
    with pytest.raises(SandboxError, match="nothing comes after that"):
        platform.sandbox.act("move_payout", account=ONE, payout=payout.id, status="paid")


def test_only_a_pending_payout_can_be_canceled(platform: Platform) -> None:
    platform.transfer(4_000)
    one, two = platform.payout(1_000), platform.payout(2_000)
    assert platform.v1.payouts.cancel(one.id, {}, {"stripe_account": ONE}).status == "canceled"
    platform.sandbox.advance_clock(DAY_SECONDS)
    assert refused(lambda: platform.v1.payouts.cancel(two.id, {}, {"stripe_account": ONE})) == (400, None, None)
    assert platform.read(one.id).status == "canceled"  # the steps that were planned for it came to nothing
    assert platform.money() == (6_000, 2_000, 0)
    assert [each[:2] for each in platform.moved(ONE)][-1] == ("payout_cancel", 1_000)


def test_instant_payout_is_paid_within_half_an_hour(platform: Platform) -> None:
    platform.transfer(4_000)
    payout = platform.payout(1_000, method="instant")
    platform.sandbox.advance_clock(1_800)
    assert platform.read(payout.id).status == "paid"
    platform.sandbox.act("change_account", account=ONE, instant=False)
    assert refused(lambda: platform.payout(1_000, method="instant")) == (400, "instant_payouts_unsupported", None)
    assert platform.payout(1_000).method == "standard"


def test_reversal_takes_money_back_while_it_is_there(platform: Platform) -> None:
    transfer = platform.transfer(4_000)
    first = platform.v1.transfers.reversals.create(transfer.id, {"amount": 1_000, "metadata": {"leg": "l3"}})
    assert (first.amount, first.transfer, first.metadata and first.metadata["leg"]) == (1_000, transfer.id, "l3")
    shown = platform.v1.transfers.retrieve(transfer.id)
    assert (shown.amount_reversed, shown.reversed, shown.reversals.data[0].id) == (1_000, False, first.id)
    assert platform.money() == (7_000, 3_000, 0)
    reversals = platform.v1.transfers.reversals
    assert refused(lambda: reversals.create(transfer.id, {"amount": 3_001})) == (400, None, "amount")
    platform.sandbox.act("payout", account=ONE, currency="usd")
    assert platform.money() == (7_000, 0, 3_000)
    assert refused(lambda: reversals.create(transfer.id)) == (400, "balance_insufficient", None)
    platform.sandbox.act("top_up", account=ONE, currency="usd", amount_minor=3_000)
    second = reversals.create(transfer.id)
    assert platform.v1.transfers.retrieve(transfer.id).reversed
    assert refused(lambda: reversals.create(transfer.id)) == (400, None, "amount")
    assert [each.id for each in reversals.list(transfer.id).data] == [second.id, first.id]
    assert reversals.retrieve(transfer.id, first.id).amount == 1_000
    other = platform.transfer(100)
    assert refused(lambda: reversals.retrieve(other.id, first.id)) == (404, "resource_missing", "id")
    assert [each[:2] for each in platform.moved()][2:4] == [("transfer_refund", 1_000), ("transfer_refund", 3_000)]


def test_books_balance_over_all_accounts(platform: Platform) -> None:
    """Every cent that came in is on an account or reached a bank."""
    transfer = platform.transfer(4_000)
    platform.sandbox.act("connect_account", account=TWO)
    platform.transfer(500, to=TWO)
    paid, failed = platform.payout(1_000), platform.payout(700)
    platform.payout(500, account=TWO)
    platform.sandbox.advance_clock(2 * DAY_SECONDS)
    platform.sandbox.act("move_payout", account=ONE, payout=failed.id, status="failed", failure_code="no_account")
    platform.v1.transfers.reversals.create(transfer.id, {"amount": 900})
    book = platform.sandbox.book()
    held = sum(sums.get("usd", 0) for sums in book["balances"].values())
    arrived = sum(sums.get("usd", 0) for sums in book["banks"].values())
    assert (held, arrived) == (8_500, 1_500)
    assert book["banks"] == {"": {}, ONE: {"usd": 1_000}, TWO: {"usd": 500}}
    assert (book["payouts"][0]["id"], book["payouts"][0]["account"]) == (paid.id, ONE)


def test_money_of_a_transfer_can_be_pending_at_first(platform: Platform) -> None:
    platform.sandbox.act("change_account", account=ONE, transfer_delay_seconds=DAY_SECONDS)
    platform.transfer(4_000)
    balance = platform.v1.balance.retrieve({}, {"stripe_account": ONE})
    assert (balance.available[0].amount, balance.pending[0].amount) == (0, 4_000)
    assert refused(lambda: platform.payout(1)) == (400, "balance_insufficient", None)
    platform.sandbox.advance_clock(DAY_SECONDS)
    assert platform.payout(4_000).amount == 4_000


# -- refusals ---------------------------------------------------------------------------------------------------------


def test_more_than_there_is_is_refused_and_moves_nothing(platform: Platform) -> None:
    assert refused(lambda: platform.transfer(10_001)) == (400, "balance_insufficient", None)
    platform.transfer(10_000)
    assert refused(lambda: platform.payout(10_001)) == (400, "balance_insufficient", None)
    assert platform.money() == (0, 10_000, 0)


def test_account_that_cannot_be_paid_is_refused(platform: Platform) -> None:
    platform.transfer(1_000)
    platform.sandbox.act("change_account", account=ONE, disabled_reason="rejected.fraud", transfers="inactive")
    assert refused(lambda: platform.transfer(1)) == (400, "insufficient_capabilities_for_transfer", None)
    assert refused(lambda: platform.payout(1)) == (400, "payouts_not_allowed", None)
    platform.sandbox.act("change_account", account=ONE, payouts_enabled=True, transfers="active", currency="EUR")
    assert platform.transfer(1).amount == 1
    assert refused(lambda: platform.payout(1)) == (400, None, None)  # its bank account takes euros only
    assert refused(lambda: platform.transfer(1, to=TWO)) == (400, "resource_missing", "destination")
    assert refused(lambda: platform.payout(1, account=TWO)) == (403, "account_invalid", None)
    assert refused(lambda: platform.payout(1, destination="ba_other")) == (400, "resource_missing", "destination")


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"amount": 0}, "parameter_invalid_integer", "amount"),
        ({"amount": "1.5"}, "parameter_invalid_integer", "amount"),
        ({"amount": None}, "parameter_missing", "amount"),
        ({"currency": None}, "parameter_missing", "currency"),
        ({"currency": "dollars"}, None, "currency"),
        ({"method": "soon"}, None, "method"),
        ({"statement_descriptor": "x" * 23}, None, "statement_descriptor"),
        ({"currency": "huf", "amount": 150}, None, "amount"),
        ({"colour": "red"}, "parameter_unknown", "colour"),
        ({"metadata": {"k": "v" * 501}}, None, "metadata[k]"),
    ],
)
def test_malformed_payout_is_refused_and_keeps_no_key(
    platform: Platform, params: dict[str, Any], code: str | None, param: str
) -> None:
    platform.transfer(4_000)
    sent = {"amount": 1_000, "currency": "usd", **params}
    options: Any = {"stripe_account": ONE, "idempotency_key": "k"}
    whole: Any = {name: value for name, value in sent.items() if value is not None}
    assert refused(lambda: platform.v1.payouts.create(whole, options)) == (400, code, param)
    assert platform.payout(1_000, "k").status == "pending"


# -- the account ------------------------------------------------------------------------------------------------------


def test_account_shows_what_it_lacks(platform: Platform) -> None:
    shown = platform.v1.accounts.retrieve(ONE)
    assert (shown.payouts_enabled, shown.requirements and shown.requirements.disabled_reason) == (True, None)
    lacks: dict[str, Any] = {"past_due": ["individual.dob.day"], "currently_due": ["external_account"]}
    platform.sandbox.act(
        "change_account", account=ONE, disabled_reason="requirements.past_due", current_deadline=2_000_000_000, **lacks
    )
    shown = platform.v1.accounts.retrieve(ONE)
    requirements = shown.requirements
    assert requirements is not None
    assert (shown.payouts_enabled, requirements.disabled_reason) == (False, "requirements.past_due")
    assert (requirements.past_due, requirements.currently_due) == (lacks["past_due"], lacks["currently_due"])
    assert requirements.current_deadline == 2_000_000_000
    platform.sandbox.restart()
    assert platform.v1.accounts.retrieve(ONE) == shown
    platform.sandbox.act("change_account", account=ONE, payouts_enabled=True)
    cleared = platform.v1.accounts.retrieve(ONE)
    assert (cleared.payouts_enabled, cleared.requirements and cleared.requirements.past_due) == (True, [])
    assert platform.v1.accounts.retrieve_current().id.startswith("acct_")
    assert platform.v1.accounts.retrieve_current({}, {"stripe_account": ONE}).id == ONE


def test_account_without_a_connection_is_not_shown(platform: Platform) -> None:
    platform.sandbox.act("disconnect_account", account=ONE)
    for account in (ONE, "acct_Nobody"):
        assert refused(lambda account=account: platform.v1.accounts.retrieve(account)) == (403, "account_invalid", None)  # type: ignore[misc]


def test_wrong_change_of_an_account_is_named(platform: Platform) -> None:
    for fields, message in (
        ({"disabled_reason": "tired"}, "disabled_reason must be one of"),
        ({"transfers": "maybe"}, "transfers must be one of"),
        ({"currently_due": "external_account"}, "must be a list of at most 100 texts"),
    ):
        with pytest.raises(SandboxError, match=message):
            platform.sandbox.act("change_account", account=ONE, **fields)
    platform.sandbox.act("change_account", account=ONE, disabled_reason="tired", undocumented=True)
    with pytest.raises(SandboxError, match="needs account"):
        platform.sandbox.act("change_account", payouts_enabled=True)


# -- lists, keys and faults -------------------------------------------------------------------------------------------


def test_lists_have_the_filters_of_stripe(platform: Platform) -> None:
    platform.sandbox.act("connect_account", account=TWO)
    transfers = [platform.transfer(100 + number, transfer_group=f"g{number % 2}") for number in range(4)]
    platform.transfer(300, to=TWO)
    listed = platform.v1.transfers.list({"destination": ONE, "limit": 3})
    assert [each.id for each in listed.auto_paging_iter()] == [each.id for each in reversed(transfers)]
    group = platform.v1.transfers.list({"destination": ONE, "transfer_group": "g1"}).data
    assert [each.amount for each in group] == [103, 101]
    assert platform.v1.transfers.list({"created": {"gte": int(time.time()) + 3_600}}).data == []
    one, two = platform.payout(100), platform.payout(200)
    platform.sandbox.act("move_payout", account=ONE, payout=one.id, status="paid")
    options: Any = {"stripe_account": ONE}
    assert [each.id for each in platform.v1.payouts.list({"status": "paid"}, options).data] == [one.id]
    assert [each.id for each in platform.v1.payouts.list({"limit": 1}, options).auto_paging_iter()] == [two.id, one.id]
    soon = int(time.time()) + 3_600
    assert platform.v1.payouts.list({"arrival_date": {"lte": soon}}, options).data == []
    assert platform.v1.payouts.list({}, {"stripe_account": TWO}).data == []
    assert refused(lambda: platform.v1.payouts.retrieve(one.id)) == (404, "resource_missing", "payout")


def test_same_key_makes_one_object_for_each_account_and_path(platform: Platform) -> None:
    transfer = platform.transfer(4_000, "k")
    assert platform.transfer(4_000, "k").id == transfer.id
    payout = platform.payout(1_000, "k")  # another account: another key
    platform.sandbox.act("move_payout", account=ONE, payout=payout.id, status="failed")
    again = platform.payout(1_000, "k")
    assert (again.id, again.status) == (payout.id, "pending")  # the stored answer
    with pytest.raises(stripe.IdempotencyError):
        platform.payout(1_001, "k")
    reversals = platform.v1.transfers.reversals
    with pytest.raises(stripe.IdempotencyError):
        reversals.create(transfer.id, {"amount": 100}, {"idempotency_key": "k"})  # another endpoint
    made = [reversals.create(transfer.id, {"amount": 100}, {"idempotency_key": "r"}).id for _ in range(2)]
    assert len(set(made)) == 1
    with pytest.raises(stripe.IdempotencyError):
        reversals.create(platform.transfer(200).id, {"amount": 100}, {"idempotency_key": "r"})  # another transfer
    book = platform.sandbox.book()
    assert [len(book[name]) for name in ("transfers", "reversals", "payouts")] == [2, 1, 1]
    assert book["transfers"][0]["idempotency_key"] == "k"


def test_refusal_is_kept_under_its_key(platform: Platform) -> None:
    assert refused(lambda: platform.payout(1_000, "k"))[1] == "balance_insufficient"
    platform.transfer(4_000)
    assert refused(lambda: platform.payout(1_000, "k"))[1] == "balance_insufficient"
    assert platform.payout(1_000, "k2").status == "pending"


@pytest.mark.parametrize(
    ("do", "made"),
    [
        ({"reset": "before"}, 0),
        ({"reset": "after"}, 1),
        ({"reset": "mid_body"}, 1),
        ({"timeout": {"effect": "none"}}, 0),
        ({"timeout": {"effect": "now"}}, 1),
        ({"truncate": True}, 1),
        ({"server_error": {"effect": "none"}}, 0),
        ({"server_error": {"effect": "now", "sticky": False}}, 1),
        ({"rate_limit": {}}, 0),
        ({"conflict": "key_in_use"}, 0),
        ({"refuse": {"status": 400, "code": "amount_too_small", "message": "Too small."}}, 0),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", ["create_transfer", "create_reversal", "create_payout"])
def test_faults_act_on_every_call_that_moves_money(
    platform: Platform, kind: str, do: dict[str, Any], made: int
) -> None:
    transfer = platform.transfer(2_000)
    calls: dict[str, tuple[str, Callable[[], object]]] = {
        "create_transfer": ("transfers", lambda: platform.transfer(1_000, "k", metadata={"leg": "l"})),
        "create_payout": ("payouts", lambda: platform.payout(1_000, "k", metadata={"leg": "l"})),
        "create_reversal": (
            "reversals",
            lambda: platform.v1.transfers.reversals.create(
                transfer.id, {"amount": 1_000, "metadata": {"leg": "l"}}, {"idempotency_key": "k"}
            ),
        ),
    }
    name, call = calls[kind]
    before = len(platform.sandbox.book()[name])
    platform.sandbox.add_fault(do, match={"path_kind": kind, "metadata": {"leg": "l"}})
    with pytest.raises(stripe.StripeError):
        call()
    assert len(platform.sandbox.book()[name]) - before == made
    if "server_error" not in do and "refuse" not in do:  # these are kept under the key
        call()
        assert len(platform.sandbox.book()[name]) - before == 1


def test_late_transfer_takes_effect_and_its_list_can_lag(platform: Platform) -> None:
    platform.sandbox.add_fault(
        {"timeout": {"effect": "later", "after_seconds": 60}}, match={"path_kind": "create_transfer", "payment": ONE}
    )
    platform.sandbox.change_faults({"list_lag_seconds": 30})
    with pytest.raises(stripe.APIConnectionError):
        platform.transfer(4_000, "k")
    assert refused(lambda: platform.transfer(4_000, "k"))[:2] == (409, "idempotency_key_in_use")
    platform.sandbox.advance_clock(61)
    assert platform.transfer(4_000, "k").amount == 4_000
    assert platform.v1.transfers.list({"destination": ONE}).data == []
    platform.sandbox.advance_clock(31)
    assert len(platform.v1.transfers.list({"destination": ONE}).data) == 1


def test_life_of_a_payout_can_be_scripted(platform: Platform) -> None:
    platform.transfer(4_000)
    life = [{"status": "paid"}, {"status": "failed", "after_seconds": 60, "failure_reason": "account_frozen"}]
    platform.sandbox.add_fault({"lifecycle": life}, match={"path_kind": "create_payout", "account": ONE})
    payout = platform.payout(1_000)
    assert (payout.status, platform.money()[2]) == ("paid", 1_000)
    platform.sandbox.advance_clock(60)
    failed = platform.read(payout.id)
    assert (failed.status, failed.failure_code) == ("failed", "account_frozen")
    platform.sandbox.add_fault({"lifecycle": [{"status": "clearing"}]}, match={"path_kind": "create_payout"})
    assert platform.payout(1_000).status == "clearing"
    platform.sandbox.change_faults({"payout_seconds": None})
    waiting = platform.payout(1_000)
    platform.sandbox.advance_clock(100 * DAY_SECONDS)
    assert platform.read(waiting.id).status == "pending"


# -- events -----------------------------------------------------------------------------------------------------------


def test_events_of_connected_accounts_name_the_account(platform: Platform, receiver: Receiver) -> None:
    platform.sandbox.send_webhooks_to(receiver.url, receiver.secret)
    transfer = platform.transfer(4_000, "k", metadata={"leg": "l1"})
    platform.v1.transfers.update(transfer.id, {"metadata": {"note": "n"}})
    payout = platform.payout(1_000, metadata={"leg": "l2"})
    canceled = platform.payout(500)
    platform.v1.payouts.cancel(canceled.id, {}, {"stripe_account": ONE})
    for status in ("in_transit", "paid", "failed"):
        platform.sandbox.act("move_payout", account=ONE, payout=payout.id, status=status)
    platform.sandbox.act("change_account", account=ONE, disabled_reason="under_review")
    platform.v1.transfers.reversals.create(transfer.id, {"amount": 100})
    events = receiver.events(14)
    seen = {(each.type, each.data.object["id"], getattr(each, "account", None)) for each in events}
    assert seen == {
        *((f"transfer.{what}", transfer.id, None) for what in ("created", "updated", "reversed")),
        *((f"payout.{what}", payout.id, ONE) for what in ("created", "updated", "paid", "failed")),
        *((f"payout.{what}", canceled.id, ONE) for what in ("created", "updated", "canceled")),
        ("account.updated", ONE, ONE),
    }
    created = next(each for each in events if each.type == "payout.created" and each.data.object["id"] == payout.id)
    assert created.data.object["metadata"]["leg"] == "l2"
    reversed_ = next(each for each in events if each.type == "transfer.reversed")
    assert reversed_.data.object["amount_reversed"] == 100
    updates = [each.data.object for each in events if each.type == "account.updated"]
    assert [each["requirements"]["disabled_reason"] for each in updates] == [None, "under_review"]


def test_dashboard_reversal_has_none_of_our_marks(platform: Platform) -> None:
    transfer = platform.transfer(4_000, "k", metadata={"leg": "l1"})
    made = platform.sandbox.act("dashboard_reversal", transfer=transfer.id, amount_minor=1_500)
    assert (made["amount"], made["metadata"]) == (1_500, {})
    assert platform.v1.transfers.retrieve(transfer.id).amount_reversed == 1_500
    assert platform.money() == (7_500, 2_500, 0)

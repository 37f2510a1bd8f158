"""Paid refunds at an account without a list are read again each day: a late failure is found without any event."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import pytest
from tests.engine.claims.claim_worlds import balance_of, claims_of
from tests.support.engine_world import DAY, POLICY, START, World, assert_books_balance
from tests.support.scripted_processor import Died, ScriptedProcessor

from refund_worker.domain.processor_replies import Denied, Misconfigured, Reply, Unanswered
from refund_worker.domain.refund import RefundStatus
from refund_worker.domain.state_machine import Action
from refund_worker.engine.context import NoLimit
from refund_worker.engine.processor_sync import reread as module
from refund_worker.engine.processor_sync.reread import AT_ONCE, DAYS, reread
from refund_worker.engine.refunds.payment_facts import reading_slot
from refund_worker.processors.accounts import Account, Accounts
from refund_worker.processors.adyen.entry import ENTRY as ADYEN
from refund_worker.processors.base import ProcessorEntry
from refund_worker.processors.braintree.entry import ENTRY as BRAINTREE
from refund_worker.processors.manual import ENTRY as MANUAL
from refund_worker.processors.paypal.entry import ENTRY as PAYPAL
from refund_worker.processors.stripe.entry import ENTRY as STRIPE
from refund_worker.store import processors

HOUR = 3_600.0


@dataclass
class Reader(ScriptedProcessor):
    """Answers what `replies` says about an object. `deaths` end the process at such a fetch, by its number."""

    replies: dict[str, Reply] = field(default_factory=dict)
    deaths: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        super().__init__()

    async def fetch(self, processor_refund_id: str) -> Reply:
        answer = await super().fetch(processor_refund_id)
        if len(self.asked) in self.deaths:
            raise Died
        return self.replies.get(processor_refund_id, answer)


@pytest.fixture
def reader() -> Reader:
    """The processor."""
    return Reader()


@pytest.fixture
def world(migrated_sqlite_url: str, reader: Reader) -> Iterator[World]:
    """Return a world in which refunds of others are recorded. Its processor is a reader."""
    made = World(migrated_sqlite_url, processors={"stripe": reader}, policy=replace(POLICY, outside_since=0.0))
    made.processor = reader
    yield made
    assert_books_balance(made.database)
    made.close()


def paid(world: World, count: int = 1) -> list[str]:
    """Pay this many refunds of 10 credits each, each over a payment of its own, and return their ids."""
    for number in range(1, count + 1):
        world.pay(number, amount_minor=100, credits=10)
    ids = [world.withdraw(10, key=f"k{number}") for number in range(count)]
    world.work()
    assert {world.refund(refund_id).status for refund_id in ids} == {RefundStatus.SUCCEEDED}
    world.processor.asked.clear()
    return ids


def read_round(world: World) -> list[str]:
    """Read until nothing is left to read, and return the ids of the objects that were fetched."""
    before = len(world.processor.asked)
    for _ in range(10):
        if not reread(world.context, "stripe"):
            return world.processor.asked[before:]
    raise AssertionError("a round that never ends")


def test_late_failure_without_any_event_returns_the_credits_once(world: World, reader: Reader) -> None:
    (refund_id,) = paid(world)
    assert world.account.balance == 0
    assert read_round(world) == ["re_1"]
    assert world.refund(refund_id).status is RefundStatus.SUCCEEDED
    reader.become("re_1", "failed")
    world.pass_time(DAY)
    assert read_round(world) == ["re_1"]
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED
    assert world.account.balance == 10
    world.pass_time(DAY)
    assert read_round(world) == []
    assert world.account.balance == 10


def test_each_object_is_read_once_a_day(world: World) -> None:
    paid(world, 3)
    assert sorted(read_round(world)) == ["re_1", "re_2", "re_3"]
    world.pass_time(DAY - 1)
    assert read_round(world) == []
    world.pass_time(1)
    assert sorted(read_round(world)) == ["re_1", "re_2", "re_3"]


def test_round_of_many_objects_reads_each_once_also_after_a_crash(
    world: World, reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    paid(world, 5)
    assert reread(world.context, "stripe") == 2
    reader.deaths = {3}
    with pytest.raises(Died):
        reread(world.context, "stripe")
    reader.deaths = set()
    reader.asked.clear()
    assert sorted(read_round(world)) == ["re_3", "re_4", "re_5"]


def test_round_that_lasts_longer_than_a_day_is_ended_first(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 2)
    paid(world, 3)
    assert reread(world.context, "stripe") == 2
    world.pass_time(2 * DAY)
    assert (reread(world.context, "stripe"), reread(world.context, "stripe")) == (1, 2)
    assert world.processor.asked == ["re_1", "re_2", "re_3", "re_1", "re_2"]


def test_objects_with_one_creation_time_are_all_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "AT_ONCE", 1)
    paid(world, 3)
    assert {item.created_at.timestamp() for item in world.processor.objects.values()} == {START}
    assert read_round(world) == ["re_1", "re_2", "re_3"]


@pytest.mark.parametrize(("days", "read"), [(DAYS - 1, ["re_1"]), (DAYS + 1, [])])
def test_objects_are_read_as_long_as_lists_would_show_them(world: World, days: int, read: list[str]) -> None:
    paid(world)
    world.pass_time(days * DAY)
    assert read_round(world) == read


def test_objects_that_were_not_paid_are_not_read(world: World, reader: Reader) -> None:
    world.pay()
    reader.script("ch_1", "pending")
    world.withdraw()
    world.work()
    reader.asked.clear()
    assert read_round(world) == []


def test_refused_key_opens_the_circuit_and_the_round_waits(world: World, reader: Reader) -> None:
    (refund_id,) = paid(world)
    reader.become("re_1", "failed")
    reader.replies["re_1"] = Denied("invalid_client", "no")
    assert read_round(world) == ["re_1"]
    with world.database.read() as connection:
        assert processors.open_circuits(connection, world.now) == {"stripe"}
    assert read_round(world) == []  # nothing is asked while the circuit is open
    reader.replies.clear()
    world.pass_time(HOUR)
    assert read_round(world) == ["re_1"]
    world.work()
    assert world.refund(refund_id).status is RefundStatus.FAILED


def test_object_that_cannot_be_read_holds_up_no_other(world: World, reader: Reader) -> None:
    first, second = paid(world, 2)
    for each in ("re_1", "re_2"):
        reader.become(each, "failed")
    reader.replies["re_1"] = Unanswered("timeout")
    assert sorted(read_round(world)) == ["re_1", "re_2"]
    world.work()
    assert sorted(world.refund(each).status for each in (first, second)) == ["failed", "succeeded"]
    reader.replies.clear()
    world.pass_time(DAY)
    assert read_round(world) == ["re_1"]
    world.work()
    assert world.account.balance == 20


def test_refund_that_is_not_there_is_shown_to_a_person_once(world: World, reader: Reader) -> None:
    paid(world, 2)
    del reader.objects["re_1"]
    (refund_id,) = refunds_of(world, "re_1")
    read_round(world)
    assert world.refund(refund_id).legs[0].attention_code == "not_at_processor"
    assert world.account.balance == 0
    world.command(refund_id, Action.RESOLVE)
    world.pass_time(DAY)
    assert sorted(read_round(world)) == ["re_1", "re_2"]
    assert world.refund(refund_id).legs[0].attention_code is None
    assert world.events(refund_id).count("not_at_processor") == 1


def test_nothing_is_shown_if_no_refund_is_there(world: World, reader: Reader) -> None:
    """The access may be another account's."""
    ids = paid(world, 2)
    reader.objects.clear()
    read_round(world)
    assert [world.refund(each).legs[0].attention_code for each in ids] == [None, None]


def refunds_of(world: World, object_id: str) -> list[str]:
    """Return the refund that this object pays."""
    with world.database.read() as connection:
        found = module.refund_objects.find_legs(connection, [("stripe", object_id)])
    return [refund_id for refund_id, _ in found.values()]


@pytest.mark.parametrize(("told", "held"), [("succeeded", (0, 0)), ("pending", (100, 100))])
def test_refund_of_others_that_fails_later_gives_the_credits_back(
    world: World, reader: Reader, told: str, held: tuple[int, int]
) -> None:
    world.pay()
    made = world.refund_in_the_dashboard(status=told)
    module.record_objects(world.context, "stripe", [made])
    assert balance_of(world) == held
    reader.become(made.processor_refund_id, "failed")
    assert read_round(world) == [made.processor_refund_id]
    assert balance_of(world) == (100, 0)
    assert [claim["phase"] for claim in claims_of(world)] == ["released"]
    world.pass_time(DAY)
    assert read_round(world) == []


def test_answer_of_another_amount_alerts_a_person_once(world: World, reader: Reader) -> None:
    (refund_id,) = paid(world)
    reader.objects["re_1"] = replace(reader.objects["re_1"], status="failed", amount_minor=7)
    for _ in range(3):
        assert read_round(world) == ["re_1"]
        world.pass_time(DAY)
    assert world.events(refund_id).count("answer_mismatch") == 1
    assert world.account.balance == 0


def test_clock_that_went_back_does_not_end_the_readings(world: World) -> None:
    paid(world)
    world.pass_time(20 * DAY)
    assert read_round(world) == ["re_1"]
    world.now = START + DAY
    assert read_round(world) == ["re_1"]


def test_readings_have_a_limit_of_their_own(world: World) -> None:
    paid(world)
    slots: list[str] = []

    class Slots(NoLimit):
        async def acquire(self, processor: str) -> None:
            slots.append(processor)

    world.context = replace(world.context, limiter=Slots())
    read_round(world)
    assert slots == [reading_slot("stripe")]


def test_objects_of_another_account_are_not_read(world: World, reader: Reader) -> None:
    paid(world)
    world.context = replace(world.context, processors={"stripe": reader, "other": reader})
    assert reread(world.context, "other") == 0


def test_refunds_of_others_at_another_account_are_not_read(world: World, reader: Reader) -> None:
    world.pay()
    module.record_objects(world.context, "stripe", [world.refund_in_the_dashboard()])
    world.context = replace(world.context, processors={"stripe": reader, "other": reader})
    assert (reread(world.context, "other"), reread(world.context, "stripe")) == (0, 1)


def test_refund_that_only_cannot_be_read_is_not_shown(world: World, reader: Reader) -> None:
    ids = paid(world, 2)
    reader.replies["re_1"] = Misconfigured("bad_refund_id", "no such form")
    read_round(world)
    assert [world.refund(each).legs[0].attention_code for each in ids] == [None, None]


def test_account_without_access_is_not_read(world: World) -> None:
    paid(world)
    assert reread(world.context, "paypal") == 0


def test_only_accounts_without_another_way_are_read_again() -> None:
    entries = (ADYEN, BRAINTREE, MANUAL, PAYPAL, STRIPE)
    assert [entry.name for entry in entries if entry.capabilities.rereads_refunds] == ["paypal"]
    final = replace(PAYPAL.capabilities, answers_are_final=True)
    assert not final.rereads_refunds


@pytest.mark.parametrize("has_access", [True, False])
def test_account_is_read_again_only_with_access(has_access: bool) -> None:
    entry: ProcessorEntry = PAYPAL
    secrets = {"client_id": "id", "client_secret": "secret"} if has_access else {}
    account = Account(name="paypal", entry=entry, settings=entry.settings.model_validate(secrets))
    assert Accounts({"paypal": account}).to_reread() == (("paypal",) if has_access else ())


def test_as_many_objects_are_read_at_once_as_the_page_says() -> None:
    assert (AT_ONCE, DAYS) == (20, 35)

"""Every order of the steps of all who move the money of one payment: our refund, a person, a bank, our operators.

`python -m tests.engine.claims.claim_orders SEED SCENARIOS` plays every order of that many random scenarios. The tests
play a few orders of some.
"""

from __future__ import annotations

import copy
import logging
import random
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.engine.claims.claim_worlds import claims_of, dispute
from tests.support.engine_world import POLICY, World, assert_books_balance
from tests.support.migrated import migrate

from refund_worker.domain.claims.claim import ClaimKind, ShortfallRule
from refund_worker.domain.processor_replies import RefundObject, Refused, Reply
from refund_worker.domain.state_machine import UNPAID_FINAL
from refund_worker.engine.claims.close import close_payment
from refund_worker.engine.claims.decide import decide_claim
from refund_worker.engine.claims.link import link_outside_refund
from refund_worker.engine.claims.listener import record_disputes, record_outside_refunds
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.errors import ActionNotAllowed, InvalidRequest, Refusal
from refund_worker.store.tables import legs, payments

PAID_MINOR, CREDITS = 1_000, 100
RATE = PAID_MINOR // CREDITS
DAY = 86_400.0
OWN_SENDS: dict[str, str | Reply] = {
    "pays": "pays",
    "succeeds later": "pending",
    "fails later": "pending",
    "is refused": Refused("expired_or_canceled_card", "the card is closed"),
    "pays without an answer": "pays_silently",
}


OUTSIDE = (
    (),
    ("pending", "succeeded"),
    ("pending", "failed"),
    ("pending", "succeeded", "failed"),
    ("succeeded", "late pending"),
    ("succeeded", "link refund"),
    ("pending", "succeeded", "link spend"),
    ("succeeded", "link refund", "failed"),
)
# A "whole" dispute is first reported with the amount of the whole payment.
DISPUTE = (
    (),
    ("opened", "won"),
    ("opened", "lost"),
    ("opened", "lost", "reinstated"),
    ("lost", "won"),
    ("whole opened", "opened", "lost"),
    ("whole opened", "lost"),
    ("whole lost", "lost"),
)
# A refund that `refunded_minor` counts, which has not ended when the payment is recorded.
EARLIER = (
    (),
    ("pending",),
    ("pending", "failed"),
    ("pending", "succeeded", "failed"),
    ("succeeded", "link refund"),
    ("succeeded", "link refund", "failed"),
)
EARLIER_ID = "re_earlier"
_HAPPENED = ("object_id", "phase", "amount_minor", "linked_minor", "payment_id", "decided_by")


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """The steps of each actor, in their order; the amounts are in minor units."""

    own: str | None
    own_credits: int
    outside: tuple[str, ...]
    outside_minor: int
    dispute: tuple[str, ...]
    dispute_minor: int
    second: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
    earlier_minor: int = 0
    spent: int
    rule: str
    others: tuple[str, ...] = ()  # "close", "spend", "write_off" and "debt", each at any moment

    @property
    def actors(self) -> tuple[tuple[str, ...], ...]:
        """Return the steps of each actor."""
        own: tuple[str, ...] = ()
        if self.own is not None:
            own = ("own request", "own send")
            own += () if self.own in ("pays", "is refused") else ("own end",)
        outside = tuple(f"outside {step}" for step in self.outside)
        earlier = tuple(f"earlier {step}" for step in self.earlier)
        disputes = tuple(f"dp_1 {step}" for step in self.dispute), tuple(f"dp_2 {step}" for step in self.second)
        return tuple(
            steps for steps in (own, outside, earlier, *disputes, *((other,) for other in self.others)) if steps
        )


def open_world(path: Path, scenario: Scenario) -> World:
    """Return a world on this file in which refunds of others are recorded."""
    world = World(f"sqlite:///{path}")
    world.context = replace(world.context, policy=replace(POLICY, outside_since=0.0, shortfall=scenario.rule))
    return world


@dataclass
class Play:
    """One order as far as it was played."""

    world: World
    scenario: Scenario
    refund_id: str | None = None

    def begin(self) -> None:
        """Record the payment and what was spent of it."""
        before = self.scenario.earlier_minor if self.scenario.earlier else 0
        if before:
            self.world.refund_in_the_dashboard(before, processor_refund_id=EARLIER_ID, status="pending")
            self.world.pass_time(DAY)
        self.world.pay(amount_minor=PAID_MINOR, credits=CREDITS, refunded_minor=before)
        self.world.pass_time(DAY)
        if self.scenario.spent:
            self.world.spend("t", credits=self.scenario.spent)
        if self.scenario.own is not None:
            self.world.processor.script("ch_1", OWN_SENDS[self.scenario.own])

    def step(self, name: str) -> None:
        """Do one step, and check what must hold after every step."""
        keys = {key for key, _ in self.world.processor.sends}
        actor, _, what = name.partition(" ")
        actors: dict[str, Callable[[str], object]] = {
            "own": self._own,
            "outside": self._outside,
            "earlier": self._earlier,
            "dp_1": lambda what: self._dispute("dp_1", what),
            "dp_2": lambda what: self._dispute("dp_2", what),
            "close": lambda _: self._close(),
            "spend": lambda _: self._spend(),
            "write_off": lambda _: self._decide(ShortfallRule.WRITE_OFF),
            "debt": lambda _: self._decide(ShortfallRule.DEBT),
        }
        actors[actor](what)
        self.check()
        if {key for key, _ in self.world.processor.sends} - keys:
            self.check_send()

    def finish(self) -> None:
        """Work and listen until everything has ended, and check again."""
        for _ in range(2):
            sync_all(self.world.context, "stripe")
            self.world.work_for(POLICY.key_life_seconds * 2)
            self.check()

    # --- actors ------------------------------------------------------------------------------------------------------

    def _own(self, what: str) -> None:
        if what == "request":
            try:
                self.refund_id = self.world.withdraw(self.scenario.own_credits)
            except Refusal:
                self.refund_id = None
        elif what == "send":
            self.world.work()
        elif self.scenario.own == "pays without an answer":
            self.world.work_for(POLICY.quiet_seconds + POLICY.lease_seconds + 1)
        else:
            status = "succeeded" if self.scenario.own == "succeeds later" else "failed"
            for name, made in list(self.world.processor.objects.items()):
                if made.leg_id is not None and made.status == "pending":
                    self.world.processor.become(name, status)
            sync_all(self.world.context, "stripe")
            self.world.work()

    def _outside(self, what: str) -> None:
        known = self.world.processor.objects
        objects = [made for name, made in known.items() if made.leg_id is None and name != EARLIER_ID]
        if what.startswith("link"):
            self._link(what, [made.processor_refund_id for made in objects])
            return
        made: RefundObject = objects[0] if objects else self.world.refund_in_the_dashboard(self.scenario.outside_minor)
        report = replace(made, status=what)
        if not what.startswith("late"):
            self.world.processor.objects[made.processor_refund_id] = report
        record_outside_refunds(self.world.context, "stripe", [replace(report, status=what.removeprefix("late "))])

    def _earlier(self, what: str) -> None:
        if what.startswith("link"):
            self._link(what, [EARLIER_ID])
            return
        report = replace(self.world.processor.objects[EARLIER_ID], status=what)
        self.world.processor.objects[EARLIER_ID] = report
        record_outside_refunds(self.world.context, "stripe", [report])

    def _link(self, what: str, object_ids: Sequence[str]) -> None:
        claims = [claim for claim in claims_of(self.world) if claim["object_id"] in object_ids]
        target = {"transaction_id": "t"} if what == "link spend" else {"refund_id": self.refund_id}
        if not claims or None in target.values():
            return
        with suppress(ActionNotAllowed, InvalidRequest, Refusal):
            link_outside_refund(self.world.context, claims[0]["claim_id"], actor="op", reason="the same", **target)

    def _dispute(self, name: str, what: str) -> None:
        minor = self.scenario.dispute_minor if name == "dp_1" else PAID_MINOR - self.scenario.dispute_minor
        if what.startswith("whole"):
            minor = PAID_MINOR
        status, returned = {
            "opened": ("needs_response", False),
            "lost": ("lost", False),
            "won": ("won", True),
            "reinstated": ("lost", True),
        }[what.removeprefix("whole ")]
        made = dispute(self.world, status, minor, dispute_id=name, money_returned=returned)
        record_disputes(self.world.context, "stripe", [made])

    def _spend(self) -> None:
        with suppress(Refusal):
            self.world.spend("later", credits=30, occurred_at=self.world.now)

    def _close(self) -> None:
        with suppress(ActionNotAllowed):
            close_payment(self.world.context, "pay1", actor="op", reason="recorded wrong")

    def _decide(self, decision: ShortfallRule) -> None:
        for claim in claims_of(self.world):
            try:
                kind = ClaimKind(claim["kind"])
                decide_claim(
                    self.world.context, claim["claim_id"], kind=kind, decision=decision, actor="op", reason="so"
                )
            except ActionNotAllowed:
                pass

    # --- checks ------------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Check the books, the money that is gone against the credits that are left, and the shortfalls."""
        assert_books_balance(self.world.database)
        claims, account = claims_of(self.world), self.world.account
        own = self.own_legs()
        live = [claim for claim in claims if claim["phase"] in ("holding", "taken") and claim["payment_id"]]
        gone = sum(leg["amount_minor"] for leg in own) + self.gone_before()
        gone += sum(max(0, claim["amount_minor"] - claim["explained_minor"]) for claim in live)
        missing = sum(claim["credits"] - claim["held"] - claim["taken"] for claim in live)
        debt = sum(claim["debt"] for claim in live)
        kept = account.balance - account.held + account.net_spent
        figures = f"gone {gone}, kept {kept}, missing {missing}, debt {debt}, {account}, {claims}"
        assert min(gone, PAID_MINOR) + kept * RATE <= PAID_MINOR + missing * RATE, f"too much: {figures}"
        # A shortfall is never more than what the customer spent, and none is left while there are credits to take.
        assert 0 <= missing <= account.net_spent, f"a shortfall without a cause: {figures}"
        assert not missing or account.balance - account.held <= 0, f"a shortfall beside free credits: {figures}"
        if gone > PAID_MINOR and any(claim["kind"] == "dispute" for claim in live):
            self._check_alerts(own)

    def check_send(self) -> None:
        """Check that our own refund was sent only while its money was there, as far as we knew."""
        claims = [claim for claim in claims_of(self.world) if claim["phase"] in ("holding", "taken")]
        sent = sum(leg["amount_minor"] for leg in self.own_legs())
        taken = sum(max(0, claim["amount_minor"] - claim["explained_minor"]) for claim in claims)
        assert sent + taken + self.gone_before() <= PAID_MINOR, "sent although others had taken the money"
        assert not any(claim["kind"] == "dispute" and claim["phase"] == "holding" for claim in claims)

    def gone_before(self) -> int:
        """Return the minor units of `refunded_minor` that are still gone: what the processor has of that refund."""
        with self.world.database.read() as connection:
            row = connection.execute(payments.select()).mappings().one()
        known = int(row["refunded_minor"] - row["returned_minor"])
        there = self.world.processor.objects.get(EARLIER_ID)
        truly = there.amount_minor if there is not None and there.status != "failed" else 0
        if truly:  # what it pays of a leg counts there
            truly -= sum(c["linked_minor"] for c in claims_of(self.world) if c["object_id"] == EARLIER_ID)
        # A closed payment has no object any more: its id at the processor is free for another record.
        assert known == truly or row["closed_at"] is not None, f"{known} of `refunded_minor` is gone, truly {truly}"
        return known

    def own_legs(self) -> list[dict[str, Any]]:
        """Return the legs that have paid or may still pay."""
        with self.world.database.read() as connection:
            rows = [dict(row) for row in connection.execute(legs.select()).mappings()]
        return [row for row in rows if row["status"] not in {str(status) for status in UNPAID_FINAL}]

    def _check_alerts(self, own: Sequence[dict[str, Any]]) -> None:
        for leg in own:
            if leg["status"] == "succeeded" and leg["amount_minor"]:
                assert "refund_and_dispute" in self.world.events(leg["refund_id"])

    def end(self) -> tuple[str, tuple[int, ...]]:
        """Return what happened to the money, and the customer's figures: the first decides the second."""
        claims, account = claims_of(self.world), self.world.account
        happened = (
            sorted((leg["amount_minor"], leg["payment_credits"], leg["status"]) for leg in self.own_legs()),
            sorted(tuple(str(claim[name]) for name in _HAPPENED) for claim in claims),
            account.net_spent,
        )
        figures = (account.balance, account.held, sum(claim["credits"] for claim in claims))
        return repr(happened), figures


@dataclass(frozen=True)
class Ended:
    """One order with its end: what happened to the money, and the customer's figures."""

    order: tuple[str, ...]
    happened: str
    figures: tuple[int, ...]


def play_one(path: Path, scenario: Scenario, rng: random.Random) -> Ended:
    """Play one random order on the empty database at `path`."""
    play = Play(open_world(path, scenario), scenario)
    steps = [number for number, its in enumerate(scenario.actors) for _ in its]
    rng.shuffle(steps)
    left = [list(its) for its in scenario.actors]
    order = tuple(left[number].pop(0) for number in steps)
    try:
        play.begin()
        for done, name in enumerate(order, 1):
            _checked(scenario, order[:done], play.step, name)
        _checked(scenario, order, play.finish)
        return Ended(order, *play.end())
    finally:
        play.world.close()


def play_all(folder: Path, template: Path, scenario: Scenario) -> Iterator[Ended]:
    """Play every order of the scenario. Orders that begin alike share the databases of their beginning."""
    path = folder / "0.db"
    shutil.copyfile(template, path)
    play = Play(open_world(path, scenario), scenario)
    play.begin()
    play.world.close()
    yield from _play_rest(folder, play, path, scenario.actors, ())


def _play_rest(
    folder: Path, play: Play, path: Path, left: tuple[tuple[str, ...], ...], done: tuple[str, ...]
) -> Iterator[Ended]:
    after = folder / f"{len(done) + 1}.db"
    if not any(left):
        last = _copy(play, path, after)
        try:
            _checked(play.scenario, done, last.finish)
            yield Ended(done, *last.end())
        finally:
            last.world.close()
        return
    for number, steps in enumerate(left):
        if not steps:
            continue
        order = (*done, steps[0])
        child = _copy(play, path, after)
        try:
            _checked(play.scenario, order, child.step, order[-1])
        finally:
            child.world.close()
        rest = tuple(its[1:] if each == number else its for each, its in enumerate(left))
        yield from _play_rest(folder, child, after, rest, order)


def _copy(play: Play, path: Path, target: Path) -> Play:
    shutil.copyfile(path, target)
    world = open_world(target, play.scenario)
    world.processor, world.now = copy.deepcopy(play.world.processor), play.world.now
    world.context = replace(world.context, processors={"stripe": world.processor})
    return Play(world, play.scenario, play.refund_id)


def _checked(scenario: Scenario, order: Sequence[str], step: Callable[..., None], *names: str) -> None:
    try:
        step(*names)
    except AssertionError as error:
        raise AssertionError(f"{scenario}\nafter {order}: {error}") from error


def compare(scenario: Scenario, ends: Iterable[Ended]) -> int:
    """Check that the same events have the same end, in any order; return how many orders there were."""
    first: dict[str, Ended] = {}
    number = 0
    for end in ends:
        number += 1
        was = first.setdefault(end.happened, end)
        assert was.figures == end.figures, f"the order matters in {scenario}:\n{was}\n{end}"
    return number


def random_scenario(rng: random.Random) -> Scenario:
    """Return a random scenario."""
    spent = rng.choice((0, 40, 100))
    return Scenario(
        own=rng.choice((None, *OWN_SENDS)),
        own_credits=min(rng.choice((20, 50, 100)), 100 - spent) or 20,
        outside=rng.choice(OUTSIDE),
        outside_minor=rng.choice((200, 500, 1_000)),
        earlier=rng.choice(EARLIER),
        earlier_minor=rng.choice((100, 400)),
        dispute=rng.choice(DISPUTE),
        dispute_minor=rng.choice((300, 600, 1_000)),
        second=rng.choice(((), ("opened", "lost"), ("opened", "won"))),
        spent=spent,
        rule=rng.choice(("write_off", "debt", "person")),
        others=rng.choice(((), (), ("close",), ("spend",), ("write_off",), ("debt",))),
    )


def main() -> int:
    """Play every order of random scenarios, and print those in which a rule does not hold."""
    seed, scenarios = int(sys.argv[1]), int(sys.argv[2])
    logging.disable(logging.CRITICAL)
    rng, failures, orders = random.Random(seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        template = Path(folder) / "template.db"
        migrate(f"sqlite:///{template}")
        for _ in range(scenarios):
            scenario = random_scenario(rng)
            try:
                orders += compare(scenario, play_all(Path(folder), template, scenario))
            except AssertionError as error:
                failures += 1
                print(f"FAILURE {error}", flush=True)
    print(f"scenarios={scenarios} orders={orders} failures={failures}")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())

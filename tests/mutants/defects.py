"""Deliberate defects: each switches one defence off. The tests named must notice."""

from __future__ import annotations

from dataclasses import dataclass

DOMAIN = "src/refund_worker/domain/"
ENGINE = "src/refund_worker/engine/"
STORE = "src/refund_worker/store/"

# Where a defect of a file is noticed first; the nearest tests, so that a run takes minutes.
NEAR = {
    DOMAIN + "accept.py": ("tests/domain/test_accept.py",),
    DOMAIN + "allocation.py": ("tests/domain/test_allocation.py",),
    DOMAIN + "command.py": ("tests/domain/test_command.py",),
    DOMAIN + "draft.py": ("tests/domain/test_hear.py", "tests/domain/test_wake.py"),
    DOMAIN + "elsewhere.py": ("tests/domain/test_elsewhere.py",),
    DOMAIN + "hear.py": ("tests/domain/test_hear.py",),
    DOMAIN + "internal_step.py": ("tests/domain/test_wake.py", "tests/domain/test_command.py"),
    DOMAIN + "ledger.py": ("tests/domain/test_ledger.py",),
    DOMAIN + "money.py": ("tests/domain/test_money.py",),
    DOMAIN + "wake.py": ("tests/domain/test_wake.py", "tests/domain/test_hear.py"),
    DOMAIN + "workflow.py": ("tests/domain/test_workflow.py", "tests/domain/test_command.py"),
}
ADVANCE = "tests/engine/test_advance.py::test_"
INTAKE = "tests/engine/test_intake.py::test_"
LIMITS = "tests/engine/test_limits_kept.py::test_"
STORED = "tests/store/test_store.py::test_"
CONTRADICTED = ("tests/engine/test_contradictions.py",)
ASIDE = ("tests/engine/test_put_aside.py",)
CLOCK = ("tests/domain/test_clock_set_back.py",)
ADAPTER = ("tests/processors/test_stripe_classification.py",)
ELSEWHERE = ("tests/domain/test_elsewhere.py",)
OTHERS = "tests/engine/test_refunded_elsewhere.py::test_"
INTERRUPTED = ("tests/engine/test_interrupted.py",)
SCHEDULES = ("tests/simulation/test_who_gives_up.py",)
MEETINGS = (
    "tests/interleavings/test_interleavings.py"
    "::test_no_preemption_of_those_that_fight_for_a_row_changes_the_money_or_the_end_on_postgres",
)


@dataclass(frozen=True, slots=True)
class Defect:
    """`old` stands exactly once in the file at `path` and becomes `new`; the `mapped` tests must fail then."""

    name: str
    path: str
    old: str
    new: str
    tests: tuple[str, ...] = ()

    @property
    def mapped(self) -> tuple[str, ...]:
        """The tests that must notice."""
        return self.tests or NEAR[self.path]


DEFECTS = (
    # --- the beat list: what has cost others a double refund
    Defect(
        "a new key on every try",
        DOMAIN + "wake.py",
        'return f"{leg_id}:{attempt}"',
        'import os; return f"{leg_id}:{attempt}:{os.urandom(4).hex()}"',
    ),
    Defect(
        "a new attempt after a timeout",
        DOMAIN + "wake.py",
        "    if leg.status is LegStatus.BLOCKED:\n        leg = fresh_attempt(leg)",
        "    if leg.status in (LegStatus.BLOCKED, LegStatus.UNKNOWN):\n        leg = fresh_attempt(leg)",
    ),
    Defect(
        "the key derived from payment and amount",
        DOMAIN + "wake.py",
        "key = attempt_key(leg.leg_id, leg.attempt)",
        'key = f"{leg.payment_id}:{leg.amount_minor}"',
    ),
    Defect(
        "the quiet window counted from the first send",
        DOMAIN + "hear.py",
        "lands_by(leg.last_sent_at or 0, draft.policy)",
        "lands_by(leg.first_sent_at or 0, draft.policy)",
    ),
    Defect(
        "the quiet window forgotten",
        DOMAIN + "hear.py",
        "if leg.doubtful and asked_at < _quiet_end(draft, leg):",
        "if False:",
    ),
    Defect(
        "the answer's time taken for the question's",
        ENGINE + "advance.py",
        "Evidence(q.refund_id, q.call.leg_id, q.call, answer, claim.now)",
        "Evidence(q.refund_id, q.call.leg_id, q.call, answer, None)",
        (ADVANCE + "a_list_read_inside_the_quiet_window_proves_nothing_though_its_answer_comes_after_it",),
    ),
    Defect(
        "a timeout taken for a refusal",
        DOMAIN + "hear.py",
        "        case Unanswered(reason=reason, server_error=server_error):\n"
        "            _wait(draft, leg, LegOutcome.SILENCE, reason, doubtful=True,"
        " look_first=leg.look_first or server_error)",
        "        case Unanswered(reason=reason):\n"
        '            _take_verdict(draft, leg, "refused", "no_answer", reason)',
    ),
    Defect(
        "a refusal believed although an earlier send is unanswered",
        DOMAIN + "hear.py",
        "    if leg.doubtful or verdict in LOOK_FIRST:",
        "    if verdict in LOOK_FIRST:",
    ),
    Defect(
        "already refunded taken for success of nobody's",
        DOMAIN + "hear.py",
        "    if leg.doubtful or verdict in LOOK_FIRST:",
        "    if leg.doubtful:",
    ),
    Defect(
        "pending marked as failed",
        DOMAIN + "hear.py",
        "    ObjectState.PENDING: LegOutcome.ACCEPTED,",
        "    ObjectState.PENDING: LegOutcome.OBJECT_FAILED,",
    ),
    Defect(
        "pending marked as paid",
        DOMAIN + "hear.py",
        "    ObjectState.PENDING: LegOutcome.ACCEPTED,",
        "    ObjectState.PENDING: LegOutcome.PAID,",
    ),
    Defect(
        "a blind replay after the key's life",
        DOMAIN + "wake.py",
        "leg.look_first or not may_replay(leg, draft.now, draft.policy) or",
        "leg.look_first or",
    ),
    Defect(
        "a clock that was set back revives a key",
        DOMAIN + "draft.py",
        "                look_first=leg.look_first or in_doubt,",
        "                look_first=leg.look_first,",
        CLOCK,
    ),
    Defect(
        "a clock that was set back passes unnoticed",
        DOMAIN + "draft.py",
        "        if clock_went_back(refund, now):",
        "        if False:",
        CLOCK,
    ),
    Defect(
        "a clock that leapt forward is taken for a quiet window",
        DOMAIN + "draft.py",
        "            if late > bearable:",
        "            if late > bearable and not late:",
        ("tests/domain/test_clock_leapt.py",),
    ),
    Defect(
        "two failed legs take the same room of another payment",
        DOMAIN + "wake.py",
        "= rooms[other.payment_id].less(share.payment_credits, share.amount_minor)",
        "= rooms[other.payment_id]",
        ("tests/domain/test_wake.py",),
    ),
    Defect(
        "a strange answer is forgotten when the list does not show it",
        DOMAIN + "hear.py",
        'told |= {"verdict": ANSWER_MISMATCH, "doubtful": True, "look_first": True}',
        'told |= {"doubtful": True, "look_first": True}',
        ("tests/domain/test_hear.py",),
    ),
    Defect(
        "after a clock was set back all waits for the old times",
        ENGINE + "clock.py",
        "        woken = refunds.wake_written_after(connection, now + CLOCK_SLACK_SECONDS, now)",
        "        woken = 1",
        ("tests/engine/test_clock_set_back.py",),
    ),
    Defect(
        "after a clock was set back the quiet window waits for the old time",
        DOMAIN + "draft.py",
        "                last_sent_at=_at_most(leg.last_sent_at, now),",
        "                last_sent_at=leg.last_sent_at,",
        CLOCK,
    ),
    Defect(
        "a new attempt after the key's life without a person",
        DOMAIN + "hear.py",
        "    elif leg.doubtful and not key_lives(leg, draft.now, draft.policy):",
        "    elif False:",
    ),
    Defect(
        "a 500 replayed for ever instead of looked up",
        DOMAIN + "hear.py",
        "look_first=leg.look_first or server_error",
        "look_first=leg.look_first",
    ),
    Defect(
        "an answer for another amount believed",
        DOMAIN + "hear.py",
        "    if (thing.amount_minor, thing.currency) != (leg.amount_minor, leg.currency):",
        "    if False:",
    ),
    Defect(
        "an answer for another payment believed",
        DOMAIN + "hear.py",
        "    if thing.payment_refs and leg.processor_payment_id not in thing.payment_refs:",
        "    if False:",
    ),
    Defect(
        "another leg's object believed",
        DOMAIN + "hear.py",
        "    if thing.leg_id is not None and thing.leg_id != leg.leg_id:",
        "    if False:",
    ),
    Defect(
        "an older word wins over a newer one",
        DOMAIN + "hear.py",
        "OBJECT_RANK[old.state] > OBJECT_RANK[state]",
        "False",
    ),
    Defect(
        "two refund objects for one leg pass unnoticed",
        DOMAIN + "hear.py",
        '"attention": TWICE if twice else thing.failure_code if disputed else None',
        '"attention": thing.failure_code if disputed else None',
    ),
    Defect(
        "what a dispute returns is paid over another payment",
        DOMAIN + "hear.py",
        "disputed = not best and not late and thing.failure_code in FAILED_BY_A_DISPUTE",
        "disputed = False",
        (ADVANCE + "a_dispute_that_ends_a_pending_refund_leaves_it_to_a_person_whatever_a_retry_says",),
    ),
    Defect(
        "a retry pays beside a dispute",
        DOMAIN + "command.py",
        "elif leg.attention and leg.failure_code not in FAILED_BY_A_DISPUTE:",
        "elif leg.attention:",
        (ADVANCE + "a_dispute_that_ends_a_pending_refund_leaves_it_to_a_person_whatever_a_retry_says",),
    ),
    Defect(
        "a disputed charge taken for a refusal for good",
        "src/refund_worker/processors/stripe.py",
        '"insufficient_balance_for_refund", "charge_disputed", "refund_disputed_payment"}',
        '"insufficient_balance_for_refund"}',
        ADAPTER,
    ),
    Defect(
        "an object that came to nothing undoes a payment by hand",
        DOMAIN + "hear.py",
        "if by_hand and outcome is not LegOutcome.PAID:",
        "if False:",
    ),
    Defect(
        "a turn waited for past the lease",
        ENGINE + "advance.py",
        "        async with asyncio.timeout(left):\n            await context.limiter.acquire(processor)",
        "        await context.limiter.acquire(processor)",
        ("tests/engine/test_turns.py",),
    ),
    Defect(
        "refunds that a list showed late pass unnoticed",
        ENGINE + "watch.py",
        "    if found.unknown:\n",
        "    if False:\n",
        ("tests/engine/test_restored_backup.py",),
    ),
    Defect(
        "an unknown status taken for success",
        DOMAIN + "hear.py",
        '    state = _STATE_OF_WORD.get(thing.status or "")',
        '    state = _STATE_OF_WORD.get(thing.status or "", ObjectState.SUCCEEDED)',
    ),
    Defect(
        "a late failure forgets the credits",
        DOMAIN + "hear.py",
        '        changes |= {"settled": True, "returned_credits": leg.credits}',
        '        changes |= {"settled": True}',
    ),
    Defect(
        "a late failure leaves the payout in the ledger",
        DOMAIN + "draft.py",
        "            self._post_payout(before, was, -1)",
        "            pass",
    ),
    Defect(
        "credits taken again are not taken",
        DOMAIN + "hear.py",
        "        draft.balance -= given_back",
        "        draft.balance -= 0",
    ),
    Defect(
        "a webhook before the answer is booked twice",
        DOMAIN + "draft.py",
        "        if was == now:",
        "        if was == now and now is None:",
    ),
    Defect(
        "a silent processor is given up",
        DOMAIN + "hear.py",
        "        next_at=draft.now + max(pause, seconds or 0),",
        "        next_at=None if backoffs > 5 else draft.now + max(pause, seconds or 0),",
    ),
    Defect(
        "a replayed refusal proves nothing",
        DOMAIN + "hear.py",
        '    if getattr(reply, "replayed", False) and',
        "    if False and",
    ),
    Defect(
        "any refusal counts as a replayed one",
        DOMAIN + "hear.py",
        '    if getattr(reply, "replayed", False) and',
        "    if isinstance(reply, Refused) and",
    ),
    Defect(
        "a replayed refusal believed although copies may outlive the key",
        DOMAIN + "hear.py",
        "    return _quiet_end(draft, leg) <= leg.first_sent_at + draft.policy.key_life_seconds",
        "    return True",
    ),
    Defect(
        "a replayed refusal believed although nobody knows the key's age",
        DOMAIN + "hear.py",
        "    if leg.look_first or leg.first_sent_at is None:",
        "    if leg.first_sent_at is None:",
    ),
    Defect(
        "a new attempt beside a strange object",
        DOMAIN + "hear.py",
        "    if strange:\n",
        "    if False:\n",
    ),
    # --- what others refund over the same payment
    Defect(
        "elsewhere: what others refunded stops nothing",
        DOMAIN + "elsewhere.py",
        "        return unseen\n",
        "        return ()\n",
    ),
    Defect(
        "elsewhere: a new attempt without reading the list",
        DOMAIN + "elsewhere.py",
        "    return leg.looked_at is None or not 0 <= now - leg.looked_at <= seconds",
        "    return False",
    ),
    Defect(
        "elsewhere: a list is good for ever",
        DOMAIN + "elsewhere.py",
        "    return leg.looked_at is None or not 0 <= now - leg.looked_at <= seconds",
        "    return leg.looked_at is None",
    ),
    Defect(
        "elsewhere: one list allows many sends",
        DOMAIN + "wake.py",
        "        looked_at=None,\n",
        "",
        ELSEWHERE,
    ),
    Defect(
        "elsewhere: a key that waited through a pause is sent again without a look",
        DOMAIN + "wake.py",
        "    if hold is not None and leg.last_sent_at is not None:",
        "    if False:",
        ELSEWHERE,
    ),
    Defect(
        "elsewhere: a key refused for our credentials is sent again without a look",
        DOMAIN + "hear.py",
        "replace(leg, held=True), code",
        "leg, code",
        ELSEWHERE,
    ),
    Defect(
        "elsewhere: a leg that slept through a pause is sent again without a look",
        STORE + "refunds.py",
        "legs.c.last_sent_at.is_not(None)).values(held=True)",
        "legs.c.last_sent_at.is_not(None)).values(held=False)",
        (OTHERS + "a_leg_that_slept_through_the_whole_pause_looks_first_too",),
    ),
    Defect(
        "elsewhere: payments by hand explain everything",
        DOMAIN + "elsewhere.py",
        "older_minor > found.explained_minor or",
        "older_minor > 10**18 or",
    ),
    Defect(
        "elsewhere: what a person has seen is forgotten",
        DOMAIN + "command.py",
        "        seen_now = leg.blocked_by if takes_as_seen else ()",
        "        seen_now = ()",
        ELSEWHERE,
    ),
    Defect(
        "elsewhere: a retry of many takes what nobody looked at as seen",
        ENGINE + "bulk_retry.py",
        "reason=reason, one_by_one=False)",
        "reason=reason)",
        (OTHERS + "a_retry_of_many_at_once_takes_nothing_as_seen",),
    ),
    Defect(
        "elsewhere: what was seen does not count where nothing is left",
        DOMAIN + "elsewhere.py",
        "    if nothing_left:",
        "    if False:",
    ),
    Defect(
        "elsewhere: the first attempt over a payment that others refunded looks at nothing",
        ENGINE + "watch.py",
        "    if found.elsewhere:",
        "    if False:",
        (OTHERS + "the_first_attempt_over_a_payment_that_others_refunded_looks_first",),
    ),
    Defect(
        "elsewhere: a refund without its marks is taken for another's",
        ENGINE + "ownership.py",
        "        if booked := by_id.get(thing.processor_refund_id):",
        "        if False and (booked := by_id.get(thing.processor_refund_id)):",
        (OTHERS + "marks_that_were_edited_away_make_no_refund_of_ours_foreign",),
    ),
    Defect(
        "elsewhere: another installation's refund is taken for ours",
        ENGINE + "ownership.py",
        "    return thing.leg_id if thing.installation == installation else None",
        "    return thing.leg_id",
        (OTHERS + "no_mark_makes_a_foreign_refund_ours",),
    ),
    Defect(
        "elsewhere: copied marks make a refund of another amount ours",
        ENGINE + "ownership.py",
        "owned is None or asked.get(owned.leg_id) != (thing.amount_minor, thing.currency):",
        "owned is None:",
        (OTHERS + "no_mark_makes_a_foreign_refund_ours",),
    ),
    Defect(
        "elsewhere: refunds of other payments stop a leg",
        ENGINE + "ownership.py",
        "        elif thing.payment_refs and leg.processor_payment_id not in thing.payment_refs:",
        "        elif False:",
        (OTHERS + "what_gave_the_customer_nothing_over_this_payment_does_not_count",),
    ),
    Defect(
        "elsewhere: what was told of another's refund is taken in as ours",
        ENGINE + "evidence.py",
        "                elif item.call is not None:",
        "                else:",
        (OTHERS + "a_webhook_of_anothers_refund_that_bears_our_leg_pays_no_leg_twice",),
    ),
    Defect(
        "elsewhere: after a payment by hand nobody looks any more",
        DOMAIN + "command.py",
        """{"next_at": draft.now, "verdict": leg.verdict} if leg.doubtful else {}""",
        "{}",
        ELSEWHERE,
    ),
    Defect(
        "elsewhere: a refund of ours beside a payment by hand passes unnoticed",
        DOMAIN + "hear.py",
        "    twice = len(standing) > 1 or by_hand",
        "    twice = len(standing) > 1",
        ELSEWHERE,
    ),
    Defect(
        "elsewhere: credits go back while the answer is missing",
        DOMAIN + "command.py",
        " or (by_reversal and is_missing(refund)):",
        ":",
    ),
    # --- credits
    Defect(
        "credits given back twice",
        DOMAIN + "wake.py",
        "returned_credits=refund.returned_credits + credits)",
        "returned_credits=refund.returned_credits)",
    ),
    Defect(
        "credits given back and another payment tried",
        DOMAIN + "wake.py",
        "draft.change(leg, settled=True, returned_credits=unplaced)",
        "draft.change(leg, settled=True, returned_credits=leg.credits)",
    ),
    Defect(
        "the held credits stay held",
        DOMAIN + "internal_step.py",
        "        draft.held -= refund.credits",
        "        draft.held -= 0",
    ),
    Defect(
        "a correction that is paid out is taken twice",
        DOMAIN + "internal_step.py",
        "    if refund.of_correction:\n        entries",
        "    if False:\n        entries",
    ),
    Defect(
        "what the processor has of a refund that is not posted here stays unbooked",
        DOMAIN + "hear.py",
        "    if not draft.refund.posted:\n",
        "    if False:\n",
        CONTRADICTED,
    ),
    Defect(
        "what was called off and paid all the same is reserved no more",
        DOMAIN + "internal_step.py",
        "        _reserve(draft, 1)",
        "        _reserve(draft, 0)",
        CONTRADICTED,
    ),
    Defect(
        "the legs that were called off with one that was paid keep their credits",
        DOMAIN + "internal_step.py",
        "                draft.change(leg, returned_credits=leg.credits)",
        "                pass",
        CONTRADICTED,
    ),
    Defect(
        "what is never answered reaches nobody",
        DOMAIN + "hear.py",
        "UNREACHABLE if leg.backoffs >= BACKOFFS_BEFORE_ATTENTION else None",
        "None",
        CONTRADICTED,
    ),
    Defect(
        "a strange object is alarmed at every look",
        DOMAIN + "hear.py",
        "    if thing.leg_id == leg.leg_id:\n        _keep_word",
        "    if False:\n        _keep_word",
        CONTRADICTED,
    ),
    Defect(
        "a leg worth nothing is given up before a person has decided",
        DOMAIN + "draft.py",
        "leg.status in OPEN or leg.attention or leg in",
        "leg.status in OPEN or leg in",
        ("tests/domain/test_wake.py",),
    ),
    Defect(
        "what can't be taken in puts off the refund's own work",
        ENGINE + "evidence.py",
        "off=lease_token is not None",
        "off=True",
        ASIDE,
    ),
    Defect(
        "a fault of everybody puts everybody aside",
        ENGINE + "put_aside.py",
        "    if len(broken) == of >= EVERYBODYS:",
        "    if False:",
        ASIDE,
    ),
    Defect(
        "a refund that another worker holds is put off",
        STORE + "refunds.py",
        "r.refund_id == refund_id, held_by_us",
        "r.refund_id == refund_id",
        ASIDE,
    ),
    Defect(
        "a worker frozen while it reads the switch sends when it wakes",
        ENGINE + "advance.py",
        "    if not has_turn or _seconds_left(context, began) <= 0:",
        "    if not has_turn:",
        ("tests/engine/test_kill_switch.py",),
    ),
    Defect(
        "a key is repeated so late that it may be forgotten when it lands",
        DOMAIN + "draft.py",
        "    return lands_by(now, policy) <= leg.first_sent_at + PROCESSOR_KEY_SECONDS",
        "    return True",
    ),
    Defect(
        "a look-up that the clock was set back under counts as asked late",
        DOMAIN + "hear.py",
        "min(asked_at, now)",
        "asked_at",
        CLOCK,
    ),
    Defect(
        "cancel keeps the reservation",
        DOMAIN + "internal_step.py",
        "        draft.change(leg, status=LegStatus.CANCELED, settled=True, next_at=None)",
        "        draft.change(leg, next_at=None)",
    ),
    Defect(
        "cancel keeps the transaction's room",
        DOMAIN + "internal_step.py",
        "        draft.room += credits",
        "        draft.room += max(credits, 0)",
    ),
    Defect(
        "bonus credits are paid out",
        DOMAIN + "accept.py",
        "        return max(0, self.bought - self.net_spent - self.withdrawn)",
        "        return self.balance",
    ),
    Defect(
        "what is held counts as available",
        DOMAIN + "accept.py",
        "        return self.balance - self.held",
        "        return self.balance",
        (INTAKE + "held_credits_can_be_neither_spent_nor_withdrawn_again",),
    ),
    Defect(
        "what is in flight does not count against the transaction",
        ENGINE + "intake.py",
        "replace(room, taken=room.taken + refund.credits)",
        "replace(room, taken=room.taken)",
        (INTAKE + "two_in_one_batch_that_together_exceed_the_transaction_are_not_both_accepted",),
    ),
    Defect(
        "what is in flight does not count against the payment",
        ENGINE + "intake.py",
        "its[leg.payment_id] = its[leg.payment_id].less(leg.payment_credits, leg.amount_minor)",
        "pass",
        (INTAKE + "in_a_batch_each_goes_over_what_the_earlier_ones_left_of_the_payments",),
    ),
    Defect(
        "a failed leg keeps its payment's room",
        DOMAIN + "draft.py",
        "                if leg.status not in NO_MONEY:",
        "                if True:",
    ),
    # --- rounding
    Defect(
        "rounding that drifts: each part for itself",
        DOMAIN + "allocation.py",
        "self.credits_taken + credits, self.credits, step)\n        # Legs",
        "credits, self.credits, step) + self.money_taken\n        # Legs",
    ),
    Defect(
        "rounding down",
        DOMAIN + "money.py",
        "(2 * whole_minor * part + of * step) // (2 * of * step) * step",
        "(2 * whole_minor * part) // (2 * of * step) * step",
    ),
    Defect(
        "a split that loses the remainder",
        DOMAIN + "money.py",
        "        parts[i] += 1",
        "        parts[i] += 0",
    ),
    # --- people
    Defect(
        "whoever asked may approve",
        DOMAIN + "command.py",
        "            if actor == refund.requested_by:",
        "            if False:",
    ),
    Defect(
        "resolve while the processor may still pay",
        DOMAIN + "workflow.py",
        "    nobody_may_pay = not any(leg.status in IN_THE_PROCESSORS_HANDS for leg in refund.legs)",
        "    nobody_may_pay = True",
    ),
    Defect(
        "a retry by hand sends without looking",
        DOMAIN + "command.py",
        "                look_first=True,",
        "                look_first=False,",
    ),
    Defect(
        "the kill switch does nothing",
        STORE + "processors.py",
        "    return {name: until for name, until in connection.execute(_PAUSED) if",
        "    return {name: until for name, until in connection.execute(_PAUSED) if False and",
        (ADVANCE + "the_kill_switch_stops_new_sends_while_look_ups_go_on",),
    ),
    Defect(
        "what was claimed before a pause goes out after it",
        ENGINE + "kill_switch.py",
        "if now - self._read_at >= SWITCH_SECONDS:",
        "if False:",
        ("tests/engine/test_kill_switch.py",),
    ),
    Defect(
        "a signed request may be given another idempotency key",
        "src/refund_worker/signing.py",
        "str(at), method, target, *headers, body_sha256",
        "str(at), method, target, body_sha256",
        ("tests/web/test_signed_requests.py",),
    ),
    Defect(
        "a signed request may be given another body",
        "src/refund_worker/web/json_bodies.py",
        "    check_body(request, body)\n",
        "",
        ("tests/web/test_signed_requests.py",),
    ),
    Defect(
        "two requests of one actor do not see each other",
        ENGINE + "limits.py",
        "        sums.lock_actors(connection, actors)\n",
        "",
        (LIMITS + "of_many_at_the_same_moment_exactly_as_many_pass_as_the_limit_allows",),
    ),
    Defect(
        "401 fails the refund instead of pausing the processor",
        DOMAIN + "hear.py",
        "            draft.pauses.append(Pause(leg.processor, code, message))\n            _wait_unexecuted",
        "            _wait_unexecuted",
    ),
    Defect(
        "a retry by hand counts the attempts anew",
        DOMAIN + "command.py",
        '"next_at": draft.now, "backoffs": 0}',
        '"next_at": draft.now, "backoffs": 0, "attempt": 1, "sends": 0}',
    ),
    Defect(
        "a retry by hand forgets that an answer is missing",
        DOMAIN + "command.py",
        '"next_at": draft.now, "backoffs": 0}',
        '"next_at": draft.now, "backoffs": 0, "doubtful": False}',
    ),
    Defect(
        "what waits for approval reserves nothing",
        ENGINE + "intake.py",
        "        self._reserve(refund)\n",
        "        if refund.status is RefundStatus.QUEUED:\n            self._reserve(refund)\n",
        (LIMITS + "what_waits_for_approval_is_reserved_like_everything_else",),
    ),
    # --- concurrency
    Defect(
        "no row is ever locked",
        STORE + "database.py",
        'return query if connection.dialect.name == "sqlite" else query.with_for_update(',
        "return query if True else query.with_for_update(",
        MEETINGS,
    ),
    Defect(
        "whether it was deleted is looked up outside the lock",
        ENGINE + "records.py",
        '        account = accounts.lock_customers(connection, [row["customer_id"]])[row["customer_id"]]\n'
        '        # Only a "Delete" of before: what the worker gave back because no money could be sent is none.\n'
        "        made = ledger.reversal_id(transaction_id)\n"
        "        if earlier := ledger_store.transactions_by_id(connection, [made]).get(made):\n"
        "            return earlier\n",
        "        made = ledger.reversal_id(transaction_id)\n"
        "        if earlier := ledger_store.transactions_by_id(connection, [made]).get(made):\n"
        "            return earlier\n"
        '        account = accounts.lock_customers(connection, [row["customer_id"]])[row["customer_id"]]\n',
        MEETINGS,
    ),
    Defect(
        "accounts read without the lock",
        STORE + "accounts.py",
        "rows = connection.execute(locked(connection, _CUSTOMERS), ",
        "rows = connection.execute(_CUSTOMERS, ",
        (INTAKE + "in_every_race_of_two_that_together_exceed_the_balance_exactly_one_passes",),
    ),
    Defect(
        "a lease that has passed still writes",
        ENGINE + "evidence.py",
        "(refund.lease_token != lease_token or (refund.lease_until or 0) <= now)",
        "False",
        (ADVANCE + "a_holder_whose_lease_has_passed_writes_nothing",),
    ),
    Defect(
        "one answer that can't be stored costs the whole batch its own",
        ENGINE + "evidence.py",
        '    log.error("a batch of answers could not be recorded: trying them one by one", exc_info=decisions)\n',
        "    raise decisions\n",
        ASIDE,
    ),
    Defect(
        "one refund that can't be claimed holds up all others",
        ENGINE + "advance.py",
        '        log.error("a batch of refunds could not be claimed: trying them one by one", exc_info=claim)\n',
        "        raise claim\n",
        ASIDE,
    ),
    Defect(
        "a leased refund is claimed by another",
        STORE + "refunds.py",
        '        or_(refunds.c.lease_until.is_(None), refunds.c.lease_until <= bindparam("now")),\n',
        "",
        (ADVANCE + "a_leased_refund_is_not_claimed_by_another_worker",),
    ),
    Defect(
        "a write that does not name the version it leaves",
        STORE + "refunds.py",
        "    if rows and connection.execute(_UPDATE_REFUND, rows).rowcount != len(rows):",
        "    if rows and connection.execute(_UPDATE_REFUND, rows).rowcount < 0:",
        (STORED + "a_write_that_names_another_version_than_the_stored_one_is_a_lost_race",),
    ),
    Defect(
        "a dead worker's call is never asked about",
        DOMAIN + "wake.py",
        "        next_at=draft.now + draft.policy.lease_seconds,",
        "        next_at=None,",
    ),
    Defect(
        "a dead worker's call counts as never made",
        DOMAIN + "wake.py",
        'reason="lease expired", doubtful=True, next_at=now)',
        'reason="lease expired", doubtful=False, look_first=True, next_at=now)',
    ),
    Defect(
        "the body is made anew at each send",
        ENGINE + "advance.py",
        "            body = stored.get((call.leg_id, call.attempt)) or _body(context, call, installation)",
        "            body = _body(context, call, installation)",
        (ADVANCE + "another_version_of_the_program_sends_the_body_as_it_was_frozen",),
    ),
    Defect(
        "another body under the same key is answered as if it were the same",
        ENGINE + "intake.py",
        "    if different:\n        raise KeyReused(",
        "    if False:\n        raise KeyReused(",
        (INTAKE + "the_same_key_with_another_body_is_refused_naming_the_fields",),
    ),
    Defect(
        "a savepoint of the Python door is the outermost on SQLite",
        STORE + "database.py",
        '    if not driver.in_transaction:\n        connection.exec_driver_sql("BEGIN IMMEDIATE")',
        "    if not driver.in_transaction:\n        pass",
        ("tests/engine/test_python_door.py::test_a_rollback_leaves_no_refund",),
    ),
    Defect(
        "a time limit in the middle of a call is taken for an answer",
        ENGINE + "calls.py",
        "    except context.interrupts:\n        raise\n",
        "",
        INTERRUPTED,
    ),
    Defect(
        "a time limit within a transaction is taken for a fault of the refund",
        ENGINE + "put_aside.py",
        "    except context.interrupts:\n        raise\n",
        "",
        INTERRUPTED,
    ),
    # --- the ledger
    Defect(
        "an unbalanced posting can be built",
        DOMAIN + "ledger.py",
        "        if any(sums.values()):",
        "        if False:",
    ),
    Defect(
        "a row of the ledger can be replaced on SQLite",
        STORE + "migrations/versions/0002_no_replacing.py",
        "        _refuse_replacing()\n    else:",
        "        pass\n    else:",
        ("tests/store/test_schema.py::test_sqlite_replaces_nothing_that_was_appended",),
    ),
    Defect(
        "replacing a row asks no delete trigger on SQLite",
        STORE + "database.py",
        ', "recursive_triggers=ON")',
        ")",
        ("tests/store/test_schema.py::test_sqlite_replaces_nothing_that_was_appended",),
    ),
    # --- the adapter
    Defect(
        "429 taken for a refusal",
        "src/refund_worker/processors/stripe.py",
        "def _is_busy(answer: _ErrorAnswer) -> bool:",
        "def _is_busy(answer: _ErrorAnswer) -> bool:\n    return False\n\n\n"
        "def _was_busy(answer: _ErrorAnswer) -> bool:",
        ADAPTER,
    ),
    Defect(
        "every refusal called a replayed one",
        "src/refund_worker/processors/stripe.py",
        '    return headers.get("Idempotent-Replayed", "").lower() == "true"',
        "    return True",
        ADAPTER,
    ),
    # --- the broker
    Defect(
        "a worker that was busy when the broker died stays deaf",
        "src/refund_worker/worker/transport.py",
        "            self._quick_ack(delivery_tag)\n            raise\n\n    def reject",
        "            raise\n\n    def reject",
        (
            "tests/worker/test_worker_and_scheduler.py"
            "::test_a_worker_that_was_busy_when_the_broker_died_takes_new_work_when_it_is_back",
        ),
    ),
    # --- giving up and haste, which no sum shows: seen by the simulation
    Defect(
        "the simulation sees a 401 taken for a refusal for good",
        DOMAIN + "hear.py",
        "            _wait_unexecuted(draft, replace(leg, held=True), code, min(PAUSE_SECONDS, "
        "draft.policy.retry_max_seconds))",
        '            _take_verdict(draft, leg, "refused", code, message)',
        SCHEDULES,
    ),
    Defect(
        "the simulation sees a failed connection taken for a refusal for good",
        DOMAIN + "hear.py",
        "            _wait_unexecuted(draft, leg, reason, None, counts=begun)",
        '            _take_verdict(draft, leg, "refused", "not_sent", reason)',
        SCHEDULES,
    ),
    Defect(
        "the simulation sees a person called while the key lives",
        DOMAIN + "hear.py",
        "    elif leg.doubtful and not key_lives(leg, draft.now, draft.policy):",
        "    elif leg.doubtful:",
        SCHEDULES,
    ),
    Defect(
        "the simulation sees a key replayed hours after its life",
        DOMAIN + "draft.py",
        "now - leg.first_sent_at < policy.key_life_seconds",
        "now - leg.first_sent_at < policy.key_life_seconds + 14_040",
        SCHEDULES,
    ),
    Defect(
        "the simulation sees a replayed server error taken for a proof",
        DOMAIN + "hear.py",
        "        if leg.doubtful and asked_at < _quiet_end(draft, leg):",
        "        if leg.doubtful and not leg.look_first and asked_at < _quiet_end(draft, leg):",
        SCHEDULES,
    ),
    Defect(
        "the simulation sees polls put off by weeks",
        DOMAIN + "hear.py",
        "    return max(draft.policy.poll_seconds, min(age / 2, POLL_SECONDS_MAX))",
        "    return max(draft.policy.poll_seconds, 20 * POLL_SECONDS_MAX)",
        SCHEDULES,
    ),
    Defect(
        "the simulation sees answers that this program breaks on",
        DOMAIN + "hear.py",
        "    draft = Draft(refund, now, policy, PROCESSOR)\n    for leg_id, call, reply, asked_at in replies:",
        "    draft = Draft(refund, now, policy, PROCESSOR)\n    if refund.version % 4 == 3:\n"
        '        raise RuntimeError("broken")\n    for leg_id, call, reply, asked_at in replies:',
        SCHEDULES,
    ),
)

"""The paths over several accounts: two processors, one that cannot be asked, a connected account, the fallback."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from refund_worker.domain.state_machine import Action
from tests.crashes.crash_path import (
    CONNECTED,
    LATER,
    PAYPAL,
    SILENT_RULES,
    Path,
    asks,
    request,
)
from tests.simulation.bank_records import SILENT, STRIPE
from tests.simulation.plan import DAY, HOUR, Act

# A prime.
EACH: Final = 7
_WITHDRAWAL: Final = asks(request("k1", credits=30))
_OVER_BOTH: Final = asks(request("k1", credits=100))
_PAID_BY_HAND: Final = {"action": Action.RESOLVE, "reference": "bank-1"}
# Of the event that says "received" nothing is heard: such processors send none.
_ONLY_THE_OUTCOME: Final = ("webhook lost",)
_MANUAL: Final = ("payments", "manual")
# The payments are ten days old. Three hours after the start, the window of one that is captured there closes.
_CLOSING: Final = replace(SILENT_RULES, window_seconds=10 * DAY + 3 * HOUR)
_APPROVED_AFTER_THAT: Final = (_OVER_BOTH, Act(2 * LATER, "command", {"action": Action.APPROVE}))

LOST_ANSWER: Final = "cannot be asked, its answer is lost"

ACCOUNT_PATHS: Final = (
    Path(
        "one refund over Stripe and PayPal",
        (_OVER_BOTH,),
        ("succeeded",),
        20,
        100,
        accounts=(STRIPE, PAYPAL),
        every=EACH,
    ),
    Path(
        "declined by PayPal, paid over Stripe",
        (_WITHDRAWAL,),
        ("succeeded",),
        90,
        30,
        accounts=(STRIPE, PAYPAL),
        declines=("CAPP2",),
        every=EACH,
    ),
    Path(
        "its money comes back weeks later at PayPal, and no event says so",
        (_WITHDRAWAL, *(Act(33 * DAY + n * LATER, "reread") for n in range(4))),
        ("failed",),
        120,
        0,
        accounts=(STRIPE, PAYPAL),
        life=("failed later",),
        every=EACH,
    ),
    Path(
        "one refund over Stripe and a processor that cannot be asked",
        (_OVER_BOTH,),
        ("succeeded",),
        20,
        100,
        accounts=(STRIPE, SILENT),
        life=_ONLY_THE_OUTCOME,
        every=EACH,
    ),
    Path(
        LOST_ANSWER,
        (_WITHDRAWAL,),
        ("succeeded",),
        90,
        30,
        accounts=(STRIPE, SILENT),
        life=(*_ONLY_THE_OUTCOME, "answer lost"),
        every=EACH,
    ),
    Path(
        "cannot be asked, refuses by an event",
        (_WITHDRAWAL,),
        ("succeeded",),
        90,
        30,
        accounts=(STRIPE, SILENT),
        declines=("sp_p2",),
        life=_ONLY_THE_OUTCOME,
        every=EACH,
    ),
    Path(
        "cannot be asked, its event comes when a person looks already",
        (_WITHDRAWAL,),
        ("succeeded",),
        90,
        30,
        accounts=(STRIPE, SILENT),
        silent=replace(SILENT_RULES, report_seconds=1.0),
        life=_ONLY_THE_OUTCOME,
        every=EACH,
    ),
    Path(
        "cannot be asked, its money comes back weeks later",
        (_WITHDRAWAL,),
        ("failed",),
        120,
        0,
        accounts=(STRIPE, SILENT),
        life=(*_ONLY_THE_OUTCOME, "failed later"),
        every=EACH,
    ),
    Path(
        "a direct charge on a connected account",
        (_OVER_BOTH,),
        ("succeeded",),
        20,
        100,
        accounts=(STRIPE, CONNECTED),
        every=EACH,
    ),
    Path(
        "a connected account declines, and its platform pays",
        (_WITHDRAWAL,),
        ("succeeded",),
        90,
        30,
        accounts=(STRIPE, CONNECTED),
        declines=("ch_p2",),
        every=EACH,
    ),
    Path(
        "its window has closed, and a person pays",
        (*_APPROVED_AFTER_THAT, Act(3 * LATER, "command", _PAID_BY_HAND)),
        ("succeeded",),
        20,
        40,
        accounts=(STRIPE, SILENT),
        silent=_CLOSING,
        fallback=("manual",),
        threshold=20,
        every=EACH,
    ),
    Path(
        "refused everywhere, and a person pays",
        (_WITHDRAWAL, Act(2 * LATER, "command", _PAID_BY_HAND)),
        ("succeeded",),
        90,
        0,
        accounts=(STRIPE, PAYPAL),
        declines=("ch_p1", "CAPP2"),
        fallback=_MANUAL,
        every=EACH,
    ),
    Path(
        "refused everywhere, and a person gives the credits back",
        (_WITHDRAWAL, Act(4 * LATER, "command", {"action": Action.RESOLVE})),
        ("failed",),
        120,
        0,
        accounts=(STRIPE, CONNECTED),
        declines=("ch_p1", "ch_p2"),
        fallback=_MANUAL,
        every=EACH,
    ),
    Path(
        "the rest that no other payment can take is paid by a person",
        (asks(request("k1", credits=120)), Act(4 * LATER, "command", _PAID_BY_HAND)),
        ("succeeded",),
        0,
        100,
        accounts=(STRIPE, PAYPAL),
        declines=("CAPP2",),
        fallback=_MANUAL,
        every=EACH,
    ),
)

"""The calls that were made for one leg, and what is open about them: the same for refunds and for payouts."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from refund_worker.domain.refund import Doubt, LegStatus, RefusalKind


class SendState:
    """The base of a leg, which has these fields.

    `attempt` is the number of the current or next attempt; `sends` counts the intents to send that were committed under
    its key. `first_sent_at` is the time of the attempt's first intent, `last_sent_at` that of the last one over all
    attempts. `retry_count` counts the tries without an answer: how long to wait next, and when a person is alerted.
    `blocked_count` counts the tries that were refused for a reason that passes: when the automatic tries end.
    `in_doubt` are the open questions, and `processor` is the account that is called. Times are in epoch seconds.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        @property
        def leg_id(self) -> str: ...
        @property
        def processor(self) -> str: ...
        @property
        def status(self) -> LegStatus: ...
        @property
        def attempt(self) -> int: ...
        @property
        def sends(self) -> int: ...
        @property
        def retry_count(self) -> int: ...
        @property
        def blocked_count(self) -> int: ...
        @property
        def first_sent_at(self) -> float | None: ...
        @property
        def last_sent_at(self) -> float | None: ...
        @property
        def next_at(self) -> float | None: ...
        @property
        def attention_code(self) -> str | None: ...
        @property
        def in_doubt(self) -> Doubt | None: ...

    @property
    def unanswered(self) -> bool:
        """Return True while the outcome of an earlier call is not known."""
        return self.in_doubt is not None and self.in_doubt.unanswered

    @property
    def lookup_required(self) -> bool:
        """Return True if the same key must not be sent again: what it made is looked up instead."""
        return self.in_doubt is not None and self.in_doubt.lookup_required

    @property
    def refusal(self) -> RefusalKind | None:
        """Return the refusal that takes effect once it is certain that nothing exists."""
        return self.in_doubt.refusal if self.in_doubt is not None else None

    @property
    def doubt_once_answered(self) -> Doubt | None:
        """Return the doubt that is left once the outcome of every call is known."""
        if self.in_doubt is None:
            return None
        return self.in_doubt.of(lookup_required=self.lookup_required, refusal=self.refusal)

    @property
    def attempts(self) -> int:
        """Return the number of attempts for which an intent to send was committed."""
        return self.attempt if self.sends else self.attempt - 1

"""The runbook: one entry for each alarm, condition and failure code, for the console, the command line and the docs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from refund_worker.alarms import Alarm, alarm_of_event, anchor_of
from refund_worker.engine.views.explanations import Entry, Explanation
from refund_worker.engine.views.failure_codes import (
    FAILURE_CODES,
    OTHER_CODE,
    OTHER_PARAMETER,
    code_with_entry,
    payout_code_with_entry,
)
from refund_worker.engine.views.payout_shared_codes import ENTRY_OF_SHARED_CODE
from refund_worker.engine.views.runbook_alarms import ALARM_ENTRIES
from refund_worker.engine.views.runbook_conditions import CONDITION_ENTRIES
from refund_worker.engine.views.sending_codes import SENDING_CODES

# Alarms whose name is also a failure code: both have one entry.
CODE_ALARMS = tuple(alarm for alarm in Alarm if alarm not in ALARM_ENTRIES)


@dataclass(frozen=True, slots=True)
class Section:
    """One section of the runbook: the names that it is about, and their common entry."""

    names: tuple[str, ...]
    entry: Entry


def sections() -> Mapping[str, tuple[Section, ...]]:
    """Return the sections by chapter, each sorted by its first name."""
    return {
        "Alarms": tuple(Section((name,), entry) for name, entry in sorted(ALARM_ENTRIES.items())),
        "Conditions": tuple(Section((name,), entry) for name, entry in sorted(CONDITION_ENTRIES.items())),
        "Why sending stops": _grouped(SENDING_CODES),
        "Failure codes": _grouped(FAILURE_CODES),
    }


def _grouped(codes: Mapping[str, Explanation]) -> tuple[Section, ...]:
    by_text: dict[Explanation, list[str]] = {}
    for code, explanation in codes.items():
        by_text.setdefault(explanation, []).append(code)
    found = [Section(tuple(sorted(names, key=_is_other)), _entry(names[0], text)) for text, names in by_text.items()]
    return tuple(sorted(found, key=lambda section: (_is_other(section.names[0]), section.names[0])))


def _entry(name: str, explanation: Explanation) -> Entry:
    """Return the entry of a code. That of a code which payouts have too names their entry."""
    entry, of_payouts = explanation.entry(), ENTRY_OF_SHARED_CODE.get(name)
    if of_payouts is None:
        return entry
    return replace(entry, do=(*entry.do, f"If it is the code of a payout: `refund-worker explain {of_payouts}`."))


def _is_other(name: str) -> bool:
    """Return True for the names of entries for all other codes: they come last."""
    return name in (OTHER_CODE, OTHER_PARAMETER)


def all_names() -> Iterator[str]:
    """Yield every name that has an entry."""
    for chapter in sections().values():
        for section in chapter:
            yield from section.names


def find_entry(name: str) -> Entry | None:
    """Return the entry of an alarm, a condition or a failure code, or None for a name without one.

    The name may be written with hyphens, as in links.
    """
    name = name.strip().lower().replace("-", "_")
    explanation = FAILURE_CODES.get(name) or SENDING_CODES.get(name)
    return _entry(name, explanation) if explanation else ALARM_ENTRIES.get(name) or CONDITION_ENTRIES.get(name)


def code_anchor(code: str | None) -> str:
    """Return the anchor of the entry for a failure code, or of the entry for codes without one of their own."""
    return anchor_of(code_with_entry(code))


def payout_code_anchor(code: str) -> str:
    """Return the anchor of the entry for a failure code of a payout."""
    return anchor_of(payout_code_with_entry(code))


def event_entry(kind: str, from_status: str | None, code: str | None) -> str:
    """Return the name of the entry for an event that is marked as an alarm.

    An alarm about one failure code, or about one reason to stop sending, has the entry of that code, if there is one.
    Some kinds are failure codes themselves.
    """
    alarm = alarm_of_event(kind, from_status, code)
    code = code or kind
    known = code_with_entry(code) == code
    return code if known and alarm in (Alarm.REFUND_STOPPED, Alarm.SENDING_STOPPED) else alarm.value

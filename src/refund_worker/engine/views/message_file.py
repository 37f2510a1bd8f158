"""Read the file that replaces the messages for customers and staff (`MESSAGES_FILE`): TOML, one language a file.

A key that the table does not have, a placeholder that its message does not have, and a missing one are refused: a text
without its amount or its date would mislead. A message that the file leaves out stays English.
"""

from __future__ import annotations

import string
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path

from refund_worker.engine.views.failure_codes import CODES_OF_GROUPS
from refund_worker.engine.views.leg_messages import CODE_MESSAGES, DETAIL_MESSAGES, STATUS_MESSAGES, Message
from refund_worker.engine.views.payout_messages import (
    PAYOUT_CODE_MESSAGES,
    PAYOUT_DETAIL_MESSAGES,
    PAYOUT_HOLD_MESSAGES,
    PAYOUT_STATUS_MESSAGES,
)
from refund_worker.errors import BadSettings

SETTING = "REFUND_WORKER_MESSAGES_FILE"
SECTIONS: Mapping[str, Mapping[str, Message]] = {
    "status": STATUS_MESSAGES,
    "detail": DETAIL_MESSAGES,
    "code": CODE_MESSAGES,
    # About payouts: `customer` is the payee.
    "payout": PAYOUT_STATUS_MESSAGES,
    "payout_hold": PAYOUT_HOLD_MESSAGES,
    "payout_detail": PAYOUT_DETAIL_MESSAGES,
    "payout_code": PAYOUT_CODE_MESSAGES,
}
READERS = ("customer", "staff")
BYTES_MAX = 2**20


def read_messages(path: str) -> dict[str, dict[str, Message]]:
    """Return the messages of the file by section and key. Raises `BadSettings` that names the fault."""
    data = _read(path)
    unknown = sorted(data.keys() - SECTIONS.keys() - {"language"})
    if unknown:
        raise BadSettings(f"{SETTING}: [{unknown[0]}] is not known; it has language, {', '.join(SECTIONS)}")
    if not isinstance(data.get("language", ""), str):
        raise BadSettings(f"{SETTING}: language must be a text such as de")
    return {name: dict(_messages(name, data.get(name, {}))) for name in SECTIONS}


def completed(found: Mapping[str, Mapping[str, Message]]) -> dict[str, dict[str, Message]]:
    """Return the English table about refunds with these messages in it.

    A code's message holds for all codes of its group.
    """
    codes = found["code"]
    groups = {code: codes[group] for code, group in CODES_OF_GROUPS.items() if group in codes}
    return {
        "status": {**STATUS_MESSAGES, **found["status"]},
        "detail": {**DETAIL_MESSAGES, **found["detail"]},
        "code": {**CODE_MESSAGES, **groups, **codes},
    }


def completed_payouts(found: Mapping[str, Mapping[str, Message]]) -> dict[str, dict[str, Message]]:
    """Return the English table about payouts with these messages in it."""
    return {
        "status": {**PAYOUT_STATUS_MESSAGES, **found["payout"]},
        "hold": {**PAYOUT_HOLD_MESSAGES, **found["payout_hold"]},
        "detail": {**PAYOUT_DETAIL_MESSAGES, **found["payout_detail"]},
        "code": {**PAYOUT_CODE_MESSAGES, **found["payout_code"]},
    }


def _read(path: str) -> dict[str, object]:
    try:
        with Path(path).open("rb") as file:
            text = file.read(BYTES_MAX + 1)
        if len(text) > BYTES_MAX:
            raise BadSettings(f"{SETTING}: the file has more than {BYTES_MAX:,} bytes")
        return tomllib.loads(text.decode("utf-8"))
    except OSError as error:
        raise BadSettings(f"{SETTING}: cannot read the file ({type(error).__name__})") from None
    except UnicodeDecodeError:
        raise BadSettings(f"{SETTING}: the file is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise BadSettings(f"{SETTING}: the file is not TOML: {error}") from None


def _messages(section: str, values: object) -> Iterator[tuple[str, Message]]:
    if not isinstance(values, dict):
        raise BadSettings(f"{SETTING}: {section} must be a table, such as [{section}.{next(iter(SECTIONS[section]))}]")
    for key, value in values.items():
        place, model = f"[{section}.{key}]", SECTIONS[section].get(key)
        if model is None:
            raise BadSettings(f"{SETTING}: {place} is not known: correct its name, or remove it")
        if not isinstance(value, dict) or set(value) != set(READERS):
            raise BadSettings(f"{SETTING}: {place} needs customer and staff, and nothing else")
        for reader in READERS:
            _check(f"{place} {reader}", value[reader], getattr(model, reader))
        yield key, Message(value["customer"], value["staff"])


def _check(place: str, text: object, model: str) -> None:
    if not isinstance(text, str) or not text.strip():
        raise BadSettings(f"{SETTING}: {place} must be a text")
    try:
        names = placeholders(text)
    except ValueError:
        raise BadSettings(f"{SETTING}: {place} has a brace that belongs to no placeholder") from None
    needed = placeholders(model)
    if missing := sorted(needed - names):
        raise BadSettings(f"{SETTING}: {place} lacks {{{missing[0]}}}")
    if unknown := sorted(names - needed):
        raise BadSettings(f"{SETTING}: {place} cannot have {{{unknown[0]}}}; it has {_listed(needed)}")


def _listed(names: set[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names)) or "no placeholders"


def placeholders(text: str) -> set[str]:
    """Return the names in braces. Raises ValueError for braces that are no plain placeholder."""
    found = set()
    for _, name, form, conversion in string.Formatter().parse(text):
        if name is None:
            continue
        if form or conversion or not name.isidentifier():
            raise ValueError(name)
        found.add(name)
    return found

"""The file of accounts at payment processors (`PROCESSORS_FILE`): TOML in, JSON with every secret file read out.

Only the form is checked here. The adapter of an account defines its fields (`processors/accounts.py`).
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from typing import Any

FILE = "_file"
ACCOUNTS_MAX = 200


def json_of_toml(text: str, read_secret: Callable[[str, str], str]) -> str:
    """Return the tables of the file as JSON; `…_file` fields are replaced by what `read_secret(field, path)` returns.

    Raises `ValueError` naming the place, never a value.
    """
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        # The error's own text may quote the line, which can hold a secret.
        raise ValueError(f"is no valid TOML{_place_in(str(error))}") from None
    return json.dumps(checked_tables({name: _with_secrets(name, table, read_secret) for name, table in tables.items()}))


def checked_tables(tables: object) -> dict[str, dict[str, Any]]:
    """Return the tables by account. Raises `ValueError` unless each account has a table of plain values."""
    if not isinstance(tables, dict) or not tables:
        raise ValueError('has no table: write one for each account, such as ["stripe"]')
    if len(tables) > ACCOUNTS_MAX:
        raise ValueError(f"has more than {ACCOUNTS_MAX} accounts")
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise ValueError(f'{name} is in no table: write ["NAME"] of its account above it')
        for field, value in table.items():
            if not isinstance(value, str | int | float | bool):
                raise ValueError(f'["{name}"], {field}: must be a text, a number, true or false')
    return tables


def tables_of_json(text: str) -> dict[str, dict[str, Any]]:
    """Return the tables of the JSON that `json_of_toml` made. Raises `ValueError`."""
    try:
        return checked_tables(json.loads(text))
    except json.JSONDecodeError:
        raise ValueError("is no valid JSON") from None


def _place_in(message: str) -> str:
    _, found, place = message.rpartition("(at ")
    return f" {found}{place}".replace("(", "").replace(")", "") if found else ""


def _with_secrets(account: str, table: object, read_secret: Callable[[str, str], str]) -> object:
    if not isinstance(table, Mapping):
        return table
    values: dict[str, Any] = {}
    for field, value in table.items():
        name = field.removesuffix(FILE)
        if name in values or (name != field and name in table):
            raise ValueError(f'["{account}"]: {name} and {name}{FILE} are both set: keep one')
        if name == field or not isinstance(value, str):
            values[field] = value
        else:
            values[name] = read_secret(f'["{account}"], {field}', value)
    return values

"""The registry of processors: complete entries, read without any SDK."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields

import pytest

from refund_worker.processors import registry
from refund_worker.processors.base import Capabilities
from refund_worker.settings import PREFIX, Settings, load_settings

FACTS = {field.name for field in fields(Capabilities)} - {"sources"}
WITHOUT_ACCESS = load_settings({})
WITH_ACCESS = load_settings({PREFIX + "STRIPE_API_KEY": "sk_test_1"})


@pytest.mark.parametrize("name", registry.names())
def test_each_capability_has_a_source(name: str) -> None:
    entry = registry.find_entry(name)
    assert entry is not None
    assert entry.name == name
    assert set(entry.capabilities.sources) == FACTS
    assert all(entry.capabilities.sources.values())


def test_entries_are_read_without_any_sdk_or_http_client() -> None:
    heavy = {"aiohttp", "fastapi", "pydantic", "sqlalchemy", "stripe"}
    code = (
        "import sys; from refund_worker.processors import registry; registry.entries();"
        f"print(sorted({heavy!r} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_unregistered_name_has_no_entry() -> None:
    assert registry.find_entry("paypal") is None
    assert not registry.is_registered("paypal")


def test_entry_under_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODULES, "paypal", registry.MODULES["manual"])
    with pytest.raises(ValueError, match="describes manual, the registry calls it paypal"):
        registry.entries()


def test_only_configured_processors_are_made() -> None:
    assert set(registry.make_processors(WITHOUT_ACCESS)) == {"manual"}
    assert {name: made.name for name, made in registry.make_processors(WITH_ACCESS).items()} == {
        "manual": "manual",
        "stripe": "stripe",
    }


def test_default_rates_are_those_of_the_capability_tables() -> None:
    defaults = {entry.name: entry.capabilities.rate_per_second for entry in registry.entries()}
    assert registry.rates(WITHOUT_ACCESS) == defaults
    assert Settings.model_fields["stripe_rate_per_second"].default == defaults["stripe"]


@pytest.mark.parametrize(("key", "live"), [("sk_test_1", False), ("sk_1", None)])
def test_mode_of_the_objects_follows_from_the_key(key: str, live: bool | None) -> None:
    entry = registry.find_entry("stripe")
    assert entry is not None
    assert entry.live(load_settings({PREFIX + "STRIPE_API_KEY": key})) is live

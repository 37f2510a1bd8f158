"""The registry of adapters: complete entries, read without any SDK."""

from __future__ import annotations

import subprocess
import sys

import pytest

from refund_worker.processors import registry


def test_entries_are_read_without_any_sdk_or_http_client() -> None:
    heavy = {"aiohttp", "braintree", "fastapi", "sqlalchemy", "stripe"}
    code = (
        "import sys; from refund_worker.processors import registry; registry.entries();"
        f"print(sorted({heavy!r} & sys.modules.keys()))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "[]"


def test_web_application_is_made_without_the_sdk() -> None:
    code = (
        "import sys; from refund_worker.settings import load_settings; from refund_worker.web.app import create_app;"
        "create_app(load_settings({'REFUND_WORKER_STRIPE_API_KEY': 'sk_test_1'})); print('stripe' in sys.modules)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.strip() == "False"


def test_unknown_name_has_no_entry() -> None:
    assert registry.find_entry("acmepay") is None


def test_entry_under_another_name_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.MODULES, "acmepay", registry.MODULES["manual"])
    with pytest.raises(ValueError, match="describes manual, the registry calls it acmepay"):
        registry.entries()


def test_module_outside_the_program_describes_an_adapter() -> None:
    entry = registry.find_entry("tests.processors.second.acmepay.entry")
    assert entry is not None
    assert entry.name == "acmepay"


def test_codes_of_an_adapter_outside_the_program_are_explained() -> None:
    assert registry.find_entry("tests.processors.second.acmepay.entry") is not None
    assert registry.explained_by()["CONTESTED"] == "charge_disputed"
    assert registry.explained_by()["REFUND_NOT_ALLOWED"] == "charge_not_refundable"


def test_module_without_an_entry_is_refused() -> None:
    with pytest.raises(ValueError, match=r"json\.decoder has no ENTRY"):
        registry.find_entry("json.decoder")

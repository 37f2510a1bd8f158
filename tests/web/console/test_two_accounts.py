"""With accounts at Stripe and PayPal, each page and each command says which account a payment or a refund is of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.support.migrated import migrate
from tests.web.client import Web, settings_for
from tests.web.console.populated import Shop
from tests.web.console.populated_paypal import BOTH, processors_setting, refund_over_paypal
from tests.web.console.visitor import Visitor, text_of, visitor

from refund_worker.cli.app import run_command
from refund_worker.cli.output import Output
from refund_worker.cli.refund_output import show_refund
from refund_worker.engine.processor_sync.sync import sync_all
from refund_worker.engine.views.api_objects import find_refund, refund_view
from refund_worker.processors.paypal.sandbox import PayPalServer
from refund_worker.processors.sandbox import Sandbox
from refund_worker.runtime import build_runtime
from refund_worker.store.reporting.reconciliation import count_open_legs


@dataclass(frozen=True)
class Place:
    """A running console, a person who is signed in, and the ids that `refund_over_paypal` names."""

    url: str
    web: Web
    person: Visitor
    named: Mapping[str, str]

    def page(self, path: str, **query: object) -> str:
        """Return the text of a page."""
        return text_of(self.person.get(path, **query))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("two-accounts")
    url = f"sqlite:///{folder / 'refunds.db'}"
    migrate(url)
    with Sandbox(book=Path(folder) / "book.jsonl") as sandbox, PayPalServer() as paypal:
        settings = settings_for(
            url,
            STRIPE_API_KEY="sk_test_aKeyForTheSandbox",
            STRIPE_API_BASE=sandbox.url,
            PROCESSORS=processors_setting(paypal),
        )
        with build_runtime(settings) as runtime:
            shop = Shop(runtime, sandbox)
            named = refund_over_paypal(shop, paypal)
            sync_all(shop.context, "stripe")
        with Web(settings) as web:
            yield Place(url, web, visitor(web, "admin"), named)


def test_refund_page_names_the_account_of_each_leg(place: Place) -> None:
    page = place.page(f"/refunds/{place.named['both']}")
    assert re.search(r"20\.00 EUR over pay-CAP\d+ at paypal", page)
    assert "20.00 EUR over pay-ch_both at stripe" in page
    assert re.search(r"Attempt 1 on payment pay-CAP\d+ at paypal", page)
    assert "Attempt 1 on payment pay-ch_both at stripe" in page
    leg = place.named["both"]
    assert f"{leg}-1 at paypal · attempt 1" in page
    assert f"{leg}-2 at stripe · attempt 1" in page
    objects = page.partition("Refunds at the processor Refund Account")[2]
    assert re.search(r"re_\w+ Copy re_\w+ stripe succeeded", objects)
    assert "to your bank" not in page


@pytest.mark.parametrize("path", ["/refunds", "/customer"])
def test_lists_name_the_accounts_of_a_refund(place: Place, path: str) -> None:
    query = {"id": BOTH} if path == "/customer" else {"customer_id": BOTH}
    assert "40.00 EUR paypal, stripe" in place.page(path, **query)


def test_cause_that_needs_a_person_names_its_accounts(place: Place) -> None:
    assert "REFUND_IS_RESTRICTED at paypal · first seen" in place.page("/failures")
    assert "1 refund needs attention at paypal: The payment cannot be refunded" in place.page("/")


def test_account_without_a_list_is_named_where_books_are_compared(place: Place) -> None:
    system = place.page("/system")
    assert "paypal never never no list of refunds: each is looked up at its payment" in system
    assert "stripe never never refund-worker reconcile --processor stripe" in system
    page = place.page("/reconciliations")
    assert "Not here: paypal. There is no list of refunds to compare with." in page


def test_overview_shows_an_account_without_a_list(place: Place) -> None:
    assert "paypal each refund is looked up" in place.page("/")


def test_overview_says_of_no_account_more_than_it_can(place: Place) -> None:
    """Adyen has no call by which a refund could be looked up."""
    adyen = {"api_key": "AQE" + "a" * 60, "merchant_account": "ShopECOM"}
    paypal = {"client_id": "id", "client_secret": "secret"}
    with Web(settings_for(place.url, PROCESSORS=json.dumps({"adyen": adyen, "paypal": paypal}))) as web:
        page = text_of(visitor(web, "viewer").get("/"))
    assert "paypal each refund is looked up" in page
    assert "adyen each refund is looked up" not in page


def test_processors_page_names_adapter_and_mode_of_each_account(place: Place) -> None:
    page = place.page("/processors")
    assert re.search(r"paypal sending Adapter paypal Mode test: no real money Sent in the last minute", page)
    assert re.search(r"manual sending Adapter manual Sent in the last minute", page)
    assert "refunds off" not in page


def test_account_without_refunds_is_not_shown_as_sending(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'refunds.db'}"
    migrate(url)
    accounts = {"stripe": {"refunds": "off"}, "house": {"adapter": "manual", "refunds": "off"}}
    with Web(settings_for(url, PROCESSORS=json.dumps(accounts))) as web:
        person = visitor(web, "operator")
        page = text_of(person.get("/processors"))
        assert 'house refunds off Its settings have refunds = "off" : nothing is sent over it' in page
        assert "Mode no credentials are set" in page
        person.follow(person.submit(person.get("/processors"), "/processors/pause", name="house", reason="fire"))
        assert "house paused By console/operator" in text_of(person.get("/processors"))


def test_commands_name_the_accounts(
    place: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    with place.web.context.database.read() as connection:
        refund = refund_view(find_refund(connection, place.named["both"]))
    show_refund(refund, Output.TABLE)
    shown = capsys.readouterr().out
    assert re.search(r"1 +succeeded +20\.00 EUR +pay-CAP\d+ +paypal +RFD\d+", shown)
    assert re.search(r"2 +succeeded +20\.00 EUR +pay-ch_both +stripe +re_\w+", shown)
    monkeypatch.setenv("REFUND_WORKER_DATABASE_URL", place.url)
    assert run_command(("failures", "list")) == 0
    assert re.search(r"REFUND_IS_RESTRICTED +1 +1 +25\.00 EUR +paypal ", capsys.readouterr().out)
    run_command(("doctor",))
    assert "1 refund needs attention at paypal: The payment cannot" in capsys.readouterr().out


def test_legs_in_flight_count_at_their_own_account(place: Place) -> None:
    with place.web.context.database.read() as connection:
        assert [count_open_legs(connection, account) for account in ("stripe", "paypal")] == [0, 1]

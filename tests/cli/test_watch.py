"""`--watch` shows a result again and again: a list until Ctrl-C, a refund until it has ended."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest
from tests.cli.conftest import Cli

from refund_worker.cli import runtime, watch
from refund_worker.domain.state_machine import Action
from refund_worker.engine.refunds.actions import perform_action

REQUEST = ("refunds", "create", "--kind", "withdrawal", "--to", "source", "--customer", "ann", "--credits", "10")


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[float]]:
    """Return a function that replaces each pause between two looks by the next of these acts; the last is Ctrl-C."""

    def replace(*acts: Callable[[], object]) -> list[float]:
        waited: list[float] = []
        left: Iterator[Callable[[], object]] = iter(acts)

        def sleep(seconds: float) -> None:
            waited.append(seconds)
            act = next(left, None)
            if act is None:
                raise KeyboardInterrupt
            act()

        monkeypatch.setattr(watch, "time", SimpleNamespace(sleep=sleep))
        return waited

    return replace


def test_list_is_shown_again_until_ctrl_c(shop: Cli, pauses: Callable[..., list[float]]) -> None:
    shop(*REQUEST, "--reason", "asked", "--idempotency-key", "k1")
    waited = pauses(lambda: None, lambda: None)
    ran = shop("refunds", "list", "--watch")
    assert (ran.code, waited) == (0, [2.0, 2.0, 2.0])
    assert ran.out.count("queued") == 3
    assert ran.err.count("UTC, every 2 s until Ctrl-C") == 3
    waited = pauses()
    assert shop("refunds", "list", "--watch", "--every", "30", "-q").out.startswith("rf_")
    assert waited == [30.0]


def test_refund_is_shown_again_until_it_has_ended(shop: Cli, pauses: Callable[..., list[float]]) -> None:
    created = shop(*REQUEST, "--reason", "asked", "--idempotency-key", "k1", "-o", "json").json
    waited = pauses(lambda: None, lambda: _cancel(created["id"]))
    ran = shop("refunds", "show", created["id"], "--watch", "--every", "0.5")
    assert (ran.code, waited) == (0, [0.5, 0.5])
    assert (ran.out.count("queued"), "canceled" in ran.out, ran.err.count("until Ctrl-C")) == (2, True, 3)
    assert shop("refunds", "show", created["id"], "--watch").code == 0, "one that has ended is shown once"


def _cancel(refund_id: str) -> None:
    with runtime.context() as context:
        perform_action(context, refund_id, Action.CANCEL, actor="cli:anna", reason="asked")


def test_watch_outlasts_a_database_that_is_away(
    pauses: Callable[..., list[float]], capsys: pytest.CaptureFixture[str]
) -> None:
    shown = []

    def once() -> bool:
        shown.append(1)
        if len(shown) == 1:
            raise watch.Unavailable("the database cannot be used just now")
        return True

    pauses(lambda: None)
    watch.show_watched(once, True, 1.0, watch.Output.TABLE)
    assert len(shown) == 2
    assert "error: the database cannot be used just now" in capsys.readouterr().err


@pytest.mark.parametrize("words", [("list",), ("show", "rf_1")])
def test_watch_is_not_for_programs(shop: Cli, words: tuple[str, ...]) -> None:
    ran = shop("refunds", *words, "--watch", "-o", "json")
    assert (ran.code, ran.out) == (2, "")
    assert "--watch is for people: leave out -o json" in ran.err

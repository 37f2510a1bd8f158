"""The book on disk: a restart keeps everything that a client ever saw, and damage is noticed."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import stripe

from refund_worker.processors.local_server.journal import Journal
from refund_worker.processors.sandbox import BookError, Sandbox, SandboxError
from refund_worker.processors.sandbox.book import Book, later
from refund_worker.processors.sandbox.form import Params
from refund_worker.processors.sandbox.listing import REFUNDS, list_objects
from refund_worker.processors.sandbox.refunds import Step, decide_create, decide_move, read_create_request

Connect = Callable[..., stripe.StripeClient]


def test_killed_sandbox_keeps_payments_refunds_keys_and_clock(own_sandbox: Sandbox, connect: Connect) -> None:
    client = connect(own_sandbox)
    own_sandbox.register_payment("ch_1", 1000)
    own_sandbox.advance_clock(5000)
    made = client.v1.refunds.create({"charge": "ch_1", "amount": 300}, {"idempotency_key": "k"})
    client.v1.refunds.update(made.id, {"metadata": {"a": "b"}})
    before = own_sandbox.book()
    own_sandbox.kill()
    own_sandbox.start()
    after = own_sandbox.book()
    assert {**after, "requests": None} == {**before, "requests": None}
    again = client.v1.refunds.create({"charge": "ch_1", "amount": 300}, {"idempotency_key": "k"})
    assert again.id == made.id
    newer = client.v1.refunds.create({"charge": "ch_1", "amount": 300}, {"idempotency_key": "k2"})
    assert newer.id != made.id
    assert newer.created >= made.created
    with pytest.raises(stripe.InvalidRequestError):
        client.v1.refunds.create({"charge": "ch_1", "amount": 401})


OLD_BOOK = """\
[{"kind":"opened","seed":"s"}]
[{"kind":"payment","id":"ch_1","amount":1000,"currency":"gbp","disputed":false}]
[{"kind":"refund","key":null,"refund":{"id":"re_1","object":"refund","amount":300,"balance_transaction":null,\
"charge":"ch_1","created":1700000000,"currency":"gbp","destination_details":null,\
"failure_balance_transaction":null,"failure_reason":null,"metadata":{},"payment_intent":null,\
"pending_reason":null,"reason":null,"status":"requires_action"}},\
{"kind":"later","due":1700000060.0,"what":{"do":"move","id":"re_1","status":"failed","failure_reason":"declined"}}]
[{"kind":"payment","id":"ch_1","amount":1000,"currency":"gbp","disputed":true}]
"""


def test_book_of_an_earlier_version_is_continued(tmp_path: Path, connect: Connect) -> None:
    (tmp_path / "book.jsonl").write_text(OLD_BOOK, "utf-8")
    with Sandbox(book=tmp_path / "book.jsonl") as running:
        client = connect(running)
        refund = client.v1.refunds.retrieve("re_1")
        assert (refund.status, refund.failure_reason) == ("failed", "declined")
        charge = client.v1.charges.retrieve("ch_1")
        assert (charge.amount_captured, charge.amount_refunded, charge.disputed) == (1000, 0, True)
        assert [each.amount for each in client.v1.balance.retrieve().available] == [1000]
        assert running.act("open_dispute", payment="ch_1")["amount"] == 1000


def test_incomplete_last_line_is_cut_off_and_the_rest_kept(own_sandbox: Sandbox, connect: Connect) -> None:
    own_sandbox.register_payment("ch_1", 1000)
    connect(own_sandbox).v1.refunds.create({"charge": "ch_1", "amount": 300})
    own_sandbox.kill()
    whole = own_sandbox.book_path.read_bytes()
    own_sandbox.book_path.write_bytes(whole + b'[{"kind":"refund","refu')
    own_sandbox.start()
    assert own_sandbox.book_path.read_bytes() == whole
    connect(own_sandbox).v1.refunds.create({"charge": "ch_1", "amount": 1})
    own_sandbox.restart()
    assert own_sandbox.book()["totals"]["gbp"]["refunded"] == 301


def test_damaged_line_in_the_middle_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "book.jsonl"
    file.write_text('[{"kind":"opened","seed":"s"}]\n[{"kind":\n[]\n')
    with pytest.raises(BookError, match="line 2"):
        Book(file)


def test_book_can_be_opened_by_one_process_only(own_sandbox: Sandbox) -> None:
    with pytest.raises(SandboxError), Sandbox(book=own_sandbox.book_path):
        pass
    own_sandbox.register_payment("ch_1", 1)  # the first sandbox still answers


def test_payments_file_can_be_read_at_every_start(tmp_path: Path) -> None:
    header = "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at\n"
    file = tmp_path / "payments.csv"
    file.write_text(header + "p1,c1,stripe,ch_a,1250,GBP,1250,2010-12-01T08:26:00Z\n", "utf-8")
    with Sandbox(book=tmp_path / "book.jsonl", payments=file) as running:
        running.restart()
        (payment,) = running.book()["payments"]
    assert payment == {"id": "ch_a", "amount": 1250, "currency": "gbp", "refunded": 0, "disputed": False}


def test_sigterm_ends_the_sandbox_in_order(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "refund_worker.processors.sandbox", "--port", "0"]
    with subprocess.Popen(
        [*command, "--book", str(tmp_path / "book.jsonl")], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("sandbox listening on http://127.0.0.1:")
            process.send_signal(signal.SIGTERM)
            assert process.wait(10) == 0
        finally:
            process.kill()


def test_sandbox_ends_with_the_process_that_started_it() -> None:
    starter = (
        "import sys, os\n"
        "from refund_worker.processors.sandbox import Sandbox\n"
        "running = Sandbox()\n"
        "running.start()\n"
        "print(running.port, flush=True)\n"
        "os._exit(0)\n"
    )
    started = subprocess.run([sys.executable, "-c", starter], capture_output=True, text=True, timeout=30, check=True)
    port = int(started.stdout)
    for _ in range(500):
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            return
        time.sleep(0.01)
    pytest.fail("it still listens")


def test_unfinished_request_does_not_stop_the_sandbox_from_ending(own_sandbox: Sandbox) -> None:
    with socket.create_connection(("127.0.0.1", own_sandbox.port), timeout=5) as idle:
        idle.sendall(b"POST /v1/refunds HTTP/1.1\r\nContent-Le")
        own_sandbox.stop()
        with contextlib.suppress(ConnectionError):
            assert idle.recv(10) == b""


# -- without a process ------------------------------------------------------------------------------------------------


def make_refund(book: Book, amount: int, charge: str = "ch_1") -> str:
    """Create a refund in the book without a server, and return its id."""
    params: Params = {"charge": charge, "amount": str(amount)}
    decision = decide_create(book, read_create_request(params), None, {})
    book.commit(*decision.records)
    refund_id: str = decision.object["id"]
    return refund_id


def new_book(path: Path | None = None) -> Book:
    """Return a book with a fixed clock and the payment ch_1 of 10.00 GBP."""
    book = Book(path, seed=1, clock=lambda: 1_700_000_000.0)
    if "ch_1" not in book.payments:
        book.commit({"kind": "payment", "id": "ch_1", "amount": 1000, "currency": "gbp", "disputed": False})
    return book


def test_decision_changes_nothing_until_it_is_committed() -> None:
    book = new_book()
    decide_create(book, read_create_request({"charge": "ch_1"}), None, {})
    assert (book.refunds, book.payments["ch_1"].refunded) == ({}, 0)


def test_failed_write_leaves_the_book_unchanged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = new_book(tmp_path / "book.jsonl")
    size = (tmp_path / "book.jsonl").stat().st_size
    write = os.write

    def half_a_write(descriptor: int, line: bytes) -> int:
        return write(descriptor, line[: len(line) // 2])

    with monkeypatch.context() as full_disk:
        full_disk.setattr(os, "write", half_a_write)
        with pytest.raises(OSError, match="a part"):
            make_refund(book, 100)
    assert book.refunds == {}
    assert (tmp_path / "book.jsonl").stat().st_size == size
    make_refund(book, 100)
    book.close()
    assert new_book(tmp_path / "book.jsonl").payments["ch_1"].refunded == 100


def test_one_line_holds_all_records_of_one_commit(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "book.jsonl")
    journal.append([{"kind": "a"}, {"kind": "b"}])
    journal.append([{"kind": "c"}])
    assert list(journal.replay()) == [[{"kind": "a"}, {"kind": "b"}], [{"kind": "c"}]]
    assert [len(json.loads(line)) for line in (tmp_path / "book.jsonl").read_text().splitlines()] == [2, 1]
    journal.close()


def test_failed_refund_cannot_change_status_again() -> None:
    book = new_book()
    refund = book.refunds[make_refund(book, 1000)]
    book.commit(*decide_move(book, refund, Step("failed")).records)
    make_refund(book, 1000)
    with pytest.raises(Exception, match="nothing comes after"):
        decide_move(book, refund, Step("succeeded"))
    assert book.payments["ch_1"].refunded == 1000


def test_scheduled_items_run_in_order_and_once() -> None:
    book = new_book()
    now = book.now()
    book.commit(later(now + 20, {"do": "b"}), later(now + 10, {"do": "a"}), later(now + 9999, {"do": "c"}))
    book.commit({"kind": "clock", "offset_seconds": 60.0})
    seen = []
    while (due := book.next_due()) is not None:
        seen.append(due[1]["do"])
        book.commit({"kind": "done", "number": due[0]})
    assert seen == ["a", "b"]
    assert book.due_at() == now + 9999


@pytest.mark.parametrize("limit", [1, 2, 3, 100])
def test_pages_of_any_size_show_every_refund_once(limit: int) -> None:
    book = new_book()
    made = [make_refund(book, 1) for _ in range(6)]
    walked: list[str] = []
    params: Params = {"limit": str(limit)}
    more = True
    while more:
        page = list_objects(book, REFUNDS, params)
        walked += [refund["id"] for refund in page["data"]]
        more = page["has_more"]
        params = {"limit": str(limit), "starting_after": walked[-1]}
    assert walked == made[::-1]

"""`make bench`: refunds a second, compared with calls a second of the bare SDK, on the same machine in the same run.

Everything is as in `make demo`: SQLite, the embedded broker, two worker processes, every guarantee on. Only the rate
limit is off. The bare figure is the official SDK with its default client, one call after another, against the same
sandbox. Quote the ratio, because machines vary.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import stripe

from refund_worker.cli.stack import Stack
from refund_worker.domain.records import PaymentRecord, SpendRecord
from refund_worker.domain.refund import Kind, RefundRequest, To
from refund_worker.engine.accounts import payments, spends
from refund_worker.engine.context import Context
from refund_worker.engine.processor_sync import reconciliation
from refund_worker.engine.refunds import accept
from refund_worker.runtime import build_runtime
from refund_worker.settings import load_settings
from refund_worker.worker.publisher import make_publisher
from tests.bench.click import measure_clicks
from tests.support.refund_counts import count_by_status

REFUNDS = int(os.environ.get("BENCH_REFUNDS", "3000"))
SDK_CALLS = 1000
SUBMIT_ROWS = int(os.environ.get("BENCH_ROWS", "100000"))
SUBMIT_MEGABYTES_MAX = 200
RATIO_MIN = 0.25
BATCH = 250


def main() -> int:
    """Run all measurements. Return 1 if one misses its limit, else 0."""
    with tempfile.TemporaryDirectory(prefix="refund-worker-bench-") as folder:
        ratio = measure_refunds(Path(folder) / "refunds")
        megabytes = measure_submit(Path(folder) / "submit")
        clicks_are_quick = measure_clicks(Path(folder) / "clicks")
    good = ratio >= RATIO_MIN and megabytes < SUBMIT_MEGABYTES_MAX and clicks_are_quick
    print("ok" if good else "BELOW THE LIMITS")
    return 0 if good else 1


def measure_refunds(folder: Path) -> float:
    """Return the ratio of refunds a second to bare calls a second.

    The time is from the first published task to the last committed answer.
    """
    stack = Stack(folder, settings={"REFUND_WORKER_STRIPE_RATE_PER_SECOND": "0"})
    stack.start()
    try:
        settings = load_settings(stack.environment)
        with build_runtime(settings, publish=make_publisher(settings)) as runtime:
            bare = bare_calls_per_second(stack)
            prepare(runtime.context, stack, REFUNDS)
            started = time.perf_counter()
            accepted = request_all(runtime.context, REFUNDS)
            taken_in = time.perf_counter() - started
            done = wait_for(runtime.context, accepted)
            seconds = time.perf_counter() - started
            report = reconciliation.reconcile(runtime.context, "stripe")
            again = bare_calls_per_second(stack, "again")
    finally:
        stack.stop()
    per_second, bare = done / seconds, (bare + again) / 2
    print(f"bare SDK, default client, one process:       {bare:8.0f} calls/s")
    print(f"refund-worker, two worker processes, SQLite: {per_second:8.0f} refunds/s ({done} refunds)")
    print(f"accepting them (idempotent, reserved):       {accepted / taken_in:8.0f} requests/s")
    print(f"ratio: {per_second / bare:.2f}   books agree: {report.agrees}   penny for penny: {report.ledger_minor}")
    return per_second / bare if report.agrees and done == accepted else 0.0


def bare_calls_per_second(stack: Stack, name: str = "first") -> float:
    """Return the calls a second of the official SDK alone."""
    stripe.enable_telemetry = False
    client = stripe.StripeClient("sk_test_bench", base_addresses={"api": stack.sandbox.url})
    charge = f"ch_bare_{name}"
    stack.sandbox.register_payment(charge, SDK_CALLS, "USD")
    started = time.perf_counter()
    for number in range(SDK_CALLS):
        client.v1.refunds.create({"charge": charge, "amount": 1}, {"idempotency_key": f"{charge}-{number}"})
    return SDK_CALLS / (time.perf_counter() - started)


def prepare(context: Context, stack: Stack, count: int) -> None:
    """Record a customer, a payment and a spend for each refund."""
    paid = [
        PaymentRecord(
            payment_id=f"pay-{n}",
            customer_id=f"cus-{n}",
            processor="stripe",
            processor_payment_id=f"ch_{n}",
            amount_minor=1000,
            currency="USD",
            credits=1000,
            captured_at=float(n),
        )
        for n in range(count)
    ]
    spent = [
        SpendRecord(
            transaction_id=f"chat-{n}", customer_id=f"cus-{n}", credits=600, description="", occurred_at=n + 1.0
        )
        for n in range(count)
    ]
    stack.sandbox.register_payments(
        [{"processor_payment_id": p.processor_payment_id, "amount_minor": 1000, "currency": "USD"} for p in paid]
    )
    for start in range(0, count, BATCH):
        payments.record_payments(context, paid[start : start + BATCH])
        spends.record_spends(context, spent[start : start + BATCH])


def request_all(context: Context, count: int) -> int:
    """Accept the requests and return how many were accepted."""
    requests = [
        RefundRequest(
            idempotency_key=f"bench-{n}",
            kind=Kind.CREDIT_REFUND,
            to=To.SOURCE,
            customer_id=f"cus-{n}",
            transaction_id=f"chat-{n}",
            credits=250,
            reason="requested_by_customer",
            bulk=True,
        )
        for n in range(count)
    ]
    answers: Sequence[object] = []
    for start in range(0, count, BATCH):
        answers = [*answers, *accept.request_refunds(context, requests[start : start + BATCH])]
    return sum(isinstance(answer, accept.Accepted) for answer in answers)


def wait_for(context: Context, count: int) -> int:
    """Wait until all refunds have succeeded. Return how many have after at most a minute."""
    end = time.monotonic() + 60
    done = 0
    while done < count and time.monotonic() < end:
        time.sleep(0.05)
        with context.database.read() as connection:
            done = count_by_status(connection).get("succeeded", 0)
    return done


def measure_submit(folder: Path) -> float:
    """Return the peak memory in MB of `refunds submit` on a large file, as the operating system counts it."""
    folder.mkdir()
    clean = {key: value for key, value in os.environ.items() if not key.startswith("REFUND_WORKER_")}
    environment = clean | {"REFUND_WORKER_DATABASE_URL": f"sqlite:///{folder / 'refunds.db'}"}
    (folder / "payments.csv").write_text(
        "payment_id,customer_id,processor,processor_payment_id,amount_minor,currency,credits,captured_at\n"
        f"pay-1,cus-1,stripe,ch_1,{SUBMIT_ROWS},USD,{SUBMIT_ROWS},2026-01-01T00:00:00Z\n"
    )
    with (folder / "refunds.csv").open("w") as file:
        file.write("idempotency_key,kind,to,customer_id,transaction_id,credits,reason,note,requested_by,requested_at\n")
        for n in range(SUBMIT_ROWS):
            file.write(f"k-{n},withdrawal,source,cus-1,,1,requested_by_customer,,bench,2026-01-02T00:00:00Z\n")
    command = [sys.executable, "-m", "refund_worker"]
    subprocess.run([*command, "import", "payments", folder / "payments.csv"], env=environment, check=True)
    started = time.perf_counter()
    submitted = subprocess.run(
        [*command, "refunds", "submit", folder / "refunds.csv", "-o", "json"],
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
    )
    seconds = time.perf_counter() - started
    megabytes = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024
    accepted = json.loads(submitted.stdout)["accepted"]
    print(f"submitting {accepted} rows: {seconds:.0f} s, {accepted / seconds:.0f} rows/s, at most {megabytes:.0f} MB")
    return megabytes if accepted == SUBMIT_ROWS else float("inf")


if __name__ == "__main__":
    sys.exit(main())

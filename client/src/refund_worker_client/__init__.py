"""A typed client for refund-worker's HTTP API: `Client`, and `AsyncClient` with the same calls to be awaited.

Every error is an `ApiError` with the API's stable `code`. Keys made with `--signed` need a `signing_secret`: then each
request is signed. The only dependency is httpx.
"""

from refund_worker_client.api_schema import (
    Amount,
    Batch,
    Customer,
    Event,
    Kind,
    Leg,
    Outcome,
    Page,
    Payment,
    PaymentRead,
    PaymentWord,
    PlannedLeg,
    Preview,
    Refund,
    Reject,
    Spend,
    Switch,
    To,
    Transaction,
    Wait,
)
from refund_worker_client.calls import Call, Calls, Listing
from refund_worker_client.clients import ANSWER_BYTES_MAX, AsyncClient, Client
from refund_worker_client.errors import (
    UNREACHABLE,
    Answer,
    ApiError,
    NotReached,
    Retries,
    again,
    decoded,
    final,
)

__all__ = [
    "ANSWER_BYTES_MAX",
    "UNREACHABLE",
    "Amount",
    "Answer",
    "ApiError",
    "AsyncClient",
    "Batch",
    "Call",
    "Calls",
    "Client",
    "Customer",
    "Event",
    "Kind",
    "Leg",
    "Listing",
    "NotReached",
    "Outcome",
    "Page",
    "Payment",
    "PaymentRead",
    "PaymentWord",
    "PlannedLeg",
    "Preview",
    "Refund",
    "Reject",
    "Retries",
    "Spend",
    "Switch",
    "To",
    "Transaction",
    "Wait",
    "again",
    "decoded",
    "final",
]

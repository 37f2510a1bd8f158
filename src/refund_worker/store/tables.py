"""The tables. Constraints repeat the domain's rules, so that a defect elsewhere cannot write money that does not exist.

Times are epoch seconds as doubles, amounts are integers in minor units, and JSON is stored as text: all three compare
and sort alike on SQLite and Postgres.
"""

from __future__ import annotations

import json
import os

from sqlalchemy import (
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    TypeDecorator,
    UniqueConstraint,
    text,
)

metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

# SQLite assigns numbers automatically only in an INTEGER primary key.
SEQUENCE = BigInteger().with_variant(Integer(), "sqlite")


def _amount(name: str, **options: object) -> Column[int]:
    return Column(name, BigInteger, nullable=False, **options)  # type: ignore[arg-type]


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


class Ids(TypeDecorator[tuple[str, ...]]):
    """A processor's ids in their order, stored as JSON text."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: tuple[str, ...] | None, dialect: object) -> str:
        """Return the ids as JSON text; `[]` for None or no ids."""
        return json.dumps(value) if value else "[]"

    def process_result_value(self, value: str | None, dialect: object) -> tuple[str, ...]:
        """Return the stored ids as a tuple."""
        return tuple(json.loads(value)) if value and value != "[]" else ()


def _ids(name: str) -> Column[tuple[str, ...]]:
    return Column(name, Ids, nullable=False, server_default="[]")


def _salt() -> Column[str]:
    """Return the column of the salt in the sealed hash of a row's texts.

    With the salt, erased texts cannot be guessed from the hash. It is null in rows older than this column, and after
    the texts are erased.
    """
    return Column("salt", Text, default=lambda: os.urandom(16).hex())


def _flag(name: str) -> Column[bool]:
    return Column(name, Boolean, nullable=False, server_default=text("false"))


customers = Table(
    "customers",
    metadata,
    Column("customer_id", Text, primary_key=True),
    _amount("balance", server_default="0"),
    _amount("held", server_default="0"),
    _amount("bought", server_default="0"),
    _amount("net_spent", server_default="0"),
    _amount("withdrawn", server_default="0"),
    Column("created_at", Double, nullable=False),
    # The customer that this one was merged into, never one that was merged itself. Its row stays, without credits.
    Column("merged_into", Text),
    # The last time that the customer's texts were erased.
    Column("erased_at", Double),
    Index(
        "ix_customers_merged_into",
        "merged_into",
        sqlite_where=text("merged_into IS NOT NULL"),
        postgresql_where=text("merged_into IS NOT NULL"),
    ),
    CheckConstraint("held >= 0", name="held"),
    CheckConstraint("bought >= 0 AND net_spent >= 0 AND withdrawn >= 0", name="sums"),
)

payments = Table(
    "payments",
    metadata,
    Column("payment_id", Text, primary_key=True),
    Column("customer_id", Text, ForeignKey("customers.customer_id"), nullable=False, index=True),
    Column("processor", Text, nullable=False),
    Column("processor_payment_id", Text, nullable=False),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    _amount("credits"),
    Column("captured_at", Double, nullable=False),
    _amount("credits_taken", server_default="0"),
    _amount("money_taken", server_default="0"),
    Column("created_at", Double, nullable=False),
    _flag("refunded_elsewhere"),
    # As recorded: the captured amount if it differs, and the amount returned before the payment was known here.
    Column("captured_minor", BigInteger),
    _amount("refunded_minor", server_default="0"),
    # The part of that which came back, because a refund failed later, or which pays the refund that one was linked to.
    _amount("returned_minor", server_default="0"),
    # State of the processor's report (null, `read`, `unreadable`, `proved` or `doubted`), what it said, and when.
    Column("word", Text),
    Column("word_captured", BigInteger),
    Column("word_currency", Text),
    Column("word_live", Boolean),
    Column("word_disputed", Boolean),
    Column("word_refunded", BigInteger),
    Column("word_read_at", Double),
    # The amount refunded there that is not in our records, and how much of it a person has acknowledged.
    _amount("word_outside", server_default="0"),
    _amount("word_seen", server_default="0"),
    # How it was recorded, if not by the admin backend: `import` from the processor's account, or `webhook`.
    Column("recorded_by", Text),
    Index("ix_payments_processor_processor_payment_id", "processor", "processor_payment_id"),
    # Sums of its live claims: money, credits, the money of outside refunds alone, and the number of open disputes.
    _amount("claimed_minor", server_default="0"),
    _amount("claimed_credits", server_default="0"),
    _amount("outside_minor", server_default="0"),
    _count("open_disputes"),
    Column("closed_at", Double),
    # The connected account of a payment, and what a refund takes back from it; null if the payment has none.
    Column("connect_account", Text),
    Column("connect_reverse_transfer", Boolean),
    Column("connect_refund_application_fee", Boolean),
    CheckConstraint("amount_minor > 0 AND credits > 0", name="positive"),
    CheckConstraint("credits_taken >= 0 AND credits_taken <= credits", name="credits_room"),
    CheckConstraint("money_taken >= 0 AND money_taken <= amount_minor", name="money_room"),
)
# The minor units that were returned before the payment was known here, and that are still gone.
REFUNDED_BEFORE = payments.c.refunded_minor - payments.c.returned_minor

# Every id that a processor has for an open payment: some have two for one payment. A trigger inserts the recorded one.
# A payment that was closed has none, so that its ids are free for a new record.
payment_refs = Table(
    "payment_refs",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("payment_id", Text, ForeignKey("payments.payment_id"), nullable=False, index=True),
)

# The id that the admin backend gave a payment which had recorded itself before.
payment_aliases = Table(
    "payment_aliases",
    metadata,
    Column("alias", Text, primary_key=True),
    Column("payment_id", Text, ForeignKey("payments.payment_id"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
)

# Ledger rows never change; how much of a spend or correction is already refunded is stored here.
transaction_rooms = Table(
    "transaction_rooms",
    metadata,
    Column("transaction_id", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("kind", Text, nullable=False),
    _amount("credits"),
    _amount("taken", server_default="0"),
    _flag("reversed"),
    CheckConstraint("taken >= 0 AND taken <= credits", name="room"),
)

OPEN_DISPUTE = text("kind = 'dispute' AND phase IN ('holding', 'shown')")
LIVE_OUTSIDE_REFUND = text("kind = 'outside_refund' AND phase IN ('holding', 'taken')")
UNDECIDED = text("phase = 'taken' AND rule = 'person'")
MAY_BE_ANSWERED = text("actionable IS NOT FALSE")

# Conditions of partial indexes: SQLite uses such an index only for a query with the same condition.
CORRECTIONS = text("kind IN ('correction', 'expiry')")

ledger_transactions = Table(
    "ledger_transactions",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("transaction_id", Text, nullable=False, unique=True),
    # Null: an entry of a payee's account.
    Column("customer_id", Text, ForeignKey("customers.customer_id")),
    Column("kind", Text, nullable=False),
    _amount("credits"),
    Column("refers_to", Text),
    Column("refund_id", Text),
    Column("description", Text, nullable=False, server_default=""),
    Column("occurred_at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    _salt(),
    Index("ix_ledger_transactions_customer", "customer_id", "occurred_at", "seq"),
    # The console's list of all customers, and its search by day.
    Index("ix_ledger_transactions_occurred", "occurred_at", "seq"),
    # Few rows among many: a customer's page shows the latest of them.
    Index(
        "ix_ledger_transactions_corrections_expiries",
        "customer_id",
        "occurred_at",
        "seq",
        sqlite_where=CORRECTIONS,
        postgresql_where=CORRECTIONS,
    ),
    Index(
        "ix_ledger_transactions_refers_to",
        "refers_to",
        sqlite_where=text("refers_to IS NOT NULL"),
        postgresql_where=text("refers_to IS NOT NULL"),
    ),
)

ledger_entries = Table(
    "ledger_entries",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("transaction_id", Text, ForeignKey("ledger_transactions.transaction_id"), nullable=False, index=True),
    Column("account", Text, nullable=False),
    Column("unit", Text, nullable=False),
    _amount("amount"),
    CheckConstraint("amount <> 0", name="amount"),
)

TROUBLED = text("status IN ('needs_attention', 'failed')")
# The legs over connected accounts: the account's name is behind its platform's.
AT_CONNECTED = text("processor LIKE '%/%'")
IN_FLIGHT = text("status NOT IN ('succeeded', 'failed', 'canceled')")

refunds = Table(
    "refunds",
    metadata,
    Column("refund_id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("to", Text, nullable=False),
    Column("customer_id", Text, ForeignKey("customers.customer_id"), nullable=False),
    Column("transaction_id", Text),
    _amount("credits"),
    Column("currency", Text),
    Column("reason", Text, nullable=False),
    Column("note", Text),
    Column("metadata", Text, nullable=False, server_default="{}"),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    # The actor who was authenticated for the request.
    Column("requested_by", Text, nullable=False),
    _flag("of_correction"),
    _flag("unapproved"),
    _flag("posted"),
    _count("returns"),
    _amount("returned_credits", server_default="0"),
    Column("failure_code", Text),
    Column("failure_message", Text),
    _count("priority"),
    Column("due_at", Double),
    Column("lease_until", Double),
    Column("lease_token", Text),
    # The person who asked, as the caller names them.
    Column("requested_by_note", Text),
    # The customer's address for instructions; null 35 days after the refund's end. `body` has only a salted hash of it.
    Column("instructions_email", Text),
    # The ways that may be tried when a payment refuses for good, separated by commas; null for all of the setting.
    Column("destinations", Text),
    # The payee of a withdrawal that is paid out as far as the customer's payments cannot take it back.
    Column("payee_id", Text),
    # The key first: callers who may see all clients search by the key alone.
    UniqueConstraint("idempotency_key", "client"),
    CheckConstraint("credits > 0", name="credits"),
    CheckConstraint("returned_credits >= 0 AND returned_credits <= credits", name="returned"),
    # Small for any history: it holds only refunds that still have work.
    Index(
        "ix_refunds_due",
        "priority",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    Index("ix_refunds_customer", "customer_id", "refund_id"),
    # The addresses that are still to be erased.
    Index(
        "ix_refunds_instructions_email",
        "created_at",
        "refund_id",
        sqlite_where=text("instructions_email IS NOT NULL"),
        postgresql_where=text("instructions_email IS NOT NULL"),
    ),
    Index("ix_refunds_status", "status", "refund_id"),
    # The limits count an actor's requests by it, under that actor's lock.
    Index("ix_refunds_requested_by", "requested_by", "created_at"),
    Index("ix_refunds_client", "client", "status", "refund_id"),
    Index(
        "ix_refunds_failure",
        "failure_code",
        "refund_id",
        sqlite_where=text("failure_code IS NOT NULL"),
        postgresql_where=text("failure_code IS NOT NULL"),
    ),
    # All columns that the groups of failures need, so that the refunds themselves are not read.
    Index(
        "ix_refunds_troubled",
        "status",
        "refund_id",
        "failure_code",
        "updated_at",
        sqlite_where=TROUBLED,
        postgresql_where=TROUBLED,
    ),
)

legs = Table(
    "legs",
    metadata,
    Column("leg_id", Text, primary_key=True),
    Column("refund_id", Text, ForeignKey("refunds.refund_id"), nullable=False),
    Column("payment_id", Text, ForeignKey("payments.payment_id"), nullable=False, index=True),
    Column("processor", Text, nullable=False),
    Column("processor_payment_id", Text, nullable=False),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    _amount("credits"),
    _amount("payment_credits"),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    _count("sends"),
    _count("backoffs"),
    _count("blocked_count"),
    Column("first_sent_at", Double),
    Column("last_sent_at", Double),
    _flag("doubtful"),
    _flag("look_first"),
    Column("verdict", Text),
    Column("failure_code", Text),
    Column("failure_message", Text),
    Column("attention", Text),
    Column("processor_refund_id", Text),
    _flag("settled"),
    _amount("returned_credits", server_default="0"),
    Column("replaces", Text),
    Column("next_at", Double),
    Column("first_intent_at", Double),
    Column("looked_at", Double),
    _flag("held"),
    _ids("blocked_by"),
    _ids("seen_elsewhere"),
    _amount("unreturnable_minor", server_default="0"),
    _count("times_restored"),
    Column("manual_reference", Text),
    Column("canceling", Text),
    CheckConstraint("amount_minor >= 0 AND credits >= 0 AND payment_credits >= 0", name="amounts"),
    # With the columns that sums over many refunds need.
    Index("ix_legs_refund", "refund_id", "currency", "replaces", "amount_minor"),
    Index(
        "ix_legs_in_flight",
        "currency",
        "refund_id",
        "amount_minor",
        sqlite_where=IN_FLIGHT,
        postgresql_where=IN_FLIGHT,
    ),
    Index("ix_legs_connected", "processor", sqlite_where=AT_CONNECTED, postgresql_where=AT_CONNECTED),
)

attempts = Table(
    "attempts",
    metadata,
    Column("leg_id", Text, ForeignKey("legs.leg_id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    Column("body", Text, nullable=False),
    Column("sends", Integer, nullable=False),
    Column("first_sent_at", Double, nullable=False),
    Column("last_sent_at", Double, nullable=False),
    Column("outcome", Text),
    Column("outcome_code", Text),
    Column("outcome_message", Text),
    Column("request_id", Text),
    Column("answered_at", Double),
)

refund_objects = Table(
    "refund_objects",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("processor_refund_id", Text, primary_key=True),
    Column("leg_id", Text, ForeignKey("legs.leg_id"), nullable=False, index=True),
    Column("attempt", Integer),
    Column("state", Text),
    Column("status", Text),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    Column("failure_code", Text),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),  # `ObjectReport.moving_since`; the name stays
    # Where its money is, as last reported (`RefundDetails`). The address is stored masked.
    Column("pending_reason", Text),
    Column("method", Text),
    Column("statement", Text),
    Column("trace_kind", Text),
    Column("trace_value", Text),
    Column("trace_status", Text),
    Column("emailed_to", Text),
    Column("emailed_at", Double),
    Column("act_by", Double),
    Index(
        "ix_refund_objects_trace",
        "trace_value",
        sqlite_where=text("trace_value IS NOT NULL"),
        postgresql_where=text("trace_value IS NOT NULL"),
    ),
    # Reconciliation reads them by the time of their creation.
    Index("ix_refund_objects_created", "processor", "created_at", "processor_refund_id"),
)

events = Table(
    "events",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    # Null: about a payout or a payee, or about a processor's switch or a link between persons, which `detail` names.
    Column("refund_id", Text, ForeignKey("refunds.refund_id"), index=True),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("leg_id", Text),
    Column("from_status", Text),
    Column("to_status", Text),
    Column("reason", Text),
    Column("detail", Text, nullable=False, server_default="{}"),
    _flag("alarm"),
    _salt(),
)

inbox = Table(
    "inbox",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("event_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("received_at", Double, nullable=False),
    Column("taken_at", Double),
    Column("outcome", Text),
    _count("tries"),
    Index(
        "ix_inbox_waiting",
        "received_at",
        sqlite_where=text("taken_at IS NULL"),
        postgresql_where=text("taken_at IS NULL"),
    ),
    Index("ix_inbox_received_at", "received_at"),
)

processors = Table(
    "processors",
    metadata,
    Column("name", Text, primary_key=True),
    Column("paused_by", Text),
    Column("paused_at", Double),
    Column("paused_until", Double),  # without `paused_by`: the time when the last pause was ended
    Column("code", Text),
    Column("reason", Text),
    Column("alarmed_at", Double),  # time of the last alarm that the program paused it
    # The last listing of its refunds, which shows how old a restored backup is; and the creation time of the newest
    # unknown refund that a person was alerted of.
    Column("looked_at", Double),
    Column("told_until", Double),
    # The database server at the last listing (`installation.py`): a promoted standby may have lost the last commits.
    Column("listed_on", Text),
)

# How far the paid refunds of an account without a list were read again. One round begins each day. Times are epoch
# seconds; `after_created_at` and `after_id` are the last object that was read.
rereads = Table(
    "rereads",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("began_at", Double, nullable=False),
    Column("after_created_at", Double, nullable=False),
    Column("after_id", Text, nullable=False),
    Column("ended", Boolean, nullable=False),
)

# One row: the id of this installation. A backup keeps it; another database on the same account has another.
installation = Table(
    "installation",
    metadata,
    Column("row_number", Integer, primary_key=True, autoincrement=False),
    Column("installation_id", Text, nullable=False),
    # Refunds that others made before this time (epoch seconds) are not recorded without a person.
    _amount("outside_since", server_default="0"),
    CheckConstraint("row_number = 1", name="one_row"),
)

# One row for each keyed act that is no refund request (a correction, an action, a pause, a retry of many): a repeated
# act finds its result here.
keyed_acts = Table(
    "keyed_acts",
    metadata,
    Column("client", Text, primary_key=True),
    Column("idempotency_key", Text, primary_key=True),
    Column("body", Text, nullable=False),
    # The id of what the act made or changed, or its result as JSON.
    Column("result_id", Text, nullable=False, index=True),
    Column("created_at", Double, nullable=False),
)

# Keys of the HTTP API. Only a hash is stored, so that the database contains no usable key. The content of `signing_box`
# can be opened only with the key itself.
api_keys = Table(
    "api_keys",
    metadata,
    Column("key_id", Text, primary_key=True),
    Column("key_hash", Text, nullable=False, unique=True),
    Column("signing_box", Text),
    Column("name", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("role", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
    # The name identifies a person (an approver must not be the requester), so only one live key may have it.
    Index(
        "ix_api_keys_live",
        "client",
        "name",
        unique=True,
        sqlite_where=text("revoked_at IS NULL"),
        postgresql_where=text("revoked_at IS NULL"),
    ),
)

# Many requests in one call. `status` stays taking_in if the process that accepted them died. The same call, known by
# the hash of its body, then continues.
refund_batches = Table(
    "refund_batches",
    metadata,
    Column("batch_id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("actor", Text, nullable=False),
    Column("body_sha256", Text),
    Column("status", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index(
        "ix_refund_batches_unfinished",
        "client",
        "body_sha256",
        sqlite_where=text("status = 'taking_in'"),
        postgresql_where=text("status = 'taking_in'"),
    ),
)

refund_batch_rows = Table(
    "refund_batch_rows",
    metadata,
    Column("batch_id", Text, ForeignKey("refund_batches.batch_id"), primary_key=True),
    Column("row", Integer, primary_key=True),
    Column("refund_id", Text),
    _flag("replayed"),
    Column("code", Text),
    Column("message", Text),
)

# People who sign in to the console. Passwords are stored as Argon2 hashes, sessions by the hash of the cookie's secret.
console_users = Table(
    "console_users",
    metadata,
    Column("name", Text, primary_key=True),
    Column("role", Text, nullable=False),
    Column("password_hash", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("disabled_at", Double),
    # NULL until the first sign-in that a version with this column saw.
    Column("last_sign_in_at", Double),
)

# Other names of the person behind a console user, each as the trail names it as an actor.
person_links = Table(
    "person_links",
    metadata,
    Column("console_user", Text, primary_key=True),
    Column("identity", Text, primary_key=True),
    Column("linked_at", Double, nullable=False),
    Column("linked_by", Text, nullable=False),
)

console_sessions = Table(
    "console_sessions",
    metadata,
    Column("session_hash", Text, primary_key=True),
    Column("name", Text, ForeignKey("console_users.name"), nullable=False, index=True),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("confirmed_at", Double, nullable=False),
)

# Counts of wrong passwords, by user name and by address; a success deletes the count of the name.
console_tries = Table(
    "console_tries",
    metadata,
    Column("subject", Text, primary_key=True),
    Column("tries", Integer, nullable=False),
    Column("last_at", Double, nullable=False),
)

# Requests refused by an entry point that cannot answer (Celery). The sender is asked to repeat until the refund is
# visible, so the same refusal of the same key is one row with a count: a sender in a loop does not fill the disk.
refused_requests = Table(
    "refused_requests",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("door", Text, nullable=False),
    Column("client", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("code", Text, nullable=False),
    Column("message", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("first_at", Double, nullable=False),
    Column("at", Double, nullable=False),
    Column("times", Integer, nullable=False),
    UniqueConstraint("door", "client", "idempotency_key", "code"),
    Index("ix_refused_requests_at", "at"),
)

# Notifications to the admin backend, written with the change they report. `next_at` is null when no try follows.
outbox = Table(
    "outbox",
    metadata,
    Column("message_id", Text, primary_key=True),
    # A message is about a refund, a claim, an early fraud warning, a payout, an earning or a payout run.
    Column("refund_id", Text, ForeignKey("refunds.refund_id"), index=True),
    Column("claim_id", Text, ForeignKey("claims.claim_id")),
    Column("fraud_warning_id", Text, ForeignKey("fraud_warnings.fraud_warning_id")),
    Column("payout_id", Text, ForeignKey("payouts.payout_id"), index=True),
    Column("earning_id", Text, ForeignKey("earnings.earning_id")),
    Column("run_id", Text, ForeignKey("payout_runs.run_id")),
    Column("type", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    _count("tries"),
    Column("next_at", Double),
    Column("delivered_at", Double),
    Column("given_up_at", Double),
    Column("last_error", Text),
    Index(
        "ix_outbox_waiting",
        "next_at",
        sqlite_where=text("next_at IS NOT NULL"),
        postgresql_where=text("next_at IS NOT NULL"),
    ),
    Index(
        "ix_outbox_delivered",
        "delivered_at",
        sqlite_where=text("delivered_at IS NOT NULL"),
        postgresql_where=text("delivered_at IS NOT NULL"),
    ),
    Index(
        "ix_outbox_given_up",
        "given_up_at",
        sqlite_where=text("given_up_at IS NOT NULL"),
        postgresql_where=text("given_up_at IS NOT NULL"),
    ),
)

# The hash chain over the append-only tables; `digests` holds "seq:digest" of each row, so that the differing row can be
# named.
audit_seals = Table(
    "audit_seals",
    metadata,
    Column("seq", BigInteger, primary_key=True, autoincrement=False),
    Column("table_name", Text, nullable=False),
    Column("first_seq", BigInteger, nullable=False),
    Column("last_seq", BigInteger, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("digests", Text, nullable=False),
    Column("hash", Text, nullable=False),
    Column("sealed_at", Double, nullable=False),
    # Form of its digests: 1 includes the texts, 2 includes a salted hash of the texts.
    Column("form", Integer, nullable=False, server_default="1"),
    UniqueConstraint("table_name", "first_seq"),
    Index("ix_audit_seals_table", "table_name", "last_seq"),
)

# Checks of the chain and their actor: `verified` compares it with its rows, `anchored` stores it outside.
audit_checks = Table(
    "audit_checks",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("kind", Text, nullable=False),
    Column("actor", Text, nullable=False),
    _amount("first_seal"),
    _amount("last_seal"),
    _amount("rows"),
    Column("findings", Text, nullable=False, server_default="[]"),
)

# The covered columns of a changeable row after each change (`snapshots.py` defines them).
snapshots = Table(
    "snapshots",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("table_name", Text, nullable=False),
    Column("row_id", Text, nullable=False),
    Column("form", Integer, nullable=False),
    Column("state", Text, nullable=False),
    Index("ix_snapshots_row", "table_name", "row_id", "seq"),
)

# Sealed rows with overwritten texts. `was` is the digest in its seal, `texts_hash` the salted hash of the texts (null
# for a row whose seal has form 1), `becomes` the digest of the whole row afterwards.
erasures = Table(
    "erasures",
    metadata,
    Column("seq", SEQUENCE, primary_key=True, autoincrement=True),
    Column("at", Double, nullable=False),
    Column("actor", Text, nullable=False),
    Column("table_name", Text, nullable=False),
    Column("row_seq", BigInteger, nullable=False),
    Column("was", Text, nullable=False),
    Column("texts_hash", Text),
    Column("becomes", Text, nullable=False),
    Index("ix_erasures_row", "table_name", "row_seq"),
)

# Sums for the charts, by day or hour (`at`, its first second in UTC). They are counted from the timelines later, so
# that no writer waits for a counter. The row `events_counted` stores the last counted event.
tallies = Table(
    "tallies",
    metadata,
    Column("name", Text, primary_key=True),
    Column("at", BigInteger, primary_key=True, autoincrement=False),
    Column("label", Text, primary_key=True),
    _amount("value"),
)

# The number of requests repeated under their key, by customer: the customer's row is locked then anyway.
repeated_requests = Table(
    "repeated_requests",
    metadata,
    Column("day", BigInteger, primary_key=True, autoincrement=False),
    Column("customer_id", Text, ForeignKey("customers.customer_id"), primary_key=True),
    Column("times", Integer, nullable=False),
)

# The running workers and schedulers. Each renews its own row and deletes it when it stops in an orderly way.
worker_processes = Table(
    "worker_processes",
    metadata,
    Column("process_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    # Separated by commas; empty for a scheduler.
    Column("queues", Text, nullable=False, server_default=""),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", Text, nullable=False),
    # The state of the broker as a scheduler last found it. It is NULL for a worker: its reports end with the broker.
    Column("broker", Text),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
)

# The latest comparison with each processor's records.
last_reconciliations = Table(
    "last_reconciliations",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("at", Double, nullable=False),
    Column("compared", BigInteger, nullable=False),
    Column("differences", BigInteger, nullable=False),
)

# Comparisons of our books with a processor's, made in pieces; `progress` is the place that was reached (JSON).
reconciliations = Table(
    "reconciliations",
    metadata,
    Column("reconciliation_id", Text, primary_key=True),
    Column("processor", Text, nullable=False),
    Column("since", Double, nullable=False),
    # Null: without an end.
    Column("until", Double),
    Column("status", Text, nullable=False),
    Column("progress", Text, nullable=False),
    _count("found"),
    # Why the last piece could not be read, if it could not.
    Column("problem", Text),
    Column("actor", Text, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("lease_until", Double),
    Column("lease_token", Text),
    Index(
        "ix_reconciliations_unfinished",
        "created_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

# `ours` and `theirs` are JSON: minor units as integers, everything else as texts.
reconciliation_differences = Table(
    "reconciliation_differences",
    metadata,
    Column(
        "reconciliation_id", Text, ForeignKey("reconciliations.reconciliation_id"), primary_key=True, nullable=False
    ),
    Column("n", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("subject", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    Column("leg_id", Text),
    Column("refund_id", Text),
    Column("payment_id", Text),
    Column("customer_id", Text),
    Column("currency", Text),
    Column("ours", Text, nullable=False),
    Column("theirs", Text, nullable=False),
    Column("detail", Text, nullable=False, server_default=""),
    Column("state", Text, nullable=False),
    Column("found_at", Double, nullable=False),
    # The person's decision and its outcome.
    Column("decided_at", Double),
    Column("decided_by", Text),
    Column("reason", Text),
    Column("outcome", Text),
    UniqueConstraint("reconciliation_id", "kind", "subject", "object_id", name="uq_reconciliation_differences_subject"),
    Index("ix_reconciliation_differences_subject", "subject", "kind"),
)

# The last reading of each processor account's balance: the last try, the last success, and why the last try failed.
balance_readings = Table(
    "balance_readings",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("tried_at", Double, nullable=False),
    Column("read_at", Double),
    Column("problem", Text),
)

# The account's money by currency at the last reading. Both sums can be below zero. `rose_at`: the reading that last
# found more than the one before. `short_since`: since when our refunds and payouts need more than is available.
funds = Table(
    "funds",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("currency", Text, primary_key=True),
    Column("available_minor", BigInteger, nullable=False),
    Column("pending_minor", BigInteger, nullable=False),
    Column("rose_at", Double, nullable=False),
    Column("short_since", Double),
)

# Where the scheduler's check of the sums stands: one row. `position` is the last customer of the round under way, and
# `seen_…` the newest rows whose customers were checked at once.
sum_rounds = Table(
    "sum_rounds",
    metadata,
    Column("row_number", Integer, primary_key=True, autoincrement=False),
    Column("position", Text),
    Column("seen_transaction", BigInteger, nullable=False),
    Column("seen_event", BigInteger, nullable=False),
    Column("customers", BigInteger, nullable=False),
    Column("began_at", Double, nullable=False),
    # The last round over all customers that was finished.
    Column("round_began_at", Double),
    Column("round_ended_at", Double),
    Column("round_customers", BigInteger),
    # No other scheduler checks before this time.
    Column("next_at", Double, nullable=False),
    CheckConstraint("row_number = 1", name="one_row"),
)

# Rows for which a sum did not hold, and still does not while `ended_at` is null.
sum_violations = Table(
    "sum_violations",
    metadata,
    Column("sum", Text, primary_key=True),
    Column("subject", Text, primary_key=True),
    Column("unit", Text, primary_key=True),
    Column("customer_id", Text, nullable=False),
    Column("stored", BigInteger, nullable=False),
    Column("expected", BigInteger, nullable=False),
    Column("found_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("ended_at", Double),
    Index(
        "ix_sum_violations_open",
        "sum",
        "subject",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

# The counts of all processes for /metrics; `labels` is a JSON list, `part` a bucket or the sum of a histogram.
metric_values = Table(
    "metric_values",
    metadata,
    Column("name", Text, primary_key=True),
    Column("labels", Text, primary_key=True),
    Column("part", Text, primary_key=True),
    Column("value", Double, nullable=False),
    Column("changed_at", Double),  # epoch seconds of the database's clock
)

# Money of payments that others take: refunds made elsewhere, disputes, and closed payments (`domain/claims/claim.py`).
claims = Table(
    "claims",
    metadata,
    Column("claim_id", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("processor", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    # Null: no payment that we know.
    Column("payment_id", Text, ForeignKey("payments.payment_id"), index=True),
    Column("customer_id", Text, ForeignKey("customers.customer_id")),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    Column("object_status", Text),
    Column("phase", Text, nullable=False),
    Column("reason", Text),
    Column("due_by", Double),
    _amount("explained_minor", server_default="0"),
    _amount("earlier_minor", server_default="0"),
    _amount("returned_minor", server_default="0"),
    _amount("linked_minor", server_default="0"),
    _amount("credits", server_default="0"),
    _amount("held", server_default="0"),
    _amount("taken", server_default="0"),
    _amount("debt", server_default="0"),
    _amount("posted_minor", server_default="0"),
    Column("rule", Text),
    Column("decided_by", Text),
    _count("postings"),
    Column("refund_id", Text, ForeignKey("refunds.refund_id")),
    # The spend that a person linked a lost dispute to.
    Column("transaction_id", Text),
    _ids("alarmed_legs"),
    Column("object_created_at", Double, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("processor", "kind", "object_id"),
    CheckConstraint("credits >= 0 AND held >= 0 AND taken >= 0 AND debt >= 0", name="amounts"),
    CheckConstraint("held + taken <= credits AND debt <= taken", name="share"),
    Index("ix_claims_customer", "customer_id", "claim_id"),
    Index(
        "ix_claims_open_disputes",
        "due_by",
        sqlite_where=OPEN_DISPUTE,
        postgresql_where=OPEN_DISPUTE,
    ),
    Index(
        "ix_claims_outside_refunds",
        "processor",
        "object_created_at",
        "object_id",
        sqlite_where=LIVE_OUTSIDE_REFUND,
        postgresql_where=LIVE_OUTSIDE_REFUND,
    ),
    Index(
        "ix_claims_transaction_id",
        "transaction_id",
        sqlite_where=text("transaction_id IS NOT NULL"),
        postgresql_where=text("transaction_id IS NOT NULL"),
    ),
    Index("ix_claims_undecided", "kind", sqlite_where=UNDECIDED, postgresql_where=UNDECIDED),
)

# The processor's names for the payment of a claim that no payment is recorded for yet.
claim_refs = Table(
    "claim_refs",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("claim_id", Text, ForeignKey("claims.claim_id"), primary_key=True),
)

# Early fraud warnings of banks. They take nothing of a payment, so they are no claims.
fraud_warnings = Table(
    "fraud_warnings",
    metadata,
    Column("fraud_warning_id", Text, primary_key=True),
    Column("processor", Text, nullable=False),
    Column("object_id", Text, nullable=False),
    # Null: no payment that we know.
    Column("payment_id", Text, ForeignKey("payments.payment_id"), index=True),
    Column("fraud_type", Text),
    Column("actionable", Boolean),
    Column("object_created_at", Double, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    UniqueConstraint("processor", "object_id"),
    Index(
        "ix_fraud_warnings_to_answer",
        "processor",
        "object_created_at",
        sqlite_where=MAY_BE_ANSWERED,
        postgresql_where=MAY_BE_ANSWERED,
    ),
)

# The processor's names for the payment of a warning, for the case that the payment is recorded later.
fraud_warning_refs = Table(
    "fraud_warning_refs",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("ref", Text, primary_key=True),
    Column("fraud_warning_id", Text, ForeignKey("fraud_warnings.fraud_warning_id"), primary_key=True),
)

# The people who are paid out. The destination is sealed with the key of the setting, if there is one; `destination_id`
# changes with it, so that a payout keeps the one for which it was accepted.
payees = Table(
    "payees",
    metadata,
    Column("payee_id", Text, primary_key=True),
    Column("customer_id", Text, ForeignKey("customers.customer_id"), index=True),
    Column("processor", Text, nullable=False),
    Column("currency", Text, nullable=False),
    Column("country", Text),
    Column("method", Text, nullable=False),
    Column("destination_id", Text, nullable=False, unique=True),
    Column("destination_kind", Text, nullable=False),
    Column("destination_box", Text, nullable=False),
    Column("destination_masked", Text, nullable=False),
    # A keyed hash of the destination: a repeated request is known by it, and an event by the processor's id.
    Column("destination_hash", Text, nullable=False),
    Column("destination_ref", Text),
    Column("destination_changed_at", Double, nullable=False),
    # Why a payout to this destination failed for a fault of the payee; null after the next change.
    Column("destination_failure", Text),
    # The processor's last verdict on the destination.
    Column("verdict", Text),
    Column("verdict_reason", Text),
    _ids("verdict_needs"),
    Column("verdict_act_by", Double),
    Column("verdict_read_at", Double),
    Column("refresh_at", Double),
    Column("paused_by", Text),
    Column("paused_at", Double),
    Column("pause_reason", Text),
    # A payout whose transfer could not be undone: a person decides before anything else is sent.
    Column("blocked_by", Text),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Index("ix_payees_destination", "processor", "destination_ref"),
    Index("ix_payees_account", "processor", "currency", "payee_id"),
    Index(
        "ix_payees_refresh",
        "refresh_at",
        sqlite_where=text("refresh_at IS NOT NULL"),
        postgresql_where=text("refresh_at IS NOT NULL"),
    ),
)

# The sums of a payee in one currency, in minor units. The balance is what was earned less the other three.
payee_balances = Table(
    "payee_balances",
    metadata,
    Column("payee_id", Text, ForeignKey("payees.payee_id"), primary_key=True),
    Column("currency", Text, primary_key=True),
    _amount("earned_minor", server_default="0"),
    _amount("clawed_back_minor", server_default="0"),
    _amount("in_flight_minor", server_default="0"),
    _amount("paid_minor", server_default="0"),
    Column("last_payout_at", Double),
    CheckConstraint(
        "earned_minor >= 0 AND clawed_back_minor >= 0 AND in_flight_minor >= 0 AND paid_minor >= 0", name="sums"
    ),
    CheckConstraint("clawed_back_minor <= earned_minor", name="clawed_back"),
)

# The ledger transactions of payees: which payee, and the signed effect on the balance in minor units.
payee_entries = Table(
    "payee_entries",
    metadata,
    Column("transaction_id", Text, ForeignKey("ledger_transactions.transaction_id"), primary_key=True),
    Column("payee_id", Text, ForeignKey("payees.payee_id"), nullable=False),
    Column("currency", Text, nullable=False),
    _amount("amount_minor"),
    Column("occurred_at", Double, nullable=False),
    Index("ix_payee_entries_payee", "payee_id", "currency", "occurred_at"),
)

# The events of the timeline that are about a payout or a payee; the event's own detail names it too, and is sealed.
event_subjects = Table(
    "event_subjects",
    metadata,
    Column("seq", BigInteger, ForeignKey("events.seq"), primary_key=True, autoincrement=False),
    Column("subject_id", Text, nullable=False),
    Index("ix_event_subjects_subject", "subject_id", "seq"),
)

earnings = Table(
    "earnings",
    metadata,
    Column("earning_id", Text, primary_key=True),
    Column("payee_id", Text, ForeignKey("payees.payee_id"), nullable=False),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    # The spend that it came from.
    Column("transaction_id", Text),
    Column("description", Text, nullable=False),
    Column("available_at", Double, nullable=False),
    # As the caller asked; null if the setting decided.
    Column("asked_available_at", Double),
    _amount("clawed_back_minor", server_default="0"),
    _count("clawbacks"),
    Column("created_at", Double, nullable=False),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("clawed_back_minor >= 0 AND clawed_back_minor <= amount_minor", name="clawed_back"),
    Index("ix_earnings_payee", "payee_id", "currency", "available_at"),
    Index(
        "ix_earnings_transaction",
        "transaction_id",
        sqlite_where=text("transaction_id IS NOT NULL"),
        postgresql_where=text("transaction_id IS NOT NULL"),
    ),
)

OPEN_PAYOUT = text(
    "status IN ('queued', 'awaiting_approval', 'held', 'sending', 'pending', 'recipient_action', "
    "'returning', 'needs_attention')"
)

payouts = Table(
    "payouts",
    metadata,
    Column("payout_id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("idempotency_key", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("payee_id", Text, ForeignKey("payees.payee_id"), nullable=False),
    Column("processor", Text, nullable=False),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    Column("description", Text, nullable=False),
    # `earnings`, or `withdrawal` for the credits of a refund's leg.
    Column("source", Text, nullable=False),
    Column("refund_id", Text, ForeignKey("refunds.refund_id"), index=True),
    Column("refund_leg_id", Text),
    Column("run_id", Text, ForeignKey("payout_runs.run_id"), index=True),
    Column("method", Text, nullable=False),
    Column("country", Text),
    Column("destination_id", Text, nullable=False),
    Column("destination_box", Text, nullable=False),
    Column("destination_masked", Text, nullable=False),
    Column("connected_account", Text),
    Column("status", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("requested_by", Text, nullable=False),
    Column("requested_by_note", Text),
    _flag("ledger_posted"),
    _flag("given_back"),
    # How often its money went back to the balance: an object that was reported failed can pay after all.
    _count("return_count"),
    _count("times_paid"),
    Column("paid_at", Double),
    Column("settles_at", Double),
    Column("hold_code", Text),
    Column("hold_until", Double),
    Column("failure_code", Text),
    Column("failure_message", Text),
    Column("fault", Text),
    Column("act_by", Double),
    _amount("lost_minor", server_default="0"),
    _count("priority"),
    Column("due_at", Double),
    Column("lease_until", Double),
    Column("lease_token", Text),
    UniqueConstraint("idempotency_key", "client"),
    CheckConstraint("amount_minor > 0", name="amount"),
    CheckConstraint("lost_minor >= 0 AND lost_minor <= amount_minor", name="lost"),
    Index(
        "ix_payouts_due",
        "priority",
        "due_at",
        sqlite_where=text("due_at IS NOT NULL"),
        postgresql_where=text("due_at IS NOT NULL"),
    ),
    Index("ix_payouts_payee", "payee_id", "payout_id"),
    Index("ix_payouts_open", "payee_id", "currency", sqlite_where=OPEN_PAYOUT, postgresql_where=OPEN_PAYOUT),
    Index("ix_payouts_status", "status", "payout_id"),
    Index("ix_payouts_client", "client", "status", "payout_id"),
    Index("ix_payouts_requested_by", "requested_by", "created_at"),
)

payout_legs = Table(
    "payout_legs",
    metadata,
    Column("leg_id", Text, primary_key=True),
    Column("payout_id", Text, ForeignKey("payouts.payout_id"), nullable=False, index=True),
    Column("number", Integer, nullable=False),
    Column("step", Text, nullable=False),
    Column("processor", Text, nullable=False),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    Column("status", Text, nullable=False),
    Column("attempt", Integer, nullable=False),
    _count("sends"),
    _count("retry_count"),
    _count("blocked_count"),
    Column("first_sent_at", Double),
    Column("last_sent_at", Double),
    _flag("unanswered"),
    _flag("lookup_required"),
    Column("refusal", Text),
    Column("failure_code", Text),
    Column("failure_message", Text),
    Column("fault", Text),
    Column("attention_code", Text),
    Column("object_id", Text),
    Column("manual_reference", Text),
    Column("next_at", Double),
    Column("listed_at", Double),
    _flag("held"),
    _flag("canceling"),
    Column("undoes", Text),
    Column("file_id", Text, ForeignKey("bank_files.file_id"), index=True),
    CheckConstraint("amount_minor > 0", name="amount"),
)

payout_attempts = Table(
    "payout_attempts",
    metadata,
    Column("leg_id", Text, ForeignKey("payout_legs.leg_id"), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("key", Text, nullable=False, unique=True),
    # The frozen request, sealed as the destination is.
    Column("body", Text, nullable=False),
    Column("sends", Integer, nullable=False),
    Column("first_sent_at", Double, nullable=False),
    Column("last_sent_at", Double, nullable=False),
    Column("outcome", Text),
    Column("outcome_code", Text),
    Column("outcome_message", Text),
    Column("request_id", Text),
    Column("answered_at", Double),
)

transfer_objects = Table(
    "transfer_objects",
    metadata,
    Column("processor", Text, primary_key=True),
    Column("object_id", Text, primary_key=True),
    Column("leg_id", Text, ForeignKey("payout_legs.leg_id"), nullable=False, index=True),
    Column("attempt", Integer),
    Column("state", Text),
    Column("status", Text),
    _amount("amount_minor"),
    Column("currency", Text, nullable=False),
    Column("failure_code", Text),
    Column("fault", Text),
    _ids("refs"),
    Column("act_by", Double),
    Column("arrives_at", Double),
    Column("returned_minor", BigInteger),
    Column("fee_minor", BigInteger),
    Column("trace", Text),
    Column("created_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Index("ix_transfer_objects_created", "processor", "created_at", "object_id"),
)

# One round of payouts to many payees. `progress` is the payee that it reached.
payout_runs = Table(
    "payout_runs",
    metadata,
    Column("run_id", Text, primary_key=True),
    Column("client", Text, nullable=False),
    Column("idempotency_key", Text),
    Column("processor", Text, nullable=False),
    Column("currency", Text, nullable=False),
    _amount("minimum_minor"),
    _flag("dry_run"),
    Column("status", Text, nullable=False),
    Column("progress", Text, nullable=False, server_default=""),
    _count("planned_payees"),
    _amount("planned_minor", server_default="0"),
    _count("paid_payees"),
    _amount("paid_minor", server_default="0"),
    _count("skipped_payees"),
    Column("available_minor", BigInteger),
    # Why a person must approve it, separated by commas.
    Column("approval_codes", Text, nullable=False, server_default=""),
    # The first day of the schedule's period that it is for, such as 2026-11-01: each is made once.
    Column("period", Text),
    Column("actor", Text, nullable=False),
    Column("approved_by", Text),
    Column("reason", Text),
    Column("created_at", Double, nullable=False),
    Column("updated_at", Double, nullable=False),
    Column("ended_at", Double),
    Column("version", Integer, nullable=False),
    UniqueConstraint("idempotency_key", "client"),
    UniqueConstraint("processor", "currency", "period"),
    Index(
        "ix_payout_runs_unfinished",
        "created_at",
        sqlite_where=text("ended_at IS NULL"),
        postgresql_where=text("ended_at IS NULL"),
    ),
)

payout_run_rows = Table(
    "payout_run_rows",
    metadata,
    Column("run_id", Text, ForeignKey("payout_runs.run_id"), primary_key=True),
    Column("payee_id", Text, ForeignKey("payees.payee_id"), primary_key=True),
    _amount("amount_minor"),
    # The part that is payable too and stays in the balance.
    _amount("carried_minor", server_default="0"),
    # Why the payee is skipped or gets less, or null.
    Column("code", Text),
    Column("payout_id", Text),
    # 0 for a payee who is skipped, null while it is open.
    Column("paid_minor", BigInteger),
)

# Files for a bank's portal: made once, with the same bytes for ever, sealed as destinations are.
bank_files = Table(
    "bank_files",
    metadata,
    Column("file_id", Text, primary_key=True),
    Column("processor", Text, nullable=False),
    Column("format", Text, nullable=False),
    Column("body", Text, nullable=False),
    Column("currency", Text, nullable=False),
    _count("payments"),
    _amount("amount_minor"),
    Column("actor", Text, nullable=False),
    Column("created_at", Double, nullable=False),
)

# Tables whose rows never change. The database itself refuses: triggers on SQLite, rights and triggers on Postgres.
APPEND_ONLY = (ledger_transactions, ledger_entries, events, audit_seals, audit_checks, snapshots, erasures)

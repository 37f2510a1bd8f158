"""Keep payees, their earnings and payouts; let ledger entries, events and notifications be about them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"
branch_labels = None
depends_on = None
makes = (
    "bank_files",
    "pk_bank_files",
    "payout_runs",
    "pk_payout_runs",
    "uq_payout_runs_idempotency_key_client",
    "uq_payout_runs_processor_currency_period",
    "ix_payout_runs_unfinished",
    "payees",
    "pk_payees",
    "uq_payees_destination_id",
    "ix_payees_account",
    "ix_payees_customer_id",
    "ix_payees_destination",
    "ix_payees_refresh",
    "earnings",
    "pk_earnings",
    "ix_earnings_payee",
    "ix_earnings_transaction",
    "payee_balances",
    "pk_payee_balances",
    "payee_entries",
    "pk_payee_entries",
    "ix_payee_entries_payee",
    "payout_run_rows",
    "pk_payout_run_rows",
    "payouts",
    "pk_payouts",
    "uq_payouts_idempotency_key_client",
    "ix_payouts_client",
    "ix_payouts_due",
    "ix_payouts_open",
    "ix_payouts_payee",
    "ix_payouts_refund_id",
    "ix_payouts_requested_by",
    "ix_payouts_run_id",
    "ix_payouts_status",
    "event_subjects",
    "pk_event_subjects",
    "ix_event_subjects_subject",
    "payout_legs",
    "pk_payout_legs",
    "ix_payout_legs_file_id",
    "ix_payout_legs_payout_id",
    "payout_attempts",
    "pk_payout_attempts",
    "uq_payout_attempts_key",
    "transfer_objects",
    "pk_transfer_objects",
    "ix_transfer_objects_created",
    "ix_transfer_objects_leg_id",
    "ix_outbox_payout_id",
    "ix_claims_transaction_id",
)
NEW = (
    "bank_files",
    "payout_runs",
    "payees",
    "earnings",
    "payee_balances",
    "payee_entries",
    "payout_run_rows",
    "payouts",
    "event_subjects",
    "payout_legs",
    "payout_attempts",
    "transfer_objects",
)
OPEN = sa.text(
    "status IN ('queued', 'awaiting_approval', 'held', 'sending', 'pending', 'recipient_action', 'returning', "
    "'needs_attention')"
)
STRICT, LOOSE = "customer_id TEXT NOT NULL", "customer_id TEXT"


def upgrade() -> None:
    for table in NEW:
        _MAKE[table]()
    with op.batch_alter_table("outbox") as batch:
        for column, other in (("payout_id", "payouts"), ("earning_id", "earnings")):
            batch.add_column(sa.Column(column, sa.Text(), nullable=True))
            batch.create_foreign_key(op.f(f"fk_outbox_{column}"), other, [column], [column])
    op.create_index(op.f("ix_outbox_payout_id"), "outbox", ["payout_id"])
    op.add_column("refunds", sa.Column("payee_id", sa.Text(), nullable=True))
    op.add_column("claims", sa.Column("transaction_id", sa.Text(), nullable=True))
    linked = sa.text("transaction_id IS NOT NULL")
    op.create_index(
        "ix_claims_transaction_id", "claims", ["transaction_id"], sqlite_where=linked, postgresql_where=linked
    )
    _let_customer_be_null(True)


def downgrade() -> None:
    op.execute("DELETE FROM outbox WHERE payout_id IS NOT NULL OR earning_id IS NOT NULL")
    op.drop_column("refunds", "payee_id")
    op.drop_index("ix_claims_transaction_id", "claims")
    op.drop_column("claims", "transaction_id")
    op.drop_index("ix_outbox_payout_id", "outbox")
    with op.batch_alter_table("outbox") as batch:
        for column in ("payout_id", "earning_id"):
            batch.drop_constraint(op.f(f"fk_outbox_{column}"), type_="foreignkey")
            batch.drop_column(column)
    for table in reversed(NEW):
        op.drop_table(table)
    _let_customer_be_null(False)


def _let_customer_be_null(allowed: bool) -> None:
    """Drop or restore the NOT NULL of the ledger's customer, without copying the ledger.

    SQLite has no statement for it. Its manual describes this change of the stored definition for constraints that do
    not change the form of a row; the new version lets other connections read the definition again.
    """
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        op.alter_column("ledger_transactions", "customer_id", existing_type=sa.Text(), nullable=allowed)
        return
    old, new = (STRICT, LOOSE) if allowed else (LOOSE, STRICT)
    change = sa.text(
        "UPDATE sqlite_master SET sql = replace(sql, :old, :new) WHERE type = 'table' AND name = 'ledger_transactions'"
    )
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    connection.execute(change, {"old": old, "new": new})
    connection.exec_driver_sql("PRAGMA writable_schema = RESET")
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")


def _bank_files() -> None:
    op.create_table(
        "bank_files",
        sa.Column("file_id", sa.Text(), nullable=False),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("format", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("payments", sa.Integer(), server_default="0", nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("file_id", name=op.f("pk_bank_files")),
    )


def _payout_runs() -> None:
    op.create_table(
        "payout_runs",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=True),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("minimum_minor", sa.BigInteger(), nullable=False),
        sa.Column("dry_run", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("progress", sa.Text(), server_default="", nullable=False),
        sa.Column("planned_payees", sa.Integer(), server_default="0", nullable=False),
        sa.Column("planned_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paid_payees", sa.Integer(), server_default="0", nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("skipped_payees", sa.Integer(), server_default="0", nullable=False),
        sa.Column("available_minor", sa.BigInteger(), nullable=True),
        sa.Column("approval_codes", sa.Text(), server_default="", nullable=False),
        sa.Column("period", sa.Text(), nullable=True),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("ended_at", sa.Double(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("run_id", name=op.f("pk_payout_runs")),
        sa.UniqueConstraint("idempotency_key", "client", name=op.f("uq_payout_runs_idempotency_key_client")),
        sa.UniqueConstraint("processor", "currency", "period", name=op.f("uq_payout_runs_processor_currency_period")),
    )
    op.create_index(
        "ix_payout_runs_unfinished",
        "payout_runs",
        ["created_at"],
        sqlite_where=sa.text("ended_at IS NULL"),
        postgresql_where=sa.text("ended_at IS NULL"),
    )


def _payees() -> None:
    op.create_table(
        "payees",
        sa.Column("payee_id", sa.Text(), nullable=False),
        sa.Column("customer_id", sa.Text(), nullable=True),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("destination_id", sa.Text(), nullable=False),
        sa.Column("destination_kind", sa.Text(), nullable=False),
        sa.Column("destination_box", sa.Text(), nullable=False),
        sa.Column("destination_masked", sa.Text(), nullable=False),
        sa.Column("destination_hash", sa.Text(), nullable=False),
        sa.Column("destination_ref", sa.Text(), nullable=True),
        sa.Column("destination_changed_at", sa.Double(), nullable=False),
        sa.Column("destination_failure", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("verdict_reason", sa.Text(), nullable=True),
        sa.Column("verdict_needs", sa.Text(), server_default="[]", nullable=False),
        sa.Column("verdict_act_by", sa.Double(), nullable=True),
        sa.Column("verdict_read_at", sa.Double(), nullable=True),
        sa.Column("refresh_at", sa.Double(), nullable=True),
        sa.Column("paused_by", sa.Text(), nullable=True),
        sa.Column("paused_at", sa.Double(), nullable=True),
        sa.Column("pause_reason", sa.Text(), nullable=True),
        sa.Column("blocked_by", sa.Text(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["customer_id"], ["customers.customer_id"], name=op.f("fk_payees_customer_id")),
        sa.PrimaryKeyConstraint("payee_id", name=op.f("pk_payees")),
        sa.UniqueConstraint("destination_id", name=op.f("uq_payees_destination_id")),
    )
    op.create_index("ix_payees_account", "payees", ["processor", "currency", "payee_id"])
    op.create_index(op.f("ix_payees_customer_id"), "payees", ["customer_id"])
    op.create_index("ix_payees_destination", "payees", ["processor", "destination_ref"])
    op.create_index(
        "ix_payees_refresh",
        "payees",
        ["refresh_at"],
        sqlite_where=sa.text("refresh_at IS NOT NULL"),
        postgresql_where=sa.text("refresh_at IS NOT NULL"),
    )


def _earnings() -> None:
    op.create_table(
        "earnings",
        sa.Column("earning_id", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("transaction_id", sa.Text(), nullable=True),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("available_at", sa.Double(), nullable=False),
        sa.Column("asked_available_at", sa.Double(), nullable=True),
        sa.Column("clawed_back_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("clawbacks", sa.Integer(), server_default="0", nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_earnings_amount")),
        sa.CheckConstraint(
            "clawed_back_minor >= 0 AND clawed_back_minor <= amount_minor", name=op.f("ck_earnings_clawed_back")
        ),
        sa.ForeignKeyConstraint(["payee_id"], ["payees.payee_id"], name=op.f("fk_earnings_payee_id")),
        sa.PrimaryKeyConstraint("earning_id", name=op.f("pk_earnings")),
    )
    op.create_index("ix_earnings_payee", "earnings", ["payee_id", "currency", "available_at"])
    op.create_index(
        "ix_earnings_transaction",
        "earnings",
        ["transaction_id"],
        sqlite_where=sa.text("transaction_id IS NOT NULL"),
        postgresql_where=sa.text("transaction_id IS NOT NULL"),
    )


def _payee_balances() -> None:
    op.create_table(
        "payee_balances",
        sa.Column("payee_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("earned_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("clawed_back_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("in_flight_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("paid_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("last_payout_at", sa.Double(), nullable=True),
        sa.CheckConstraint("clawed_back_minor <= earned_minor", name=op.f("ck_payee_balances_clawed_back")),
        sa.CheckConstraint(
            "earned_minor >= 0 AND clawed_back_minor >= 0 AND in_flight_minor >= 0 AND paid_minor >= 0",
            name=op.f("ck_payee_balances_sums"),
        ),
        sa.ForeignKeyConstraint(["payee_id"], ["payees.payee_id"], name=op.f("fk_payee_balances_payee_id")),
        sa.PrimaryKeyConstraint("payee_id", "currency", name=op.f("pk_payee_balances")),
    )


def _payee_entries() -> None:
    op.create_table(
        "payee_entries",
        sa.Column("transaction_id", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Text(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("occurred_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["payee_id"], ["payees.payee_id"], name=op.f("fk_payee_entries_payee_id")),
        sa.ForeignKeyConstraint(
            ["transaction_id"], ["ledger_transactions.transaction_id"], name=op.f("fk_payee_entries_transaction_id")
        ),
        sa.PrimaryKeyConstraint("transaction_id", name=op.f("pk_payee_entries")),
    )
    op.create_index("ix_payee_entries_payee", "payee_entries", ["payee_id", "currency", "occurred_at"])


def _payout_run_rows() -> None:
    op.create_table(
        "payout_run_rows",
        sa.Column("run_id", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("carried_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("code", sa.Text(), nullable=True),
        sa.Column("payout_id", sa.Text(), nullable=True),
        sa.Column("paid_minor", sa.BigInteger(), nullable=True),
        sa.ForeignKeyConstraint(["payee_id"], ["payees.payee_id"], name=op.f("fk_payout_run_rows_payee_id")),
        sa.ForeignKeyConstraint(["run_id"], ["payout_runs.run_id"], name=op.f("fk_payout_run_rows_run_id")),
        sa.PrimaryKeyConstraint("run_id", "payee_id", name=op.f("pk_payout_run_rows")),
    )


def _payouts() -> None:
    op.create_table(
        "payouts",
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("client", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("payee_id", sa.Text(), nullable=False),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("description", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("refund_id", sa.Text(), nullable=True),
        sa.Column("refund_leg_id", sa.Text(), nullable=True),
        sa.Column("run_id", sa.Text(), nullable=True),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("country", sa.Text(), nullable=True),
        sa.Column("destination_id", sa.Text(), nullable=False),
        sa.Column("destination_box", sa.Text(), nullable=False),
        sa.Column("destination_masked", sa.Text(), nullable=False),
        sa.Column("connected_account", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("version", sa.Integer(), nullable=False),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.Column("requested_by", sa.Text(), nullable=False),
        sa.Column("requested_by_note", sa.Text(), nullable=True),
        sa.Column("ledger_posted", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("given_back", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("return_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("times_paid", sa.Integer(), server_default="0", nullable=False),
        *(sa.Column(name, sa.Double(), nullable=True) for name in ("paid_at", "settles_at")),
        sa.Column("hold_code", sa.Text(), nullable=True),
        sa.Column("hold_until", sa.Double(), nullable=True),
        *(sa.Column(name, sa.Text(), nullable=True) for name in ("failure_code", "failure_message", "fault")),
        sa.Column("act_by", sa.Double(), nullable=True),
        sa.Column("lost_minor", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("priority", sa.Integer(), server_default="0", nullable=False),
        sa.Column("due_at", sa.Double(), nullable=True),
        sa.Column("lease_until", sa.Double(), nullable=True),
        sa.Column("lease_token", sa.Text(), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payouts_amount")),
        sa.CheckConstraint("lost_minor >= 0 AND lost_minor <= amount_minor", name=op.f("ck_payouts_lost")),
        sa.ForeignKeyConstraint(["payee_id"], ["payees.payee_id"], name=op.f("fk_payouts_payee_id")),
        sa.ForeignKeyConstraint(["refund_id"], ["refunds.refund_id"], name=op.f("fk_payouts_refund_id")),
        sa.ForeignKeyConstraint(["run_id"], ["payout_runs.run_id"], name=op.f("fk_payouts_run_id")),
        sa.PrimaryKeyConstraint("payout_id", name=op.f("pk_payouts")),
        sa.UniqueConstraint("idempotency_key", "client", name=op.f("uq_payouts_idempotency_key_client")),
    )
    _index_payouts()


def _index_payouts() -> None:
    op.create_index("ix_payouts_client", "payouts", ["client", "status", "payout_id"])
    op.create_index(
        "ix_payouts_due",
        "payouts",
        ["priority", "due_at"],
        sqlite_where=sa.text("due_at IS NOT NULL"),
        postgresql_where=sa.text("due_at IS NOT NULL"),
    )
    op.create_index("ix_payouts_open", "payouts", ["payee_id", "currency"], sqlite_where=OPEN, postgresql_where=OPEN)
    op.create_index("ix_payouts_payee", "payouts", ["payee_id", "payout_id"])
    op.create_index(op.f("ix_payouts_refund_id"), "payouts", ["refund_id"])
    op.create_index("ix_payouts_requested_by", "payouts", ["requested_by", "created_at"])
    op.create_index(op.f("ix_payouts_run_id"), "payouts", ["run_id"])
    op.create_index("ix_payouts_status", "payouts", ["status", "payout_id"])


def _event_subjects() -> None:
    op.create_table(
        "event_subjects",
        sa.Column("seq", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("subject_id", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["seq"], ["events.seq"], name=op.f("fk_event_subjects_seq")),
        sa.PrimaryKeyConstraint("seq", name=op.f("pk_event_subjects")),
    )
    op.create_index("ix_event_subjects_subject", "event_subjects", ["subject_id", "seq"])


def _payout_legs() -> None:
    op.create_table(
        "payout_legs",
        sa.Column("leg_id", sa.Text(), nullable=False),
        sa.Column("payout_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("step", sa.Text(), nullable=False),
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("sends", sa.Integer(), server_default="0", nullable=False),
        sa.Column("retry_count", sa.Integer(), server_default="0", nullable=False),
        sa.Column("first_sent_at", sa.Double(), nullable=True),
        sa.Column("last_sent_at", sa.Double(), nullable=True),
        sa.Column("unanswered", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("lookup_required", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("refusal", sa.Text(), nullable=True),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("failure_message", sa.Text(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("attention_code", sa.Text(), nullable=True),
        sa.Column("object_id", sa.Text(), nullable=True),
        sa.Column("manual_reference", sa.Text(), nullable=True),
        sa.Column("next_at", sa.Double(), nullable=True),
        sa.Column("listed_at", sa.Double(), nullable=True),
        sa.Column("held", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("canceling", sa.Boolean(), server_default=sa.text("false"), nullable=False),
        sa.Column("undoes", sa.Text(), nullable=True),
        sa.Column("file_id", sa.Text(), nullable=True),
        sa.CheckConstraint("amount_minor > 0", name=op.f("ck_payout_legs_amount")),
        sa.ForeignKeyConstraint(["file_id"], ["bank_files.file_id"], name=op.f("fk_payout_legs_file_id")),
        sa.ForeignKeyConstraint(["payout_id"], ["payouts.payout_id"], name=op.f("fk_payout_legs_payout_id")),
        sa.PrimaryKeyConstraint("leg_id", name=op.f("pk_payout_legs")),
    )
    op.create_index(op.f("ix_payout_legs_file_id"), "payout_legs", ["file_id"])
    op.create_index(op.f("ix_payout_legs_payout_id"), "payout_legs", ["payout_id"])


def _payout_attempts() -> None:
    op.create_table(
        "payout_attempts",
        sa.Column("leg_id", sa.Text(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("body", sa.Text(), nullable=False),
        sa.Column("sends", sa.Integer(), nullable=False),
        sa.Column("first_sent_at", sa.Double(), nullable=False),
        sa.Column("last_sent_at", sa.Double(), nullable=False),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.Column("outcome_code", sa.Text(), nullable=True),
        sa.Column("outcome_message", sa.Text(), nullable=True),
        sa.Column("request_id", sa.Text(), nullable=True),
        sa.Column("answered_at", sa.Double(), nullable=True),
        sa.ForeignKeyConstraint(["leg_id"], ["payout_legs.leg_id"], name=op.f("fk_payout_attempts_leg_id")),
        sa.PrimaryKeyConstraint("leg_id", "number", name=op.f("pk_payout_attempts")),
        sa.UniqueConstraint("key", name=op.f("uq_payout_attempts_key")),
    )


def _transfer_objects() -> None:
    op.create_table(
        "transfer_objects",
        sa.Column("processor", sa.Text(), nullable=False),
        sa.Column("object_id", sa.Text(), nullable=False),
        sa.Column("leg_id", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=True),
        sa.Column("state", sa.Text(), nullable=True),
        sa.Column("status", sa.Text(), nullable=True),
        sa.Column("amount_minor", sa.BigInteger(), nullable=False),
        sa.Column("currency", sa.Text(), nullable=False),
        sa.Column("failure_code", sa.Text(), nullable=True),
        sa.Column("fault", sa.Text(), nullable=True),
        sa.Column("refs", sa.Text(), server_default="[]", nullable=False),
        sa.Column("act_by", sa.Double(), nullable=True),
        sa.Column("arrives_at", sa.Double(), nullable=True),
        sa.Column("returned_minor", sa.BigInteger(), nullable=True),
        sa.Column("fee_minor", sa.BigInteger(), nullable=True),
        sa.Column("trace", sa.Text(), nullable=True),
        sa.Column("created_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.ForeignKeyConstraint(["leg_id"], ["payout_legs.leg_id"], name=op.f("fk_transfer_objects_leg_id")),
        sa.PrimaryKeyConstraint("processor", "object_id", name=op.f("pk_transfer_objects")),
    )
    op.create_index("ix_transfer_objects_created", "transfer_objects", ["processor", "created_at", "object_id"])
    op.create_index(op.f("ix_transfer_objects_leg_id"), "transfer_objects", ["leg_id"])


_MAKE = {
    "bank_files": _bank_files,
    "payout_runs": _payout_runs,
    "payees": _payees,
    "earnings": _earnings,
    "payee_balances": _payee_balances,
    "payee_entries": _payee_entries,
    "payout_run_rows": _payout_run_rows,
    "payouts": _payouts,
    "event_subjects": _event_subjects,
    "payout_legs": _payout_legs,
    "payout_attempts": _payout_attempts,
    "transfer_objects": _transfer_objects,
}

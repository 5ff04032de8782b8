"""Counted attempts of texts, keys and threads as they were, when words went, lists of an owner."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0015"
down_revision: str | None = "0014"
branch_labels: str | None = None
depends_on: str | None = None


_WITH_WORDS = (
    (
        "events",
        ["accepted_at", "event_id"],
        "jsonb_exists_any(body, ARRAY['text','comment','title'])",
    ),
    ("received_mails", ["received_at", "id"], "raw IS NULL AND words_deleted_at IS NULL"),
    ("received_texts", ["received_at", "id"], "words_deleted_at IS NULL"),
    ("staff_texts", ["recorded_at", "id"], "words_deleted_at IS NULL"),
)


def upgrade() -> None:
    for column in (
        sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False),
        sa.Column(
            "not_before", sa.DateTime(timezone=True), server_default=sa.func.now(), nullable=False
        ),
        sa.Column("because", sa.Text(), nullable=True),
    ):
        op.add_column("received_texts", column)
    for table in ("events", "received_mails", "received_texts", "staff_texts"):
        column = sa.Column("words_deleted_at", sa.DateTime(timezone=True), nullable=True)
        op.add_column(table, column)
    for table, columns, which in _WITH_WORDS:
        op.create_index(
            f"ix_{table}_with_words",
            *(table, columns),
            postgresql_where=sa.text(which),
            if_not_exists=True,  # that of events can be built before, without a lock
        )
    for table, order in (("tasks", "due_at"), ("cases", "opened_at")):
        op.create_index(
            f"ix_{table}_owner",
            table,
            ["owner", order, "id"],
            postgresql_where=sa.text("owner IS NOT NULL"),
        )
    # The soft bounces of an address are found by its messages; no query has used it.
    op.drop_index("ix_delivery_reports_soft_bounces", "delivery_reports")
    op.add_column("messages", sa.Column("asked_under", sa.Text(), nullable=True))
    op.add_column(
        "received_mails",
        sa.Column("thread", postgresql.JSONB(), server_default=sa.text("'[]'"), nullable=False),
    )
    op.drop_index("ix_received_texts_unprocessed", "received_texts")
    op.create_index(
        "ix_received_texts_waiting",
        "received_texts",
        ["not_before", "id"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )


def downgrade() -> None:
    for table in ("tasks", "cases"):
        op.drop_index(f"ix_{table}_owner", table)
    for table, _, _ in _WITH_WORDS:
        op.drop_index(f"ix_{table}_with_words", table)
        op.drop_column(table, "words_deleted_at")
    op.drop_index("ix_received_texts_waiting", "received_texts")
    op.create_index(
        "ix_received_texts_unprocessed",
        "received_texts",
        ["id"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )
    op.create_index(
        "ix_delivery_reports_soft_bounces",
        "delivery_reports",
        ["reported_at"],
        postgresql_where=sa.text("kind = 'delayed'"),
    )
    op.drop_column("received_mails", "thread")
    op.drop_column("messages", "asked_under")
    for name in ("because", "not_before", "attempts"):
        op.drop_column("received_texts", name)

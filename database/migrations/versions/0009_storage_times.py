"""What has had its time is deleted, and says since when; a mail is not tried for ever."""

import sqlalchemy as sa
from alembic import op

revision: str = "0009"
down_revision: str | None = "0008"
branch_labels: str | None = None
depends_on: str | None = None

_MOMENT = sa.DateTime(timezone=True)


def upgrade() -> None:
    op.add_column("messages", sa.Column("text_deleted_at", _MOMENT, nullable=True))
    op.add_column("messages", sa.Column("reactions_deleted_at", _MOMENT, nullable=True))
    # On a big table it can be built beforehand without a lock: docs/operations.md, "Upgrade".
    op.create_index(
        "ix_messages_with_text",
        "messages",
        ["queued_at", "id"],
        postgresql_where=sa.text("text IS NOT NULL AND state NOT IN ('queued','held','sending')"),
        if_not_exists=True,
    )
    op.create_index("ix_message_reactions_first_at", "message_reactions", ["first_at"])
    op.add_column("delivery_reports", sa.Column("said_deleted_at", _MOMENT, nullable=True))
    op.alter_column("delivery_reports", "said", existing_type=sa.Text(), nullable=True)
    op.create_index(
        "ix_delivery_reports_with_words",
        "delivery_reports",
        ["received_at", "id"],
        postgresql_where=sa.text("said IS NOT NULL AND processed_at IS NOT NULL"),
    )
    op.add_column("received_mails", sa.Column("raw_deleted_at", _MOMENT, nullable=True))
    op.alter_column("received_mails", "raw", existing_type=sa.LargeBinary(), nullable=True)
    op.alter_column(
        "received_attachments", "content", existing_type=sa.LargeBinary(), nullable=True
    )
    op.create_check_constraint(
        op.f("ck_received_mails_raw_is_there_or_was_deleted"),
        "received_mails",
        "(raw IS NULL) = (raw_deleted_at IS NOT NULL)",
    )
    op.create_index(
        "ix_received_mails_with_raw",
        "received_mails",
        ["received_at", "id"],
        postgresql_where=sa.text("raw IS NOT NULL AND processed_at IS NOT NULL"),
    )
    attempts = sa.Column("attempts", sa.Integer(), server_default=sa.text("0"), nullable=False)
    op.add_column("received_mails", attempts)
    not_before = sa.Column("not_before", _MOMENT, server_default=sa.func.now(), nullable=False)
    op.add_column("received_mails", not_before)
    op.execute("UPDATE received_mails SET not_before = received_at WHERE processed_at IS NULL")
    op.drop_index("ix_received_mails_unprocessed", "received_mails")
    op.create_index(
        "ix_received_mails_unprocessed",
        "received_mails",
        ["not_before", "id"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )


def downgrade() -> None:
    """What was deleted stays so, and is empty to what was before."""
    op.drop_index("ix_received_mails_unprocessed", "received_mails")
    op.create_index(
        "ix_received_mails_unprocessed",
        "received_mails",
        ["id"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )
    op.drop_column("received_mails", "not_before")
    op.drop_column("received_mails", "attempts")
    op.drop_index("ix_received_mails_with_raw", "received_mails")
    op.drop_constraint("ck_received_mails_raw_is_there_or_was_deleted", "received_mails")
    op.drop_column("received_mails", "raw_deleted_at")
    for table, column, kind in (
        ("received_mails", "raw", sa.LargeBinary()),
        ("received_attachments", "content", sa.LargeBinary()),
        ("delivery_reports", "said", sa.Text()),
    ):
        op.execute(f"UPDATE {table} SET {column} = '' WHERE {column} IS NULL")
        op.alter_column(table, column, existing_type=kind, nullable=False)
    op.drop_column("delivery_reports", "said_deleted_at")
    op.drop_index("ix_message_reactions_first_at", "message_reactions")
    op.drop_index("ix_messages_with_text", "messages")
    op.drop_column("messages", "reactions_deleted_at")
    op.drop_column("messages", "text_deleted_at")
    op.execute("DELETE FROM policies WHERE kind = 'storage'")  # unknown to what was before

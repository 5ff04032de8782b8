"""Mail and text messages that come back are kept, with what came of them."""

import sqlalchemy as sa
from alembic import op

revision: str = "0005"
down_revision: str | None = "0004"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    moment = sa.DateTime(timezone=True)
    op.create_table(
        "received_mails",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("mail_from", sa.Text(), nullable=True),
        sa.Column("rcpt_to", sa.dialects.postgresql.JSONB(), nullable=False),
        sa.Column("raw", sa.LargeBinary(), nullable=False),
        sa.Column("received_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                *("bounce", "complaint", "auto_reply", "reply", "unreadable"),
                name="mailkind",
                native_enum=False,
                length=40,
            ),
            nullable=True,
        ),
        sa.Column("because", sa.Text(), nullable=True),
        sa.Column("sender", sa.Text(), nullable=True),
        sa.Column("subject", sa.Text(), nullable=True),
        sa.Column("message_id", sa.Text(), nullable=True),
        sa.Column("text", sa.Text(), nullable=True),
        sa.Column("whole_text", sa.Text(), nullable=True),
        sa.Column("left_out", sa.Integer(), nullable=False),
        sa.Column("processed_at", moment, nullable=True),
        sa.Column(
            "outcome",
            sa.Enum(
                *("counted", "unproven", "kept", "reply_received", "opted_out", "asked"),
                *("unknown_sender", "copy", "attributed", "failed"),
                name="mailoutcome",
                native_enum=False,
                length=40,
            ),
            nullable=True,
        ),
        sa.Column("customer_id", sa.Uuid(), nullable=True),
        sa.Column("case_id", sa.Uuid(), nullable=True),
        sa.Column("happened_at", moment, nullable=True),
        sa.Column("answers", sa.Uuid(), nullable=True),
        sa.Column("event_id", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "(processed_at IS NULL) = (outcome IS NULL)",
            name=op.f("ck_received_mails_processed_has_an_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["answers"], ["messages.id"], name=op.f("fk_received_mails_answers")
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_received_mails_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_received_mails")),
        sa.UniqueConstraint("digest", name=op.f("uq_received_mails_digest")),
    )
    op.create_index(
        "ix_received_mails_unprocessed",
        "received_mails",
        ["id"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )
    op.create_index(
        "ix_received_mails_customer_id", "received_mails", ["customer_id", "received_at"]
    )
    op.create_index("ix_received_mails_answers", "received_mails", ["answers"])
    op.create_index("ix_received_mails_event_id", "received_mails", ["event_id"])
    op.create_table(
        "received_attachments",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("mail_id", sa.Uuid(), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("media_type", sa.Text(), nullable=False),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["mail_id"],
            ["received_mails.id"],
            name=op.f("fk_received_attachments_mail_id"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_received_attachments")),
        sa.UniqueConstraint(
            "mail_id", "number", name=op.f("uq_received_attachments_mail_id_number")
        ),
    )
    op.create_index(op.f("ix_received_attachments_mail_id"), "received_attachments", ["mail_id"])
    op.create_table(
        "received_texts",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column("sender", sa.Text(), nullable=False),
        sa.Column("text", sa.Text(), nullable=False),
        sa.Column(
            "wish",
            sa.Enum("stop", "start", "help", name="wish", native_enum=False, length=40),
            nullable=True,
        ),
        sa.Column("received_at", moment, server_default=sa.text("now()"), nullable=False),
        sa.Column("processed_at", moment, nullable=True),
        sa.Column(
            "outcome",
            sa.Enum(
                *("stopped", "started", "helped", "kept", "reply_received", "unknown_sender"),
                "failed",
                name="textoutcome",
                native_enum=False,
                length=40,
            ),
            nullable=True,
        ),
        sa.Column("customer_id", sa.Uuid(), nullable=True),
        sa.Column("happened_at", moment, nullable=True),
        sa.CheckConstraint(
            "(processed_at IS NULL) = (outcome IS NULL)",
            name=op.f("ck_received_texts_processed_has_an_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["customer_id"], ["customers.id"], name=op.f("fk_received_texts_customer_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_received_texts")),
        sa.UniqueConstraint("source", "event_id", name=op.f("uq_received_texts_source_event_id")),
    )
    op.create_index(
        "ix_received_texts_unprocessed",
        "received_texts",
        ["id"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )
    op.create_index(
        "ix_received_texts_customer_id", "received_texts", ["customer_id", "received_at"]
    )


def downgrade() -> None:
    op.drop_table("received_texts")
    op.drop_table("received_attachments")
    op.drop_table("received_mails")
    # Unknown to what was before.
    op.execute(
        "DELETE FROM delivery_reports r USING messages m"
        " WHERE m.id = r.message_id AND m.template = 'sms_help'"
    )
    op.execute("DELETE FROM messages WHERE template = 'sms_help'")
    op.execute("DELETE FROM tasks WHERE kind = 'attribute_mail'")

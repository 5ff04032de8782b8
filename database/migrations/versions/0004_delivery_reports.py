"""What providers report afterwards is kept; an address may be suppressed for one purpose."""

import sqlalchemy as sa
from alembic import op

revision: str = "0004"
down_revision: str | None = "0003"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "delivery_reports",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("event_id", sa.Text(), nullable=False),
        sa.Column(
            "kind",
            sa.Enum(
                "accepted",
                "delayed",
                "delivered",
                "failed",
                "bounced",
                "complained",
                "other",
                name="reportkind",
                native_enum=False,
                length=40,
            ),
            nullable=False,
        ),
        sa.Column("effect", sa.Uuid(), nullable=True),
        sa.Column("message_id", sa.Uuid(), nullable=True),
        sa.Column("provider", sa.Text(), nullable=False),
        sa.Column("said", sa.Text(), nullable=False),
        sa.Column("reported_at", sa.DateTime(timezone=True), nullable=False),
        sa.Column(
            "received_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("processed_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("outcome", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "processed_at IS NULL OR outcome IS NOT NULL",
            name=op.f("ck_delivery_reports_processed_has_an_outcome"),
        ),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_delivery_reports_message_id")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_delivery_reports")),
        sa.UniqueConstraint("source", "event_id", name=op.f("uq_delivery_reports_source_event_id")),
    )
    op.create_index(op.f("ix_delivery_reports_message_id"), "delivery_reports", ["message_id"])
    op.create_index(
        "ix_delivery_reports_unprocessed",
        "delivery_reports",
        ["id"],
        postgresql_where=sa.text("processed_at IS NULL"),
    )
    op.create_index(
        "ix_delivery_reports_soft_bounces",
        "delivery_reports",
        ["reported_at"],
        postgresql_where=sa.text("kind = 'delayed'"),
    )
    purpose = sa.Enum(
        *("orders", "support", "feedback", "marketing"),
        name="purpose",
        native_enum=False,
        length=40,
    )
    column: sa.Column[object] = sa.Column("purpose", purpose, nullable=True)
    op.add_column("suppressions", column)
    _make_unique("channel", "address", "purpose", nulls_not_distinct=True)


def downgrade() -> None:
    op.execute("DELETE FROM suppressions WHERE purpose IS NOT NULL")  # else they'd mean all
    _make_unique("channel", "address", nulls_not_distinct=None)
    op.drop_column("suppressions", "purpose")
    op.drop_table("delivery_reports")


def _make_unique(*columns: str, nulls_not_distinct: bool | None) -> None:
    op.drop_index("uq_suppressions_active", table_name="suppressions")
    op.create_index(
        "uq_suppressions_active",
        "suppressions",
        list(columns),
        unique=True,
        postgresql_where=sa.text("lifted_at IS NULL"),
        postgresql_nulls_not_distinct=nulls_not_distinct,
    )

"""What was said by providers about a message, and how an outcome that was unknown was settled."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0017"
down_revision: str | None = "0016"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.add_column("messages", sa.Column("conversation", postgresql.JSONB(), nullable=True))
    op.add_column(
        "messages",
        sa.Column(
            "settled_by",
            sa.Enum("evidence", "class", name="settledby", native_enum=False, length=40),
            nullable=True,
        ),
    )
    op.create_index(
        "ix_messages_possible_duplicates",
        "messages",
        ["id"],
        postgresql_where=sa.text("possible_duplicate"),
        if_not_exists=True,  # it can be built before, without a lock: docs/operations.md
    )
    op.create_index(
        "ix_messages_settled_by",
        "messages",
        ["settled_by", "id"],
        postgresql_where=sa.text("settled_by IS NOT NULL"),
    )


def downgrade() -> None:
    for name in ("settled_by", "possible_duplicates"):
        op.drop_index(f"ix_messages_{name}", "messages")
    for name in ("settled_by", "conversation"):
        op.drop_column("messages", name)

"""Wordings that staff changes, what marketing may claim, and the tone a customer likes."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision: str = "0006"
down_revision: str | None = "0005"
branch_labels: str | None = None
depends_on: str | None = None


def upgrade() -> None:
    op.create_table(
        "marketing_claims",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("wordings", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("evidence", sa.Text(), nullable=False),
        sa.Column("approved_by", sa.Text(), nullable=False),
        sa.Column(
            "approved_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("expires_on", sa.Date(), nullable=False),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "recorded_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_marketing_claims")),
    )
    op.create_table(
        "template_versions",
        sa.Column("id", sa.Uuid(), server_default=sa.text("uuidv7()"), nullable=False),
        sa.Column("template", sa.String(length=40), nullable=False),
        sa.Column("number", sa.Integer(), nullable=False),
        sa.Column("locale", sa.Text(), nullable=False),
        sa.Column("tone", sa.String(length=40), nullable=False),
        sa.Column("state", sa.String(length=40), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("body_text", sa.Text(), nullable=False),
        sa.Column("body_mjml", sa.Text(), nullable=False),
        sa.Column("sms", sa.Text(), nullable=True),
        sa.Column("claims", postgresql.JSONB(astext_type=sa.Text()), nullable=False),
        sa.Column("author", sa.Text(), nullable=False),
        sa.Column("restores", sa.Integer(), nullable=True),
        sa.Column("replaced", sa.Integer(), nullable=True),
        sa.Column("revision", sa.Integer(), nullable=False),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.Column("published_by", sa.Text(), nullable=True),
        sa.Column("published_at", sa.DateTime(timezone=True), nullable=True),
        sa.Column("retired_at", sa.DateTime(timezone=True), nullable=True),
        sa.CheckConstraint(
            "(state = 'draft') = (published_at IS NULL)",
            name=op.f("ck_template_versions_published_has_a_date"),
        ),
        sa.CheckConstraint(
            "(state = 'retired') = (retired_at IS NOT NULL)",
            name=op.f("ck_template_versions_retired_at_last"),
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_template_versions")),
        sa.UniqueConstraint(
            "template", "number", name=op.f("uq_template_versions_template_number")
        ),
    )
    op.create_index(
        "uq_template_versions_draft",
        "template_versions",
        ["template", "locale", "tone"],
        unique=True,
        postgresql_where=sa.text("state = 'draft'"),
    )
    op.create_index(
        "uq_template_versions_published",
        "template_versions",
        ["template", "locale", "tone"],
        unique=True,
        postgresql_where=sa.text("state = 'published'"),
    )
    tone: sa.Column[str] = sa.Column("tone", sa.String(length=40), nullable=True)
    op.add_column("customers", tone)
    version: sa.Column[str] = sa.Column("template_version", sa.Text(), nullable=True)
    op.add_column("messages", version)


def downgrade() -> None:
    op.drop_column("messages", "template_version")
    op.drop_column("customers", "tone")
    op.drop_index(
        "uq_template_versions_published",
        table_name="template_versions",
        postgresql_where=sa.text("state = 'published'"),
    )
    op.drop_index(
        "uq_template_versions_draft",
        table_name="template_versions",
        postgresql_where=sa.text("state = 'draft'"),
    )
    op.drop_table("template_versions")
    op.drop_table("marketing_claims")

"""What staff has made of the wordings, and what marketing may claim."""

from datetime import date, datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, uuid_key, written_now
from domain.messages import Template
from domain.templates import Tone, VersionState


class TemplateVersion(Base):
    """A wording of staff. Only a draft changes; none is ever taken away once it was published."""

    __tablename__ = "template_versions"

    id: Mapped[UUID] = uuid_key()
    template: Mapped[Template]
    number: Mapped[int]  # counts the versions of a template, in whichever locale
    locale: Mapped[str]
    tone: Mapped[Tone] = mapped_column(default=Tone.NEUTRAL)
    state: Mapped[VersionState] = mapped_column(default=VersionState.DRAFT)
    subject: Mapped[str]
    body_text: Mapped[str]
    body_mjml: Mapped[str]
    sms: Mapped[str | None]
    claims: Mapped[list[str]] = mapped_column(default=list)  # that a published wording makes
    author: Mapped[str]  # who wrote in it last
    editors: Mapped[list[str]] = mapped_column(default=list, server_default=sa.text("'[]'"))
    restores: Mapped[int | None]  # the number it has the wording of, when it is a roll-back
    replaced: Mapped[int | None]  # the number that was in force before; null: the file
    revision: Mapped[int] = mapped_column(default=1)  # of a draft
    created_at: Mapped[datetime] = written_now()
    published_by: Mapped[str | None]
    published_at: Mapped[datetime | None]
    retired_at: Mapped[datetime | None]

    __table_args__ = (
        sa.UniqueConstraint("template", "number"),
        sa.Index(
            "uq_template_versions_draft",
            *("template", "locale", "tone"),
            unique=True,
            postgresql_where=sa.text("state = 'draft'"),
        ),
        sa.Index(
            "uq_template_versions_published",
            *("template", "locale", "tone"),
            unique=True,
            postgresql_where=sa.text("state = 'published'"),
        ),
        sa.CheckConstraint(
            "(state = 'draft') = (published_at IS NULL)", name="published_has_a_date"
        ),
        sa.CheckConstraint(
            "(state = 'retired') = (retired_at IS NOT NULL)", name="retired_at_last"
        ),
    )


class MarketingClaim(Base):
    """What marketing may claim until a day. Another wording is another claim."""

    __tablename__ = "marketing_claims"

    id: Mapped[str] = mapped_column(primary_key=True)  # a template says {{ claims.<id> }}
    wordings: Mapped[dict[str, Any]]  # locale -> text
    evidence: Mapped[str]
    approved_by: Mapped[str]
    approved_at: Mapped[datetime] = written_now()
    expires_on: Mapped[date]  # the last day
    revision: Mapped[int] = mapped_column(default=1)
    recorded_at: Mapped[datetime] = written_now()

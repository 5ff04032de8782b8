"""Support cases and what staff wrote in them."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, uuid_key, written_now
from database.search import prefixes, trigrams
from domain.policies import CaseKind, Priority
from domain.support import CaseCause, CaseState
from domain.tasks import Role


class Case(Base):
    """Written by the support process; its words are in `case_texts` and `events`."""

    __tablename__ = "cases"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    reference: Mapped[str] = mapped_column(unique=True)
    customer_id: Mapped[UUID] = customer_key(index=True)
    kind: Mapped[CaseKind]
    state: Mapped[CaseState] = mapped_column(index=True)
    priority: Mapped[Priority]
    queue: Mapped[Role]
    owner: Mapped[str | None]
    order_id: Mapped[UUID | None] = mapped_column(index=True)
    feedback_id: Mapped[UUID | None] = mapped_column(unique=True)  # one recovery an answer
    event_id: Mapped[str] = mapped_column(default="")  # whose text opened it
    opened_at: Mapped[datetime]
    contact_by: Mapped[datetime | None]  # a recovery case: a person contacts the customer by then
    first_response_due: Mapped[datetime | None]
    first_response_at: Mapped[datetime | None]
    first_response_missed_at: Mapped[datetime | None]
    resolution_due: Mapped[datetime | None]  # empty while the clock rests
    resolution_missed_at: Mapped[datetime | None]
    resolved_at: Mapped[datetime | None]
    closed_at: Mapped[datetime | None]
    reopened: Mapped[int] = mapped_column(default=0)
    escalations: Mapped[int] = mapped_column(default=0)
    cause: Mapped[CaseCause | None]
    outcome: Mapped[str | None]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.Index("ix_cases_opened_at_id", "opened_at", "id"),  # the order of the list
        sa.Index(
            "ix_cases_owner",
            *("owner", "opened_at", "id"),
            postgresql_where=sa.text("owner IS NOT NULL"),
        ),
        prefixes("ix_cases_reference_prefixes", "lower(reference)"),
        trigrams("ix_cases_reference_trigrams", "lower(reference)"),
        sa.CheckConstraint(
            "state NOT IN ('resolved','closed') OR resolved_at IS NOT NULL",
            name="resolved_has_a_date",
        ),
        sa.CheckConstraint("state <> 'closed' OR closed_at IS NOT NULL", name="closed_has_a_date"),
    )


class StaffText(Base):
    """What a member of staff wrote to a customer or about a case; never in a workflow history."""

    __tablename__ = "staff_texts"

    id: Mapped[UUID] = uuid_key()
    customer_id: Mapped[UUID] = customer_key(index=True)
    case_id: Mapped[UUID | None] = mapped_column(index=True)
    by: Mapped[str]
    text: Mapped[str]
    internal: Mapped[bool] = mapped_column(default=False)
    recorded_at: Mapped[datetime] = written_now()
    words_deleted_at: Mapped[datetime | None]  # machine time; under the policy of kind storage

    __table_args__ = (
        sa.Index(
            "ix_staff_texts_with_words",
            *("recorded_at", "id"),
            postgresql_where=sa.text("words_deleted_at IS NULL"),
        ),
    )

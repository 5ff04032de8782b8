"""Tasks for people, opened by processes."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, written_now
from domain.tasks import Role, TaskKind, TaskState


class Task(Base):
    __tablename__ = "tasks"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID] = customer_key(index=True)
    workflow_id: Mapped[str] = mapped_column(index=True)
    kind: Mapped[TaskKind]
    role: Mapped[Role]
    state: Mapped[TaskState]
    owner: Mapped[str | None]
    order_id: Mapped[UUID | None]
    case_id: Mapped[UUID | None]
    opened_at: Mapped[datetime]  # business time, as due_at
    due_at: Mapped[datetime]
    ended_at: Mapped[datetime | None]
    outcome: Mapped[str | None]
    note: Mapped[str | None]
    version: Mapped[int] = mapped_column(default=1)
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.Index("ix_tasks_due_at_id", "due_at", "id"),  # the order of the list
        sa.Index(
            "ix_tasks_owner",
            *("owner", "due_at", "id"),
            postgresql_where=sa.text("owner IS NOT NULL"),
        ),
        sa.Index("ix_tasks_open", "role", "due_at", postgresql_where=sa.text("ended_at IS NULL")),
        sa.CheckConstraint(
            "(state IN ('done','cancelled')) = (ended_at IS NOT NULL)", name="ended_has_a_date"
        ),
        sa.CheckConstraint("state <> 'done' OR outcome IS NOT NULL", name="done_has_an_outcome"),
        sa.CheckConstraint("state <> 'claimed' OR owner IS NOT NULL", name="claimed_has_an_owner"),
    )

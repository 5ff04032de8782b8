"""Where every process stands, in words; and the stage of every customer."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, written_now
from domain.processes import ProcessKind, ProcessState, Stage


class ProcessRow(Base):
    """A projection for people: the process itself lives in Temporal."""

    __tablename__ = "processes"

    workflow_id: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[ProcessKind]
    customer_id: Mapped[UUID] = customer_key(index=True)
    state: Mapped[ProcessState]
    step: Mapped[str]
    waiting_for: Mapped[str]
    next_timer_at: Mapped[datetime | None]  # business time
    next_timer_machine_at: Mapped[datetime | None]
    outcome: Mapped[str]
    allowed: Mapped[list[str]]
    started_at: Mapped[datetime]  # business time
    ended_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime] = written_now()
    updated_at: Mapped[datetime] = written_now()
    decided_at: Mapped[datetime | None]  # machine time: of the step that says where it stands

    __table_args__ = (
        sa.Index("ix_processes_kind_state_step", "kind", "state", "step"),
        sa.Index(
            "ix_processes_next_timer",
            "next_timer_machine_at",
            postgresql_where=sa.text("ended_at IS NULL"),
        ),
        sa.Index("ix_processes_recorded_at", "recorded_at", "workflow_id"),
        sa.CheckConstraint(
            "(state IN ('completed','stopped')) = (ended_at IS NOT NULL)", name="ended_has_a_date"
        ),
    )


class Lifecycle(Base):
    """The stage of a customer relationship, with its reason and since when."""

    __tablename__ = "lifecycles"

    customer_id: Mapped[UUID] = customer_key(primary_key=True)
    stage: Mapped[Stage]
    stage_reason: Mapped[str]
    stage_since: Mapped[datetime]
    last_heard_at: Mapped[datetime | None]
    silence_due_at: Mapped[datetime | None]
    updated_at: Mapped[datetime] = written_now()

    # The orders of the list of customers.
    __table_args__ = (
        sa.Index("ix_lifecycles_stage_stage_since", "stage", "stage_since", "customer_id"),
        sa.Index("ix_lifecycles_stage_since", "stage_since", "customer_id"),
        sa.Index("ix_lifecycles_last_heard_at", "last_heard_at", "customer_id"),
        sa.Index("ix_lifecycles_silence_due_at", "silence_due_at", "customer_id"),
    )

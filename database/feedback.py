"""Surveys asked, answers and reviews received, needs stated."""

from datetime import datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.orm import Mapped, mapped_column

from database.base import Base, customer_key, written_now
from domain.follow_up import Expectation, Verdict
from domain.policies import SurveyScale


class Survey(Base):
    __tablename__ = "surveys"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID] = customer_key(index=True)
    order_id: Mapped[UUID | None] = mapped_column(index=True)
    case_id: Mapped[UUID | None] = mapped_column(index=True)
    workflow_id: Mapped[str]
    scale: Mapped[SurveyScale]
    asked_at: Mapped[datetime]
    reminded_at: Mapped[datetime | None]
    answered_at: Mapped[datetime | None]
    recorded_at: Mapped[datetime] = written_now()

    # The order of the list.
    __table_args__ = (sa.Index("ix_surveys_asked_at_id", "asked_at", "id"),)


class Feedback(Base):
    """An answer or a review. A survey has one answer: a second click changes it."""

    __tablename__ = "feedback"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID] = customer_key(index=True)
    order_id: Mapped[UUID | None] = mapped_column(index=True)
    case_id: Mapped[UUID | None] = mapped_column(index=True)
    survey_id: Mapped[UUID | None] = mapped_column(sa.ForeignKey("surveys.id"), unique=True)
    event_id: Mapped[str]  # whose comment it carries
    scale: Mapped[SurveyScale]
    score: Mapped[int]
    verdict: Mapped[Verdict]
    expectation: Mapped[Expectation | None]
    answered_at: Mapped[datetime]
    changes: Mapped[int] = mapped_column(default=0)
    recovery_case_id: Mapped[UUID | None]
    recorded_at: Mapped[datetime] = written_now()

    __table_args__ = (
        sa.Index("ix_feedback_answered_at_id", "answered_at", "id"),  # the order of the list
        sa.CheckConstraint(
            "(scale = 'stars' AND score BETWEEN 1 AND 5)"
            " OR (scale = 'nps' AND score BETWEEN 0 AND 10)",
            name="score_is_on_its_scale",
        ),
        sa.CheckConstraint(
            "verdict <> 'detractor' OR recovery_case_id IS NOT NULL",
            name="disappointment_has_a_recovery_case",
        ),
    )


class Need(Base):
    """What a customer needs, stated or noticed; becomes an opportunity for a person."""

    __tablename__ = "needs"

    id: Mapped[UUID] = mapped_column(primary_key=True)
    customer_id: Mapped[UUID] = customer_key(index=True)
    order_id: Mapped[UUID | None]
    text: Mapped[str]
    source: Mapped[str]
    state: Mapped[str] = mapped_column(default="open")
    occurred_at: Mapped[datetime]
    recorded_at: Mapped[datetime] = written_now()

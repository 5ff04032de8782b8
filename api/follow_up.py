"""Surveys asked, and what customers answered or reviewed."""

from datetime import datetime
from typing import Annotated
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict

from api.deps import Session
from api.errors import not_found
from api.fields import Instant
from api.paging import Page, Paging, read_page
from api.routing import ApiRoute
from database.events import Event
from database.feedback import Feedback, Survey
from domain.follow_up import Expectation, Verdict
from domain.policies import SurveyScale

surveys = APIRouter(prefix="/surveys", tags=["surveys"], route_class=ApiRoute)
feedback = APIRouter(prefix="/feedback", tags=["feedback"], route_class=ApiRoute)


class SurveyView(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    customer_id: UUID
    order_id: UUID | None
    case_id: UUID | None
    workflow_id: str
    scale: SurveyScale
    asked_at: datetime
    reminded_at: datetime | None
    answered_at: datetime | None


class FeedbackView(BaseModel):
    """An answer to a survey, or a review. `changes`: how often the customer changed it."""

    id: UUID
    customer_id: UUID
    order_id: UUID | None
    case_id: UUID | None
    survey_id: UUID | None
    scale: SurveyScale
    score: int
    verdict: Verdict
    expectation: Expectation | None
    comment: str | None
    answered_at: datetime
    changes: int
    recovery_case_id: UUID | None


@surveys.get("")
async def list_surveys(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    order_id: Annotated[UUID | None, Query()] = None,
    case_id: Annotated[UUID | None, Query()] = None,
    answered: Annotated[bool | None, Query()] = None,
) -> Page[SurveyView]:
    """Surveys, the latest asked first."""
    filters = {"customer_id": customer_id, "order_id": order_id, "case_id": case_id}
    given = {name: value for name, value in filters.items() if value is not None}
    statement = sa.select(Survey).filter_by(**given)
    if answered is not None:
        is_answered = Survey.answered_at.is_not(None)
        statement = statement.where(is_answered if answered else ~is_answered)
    return await read_page(
        session, statement, [Survey.asked_at, Survey.id], paging, SurveyView.model_validate
    )


@surveys.get("/{survey_id}")
async def show_survey(survey_id: UUID, session: Session) -> SurveyView:
    """One survey."""
    survey = await session.get(Survey, survey_id)
    if survey is None:
        raise not_found("survey", survey_id)
    return SurveyView.model_validate(survey)


def _feedback() -> sa.Select[Feedback, str | None]:
    comment = Event.body["comment"].as_string()
    return sa.select(Feedback, comment.label("comment")).outerjoin(
        Event, Event.event_id == Feedback.event_id
    )


@feedback.get("")
async def list_feedback(
    session: Session,
    paging: Paging,
    customer_id: Annotated[UUID | None, Query()] = None,
    order_id: Annotated[UUID | None, Query()] = None,
    case_id: Annotated[UUID | None, Query()] = None,
    survey_id: Annotated[UUID | None, Query()] = None,
    verdict: Annotated[Verdict | None, Query()] = None,
    score: Annotated[int | None, Query(ge=0, le=10)] = None,
    since: Annotated[Instant | None, Query(description="answered then or later")] = None,
) -> Page[FeedbackView]:
    """Answers and reviews, the latest first."""
    filters = {
        Feedback.customer_id: customer_id,
        Feedback.order_id: order_id,
        Feedback.case_id: case_id,
        Feedback.survey_id: survey_id,
        Feedback.verdict: verdict,
        Feedback.score: score,
    }
    statement = _feedback().where(
        *(column == value for column, value in filters.items() if value is not None)
    )
    if since is not None:
        statement = statement.where(Feedback.answered_at >= since)
    return await read_page(
        session,
        statement,
        [Feedback.answered_at, Feedback.id],
        paging,
        lambda row: _view(row[0], row[1]),
    )


@feedback.get("/{feedback_id}")
async def show_feedback(feedback_id: UUID, session: Session) -> FeedbackView:
    """One answer or review with its comment."""
    row = (await session.execute(_feedback().where(Feedback.id == feedback_id))).one_or_none()
    if row is None:
        raise not_found("feedback", feedback_id)
    return _view(row[0], row[1])


def _view(given: Feedback, comment: str | None) -> FeedbackView:
    return FeedbackView(
        id=given.id,
        customer_id=given.customer_id,
        order_id=given.order_id,
        case_id=given.case_id,
        survey_id=given.survey_id,
        scale=given.scale,
        score=given.score,
        verdict=given.verdict,
        expectation=given.expectation,
        comment=comment,
        answered_at=given.answered_at,
        changes=given.changes,
        recovery_case_id=given.recovery_case_id,
    )

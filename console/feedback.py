"""Feedback: what customers answered, and whether those who were disappointed heard the outcome."""

from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

from fastapi import APIRouter
from fastapi.responses import Response

from api.paging import Paging, read_page
from console.asked import CustomersTime, one_of, time_of
from console.desk import AtDesk
from console.routes import ConsoleRoute
from database.feedback import Feedback
from database.queries.feedback import feedback_with_recovery
from database.support import Case
from domain.follow_up import Verdict
from domain.messages import MessageState

router = APIRouter(route_class=ConsoleRoute)


class FeedbackLine(NamedTuple):
    given: Feedback
    comment: str | None
    customer: str
    recovery: Case | None
    outcome_id: UUID | None
    outcome_state: MessageState | None
    outcome_told_at: datetime | None
    time: CustomersTime

    @property
    def is_closed(self) -> bool | None:
        """Whether the customer knows the outcome; None where nothing is owed."""
        if self.recovery is None:
            return None if self.given.recovery_case_id is None else False
        return self.recovery.resolved_at is not None and self.outcome_told_at is not None

    @property
    def version(self) -> str:
        state = self.recovery.state if self.recovery else None
        return f"{self.given.changes} {self.given.score} {state} {self.outcome_state}"


@router.get("/feedback")
async def list_feedback(desk: AtDesk, paging: Paging) -> Response:
    """The latest first."""
    asked = desk.filters("score", "since", "customer_id", "loop")
    statement = feedback_with_recovery()
    verdict = one_of(desk, "verdict", Verdict)
    if verdict is not None:
        statement = statement.where(Feedback.verdict == verdict)
    if asked.get("score", "").isdecimal():
        statement = statement.where(Feedback.score == int(asked["score"][:2]))
    since = _day(asked.get("since", ""))
    if since is not None:
        statement = statement.where(Feedback.answered_at >= since)
    if (customer_id := _uuid(asked.get("customer_id", ""))) is not None:
        statement = statement.where(Feedback.customer_id == customer_id)
    if asked.get("loop"):
        statement = statement.where(
            Feedback.recovery_case_id.is_not(None), Case.resolved_at.is_(None)
        )
    async with desk.database() as session:
        page = await read_page(
            session, statement, [Feedback.answered_at, Feedback.id], paging, _line
        )
    return desk.page("feedback/list.html", page=page, verdicts=list(Verdict), scores=range(11))


def _line(row: Any) -> FeedbackLine:
    return FeedbackLine(
        *(row[0], row.comment, row.name, row[3]),
        *(row.outcome_id, row.outcome_state, row.outcome_told_at),
        time_of(row),
    )


def _day(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC) if text else None
    except ValueError:
        return None


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None

"""Writes of the follow-up: surveys, answers and reviews, and what is done about them."""

from dataclasses import dataclass
from typing import Any, cast

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncSession
from temporalio import activity
from temporalio.client import Client

from activities.processes import report_end
from activities.steps import begin_step, queue_message, surroundings_of
from database.base import Sessions
from database.feedback import Feedback, Survey
from domain.follow_up import (
    AskStep,
    FeedbackStep,
    FollowUpEndStep,
    FollowUpOpenedStep,
    FollowUpTerms,
    Verdict,
    survey_at,
)
from domain.messages import MessageRequest, Template
from domain.policies import FollowUpPolicy, PolicyKind


@dataclass(frozen=True)
class FollowUpActivities:
    sessions: Sessions
    client: Client

    @activity.defn
    async def open_follow_up(self, step: FollowUpOpenedStep) -> FollowUpTerms:
        """The follow-up begins; says whether the customer has spoken about it already."""
        async with self.sessions.begin() as session:
            around = await surroundings_of(session, step.customer_id, PolicyKind.FOLLOW_UP)
            clock, _, policy, version = around
            about = Feedback.order_id if step.about == "order" else Feedback.case_id
            spoken = await session.scalar(
                sa.select(Feedback.id).where(about == step.about_id).limit(1)
            )
            terms = FollowUpTerms(
                clock=clock,
                policy=cast(FollowUpPolicy, policy),
                policy_version=version,
                already_answered=spoken is not None,
            )
            asks = step.asks and spoken is None
            ask_at = survey_at(terms.policy, step.about, step.since) if asks else None
            opened = step.on_clock(clock).with_timer(ask_at, clock)
            await begin_step(session, opened, "follow_up_started", {"about": step.about})
            return terms

    @activity.defn
    async def record_asked(self, step: AskStep) -> None:
        """The survey with its signed links, or its one reminder."""
        kind = "survey_reminded" if step.reminder else "survey_asked"
        async with self.sessions.begin() as session:
            if await begin_step(session, step, kind):
                await self._survey(session, step)
                template = Template.SURVEY_REMINDER if step.reminder else Template.SURVEY_REQUEST
                context = {
                    "about": step.about,
                    "survey_id": str(step.survey_id),
                    "scale": step.scale,
                }
                occurrence = str(step.survey_id)
                request = MessageRequest(template=template, occurrence=occurrence, context=context)
                await queue_message(session, step, request)

    async def _survey(self, session: AsyncSession, step: AskStep) -> None:
        row = insert(Survey).values(
            id=step.survey_id,
            customer_id=step.customer_id,
            order_id=step.about_id if step.about == "order" else None,
            case_id=step.about_id if step.about == "case" else None,
            workflow_id=step.workflow_id,
            scale=step.scale,
            asked_at=step.at,
        )
        await session.execute(
            row.on_conflict_do_update(index_elements=["id"], set_={"reminded_at": step.at})
            if step.reminder
            else row.on_conflict_do_nothing()
        )

    @activity.defn
    async def record_feedback(self, step: FeedbackStep) -> None:
        """An answer or a review; a second answer to one survey changes the first.

        A promoter is asked to recommend us (once), by consent like any selling.
        """
        feedback = step.feedback
        async with self.sessions.begin() as session:
            facts = {"score": feedback.score, "verdict": step.verdict}
            if not await begin_step(session, step, "feedback_received", facts):
                return
            values: dict[str, Any] = {
                "event_id": feedback.event_id,
                "scale": feedback.scale,
                "score": feedback.score,
                "verdict": step.verdict,
                "expectation": feedback.expectation,
                "answered_at": feedback.occurred_at,
            }
            row = insert(Feedback).values(
                id=step.feedback_id,
                customer_id=step.customer_id,
                order_id=feedback.order_id,
                case_id=feedback.case_id,
                survey_id=feedback.survey_id,
                recovery_case_id=step.recovery_case_id,
                **values,
            )
            recovery = sa.func.coalesce(Feedback.recovery_case_id, row.excluded.recovery_case_id)
            await session.execute(
                row.on_conflict_do_update(
                    index_elements=["id"],
                    set_={
                        **values,
                        "recovery_case_id": recovery,
                        "changes": Feedback.changes + 1,
                    },
                )
            )
            if feedback.survey_id is not None:
                await session.execute(
                    sa.update(Survey)
                    .where(Survey.id == feedback.survey_id)
                    .values(answered_at=feedback.occurred_at)
                )
            if step.verdict is Verdict.PROMOTER:
                request = MessageRequest(template=Template.REFERRAL_REQUEST)
                await queue_message(session, step, request)

    @activity.defn
    async def record_follow_up_ended(self, step: FollowUpEndStep) -> None:
        async with self.sessions.begin() as session:
            begun = await begin_step(session, step, "follow_up_ended", {"outcome": step.outcome})
        await report_end(self.client, step, begun)

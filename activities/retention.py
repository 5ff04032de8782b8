"""Writes of the retention outreach. One activity is one transaction."""

from dataclasses import dataclass
from typing import cast

from temporalio import activity
from temporalio.client import Client

from activities.processes import report_end
from activities.steps import begin_step, open_task, queue_message, surroundings_of
from database.base import Sessions
from domain.messages import MessageRequest, Template
from domain.policies import PolicyKind, RetentionPolicy
from domain.retention import (
    OfferStep,
    RetentionEndStep,
    RetentionStep,
    RetentionTerms,
    SaveTaskStep,
)


@dataclass(frozen=True)
class RetentionActivities:
    sessions: Sessions
    client: Client

    @activity.defn
    async def open_retention(self, step: RetentionStep) -> RetentionTerms:
        """The save play begins with a check-in message; answers with the terms."""
        async with self.sessions.begin() as session:
            around = await surroundings_of(session, step.customer_id, PolicyKind.RETENTION)
            clock, _, policy, version = around
            terms = RetentionTerms(
                clock=clock, policy=cast(RetentionPolicy, policy), policy_version=version
            )
            opened = step.on_clock(clock)
            opened = opened.with_timer(opened.at + terms.policy.answer_within, clock)
            if await begin_step(session, opened, "retention_started", {"cause": step.cause}):
                request = MessageRequest(
                    template=Template.RETENTION_CHECK_IN, not_after=opened.standing.next_timer_at
                )
                await queue_message(session, opened, request)
            return terms

    @activity.defn
    async def record_save_task(self, step: SaveTaskStep) -> None:
        """No answer to the check-in: the account manager is asked to make contact."""
        async with self.sessions.begin() as session:
            begun = await begin_step(session, step, "save_task_opened")
            if begun.stands:
                await open_task(session, step, step.task)

    @activity.defn
    async def record_offer(self, step: OfferStep) -> None:
        async with self.sessions.begin() as session:
            if await begin_step(session, step, "retention_offer"):
                context = {"offer_until": step.offer_until.isoformat()}
                request = MessageRequest(
                    template=Template.RETENTION_OFFER, context=context, not_after=step.offer_until
                )
                await queue_message(session, step, request)

    @activity.defn
    async def record_lost(self, step: RetentionEndStep) -> None:
        """The customer counts as lost, with a reason; the win-back comes later."""
        async with self.sessions.begin() as session:
            await begin_step(session, step, "customer_lost", {"reason": step.reason})

    @activity.defn
    async def record_win_back(self, step: RetentionStep) -> None:
        async with self.sessions.begin() as session:
            if await begin_step(session, step, "win_back"):
                request = MessageRequest(
                    template=Template.WIN_BACK, not_after=step.standing.next_timer_at
                )
                await queue_message(session, step, request)

    @activity.defn
    async def record_retention_ended(self, step: RetentionEndStep) -> None:
        async with self.sessions.begin() as session:
            facts = {"outcome": step.outcome, "reason": step.reason}
            begun = await begin_step(session, step, "retention_ended", facts)
        await report_end(self.client, step, begun)

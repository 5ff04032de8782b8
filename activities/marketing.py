"""Writes of the marketing contact. One activity is one transaction."""

from dataclasses import dataclass
from typing import cast

from temporalio import activity
from temporalio.client import Client

from activities.processes import report_end
from activities.steps import begin_step, open_task, queue_message, surroundings_of
from database.base import Sessions
from database.queries.customers import hold_messages
from database.queries.messages import ask_again
from domain.marketing import (
    MarketingEndStep,
    MarketingTerms,
    MissedResponseStep,
    ReplyStep,
    TouchStep,
)
from domain.messages import MessageRequest
from domain.policies import MarketingPolicy, PolicyKind
from domain.processes import Step


@dataclass(frozen=True)
class MarketingActivities:
    sessions: Sessions
    client: Client

    @activity.defn
    async def open_marketing(self, step: Step) -> MarketingTerms:
        """The contact begins; answers with the customer's clock and the policy in force."""
        async with self.sessions.begin() as session:
            around = await surroundings_of(session, step.customer_id, PolicyKind.MARKETING)
            clock, _, policy, version = around
            await begin_step(session, step.on_clock(clock), "marketing_started")
            return MarketingTerms(
                clock=clock, policy=cast(MarketingPolicy, policy), policy_version=version
            )

    @activity.defn
    async def record_touch(self, step: TouchStep) -> None:
        """Queue one touch; whether it may go is decided when it is sent."""
        async with self.sessions.begin() as session:
            if await begin_step(session, step, "marketing_touch", {"number": step.number}):
                request = MessageRequest(
                    template=step.template,
                    occurrence=str(step.number),
                    not_after=step.standing.next_timer_at,  # when the next one is due
                )
                await queue_message(session, step, request)

    @activity.defn
    async def record_reply(self, step: ReplyStep) -> None:
        """The customer answered: a sales rep has until the task is due.

        A touch that has not gone yet is cancelled where it would be claimed (`domain/contacts.py`):
        so the customer is locked before the line is written that says so.
        """
        async with self.sessions.begin() as session:
            await hold_messages(session, step.customer_id)
            begun = await begin_step(session, step, "reply_received", {"event": step.event_id})
            if begun.stands:
                await open_task(session, step, step.task)
            if begun:
                await ask_again(session, step.customer_id)

    @activity.defn
    async def record_missed_response(self, step: MissedResponseStep) -> None:
        """Nobody answered in time: the manager is asked too."""
        async with self.sessions.begin() as session:
            begun = await begin_step(session, step, "first_response_missed")
            if begun.stands:
                await open_task(session, step, step.task)

    @activity.defn
    async def record_marketing_ended(self, step: MarketingEndStep) -> None:
        async with self.sessions.begin() as session:
            begun = await begin_step(session, step, "marketing_ended", {"outcome": step.outcome})
        await report_end(self.client, step, begun)

"""Marketing contact: touches until the customer answers, orders, opts out, or the last one."""

from datetime import datetime

from temporalio import workflow

from activities.marketing import MarketingActivities
from domain.lifecycle import OptedOut, OrderNews
from domain.marketing import (
    MarketingEndStep,
    MarketingInput,
    MarketingOutcome,
    MarketingTerms,
    MissedResponseStep,
    ReplyReceived,
    ReplyStep,
    TouchStep,
)
from domain.messages import Template
from domain.processes import ProcessKind, Step
from domain.tasks import Role, TaskKind
from workflows.selling import SellingProcess


@workflow.defn
class MarketingContact(SellingProcess):
    kind = ProcessKind.MARKETING

    def __init__(self) -> None:
        super().__init__()
        self._replies: list[ReplyReceived] = []
        self._seen_events: set[str] = set()
        self._ordered = False
        self._opted_out = False
        self._ended = False

    @workflow.run
    async def run(self, contact: MarketingInput) -> str:
        self._customer_id = contact.customer_id
        return await self._steered(self._contact())

    async def _contact(self) -> str:
        await self._open()
        outcome = await self._touch_until_something_happens()
        while outcome is None:
            outcome = await self._have_the_reply_answered(self._replies.pop(0))
        await self._end(outcome)
        while await self._came_at_the_end(self._replies):
            while self._replies:
                await self._have_the_reply_answered(self._replies.pop(0))
            await self._end(outcome)
        return outcome

    @workflow.signal
    def reply_received(self, event: ReplyReceived) -> None:
        if event.event_id not in self._seen_events:
            self._seen_events.add(event.event_id)
            self._replies.append(event)

    @workflow.signal
    def order_placed(self, event: OrderNews) -> None:
        self._ordered = True

    @workflow.signal
    def opted_out(self, event: OptedOut) -> None:
        self._opted_out = True

    async def _open(self) -> None:
        step = self._step("opened", "first contact", "the first message")
        self._terms: MarketingTerms = await self._do(
            MarketingActivities.open_marketing, Step(**step), "start the marketing contact"
        )
        self._clock = self._terms.clock

    async def _touch_until_something_happens(self) -> MarketingOutcome | None:
        """Send the touches. None: a reply came, which a person has to answer."""
        policy = self._terms.policy
        for number, template in enumerate(policy.touches, start=1):
            await self._until_selling_allowed(lambda: self._happened)
            if self._happened:
                break
            last = number == len(policy.touches)
            pause = policy.after_last_touch if last else policy.between_touches
            until = self._now + pause
            await self._touch(number, Template(template), until)
            summary = f"until touch {number + 1}" if not last else "listening after the last touch"
            if await self._until(lambda: self._happened, until, summary):
                break
        return self._outcome()

    async def _touch(self, number: int, template: Template, until: datetime) -> None:
        step = self._step(
            f"touch/{number}", f"touch {number} sent", "an answer or an order", until=until
        )
        await self._do(
            MarketingActivities.record_touch,
            TouchStep(**step, template=template, number=number),
            f"send touch {number}",
        )

    async def _have_the_reply_answered(self, reply: ReplyReceived) -> MarketingOutcome | None:
        """A person answers within the policy's time; a missed clock escalates to the manager.

        None: another reply came meanwhile.
        """
        policy = self._terms.policy
        respond_by = max(self._now, reply.occurred_at) + policy.first_response
        key, escalated = f"answer/{reply.event_id}", f"escalated/{reply.event_id}"
        task = self._task(key, TaskKind.ANSWER_REPLY, Role.SALES_REP, respond_by)
        step = self._step(
            f"reply/{reply.event_id}",
            "the customer answered",
            "a sales rep's first response",
            until=respond_by,
            at=reply.occurred_at,
        )
        self._show("answered", respond_by)
        await self._do(
            MarketingActivities.record_reply,
            ReplyStep(**step, event_id=reply.event_id, task=task),
            "the customer answered: ask a sales rep to respond",
        )

        def over() -> bool:
            done = key in self._outcomes or escalated in self._outcomes
            moot = not self._ended and (self._ordered or self._opted_out)
            return done or moot or bool(self._replies)

        if not await self._until(over, respond_by, "until the first response is due"):
            await self._escalate(reply, escalated)
            await self._until(over, None, "")
        outcome = self._outcomes.get(key) or self._outcomes.get(escalated)
        if outcome is not None:
            if outcome == "not_interested":
                return MarketingOutcome.NOT_INTERESTED
            return MarketingOutcome.ANSWERED
        return self._outcome()

    async def _escalate(self, reply: ReplyReceived, key: str) -> None:
        due_at = self._now + self._terms.policy.escalated_response
        task = self._task(key, TaskKind.ANSWER_REPLY_ESCALATED, Role.MANAGER, due_at)
        step = self._step(
            f"missed/{reply.event_id}",
            "first response missed, escalated",
            "a sales rep's or the manager's answer",
        )
        self._show("first response missed", due_at)
        await self._do(
            MarketingActivities.record_missed_response,
            MissedResponseStep(**step, task=task),
            "the first response is overdue: ask the manager",
        )

    @property
    def _happened(self) -> bool:
        return bool(self._replies or self._ordered or self._opted_out or self._undeliverable)

    def _outcome(self) -> MarketingOutcome | None:
        """Why the contact ends; None while a reply waits for its answer."""
        if self._opted_out:
            return MarketingOutcome.OPTED_OUT
        if self._ordered:
            return MarketingOutcome.ORDERED
        if self._replies:
            return None
        if self._undeliverable:
            return MarketingOutcome.UNDELIVERABLE
        return MarketingOutcome.NO_ANSWER

    async def _end(self, outcome: MarketingOutcome) -> None:
        self._ended = True
        step = self._step("ended", _WORDS[outcome], ended=outcome)
        await self._do(
            MarketingActivities.record_marketing_ended,
            MarketingEndStep(**step, outcome=outcome),
            f"the contact ends: {_WORDS[outcome]}",
        )


_WORDS = {
    MarketingOutcome.ORDERED: "the customer ordered",
    MarketingOutcome.ANSWERED: "a person answered the customer",
    MarketingOutcome.NOT_INTERESTED: "the customer isn't interested",
    MarketingOutcome.OPTED_OUT: "the customer opted out",
    MarketingOutcome.UNDELIVERABLE: "messages can't reach the customer",
    MarketingOutcome.NO_ANSWER: "no answer to the last touch",
}

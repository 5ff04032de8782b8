"""Follow-up of a delivery or a case: thanks and a survey, one reminder, the loop closed."""

from datetime import datetime
from uuid import UUID

from temporalio import workflow
from temporalio.common import WorkflowIDReusePolicy
from temporalio.exceptions import WorkflowAlreadyStartedError
from temporalio.workflow import ParentClosePolicy

from activities.follow_up import FollowUpActivities
from domain.follow_up import (
    AskStep,
    FeedbackReceived,
    FeedbackStep,
    FollowUpEndStep,
    FollowUpInput,
    FollowUpOpenedStep,
    FollowUpOutcome,
    FollowUpTerms,
    Verdict,
    survey_at,
    verdict,
)
from domain.policies import CaseKind, Priority
from domain.processes import (
    LIFECYCLE_QUEUE,
    Fact,
    ProcessKind,
    derived_id,
    support_workflow_id,
)
from domain.support import CaseInput
from domain.tasks import Role
from workflows.process import Process
from workflows.visibility import search_attributes

with workflow.unsafe.imports_passed_through():  # references only; each runs in its own sandbox
    from workflows.support import SupportCase


@workflow.defn
class FollowUp(Process):
    kind = ProcessKind.FOLLOW_UP

    def __init__(self) -> None:
        super().__init__()
        self._heard: list[FeedbackReceived] = []
        self._seen_events: set[str] = set()
        self._reopened = False

    @workflow.run
    async def run(self, about: FollowUpInput) -> str:
        self._customer_id = about.customer_id
        self._about = about
        return await self._steered(self._follow_up())

    async def _follow_up(self) -> str:
        await self._open()
        outcome = FollowUpOutcome.ALREADY_ANSWERED
        if self._about.asks and not self._terms.already_answered:
            outcome = await self._ask()
        if self._heard:
            outcome = await self._close_the_loop()
        await self._end(outcome)
        while await self._came_at_the_end(self._heard):
            outcome = await self._close_the_loop()
            await self._end(outcome)
        return outcome

    @workflow.signal
    def feedback_received(self, event: FeedbackReceived) -> None:
        """An answer, a changed answer, or a review nobody asked for."""
        if event.event_id not in self._seen_events:
            self._seen_events.add(event.event_id)
            self._heard.append(event)

    @workflow.signal
    def case_reopened(self, event: Fact) -> None:
        """It is too early to ask: the case isn't done."""
        self._reopened = True

    async def _open(self) -> None:
        step = self._step(
            f"opened/{workflow.info().run_id}", "follow-up planned", "the right moment to ask"
        )
        self._terms: FollowUpTerms = await self._do(
            FollowUpActivities.open_follow_up,
            FollowUpOpenedStep(
                **step,
                about_id=self._about.about_id,
                about=self._about.about,
                since=self._about.since,
                asks=self._about.asks,
            ),
            "start the follow-up",
        )
        self._clock = self._terms.clock

    async def _ask(self) -> FollowUpOutcome:
        """Survey at the policy's moment, one reminder, then let it be."""
        policy = self._terms.policy
        ask_at = survey_at(policy, self._about.about, self._about.since)
        if await self._until(self._something, ask_at, "until the survey"):
            return self._answered_or_reopened()
        remind_at = self._now + policy.remind_after
        await self._send_survey(until=remind_at)
        if await self._until(self._something, remind_at, "until the one reminder"):
            return self._answered_or_reopened()
        close_at = self._now + policy.close_after
        await self._send_survey(until=close_at, reminder=True)
        if await self._until(self._something, close_at, "until the survey is closed"):
            return self._answered_or_reopened()
        return FollowUpOutcome.NO_ANSWER

    def _something(self) -> bool:
        return bool(self._heard) or self._reopened

    def _answered_or_reopened(self) -> FollowUpOutcome:
        return FollowUpOutcome.ANSWERED if self._heard else FollowUpOutcome.REOPENED

    async def _send_survey(self, until: datetime, *, reminder: bool = False) -> None:
        words = "reminded of the survey" if reminder else "thanked and asked"
        step = self._step(
            f"reminded/{self._round}" if reminder else f"asked/{self._round}",
            words,
            "the customer's answer",
            until=until,
        )
        await self._do(
            FollowUpActivities.record_asked,
            AskStep(
                **step,
                about_id=self._about.about_id,
                about=self._about.about,
                survey_id=derived_id("survey", self._about.about_id, self._round),
                scale=self._terms.policy.scale,
                reminder=reminder,
            ),
            "remind of the survey" if reminder else "thank the customer and ask",
        )

    @property
    def _round(self) -> str:
        """A case that was reopened and resolved again is asked about again."""
        return f"{self._about.since:%Y%m%dT%H%M%S}"

    async def _close_the_loop(self) -> FollowUpOutcome:
        """Act on what was said; for a while a second click may change it."""
        while self._heard:
            while self._heard:
                await self._act_on(self._heard.pop(0))
            changeable_until = self._now + self._terms.policy.answer_changeable
            await self._until(
                lambda: bool(self._heard), changeable_until, "until the answer is final"
            )
        return FollowUpOutcome.ANSWERED

    async def _act_on(self, feedback: FeedbackReceived) -> None:
        found = verdict(feedback.scale, feedback.score)
        source = feedback.survey_id or feedback.event_id
        feedback_id = derived_id("feedback", self._about.about_id, source)
        case_id = derived_id("recovery", feedback_id) if found is Verdict.DETRACTOR else None
        step = self._step(
            f"heard/{feedback.event_id}",
            f"answered: {found}",
            "a changed answer",
            at=feedback.occurred_at,
            until=self._now + self._terms.policy.answer_changeable,
        )
        await self._do(
            FollowUpActivities.record_feedback,
            FeedbackStep(
                **step,
                about_id=self._about.about_id,
                about=self._about.about,
                feedback=feedback,
                feedback_id=feedback_id,
                verdict=found,
                recovery_case_id=case_id,
            ),
            f"the customer answered: {found}",
        )
        if case_id is not None:
            await self._recover(feedback, case_id)

    async def _recover(self, feedback: FeedbackReceived, case_id: UUID) -> None:
        """Somebody is disappointed: a recovery case with an owner and a deadline."""
        heard_at = max(self._now, feedback.occurred_at)
        recovery = CaseInput(
            case_id=case_id,
            customer_id=self._customer_id,
            kind=CaseKind.RECOVERY,
            priority=Priority.HIGH,
            queue=Role.ACCOUNT_MANAGER,
            opened_at=heard_at,
            event_id=feedback.event_id,
            order_id=feedback.order_id,
            feedback_id=derived_id(
                "feedback", self._about.about_id, feedback.survey_id or feedback.event_id
            ),
            contact_by=heard_at + self._terms.policy.recovery_contact,
        )
        try:
            await workflow.start_child_workflow(
                SupportCase.run,
                recovery,
                id=support_workflow_id(case_id),
                task_queue=LIFECYCLE_QUEUE,
                id_reuse_policy=WorkflowIDReusePolicy.REJECT_DUPLICATE,
                parent_close_policy=ParentClosePolicy.ABANDON,
                search_attributes=search_attributes(self._customer_id, ProcessKind.SUPPORT),
                static_summary="Recovery: a customer is disappointed",
            )
        except WorkflowAlreadyStartedError:
            return  # a changed answer that is still bad: its recovery case exists

    async def _end(self, outcome: FollowUpOutcome) -> None:
        step = self._step(
            f"ended/{workflow.info().run_id}", outcome.replace("_", " "), ended=outcome
        )
        await self._do(
            FollowUpActivities.record_follow_up_ended,
            FollowUpEndStep(
                **step,
                about_id=self._about.about_id,
                about=self._about.about,
                outcome=outcome,
            ),
            f"the follow-up ends: {outcome.replace('_', ' ')}",
        )
